//! Links between a master and its workers: no result is lost or repeated.
//!
//! These tests run with paused time; those of [`connections`] cut connections and kill processes.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::{Dealer, Frames};
use palm::{CallError, ComponentHandle, LinkOptions};
use tokio::sync::watch;
use tokio::time::Instant;

use super::setup::{ANY_NAME, Gate, address, connect, finally, options, paused, soon, work};

mod connections;

pub(crate) use connections::CutProxy;

/// A worker whose methods behave as their names say.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    /// Runs for so many milliseconds.
    #[palm::method]
    async fn work(&self, milliseconds: String, context: Context) -> String {
        self.gate.count_one();
        let time = milliseconds.split(' ').next().unwrap_or_default();
        work(time.parse().unwrap_or_default()).await;
        let _ = context;
        milliseconds
    }

    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    fn count(&self, payload: Bytes) -> Bytes {
        self.gate.count_one();
        payload
    }

    #[palm::method]
    fn nothing(&self) {
        self.gate.count_one();
    }

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }

    /// Ends the process.
    #[palm::method]
    fn crash(&self) -> String {
        std::process::abort()
    }

    /// Ends the process after a moment.
    #[palm::method]
    async fn crash_slowly(&self) -> String {
        work(50).await;
        std::process::abort()
    }

    /// Ends the process; a task that must not be redelivered.
    #[palm::method(at_most_once)]
    fn crash_once(&self) -> String {
        std::process::abort()
    }
}

/// Link options that notice a silent peer soon.
fn quick() -> LinkOptions {
    LinkOptions::new()
        .heartbeat(Duration::from_millis(200))
        .idle_timeout(Duration::from_millis(800))
}

async fn master(at: &str) -> ComponentHandle {
    let master = Master::new("master").bind(at).link_options(quick());
    master.spawn().await.unwrap()
}

async fn hand(at: &str, concurrency: usize) -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let hand = Hand { gate: gate.clone() };
    let hand = hand
        .connect(at)
        .concurrency(concurrency)
        .link_options(quick());
    (hand.spawn().await.unwrap(), gate)
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// The answers of a job that runs in a task, and their number so far.
struct RunningJob {
    seen: watch::Receiver<usize>,
    all: tokio::task::JoinHandle<Vec<Result<Bytes, CallError>>>,
}

impl RunningJob {
    fn start(client: &Client, function: &str, payloads: Vec<String>) -> Self {
        let count = payloads.len() as u64;
        let job = client.job(function, payloads).expect_answers(count);
        let (sender, seen) = watch::channel(0);
        let all = tokio::spawn(async move {
            let mut answers = Vec::new();
            let mut job = std::pin::pin!(job);
            while let Some(answer) = job.next().await {
                answers.push(answer);
                sender.send_replace(answers.len());
            }
            answers
        });
        Self { seen, all }
    }

    async fn until(&mut self, count: usize) {
        let what = format!("{count} answers");
        let seen = self.seen.wait_for(|seen| *seen >= count);
        soon(&what, seen).await.unwrap();
    }

    /// Returns all answers as text, sorted.
    async fn all(self) -> Vec<String> {
        let answers = finally("all answers", self.all).await.unwrap();
        let answers = answers.into_iter().map(Result::unwrap);
        let answers = answers.map(|answer| String::from_utf8(answer.into()).unwrap());
        let mut answers: Vec<_> = answers.collect();
        answers.sort();
        answers
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn busy_worker_receives_no_task_that_an_idle_one_can_run() {
    paused(async {
        let master = master(ANY_NAME).await;
        let (first, first_gate) = hand(master.db_address(), 1).await;
        let client = connect("master", &master).await;
        let long = RunningJob::start(&client, "master.gated", numbers(1));
        first_gate.arrived(1).await;
        let (second, _) = hand(master.db_address(), 1).await;
        let mut short = RunningJob::start(&client, "master.count", numbers(1000));
        // Although one of two workers is busy, no task waits for it.
        short.until(1000).await;
        assert_eq!(
            second.metrics().function("count").unwrap().working.count(),
            1000
        );
        assert_eq!(
            first.metrics().function("count").unwrap().working.count(),
            0
        );
        first_gate.open();
        assert_eq!(long.all().await, ["0"]);
        assert_eq!(short.all().await.len(), 1000);
    });
}

#[test]
fn worker_that_connects_late_receives_its_share_of_the_backlog() {
    paused(async {
        let master = master(ANY_NAME).await;
        let (first, _) = hand(master.db_address(), 1).await;
        let client = connect("master", &master).await;
        let payloads: Vec<_> = (0..100).map(|number| format!("10 {number}")).collect();
        let mut answers = RunningJob::start(&client, "master.work", payloads.clone());
        answers.until(20).await;
        let (second, _) = hand(master.db_address(), 1).await;
        assert_eq!(answers.all().await, sorted(payloads));
        let done = |hand: &ComponentHandle| {
            let metrics = hand.metrics();
            metrics.function("work").unwrap().working.count()
        };
        let (first, second) = (done(&first), done(&second));
        assert_eq!(first + second, 100);
        assert!(second >= 30, "{first} and {second}");
    });
}

#[test]
fn job_is_complete_while_workers_connect_and_leave() {
    paused(async {
        let master = master(ANY_NAME).await;
        let client = connect("master", &master).await;
        let payloads: Vec<_> = (0..600).map(|number| format!("2 {number}")).collect();
        let mut answers = RunningJob::start(&client, "master.work", payloads.clone());
        let mut worker = hand(master.db_address(), 2).await.0;
        for round in 1..=6 {
            answers.until(80 * round).await;
            let next = hand(master.db_address(), 2).await.0;
            let begun = worker.metrics();
            soon("the end of a worker", worker.shutdown())
                .await
                .unwrap();
            assert!(begun.function("work").unwrap().working.count() > 0);
            worker = next;
        }
        assert_eq!(answers.all().await, sorted(payloads));
    });
}

#[test]
fn calls_with_any_number_of_results_end_their_task() {
    paused(async {
        let master = master(ANY_NAME).await;
        let (hand, gate) = hand(master.db_address(), 1).await;
        let client = connect("master", &master).await;
        let job = client.job("master.nothing", numbers(50)).expect_answers(0);
        assert_eq!(soon("the job", job.count()).await, 0);
        gate.arrived(50).await;
        let job = client.job("master.thrice", numbers(50)).expect_answers(150);
        assert_eq!(soon("the job", job.count()).await, 150);
        // Without tasks under way, the workers stop immediately.
        let begin = Instant::now();
        soon("the end", master.shutdown()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5));
        hand.shutdown().await.unwrap();
    });
}

#[test]
fn worker_with_a_message_limit_runs_exactly_that_many_tasks() {
    paused(async {
        let master = master(ANY_NAME).await;
        let gate = Gate::closed();
        let limited = Hand { gate: gate.clone() };
        let limited = limited.connect(master.db_address()).messages(10);
        let limited = limited.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let mut answers = RunningJob::start(&client, "master.count", numbers(30));
        answers.until(10).await;
        soon("its end", limited.join()).await.unwrap();
        assert_eq!(gate.count(), 10);
        let (_hand, _) = hand(master.db_address(), 1).await;
        assert_eq!(answers.all().await, sorted(numbers(30)));
    });
}

#[test]
fn linked_and_legacy_workers_share_the_tasks() {
    paused(async {
        let master = master(ANY_NAME).await;
        let client = connect("master", &master).await;
        let old = LinkOptions::new().enabled(false);
        let gate = Gate::closed();
        let unlinked = Hand { gate }.connect(master.db_address()).concurrency(1);
        let unlinked = unlinked.link_options(old).spawn().await.unwrap();
        assert_eq!(client.eval("master.work", "0").await.unwrap(), "0");
        // Workers with links are preferred as soon as they are connected.
        let (linked, gate) = hand(master.db_address(), 1).await;
        let there = async {
            while gate.count() == 0 {
                client.eval("master.work", "0").await.unwrap();
            }
        };
        soon("the one with a link", there).await;
        let payloads: Vec<_> = (0..400).map(|number| format!("5 {number}")).collect();
        let answers = RunningJob::start(&client, "master.work", payloads.clone());
        assert_eq!(answers.all().await, sorted(payloads));
        for worker in [&linked, &unlinked] {
            let metrics = worker.metrics();
            let done = metrics.function("work").unwrap().working.count();
            assert!(done >= 100, "{done}");
        }
    });
}

#[test]
fn task_of_a_silent_legacy_worker_is_redelivered_after_ack_wait() {
    paused(async {
        let options = quick().ack_wait(Duration::from_millis(200));
        let master = Master::new("master").bind(ANY_NAME).link_options(options);
        let master = master.spawn().await.unwrap();
        let old = LinkOptions::new().enabled(false);
        let gate = Gate::closed();
        let mut hands = Vec::new();
        for concurrency in [1, 4] {
            let hand = Hand { gate: gate.clone() }.connect(master.db_address());
            let hand = hand.concurrency(concurrency).link_options(old.clone());
            hands.push(hand.spawn().await.unwrap());
        }
        let client = connect("master", &master).await;
        // Each worker receives one of two calls.
        let answers = RunningJob::start(&client, "master.gated", vec!["x".to_owned()]);
        gate.arrived(2).await;
        gate.open();
        assert_eq!(answers.all().await, ["x"]);

        let answers = RunningJob::start(&client, "master.count", numbers(1000));
        assert_eq!(answers.all().await, sorted(numbers(1000)));
    });
}

#[test]
fn malformed_headers_do_not_stop_other_peers() {
    paused(async {
        let master = master(ANY_NAME).await;
        let (_hand, _) = hand(master.db_address(), 1).await;
        let (at, options) = (address(master.db_address()), options());
        let bad = Dealer::connect(&at, &options).await.unwrap();
        let header = |rest: &[u8]| Bytes::from([b"\x0dPLK1", rest].concat());
        let session = b"\x12\x10sixteen bytes id";
        for rest in [
            &b""[..],
            b"\xff\xff\xff",
            session,
            // An unknown role, and no version.
            &[&session[..], b"\x52\x06\x12\x04boss"].concat(),
            // Unlimited credit, and an acknowledgement of messages that were not sent.
            &[
                &session[..],
                b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            ]
            .concat(),
        ] {
            for count in [0, 1, 300] {
                let frames: Frames = std::iter::once(header(rest))
                    .chain((0..count).map(|_| Bytes::from_static(b"junk")))
                    .collect();
                soon("capacity to send", bad.send(frames)).await.unwrap();
            }
        }
        let client = connect("master", &master).await;
        let answers = RunningJob::start(&client, "master.count", numbers(100));
        assert_eq!(answers.all().await.len(), 100);
    });
}

#[test]
fn hundred_linked_workers_share_the_tasks() {
    paused(async {
        // With default options, since so many workers on a busy machine may miss a short idle timeout.
        let master = Master::new("master").bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let mut hands = Vec::new();
        for _ in 0..100 {
            let gate = Gate::closed();
            let hand = Hand { gate }.connect(master.db_address()).concurrency(1);
            hands.push(hand.spawn().await.unwrap());
        }
        let payloads: Vec<_> = (0..1000).map(|number| format!("20 {number}")).collect();
        let answers = RunningJob::start(&client, "master.work", payloads.clone());
        assert_eq!(answers.all().await, sorted(payloads));
        let mut shares = HashMap::new();
        for hand in &hands {
            let metrics = hand.metrics();
            let share = metrics.function("work").unwrap().working.count();
            *shares.entry(share).or_insert(0) += 1;
        }
        assert!(
            !shares.contains_key(&0),
            "a worker received no task: {shares:?}"
        );
    });
}
