//! The workers of `examples/other_languages`: at a master of palm, alongside a worker of palm, and at a master written
//! by hand, for messages that palm would not send. `interop/other_languages.py` builds them first.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use futures_util::TryStreamExt;
use palm::prelude::*;
use palm::socket::{Pull, Push, Reply};
use palm::{CallError, ComponentHandle, FailureKind, Message};

use super::process::Process;
use super::setup::{ANY, address, check, connect, options, soon, starts_again, unbound};

/// The field `error` of a message, with a kind and no text.
const ERROR: &[u8] = b"\x82\x01\x02\x08\x01";

/// An unknown field.
const UNKNOWN: &[u8] = b"\xf8\x3f\x05";

/// Starts a foreign worker, whose name is its language.
fn start(language: &str, db_address: &str) -> Process {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/other_languages");
    let mut command = match language {
        "cpp" => Command::new(format!("{folder}/build/worker")),
        "python" => {
            let mut python = Command::new(format!("{folder}/build/venv/bin/python"));
            python.arg(format!("{folder}/worker.py"));
            python
        }
        other => panic!("there is no worker in {other}"),
    };
    command.args([language, db_address]);
    Process::spawn(language, command)
}

/// Stops a worker, which has to end without an error.
async fn stop(mut worker: Process) {
    worker.terminate().unwrap();
    let status = worker.ended().await;
    assert!(status.success(), "{status}");
}

struct Ours;

#[palm::worker(server = "server")]
impl Ours {
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        format!("{} processed {message}", context.name())
    }
}

/// Makes jobs until each of `workers` has answered, and asserts that no other worker has.
async fn until_all_answered(client: &Client, workers: &[&str]) {
    let expected: BTreeSet<_> = workers
        .iter()
        .map(|worker| format!("{worker} processed a message"))
        .collect();
    let mut seen = BTreeSet::new();
    let all = async {
        while seen != expected {
            let answers = client.job(Ours::FOO, ["a message"; 20]).expect_answers(20);
            seen.extend(answers.try_collect::<Vec<_>>().await.unwrap());
            assert!(seen.is_subset(&expected), "{seen:?}");
        }
    };
    soon("an answer of each worker", all).await;
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn foreign_workers_share_the_tasks_with_a_palm_worker() {
    check(async {
        // They start before the master, and send requests until it answers.
        let db_address = unbound();
        let cpp = start("cpp", &db_address);
        let python = start("python", &db_address);
        let master = Master::new("server").bind(db_address.as_str());
        let master = master.spawn().await.unwrap();
        let _ours = Ours.connect(&*db_address).name("rust").spawn().await;
        let client = connect("server", &master).await;
        until_all_answered(&client, &["cpp", "python", "rust"]).await;
        stop(cpp).await;
        until_all_answered(&client, &["python", "rust"]).await;
        stop(python).await;
    });
}

async fn master_at(addresses: &[String; 5]) -> ComponentHandle {
    let [db, pull, publish, worker_pull, worker_push] = addresses;
    let start = async || {
        let master = Master::new("server").bind(db.as_str());
        let master = master
            .pull_address(pull.as_str())
            .pub_address(publish.as_str());
        let master = master.worker_pull_address(worker_pull.as_str());
        let master = master.worker_push_address(worker_push.as_str());
        master.spawn().await
    };
    starts_again(start).await
}

async fn come_back_to_a_master(language: &str) {
    let addresses = [(); 5].map(|()| unbound());
    let worker = start(language, &addresses[0]);
    for _ in 0..2 {
        let master = master_at(&addresses).await;
        let client = connect("server", &master).await;
        until_all_answered(&client, &[language]).await;
        drop(client);
        master.shutdown().await.unwrap();
    }
    stop(worker).await;
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn cpp_worker_reconnects_to_a_restarted_master() {
    check(come_back_to_a_master("cpp"));
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn python_worker_reconnects_to_a_restarted_master() {
    check(come_back_to_a_master("python"));
}

async fn report_errors(language: &str) {
    let master = Master::new("server").bind(ANY).spawn().await.unwrap();
    let worker = start(language, master.db_address());
    let client = connect("server", &master).await;
    let calls = ["server.foo", "server.missing", "server.foo"];
    for function in calls {
        let mut answers = client.job(function, ["x"]).expect_answers(1);
        let answer = soon("an answer", answers.next()).await.unwrap();
        if function == "server.foo" {
            assert_eq!(answer.unwrap(), format!("{language} processed x"));
            continue;
        }
        let Err(CallError::Remote(error)) = answer else {
            panic!("an unknown function answered {answer:?}");
        };
        assert_eq!(error.kind, FailureKind::UnknownFunction);
        assert_eq!(error.component, language);
        assert_eq!(error.function, "server.missing");
        assert_eq!(error.message, "the worker has no such function");
    }
    stop(worker).await;
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn cpp_worker_reports_errors() {
    check(report_errors("cpp"));
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn python_worker_reports_errors() {
    check(report_errors("python"));
}

/// A master by hand, and a foreign worker.
struct ByHand {
    worker: Process,
    push: Push,
    pull: Pull,
}

impl ByHand {
    async fn with(language: &str) -> Self {
        let options = options();
        let (mut db, db_address) = Reply::bind(&address(ANY), &options).await.unwrap();
        let (push, push_address) = Push::bind(&address(ANY), &options).await.unwrap();
        let (pull, pull_address) = Pull::bind(&address(ANY), &options).await.unwrap();
        let worker = start(language, &db_address.to_string());
        for number in 0..3 {
            let (mut frames, responder) = soon("a request", db.recv()).await.unwrap();
            let request = Message::decode(frames.pop().unwrap()).unwrap();
            assert_eq!(request.function(), "_.get");
            let value = match &**request.payload() {
                // Without a reply, the worker must repeat its request.
                _ if number == 0 => continue,
                b"worker_push_address" => push_address.to_string(),
                b"worker_pull_address" => pull_address.to_string(),
                other => panic!("a worker requests {other:?}"),
            };
            responder.reply(value.into()).unwrap();
        }
        // The socket sends the last reply before it is closed.
        db.close(Duration::from_secs(1)).await;
        Self { worker, push, pull }
    }

    async fn send(&self, parts: &[&[u8]]) {
        let message = parts.concat().into();
        soon("capacity to send", self.push.send(message))
            .await
            .unwrap();
    }

    async fn recv(&mut self) -> Bytes {
        let mut answers = Vec::new();
        let received = self.pull.recv_many(&mut answers, 1);
        soon("an answer", received).await.unwrap();
        answers.pop().unwrap()
    }
}

fn message(function: &str, stage: i64) -> Message {
    let mut message = Message::new(function, "x");
    message.set_pipeline("pipeline");
    message.set_client("client/7");
    message.set_cache("cache");
    message.set_stage(stage);
    message
}

async fn keep_to_the_contract(language: &str) {
    let mut master = ByHand::with(language).await;
    // Malformed messages and invalid text are not answered.
    for malformed in [b"\xff\xff".as_slice(), b"\x0a\x7f", b"\x22\x01\xff"] {
        master.send(&[malformed]).await;
    }

    // The payload changes, and all other fields stay as they were.
    let done = format!("{language} processed x");
    for (function, stage) in [("other.foo", 0), ("_.foo", 7), ("a.b c.foo d.e", 1)] {
        let task = message(function, stage);
        master.send(&[&task.encode(), UNKNOWN]).await;
        let answer = master.recv().await;
        let expected = [&task.with_payload(done.clone()).encode(), UNKNOWN].concat();
        assert_eq!(answer, expected, "{function} {stage}");
    }

    // Unknown function names of every form.
    let functions = [
        ("", 0),
        ("foo", 0),
        ("a.b.foo", 0),
        ("a.", 0),
        ("a.foo ", 1),
        ("a.foo b.foo", -1),
        ("a.foo b.foo", 2),
    ];
    for (function, stage) in functions {
        let task = message(function, stage);
        master.send(&[&task.encode(), UNKNOWN]).await;
        let answer = master.recv().await;
        let unchanged = [&task.with_payload("0").encode(), UNKNOWN].concat();
        assert!(answer.starts_with(&unchanged), "{function} {stage}");
        let error = Message::decode(answer).unwrap().error().unwrap();
        assert_eq!(error.kind, FailureKind::UnknownFunction);
        assert_eq!((error.component.as_str(), error.step), (language, stage));
    }

    // A message that carries an error is passed on unchanged; a message with a similar field is called.
    let task = message("a.foo", 0);
    master.send(&[&task.encode(), ERROR]).await;
    assert_eq!(master.recv().await, [&task.encode(), ERROR].concat());
    let no_error = b"\x80\x01\x05";
    master.send(&[&task.encode(), no_error]).await;
    let answer = Message::decode(master.recv().await).unwrap();
    assert_eq!(answer.payload(), &done);

    stop(master.worker).await;
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn cpp_worker_keeps_the_wire_contract() {
    check(keep_to_the_contract("cpp"));
}

#[test]
#[ignore = "needs the workers that interop/other_languages.py builds"]
fn python_worker_keeps_the_wire_contract() {
    check(keep_to_the_contract("python"));
}
