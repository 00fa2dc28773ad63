//! Methods of every signature: arguments, results and contexts.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use palm::prelude::*;
use palm::{BoxError, CacheError};

use super::super::setup::{ANY, Caller, check};

/// A user-defined type that is an argument and a result.
struct Celsius(f64);

impl FromPayload for Celsius {
    type Error = BoxError;

    fn from_payload(payload: Bytes) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(&payload)?.trim().parse()?))
    }
}

impl IntoPayload for Celsius {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(format!("{:.1} °C", self.0).into())
    }
}

#[derive(Debug)]
struct TooHot;

impl fmt::Display for TooHot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("too hot")
    }
}

impl std::error::Error for TooHot {}

/// Methods in every form that users may write.
#[derive(Default)]
struct Forms {
    calls: u64,
}

#[palm::server(name = "forms")]
impl Forms {
    #[palm::method]
    fn bytes(&self, payload: Bytes) -> Bytes {
        payload
    }

    #[palm::method]
    fn vec(&self, payload: Vec<u8>) -> Vec<u8> {
        payload.into_iter().rev().collect()
    }

    #[palm::method]
    fn string(&self, text: String) -> String {
        text.to_uppercase()
    }

    #[palm::method]
    fn own_type(&self, Celsius(degrees): Celsius) -> Result<Celsius, TooHot> {
        if degrees > 100.0 {
            Err(TooHot)
        } else {
            Ok(Celsius(degrees))
        }
    }

    #[palm::method]
    fn unit(&self, (): ()) -> &'static str {
        "looked at nothing"
    }

    #[palm::method]
    fn no_argument(&self) -> &'static str {
        "took nothing"
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn perhaps(&self, text: String) -> Option<String> {
        Some(text).filter(|text| !text.is_empty())
    }

    #[palm::method]
    fn perhaps_or_error(&self, text: String) -> Result<Option<String>, TooHot> {
        match &*text {
            "error" => Err(TooHot),
            "none" => Ok(None),
            _ => Ok(Some(text)),
        }
    }

    #[palm::method]
    fn nothing_or_error(&self, text: String) -> Result<(), TooHot> {
        if text == "error" { Err(TooHot) } else { Ok(()) }
    }

    #[palm::method]
    fn list(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    #[palm::method]
    fn lazy(&self, text: String) -> impl Iterator<Item = String> + use<> {
        (0..3).map(move |number| format!("{text}{number}"))
    }

    #[palm::method]
    fn list_or_error(
        &self,
        text: String,
    ) -> Result<impl Iterator<Item = Result<Option<String>, TooHot>> + use<>, TooHot> {
        if text == "error" {
            return Err(TooHot);
        }
        Ok([
            Ok(Some(text)),
            Err(TooHot),
            Ok(None),
            Ok(Some("last".to_owned())),
        ]
        .into_iter())
    }

    #[palm::method]
    fn panics_in_the_middle(&self) -> impl Iterator<Item = &'static str> + use<> {
        ["one", "two", "panic"]
            .into_iter()
            .inspect(|item| assert_ne!(*item, "panic", "on purpose"))
    }

    #[palm::method]
    fn stream(&self, text: String) -> impl Stream<Item = String> + Send + use<> {
        stream::iter(0..3).then(move |number| {
            let text = text.clone();
            async move {
                tokio::task::yield_now().await;
                format!("{text}{number}")
            }
        })
    }

    #[palm::method]
    async fn later(&self, text: String) -> String {
        tokio::task::yield_now().await;
        text + " later"
    }

    #[palm::method]
    async fn list_later(&self, text: String) -> impl Iterator<Item = String> + use<> {
        tokio::task::yield_now().await;
        [text.clone(), text].into_iter()
    }

    #[palm::method(blocking)]
    fn blocks(&self, text: String) -> String {
        text + " " + std::thread::current().name().unwrap_or("?")
    }

    #[palm::method(blocking)]
    fn blocks_and_lists(&self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 3)
    }

    #[palm::method]
    fn counts(&mut self) -> String {
        self.calls += 1;
        self.calls.to_string()
    }

    #[palm::method]
    async fn counts_later(&mut self) -> String {
        let before = self.calls;
        tokio::task::yield_now().await;
        self.calls = before + 1;
        self.calls.to_string()
    }

    #[palm::method(blocking)]
    fn counts_and_blocks(&mut self) -> String {
        self.calls += 1;
        self.calls.to_string()
    }

    #[palm::method]
    fn counts_thrice(&mut self) -> impl Iterator<Item = String> {
        (0..3).map(|_| {
            self.calls += 1;
            self.calls.to_string()
        })
    }

    #[palm::method(name = "r#try")]
    fn renamed(&self) -> &'static str {
        "renamed"
    }

    #[palm::method]
    fn asks(&self, text: String, context: Context) -> String {
        let message = context.message();
        let names = (
            context.name(),
            message.function(),
            message.client(),
            message.stage(),
        );
        format!("{text} {names:?}")
    }

    #[palm::method]
    async fn stores(&self, text: String, context: Context) -> Result<Option<Bytes>, CacheError> {
        context.cache().set("stored", text).await?;
        context.cache().get("stored").await
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as requested");
    }

    #[palm::method]
    async fn panics_later(&self) -> String {
        tokio::task::yield_now().await;
        std::panic::panic_any(42)
    }

    #[palm::method(blocking)]
    fn panics_and_blocks(&self) -> String {
        panic!("as requested");
    }

    #[palm::method]
    fn panics_alone(&mut self) -> String {
        panic!("as requested");
    }

    #[palm::method]
    fn fails(&self) -> Result<String, BoxError> {
        Err("as requested".into())
    }
}

/// Calls `function`, and returns all of its answers: those before the answer of an `echo`, since a server keeps the
/// order.
async fn answers(caller: &mut Caller, function: &str, payload: impl Into<Bytes>) -> Vec<Bytes> {
    caller.send(&format!("forms.{function}"), payload).await;
    caller.send("forms.echo", "the end").await;
    let mut answers = Vec::new();
    loop {
        match caller.answer().await {
            end if end == "the end" => return answers,
            answer => answers.push(answer),
        }
    }
}

#[test]
fn methods_of_every_signature_return_their_results() {
    check(async {
        let server = Forms::default().bind(ANY).spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        let table: &[(&str, &[u8], &[&str])] = &[
            ("bytes", b"x", &["x"]),
            ("bytes", b"", &[""]),
            ("vec", b"abc", &["cba"]),
            ("string", "größe".as_bytes(), &["GRÖSSE"]),
            ("string", b"", &[""]),
            ("own_type", b"36.6", &["36.6 °C"]),
            ("own_type", b"200", &["0"]),
            ("unit", b"\xff", &["looked at nothing"]),
            ("no_argument", b"\xff", &["took nothing"]),
            ("nothing", b"x", &[]),
            ("perhaps", b"x", &["x"]),
            ("perhaps", b"", &[]),
            ("perhaps_or_error", b"x", &["x"]),
            ("perhaps_or_error", b"none", &[]),
            ("perhaps_or_error", b"error", &["0"]),
            ("nothing_or_error", b"x", &[]),
            ("nothing_or_error", b"error", &["0"]),
            ("list", b"a b c", &["a", "b", "c"]),
            ("list", b"", &[]),
            ("lazy", b"x", &["x0", "x1", "x2"]),
            ("list_or_error", b"x", &["x", "0", "last"]),
            ("list_or_error", b"error", &["0"]),
            ("panics_in_the_middle", b"", &["one", "two", "0"]),
            ("stream", b"x", &["x0", "x1", "x2"]),
            ("later", b"x", &["x later"]),
            ("list_later", b"x", &["x", "x"]),
            (
                "blocks",
                b"x",
                &["x methods::signatures::methods_of_every_signature_return_their_results"],
            ),
            ("blocks_and_lists", b"x", &["x", "x", "x"]),
            ("counts", b"", &["1"]),
            ("counts_later", b"", &["2"]),
            ("counts_and_blocks", b"", &["3"]),
            ("counts_thrice", b"", &["4", "5", "6"]),
            ("renamed", b"", &["0"]),
            (
                "asks",
                b"x",
                &["x (\"forms\", \"forms.asks\", \"caller\", 0)"],
            ),
            ("stores", b"x", &["x"]),
            // A failure is answered with `0`, and the component continues.
            ("panics", b"", &["0"]),
            ("panics_later", b"", &["0"]),
            ("panics_and_blocks", b"", &["0"]),
            ("panics_alone", b"", &["0"]),
            ("fails", b"", &["0"]),
            ("no_such_function", b"", &["0"]),
            ("string", b"\xff", &["0"]),
            ("own_type", b"warm", &["0"]),
            ("counts", b"", &["7"]),
        ];
        for (function, payload, expected) in table {
            let found = answers(&mut caller, function, *payload).await;
            assert_eq!(found, *expected, "{function}({payload:?})");
        }
    });
}

#[test]
fn function_constants_name_the_methods() {
    assert_eq!(Forms::COUNTS_THRICE.to_string(), "forms.counts_thrice");
    assert_eq!(Forms::RENAMED.name(), "r#try");
    assert_eq!(Forms::RENAMED.server(), "forms");
}
