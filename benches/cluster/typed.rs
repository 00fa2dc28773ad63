//! Calls with types compared with the same calls whose codec is run by hand.

use std::time::{Duration, Instant};

use palm::Json;
use palm::prelude::*;
use serde::{Deserialize, Serialize};

use crate::measure::{BY_HAND, best_of, print_latency, print_throughput};
use crate::roles::{Step, start};

/// A value that takes 1 KB as JSON.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    id: u64,
    name: String,
    tags: Vec<String>,
    samples: Vec<f64>,
    text: String,
}

impl Record {
    fn example() -> Self {
        Self {
            id: u64::MAX,
            name: "a name of some length".to_owned(),
            tags: (0..10).map(|number| format!("tag {number}")).collect(),
            samples: (0..20).map(|number| f64::from(number) + 0.25).collect(),
            text: "lorem ipsum dolor ".repeat(38),
        }
    }
}

pub(crate) fn measure(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let (eval, job) = ("eval, 1 KB of JSON", "job, 1 KB of JSON");
    if !wanted(eval) && !wanted(job) {
        return;
    }
    let server = start(&["server"]);
    runtime.block_on(async {
        let client = Client::connect("server", server.address(0))
            .await
            .expect("it connects");
        if wanted(eval) {
            let (typed, by_hand) = typed_latencies(&client).await;
            print_latency(eval, BY_HAND, typed, by_hand, None);
        }
        if wanted(job) {
            let count = 50_000;
            let (typed, by_hand) = best_of(
                || typed_throughput(&client, count),
                || by_hand_throughput(&client, count),
            )
            .await;
            print_throughput(job, BY_HAND, typed, by_hand, None);
        }
    });
}

/// Calls alternately by the typed constant, and with the codec by hand.
async fn typed_latencies(client: &Client) -> (Vec<Duration>, Vec<Duration>) {
    const ROUND: usize = 1000;
    let record = Record::example();
    let (mut typed, mut by_hand) = (Vec::new(), Vec::new());
    for round in 0..11 {
        for _ in 0..ROUND {
            let start = Instant::now();
            let answer = client.eval(Step::TYPED, &record).await;
            let Json(answer) = answer.expect("it answers");
            typed.push(start.elapsed());
            assert_eq!(answer.id, record.id);
        }
        for _ in 0..ROUND {
            let start = Instant::now();
            let answer = client.eval("server.by_hand", write(&record)).await;
            let answer = read(&answer.expect("it answers"));
            by_hand.push(start.elapsed());
            assert_eq!(answer.id, record.id);
        }
        // The first round warms up.
        if round == 0 {
            typed.clear();
            by_hand.clear();
        }
    }
    (typed, by_hand)
}

async fn typed_throughput(client: &Client, count: usize) -> f64 {
    let record = Record::example();
    let start = Instant::now();
    let mut job = client
        .job(Step::TYPED, std::iter::repeat_n(&record, count))
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        let Json(answer) = answer.expect("it answers");
        assert_eq!(answer.id, record.id);
    }
    count as f64 / start.elapsed().as_secs_f64()
}

async fn by_hand_throughput(client: &Client, count: usize) -> f64 {
    let record = Record::example();
    let start = Instant::now();
    let payloads = std::iter::repeat_n(&record, count).map(write);
    let mut job = client
        .job("server.by_hand", payloads)
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        let answer = read(&answer.expect("it answers"));
        assert_eq!(answer.id, record.id);
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn write(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("it has keys of text")
}

fn read(payload: &[u8]) -> Record {
    serde_json::from_slice(payload).expect("it is what was written")
}
