//! Calls by typed constants: how arguments and results are converted, and how mismatches are reported.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use palm::prelude::*;
use palm::{
    BoxError, CallError, ComponentHandle, Eval, FailureKind, Json, MessagePack, Protobuf,
    RemoteError, blocking,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::setup::{ANY, check, connect, connect_through, eventually, soon};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    note: Option<String>,
}

impl Order {
    fn new(item: &str, count: u32) -> Self {
        Self {
            item: item.to_owned(),
            count,
            note: None,
        }
    }

    /// Returns the value plus one.
    fn more(mut self) -> Self {
        self.count += 1;
        self
    }
}

/// A message as prost would generate it.
#[derive(Clone, PartialEq, prost::Message)]
struct Parcel {
    #[prost(string, tag = "1")]
    item: String,
    #[prost(int64, tag = "2")]
    count: i64,
    #[prost(bytes = "bytes", tag = "3")]
    content: Bytes,
}

impl Parcel {
    fn new(item: &str, count: i64) -> Self {
        Self {
            item: item.to_owned(),
            count,
            content: Bytes::from_static(b"\x00\xff"),
        }
    }
}

/// A map whose keys JSON cannot represent.
type Pairs = BTreeMap<(u8, u8), u8>;

fn pairs() -> Pairs {
    Pairs::from([((1, 2), 3)])
}

#[derive(Debug)]
struct SoldOut;

impl fmt::Display for SoldOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("sold out")
    }
}

impl Error for SoldOut {}

/// A `Result` that the macro does not recognise.
type Sale<T> = Result<T, SoldOut>;

/// An `Option` that the macro does not recognise.
type Perhaps<T> = Option<T>;

struct Shop {
    /// The arguments of calls without an answer.
    heard: UnboundedSender<u32>,
}

#[palm::server(name = "shop")]
impl Shop {
    #[palm::method]
    fn json(&self, Json(order): Json<Order>) -> Json<Order> {
        Json(order.more())
    }

    #[palm::method]
    async fn message_pack(&self, MessagePack(order): MessagePack<Order>) -> MessagePack<Order> {
        tokio::task::yield_now().await;
        MessagePack(order.more())
    }

    #[palm::method(blocking)]
    fn protobuf(&self, Protobuf(mut parcel): Protobuf<Parcel>) -> Protobuf<Parcel> {
        parcel.count += 1;
        Protobuf(parcel)
    }

    #[palm::method]
    fn option(&self, Json(order): Json<Order>) -> Option<Json<u32>> {
        Some(Json(order.count)).filter(|count| count.0 > 0)
    }

    #[palm::method]
    fn result(&self, Json(order): Json<Order>) -> Result<Option<MessagePack<u32>>, SoldOut> {
        match order.count {
            0 => Err(SoldOut),
            count => Ok(Some(MessagePack(count))),
        }
    }

    #[palm::method]
    fn alias(&self, Json(order): Json<Order>) -> Sale<Perhaps<Json<u32>>> {
        match order.count {
            0 => Err(SoldOut),
            count => Ok(Some(Json(count))),
        }
    }

    #[palm::method]
    fn iterator(
        &self,
        MessagePack(orders): MessagePack<Vec<Order>>,
    ) -> impl Iterator<Item = Json<Order>> + use<> {
        orders.into_iter().map(|order| Json(order.more()))
    }

    #[palm::method]
    fn stream(
        &self,
        Json(count): Json<u32>,
    ) -> Result<impl Stream<Item = Sale<Protobuf<Parcel>>> + Send + use<>, SoldOut> {
        if count == 0 {
            return Err(SoldOut);
        }
        let parcels = (0..count).map(|number| match number {
            1 => Err(SoldOut),
            _ => Ok(Protobuf(Parcel::new("pen", number.into()))),
        });
        Ok(stream::iter(parcels))
    }

    #[palm::method]
    fn text(&self) -> &'static str {
        "welcome"
    }

    #[palm::method]
    fn bytes(&self, text: String) -> &'static [u8] {
        if text.is_empty() { b"" } else { b"\x00\xff" }
    }

    #[palm::method]
    fn unwritable(&self) -> Json<Pairs> {
        Json(pairs())
    }

    #[palm::method]
    fn some_unwritable(&self) -> impl Iterator<Item = Json<Pairs>> + use<> {
        [Pairs::new(), pairs(), Pairs::new()].into_iter().map(Json)
    }

    #[palm::method]
    fn unreadable(&self, Json(pairs): Json<Pairs>) -> Json<usize> {
        Json(pairs.len())
    }

    #[palm::method]
    fn hears(&self, Json(count): Json<u32>) {
        self.heard.send(count).unwrap();
    }
}

async fn shop() -> (ComponentHandle, Client, UnboundedReceiver<u32>) {
    let (heard, hears) = unbounded_channel();
    let server = Shop { heard }.bind(ANY).spawn().await.unwrap();
    let client = connect("shop", &server).await;
    (server, client, hears)
}

/// Awaits the answer of a call.
async fn answer<V>(call: Eval<'_, V>) -> Result<V, CallError> {
    soon("the answer", call.into_future()).await
}

/// Returns the error that the component reports, and its text as a caller prints it.
async fn remote<V: fmt::Debug>(call: Eval<'_, V>) -> (RemoteError, String) {
    let error = answer(call).await.unwrap_err();
    let text = error.to_string();
    match error {
        CallError::Remote(error) => (error, text),
        error => panic!("not reported by the component: {error}"),
    }
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Asserts that the component still answers typed calls.
async fn goes_on(client: &Client) {
    let Json(order) = answer(client.eval(Shop::JSON, Order::new("pen", 1)))
        .await
        .unwrap();
    assert_eq!(order, Order::new("pen", 2));
}

#[test]
fn each_codec_encodes_arguments_and_decodes_results() {
    check(async {
        let (_server, client, _) = shop().await;
        let order = Order {
            note: Some("für \"dich\"\0".to_owned()),
            ..Order::new("größe", u32::MAX - 1)
        };
        let more = order.clone().more();
        // Arguments in the codec's type, borrowed and owned.
        let wrapped = Json(order.clone());
        assert_eq!(
            answer(client.eval(Shop::JSON, wrapped)).await.unwrap().0,
            more
        );
        assert_eq!(
            answer(client.eval(Shop::JSON, &order)).await.unwrap().0,
            more
        );
        let wrapped = MessagePack(order.clone());
        let call = client.eval(Shop::MESSAGE_PACK, wrapped);
        assert_eq!(answer(call).await.unwrap().0, more);
        let call = client.eval(Shop::MESSAGE_PACK, &order);
        assert_eq!(answer(call).await.unwrap().0, more);
        let call = client.eval(Shop::MESSAGE_PACK, order.clone());
        assert_eq!(answer(call).await.unwrap(), MessagePack(more.clone()));
        assert_eq!(
            answer(client.eval(Shop::JSON, order)).await.unwrap(),
            Json(more)
        );

        // A protobuf message whose fields all have their defaults is empty.
        for parcel in [Parcel::new("pen", -2), Parcel::default()] {
            let mut more = parcel.clone();
            more.count += 1;
            let more = Ok(more);
            let call = client.eval(Shop::PROTOBUF, Protobuf(parcel.clone()));
            let found = answer(call).await.map(|Protobuf(parcel)| parcel);
            assert_eq!(found.map_err(|error| error.to_string()), more);
            let call = client.eval(Shop::PROTOBUF, &parcel);
            let found = answer(call).await.map(|Protobuf(parcel)| parcel);
            assert_eq!(found.map_err(|error| error.to_string()), more);
            let call = client.eval(Shop::PROTOBUF, parcel);
            let found = answer(call).await.map(|Protobuf(parcel)| parcel);
            assert_eq!(found.map_err(|error| error.to_string()), more);
        }
    });
}

#[test]
fn caller_receives_the_inner_type_of_options_and_results() {
    check(async {
        let (_server, client, _) = shop().await;
        let (three, none) = (Order::new("pen", 3), Order::new("pen", 0));
        let count: Json<u32> = answer(client.eval(Shop::OPTION, &three)).await.unwrap();
        assert_eq!(count, Json(3));
        let count: MessagePack<u32> = answer(client.eval(Shop::RESULT, &three)).await.unwrap();
        assert_eq!(count, MessagePack(3));
        let count: Json<u32> = answer(client.eval(Shop::ALIAS, &three)).await.unwrap();
        assert_eq!(count, Json(3));

        let (error, _) = remote(client.eval(Shop::RESULT, &none)).await;
        assert_eq!(
            (error.kind, &*error.message),
            (FailureKind::Failed, "sold out")
        );
        let (error, text) = remote(client.eval(Shop::ALIAS, &none)).await;
        assert_eq!(error.kind, FailureKind::Failed);
        assert_eq!(text, "`shop.alias` failed in `shop`: sold out");
        // There is no answer, since the result is `None`.
        let error = answer(client.eval(Shop::OPTION, &none)).await;
        assert!(
            matches!(error, Err(CallError::NoAnswer { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn borrowed_arguments_and_results_become_owned() {
    check(async {
        let (_server, client, _) = shop().await;
        let text: String = answer(client.eval(Shop::TEXT, ())).await.unwrap();
        assert_eq!(text, "welcome");
        // A `&str` for an argument of type `String`.
        let bytes: Bytes = answer(client.eval(Shop::BYTES, "x")).await.unwrap();
        assert_eq!(bytes, b"\x00\xff"[..]);
        assert_eq!(answer(client.eval(Shop::BYTES, "")).await.unwrap(), "");
    });
}

#[test]
fn job_sends_and_returns_typed_values() {
    check(async {
        let (_server, client, _) = shop().await;
        let orders: Vec<_> = (0..500).map(|count| Order::new("pen", count)).collect();
        let more: Vec<_> = orders.iter().cloned().map(Order::more).collect();
        let values = async |job: palm::Job<'_, Json<Order>>| {
            let answers: Vec<_> = soon("the answers", job.expect_answers(500).collect()).await;
            let values = answers.into_iter().map(|answer| answer.unwrap().0);
            values.collect::<Vec<_>>()
        };
        // Arguments that are borrowed from a value that outlives the job, and owned ones.
        assert_eq!(values(client.job(Shop::JSON, &orders)).await, more);
        let stream = stream::iter(orders.clone());
        assert_eq!(values(client.job_stream(Shop::JSON, stream)).await, more);
        let wrapped = orders.clone().into_iter().map(Json);
        assert_eq!(values(client.job(Shop::JSON, wrapped)).await, more);

        // A call with many answers.
        let job = client.job(Shop::ITERATOR, [&orders]);
        assert_eq!(values(job).await, more);
        let job = client.job(Shop::STREAM, [3, 0]).expect_answers(4);
        let answers: Vec<_> = soon("the answers", job.collect()).await;
        let counts = answers.into_iter().map(|answer| match answer {
            Ok(Protobuf(parcel)) => parcel.count.to_string(),
            Err(error) => error.to_string(),
        });
        let failed = "`shop.stream` failed in `shop`: sold out";
        assert_eq!(counts.collect::<Vec<_>>(), ["0", failed, "2", failed]);
    });
}

#[test]
fn blocking_client_makes_typed_calls() {
    check(async {
        let (server, _, mut hears) = shop().await;
        let db_address = server.db_address().to_owned();
        let program = move || {
            let client = blocking::Client::connect("shop", &*db_address).unwrap();
            let order = Order::new("pen", 1);
            let Json(more) = client.eval(Shop::JSON, &order).unwrap();
            assert_eq!(more.count, 2);
            let text: String = client.eval(Shop::TEXT, ()).unwrap();
            assert_eq!(text, "welcome");
            let limit = super::setup::SOON;
            let parcel = client.eval_timeout(Shop::PROTOBUF, Parcel::default(), limit);
            assert_eq!(parcel.unwrap().0.count, 1);
            client.send(Shop::HEARS, 7).unwrap();
            let orders = [order.clone(), more];
            let job = client.job(Shop::MESSAGE_PACK, &orders).expect_answers(2);
            let counts = job.map(|answer| answer.unwrap().0.count);
            assert_eq!(counts.collect::<Vec<_>>(), [2, 3]);

            let error = client.eval(Shop::UNREADABLE, pairs()).unwrap_err();
            assert!(matches!(error, CallError::Encode { .. }), "{error}");
            let error = client.send(Shop::UNREADABLE, pairs()).unwrap_err();
            assert!(matches!(error, CallError::Encode { .. }), "{error}");
            let wrong = Function::<(), Json<u8>>::new("shop", "text");
            let error = client.eval(wrong, ()).unwrap_err();
            assert!(matches!(error, CallError::Decode { .. }), "{error}");
            let mut job = client.job(Shop::JSON.untyped(), ["{}"]).expect_answers(1);
            let error = job.next().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Remote(_)), "{error}");
        };
        let thread = std::thread::spawn(program);
        assert_eq!(soon("the call that is sent", hears.recv()).await, Some(7));
        eventually("the end of the program", || thread.is_finished()).await;
        thread.join().unwrap();
    });
}

#[test]
fn undecodable_payload_is_reported_with_type_and_position() {
    check(async {
        let (_server, client, _) = shop().await;
        let (json, message_pack) = (Shop::JSON, Shop::MESSAGE_PACK);
        let pack = |bytes: &[u8]| [&b"\x83\xa4item\xa1x\xa5count"[..], bytes].concat();
        let table: &[(Function, Vec<u8>, &[&str])] = &[
            (
                json.untyped(),
                b"".to_vec(),
                &["Json<Order>", "EOF", "line 1 column 0"],
            ),
            (
                json.untyped(),
                b"{\"item\": \"x\",\n \"count\": -1}".to_vec(),
                &["Json<Order>", "`-1`, expected u32", "line 2 column 12"],
            ),
            (
                json.untyped(),
                b"{\"item\":\"x\"}".to_vec(),
                &["Json<Order>", "missing field `count`", "line 1 column 12"],
            ),
            (
                json.untyped(),
                b"{\"item\":\"x\",\"count\":1} \n!".to_vec(),
                &["Json<Order>", "trailing characters", "line 2 column 1"],
            ),
            (
                json.untyped(),
                b"{\"item\":\"\xff\"}".to_vec(),
                &["Json<Order>", "unicode", "line 1 column"],
            ),
            (
                message_pack.untyped(),
                b"".to_vec(),
                &["MessagePack<Order>", "at byte 0"],
            ),
            // Truncated within the map, before a value.
            (
                message_pack.untyped(),
                pack(b""),
                &["MessagePack<Order>", "at byte 14"],
            ),
            // Text instead of a number.
            (
                message_pack.untyped(),
                pack(b"\xa1x\xc0"),
                &["MessagePack<Order>", "FixStr", "at byte 15"],
            ),
            // A length beyond the end of the payload.
            (
                message_pack.untyped(),
                b"\x83\xdb\xff\xff\xff\xff".to_vec(),
                &["MessagePack<Order>", "at byte 6"],
            ),
            (
                message_pack.untyped(),
                pack(b"\x01\xa4note\xc0!!"),
                &["MessagePack<Order>", "more bytes", "at byte 21"],
            ),
            (
                Shop::PROTOBUF.untyped(),
                b"\x10\x01\x0a\x05ab".to_vec(),
                &["Protobuf<Parcel>", "Parcel.item", "at byte 4"],
            ),
            (
                Shop::PROTOBUF.untyped(),
                b"\x0a\x02\xff\xff".to_vec(),
                &["Protobuf<Parcel>", "UTF-8", "at byte 4"],
            ),
            (
                Shop::PROTOBUF.untyped(),
                b"\x0b".to_vec(),
                &["Protobuf<Parcel>", "at byte 1"],
            ),
            (
                Shop::BYTES.untyped(),
                b"ab\xffcd".to_vec(),
                &["String", "from index 2"],
            ),
        ];
        for (function, payload, parts) in table {
            let (error, text) = remote(client.eval(*function, payload.clone())).await;
            assert_eq!(error.kind, FailureKind::Undecodable, "{text}");
            assert_eq!(error.function, function.to_string());
            contains(&text, parts);
            contains(&text, &[&format!("`{function}`"), "`shop`"]);
            goes_on(&client).await;
        }
        let payloads = ["{}", "{\"item\":\"x\",\"count\":1}"];
        let job = client.job(json.untyped(), payloads).expect_answers(2);
        let answers: Vec<_> = soon("the answers", job.collect()).await;
        assert!(matches!(answers[0], Err(CallError::Remote(_))));
        assert_eq!(
            answers[1].as_ref().unwrap(),
            r#"{"item":"x","count":2,"note":null}"#
        );
    });
}

#[test]
fn result_that_cannot_be_encoded_is_a_failure() {
    check(async {
        let (_server, client, _) = shop().await;
        let (error, text) = remote(client.eval(Shop::UNWRITABLE, ())).await;
        assert_eq!(error.kind, FailureKind::Failed);
        contains(
            &text,
            &[
                "`shop.unwritable` failed in `shop`",
                "Json<BTreeMap<(u8, u8), u8>>",
                "cannot be encoded",
                "key must be a string",
            ],
        );
        goes_on(&client).await;
        // Among many results, the failure is one of them.
        let job = client.job(Shop::SOME_UNWRITABLE, [()]).expect_answers(3);
        let answers: Vec<_> = soon("the answers", job.collect()).await;
        let written: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(written, [true, false, true]);
    });
}

#[test]
fn argument_that_cannot_be_encoded_is_not_sent() {
    check(async {
        let (server, client, _) = shop().await;
        goes_on(&client).await;
        let came = || server.metrics().part("Pull").unwrap().messages;
        let before = came();
        let fails = |error: CallError| {
            contains(
                &error.to_string(),
                &["`shop.unreadable`", "key must be a string"],
            );
            assert!(matches!(error, CallError::Encode { .. }), "{error}");
            assert!(!error.is_transient());
        };
        fails(
            answer(client.eval(Shop::UNREADABLE, pairs()))
                .await
                .unwrap_err(),
        );
        let borrowed = &pairs();
        fails(
            answer(client.eval(Shop::UNREADABLE, borrowed))
                .await
                .unwrap_err(),
        );
        fails(client.send(Shop::UNREADABLE, pairs()).await.unwrap_err());
        // It ends a job, but earlier answers are not lost.
        let mut job = client.job(Shop::UNREADABLE, [pairs(), Pairs::new()]);
        fails(soon("the error", job.next()).await.unwrap().unwrap_err());
        assert!(soon("the end", job.next()).await.is_none());
        assert_eq!(job.sent(), 0);
        drop(job);
        goes_on(&client).await;
        assert_eq!(came(), before + 1);
    });
}

#[test]
fn answer_of_an_unexpected_type_is_reported_with_the_type() {
    check(async {
        let (_server, client, _) = shop().await;
        let said = Function::<(), Json<u8>>::new("shop", "text");
        let error = answer(client.eval(said, ())).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer of `shop.text` is not a `Json<u8>`: expected value at line 1 column 1"
        );
        let CallError::Decode {
            function, expected, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (&**function, &**expected),
            ("shop.text", "Json<u8>"),
            "{error}"
        );
        assert!(!error.is_transient());

        let said = Function::<String, Json<u8>>::new("shop", "echo");
        let job = client.job(said, ["1", "256", "3"]).expect_answers(3);
        let answers: Vec<_> = soon("the answers", job.collect()).await;
        let [Ok(Json(1)), Err(CallError::Decode { .. }), Ok(Json(3))] = answers[..] else {
            panic!("{answers:?}");
        };
        goes_on(&client).await;
    });
}

#[test]
fn function_without_a_result_runs_when_it_is_called() {
    check(async {
        let (_server, client, mut hears) = shop().await;
        for count in 0..100 {
            let sending = client.send(Shop::HEARS, count);
            soon("capacity to send", sending).await.unwrap();
            assert_eq!(soon("the call", hears.recv()).await, Some(count));
        }
        // An answer that the caller does not wait for is discarded.
        let order = Order::new("pen", 1);
        let sending = client.send(Shop::JSON, &order);
        soon("capacity to send", sending).await.unwrap();
        goes_on(&client).await;
    });
}

struct Price;

/// Steps whose argument is the result of a shop.
#[palm::pipeline(name = "price")]
impl Price {
    #[palm::method]
    fn total(&self, Json(order): Json<Order>) -> Result<Json<u32>, Displayed> {
        let total = order.count.checked_mul(10);
        total.map(Json).ok_or(Displayed("too many"))
    }

    #[palm::method]
    fn raw(&self, payload: Bytes) -> Bytes {
        payload
    }

    #[palm::method]
    fn size(&self) -> String {
        "unknown".to_owned()
    }
}

#[test]
fn steps_with_matching_types_run_in_sequence() {
    check(async {
        let (heard, _hears) = unbounded_channel();
        let shop = Shop { heard }.bind(ANY).pipelined(true);
        let shop = shop.spawn().await.unwrap();
        let price = Price.bind(ANY).follow(shop.db_address()).to_client(true);
        let price = price.spawn().await.unwrap();
        let client = connect_through(&shop, &price).await;

        let route = Shop::JSON.then(Price::TOTAL);
        assert_eq!(route.to_string(), "shop.json price.total");
        let order = Order::new("pen", 3);
        let total: Json<u32> = answer(client.eval(&route, &order)).await.unwrap();
        assert_eq!(total, Json(40));
        let orders = (0..100).map(|count| Order::new("pen", count));
        let job = client.job(&route, orders).expect_answers(100);
        let totals: Vec<_> = soon("the answers", job.collect()).await;
        let totals = totals.into_iter().map(|total| total.unwrap().0);
        assert!(totals.eq((1..=100).map(|count| count * 10)));

        // As bytes, and by a step that does not decode its argument.
        let bytes: Bytes = answer(client.eval(Shop::JSON.then(Price::RAW), &order))
            .await
            .unwrap();
        assert_eq!(bytes, r#"{"item":"pen","count":4,"note":null}"#);
        let size: String = answer(client.eval(Shop::PROTOBUF.then(Price::SIZE), Parcel::default()))
            .await
            .unwrap();
        assert_eq!(size, "unknown");

        // The error names the step that fails.
        let (error, text) = remote(client.eval(&route, Order::new("pen", 1 << 30))).await;
        assert_eq!((error.step, error.kind), (1, FailureKind::Failed));
        assert_eq!(text, "`price.total` failed in `price`: too many");
        let (error, text) = remote(client.eval("shop.echo price.total", "[]")).await;
        assert_eq!((error.step, error.kind), (1, FailureKind::Undecodable));
        contains(&text, &["`price.total`", "Json<Order>", "line 1 column"]);
        // The answer of the last step has another type than declared.
        let said = Function::<Json<Order>, Json<u8>>::new("price", "raw");
        let error = answer(client.eval(Shop::JSON.then(said), &order)).await;
        contains(
            &error.unwrap_err().to_string(),
            &["`shop.json price.raw`", "Json<u8>"],
        );
    });
}

#[test]
fn function_constant_is_called_on_another_server() {
    check(async {
        let (_shop, client, _) = shop().await;
        let (heard, mut hears) = unbounded_channel();
        let other = Shop { heard }.bind(ANY).name("other").pipelined(true);
        let other = other.spawn().await.unwrap();
        let price = Price.bind(ANY).follow(other.db_address());
        let price = price.name("discount").to_client(true);
        let price = price.spawn().await.unwrap();
        let other_client = connect_through(&other, &price).await;

        let order = Order::new("pen", 3);
        let route = Shop::JSON.on("other").then(Price::TOTAL.on("discount"));
        let Json(total) = answer(other_client.eval(&route, &order)).await.unwrap();
        assert_eq!(total, 40);
        let sending = other_client.send(Shop::HEARS.on("other"), 7);
        soon("capacity to send", sending).await.unwrap();
        assert_eq!(soon("the call", hears.recv()).await, Some(7));
        // Without the check, the wrong component is called, and reports it.
        let (error, _) = remote(other_client.eval(Shop::JSON, &order)).await;
        assert_eq!(
            (error.kind, &*error.component),
            (FailureKind::UnknownFunction, "other")
        );
        let (error, _) = remote(client.eval(&route, &order)).await;
        assert_eq!(
            (error.kind, &*error.component),
            (FailureKind::UnknownFunction, "shop")
        );
        goes_on(&client).await;

        let error = answer(client.eval(Shop::JSON.on("no name"), &order)).await;
        assert!(matches!(error, Err(CallError::Steps(_))), "{error:?}");
    });
}

/// An error type with a text only.
struct Displayed(&'static str);

impl fmt::Display for Displayed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// An error type that converts into an error of palm, and has no text.
struct IntoPalm;

impl From<IntoPalm> for palm::Error {
    fn from(IntoPalm: IntoPalm) -> Self {
        CallError::Closed.into()
    }
}

/// An error with causes.
#[derive(Debug)]
struct Deep(u32);

impl fmt::Display for Deep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "level {}", self.0)
    }
}

impl Error for Deep {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static DEEPER: [Deep; 3] = [Deep(0), Deep(1), Deep(2)];
        let deeper = self.0.checked_sub(1)?;
        Some(&DEEPER[deeper as usize])
    }
}

struct Failing;

#[palm::server(name = "failing")]
impl Failing {
    #[palm::method]
    fn displayed(&self) -> Result<String, Displayed> {
        Err(Displayed("only a text"))
    }

    #[palm::method]
    async fn displayed_nothing(&self) -> Result<(), Displayed> {
        tokio::task::yield_now().await;
        Err(Displayed("only a text"))
    }

    #[palm::method(blocking)]
    fn borrowed(&self) -> Result<Option<String>, &'static str> {
        Err("only a text")
    }

    #[palm::method]
    fn becomes_palm(&self) -> Result<String, IntoPalm> {
        Err(IntoPalm)
    }

    #[palm::method]
    fn palm(&self) -> palm::Result<String> {
        Err(CallError::Closed.into())
    }

    #[palm::method]
    fn deep(&self) -> Result<String, Deep> {
        Err(Deep(3))
    }

    #[palm::method]
    async fn boxed(&self) -> Result<String, BoxError> {
        Err(Deep(3))?
    }

    /// Returns an error that cannot be sent to another thread.
    #[palm::method]
    async fn boxed_here(&self) -> Result<String, Box<dyn Error>> {
        Err(Deep(3))?
    }

    #[palm::method]
    fn displayed_items(&self) -> impl Iterator<Item = Result<String, Displayed>> + use<> {
        [Err(Displayed("only a text"))].into_iter()
    }

    #[palm::method]
    fn becomes_palm_items(&self) -> impl Stream<Item = Result<Json<u8>, IntoPalm>> + Send + use<> {
        stream::iter([Err(IntoPalm)])
    }
}

#[test]
fn method_fails_with_any_error_that_has_a_text() {
    check(async {
        let server = Failing.bind(ANY).spawn().await.unwrap();
        let client = connect("failing", &server).await;
        let closed = CallError::Closed.to_string();
        let levels = "level 3: level 2: level 1: level 0";
        for (function, message) in [
            (Failing::DISPLAYED.untyped(), "only a text"),
            (Failing::DISPLAYED_NOTHING.untyped(), "only a text"),
            (Failing::DISPLAYED_ITEMS.untyped(), "only a text"),
            (Failing::BORROWED.untyped(), "only a text"),
            (Failing::BECOMES_PALM.untyped(), &closed),
            (Failing::BECOMES_PALM_ITEMS.untyped(), &closed),
            (Failing::PALM.untyped(), &closed),
            (Failing::DEEP.untyped(), levels),
            (Failing::BOXED.untyped(), levels),
        ] {
            let (error, _) = remote(client.eval(function, "")).await;
            assert_eq!(error.kind, FailureKind::Failed, "{error}");
            assert_eq!(error.message, message, "{error}");
        }
        // Only the text is known, since an error that is not `Send` cannot be a `BoxError`.
        let (error, _) = remote(client.eval(Failing::BOXED_HERE, ())).await;
        assert_eq!(error.kind, FailureKind::Failed, "{error}");
        contains(&error.message, &["level 3"]);
    });
}
