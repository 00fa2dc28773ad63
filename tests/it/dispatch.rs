//! How a master assigns tasks: workers with different functions, functions that no worker has, and poison messages.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use palm::prelude::*;
use palm::socket::{Pull, Push};
use palm::testing::Cluster;
use palm::{CallError, ComponentHandle, FailureKind, Message};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::Process;
use super::setup::{ANY, ANY_NAME, address, check, connect, finally, options, paused, soon, work};

#[derive(Clone, Copy)]
struct Images;

#[palm::worker(server = "master")]
impl Images {
    #[palm::method]
    async fn render(&self, text: String) -> String {
        work(2).await;
        text
    }
}

#[derive(Clone, Copy)]
struct Texts;

#[palm::worker(server = "master")]
impl Texts {
    #[palm::method]
    fn parse(&self, text: String) -> String {
        text
    }
}

async fn master(at: &str) -> ComponentHandle {
    Master::new("master").bind(at).spawn().await.unwrap()
}

#[test]
fn workers_with_different_functions_receive_only_calls_that_they_can_run() {
    paused(async {
        let cluster = Cluster::new()
            .inproc()
            .master(Master::new("master"))
            .worker(Images)
            .worker(Texts)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        for _ in 0..10 {
            // Each twice, so that round-robin assignment cannot be right by accident.
            for function in ["render", "render", "parse", "parse", "echo"] {
                let eval = client.eval(format!("master.{function}"), "x");
                assert_eq!(eval.await.unwrap(), "x", "{function}");
            }
        }
        let jobs = ["master.render", "master.parse"].map(|function| {
            let job = client.job(function, (0..300).map(|it| it.to_string()));
            job.collect::<Vec<_>>()
        });
        for answers in soon("the jobs", join_all(jobs)).await {
            assert_eq!(answers.len(), 300);
            assert!(answers.iter().all(Result::is_ok));
        }
    });
}

#[test]
fn function_that_is_rolled_out_under_load_fails_no_call() {
    paused(async {
        let master = master(ANY_NAME).await;
        let old = Images.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let load = client.job("master.render", (0..600).map(|it| it.to_string()));
        let load = load.collect::<Vec<_>>();
        let new = async {
            // No worker has the function yet.
            let call = client.eval("master.parse", "x").into_future();
            let mut call = std::pin::pin!(call);
            let early = tokio::time::timeout(Duration::from_millis(300), &mut call).await;
            assert!(early.is_err(), "{early:?}");
            let new = Texts.connect(master.db_address()).spawn().await.unwrap();
            assert_eq!(call.await.unwrap(), "x");
            for _ in 0..50 {
                assert_eq!(client.eval("master.parse", "x").await.unwrap(), "x");
            }
            new
        };
        let (load, new) = soon("all answers", async { tokio::join!(load, new) }).await;
        assert_eq!(load.len(), 600);
        assert!(load.iter().all(Result::is_ok));
        // The only worker that has the function is replaced, and calls wait for the next one.
        new.shutdown().await.unwrap();
        let call = client.eval("master.parse", "y").into_future();
        let next = async {
            work(1300).await;
            Texts.connect(master.db_address()).spawn().await.unwrap()
        };
        let (answer, _next) = tokio::join!(call, next);
        assert_eq!(answer.unwrap(), "y");
        drop(old);
    });
}

#[test]
fn calls_of_a_function_whose_workers_are_gone_do_not_keep_out_others() {
    /// As many calls of 1 MiB as one client may have waiting, and as many clients as reach the limit for functions
    /// without a worker.
    const CALLS: usize = 8;
    const CLIENTS: usize = 6;
    paused(async {
        let master = master(ANY_NAME).await;
        let images = Images.connect(master.db_address()).spawn().await.unwrap();
        let _texts = Texts.connect(master.db_address()).spawn().await.unwrap();
        let other = connect("master", &master).await;
        assert_eq!(other.eval("master.render", "x").await.unwrap(), "x");
        soon("the end", images.shutdown()).await.unwrap();

        let mut waiting = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = connect("master", &master).await;
            for _ in 0..CALLS {
                let client = client.clone();
                let text = "x".repeat(1 << 20);
                waiting.spawn(async move { client.eval("master.render", text).await });
            }
        }
        while master.report().await.tasks.messages < (CLIENTS * CALLS) as u64 {
            work(10).await;
        }
        let Err(CallError::Remote(error)) = other.eval("master.render", "x").await else {
            panic!("the limit is reached");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        let expected = "no worker that has `render` is connected, and 48 calls wait";
        assert!(error.message.contains(expected), "{error}");
        assert_eq!(other.eval("master.parse", "x").await.unwrap(), "x");

        let _images = Images.connect(master.db_address()).spawn().await.unwrap();
        let answers = finally("the waiting calls", waiting.join_all()).await;
        assert!(answers.iter().all(Result::is_ok));
    });
}

#[test]
fn function_that_no_worker_has_fails_with_the_registered_names() {
    paused(async {
        let cluster = Cluster::new()
            .inproc()
            .master(Master::new("master"))
            .worker(Images)
            .worker(Texts)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        for (function, hint) in [
            ("rendr", "no worker has `rendr`; did you mean `render`?"),
            (
                "colour",
                "no worker has `colour`; there are `echo`, `parse`, `render`",
            ),
        ] {
            let since = Instant::now();
            let error = client.eval(format!("master.{function}"), "x").await;
            let CallError::Remote(error) = error.unwrap_err() else {
                panic!("it has another error");
            };
            assert_eq!(error.kind, FailureKind::UnknownFunction);
            assert!(error.to_string().contains(hint), "{error}");
            let waited = since.elapsed();
            assert!((1..3).contains(&waited.as_secs()), "{waited:?}");
        }
        // Other calls continue, however many of these wait.
        let unknown = client.job("master.rendr", (0..2000).map(|it| it.to_string()));
        let unknown = unknown.collect::<Vec<_>>();
        let known = async {
            for _ in 0..50 {
                let call = client.eval("master.parse", "x");
                let call = call.timeout(Duration::from_millis(900));
                assert_eq!(call.await.unwrap(), "x");
            }
        };
        let (unknown, ()) = soon("all answers", async { tokio::join!(unknown, known) }).await;
        assert!(unknown.iter().all(Result::is_err));
    });
}

/// Restarts a worker whenever it dies, as a supervisor does.
async fn supervised(master: &ComponentHandle, role: &'static str) -> ! {
    loop {
        let mut worker = Process::run(role, &[("db_address", master.db_address())]).await;
        worker.ended().await;
    }
}

/// Makes calls and sends a poison message among them, while the only worker is restarted whenever it dies.
fn only_the_poison_message_fails(role: &'static str) {
    check(async {
        let master = master(ANY).await;
        let client = connect("master", &master).await;
        let eval = |function: &'static str, payload: String| {
            let eval = client.eval(function, payload);
            eval.timeout(Duration::from_secs(60)).into_future()
        };
        // All calls wait when the first worker connects, with the poison message in the middle.
        let innocent = |number| eval("master.work", format!("100 {number}"));
        let before = join_all((0..4).map(innocent));
        let poison = eval("master.crash_slowly", String::new());
        let after = join_all((4..8).map(innocent));
        let calls = async { tokio::join!(before, poison, after) };
        let calls = tokio::time::timeout(Duration::from_secs(60), calls);
        let (before, poison, after) = tokio::select! {
            calls = calls => calls.expect("all calls end"),
            never = supervised(&master, role) => never,
        };
        for (number, answer) in before.into_iter().chain(after).enumerate() {
            assert_eq!(answer.unwrap(), format!("100 {number}"));
        }
        let error = poison.unwrap_err().to_string();
        assert!(
            error.contains("3 workers were lost while they ran it: "),
            "{error}"
        );
        assert_eq!(error.matches("(connection closed)").count(), 3, "{error}");
    });
}

#[test]
fn poison_message_fails_alone_at_busy_workers() {
    only_the_poison_message_fails("worker_of_concurrency_4");
}

#[test]
fn poison_message_ahead_of_prefetched_tasks_fails_alone() {
    only_the_poison_message_fails("prefetching_worker");
}

/// A legacy worker, which answers each task with its payload.
async fn legacy_worker(master: &ComponentHandle) -> tokio::task::JoinHandle<()> {
    let at = |key: &str| address(master.address(key).unwrap());
    let mut tasks = Pull::connect(&at("worker_push_address"), &options())
        .await
        .unwrap();
    let results = Push::connect(&at("worker_pull_address"), &options())
        .await
        .unwrap();
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while tasks.recv_many(&mut batch, 16).await.is_ok() {
            for task in batch.drain(..) {
                let payload = Message::decode(task.clone()).unwrap().payload().clone();
                let legacy = [b"legacy ", &payload[..]].concat();
                let result = Message::decode(task).unwrap().with_payload(legacy);
                results.send(result.encode()).await.unwrap();
            }
        }
    })
}

#[test]
fn job_with_a_legacy_worker_completes_if_its_function_is_registered() {
    paused(async {
        let master = master(ANY_NAME).await;
        let _worker = Images.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(client.eval("master.render", "x").await.unwrap(), "x");
        let legacy = legacy_worker(&master).await;
        // Until the legacy worker is connected, no worker has the function.
        finally("the legacy worker", async {
            while client.eval("master.unknown", "x").await.is_err() {}
        })
        .await;
        for _ in 0..5 {
            let job = client.job("master.render", (0..200).map(|it| it.to_string()));
            let answers = soon("the job", job.collect::<Vec<_>>()).await;
            assert_eq!(answers.len(), 200);
            let answers = answers.into_iter().map(Result::unwrap);
            let legacy = answers.filter(|answer| answer.starts_with(b"legacy"));
            assert!(legacy.count() > 0);
        }
        // The function is registered by the legacy worker only, so its number of results is unknown.
        let eval = client.eval("master.unknown", "x");
        assert_eq!(eval.await.unwrap(), "legacy x");
        let job = client.job("master.unknown", ["x", "y"]).expect_answers(2);
        assert_eq!(job.collect::<Vec<_>>().await.len(), 2);
        legacy.abort();
    });
}
