//! Servers, masters, hubs, workers, pipelines and sinks answer calls.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use palm::CallError;
use palm::prelude::*;

use super::super::setup::{ANY, check, connect, connect_through, soon};
use super::{First, Hand, Last, Middle, eval};

struct Splitter;

#[palm::mux_worker(server = "master")]
impl Splitter {
    #[palm::method]
    fn split(&self, text: String) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }
}

#[test]
fn server_answers_methods_and_echo() {
    check(async {
        let server = First.bind(ANY).spawn().await.unwrap();
        let client = connect("first", &server).await;
        assert_eq!(client.eval(First::MARK, "x").await.unwrap(), "x first");
        assert_eq!(client.eval("first.echo", "x").await.unwrap(), "x");
        assert_eq!(client.server(), "first");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn server_answers_only_functions_of_its_own_name() {
    check(async {
        let server = First.bind(ANY).name("renamed").spawn().await.unwrap();
        let client = connect("renamed", &server).await;
        assert_eq!(eval(&client, ["renamed.mark"], "x").await, "x first");
        let error = client.eval(First::MARK, "x").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`first.mark` cannot be called in `renamed`: the message is for `first`, this is `renamed`"
        );
    });
}

#[test]
fn call_of_several_steps_visits_every_component_kind() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(middle.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let hand = Hand
            .connect(hub.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let last = Last.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();

        let client = connect_through(&first, &last).await;
        let steps = ["first.mark", "middle.mark", "hub.mark", "last.mark"];
        assert_eq!(eval(&client, steps, "x").await, "x first middle hand last");
        let steps = ["first.echo", "middle.echo", "hub.echo", "last.echo"];
        assert_eq!(eval(&client, steps, "x").await, "x");

        // Upstream components stop first, so that nothing arrives later.
        for component in [first, middle, hub, hand, last] {
            component.shutdown().await.unwrap();
        }
    });
}

#[test]
fn master_spreads_calls_over_its_workers() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let mut workers = Vec::new();
        for name in ["anna", "bert"] {
            let worker = Hand.connect(master.db_address()).name(name);
            workers.push(worker.spawn().await.unwrap());
        }
        let client = connect("master", &master).await;
        // A worker connects some time after it was spawned.
        let mut seen = BTreeSet::new();
        let spread = async {
            while seen.len() < 2 {
                seen.insert(client.eval(Hand::MARK, "x").await.unwrap());
            }
        };
        soon("answers of both workers", spread).await;
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["x anna", "x bert"]);
        assert_eq!(client.eval("master.echo", "x").await.unwrap(), "x");
        // A worker runs the tasks of its master, whatever component name they state.
        assert_eq!(client.eval("whoever.echo", "x").await.unwrap(), "x");
    });
}

#[test]
fn mux_worker_returns_any_number_of_answers() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let _worker = Splitter.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let job = client
            .job(Splitter::SPLIT, ["a b c", "", "d"])
            .expect_answers(4);
        let answers: Vec<_> = soon("four answers", job.collect()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, ["a", "b", "c", "d"]);
    });
}

#[test]
fn several_masters_and_workers_share_a_process() {
    check(async {
        let mut components = Vec::new();
        for number in 0..5 {
            let name = format!("master{number}");
            let master = Master::new(&name).bind(ANY).spawn().await.unwrap();
            let hand = Hand
                .connect(master.db_address())
                .name(&name)
                .spawn()
                .await
                .unwrap();
            components.push((name, master, hand));
        }
        for (name, master, _) in &components {
            let client = connect(name, master).await;
            let answer = client.eval(format!("{name}.mark"), "x").into_future();
            assert_eq!(
                soon("an answer", answer).await.unwrap(),
                format!("x {name}")
            );
        }
    });
}

#[test]
fn malformed_steps_are_rejected_before_they_are_sent() {
    check(async {
        let server = First.bind(ANY).spawn().await.unwrap();
        let client = connect("first", &server).await;
        for steps in ["", "mark", "a.b.c", "first.", "first.mark mark"] {
            let error = client.eval(steps, "x").await.unwrap_err();
            assert!(matches!(error, CallError::Steps(_)), "{steps}: {error}");
            assert!(!error.is_transient());
            let mut job = client.job(steps, ["x"]);
            assert!(matches!(job.next().await, Some(Err(CallError::Steps(_)))));
            assert!(job.next().await.is_none());
        }
        assert_eq!(server.metrics().part("Pull").unwrap().messages, 0);
    });
}
