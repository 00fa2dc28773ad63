//! Malformed, missing and endless input of one peer: the component still serves the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use palm::prelude::*;
use palm::socket::{Dealer, Push, Request, SocketOptions};
use palm::{CacheError, ChangeLog, ComponentHandle, KeyValue, Page, PageLimits, Position, Swap};

use super::raw::{MORE, RawPeer, frame, greeting, long_header, random_bytes, ready};
use super::raw_publisher::{RawPublisher, message};
use super::setup::{ANY, Caller, Gate, address, chain, check, eventually, listens, options, soon};

/// The component under attack; all kinds have the same functions.
#[derive(Clone)]
struct Victim {
    gate: Gate,
}

#[palm::server(name = "victim")]
impl Victim {
    #[palm::method]
    fn text(&self, text: String) -> String {
        text
    }

    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as requested");
    }
}

struct Pipe;

#[palm::pipeline(name = "victim")]
impl Pipe {
    #[palm::method]
    fn text(&self, text: String) -> String {
        text
    }

    #[palm::method]
    fn panics(&mut self) -> String {
        panic!("as requested");
    }
}

struct Drain;

#[palm::sink(name = "victim")]
impl Drain {
    #[palm::method]
    fn text(&self, text: String) -> String {
        text
    }

    #[palm::method]
    async fn panics(&self) -> String {
        tokio::task::yield_now().await;
        panic!("as requested");
    }
}

struct Hand;

#[palm::worker(server = "victim")]
impl Hand {
    #[palm::method]
    fn text(&self, text: String) -> String {
        text
    }

    #[palm::method(blocking)]
    fn panics(&self) -> String {
        panic!("as requested");
    }
}

/// Options with a low limit on messages, and a short time for the handshake.
fn hasty() -> SocketOptions {
    options()
        .max_message_bytes(1_000_000)
        .handshake_timeout(Duration::from_secs(3))
}

const GOOD_TOPIC: &str = "good";

fn call(function: &str, payload: impl Into<Bytes>) -> Message {
    let mut message = Message::new(function, payload.into());
    message.set_client(GOOD_TOPIC);
    message
}

fn at_stage(stage: i64) -> Message {
    let mut message = call("victim.text victim.echo", "x");
    message.set_stage(stage);
    message
}

/// Malformed bodies of messages.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let encoded = |message: Message| message.encode().to_vec();
    let mut client = call("victim.echo", "x");
    client.set_client("");
    let mut ready_topic = call("victim.echo", "x");
    ready_topic.set_client("\0palm.ready.x");
    let good = encoded(call("victim.echo", "x"));
    // Nested groups of an unknown field.
    let nested = [[0xa3, 0x06].repeat(100_000), [0xa4, 0x06].repeat(100_000)].concat();
    vec![
        ("random bytes", random_bytes(1000)),
        ("many random bytes", random_bytes(100_000)),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 1000]),
        ("a message cut short", good[..good.len() - 1].to_vec()),
        (
            "a length beyond the end",
            vec![0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a field of another wire type", vec![0x08, 0x01]),
        ("an endless varint", vec![0xff; 100]),
        ("nested groups", nested),
        ("text that is not UTF-8", vec![0x22, 0x02, 0xff, 0xfe]),
        (
            "a client that is not UTF-8",
            [&good[..], &[0x12, 0x02, 0xff, 0xfe]].concat(),
        ),
        ("another server", encoded(call("other.text", "x"))),
        ("an unknown function", encoded(call("victim.unknown", "x"))),
        ("no dot", encoded(call("text", "x"))),
        ("two dots", encoded(call("victim.text.x", "x"))),
        ("only a dot", encoded(call(".", "x"))),
        ("only a space", encoded(call(" ", "x"))),
        ("no function", encoded(call("", "x"))),
        ("a stage out of range", encoded(at_stage(2))),
        ("a negative stage", encoded(at_stage(-1))),
        ("the least stage", encoded(at_stage(i64::MIN))),
        ("the greatest stage", encoded(at_stage(i64::MAX))),
        (
            "a payload that is not UTF-8",
            encoded(call("victim.text", vec![0xff, 0xfe])),
        ),
        ("no payload", encoded(call("victim.text", ""))),
        ("no client", encoded(client)),
        ("a client with a special name", encoded(ready_topic)),
        ("a method that panics", encoded(call("victim.panics", "x"))),
    ]
}

/// A component with a legacy caller that checks whether it still serves.
struct Served {
    component: ComponentHandle,
    /// The component's upstream, by hand, if it follows one.
    publisher: Option<RawPublisher>,
    caller: Caller,
    _workers: Vec<ComponentHandle>,
    round: u64,
}

const KINDS: [&str; 5] = ["server", "master", "pipeline", "sink", "hub"];

impl Served {
    async fn new(kind: &str) -> Self {
        let gate = Gate::closed();
        let publisher = RawPublisher::bind();
        let at = &publisher.address;
        let component = match kind {
            "server" => {
                Victim { gate }
                    .bind(ANY)
                    .socket_options(hasty())
                    .spawn()
                    .await
            }
            "master" => {
                Master::new("victim")
                    .bind(ANY)
                    .socket_options(hasty())
                    .spawn()
                    .await
            }
            "pipeline" => {
                let pipe = Pipe.bind(ANY).sub_address(at).previous("topic");
                pipe.to_client(true).socket_options(hasty()).spawn().await
            }
            "sink" => {
                let sink = Drain.bind(ANY).stream(at, "topic");
                sink.to_client(true).socket_options(hasty()).spawn().await
            }
            "hub" => {
                let hub = Hub::new("victim")
                    .bind(ANY)
                    .sub_address(at)
                    .previous("topic");
                hub.socket_options(hasty()).spawn().await
            }
            other => panic!("no kind `{other}`"),
        };
        let component = component.unwrap();
        listens(&component).await;
        let mut workers = Vec::new();
        if matches!(kind, "master" | "hub") {
            let worker = Hand.connect(component.db_address()).socket_options(hasty());
            workers.push(worker.spawn().await.unwrap());
        }
        let publishes = component.address("pub_address").unwrap();
        let pull = component.address("pull_address").unwrap_or(publishes);
        let caller = Caller::at(pull, publishes, GOOD_TOPIC).await;
        let follows = component.address("pull_address").is_none();
        let mut served = Self {
            publisher: follows.then_some(publisher),
            caller,
            component,
            _workers: workers,
            round: 0,
        };
        served.serves("the start").await;
        served
    }

    /// Asserts that a valid message and a cache request are still answered.
    async fn serves(&mut self, after: &str) {
        self.round += 1;
        let expected = format!("round {}", self.round);
        let good = call("victim.echo", expected.clone());
        match &mut self.publisher {
            Some(publisher) => publisher.publish(&[b"topic", &good.encode()[..]]).await,
            None => self.caller.send_message(good).await,
        }
        let name = self.component.name().to_owned();
        let answered = async {
            // The answers to failures come first.
            while self.caller.answer().await != expected {}
        };
        soon(&format!("an answer after {after}"), answered).await;
        let db_address = address(self.component.db_address());
        let request = Request::connect(&db_address, &options()).await.unwrap();
        let body = Message::new("_.get", "name").encode();
        let exchange = async {
            // A request that is lost with a connection is sent again, as palm's clients do.
            loop {
                let reply = request.request(body.clone(), Duration::from_secs(2));
                if let Ok(reply) = reply.await {
                    return reply;
                }
            }
        };
        let reply = soon(&format!("a reply of the cache after {after}"), exchange).await;
        assert_eq!(reply, name);
    }

    /// Sends a message of these frames.
    async fn send<B: AsRef<[u8]>>(&mut self, frames: &[B]) {
        match &mut self.publisher {
            Some(publisher) => publisher.publish(frames).await,
            None => {
                let mut peer = self.peer("pull_address", "PUSH").await;
                peer.write(&message(frames)).await.unwrap();
            }
        }
    }

    async fn peer(&self, key: &str, socket_type: &str) -> RawPeer {
        let at = address(self.component.address(key).unwrap());
        RawPeer::introduced(&at, socket_type).await
    }
}

#[test]
fn malformed_messages_do_not_stop_any_component() {
    check(async {
        for kind in KINDS {
            let mut served = Served::new(kind).await;
            for (what, body) in bodies() {
                if served.publisher.is_some() {
                    served.send(&[b"topic", &body[..]]).await;
                } else {
                    served.send(&[&body[..]]).await;
                }
                served.serves(&format!("{what}, sent to a {kind}")).await;
            }
        }
    });
}

#[test]
fn messages_with_a_wrong_number_of_frames_do_not_stop_any_component() {
    check(async {
        for kind in KINDS {
            let mut served = Served::new(kind).await;
            let body = call("victim.echo", "x").encode().to_vec();
            let mut messages: Vec<Vec<&[u8]>> = vec![
                vec![&body, &body],
                vec![&body, b"", b"\xff", &body],
                vec![b"", b""],
                vec![b""; 1000],
                vec![b"topic"],
                vec![b"topic", &body, b"extra"],
                vec![b"topic too", &body],
                vec![b"other", &body],
                vec![b"topic\xff", &body],
                vec![b"\xff\xfe", &body],
            ];
            if served.publisher.is_none() {
                messages.push(vec![&body; 50]);
            }
            for (number, frames) in messages.iter().enumerate() {
                served.send(frames).await;
                served
                    .serves(&format!("frames {number}, sent to a {kind}"))
                    .await;
            }
        }
    });
}

/// Bytes that are sent instead of a handshake, or after it.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let too_large = [&long_header(0, 1_000_001)[..], &[0; 1000]].concat();
    let many = [frame(MORE, b"x").repeat(10_000), frame(0, b"x")].concat();
    vec![
        ("random bytes", random_bytes(10_000)),
        (
            "a web browser",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("a frame of 2^60 bytes", long_header(0, 1 << 60).to_vec()),
        ("a command of 2^60 bytes", long_header(4, 1 << 60).to_vec()),
        ("a frame of 2^63 bytes", long_header(0, 1 << 63).to_vec()),
        ("a frame over the limit", too_large),
        (
            "an end in a frame",
            [&long_header(0, 1000)[..], b"beginning"].concat(),
        ),
        ("an end in a message", frame(MORE, b"beginning")),
        ("an end in a header", long_header(0, 1000)[..5].to_vec()),
        ("very many frames", many),
        ("a greeting", greeting(0).to_vec()),
        (
            "the wrong socket type",
            [&greeting(0)[..], &ready("SUB", b"")].concat(),
        ),
        (
            "a socket type of its own",
            [&greeting(0)[..], &ready("SOCK", b"")].concat(),
        ),
    ]
}

#[test]
fn connections_that_do_not_speak_zmtp_are_closed() {
    check(async {
        for kind in ["server", "master"] {
            let mut served = Served::new(kind).await;
            let addresses = served.component.addresses().clone();
            for (key, at) in &addresses {
                let socket_type = match &**key {
                    "pull_address" | "worker_pull_address" => "PUSH",
                    // A PULL that connects there is a worker, which receives tasks.
                    "worker_push_address" => "REQ",
                    "pub_address" => "SUB",
                    _ => "REQ",
                };
                let at = address(at);
                for (what, bytes) in nonsense() {
                    // The component may close the connection before all is written.
                    let mut peer = RawPeer::connect(&at).await;
                    let _ = peer.write(&bytes).await;
                    let mut introduced = RawPeer::connect(&at).await;
                    let hello = [&greeting(0)[..], &ready(socket_type, b""), &bytes].concat();
                    let _ = introduced.write(&hello).await;
                    served
                        .serves(&format!("{what}, sent to the {key} of a {kind}"))
                        .await;
                }
            }
        }
    });
}

#[test]
fn malformed_publications_do_not_stop_followers() {
    check(async {
        for kind in ["pipeline", "sink", "hub"] {
            let mut served = Served::new(kind).await;
            for (what, bytes) in nonsense() {
                let publisher = served.publisher.as_mut().unwrap();
                let _ = publisher.subscriber().await.write(&bytes).await;
                publisher.hang_up();
                let mut peer = publisher.accept().await;
                let _ = peer.write(&bytes).await;
                drop(peer);
                served
                    .serves(&format!("{what}, published to a {kind}"))
                    .await;
            }
        }
    });
}

#[test]
fn forged_results_do_not_stop_a_master() {
    check(async {
        let mut served = Served::new("master").await;
        let forged = call("victim.echo", "forged").encode();
        for (what, body) in bodies() {
            let mut worker = served.peer("worker_pull_address", "PUSH").await;
            worker.write(&message(&[&body])).await.unwrap();
            served.serves(&format!("{what} as a result")).await;
        }
        let mut worker = served.peer("worker_pull_address", "PUSH").await;
        worker.write(&message(&[&forged])).await.unwrap();
        // Results that were forged earlier may still be under way.
        let forged = async { while served.caller.answer().await != "forged" {} };
        soon("the forged result", forged).await;
        served.serves("a forged result").await;
    });
}

#[test]
fn silent_connections_are_closed_and_new_clients_are_served() {
    check(async {
        for kind in ["server", "master"] {
            let mut served = Served::new(kind).await;
            let pull = address(served.component.address("pull_address").unwrap());
            let publishes = address(served.component.address("pub_address").unwrap());
            let silent = (0..2000)
                .map(|number| RawPeer::connect(if number % 2 == 0 { &pull } else { &publishes }));
            let mut silent = join_all(silent).await;
            served.serves("2000 connections").await;
            let client = Client::connect("victim", served.component.db_address());
            let client = soon("a new client among 2000 connections", client)
                .await
                .unwrap();
            let served = async {
                let eval = || {
                    client
                        .eval("victim.echo", "x")
                        .timeout(Duration::from_secs(2))
                };
                while eval().await.is_err() {}
            };
            soon("its answer", served).await;
            // The component closes the silent connections.
            for peer in silent.iter_mut().step_by(100) {
                peer.closed().await;
            }
        }
    });
}

#[test]
fn subscriber_that_reads_nothing_does_not_stop_others() {
    check(async {
        let gate = Gate::closed();
        let quick = options().slow_subscriber_timeout(Duration::from_secs(1));
        let server = Victim { gate }
            .bind(ANY)
            .socket_options(quick)
            .spawn()
            .await
            .unwrap();
        let client = Client::connect("victim", server.db_address());
        let client = soon("connecting", client).await.unwrap();
        listens(&server).await;
        let publishes = address(server.address("pub_address").unwrap());
        let mut reads_nothing = RawPeer::introduced(&publishes, "SUB").await;
        // It subscribes to all topics.
        reads_nothing.write(&message(&[b"\x01"])).await.unwrap();
        let payloads = std::iter::repeat_n(Bytes::from(vec![0; 100_000]), 1000);
        let job = client.job("victim.echo", payloads).expect_answers(1000);
        let answers: Vec<_> = soon("the answers to the others", job.collect()).await;
        assert!(answers.iter().all(Result::is_ok));
    });
}

#[test]
fn queued_calls_of_a_dropped_client_end_and_others_are_answered() {
    check(async {
        let gate = Gate::closed();
        let server = Victim { gate: gate.clone() }
            .bind(ANY)
            .concurrency(4)
            .spawn()
            .await
            .unwrap();
        let connect = async || {
            let client = Client::connect("victim", server.db_address());
            soon("connecting", client).await.unwrap()
        };
        let stays = connect().await;
        let vanishes = connect().await;
        let mut job = vanishes.job("victim.gated", (0..100).map(|number| number.to_string()));
        let polled = tokio::time::timeout(Duration::from_millis(50), job.next()).await;
        assert!(polled.is_err());
        gate.arrived(4).await;
        drop((job, vanishes));
        gate.open();
        let answer = stays.eval("victim.echo", "x").into_future();
        assert_eq!(soon("an answer to the other", answer).await.unwrap(), "x");
        let calls = server.metrics().part("Pull").unwrap().messages - 1;
        // Each call is run, or cancelled before it begins.
        let done = || server.metrics().part("Executor").unwrap().messages > calls;
        eventually("the end of the calls of the vanished client", done).await;
    });
}

#[test]
fn payload_of_64_mib_passes_through_a_whole_pipeline() {
    check(async {
        let payload = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
        let gate = Gate::closed();
        let server = Victim { gate }
            .bind(ANY)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let pipe = Pipe
            .bind(ANY)
            .name("pipe")
            .follow(server.db_address())
            .spawn()
            .await
            .unwrap();
        let hub = Hub::new("hub")
            .bind(ANY)
            .follow(pipe.db_address())
            .spawn()
            .await
            .unwrap();
        let _hand = Hand.connect(hub.db_address()).spawn().await.unwrap();
        let client = Client::builder("victim", server.db_address());
        let client = client
            .sub_address(hub.address("pub_address").unwrap())
            .connect();
        let client = soon("connecting", client).await.unwrap();
        let steps = ["victim.echo", "pipe.text", "hub.echo"];
        let answer = client.eval(steps, "is everybody there?").into_future();
        assert_eq!(
            soon("an answer", answer).await.unwrap(),
            "is everybody there?"
        );
        let answer = client.eval(steps, payload.clone()).into_future();
        assert!(soon("a large answer", answer).await.unwrap() == payload);
    });
}

/// Sends a request of these frames, and returns the reply.
async fn request_cache(dealer: &mut Dealer, frames: &[Bytes]) -> Bytes {
    let envelope = [Bytes::from("id"), Bytes::new()];
    let frames = envelope.into_iter().chain(frames.iter().cloned()).collect();
    dealer.send(frames).await.unwrap();
    let mut replies = Vec::new();
    soon("a reply of the cache", dealer.recv_many(&mut replies, 1))
        .await
        .unwrap();
    let [id, delimiter, reply] = &replies[0][..] else {
        panic!("{replies:?}");
    };
    assert_eq!((&id[..], &delimiter[..]), (&b"id"[..], &b""[..]));
    reply.clone()
}

#[test]
fn malformed_cache_requests_are_answered_and_others_are_served() {
    check(async {
        for kind in KINDS {
            let mut served = Served::new(kind).await;
            let db_address = address(served.component.db_address());
            let mut dealer = Dealer::connect(&db_address, &hasty()).await.unwrap();
            let request = |function: &str, payload: &'static [u8]| {
                vec![Message::new(function, payload).encode()]
            };
            let get = Message::new("_.get", "name").encode();
            let reserved = {
                let mut message = Message::new("_.set", "tcp://elsewhere:1");
                message.set_cache("pub_address");
                vec![message.encode()]
            };
            let no_key = request("_.set", b"value");
            let table: Vec<(&str, Vec<Bytes>, &str)> = vec![
                ("an unknown verb", request("_.list", b"name"), ""),
                ("no dot", request("get", b"name"), ""),
                ("no function", request("", b"name"), ""),
                ("an absent key", request("_.get", b"absent"), ""),
                (
                    "the deletion of an absent key",
                    request("_.delete", b"absent"),
                    "absent",
                ),
                ("the deletion of its name", request("_.delete", b"name"), ""),
                ("another value for its address", reserved, ""),
                ("a key that is not UTF-8", request("_.get", b"\xff\xfe"), ""),
                (
                    "the deletion of such a key",
                    request("_.delete", b"\xff\xfe"),
                    "",
                ),
                ("an empty key", request("_.get", b""), ""),
                ("two frames", vec![get.clone(), get.clone()], ""),
                ("no frame", vec![], ""),
                ("an empty frame", vec![Bytes::new()], ""),
                ("random bytes", vec![random_bytes(1000).into()], ""),
                ("a message cut short", vec![get.slice(..get.len() - 1)], ""),
                ("two dots", request("a.get.b", b"name"), "victim"),
            ];
            for (what, frames, expected) in table {
                let reply = request_cache(&mut dealer, &frames).await;
                assert_eq!(reply, expected, "{what} sent to a {kind}");
                served.serves(&format!("{what} sent to a {kind}")).await;
            }
            let key = request_cache(&mut dealer, &no_key).await;
            assert_eq!(key.len(), 36);
            let get = Message::new("_.get", key.clone()).encode();
            assert_eq!(request_cache(&mut dealer, &[get]).await, "value");
            // A malformed request is not answered.
            dealer
                .send(std::iter::once(Bytes::from("no delimiter")).collect())
                .await
                .unwrap();
            served.serves("a request without a delimiter").await;
        }
    });
}

/// A store that fails, or panics.
struct BadStore {
    gets: Arc<AtomicUsize>,
    sets: Arc<AtomicUsize>,
}

impl KeyValue for BadStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        assert_ne!(key, "bomb", "on purpose");
        if key == "broken" {
            self.gets.fetch_add(1, Ordering::Relaxed);
            return Err(CacheError::Store("the disk is gone".into()));
        }
        Ok(None)
    }

    async fn set(&self, _: &str, _: Bytes, _: Option<Duration>) -> Result<(), CacheError> {
        self.sets.fetch_add(1, Ordering::Relaxed);
        Err(CacheError::Store("the disk is full".into()))
    }

    async fn delete(&self, _: &str) -> Result<bool, CacheError> {
        Ok(false)
    }

    async fn compare_and_set(
        &self,
        _: &str,
        _: Option<Bytes>,
        _: Option<Bytes>,
        _: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        panic!("as requested")
    }

    async fn add(&self, _: &str, _: i64) -> Result<i64, CacheError> {
        Err(CacheError::Store("the disk is full".into()))
    }

    async fn scan(&self, _: &str, _: Option<Position>, _: PageLimits) -> Result<Page, CacheError> {
        Ok(Page::default())
    }

    async fn delete_prefix(&self, _: &str) -> Result<u64, CacheError> {
        Ok(0)
    }

    async fn changes(&self) -> Result<ChangeLog, CacheError> {
        let operation = "watch".to_owned();
        Err(CacheError::Unsupported { operation })
    }
}

#[test]
fn failing_or_panicking_store_is_reported_to_each_caller() {
    check(async {
        let (gets, sets) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let store = BadStore {
            gets: gets.clone(),
            sets: sets.clone(),
        };
        let server = Victim {
            gate: Gate::closed(),
        }
        .bind(ANY)
        .cache(store)
        .spawn()
        .await
        .unwrap();
        let client = Client::builder("victim", server.db_address());
        let client = client.timeout(Duration::from_secs(2)).connect();
        let client = soon("connecting", client).await.unwrap();
        // Neither the first get nor the first set of a client reaches the store twice.
        let failed = client.get("broken").await.unwrap_err();
        assert_eq!(chain(&failed), "the store failed: the disk is gone");
        assert_eq!(gets.load(Ordering::Relaxed), 1, "the get was sent once");
        assert_eq!(client.get("k").await.unwrap(), None);
        let failed = client.set("k", "x").await.unwrap_err();
        assert_eq!(chain(&failed), "the store failed: the disk is full");
        assert_eq!(server.cache_failure(), Some(chain(&failed)));
        let failed = client.set("k", "x").await.unwrap_err();
        assert_eq!(chain(&failed), "the store failed: the disk is full");
        assert_eq!(sets.load(Ordering::Relaxed), 2, "each was sent once");
        assert_eq!(client.get("k").await.unwrap(), None);
        let failed = client.get("bomb").await.unwrap_err();
        assert!(chain(&failed).contains("panicked"), "{failed:?}");
        let failed = client.add("n", 1).await.unwrap_err();
        assert_eq!(chain(&failed), "the store failed: the disk is full");
        let failed = client.compare_and_set("k", None, None).await.unwrap_err();
        assert!(chain(&failed).contains("panicked"), "{failed:?}");
        let failed = client.watch("").await.unwrap_err();
        assert_eq!(
            chain(&failed),
            "the cache does not support the operation `watch`"
        );
        assert_eq!(client.get("k").await.unwrap(), None);
        assert_eq!(client.eval("victim.echo", "x").await.unwrap(), "x");
    });
}

/// A master whose hooks panic if the payload says so.
struct Explosive;

#[palm::master(name = "victim")]
impl Explosive {
    #[palm::scatter]
    fn scatter(&self, message: Message) -> Vec<Message> {
        assert_ne!(message.payload(), "scatter", "on purpose");
        vec![message]
    }

    #[palm::gather]
    fn gather(&mut self, message: Message) -> impl Iterator<Item = Message> + use<> {
        let exploded = message.payload() == "gather";
        (0..2).map(move |number| {
            assert!(!exploded || number == 0, "on purpose");
            message.clone()
        })
    }

    #[palm::handle_stream]
    fn route(&self, message: Message) -> Result<(String, Message), String> {
        match &message.payload()[..] {
            b"handle_stream" => panic!("as requested"),
            b"error" => Err("as requested".to_owned()),
            b"no topic" => Ok((String::new(), message)),
            _ => Ok((message.client().to_owned(), message)),
        }
    }
}

#[test]
fn panicking_hook_fails_only_its_message() {
    check(async {
        let master = Explosive.bind(ANY).spawn().await.unwrap();
        let _hand = Hand.connect(master.db_address()).spawn().await.unwrap();
        let mut caller = Caller::new(&master, "caller").await;
        let table: [(&str, &[&str]); 6] = [
            ("scatter", &["0"]),
            ("gather", &["gather", "0"]),
            ("handle_stream", &["0", "0"]),
            ("error", &["0", "0"]),
            ("no topic", &[]),
            ("good", &["good", "good"]),
        ];
        for (payload, expected) in table {
            caller.send("victim.echo", payload).await;
            caller.send("victim.echo", "the end").await;
            let mut answers = Vec::new();
            while answers.last().is_none_or(|answer| answer != "the end") {
                answers.push(caller.answer().await);
            }
            answers.pop();
            assert_eq!(caller.answer().await, "the end");
            assert_eq!(answers, expected, "{payload}");
        }
    });
}

#[test]
fn flood_of_malformed_messages_does_not_stop_others() {
    check(async {
        // Others are served during a flood of malformed messages.
        let mut served = Served::new("server").await;
        let pull = address(served.component.address("pull_address").unwrap());
        let flood = tokio::spawn(async move {
            let push = Push::connect(&pull, &options()).await.unwrap();
            loop {
                push.send(Bytes::from_static(b"\xff\xff\xff"))
                    .await
                    .unwrap();
            }
        });
        let flooded = || served.component.metrics().part("Pull").unwrap().errors > 1000;
        eventually("a flood", flooded).await;
        for _ in 0..20 {
            served.serves("a flood of nonsense").await;
        }
        assert!(!flood.is_finished());
        flood.abort();
    });
}
