//! Hooks: `scatter`, `gather` and `handle_stream` of servers, masters and hubs, and which fields they keep.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use palm::FailureKind;
use palm::prelude::*;

use super::super::setup::{ANY, Caller, check, connect_through, soon};
use super::{First, Hand};

/// Publishes odd and even messages under different topics.
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
fn handle_stream_sets_topic_and_message_of_publications() {
    check(async {
        let server = Tee::default().bind(ANY).spawn().await.unwrap();
        let mut odd = Caller::new(&server, "odd").await;
        let mut even = Caller::new(&server, "even").await;
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

/// All hooks of a master, with the state of its type.
#[derive(Default)]
struct Shaper {
    scattered: u64,
    gathered: Vec<Bytes>,
}

#[palm::master(name = "master")]
impl Shaper {
    /// Yields as many copies as the payload says, each with its number.
    #[palm::scatter]
    fn copies(&mut self, message: Message) -> Result<Vec<Message>, std::num::ParseIntError> {
        let copies: u64 = String::from_utf8_lossy(message.payload()).parse()?;
        self.scattered += copies;
        let copy = |number| message.clone().with_payload(format!("copy {number}"));
        Ok((0..copies).map(copy).collect())
    }

    /// Joins each pair of results.
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
fn scatter_and_gather_determine_the_messages_that_are_sent() {
    check(async {
        let master = Shaper::default().bind(ANY).spawn().await.unwrap();
        let _hand = Hand
            .connect(master.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::new(&master, "pairs").await;
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
        // A failure is answered immediately, and is not paired.
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

/// The same hooks with streams and iterators, in a hub.
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
fn hooks_of_a_hub_shape_its_stream() {
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

/// Yields messages unchanged.
struct Copier;

#[palm::master(name = "master")]
impl Copier {
    #[palm::scatter]
    fn three(&self, message: Message) -> [Message; 3] {
        [message.clone(), message.clone(), message]
    }
}

#[test]
fn message_keeps_its_id_through_a_component() {
    check(async {
        let master = Copier.bind(ANY).spawn().await.unwrap();
        let _hand = Hand.connect(master.db_address()).spawn().await.unwrap();
        let mut caller = Caller::new(&master, "caller").await;
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
        message.set_cache("preset");
        caller.send_message(message).await;
        assert_eq!(caller.publication().await.1.cache(), "preset");
    });
}

#[test]
fn unknown_fields_pass_through_components() {
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
