//! What components report of themselves, their peers and what waits.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use palm::inspect::{self, Answer, Inspector};
use palm::prelude::*;
use palm::report::{EdgeState, Report, Role, State};
use palm::testing::Cluster;

use super::process::Process;
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

/// A step that waits for a gate.
struct Slow(Gate);

#[palm::pipeline(name = "slow")]
impl Slow {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.0.pass().await;
        text
    }
}

/// Returns how many messages are in the components, or under way between them.
fn messages(cluster: &inspect::Cluster) -> u64 {
    let of = |report: &Report| {
        let edges = report.edges.iter().map(|edge| edge.waiting.messages);
        report.messages_inside() + edges.sum::<u64>()
    };
    cluster.reports().map(of).sum()
}

/// Inspects until the components have had `count` messages three times in a row: while messages move, one may be counted
/// by both sides, or by none.
async fn settled(inspector: &mut Inspector, count: u64) -> inspect::Cluster {
    let mut equal = 0;
    loop {
        let cluster = soon("the cluster", inspector.inspect()).await;
        equal = match messages(&cluster) == count {
            true => equal + 1,
            false => 0,
        };
        if equal == 3 {
            return cluster;
        }
    }
}

#[test]
fn each_message_before_a_slow_pipeline_is_in_one_number() {
    const SENT: usize = 3000;
    check(async {
        let gate = Gate::closed();
        let first = Echo.bind(ANY).spawn().await.unwrap();
        let slow = Slow(gate.clone())
            .bind(ANY)
            .follow(first.db_address())
            .concurrency(2)
            .spawn()
            .await
            .unwrap();
        let client = Client::builder("first", first.db_address())
            .window(SENT)
            .connect()
            .await
            .unwrap();
        let steps = palm::steps!["first.step", "slow.wait"];
        let mut answers = std::pin::pin!(
            client
                .job(steps, (0..SENT).map(|number| number.to_string()))
                .try_collect::<Vec<_>>()
        );
        let mut inspector = Inspector::new(first.db_address()).unwrap();
        let cluster = tokio::select! {
            answers = &mut answers => panic!("the gate is closed: {:?}", answers.map(|it| it.len())),
            cluster = settled(&mut inspector, SENT as u64) => cluster,
        };
        let report = cluster.report("slow").unwrap();
        assert_eq!(report.function("wait").unwrap().running, 2);
        // The queue has its limit for one client, and the rest waits ahead of it.
        let queue = report.part("Executor").unwrap().queue;
        assert_eq!((queue.messages, queue.limit_messages), (800, 1000));

        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap().len(), SENT);
        settled(&mut inspector, 0).await;
        slow.shutdown().await.unwrap();
        first.shutdown().await.unwrap();
    });
}

#[test]
fn backlog_of_a_stopped_pipeline_is_reported_to_the_message() {
    const SENT: usize = 2000;
    check(async {
        let first = Echo.bind(ANY).spawn().await.unwrap();
        let mut step = Process::run("step", &[("follow", first.db_address())]).await;
        let client = Client::builder("first", first.db_address())
            .window(SENT)
            .connect()
            .await
            .unwrap();
        let steps = palm::steps!["first.step", "step.mark"];
        assert_eq!(client.eval(&steps, "x").await.unwrap(), "x step");
        let mut inspector = Inspector::new(first.db_address()).unwrap();
        settled(&mut inspector, 0).await;

        step.pause().unwrap();
        let mut answers = std::pin::pin!(
            client
                .job(&steps, (0..SENT).map(|number| number.to_string()))
                .try_collect::<Vec<_>>()
        );
        let waiting = async |inspector: &mut Inspector| {
            let Answer::Report(report) = inspector.inspect_first().await else {
                panic!("the server runs");
            };
            let mut edges = report.edges_of(Role::Subscriber).cloned();
            edges.find(|edge| edge.name == "step").unwrap()
        };
        let reached = async {
            while waiting(&mut inspector).await.waiting.messages < SENT as u64 {}
            waiting(&mut inspector).await
        };
        let edge = tokio::select! {
            answers = &mut answers => panic!("the step is stopped: {:?}", answers.map(|it| it.len())),
            edge = reached => edge,
        };
        assert_eq!(edge.waiting.messages, SENT as u64, "{edge:#?}");
        assert_eq!((edge.sent, edge.acknowledged), (SENT as u64 + 1, 1));

        step.resume().unwrap();
        assert_eq!(soon("the answers", answers).await.unwrap().len(), SENT);
        settled(&mut inspector, 0).await;
        step.terminate().unwrap();
        step.ended().await;
        first.shutdown().await.unwrap();
    });
}

#[test]
fn report_says_what_became_of_the_tasks_of_a_killed_worker() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let worker = [("db_address", master.db_address())];
        let first = Process::run("linked_worker", &worker).await;
        let client = connect("master", &master).await;
        let mut answers = std::pin::pin!(
            client
                .job("master.work", ["60000", "1", "2"])
                .try_collect::<Vec<Bytes>>()
        );
        let mut inspector = Inspector::new(master.db_address()).unwrap();
        let assigned = async {
            loop {
                let report = report(master.db_address()).await;
                let mut workers = report.edges_of(Role::Worker);
                if tasks(&report) == 3 && workers.any(|edge| edge.waiting.messages > 0) {
                    return;
                }
            }
        };
        tokio::select! {
            answers = &mut answers => panic!("a task takes a minute: {answers:?}"),
            () = assigned => {}
        }
        first.kill();
        let lost = async {
            loop {
                let cluster = inspector.inspect().await;
                let master = cluster.report("master").unwrap();
                let mut edges = master.edges_of(Role::Worker);
                let lost = edges.find(|edge| edge.state == EdgeState::Lost);
                if let Some(edge) = lost {
                    return (edge.redelivered, edge.waiting.messages, tasks(master));
                }
            }
        };
        let (redelivered, waiting, tasks) = tokio::select! {
            answers = &mut answers => panic!("there is no worker: {answers:?}"),
            lost = lost => lost,
        };
        assert!(redelivered >= 1);
        assert_eq!((waiting, tasks), (0, 3));
        master.kill().await;
    });
}

#[test]
fn calls_that_wait_for_the_first_worker_are_reported_with_the_cause() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let mut answers = std::pin::pin!(
            client
                .job("master.gated", ["1", "2", "3"])
                .try_collect::<Vec<Bytes>>()
        );
        let waiting = async {
            loop {
                let report = report(master.db_address()).await;
                if report.messages_inside() == 3 && !report.waits.is_empty() {
                    return report.waits;
                }
            }
        };
        let waits = tokio::select! {
            answers = &mut answers => panic!("there is no worker: {answers:?}"),
            waits = waiting => waits,
        };
        assert_eq!(waits, "no worker is connected (3 calls wait)");
        master.kill().await;
    });
}

#[test]
fn requests_of_a_gateway_are_reported_until_they_are_answered() {
    check(async {
        let gate = Gate::closed();
        let master = Master::new("master").bind(ANY).http("127.0.0.1:0");
        let master = master.spawn().await.unwrap();
        let worker = Gated(gate.clone()).connect(master.db_address());
        let worker = worker.concurrency(1).spawn().await.unwrap();
        let url = format!("{}/wait", master.address("http_address").unwrap());
        let http = reqwest::Client::new();
        let requests = (0..5).map(|number| http.post(&url).body(number.to_string()).send());
        let mut responses = std::pin::pin!(join_all(requests));
        let address = master.db_address();
        let arrived = async {
            loop {
                let report = report(address).await;
                if report.requests == 5 && tasks(&report) == 5 {
                    return report;
                }
            }
        };
        let before = tokio::select! {
            _ = &mut responses => panic!("the gate is closed"),
            before = arrived => before,
        };
        let edge = before.edges_of(Role::Client).next().unwrap();
        assert_eq!((&*edge.name, edge.received, edge.sent), ("HTTP", 5, 0));
        // Each message is in one number: with the worker, or waiting for it.
        assert_eq!(
            before.messages_inside(),
            before.tasks.messages,
            "{before:#?}"
        );

        gate.open();
        for response in soon("the responses", responses).await {
            assert_eq!(response.unwrap().status(), 200);
        }
        loop {
            let after = report(address).await;
            let edge = after.edges_of(Role::Client).next().unwrap();
            assert_eq!((edge.received, edge.sent, edge.waiting.messages), (5, 5, 0));
            if after.requests == 0 && (tasks(&after), after.messages_inside()) == (0, 0) {
                break;
            }
        }
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}
