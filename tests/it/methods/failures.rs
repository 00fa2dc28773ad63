//! Methods that fail, or exceed their time limit.

use std::fmt;

use palm::prelude::*;

use super::super::setup::{ANY, Caller, check, connect, soon};

/// An error whose `Display` panics.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not printable")
    }
}

impl std::error::Error for Unprintable {}

struct Fragile;

#[palm::server(name = "fragile")]
impl Fragile {
    #[palm::method]
    fn fails(&self) -> Result<String, Unprintable> {
        Err(Unprintable)
    }

    #[palm::method]
    async fn fails_later(&self) -> Result<String, Unprintable> {
        tokio::task::yield_now().await;
        Err(Unprintable)
    }
}

async fn fails_and_goes_on(function: &str) {
    let server = Fragile.bind(ANY).spawn().await.unwrap();
    let mut caller = Caller::new(&server, "caller").await;
    caller.send(function, "").await;
    caller.send("fragile.echo", "still there").await;
    let answers = tokio::select! {
        answers = soon("the answers", caller.answers(2)) => answers,
        ended = server.join() => panic!("the server has ended: {ended:?}"),
    };
    assert_eq!(answers, ["0", "still there"]);
}

#[test]
fn error_whose_display_panics_is_reported_as_a_failure() {
    check(fails_and_goes_on("fragile.fails"));
}

#[test]
fn error_whose_display_panics_after_an_await_is_reported_as_a_failure() {
    check(fails_and_goes_on("fragile.fails_later"));
}

struct Overrun;

#[palm::server(name = "overrun")]
impl Overrun {
    #[palm::method(max_runtime_ms = 50)]
    async fn waits(&self) -> String {
        std::future::pending().await
    }

    #[palm::method(max_runtime_ms = 10000)]
    async fn is_quick(&self) -> String {
        "done".to_owned()
    }
}

#[test]
fn call_that_exceeds_max_runtime_fails() {
    check(async {
        let server = Overrun.bind(ANY).spawn().await.unwrap();
        let client = connect("overrun", &server).await;
        let answer: String = client.eval(Overrun::IS_QUICK, ()).await.unwrap();
        assert_eq!(answer, "done");
        let error = client.eval(Overrun::WAITS, ()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`overrun.waits` did not finish in time in `overrun`: it exceeded its maximum runtime of 50ms"
        );
    });
}
