//! The life of components: start, shutdown, kill and restart, and their metrics.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::{CacheError, ComponentHandle};

use super::setup::{ANY_NAME, Gate, work};

mod metrics;
mod reconnect;
mod shutdown;
mod signals;
mod start;

/// A server whose methods take a while.
#[derive(Clone)]
pub(crate) struct Slow {
    pub(crate) gate: Gate,
}

/// Does everything slowly.
#[palm::server(name = "slow")]
impl Slow {
    /// Waits at the gate.
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    /// Sets a key of the cache, and then takes a while.
    #[palm::method]
    async fn noted(&self, payload: String, context: Context) -> Result<String, CacheError> {
        context.cache().set(&payload, "began").await?;
        work(300).await;
        Ok(payload)
    }

    /// Sets a key of the cache, and never ends.
    #[palm::method]
    async fn endless(&self, payload: String, context: Context) -> Result<(), CacheError> {
        context.cache().set(&payload, "began").await?;
        std::future::pending().await
    }
}

pub(crate) struct Step;

/// A step that marks each message.
#[palm::pipeline(name = "step")]
impl Step {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " step"
    }
}

pub(crate) struct Hand {
    pub(crate) gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    async fn endless(&self) {
        std::future::pending().await
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Starts a job in a task, which returns all answers.
fn collect(client: &Client, function: &str, count: usize) -> tokio::task::JoinHandle<Vec<String>> {
    let job = client
        .job(function, numbers(count))
        .expect_answers(count as u64);
    let answer = |answer: Result<Bytes, _>| String::from_utf8(answer.unwrap().into()).unwrap();
    tokio::spawn(job.map(answer).collect())
}

async fn master_and_hand(concurrency: usize) -> (ComponentHandle, ComponentHandle, Gate) {
    let gate = Gate::closed();
    let master = Master::new("master")
        .bind(ANY_NAME)
        .drain_limit(Duration::from_secs(3));
    let master = master.spawn().await.unwrap();
    let hand = Hand { gate: gate.clone() }.connect(master.db_address());
    let hand = hand.concurrency(concurrency).spawn().await.unwrap();
    (master, hand, gate)
}

struct Where;

#[palm::server(name = "where")]
impl Where {
    #[palm::method]
    fn thread(&self) -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }
}
