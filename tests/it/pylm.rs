//! What pylm, between components of ours, does to what only ours know. Needs `PALM_PYTHON`, an
//! interpreter that has pylm (`interop/setup-pylm.sh`).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use palm::CallError;
use palm::prelude::*;

use super::setup::{ANY, check, connect_through, soon};

/// A component of pylm's, as a process.
struct Pylm {
    child: Child,
    addresses: Vec<String>,
}

impl Pylm {
    fn start(arguments: &[&str]) -> Self {
        let python = std::env::var_os("PALM_PYTHON").expect("PALM_PYTHON names a Python with pylm");
        let mut command = Command::new(python);
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/components.py");
        command.args(["-u", program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let addresses = line.split_whitespace().map(str::to_owned).collect();
        Self { child, addresses }
    }

    fn db_address(&self) -> &str {
        &self.addresses[0]
    }

    fn pub_address(&self) -> &str {
        &self.addresses[1]
    }
}

impl Drop for Pylm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct First;

#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn number(&self, text: String) -> Result<String, std::num::ParseIntError> {
        Ok(text.parse::<u32>()?.to_string())
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
    fn number(&self, text: String) -> Result<String, std::num::ParseIntError> {
        Ok(text.parse::<u32>()?.to_string())
    }
}

/// Calls `steps` with a number and with what is none; the error is that of `failing`.
async fn check_calls(client: &Client, steps: &[&str], answer: &str, failing: &str) {
    let call = |payload: &'static str| client.eval(steps, payload).into_future();
    // pylm hears a subscription when it likes.
    let answered = async { while call("7").await.is_err() {} };
    soon("the first answer", answered).await;
    assert_eq!(soon("an answer", call("7")).await.unwrap(), answer);
    match soon("the error", call("x")).await {
        Err(CallError::Remote(error)) => assert_eq!(error.component, failing),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_outlives_a_step_of_pylm() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Pylm::start(&[
            "pipeline",
            "middle",
            "first",
            first.address("pub_address").unwrap(),
        ]);
        let last = Last.bind(ANY).stream(middle.pub_address(), "middle");
        let last = last.to_client(true).spawn().await.unwrap();
        let client = connect_through(&first, &last).await;
        let steps = ["first.number", "middle.mark", "last.mark"];
        check_calls(&client, &steps, "7 pylm last", "first").await;
    });
}

#[test]
fn an_error_outlives_a_worker_of_pylm() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(first.db_address());
        let hub = hub.spawn().await.unwrap();
        let _worker = Pylm::start(&["worker", hub.db_address()]);
        let client = connect_through(&first, &hub).await;
        check_calls(&client, &["first.number", "hub.mark"], "7 pylm", "first").await;
    });
}

#[test]
fn an_error_outlives_a_master_of_pylm() {
    check(async {
        let master = Pylm::start(&["master", "master"]);
        let hand = Hand.connect(master.db_address()).name("hand");
        let _hand = hand.spawn().await.unwrap();
        let client = soon("connecting", Client::connect("master", master.db_address()));
        check_calls(&client.await.unwrap(), &["master.number"], "7", "hand").await;
    });
}
