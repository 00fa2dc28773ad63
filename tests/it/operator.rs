//! Requests of operators: components that are drained and configured while they run.

use std::time::Duration;

use futures_util::StreamExt as _;
use palm::inspect::{Operator, OperatorError};
use palm::prelude::*;

use super::setup::{ANY, Gate, check, connect, finally, soon};

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
fn drain_under_load_loses_no_answer() {
    check(async {
        const CALLS: u32 = 2000;
        let first = Master::new("master").bind(ANY).spawn().await.unwrap();
        let address = first.db_address().to_owned();
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
        let next = Master::new("master").bind(&*address).spawn().await.unwrap();
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
        let OperatorError::Settings { mistakes } = &error else {
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
