//! Streams over links between components, and between a client and its component: peers that are slow, restarted or
//! lost.
//!
//! These tests run with paused time; those of [`connections`] cut connections.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::SocketOptions;
use palm::{ComponentHandle, LinkOptions};

use super::setup::{ANY_NAME, Caller, Gate, connect, eventually, finally, options, paused, soon};

mod connections;

#[derive(Clone)]
struct First {
    gate: Gate,
}

#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn pass(&self, payload: Bytes) -> Bytes {
        self.gate.count_one();
        payload
    }

    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }
}

#[derive(Clone)]
struct Next {
    gate: Gate,
}

#[palm::pipeline(name = "next")]
impl Next {
    #[palm::method]
    fn pass(&self, payload: Bytes) -> Bytes {
        self.gate.count_one();
        payload
    }

    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }
}

/// Link options with which peers reconnect soon.
fn eager() -> SocketOptions {
    options().max_reconnect_delay(Duration::from_millis(20))
}

async fn first(at: &str, link: LinkOptions) -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let server = First { gate: gate.clone() }.bind(at).pipelined(true);
    (server.link_options(link).spawn().await.unwrap(), gate)
}

async fn next(at: &str, follows: &str, gate: &Gate) -> ComponentHandle {
    let gate = gate.clone();
    let next = Next { gate }.bind(at).follow(follows);
    next.socket_options(eager()).spawn().await.unwrap()
}

fn payloads(count: usize) -> impl Iterator<Item = String> + Send {
    (0..count).map(|number| number.to_string())
}

/// Starts a job in a task, which returns its answers when it ends by itself.
fn answers(client: &Client, steps: &str, count: usize) -> tokio::task::JoinHandle<Vec<u32>> {
    let mut job = client.job(steps, payloads(count));
    tokio::spawn(async move {
        let mut answers = Vec::new();
        while let Some(answer) = job.next().await {
            let answer = answer.unwrap();
            answers.push(std::str::from_utf8(&answer).unwrap().parse().unwrap());
        }
        answers
    })
}

async fn all(answers: tokio::task::JoinHandle<Vec<u32>>, count: u32) {
    let mut answers = finally("all answers", answers).await.unwrap();
    answers.sort_unstable();
    assert!(answers.iter().copied().eq(0..count), "lost, or twice");
}

async fn client_of(first: &str, last: &str) -> Client {
    let client = Client::builder("first", first).answered_by(last);
    let client = client.socket_options(eager()).connect();
    soon("connecting", client).await.unwrap()
}

#[test]
fn restarted_follower_continues_its_stream() {
    paused(async {
        let (first, first_gate) = first(ANY_NAME, LinkOptions::default()).await;
        let gate = Gate::closed();
        let mut between = next(ANY_NAME, first.db_address(), &gate).await;
        let at = between.db_address().to_owned();
        let client = client_of(first.db_address(), &at).await;
        let answers = answers(&client, "first.pass next.pass", 20_000);
        for round in 1..=5 {
            eventually("some of the work", || gate.count() >= 3000 * round).await;
            soon("the end", between.shutdown()).await.unwrap();
            between = next(&at, first.db_address(), &gate).await;
        }
        all(answers, 20_000).await;
        // Accepted messages were finished, and the others waited at the publisher.
        assert_eq!((first_gate.count(), gate.count()), (20_000, 20_000));
    });
}

#[test]
fn slow_subscriber_slows_its_publisher() {
    paused(async {
        let (first, first_gate) = first(ANY_NAME, LinkOptions::default()).await;
        let gate = Gate::closed();
        let next = next(ANY_NAME, first.db_address(), &gate).await;
        let client = Client::builder("first", first.db_address());
        let client = client.answered_by(next.db_address()).window(100_000);
        let client = soon("connecting", client.connect()).await.unwrap();
        let answers = answers(&client, "first.pass next.gated", 45_000);
        // The capacity of the subscriber's backlog, its window and the queues.
        eventually("the backlog", || first_gate.count() > 10_000).await;
        let mut before = 0;
        eventually("the end of it", || {
            std::mem::replace(&mut before, first_gate.count()) == first_gate.count()
        })
        .await;
        assert!(first_gate.count() < 40_000, "{}", first_gate.count());
        gate.open();
        all(answers, 45_000).await;
    });
}

#[test]
fn slow_subscriber_is_disconnected_after_the_slow_consumer_timeout() {
    paused(async {
        let link = LinkOptions::new().slow_consumer_timeout(Duration::from_millis(300));
        let (first, first_gate) = first(ANY_NAME, link).await;
        let gate = Gate::closed();
        let next = next(ANY_NAME, first.db_address(), &gate).await;
        let client = client_of(first.db_address(), next.db_address()).await;
        for number in 0..40_000 {
            let send = client.send("first.pass next.gated", number.to_string());
            soon("sending", send).await.unwrap();
        }
        eventually("all of the work", || first_gate.count() == 40_000).await;
        gate.open();
    });
}

#[test]
fn linked_and_legacy_subscribers_follow_the_same_publisher() {
    paused(async {
        let (first, _) = first(ANY_NAME, LinkOptions::default()).await;
        let gate = Gate::closed();
        let linked = next(ANY_NAME, first.db_address(), &gate).await;
        let options = LinkOptions::new().enabled(false);
        let other = Next { gate: gate.clone() }.bind(ANY_NAME);
        let other = other
            .follow(first.db_address())
            .link_options(options)
            .to_client(true);
        let other = other.spawn().await.unwrap();
        for last in [&linked, &other] {
            let client = client_of(first.db_address(), last.db_address()).await;
            let job = client.job("first.pass next.pass", payloads(3000));
            let answers = job.expect_answers(3000).count();
            assert_eq!(soon("all answers", answers).await, 3000);
        }
        eventually("the work of both", || gate.count() == 12_000).await;
    });
}

#[test]
fn answers_to_a_linked_client_do_not_leave_by_the_pub_socket() {
    paused(async {
        let gate = Gate::closed();
        let server = First { gate }.bind(ANY_NAME).spawn().await.unwrap();
        let at = |key: &str| server.address(key).unwrap();
        // This socket subscribes to all topics.
        let mut eavesdropper = Caller::at(at("pull_address"), at("pub_address"), "").await;
        let call = |payload: &'static str| {
            let mut message = Message::new("first.pass", payload);
            message.set_client("legacy");
            message
        };
        eavesdropper.send_message(call("before")).await;
        assert_eq!(eavesdropper.answer().await, "before");
        let client = connect("first", &server).await;
        for _ in 0..20 {
            assert_eq!(client.eval("first.pass", "secret").await.unwrap(), "secret");
        }
        let mut job = client.job("first.pass", payloads(100));
        while let Some(answer) = soon("an answer", job.next()).await {
            answer.unwrap();
        }
        eavesdropper.send_message(call("after")).await;
        assert_eq!(eavesdropper.answer().await, "after");
    });
}

#[test]
fn links_only_cluster_needs_one_address_for_each_component() {
    paused(async {
        let first = First {
            gate: Gate::closed(),
        };
        let first = first.bind(ANY_NAME).pipelined(true).links_only(true);
        let first = first.spawn().await.unwrap();
        let next = Next {
            gate: Gate::closed(),
        };
        let next = next
            .bind(ANY_NAME)
            .follow(first.db_address())
            .links_only(true);
        let next = next.spawn().await.unwrap();
        for component in [&first, &next] {
            let keys: Vec<_> = component.addresses().keys().collect();
            assert!(
                keys.iter()
                    .all(|key| ["db_address", "sub_address"].contains(&key.as_str())),
                "{keys:?}"
            );
        }
        let client = client_of(first.db_address(), next.db_address()).await;
        all(answers(&client, "first.pass next.pass", 1000), 1000).await;

        let master = Master::new("master").bind(ANY_NAME).links_only(true);
        let master = master.spawn().await.unwrap();
        let gate = Gate::closed();
        let hand = super::link::Hand { gate: gate.clone() };
        let hand = hand.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(client.eval("master.count", "x").await.unwrap(), "x");
        // Cancellations of a caller arrive as well.
        let limit = Duration::from_millis(100);
        let abandoned = client.eval("master.gated", "x").into_future();
        assert!(tokio::time::timeout(limit, abandoned).await.is_err());
        let ended = || {
            let metrics = hand.metrics();
            metrics.function("gated").unwrap().working.count() == 1
        };
        eventually("the end of the call", ended).await;
    });
}

#[test]
fn component_without_links_and_legacy_sockets_is_rejected() {
    paused(async {
        let link = LinkOptions::new().enabled(false);
        let master = Master::new("master").bind(ANY_NAME).links_only(true);
        let error = master.link_options(link).spawn().await.unwrap_err();
        let text = super::setup::chain(&error);
        assert!(text.contains("`.links_only(true)`"), "{text}");
    });
}
