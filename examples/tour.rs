//! Most of palm in one program: the guide's chapter "A tour" shows it step by step.
//!
//! ```text
//! cargo run --example tour
//! ```

#![expect(clippy::print_stdout, reason = "a program that prints its results")]

use std::sync::Arc;
use std::time::Duration;

use palm::prelude::*;
use palm::testing::{Cluster, Faults};
use palm::{BoxError, CallError, FileStore};
use tokio::sync::Notify;

// ANCHOR: worker
#[derive(Clone, Default)]
struct Texts {
    begun: Arc<Notify>,
    dropped: Arc<Notify>,
}

#[palm::worker(server = "texts")]
impl Texts {
    /// Counts the words of a text.
    #[palm::method]
    fn count(&self, text: String) -> Result<String, &'static str> {
        match text.split_whitespace().count() {
            0 => Err("the text is empty"),
            words => Ok(words.to_string()),
        }
    }

    /// Waits for an hour, unless its caller cancels it.
    #[palm::method]
    async fn wait(&self) -> &'static str {
        let _guard = OnDrop(self.dropped.clone());
        self.begun.notify_one();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        "an hour has passed"
    }
}
// ANCHOR_END: worker

/// Notifies when it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

// ANCHOR: steps
struct Lower;

#[palm::server(name = "lower")]
impl Lower {
    #[palm::method]
    fn text(&self, text: String) -> String {
        text.to_lowercase()
    }
}

struct Words;

#[palm::pipeline(name = "words")]
impl Words {
    #[palm::method]
    fn split(&self, text: String) -> String {
        text.replace(' ', "\n")
    }
}

struct Lines;

#[palm::pipeline(name = "lines")]
impl Lines {
    #[palm::method]
    fn sort(&self, text: String) -> String {
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    }
}
// ANCHOR_END: steps

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    palm::logging::init();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cache.db");
    let texts = Texts::default();

    // ANCHOR: start
    // A master whose functions can also be called over HTTP, and whose cache is in a file.
    let master = Master::new("texts")
        .bind("tcp://127.0.0.1:0")
        .http("127.0.0.1:0")
        .cache(FileStore::open(&file)?)
        .spawn()
        .await?;
    let worker = texts.clone().connect(master.db_address()).spawn().await?;
    // ANCHOR_END: start

    // ANCHOR: call
    let client = Client::connect("texts", master.db_address()).await?;
    let count: String = client.eval(Texts::COUNT, "one two three").await?;
    println!("{count} words");

    let empty = client.eval(Texts::COUNT, "").await;
    if let Err(CallError::Remote(error)) = empty {
        println!("{:?}: {}", error.kind, error.message);
    }
    // ANCHOR_END: call

    // ANCHOR: job
    let mut job = client.job(Texts::COUNT, (1..=1000).map(|len| "word ".repeat(len)));
    let mut words = 0;
    while let Some(count) = job.next().await {
        words += count?.parse::<u64>()?;
    }
    let progress = job.progress();
    println!(
        "{} of {:?} texts, {words} words",
        progress.done, progress.total
    );
    // ANCHOR_END: job

    // ANCHOR: cancel
    let call = client.eval(Texts::WAIT, ());
    tokio::select! {
        answer = call => println!("{}", answer?),
        () = texts.begun.notified() => println!("cancelled"), // drops `call`
    }
    texts.dropped.notified().await;
    println!("the method was dropped");
    // ANCHOR_END: cancel

    // ANCHOR: http
    let http = master.address("http_address").ok_or("no HTTP")?;
    let response = reqwest::Client::new()
        .post(format!("{http}/count"))
        .body("four words over HTTP")
        .send()
        .await?;
    println!("{}: {}", response.status(), response.text().await?);
    // ANCHOR_END: http

    // ANCHOR: cache
    client.set("greeting", "hello").await?;
    client.close().await;
    worker.shutdown().await?;
    master.shutdown().await?;

    // A new master, with the same file.
    let master = Master::new("texts")
        .bind("tcp://127.0.0.1:0")
        .cache(FileStore::open(&file)?)
        .spawn()
        .await?;
    let client = Client::connect("texts", master.db_address()).await?;
    println!("{:?}", client.get("greeting").await?);
    master.shutdown().await?;
    // ANCHOR_END: cache

    // ANCHOR: pipeline
    let first = Lower.bind("tcp://127.0.0.1:0").spawn().await?;
    let second = Words
        .bind("tcp://127.0.0.1:0")
        .follow(first.db_address())
        .spawn()
        .await?;
    let third = Lines
        .bind("tcp://127.0.0.1:0")
        .follow(second.db_address())
        .spawn()
        .await?;
    let client = Client::connect("lower", first.db_address()).await?;
    let steps = Lower::TEXT.then(Words::SPLIT).then(Lines::SORT);
    println!("{}", client.eval(steps, "The quick brown Fox").await?);
    for component in [third, second, first] {
        component.shutdown().await?;
    }
    // ANCHOR_END: pipeline

    // ANCHOR: faults
    let faults = Faults::seeded(1);
    let cluster = Cluster::new()
        .fault_proxies(&faults)
        .master(Master::new("texts"))
        .worker_with(texts, |worker| worker.name("only"))
        .start()
        .await?;
    let proxy = cluster.fault_proxy("only").ok_or("no proxy")?;
    let client = cluster.client().await?;
    let mut job = client.job(Texts::COUNT, (0..500).map(|_| "two words"));
    proxy.cut_after(3);
    let mut answers = 0;
    while let Some(answer) = job.next().await {
        answer?;
        answers += 1;
    }
    println!("{answers} answers, {} lost connection", proxy.status().cuts);
    cluster.shutdown().await?;
    // ANCHOR_END: faults
    Ok(())
}
