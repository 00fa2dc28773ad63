//! Jobs over links: they end by themselves, and no answer is lost or repeated.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::{CallError, ComponentHandle, LinkOptions, Progress};

use super::setup::{ANY_NAME, Gate, connect, paused, soon};

/// Methods with no result, one, or several.
#[derive(Clone, Default)]
struct Several;

#[palm::server(name = "several")]
impl Several {
    /// Returns as many results as the payload says.
    #[palm::method]
    fn many(&self, count: String) -> impl Iterator<Item = String> + use<> {
        (0..count.parse().unwrap_or(0)).map(|number: u32| number.to_string())
    }

    #[palm::method]
    fn odd(&self, number: String) -> Option<String> {
        (number.parse::<u32>().unwrap_or(0) % 2 == 1).then_some(number)
    }

    #[palm::method]
    fn echoed(&self, text: String) -> String {
        text
    }

    #[palm::method]
    fn fails(&self) -> Result<Bytes, String> {
        Err("as asked".to_owned())
    }
}

/// The same methods in a downstream step.
#[derive(Clone, Default)]
struct Second;

#[palm::pipeline(name = "second")]
impl Second {
    #[palm::method]
    fn twice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 2)
    }

    #[palm::method]
    fn nothing(&self) {}
}

#[derive(Clone, Default)]
struct Stored;

#[palm::sink(name = "stored")]
impl Stored {
    #[palm::method]
    fn put(&self) {}

    #[palm::method]
    fn give(&self, payload: Bytes) -> Bytes {
        payload
    }
}

/// A master that splits a call into several tasks, and joins results into one answer.
#[derive(Default)]
struct Shaper {
    words: Vec<String>,
}

#[palm::master(name = "shaper")]
impl Shaper {
    #[palm::scatter]
    fn scatter(&mut self, message: Message) -> Vec<Message> {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        let word = |word: &str| message.clone().with_payload(word.to_owned());
        text.split_whitespace().map(word).collect()
    }

    /// Drops long words, and joins three others into one message.
    #[palm::gather]
    fn gather(&mut self, message: Message) -> Option<Message> {
        let word = String::from_utf8_lossy(message.payload()).into_owned();
        if word.len() > 3 {
            return None;
        }
        self.words.push(word);
        if self.words.len() < 3 {
            return None;
        }
        let words = std::mem::take(&mut self.words).join("+");
        Some(message.with_payload(words))
    }
}

struct Echo;

#[palm::worker(server = "shaper")]
impl Echo {
    #[palm::method]
    fn word(&self, word: Bytes) -> Bytes {
        word
    }

    #[palm::method]
    fn letters(&self, word: String) -> impl Iterator<Item = String> + use<> {
        word.chars()
            .map(String::from)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Collects all answers, sorted, and the progress of the job.
async fn all(client: &Client, function: &str, payloads: &[&str]) -> (Vec<String>, Progress) {
    let mut job = client.job(function, payloads.iter().copied());
    let mut answers = Vec::new();
    while let Some(answer) = soon("an answer, or the end", job.next()).await {
        answers.push(match answer {
            Ok(answer) => String::from_utf8(answer.into()).unwrap(),
            Err(error) => error.to_string(),
        });
    }
    answers.sort();
    (answers, job.progress())
}

async fn check_job(
    client: &Client,
    function: &str,
    payloads: &[&str],
    expected: &[&str],
    failed: u64,
) {
    let (answers, progress) = all(client, function, payloads).await;
    assert_eq!(answers, expected, "{function}");
    let sent = payloads.len() as u64;
    let progress = (progress.sent, progress.done, progress.failed);
    assert_eq!(progress, (sent, sent, failed), "{function}");
}

#[test]
fn job_without_expect_answers_ends_after_all_answers() {
    paused(async {
        let server = Several.bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("several", &server).await;
        let done = ["0", "0", "1", "2"];
        check_job(&client, "several.many", &["3", "0", "1"], &done, 0).await;
        let numbers = ["0", "1", "2", "3"];
        check_job(&client, "several.odd", &numbers, &["1", "3"], 0).await;
        check_job(&client, "several.odd", &["0"], &[], 0).await;
        check_job(&client, "several.odd", &[], &[], 0).await;
        let error = "`several.fails` failed in `several`: as asked";
        check_job(&client, "several.fails", &["", ""], &[error; 2], 2).await;

        let job = palm::progress(client.job("several.odd", ["1", "2", "3"]));
        assert_eq!(soon("all answers", job.count()).await, 2);

        // More inputs than the window.
        let payloads: Vec<_> = (0..5000).map(|number| number.to_string()).collect();
        let payloads: Vec<_> = payloads.iter().map(String::as_str).collect();
        let (answers, progress) = all(&client, "several.odd", &payloads).await;
        assert_eq!((answers.len(), progress.done), (2500, 5000));
        let (answers, _) = all(&client, "several.many", &["20000", "3"]).await;
        assert_eq!(answers.len(), 20_003);
    });
}

#[test]
fn job_through_several_components_ends_by_itself() {
    paused(async {
        let server = Several
            .bind(ANY_NAME)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let second = Second.bind(ANY_NAME).follow(server.db_address());
        let second = second.spawn().await.unwrap();
        let stored = Stored.bind(ANY_NAME).follow(second.db_address());
        let stored = stored.spawn().await.unwrap();

        let client = Client::builder("several", server.db_address());
        let client = client.answered_by(second.db_address()).connect();
        let client = soon("connecting", client).await.unwrap();
        let steps = "several.many second.twice";
        let done = ["0", "0", "0", "0", "1", "1"];
        check_job(&client, steps, &["2", "0", "1"], &done, 0).await;
        check_job(&client, "several.odd second.nothing", &["1", "2"], &[], 0).await;
        let error = "`several.fails` failed in `several`: as asked";
        check_job(&client, "several.fails second.twice", &[""], &[error], 1).await;

        let client = Client::builder("several", server.db_address());
        let client = client.answered_by(stored.db_address()).connect();
        let client = soon("connecting", client).await.unwrap();
        let steps = "several.many second.twice stored.put";
        check_job(&client, steps, &["2", "0", "1"], &[], 0).await;
        let steps = "several.many second.twice stored.give";
        check_job(&client, steps, &["2", "0", "1"], &done, 0).await;
    });
}

#[test]
fn job_of_a_master_with_hooks_ends_by_itself() {
    paused(async {
        let master = Shaper::default().bind(ANY_NAME).spawn().await.unwrap();
        let mut workers = Vec::new();
        for _ in 0..2 {
            let worker = Echo.connect(master.db_address()).spawn().await;
            workers.push(worker.unwrap());
        }
        let client = connect("shaper", &master).await;
        let texts = ["a a a", "", "longer a", "a a"];
        check_job(&client, "shaper.word", &texts, &["a+a+a", "a+a+a"], 0).await;
        check_job(&client, "shaper.word", &["", "longer"], &[], 0).await;
        let texts = ["xxx", "xxxxxx"];
        let done = ["x+x+x", "x+x+x", "x+x+x"];
        check_job(&client, "shaper.letters", &texts, &done, 0).await;
    });
}

#[test]
fn job_without_links_is_rejected_before_it_sends_if_no_number_of_answers_is_given() {
    paused(async {
        let server = Several.bind(ANY_NAME).spawn().await.unwrap();
        let options = LinkOptions::new().enabled(false);
        let client = Client::builder("several", server.db_address()).link_options(options);
        let client = soon("connecting", client.connect()).await.unwrap();
        let mut job = client.job("several.odd", ["1"]);
        let error = soon("an error", job.next()).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Completion { .. }), "{error}");
        assert!(error.to_string().contains(".expect_answers(n)"));
        assert_eq!(job.sent(), 0);
        assert!(soon("the end", job.next()).await.is_none());
        let mut job = client.job("several.odd", ["1"]).expect_answers(1);
        assert_eq!(soon("an answer", job.next()).await.unwrap().unwrap(), "1");
    });
}

#[derive(Clone)]
struct Gated {
    gate: Gate,
}

#[palm::server(name = "gated")]
impl Gated {
    #[palm::method]
    async fn pass(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }
}

/// Starts the server at an address that a restart uses again.
async fn gated(at: &str, gate: &Gate) -> ComponentHandle {
    let gate = gate.clone();
    let server = Gated { gate }.bind(at).drain_limit(Duration::from_secs(20));
    server.spawn().await.unwrap()
}

#[test]
fn job_is_completely_answered_by_a_restarted_server() {
    paused(async {
        let gate = Gate::closed();
        let server = gated(ANY_NAME, &gate).await;
        let at = server.db_address().to_owned();
        let client = connect("gated", &server).await;
        let job = client.job("gated.pass", (0..3000).map(|number| number.to_string()));
        let answers = tokio::spawn(async move {
            let answers = job.map(|answer| String::from_utf8(answer.unwrap().into()).unwrap());
            answers.collect::<Vec<_>>().await
        });
        // At that moment some calls are in the server, and others are not.
        gate.arrived(1).await;
        gate.open();
        soon("the end of the server", server.shutdown())
            .await
            .unwrap();
        let server = gated(&at, &gate).await;
        let mut answers = soon("all answers", answers).await.unwrap();
        answers.sort_by_key(|answer| answer.parse::<u32>().unwrap());
        let expected: Vec<_> = (0..3000).map(|number| number.to_string()).collect();
        assert_eq!(answers, expected);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn next_loses_no_answer_when_its_future_is_dropped() {
    paused(async {
        let server = Several.bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("several", &server).await;
        let numbers: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        let mut job = client
            .job(Several::ECHOED, numbers.clone())
            .expect_answers(500);
        let mut answers = Vec::new();
        let mut dropped = 0;
        // The future of `next` is dropped after each poll without an answer.
        while answers.len() < numbers.len() {
            tokio::select! {
                biased;
                answer = job.next() => answers.push(answer.unwrap().unwrap()),
                () = std::future::ready(()) => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(dropped > 0);
        assert!(job.next().await.is_none());
        answers.sort_unstable_by_key(|answer| answer.parse::<u32>().unwrap());
        assert_eq!(answers, numbers);
        server.shutdown().await.unwrap();
    });
}
