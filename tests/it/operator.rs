//! Requests of operators: components that are drained and configured while they run.

use std::time::Duration;

use futures_util::StreamExt as _;
use palm::inspect::{DrainEnd, Operator, OperatorError, WorkerFailure};
use palm::prelude::*;
use palm::report::{EdgeState, Role};

use super::process::Process;
use super::setup::{ANY, Gate, check, connect, finally, soon, starts_again, unbound};

/// A server whose method waits for a gate.
struct Gated(Gate);

#[palm::server(name = "text")]
impl Gated {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.0.pass().await;
        text
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn double(&self, text: String) -> String {
        tokio::task::yield_now().await;
        text.repeat(2)
    }
}

async fn operator(address: &str) -> Operator {
    soon("connecting", Operator::connect(address))
        .await
        .unwrap()
}

#[test]
fn worker_that_is_killed_while_it_drains_is_lost() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let address = [("db_address", master.db_address())];
        let worker = Process::run("linked_worker", &address).await;
        let client = connect("master", &master).await;
        // It takes a minute.
        let call = tokio::spawn(async move { client.eval("master.work", "60000").await });
        let busy = async {
            loop {
                let report = master.report().await;
                let mut workers = report.edges_of(Role::Worker);
                if let Some(edge) = workers.find(|edge| edge.waiting.messages == 1) {
                    return edge.name.clone();
                }
            }
        };
        let name = soon("the task at the worker", busy).await;
        let operator = operator(master.db_address()).await.worker(name);
        let draining = operator.drain().await.unwrap();
        let mut worker = Some(worker);
        let ended = draining.ended(|report| {
            let edge = draining.worker(report).unwrap();
            if edge.state == EdgeState::Draining {
                drop(worker.take().map(|worker| worker.kill()));
            }
        });
        assert_eq!(
            finally("the end of the worker", ended).await,
            DrainEnd::Lost
        );
        call.abort();
        master.kill().await;
    });
}

#[test]
fn drain_under_load_loses_no_answer() {
    check(async {
        const CALLS: u32 = 2000;
        let address = unbound();
        let first = Master::new("master").bind(&*address).spawn();
        let first = first.await.unwrap();
        let worker = Hand.connect(&*address).spawn().await.unwrap();
        let client = connect("master", &first).await;
        let inputs = (0..CALLS).map(|number| number.to_string());
        let mut answers = client.job(Hand::DOUBLE, inputs);
        let mut received = 0;
        for _ in 0..100 {
            answers.next().await.unwrap().unwrap();
            received += 1;
        }
        let operator = operator(&address).await;
        let draining = operator.drain().await.unwrap();
        assert_eq!(draining.limit(), Duration::from_secs(10));
        let ended = draining.ended(|report| assert_eq!(report.name, "master"));
        finally("the end of the component", ended).await;
        soon("the handle", first.join()).await.unwrap();
        // Calls that the drained master has not accepted are answered by the next one.
        let next = async || Master::new("master").bind(&*address).spawn().await;
        let next = starts_again(next).await;
        let rest = async {
            while let Some(answer) = answers.next().await {
                answer.unwrap();
                received += 1;
            }
        };
        finally("the rest of the answers", rest).await;
        assert_eq!(received, CALLS);
        worker.shutdown().await.unwrap();
        next.shutdown().await.unwrap();
    });
}

#[test]
fn configured_concurrency_applies_to_the_following_calls() {
    check(async {
        let gate = Gate::closed();
        let server = Gated(gate.clone()).bind(ANY).concurrency(1);
        let server = server.spawn().await.unwrap();
        let client = connect("text", &server).await;
        let calls = (0..5).map(|number| number.to_string());
        let answers = tokio::spawn(client.job(Gated::WAIT, calls).collect::<Vec<_>>());
        gate.arrived(1).await;
        let operator = operator(server.db_address()).await;
        let settings = operator.settings().await.unwrap();
        assert_eq!(settings["concurrency"], "1");
        let running = async || server.report().await.function("wait").unwrap().running;
        assert_eq!(running().await, 1);
        let settings = operator.configure([("concurrency", "3")]).await.unwrap();
        assert_eq!(settings["concurrency"], "3");
        gate.arrived(3).await;
        assert_eq!(running().await, 3);
        // Running calls continue.
        operator.configure([("concurrency", "1")]).await.unwrap();
        assert_eq!(running().await, 3);
        gate.open();
        let answers = soon("the answers", answers).await.unwrap();
        assert_eq!(answers.into_iter().filter(Result::is_ok).count(), 5);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn mistakes_in_settings_are_listed_and_nothing_is_changed() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let operator = operator(master.db_address()).await;
        let changes = [
            ("drain_limit", "20s"),
            ("log_levle", "debug"),
            ("concurrency", "2"),
        ];
        let error = operator.configure(changes).await.unwrap_err();
        let OperatorError::Settings { mistakes, .. } = &error else {
            panic!("{error:?}");
        };
        // A master runs no calls.
        let expected = [
            "unknown setting `log_levle`; did you mean `log_level`?",
            "unknown setting `concurrency`; there are `drain_limit`, `log_level`",
        ];
        assert_eq!(mistakes, &expected);
        assert_eq!(operator.settings().await.unwrap()["drain_limit"], "10s");
        master.shutdown().await.unwrap();
    });
}

#[test]
fn operator_learns_why_a_component_does_not_answer() {
    check(async {
        let malformed = Operator::connect("nowhere").await.unwrap_err();
        assert!(
            matches!(malformed, OperatorError::Address(_)),
            "{malformed:?}"
        );
        let nobody = operator("tcp://127.0.0.1:9").await;
        let error = soon("the error", nobody.drain()).await.unwrap_err();
        let OperatorError::Unreachable { reason, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(reason.contains("connection refused"), "{reason}");
    });
}

/// A worker whose method waits for a gate.
struct GatedHand(Gate);

#[palm::worker(server = "master")]
impl GatedHand {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.0.pass().await;
        text
    }
}

#[test]
fn worker_is_configured_through_its_master_which_reports_the_effect() {
    check(async {
        let gate = Gate::closed();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let worker = GatedHand(gate.clone()).connect(master.db_address());
        let worker = worker.name("hand").concurrency(1).prefetch(2);
        let worker = worker.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let calls = (0..20).map(|number| number.to_string());
        let answers = tokio::spawn(client.job(GatedHand::WAIT, calls).collect::<Vec<_>>());
        let edge = async || {
            let report = master.report().await;
            report.edges_of(Role::Worker).next().unwrap().clone()
        };
        let has = async |tasks: u64| {
            let has_them = async {
                while edge().await.waiting.messages != tasks {
                    tokio::task::yield_now().await;
                }
            };
            finally("the tasks of the worker", has_them).await;
        };
        gate.arrived(1).await;
        has(3).await;
        let operator = operator(master.db_address()).await.worker("hand");
        let settings = operator.settings().await.unwrap();
        let initial = [
            ("concurrency", "1"),
            ("drain_limit", "10s"),
            ("log_level", "default"),
            ("prefetch", "2"),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, it)| (&**name, &**it)).collect();
        assert_eq!(settings, initial);

        // The worker runs and requests as many more tasks.
        let more = [
            ("concurrency", "3"),
            ("prefetch", "4"),
            ("log_level", "warn"),
        ];
        let settings = operator.configure(more).await.unwrap();
        assert_eq!(
            (&*settings["concurrency"], &*settings["prefetch"]),
            ("3", "4")
        );
        gate.arrived(3).await;
        has(7).await;
        let reported = async {
            loop {
                // The worker reports once a second.
                match edge().await.worker {
                    Some(hand) if (hand.running, hand.prefetched) == (3, 4) => break hand,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let hand = finally("the report of the worker", reported).await;
        assert_eq!((hand.concurrency, hand.prefetch), (3, Some(4)));
        assert_eq!(hand.log_level, "warn");

        let error = operator.configure([("prefetch", "all")]).await.unwrap_err();
        assert!(matches!(error, OperatorError::Settings { .. }), "{error:?}");

        // Credit is not revoked: the worker requests no further tasks until it has fewer than that.
        let less = [("concurrency", "1"), ("prefetch", "0")];
        operator.configure(less).await.unwrap();
        gate.open();
        let answers = soon("the answers", answers).await.unwrap();
        assert_eq!(answers.into_iter().filter(Result::is_ok).count(), 20);
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

#[test]
fn worker_is_drained_through_its_master_which_shows_it() {
    check(async {
        let gate = Gate::closed();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let worker = |name: &str| {
            let worker = GatedHand(gate.clone()).connect(master.db_address());
            worker.name(name).concurrency(1).prefetch(3).spawn()
        };
        let first = worker("first").await.unwrap();
        let second = worker("second").await.unwrap();
        let client = connect("master", &master).await;
        let calls = (0..8).map(|number| number.to_string());
        let answers = tokio::spawn(client.job(GatedHand::WAIT, calls).collect::<Vec<_>>());
        gate.arrived(2).await;
        let operator = operator(master.db_address()).await;
        let unknown = Operator::connect(master.db_address()).await.unwrap();
        let error = unknown.worker("third").drain().await.unwrap_err();
        let OperatorError::Worker {
            failure, reason, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(*failure, WorkerFailure::Unknown);
        assert!(reason.contains("`first`, `second`"), "{reason}");

        let operator = operator.worker("first");
        let draining = operator.drain().await.unwrap();
        assert_eq!(draining.limit(), Duration::from_secs(10));
        let mut states = Vec::new();
        let ended = draining.ended(|report| {
            let edge = draining.worker(report).unwrap();
            states.push((edge.state, edge.waiting.messages));
            // It returns what it has not begun, and runs one call.
            if edge.state == EdgeState::Draining && edge.waiting.messages == 1 {
                gate.open();
            }
        });
        let ended = finally("the end of the worker", ended).await;
        assert_eq!(ended, DrainEnd::Stopped);
        assert!(states.contains(&(EdgeState::Draining, 1)), "{states:?}");
        soon("the handle", first.join()).await.unwrap();
        let answers = soon("the answers", answers).await.unwrap();
        assert_eq!(answers.into_iter().filter(Result::is_ok).count(), 8);
        let report = master.report().await;
        let workers: Vec<_> = report.edges_of(Role::Worker).map(|it| &*it.name).collect();
        assert_eq!(workers, ["second"]);
        second.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}
