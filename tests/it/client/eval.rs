//! Single calls: each receives its own answer, and ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, poll_immediate};
use palm::prelude::*;
use palm::socket::{Publish, Pull};
use palm::testing::Faults;
use palm::{CallError, ConnectError, LinkOptions, blocking};

use super::super::setup::{
    ANY, ANY_NAME, address, check, connect, eventually, options, paused, soon, unbound_name,
};
use super::{Server, collect, echo, numbers, server_and_client, spawn, spawn_at};

#[test]
fn concurrent_evals_each_receive_their_own_answer() {
    paused(async {
        let (_handle, _, client) = server_and_client().await;
        let calls = numbers(0..500).into_iter().map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                (
                    client.eval(Server::LATER, number.clone()).await.unwrap(),
                    number,
                )
            })
        });
        for call in soon("the answers", join_all(calls)).await {
            let (answer, number) = call.unwrap();
            assert_eq!(answer, number);
        }
    });
}

#[test]
fn calls_that_are_made_at_the_same_time_share_messages() {
    const CALLS: usize = 1000;
    check(async {
        let (handle, _) = spawn_at(ANY).await;
        let proxy = Faults::new().proxy(handle.db_address()).await.unwrap();
        let connecting = Client::connect("server", proxy.address());
        let client = soon("connecting", connecting).await.unwrap();
        let before = proxy.status().to_target.messages;
        let calls = numbers(0..CALLS).into_iter().map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.eval("server.echo", number).await })
        });
        for (number, call) in soon("the answers", join_all(calls))
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(call.unwrap().unwrap(), number.to_string());
        }
        let sent = proxy.status().to_target.messages - before;
        assert!(sent < CALLS as u64 / 4, "{sent} messages for {CALLS} calls");
    });
}

#[test]
fn ten_thousand_evals_in_a_row_are_all_answered() {
    paused(async {
        let (handle, _, client) = server_and_client().await;
        for number in 0..10_000_u32 {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            let answer = client
                .eval("server.echo", payload.clone())
                .timeout(Duration::from_secs(10));
            assert_eq!(answer.await.unwrap(), payload);
        }
        assert_eq!(handle.metrics().part("Pub").unwrap().dropped, 0);
    });
}

#[test]
fn first_call_of_each_new_client_is_answered() {
    check(async {
        let (handle, _) = spawn_at(ANY).await;
        for number in 0..30 {
            let client = Client::connect("server", handle.db_address());
            let client = soon("connecting", client).await.unwrap();
            echo(&client, &number.to_string()).await;
        }
    });
}

fn no_links() -> LinkOptions {
    LinkOptions::new().enabled(false)
}

#[test]
fn eval_without_an_answer_ends_with_an_error() {
    paused(async {
        let (handle, _) = spawn().await;
        let client = connect("server", &handle).await;
        let eval = client.eval(Server::NOTHING.untyped(), "x").into_future();
        let error = soon("the end", eval).await.unwrap_err();
        assert_eq!(error.to_string(), "`server.nothing` returned no answer");

        // Without links the client cannot learn that there is no answer.
        let client = Client::builder("server", handle.db_address()).link_options(no_links());
        let client = client.timeout(Duration::from_millis(200)).connect();
        let client = soon("connecting", client).await.unwrap();
        let eval = client.eval(Server::NOTHING.untyped(), "x").into_future();
        let error = soon("the end", eval).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no answer to `server.nothing` within 200ms"
        );
        let eval = client
            .eval(Server::NOTHING.untyped(), "x")
            .timeout(Duration::from_millis(100));
        let error = soon("the end", eval.into_future()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no answer to `server.nothing` within 100ms"
        );
        assert!(error.is_transient());
    });
}

#[test]
fn eval_does_not_wait_for_a_half_consumed_job() {
    paused(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(50)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        // Each message of the window has three answers.
        let mut job = client
            .job(Server::THRICE, numbers(0..1000))
            .expect_answers(3000);
        for _ in 0..10 {
            soon("an answer", job.next()).await.unwrap().unwrap();
        }
        echo(&client, "meanwhile").await;
        assert_eq!(collect(job).await.len(), 2990);
    });
}

#[test]
fn dropped_eval_does_not_disturb_other_calls() {
    paused(async {
        let (_handle, server, client) = server_and_client().await;
        let abandoned = client.eval(Server::GATED, "abandoned").into_future();
        let mut abandoned = Box::pin(abandoned);
        tokio::select! {
            answer = &mut abandoned => panic!("{answer:?}"),
            () = server.gate.arrived(1) => {}
        }
        drop(abandoned);
        let other = client.eval(Server::GATED, "waited for").into_future();
        server.gate.open();
        assert_eq!(soon("the other answer", other).await.unwrap(), "waited for");
        drop(client.eval(Server::GATED, "never awaited"));
        echo(&client, "afterwards").await;
        assert_eq!(server.gate.count(), 2);
    });
}

/// The server of a client, by hand.
struct FakeServer {
    pull: Pull,
    publish: Publish,
    client: Client,
}

impl FakeServer {
    async fn new() -> Self {
        let (pull, pull_at) = Pull::bind(&address(ANY_NAME), &options()).await.unwrap();
        let (publish, publish_at) = Publish::bind(&address(ANY_NAME), &options()).await.unwrap();
        let client = Client::builder("fake", unbound_name()).this_config(true);
        let client = client
            .push_address(pull_at)
            .sub_address(publish_at)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        Self {
            pull,
            publish,
            client,
        }
    }

    async fn receive(&mut self) -> Message {
        let mut frames = Vec::new();
        soon("a message", self.pull.recv_many(&mut frames, 1))
            .await
            .unwrap();
        Message::decode(frames.remove(0)).unwrap()
    }

    async fn publish(&self, topic: &str, body: Bytes) {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        self.publish.send(topic, body).await.unwrap();
    }
}

#[test]
fn answer_is_matched_by_all_of_its_fields() {
    paused(async {
        let mut fake = FakeServer::new().await;
        let client = fake.client.clone();
        let eval = client
            .eval("fake.foo", "x")
            .message_id("my id")
            .into_future();
        let mut eval = Box::pin(eval);
        let message = tokio::select! {
            answer = &mut eval => panic!("{answer:?}"),
            message = fake.receive() => message,
        };
        assert_eq!((message.function(), message.stage()), ("fake.foo", 0));
        assert_eq!((message.cache(), message.pipeline().len()), ("my id", 36));
        let topic = message.client().to_owned();
        let (id, _) = topic.split_once('/').unwrap();
        let answer = |text: &'static str| message.clone().with_payload(text).encode();
        for other in [
            id,
            &format!("{id}/"),
            &format!("{topic}0"),
            &format!("{id}/x"),
            &format!("{topic} "),
        ] {
            fake.publish(other, answer("for another")).await;
        }
        fake.publish(&topic, "\u{ff}\u{ff} no message".into()).await;
        fake.publish(&topic, answer("the answer")).await;
        fake.publish(&topic, answer("one more than was requested"))
            .await;
        assert_eq!(soon("the answer", eval).await.unwrap(), "the answer");

        let mut job = client.job("fake.foo", ["y"]).expect_answers(2);
        assert!(poll_immediate(job.next()).await.is_none());
        let message = fake.receive().await;
        assert_ne!(message.client(), topic);
        fake.publish(&topic, answer("late")).await;
        for payload in ["one", "two", "three"] {
            fake.publish(
                message.client(),
                message.clone().with_payload(payload).encode(),
            )
            .await;
        }
        assert_eq!(collect(job).await, ["one", "two"]);
    });
}

#[test]
fn blocking_client_calls_from_a_plain_thread() {
    check(async {
        let (handle, _) = spawn_at(ANY).await;
        let db_address = handle.db_address().to_owned();
        let program = move || {
            let client = blocking::Client::connect("server", &*db_address).unwrap();
            assert_eq!(client.eval("server.echo", "x").unwrap(), "x");
            let short = Duration::from_millis(100);
            let error = client
                .eval_timeout(Server::NOTHING.untyped(), "x", short)
                .unwrap_err();
            assert!(matches!(error, CallError::NoAnswer { .. }));

            let borrowed = ["one".to_owned(), "two".to_owned()];
            let job = client
                .job("server.echo", borrowed.iter().map(String::as_str))
                .expect_answers(2);
            assert_eq!(job.map(Result::unwrap).collect::<Vec<_>>(), ["one", "two"]);
            let mut job = client.job(Server::NOTHING.untyped(), ["x"]);
            assert!(job.next().is_none());

            client.set("k", "value").unwrap();
            assert_eq!(client.get("k").unwrap(), Some("value".into()));
            client.delete("k").unwrap();
            assert_eq!(client.get("k").unwrap(), None);

            std::thread::scope(|scope| {
                for number in 0..8 {
                    let client = client.clone();
                    scope.spawn(move || {
                        for call in 0..50 {
                            let payload = format!("{number} {call}");
                            assert_eq!(client.eval("server.later", &*payload).unwrap(), payload);
                        }
                    });
                }
            });
            // Two jobs that are polled alternately, with a call in between.
            let mut one = client
                .job("server.echo", numbers(0..100))
                .expect_answers(100);
            let mut other = client
                .job("server.echo", numbers(100..200))
                .expect_answers(100);
            for number in 0..100 {
                assert_eq!(one.next().unwrap().unwrap(), number.to_string());
                assert_eq!(other.next().unwrap().unwrap(), (number + 100).to_string());
                assert_eq!(client.eval("server.echo", "between").unwrap(), "between");
            }
            assert!(one.next().is_none() && other.next().is_none());

            let builder = Client::builder("absent", &*db_address).connect_timeout(short);
            assert!(matches!(
                blocking::Client::with(builder),
                Err(ConnectError::Name { .. })
            ));
        };
        let thread = std::thread::spawn(program);
        eventually("the end of the program", || thread.is_finished()).await;
        thread.join().unwrap();
    });
}
