//! What components report of themselves, their peers and what waits.

use std::time::Duration;

use futures_util::future::join_all;
use palm::inspect::{self, Answer, Inspector};
use palm::prelude::*;
use palm::report::{EdgeState, Report, Role, State};
use palm::testing::Cluster;

use super::setup::{ANY, Gate, check, connect, soon};

/// A worker whose method waits for a gate.
struct Gated(Gate);

#[palm::worker(server = "master")]
impl Gated {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.0.pass().await;
        text
    }
}

/// Returns how many tasks of a master wait for a worker or are with one.
fn tasks(report: &Report) -> u64 {
    let workers = report.edges_of(Role::Worker);
    report.tasks.messages + workers.map(|edge| edge.waiting.messages).sum::<u64>()
}

async fn report(address: &str) -> Report {
    match soon("a report", inspect::inspect(address)).await.unwrap() {
        Answer::Report(report) => *report,
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn master_reports_each_task_of_its_clients_and_what_its_workers_do() {
    check(async {
        let gate = Gate::closed();
        let cluster = Cluster::new()
            .master(Master::new("master"))
            .worker_with(Gated(gate.clone()), |it| it.name("first").concurrency(1))
            .worker_with(Gated(gate.clone()), |it| it.name("second").concurrency(1))
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let calls: Vec<_> = (0..50)
            .map(|number| client.eval(Gated::WAIT, number.to_string()).into_future())
            .collect();
        let mut answers = std::pin::pin!(join_all(calls));
        tokio::select! {
            _ = &mut answers => panic!("the gate is closed"),
            () = gate.arrived(2) => {}
        }
        let master = cluster.handle("master").unwrap();
        let address = master.db_address().to_owned();
        let mut before = report(&address).await;
        // Until all calls have arrived.
        while tasks(&before) + before.messages_inside() - before.tasks.messages < 50 {
            before = report(&address).await;
        }
        assert_eq!(tasks(&before), 50, "{before:#?}");
        assert_eq!((&*before.name, &*before.kind), ("master", "master"));
        assert_eq!(
            (before.state, before.pid),
            (State::Ready, std::process::id())
        );
        assert_eq!(before.db_address, address);
        let workers: Vec<_> = before.edges_of(Role::Worker).collect();
        let names: Vec<_> = workers.iter().map(|edge| &*edge.name).collect();
        assert_eq!(names, ["first", "second"]);
        for edge in &workers {
            let worker = edge.worker.as_ref().expect("the worker was asked");
            assert_eq!(
                (worker.concurrency, worker.running, worker.calls),
                (1, 1, 1)
            );
            assert_eq!(worker.prefetched + worker.running, edge.waiting.messages);
            assert_eq!(edge.state, EdgeState::Connected);
        }
        let clients: Vec<_> = before.edges_of(Role::Client).collect();
        assert_eq!(clients.len(), 1);
        assert_eq!((clients[0].received, clients[0].sent), (50, 0));
        let function = before.function("wait").expect("workers report it");
        assert_eq!((function.calls, function.running), (2, 2));

        gate.open();
        for answer in soon("the answers", answers).await {
            answer.unwrap();
        }
        let after = report(&address).await;
        assert_eq!(
            (tasks(&after), after.messages_inside()),
            (0, 0),
            "{after:#?}"
        );
        assert_eq!(after.instance, before.instance);
        let in_program = soon("a report", master.report()).await;
        assert_eq!(in_program.instance, after.instance);
        cluster.shutdown().await.unwrap();
    });
}

/// A step that returns its payload.
struct Echo;

#[palm::server(name = "first")]
impl Echo {
    #[palm::method]
    fn step(&self, text: String) -> String {
        text
    }
}

/// A step downstream.
struct Next;

#[palm::pipeline(name = "second")]
impl Next {
    #[palm::method]
    fn step(&self, text: String) -> String {
        text
    }
}

#[test]
fn inspector_finds_components_up_and_downstream_from_any_of_them() {
    check(async {
        let first = Echo.bind(ANY).spawn().await.unwrap();
        let second = Next
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        let client = connect("first", &first).await;
        let steps = palm::steps!["first.step", "second.step"];
        assert_eq!(client.eval(steps, "x").await.unwrap(), "x");
        for start in [&first, &second] {
            let mut inspector = Inspector::new(start.db_address()).unwrap();
            let mut cluster = soon("the cluster", inspector.inspect()).await;
            assert!(!cluster.is_incomplete);
            let names: Vec<_> = cluster.reports().map(|it| &*it.name).collect();
            assert_eq!(names.len(), 2, "{cluster:#?}");
            // Acknowledgements arrive up to 20 ms later.
            let unacknowledged = |cluster: &inspect::Cluster| {
                let edges = cluster.reports().flat_map(|it| &it.edges);
                edges.map(|edge| edge.waiting.messages).sum::<u64>()
            };
            while unacknowledged(&cluster) > 0 {
                cluster = soon("the cluster", inspector.inspect()).await;
            }
            let (one, two) = (cluster.report("first"), cluster.report("second"));
            let followers: Vec<_> = one.unwrap().edges_of(Role::Subscriber).collect();
            let follower = followers.iter().find(|it| it.name == "second").unwrap();
            assert_eq!(follower.db_address, second.db_address());
            assert_eq!((follower.sent, follower.acknowledged), (1, 1));
            let upstream = two.unwrap().edges_of(Role::Upstream).next().unwrap();
            assert_eq!(upstream.db_address, first.db_address());
            assert_eq!(
                (upstream.received, &*upstream.topics),
                (1, &["first".to_owned()][..])
            );
        }
        second.shutdown().await.unwrap();
        first.shutdown().await.unwrap();
    });
}

#[test]
fn inspector_asks_further_components_that_no_other_leads_to() {
    check(async {
        let one = Echo.bind(ANY).spawn().await.unwrap();
        let other = Echo.bind(ANY).spawn().await.unwrap();
        let mut inspector = Inspector::new(one.db_address()).unwrap();
        let alone = soon("the component", inspector.inspect()).await;
        assert_eq!(alone.components.len(), 1);
        inspector.begin_also_at([other.db_address(), one.db_address(), "nowhere"]);
        let both = soon("the components", inspector.inspect()).await;
        assert_eq!(both.reports().count(), 2, "{both:#?}");
        assert_eq!(both.components.len(), 2);
        other.shutdown().await.unwrap();
        one.shutdown().await.unwrap();
    });
}

#[test]
fn address_without_a_component_is_reported_with_its_cause() {
    check(async {
        let answer = soon("an answer", inspect::inspect("tcp://127.0.0.1:9"))
            .await
            .unwrap();
        let Answer::Unreachable(reason) = answer else {
            panic!("{answer:?}");
        };
        assert!(reason.contains("connection refused"), "{reason}");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("tcp://{}", listener.local_addr().unwrap());
        let asked = tokio::time::timeout(Duration::from_secs(4), inspect::inspect(&*silent));
        let Answer::Unreachable(reason) = asked.await.unwrap().unwrap() else {
            panic!("the program does not speak ZeroMQ");
        };
        assert!(reason.contains("sends nothing"), "{reason}");
    });
}
