//! Clients: calls, jobs, the cache, and what becomes of them when things go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, poll_immediate};
use futures_util::{StreamExt, stream};
use palm::prelude::*;
use palm::socket::{Publish, Pull, Push, Reply};
use palm::{CacheError, CallError, ComponentHandle, ConnectError, LinkOptions, blocking};

use super::raw::RawListener;
use super::setup::{
    ANY, Caller, Gate, Place, STALLED, address, chain, check, connect, connect_through, eventually,
    options, soon, unbound,
};

/// What clients call here.
#[derive(Clone)]
struct Server {
    gate: Gate,
    silent: Arc<AtomicU64>,
}

#[palm::server(name = "server")]
impl Server {
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    async fn later(&self, payload: Bytes) -> Bytes {
        for _ in 0..payload.len() % 7 {
            tokio::task::yield_now().await;
        }
        payload
    }

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }

    #[palm::method]
    fn nothing(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
    }
}

impl Server {
    fn new() -> Self {
        Self {
            gate: Gate::closed(),
            silent: Arc::default(),
        }
    }
}

async fn spawn() -> (ComponentHandle, Server) {
    let server = Server::new();
    let handle = server
        .clone()
        .bind(ANY)
        .concurrency(64)
        .spawn()
        .await
        .unwrap();
    (handle, server)
}

async fn server_and_client() -> (ComponentHandle, Server, Client) {
    let (handle, server) = spawn().await;
    let client = soon("connecting", Client::connect("server", handle.db_address()))
        .await
        .unwrap();
    (handle, server, client)
}

async fn echo(client: &Client, payload: &str) {
    let answer = client.eval("server.echo", payload).into_future();
    assert_eq!(soon("an echo", answer).await.unwrap(), payload.to_owned());
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// All answers of a job, each of them one.
async fn collect(job: palm::Job<'_>) -> Vec<Bytes> {
    let answers: Vec<_> = soon("the end of a job", job.collect()).await;
    answers.into_iter().map(Result::unwrap).collect()
}

#[test]
fn concurrent_evals_each_get_their_own_answer() {
    check(async {
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
fn many_evals_in_a_row_lose_nothing() {
    check(async {
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
fn fresh_clients_lose_nothing() {
    check(async {
        let (handle, _) = spawn().await;
        for number in 0..30 {
            let client = Client::connect("server", handle.db_address());
            let client = soon("connecting", client).await.unwrap();
            echo(&client, &number.to_string()).await;
        }
    });
}

#[test]
fn a_job_takes_answers_while_it_sends() {
    check(async {
        let (_handle, _, client) = server_and_client().await;
        // Each payload is there only when the answer to the one before has come.
        let (answered, answers) = tokio::sync::mpsc::unbounded_channel();
        answered.send(0_u32).unwrap();
        let payloads = stream::unfold(answers, |mut answers| async {
            let number = answers.recv().await?;
            Some((number.to_string(), answers))
        });
        let mut job = client
            .job_stream("server.echo", payloads)
            .expect_answers(50);
        for number in 0..50 {
            let answer = soon("an answer", job.next()).await.unwrap().unwrap();
            assert_eq!(answer, number.to_string());
            answered.send(number + 1).unwrap();
        }
    });
}

#[test]
fn a_job_ends_after_its_messages() {
    check(async {
        let (_handle, server, client) = server_and_client().await;
        let job = client
            .job("server.echo", numbers(0..5000))
            .expect_answers(5000);
        assert_eq!(collect(job).await, numbers(0..5000));
        let job = client.job(Server::THRICE, ["x", "y"]).expect_answers(6);
        assert_eq!(collect(job).await, ["x", "x", "x", "y", "y", "y"]);
        let job = client
            .job(Server::NOTHING.untyped(), numbers(0..100))
            .expect_answers(0);
        assert_eq!(collect(job).await, [""; 0]);
        let received = || server.silent.load(Ordering::Relaxed) == 100;
        eventually("all of the messages that nobody answers", received).await;
        let job = client.job("server.echo", [""; 0]).expect_answers(0);
        assert_eq!(collect(job).await, [""; 0]);
    });
}

#[test]
fn a_job_may_end_before_all_of_its_answers() {
    check(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(10)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        let job = client.job("server.echo", numbers(0..500)).expect_answers(5);
        assert_eq!(
            collect(job.timeout(Duration::from_secs(3))).await,
            numbers(0..5)
        );
        echo(&client, "afterwards").await;
    });
}

fn no_links() -> LinkOptions {
    let mut options = LinkOptions::default();
    options.enabled = false;
    options
}

#[test]
fn a_job_without_answers_ends_by_its_timeout() {
    check(async {
        let (_handle, _, client) = server_and_client().await;
        let timeout = Duration::from_millis(300);
        let mut job = client
            .job(Server::NOTHING.untyped(), ["x", "y"])
            .expect_answers(2)
            .timeout(timeout);
        let start = Instant::now();
        let error = soon("the end of the job", job.next())
            .await
            .unwrap()
            .unwrap_err();
        assert!(start.elapsed() >= timeout);
        assert_eq!(
            error.to_string(),
            "no answer to `server.nothing` within 300ms"
        );
        assert!(error.is_transient());
        assert!(job.next().await.is_none());

        // It is the time between two answers that counts.
        let mut job = client
            .job("server.echo", ["x"])
            .expect_answers(2)
            .timeout(timeout);
        assert_eq!(soon("an answer", job.next()).await.unwrap().unwrap(), "x");
        let error = soon("the end of the job", job.next())
            .await
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }));
    });
}

#[test]
fn an_eval_without_an_answer_ends_by_its_timeout() {
    check(async {
        let (handle, _) = spawn().await;
        let client = connect("server", &handle).await;
        let eval = client.eval(Server::NOTHING.untyped(), "x").into_future();
        let error = soon("the end", eval).await.unwrap_err();
        assert_eq!(error.to_string(), "`server.nothing` returned no answer");

        // What comes over sockets does not tell.
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
fn a_job_that_is_dropped_leaves_no_trace() {
    check(async {
        let (_handle, server, client) = server_and_client().await;
        for _ in 0..3 {
            let mut job = client.job("server.echo", numbers(0..10_000));
            for number in 0..10 {
                let answer = soon("an answer", job.next()).await.unwrap().unwrap();
                assert_eq!(answer, number.to_string());
            }
            drop(job);
            echo(&client, "afterwards").await;
        }
        let mut job = client.job(Server::GATED, ["x"]);
        assert!(poll_immediate(job.next()).await.is_none());
        server.gate.arrived(1).await;
        drop(job);
        server.gate.open();
        echo(&client, "afterwards").await;
    });
}

#[test]
fn a_job_that_is_not_polled_sends_no_more_than_its_window() {
    check(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(10)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        // Whoever answers is connected.
        echo(&client, "before").await;
        let received = || handle.metrics().part("Pull").unwrap().messages - 1;

        let mut job = client
            .job("server.echo", numbers(0..1000))
            .expect_answers(1000);
        tokio::time::sleep(STALLED).await;
        assert_eq!((job.sent(), received()), (0, 0), "before the first poll");
        let first = poll_immediate(job.next()).await;
        tokio::time::sleep(STALLED).await;
        assert_eq!((job.sent(), received()), (10, 10), "after the first poll");

        let mut answers: Vec<_> = first.into_iter().flatten().map(Result::unwrap).collect();
        answers.extend(collect(job).await);
        assert_eq!(answers, numbers(0..1000));
    });
}

#[test]
fn two_jobs_at_once_do_not_mix() {
    check(async {
        let (_handle, _, client) = server_and_client().await;
        let job = async |name: &str| {
            let payloads = (0..2000).map(|number| format!("{name} {number}"));
            let payloads: Vec<_> = payloads.collect();
            let job = client
                .job("server.later", payloads.clone())
                .expect_answers(2000);
            assert_eq!(collect(job).await, payloads);
        };
        tokio::join!(job("one"), job("another"), job("a third"));
    });
}

#[test]
fn an_eval_does_not_wait_for_a_job_that_is_half_consumed() {
    check(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(50)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        // Three answers to each of the messages of the window.
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
fn an_eval_that_is_given_up_disturbs_no_other() {
    check(async {
        let (_handle, server, client) = server_and_client().await;
        let given_up = client.eval(Server::GATED, "given up").into_future();
        let mut given_up = Box::pin(given_up);
        tokio::select! {
            answer = &mut given_up => panic!("{answer:?}"),
            () = server.gate.arrived(1) => {}
        }
        drop(given_up);
        let other = client.eval(Server::GATED, "waited for").into_future();
        server.gate.open();
        assert_eq!(soon("the other answer", other).await.unwrap(), "waited for");
        drop(client.eval(Server::GATED, "never awaited"));
        echo(&client, "afterwards").await;
        assert_eq!(server.gate.count(), 2);
    });
}

/// The other side of a client, by hand.
struct FakeServer {
    pull: Pull,
    publish: Publish,
    client: Client,
}

impl FakeServer {
    async fn new() -> Self {
        let (pull, pull_at) = Pull::bind(&address(ANY), &options()).await.unwrap();
        let (publish, publish_at) = Publish::bind(&address(ANY), &options()).await.unwrap();
        let client = Client::builder("fake", unbound()).this_config(true);
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
fn answers_are_found_among_those_that_look_like_them() {
    check(async {
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
        fake.publish(&topic, answer("one more than was asked for"))
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
fn a_session_stands_in_the_message_and_before_each_key() {
    check(async {
        let (handle, _) = spawn().await;
        let connect = async |session: &str| {
            let client = Client::builder("server", handle.db_address()).session(session);
            soon("connecting", client.connect()).await.unwrap()
        };
        let (one, other) = (connect("one").await, connect("other").await);
        let plain = Client::connect("server", handle.db_address())
            .await
            .unwrap();
        one.set("k", "1").await.unwrap();
        other.set("k", "2").await.unwrap();
        assert_eq!(one.get("k").await.unwrap(), Some("1".into()));
        assert_eq!(plain.get("k").await.unwrap(), None);
        assert_eq!(plain.get("other/k").await.unwrap(), Some("2".into()));
        one.delete("k").await.unwrap();
        assert_eq!(one.get("k").await.unwrap(), None);
        assert_eq!(other.get("k").await.unwrap(), Some("2".into()));
    });
}

#[test]
fn the_cache_tells_absent_from_empty() {
    check(async {
        let (_handle, _, client) = server_and_client().await;
        assert_eq!(client.get("ключ").await.unwrap(), None);
        client.set("ключ", Bytes::new()).await.unwrap();
        assert_eq!(client.get("ключ").await.unwrap(), Some(Bytes::new()));
        let large = Bytes::from(vec![0xff; 5_000_000]);
        client.set("ключ", large.clone()).await.unwrap();
        assert_eq!(client.cache().get("ключ").await.unwrap(), Some(large));
        client.delete("ключ").await.unwrap();
        client.delete("ключ").await.unwrap();
        assert_eq!(client.get("ключ").await.unwrap(), None);

        assert_eq!(client.get("name").await.unwrap(), Some("server".into()));
        let error = client
            .set("pull_address", "tcp://elsewhere:1")
            .await
            .unwrap_err();
        assert!(matches!(error, CacheError::Reserved { .. }), "{error}");
        let error = client.delete("name").await.unwrap_err();
        assert!(matches!(error, CacheError::Reserved { .. }), "{error}");
        assert!(client.set(&"k".repeat(5000), "x").await.is_err());
        echo(&client, "afterwards").await;
    });
}

#[test]
fn a_cache_of_pylm_is_used_with_care() {
    check(async {
        let (mut reply, at) = Reply::bind(&address(ANY), &options()).await.unwrap();
        let (_pull, pull_at) = Pull::bind(&address(ANY), &options()).await.unwrap();
        let (_publish, publish_at) = Publish::bind(&address(ANY), &options()).await.unwrap();
        // As pylm: no `find`, and a `delete` of what is not there is never answered.
        let service = tokio::spawn(async move {
            let mut values = std::collections::HashMap::from([
                ("name".to_owned(), Bytes::from("old")),
                ("pull_address".to_owned(), pull_at.to_string().into()),
                ("pub_address".to_owned(), publish_at.to_string().into()),
            ]);
            while let Ok((frames, responder)) = reply.recv().await {
                let message = Message::decode(frames[0].clone()).unwrap();
                let key = String::from_utf8_lossy(message.payload()).into_owned();
                let answer = match message.function().split('.').nth(1) {
                    Some("get") => values.get(&key).cloned().unwrap_or_default(),
                    Some("set") => {
                        values.insert(message.cache().to_owned(), message.payload().clone());
                        message.cache().to_owned().into()
                    }
                    Some("delete") => {
                        assert!(values.remove(&key).is_some(), "delete of `{key}`");
                        key.into()
                    }
                    _ => Bytes::new(),
                };
                responder.reply(answer).unwrap();
            }
        });
        let client = Client::builder("old", at)
            .timeout(Duration::from_secs(5))
            .connect();
        let client = soon("connecting", client).await.unwrap();
        client.delete("k").await.unwrap();
        client.set("k", "value").await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), Some("value".into()));
        client.delete("k").await.unwrap();
        client.delete("k").await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), None);
        let unsupported = |error: CacheError, expected: &str| match error {
            CacheError::Unsupported { operation } => assert_eq!(operation, expected),
            other => panic!("{other:?}"),
        };
        let swap = client.compare_and_set("k", None, None).await;
        unsupported(swap.unwrap_err(), "compare and set");
        unsupported(client.add("k", 1).await.unwrap_err(), "add");
        let found = client.scan("").next().await.unwrap();
        unsupported(found.unwrap_err(), "scan");
        let deleted = client.delete_prefix("k").await;
        unsupported(deleted.unwrap_err(), "delete by prefix");
        unsupported(client.watch("k").await.unwrap_err(), "watch");
        let brief = client.set_for("k", "x", Duration::from_secs(1)).await;
        unsupported(brief.unwrap_err(), "set for a time");
        assert!(!service.is_finished());
    });
}

#[test]
fn a_client_that_cannot_connect_says_what_to_do() {
    check(async {
        let (handle, _) = spawn().await;
        let short = Duration::from_millis(300);
        let fails = async |builder: palm::ClientBuilder, expected: &[&str]| {
            let error = soon("giving up", builder.connect_timeout(short).connect()).await;
            let error = error.unwrap_err();
            let text = chain(&error);
            for part in expected {
                assert!(text.contains(part), "`{part}` is not in: {text}");
            }
            error
        };
        let db_address = handle.db_address();
        let error = fails(
            Client::builder("other", db_address),
            &[db_address, "`server`", "`other`"],
        )
        .await;
        assert!(matches!(error, ConnectError::Name { .. }));

        let nobody = unbound();
        let error = fails(
            Client::builder("server", &nobody),
            &[&nobody, "no answer from", "300ms"],
        )
        .await;
        assert!(matches!(error, ConnectError::NoAnswer { .. }));

        let error = fails(
            Client::builder("server", db_address).sub_address(&nobody),
            &[&nobody, "no connection to", "300ms"],
        )
        .await;
        assert!(matches!(error, ConnectError::NoPublisher { .. }));

        let error = fails(
            Client::builder("server", "localhost"),
            &["`localhost`", "tcp://host:port"],
        )
        .await;
        assert!(matches!(error, ConnectError::Socket(_)));

        let error = fails(
            Client::builder("server", &nobody)
                .this_config(true)
                .sub_address(&nobody),
            &["push_address"],
        )
        .await;
        assert!(matches!(error, ConnectError::Incomplete));

        let mut template = palm::ServerTemplate::new("odd");
        template.register_bypass(palm::parts::CacheService::bind(ANY), "Cache");
        template.preset_cache("pull_address", "over there");
        let odd = template.spawn().await.unwrap();
        let error = fails(
            Client::builder("odd", odd.db_address()),
            &["pull_address", "`over there`"],
        )
        .await;
        assert!(matches!(error, ConnectError::BadAddress { .. }));
    });
}

#[test]
fn a_client_may_be_started_before_its_server() {
    check(async {
        let at = Place::new();
        let db_address = at.ipc("db");
        let connecting = tokio::spawn(Client::connect("server", db_address.clone()));
        tokio::time::sleep(STALLED).await;
        assert!(!connecting.is_finished());
        let _handle = Server::new().bind(db_address).spawn().await.unwrap();
        let client = soon("connecting", connecting).await.unwrap().unwrap();
        echo(&client, "at last").await;
    });
}

#[test]
fn a_payload_over_the_limit_is_refused_before_it_is_sent() {
    check(async {
        let (handle, _) = spawn().await;
        let mut limited = options();
        limited.max_message_bytes = 10_000;
        let client = Client::builder("server", handle.db_address()).socket_options(limited);
        let client = soon("connecting", client.connect()).await.unwrap();
        let error = client
            .eval("server.echo", vec![0; 10_000])
            .await
            .unwrap_err();
        let CallError::TooLarge {
            function,
            len,
            limit,
        } = &error
        else {
            panic!("{error}");
        };
        assert!(
            function == "server.echo" && *len > 10_000 && *limit == 10_000,
            "{error}"
        );
        assert!(!error.is_transient());
        let mut job = client.job("server.echo", [vec![0; 10], vec![0; 10_000]]);
        let answers = [job.next().await, job.next().await, job.next().await];
        let failed = answers.into_iter().flatten().filter(Result::is_err).count();
        assert_eq!(failed, 1);
        echo(&client, "afterwards").await;
        assert!(handle.metrics().part("Pull").unwrap().bytes < 10_000);
    });
}

#[test]
fn what_was_sent_is_delivered_though_the_program_ends() {
    check(async {
        let (handle, server) = spawn().await;
        let db_address = handle.db_address().to_owned();
        // A program that sends, and is over.
        let program = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let client = Client::connect("server", &db_address).await.unwrap();
                let payloads = std::iter::repeat_n(vec![0; 1000], 5000);
                let job = client
                    .job(Server::NOTHING.untyped(), payloads)
                    .expect_answers(0);
                assert_eq!(job.collect::<Vec<_>>().await.len(), 0);
            });
        };
        soon("the program", tokio::task::spawn_blocking(program))
            .await
            .unwrap();
        let count = || server.silent.load(Ordering::Relaxed);
        let mut seen = u64::MAX;
        while seen != count() {
            seen = count();
            tokio::time::sleep(STALLED).await;
        }
        assert_eq!(seen, 5000);
    });
}

#[test]
fn a_plain_thread_calls_without_async() {
    check(async {
        let (handle, _) = spawn().await;
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
            // Two jobs in turn, and a call between.
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

            let builder = Client::builder("nobody", &*db_address).connect_timeout(short);
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

#[test]
fn a_client_of_old_that_subscribes_late_gets_its_answer() {
    check(async {
        let (handle, _) = spawn().await;
        let pull = address(handle.address("pull_address").unwrap());
        let push = Push::connect(&pull, &options()).await.unwrap();
        // The second is larger than all that is held by default.
        for (calls, len) in [(1, 10), (2, 64 * 1024 * 1024)] {
            let payload = Bytes::from(vec![b'x'; len]);
            let mut message = Message::new("server.echo", payload.clone());
            message.set_client(format!("client {calls}"));
            push.send(message.encode()).await.unwrap();
            let called = || handle.metrics().function("echo").unwrap().working.count() == calls;
            eventually("the call", called).await;
            let mut caller = Caller::of(&handle, message.client()).await;
            assert!(caller.answer().await == payload, "{len} bytes");
        }
    });
}

#[test]
fn a_message_outlives_a_connection_that_comes_to_nothing() {
    check(async {
        // Whatever takes connections for a server that is not there yet, e.g. a proxy.
        let (server, at) = RawListener::bind(&address(ANY));
        let push = Push::connect(&at, &options()).await.unwrap();
        let sending = tokio::spawn(async move {
            push.send("the message".into()).await.unwrap();
            push
        });
        let comes_to_nothing = server.accept().await;
        // Time for a message to be sent, if it is sent now.
        tokio::time::sleep(STALLED).await;
        drop(comes_to_nothing);

        let mut peer = server.accept().await;
        soon("the introduction", peer.introduce("PULL", b""))
            .await
            .unwrap();
        let frame = soon("the message", peer.frame()).await.unwrap();
        assert_eq!(frame, (0, b"the message".to_vec()));
        soon("the end of sending", sending).await.unwrap();
    });
}

/// A step that waits, and tells when a call of it is dropped while it does.
macro_rules! waiting {
    ($attribute:ident, $key:ident = $name:literal, $type:ident) => {
        struct $type {
            gate: Gate,
            dropped: Gate,
        }

        #[palm::$attribute($key = $name)]
        impl $type {
            #[palm::method]
            async fn wait(&self, payload: Bytes) -> Bytes {
                struct Dropped(Gate);

                impl Drop for Dropped {
                    fn drop(&mut self) {
                        self.0.count_one();
                    }
                }

                let dropped = Dropped(self.dropped.clone());
                self.gate.pass().await;
                std::mem::forget(dropped);
                payload
            }
        }

        impl $type {
            fn new(gate: &Gate, dropped: &Gate) -> Self {
                Self {
                    gate: gate.clone(),
                    dropped: dropped.clone(),
                }
            }
        }
    };
}

waiting!(server, name = "waiting", WaitingServer);
waiting!(pipeline, name = "step", WaitingStep);
waiting!(worker, server = "master", WaitingWorker);

/// Gives up a call that waits in a method, and then one of which nothing has begun.
async fn give_up(client: &Client, steps: &str, gate: &Gate, dropped: &Gate) {
    let eval = {
        let (client, steps) = (client.clone(), steps.to_owned());
        tokio::spawn(async move { client.eval(steps, "given up").await })
    };
    gate.arrived(1).await;
    eval.abort();
    dropped.arrived(1).await;

    // One runs, the others are queued behind it.
    let mut job = client.job(steps, numbers(0..50)).expect_answers(50);
    let arrived = async {
        tokio::select! {
            answer = job.next() => panic!("answered {answer:?}"),
            () = gate.arrived(2) => {}
        }
    };
    arrived.await;
    drop(job);
    dropped.arrived(2).await;
    gate.open();
    let answer = client.eval(steps, "wanted").into_future();
    assert_eq!(soon("an answer", answer).await.unwrap(), "wanted");
    assert_eq!(gate.count(), 3, "none of the others was begun");
}

#[test]
fn a_call_that_is_given_up_is_dropped_in_a_server() {
    check(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let server = WaitingServer::new(&gate, &dropped).bind(ANY).concurrency(1);
        let server = server.spawn().await.unwrap();
        let client = connect("waiting", &server).await;
        give_up(&client, "waiting.wait", &gate, &dropped).await;
    });
}

#[test]
fn a_call_that_is_given_up_is_dropped_in_a_worker() {
    check(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let worker = WaitingWorker::new(&gate, &dropped).connect(master.db_address());
        let _worker = worker.concurrency(1).spawn().await.unwrap();
        let client = connect("master", &master).await;
        give_up(&client, "master.wait", &gate, &dropped).await;
    });
}

#[test]
fn a_call_that_is_given_up_is_dropped_in_a_later_step() {
    check(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let server = WaitingServer::new(&gate, &dropped)
            .bind(ANY)
            .pipelined(true);
        let server = server.spawn().await.unwrap();
        let between = WaitingStep::new(&gate, &dropped).bind(ANY).name("between");
        let between = between.follow(server.db_address());
        let between = between.spawn().await.unwrap();
        let step = WaitingStep::new(&gate, &dropped).bind(ANY).concurrency(1);
        let step = step.follow(between.db_address()).to_client(true);
        let step = step.spawn().await.unwrap();
        let client = connect_through(&server, &step).await;
        let steps = "waiting.echo between.echo step.wait";
        give_up(&client, steps, &gate, &dropped).await;
    });
}
