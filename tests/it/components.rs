//! Each kind of component answers, finds the others, and lets its hooks shape the stream.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use palm::prelude::*;
use palm::socket::{Publish, Request, Subscribe};
use palm::{CallError, ComponentHandle, FailureKind};

use super::setup::{
    ANY, Caller, Place, address, chain, check, connect, connect_through, options, soon, unbound,
};

struct First;

/// The step that clients call.
#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " first"
    }
}

struct Middle;

#[palm::pipeline(name = "middle")]
impl Middle {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " middle"
    }

    #[palm::method]
    fn long_only(&self, text: String) -> Option<String> {
        (text.len() > 10).then_some(text)
    }
}

struct Last;

#[palm::sink(name = "last")]
impl Last {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " last"
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    fn mark(&self, text: String, context: Context) -> String {
        format!("{text} {}", context.name())
    }
}

struct Splitter;

#[palm::mux_worker(server = "master")]
impl Splitter {
    #[palm::method]
    fn split(&self, text: String) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }
}

async fn eval<const N: usize>(client: &Client, steps: [&str; N], payload: &str) -> Bytes {
    soon("an answer", client.eval(steps, payload).into_future())
        .await
        .unwrap()
}

#[test]
fn a_server_answers_and_echoes() {
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
fn a_server_answers_nothing_that_is_meant_for_another() {
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
fn steps_follow_each_other() {
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

        // The first to stop is the first that has nothing more to come.
        for component in [first, middle, hub, hand, last] {
            component.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_pipeline_that_returns_nothing_ends_the_stream() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle.bind(ANY).follow(first.db_address()).to_client(true);
        let middle = middle.spawn().await.unwrap();
        let client = connect_through(&first, &middle).await;
        let job = client.job(
            ["first.echo", "middle.long_only"],
            ["short", "long enough to pass"],
        );
        let answers: Vec<_> = soon("one answer", job.expect_answers(1).collect()).await;
        assert_eq!(*answers[0].as_ref().unwrap(), "long enough to pass");
        assert_eq!(middle.metrics().function("long_only").unwrap().calls, 2);
    });
}

#[test]
fn a_sink_gathers_streams_by_address_and_by_cache() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let other = First
            .bind(ANY)
            .name("other")
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let sink = Last.bind(ANY).to_client(true).follow(first.db_address());
        let sink = sink.stream(other.address("pub_address").unwrap(), "other");
        let sink = sink.spawn().await.unwrap();
        for (name, server) in [("first", &first), ("other", &other)] {
            let client = connect_through(server, &sink).await;
            let steps = [format!("{name}.mark"), "last.mark".to_owned()];
            let answer = soon("an answer", client.eval(steps, name).into_future())
                .await
                .unwrap();
            assert_eq!(answer, format!("{name} first last"));
        }
    });
}

#[test]
fn a_stream_is_followed_by_its_exact_topic() {
    check(async {
        // `first_too` begins with `first`.
        let too = First
            .bind(ANY)
            .name("first_too")
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let publishes = too.address("pub_address").unwrap();
        let middle = Middle
            .bind(ANY)
            .sub_address(publishes)
            .previous("first")
            .to_client(true);
        let middle = middle.spawn().await.unwrap();
        let last = Middle
            .bind(ANY)
            .name("last")
            .sub_address(publishes)
            .previous("first_too");
        let last = last.to_client(true).spawn().await.unwrap();
        let client = connect_through(&too, &last).await;
        assert_eq!(
            eval(&client, ["first_too.mark", "last.mark"], "x").await,
            "x first middle"
        );
        assert_eq!(middle.metrics().part("Sub").unwrap().messages, 0);
    });
}

#[test]
fn who_follows_may_be_started_before() {
    check(async {
        let place = Place::new();
        let (first_at, master_at) = (place.ipc("first"), place.ipc("master"));
        let middle = Middle
            .bind(ANY)
            .follow(&first_at)
            .to_client(true)
            .spawn()
            .await
            .unwrap();
        let hand = Hand.connect(&master_at).name("hand").spawn().await.unwrap();

        let first = First.bind(&first_at).pipelined(true).spawn().await.unwrap();
        let client = connect_through(&first, &middle).await;
        assert_eq!(
            eval(&client, ["first.mark", "middle.mark"], "x").await,
            "x first middle"
        );

        let master = Master::new("master")
            .bind(&master_at)
            .spawn()
            .await
            .unwrap();
        let client = connect("master", &master).await;
        assert_eq!(eval(&client, ["master.mark"], "x").await, "x hand");
        hand.shutdown().await.unwrap();
    });
}

#[test]
fn who_follows_may_be_started_after_the_first_message() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = unbound();
        let mut caller =
            Caller::at(first.address("pull_address").unwrap(), &publishes, "caller").await;
        caller.send("first.mark middle.mark", "x").await;
        soon("the call", async {
            while first.metrics().function("mark").unwrap().running > 0
                || first.metrics().function("mark").unwrap().calls == 0
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let middle = Middle
            .bind(ANY)
            .follow(first.db_address())
            .pub_address(&*publishes);
        let _middle = middle.to_client(true).spawn().await.unwrap();
        assert_eq!(caller.answer().await, "x first middle");
    });
}

#[test]
fn a_master_spreads_calls_over_its_workers() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let mut workers = Vec::new();
        for name in ["anna", "bert"] {
            let worker = Hand.connect(master.db_address()).name(name);
            workers.push(worker.spawn().await.unwrap());
        }
        let client = connect("master", &master).await;
        // A worker is there some time after it was spawned.
        let mut seen = BTreeSet::new();
        let spread = async {
            while seen.len() < 2 {
                seen.insert(client.eval(Hand::MARK, "x").await.unwrap());
            }
        };
        soon("answers of both workers", spread).await;
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["x anna", "x bert"]);
        assert_eq!(client.eval("master.echo", "x").await.unwrap(), "x");
        // A worker does what its master gives it, whatever name stands before.
        assert_eq!(client.eval("whoever.echo", "x").await.unwrap(), "x");
    });
}

#[test]
fn a_worker_may_be_told_both_addresses() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let nobody = unbound();
        let worker = Hand
            .connect(&nobody)
            .name("hand")
            .push_address(master.address("worker_push_address").unwrap())
            .pull_address(master.address("worker_pull_address").unwrap());
        let worker = worker.spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(eval(&client, ["master.mark"], "x").await, "x hand");
        worker.shutdown().await.unwrap();
    });
}

#[test]
fn a_mux_worker_gives_many_answers_or_none() {
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
fn everything_works_over_ipc_with_only_one_address_given() {
    check(async {
        let place = Place::new();
        for round in ["first", "again on the same paths"] {
            let master = Master::new("master").bind(place.ipc("db")).pipelined(true);
            let master = master.spawn().await.unwrap();
            assert!(
                master
                    .addresses()
                    .values()
                    .all(|address| address.starts_with("ipc://"))
            );
            let hand = Hand
                .connect(master.db_address())
                .name("hand")
                .spawn()
                .await
                .unwrap();
            let last = Last
                .bind(place.ipc("last"))
                .follow(master.db_address())
                .to_client(true);
            let last = last.spawn().await.unwrap();
            let client = connect_through(&master, &last).await;
            assert_eq!(
                eval(&client, ["master.mark", "last.mark"], round).await,
                format!("{round} hand last")
            );
            for component in [master, hand, last] {
                component.shutdown().await.unwrap();
            }
        }
    });
}

#[test]
fn a_wildcard_address_becomes_one_that_others_can_connect_to() {
    check(async {
        let server = First.bind("tcp://*:0").trust_network(true);
        let server = server.spawn().await.unwrap();
        assert_eq!(server.addresses().len(), 3);
        for address in server.addresses().values() {
            assert!(
                !address.contains('*') && !address.ends_with(":0"),
                "{address}"
            );
        }
        let client = connect("first", &server).await;
        assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");

        let server = First
            .bind("tcp://*:*")
            .trust_network(true)
            .advertised_host("localhost")
            .spawn()
            .await
            .unwrap();
        for address in server.addresses().values() {
            assert!(address.starts_with("tcp://localhost:"), "{address}");
        }
        let client = connect("first", &server).await;
        assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");
    });
}

#[test]
fn many_components_live_in_one_process() {
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

/// Waits until the component tells each of these keys, and nothing else under `unknown`.
async fn tells(component: &ComponentHandle, keys: &[&str]) {
    let db_address = address(component.db_address());
    let request = Request::connect(&db_address, &options()).await.unwrap();
    let get = async |key: &str| {
        let body = Message::new("_.get", key.to_owned()).encode();
        request.request(body, Duration::from_secs(5)).await.unwrap()
    };
    for key in keys {
        let value = soon(
            &format!("`{}` telling its {key}", component.name()),
            async {
                loop {
                    let value = get(key).await;
                    if !value.is_empty() {
                        return value;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        )
        .await;
        match (*key, component.address(key)) {
            ("name", _) => assert_eq!(value, component.name().to_owned()),
            (_, Some(address)) => assert_eq!(value, address.to_owned()),
            (_, None) => assert!(value.starts_with(b"tcp://"), "{key}: {value:?}"),
        }
    }
    assert_eq!(get("unknown").await, "");
}

#[test]
fn each_kind_tells_its_configuration() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = first.address("pub_address").unwrap();
        tells(
            &first,
            &["name", "db_address", "pull_address", "pub_address"],
        )
        .await;

        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let keys = [
            "name",
            "db_address",
            "pull_address",
            "pub_address",
            "worker_pull_address",
            "worker_push_address",
        ];
        tells(&master, &keys).await;

        let middle = Middle.bind(ANY).sub_address(publishes).previous("first");
        let middle = middle.spawn().await.unwrap();
        tells(
            &middle,
            &["name", "db_address", "sub_address", "pub_address"],
        )
        .await;

        let last = Last
            .bind(ANY)
            .stream(publishes, "first")
            .stream(publishes, "other");
        let last = last.spawn().await.unwrap();
        tells(
            &last,
            &["name", "sub_address_0", "sub_address_1", "pub_address"],
        )
        .await;

        let hub = Hub::new("hub")
            .bind(ANY)
            .sub_address(publishes)
            .previous("first");
        let hub = hub.spawn().await.unwrap();
        let keys = [
            "name",
            "db_address",
            "sub_address",
            "pub_address",
            "worker_pull_address",
            "worker_push_address",
        ];
        tells(&hub, &keys).await;
    });
}

#[test]
fn who_follows_a_db_address_tells_its_sub_address_too() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        tells(&middle, &["sub_address"]).await;
        let last = Last
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        tells(&last, &["sub_address_0"]).await;
    });
}

#[test]
fn a_step_says_when_its_own_stream_is_in_place() {
    check(async {
        let place = Place::new();
        for of_old in [false, true] {
            // A port that is free now may be another test's by the time when it is bound.
            let upstream = place.ipc(&format!("upstream-{of_old}"));
            let middle = Middle.bind(ANY).sub_address(&upstream).previous("first");
            let middle = middle.spawn().await.unwrap();
            let follows = address(middle.address("pub_address").unwrap());
            let mut subscribe = Subscribe::connect(&follows, &options()).await.unwrap();
            subscribe.subscribe("\0palm.ready.x").await.unwrap();
            let mut said = Vec::new();
            soon("the first answer", subscribe.recv_many(&mut said, 1))
                .await
                .unwrap();
            let (_first, _publish) = if of_old {
                let publish = Publish::bind(&address(&upstream), &options()).await;
                (None, Some(publish.unwrap()))
            } else {
                let first = First.bind(ANY).pub_address(&upstream).spawn().await;
                (Some(first.unwrap()), None)
            };
            soon("the second answer", subscribe.recv_many(&mut said, 1))
                .await
                .unwrap();
            let bodies: Vec<_> = said.into_iter().map(|said| said.body.unwrap()).collect();
            assert_eq!(bodies, ["heard", ""]);
        }
    });
}

#[test]
fn a_limit_on_messages_ends_start() {
    check(async {
        let place = Place::new();

        let at = place.ipc("server");
        let server = tokio::spawn(First.bind(&at).messages(3).start());
        let client = soon("connecting", Client::connect("first", &at))
            .await
            .unwrap();
        for _ in 0..3 {
            assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");
        }
        soon("the server's end", server).await.unwrap().unwrap();

        let at = place.ipc("master");
        let master = tokio::spawn(Master::new("master").bind(&at).messages(5).start());
        let worker = tokio::spawn(Hand.connect(&at).name("hand").messages(5).start());
        let client = soon("connecting", Client::connect("master", &at))
            .await
            .unwrap();
        let job = client.job(Hand::MARK, vec!["x"; 5]).expect_answers(5);
        let answers: Vec<_> = soon("five answers", job.collect()).await;
        assert!(
            answers
                .iter()
                .all(|answer| *answer.as_ref().unwrap() == "x hand")
        );
        soon("the master's end", master).await.unwrap().unwrap();
        soon("the worker's end", worker).await.unwrap().unwrap();
    });
}

#[test]
fn a_limit_on_messages_ends_followers() {
    check(async {
        for (name, mark) in [("middle", "middle"), ("hub", "hand"), ("last", "last")] {
            let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
            let at = first.db_address();
            let component = match name {
                "middle" => {
                    Middle
                        .bind(ANY)
                        .follow(at)
                        .to_client(true)
                        .messages(4)
                        .spawn()
                        .await
                }
                "hub" => {
                    Hub::new("hub")
                        .bind(ANY)
                        .follow(at)
                        .messages(4)
                        .spawn()
                        .await
                }
                _ => {
                    Last.bind(ANY)
                        .follow(at)
                        .to_client(true)
                        .messages(4)
                        .spawn()
                        .await
                }
            };
            let component = component.unwrap();
            let hand = Hand.connect(component.db_address()).name("hand");
            let _hand = hand.spawn().await.unwrap();
            let client = connect_through(&first, &component).await;
            let steps = ["first.mark".to_owned(), format!("{name}.mark")];
            let job = client.job(steps, vec!["x"; 4]).expect_answers(4);
            let answers: Vec<_> = soon("four answers", job.collect()).await;
            for answer in answers {
                assert_eq!(answer.unwrap(), format!("x first {mark}"));
            }
            let end = format!("the end of `{name}`");
            soon(&end, component.join()).await.unwrap();
        }
    });
}

#[test]
fn a_limit_of_no_messages_ends_at_once() {
    check(async {
        soon("the server's end", First.bind(ANY).messages(0).start())
            .await
            .unwrap();
        let worker = Hand.connect(unbound()).push_address(unbound()).messages(0);
        soon("the worker's end", worker.start()).await.unwrap();
    });
}

/// Gives odd and even messages different topics.
#[derive(Default)]
struct Tee {
    messages: u64,
}

#[palm::server(name = "tee")]
impl Tee {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " tee"
    }

    #[palm::handle_stream]
    fn alternate(&mut self, mut message: Message, context: Context) -> (String, Message) {
        self.messages += 1;
        message.set_stage(message.stage() + 10);
        let payload = [&message.payload()[..], b" to ", context.name().as_bytes()].concat();
        message.set_payload(payload);
        message.set_cache("set by the hook");
        (
            if self.messages % 2 == 1 {
                "odd"
            } else {
                "even"
            }
            .to_owned(),
            message,
        )
    }
}

#[test]
fn what_handle_stream_gives_is_what_is_published() {
    check(async {
        let server = Tee::default().bind(ANY).spawn().await.unwrap();
        let mut odd = Caller::of(&server, "odd").await;
        let mut even = Caller::of(&server, "even").await;
        for number in 1..=4 {
            odd.send("tee.mark", number.to_string()).await;
        }
        for (listener, topic, numbers) in [(&mut odd, "odd", [1, 3]), (&mut even, "even", [2, 4])] {
            for number in numbers {
                let (found, message) = listener.publication().await;
                assert_eq!(found, topic);
                assert_eq!(*message.payload(), format!("{number} tee to tee"));
                assert_eq!((message.stage(), message.cache()), (10, "set by the hook"));
                assert_eq!((message.client(), message.function()), ("odd", "tee.mark"));
            }
        }
    });
}

/// Every hook of a master, each with the state of the type.
#[derive(Default)]
struct Shaper {
    scattered: u64,
    gathered: Vec<Bytes>,
}

#[palm::master(name = "master")]
impl Shaper {
    /// As many copies as the payload says; each is told which one it is.
    #[palm::scatter]
    fn copies(&mut self, message: Message) -> Result<Vec<Message>, std::num::ParseIntError> {
        let copies: u64 = String::from_utf8_lossy(message.payload()).parse()?;
        self.scattered += copies;
        let copy = |number| message.clone().with_payload(format!("copy {number}"));
        Ok((0..copies).map(copy).collect())
    }

    /// Each pair of results as one.
    #[palm::gather]
    async fn pairs(&mut self, message: Message) -> Option<Message> {
        self.gathered.push(message.payload().clone());
        if self.gathered.len() < 2 {
            return None;
        }
        let pair = self
            .gathered
            .drain(..)
            .collect::<Vec<_>>()
            .join(&b" and "[..]);
        Some(message.with_payload(pair))
    }

    #[palm::handle_stream]
    async fn topic(&self, message: Message) -> (&'static str, Message) {
        ("pairs", message)
    }
}

#[test]
fn what_scatter_and_gather_yield_is_what_is_sent() {
    check(async {
        let master = Shaper::default().bind(ANY).spawn().await.unwrap();
        let _hand = Hand
            .connect(master.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::of(&master, "pairs").await;
        for copies in ["0", "3", "no number", "1"] {
            caller.send("master.mark", copies).await;
        }
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (topic, message) = caller.publication().await;
            assert_eq!(topic, "pairs");
            let kind = message.error().map(|error| error.kind);
            answers.push((message.payload().clone(), kind));
        }
        // What fails is told at once, and is no half of a pair.
        answers.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("0", Some(FailureKind::Failed)),
            ("copy 0 hand and copy 1 hand", None),
            ("copy 2 hand and copy 0 hand", None),
        ];
        assert_eq!(
            answers,
            expected.map(|(payload, kind)| (payload.into(), kind))
        );
        let metrics = master.metrics();
        assert_eq!(metrics.part("WorkerPull").unwrap().messages, 4);
        assert_eq!(metrics.part("Pull").unwrap().errors, 1);
    });
}

/// The same by streams and iterators, in a hub.
struct Strainer;

#[palm::hub(name = "hub")]
impl Strainer {
    #[palm::scatter]
    fn three(&self, message: Message) -> impl futures_util::Stream<Item = Message> + use<> {
        let copy = move |number: i32| message.clone().with_payload(number.to_string());
        stream::iter(1..=3).map(copy)
    }

    #[palm::gather]
    fn without_the_second(&self, message: Message, context: Context) -> Vec<Message> {
        assert_eq!(context.message(), &message);
        match &message.payload()[..] {
            b"2 hand" => Vec::new(),
            b"3 hand" => vec![
                message.clone().with_payload("3a"),
                message.with_payload("3b"),
            ],
            _ => vec![message],
        }
    }
}

#[test]
fn a_hub_shapes_its_stream() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Strainer
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        let _hand = Hand
            .connect(hub.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let client = connect_through(&first, &hub).await;
        let job = client
            .job(["first.echo", "hub.mark"], ["x"])
            .expect_answers(3);
        let answers: Vec<_> = soon("three answers", job.collect()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, ["1 hand", "3a", "3b"]);
    });
}

/// Its messages come out of the master as they go in.
struct Copier;

#[palm::master(name = "master")]
impl Copier {
    #[palm::scatter]
    fn three(&self, message: Message) -> [Message; 3] {
        [message.clone(), message.clone(), message]
    }
}

#[test]
fn each_message_has_an_id_and_keeps_it() {
    check(async {
        let master = Copier.bind(ANY).spawn().await.unwrap();
        let _hand = Hand.connect(master.db_address()).spawn().await.unwrap();
        let mut caller = Caller::of(&master, "caller").await;
        let mut message = Message::new("master.echo", "x");
        message.set_client("caller");
        message.set_pipeline("stream");
        message.set_stage(7);
        caller.send_message(message.clone()).await;
        for _ in 0..3 {
            let (_, answer) = caller.publication().await;
            assert_eq!(answer.cache().len(), 36);
            assert_eq!((answer.pipeline(), answer.stage()), ("stream", 7));
        }
        message.set_cache("given");
        caller.send_message(message).await;
        assert_eq!(caller.publication().await.1.cache(), "given");
    });
}

#[test]
fn fields_that_nobody_knows_survive_the_way() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Hub::new("hub")
            .bind(ANY)
            .follow(first.db_address())
            .spawn()
            .await
            .unwrap();
        let _hand = Hand
            .connect(hub.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let pull = first.address("pull_address").unwrap();
        let mut caller = Caller::at(pull, hub.address("pub_address").unwrap(), "caller").await;
        let mut message = Message::new("first.mark hub.mark", "x");
        message.set_client("caller");
        // Field 100, length-delimited.
        let unknown = b"\xa2\x06\x05hello";
        let frame = [&message.encode()[..], unknown].concat();
        caller
            .send_message(Message::decode(frame.into()).unwrap())
            .await;
        let (_, answer) = caller.publication().await;
        assert_eq!(answer.payload(), "x first hand");
        let frame = answer.encode();
        assert!(
            frame.windows(unknown.len()).any(|window| window == unknown),
            "{frame:?}"
        );
    });
}

#[test]
fn what_does_not_fit_is_told_at_the_start() {
    check(async {
        let fails = async |builder: Result<ComponentHandle, palm::Error>, expected: &[&str]| {
            let error = chain(&builder.unwrap_err());
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        };
        fails(
            First.bind("5555").spawn().await,
            &["first", "`5555`", "tcp://host:port"],
        )
        .await;
        fails(First.bind(ANY).name("a.b").spawn().await, &["`a.b`", "dot"]).await;
        fails(
            First.bind(ANY).pull_address("tcp://x").spawn().await,
            &["`tcp://x`", "port"],
        )
        .await;
        fails(Middle.bind(ANY).spawn().await, &["middle", ".follow("]).await;
        fails(
            Middle.bind(ANY).sub_address(ANY).spawn().await,
            &["middle", ".previous("],
        )
        .await;
        fails(Last.bind(ANY).spawn().await, &["last", ".stream("]).await;
        fails(
            Hand.connect("nonsense").name("hand").spawn().await,
            &["hand", "`nonsense`"],
        )
        .await;
    });
}

#[test]
fn a_call_of_no_function_is_refused_before_it_is_sent() {
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
