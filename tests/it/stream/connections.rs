//! Streams whose connections are cut.

use std::sync::atomic::Ordering;
use std::time::Duration;

use palm::LinkOptions;
use palm::prelude::*;

use super::super::link::CutProxy;
use super::super::setup::{ANY, Gate, check, connect, eventually, soon};
use super::{First, all, answers, client_of, eager, first, next, payloads};

#[test]
fn cut_connections_neither_lose_nor_repeat_answers() {
    check(async {
        let (first, first_gate) = first(ANY, LinkOptions::default()).await;
        let gate = Gate::closed();
        let stream = CutProxy::new(first.db_address()).await;
        let next = next(ANY, &stream.address, &gate).await;
        let (calls, back) = (
            CutProxy::new(first.db_address()).await,
            CutProxy::new(next.db_address()).await,
        );
        let client = client_of(&calls.address, &back.address).await;
        let answers = answers(&client, "first.pass next.pass", 20_000);
        for round in 1..=9 {
            for line in [&stream, &calls, &back] {
                let due = || gate.count() >= 2000 * round;
                eventually("some of the work", due).await;
                let before = line.connections.load(Ordering::Relaxed);
                line.cut();
                let again = || line.connections.load(Ordering::Relaxed) > before;
                eventually("another connection", again).await;
            }
        }
        all(answers, 20_000).await;
        // Both peers reconnected in time, so each message was handled once.
        assert_eq!((first_gate.count(), gate.count()), (20_000, 20_000));
    });
}

#[test]
fn calls_of_a_vanished_client_are_cancelled() {
    check(async {
        let link = LinkOptions::new().session_expiry(Duration::from_millis(300));
        let gate = Gate::closed();
        let server = First { gate: gate.clone() }.bind(ANY).link_options(link);
        let server = server.concurrency(1).spawn().await.unwrap();
        let line = CutProxy::new(server.db_address()).await;
        let client = connect_at(&line.address).await;
        let mut job = client.job("first.gated", payloads(100));
        let answers = tokio::spawn(async move { job.next().await });
        gate.arrived(1).await;
        line.close();
        // The running call is cancelled, and none of the others begins.
        let metrics = || server.metrics();
        let ended = || {
            let metrics = metrics();
            metrics.function("gated").unwrap().working.count() >= 1
        };
        eventually("the end of the call", ended).await;
        gate.open();
        let other = connect("first", &server).await;
        assert_eq!(other.eval("first.pass", "x").await.unwrap(), "x");
        assert_eq!(gate.count(), 2);
        answers.abort();
    });
}

async fn connect_at(address: &str) -> Client {
    let client = Client::builder("first", address).socket_options(eager());
    soon("connecting", client.connect()).await.unwrap()
}
