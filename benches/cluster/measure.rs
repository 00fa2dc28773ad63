//! Measuring and printing: latencies and throughputs of a client, and their ratios.

use std::time::{Duration, Instant};

use bytes::Bytes;
use palm::prelude::*;

/// Messages under way at once when throughput is measured.
pub(crate) const WINDOW: usize = 2000;

/// Number of times that throughput is measured; the best counts.
pub(crate) const ROUNDS: usize = 5;

pub(crate) async fn palm_latencies(client: &Client, steps: &str, count: usize) -> Vec<Duration> {
    let payload = Bytes::from_static(&[b'x'; 10]);
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        client
            .eval(steps, payload.clone())
            .await
            .expect("it answers");
        latencies.push(start.elapsed());
    }
    latencies
}

pub(crate) async fn palm_throughput(
    client: &Client,
    steps: &str,
    payload_bytes: usize,
    count: usize,
) -> f64 {
    let payload = Bytes::from(vec![b'x'; payload_bytes]);
    let start = Instant::now();
    let mut job = client
        .job(steps, std::iter::repeat_n(payload, count))
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        answer.expect("it answers");
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Returns the calls per second of `tasks` tasks, each of which makes one call after the other on the same client.
pub(crate) async fn concurrent_calls(
    client: &Client,
    steps: &'static str,
    tasks: usize,
    count: usize,
) -> f64 {
    let payload = Bytes::from_static(&[b'x'; 10]);
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (client, payload) = (client.clone(), payload.clone());
        running.spawn(async move {
            for _ in 0..count / tasks {
                let answer = client.eval(steps, payload.clone()).await;
                answer.expect("it answers");
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("the task does not panic");
    }
    count as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn quantile(latencies: &mut [Duration], quantile: f64) -> f64 {
    latencies.sort_unstable();
    let index = (latencies.len() as f64 * quantile) as usize;
    latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e6
}

/// The names of what is measured, and of what it is compared with.
pub(crate) type Labels = (&'static str, &'static str);

pub(crate) const BARE: Labels = ("palm", "bare");
pub(crate) const BY_HAND: Labels = ("typed", "by hand");
pub(crate) const SOCKETS: Labels = ("link", "sockets");

pub(crate) fn print_latency(
    name: &str,
    (ours, theirs): Labels,
    mut palm: Vec<Duration>,
    mut bare: Vec<Duration>,
    pylm: Option<Vec<Duration>>,
) {
    let (p50, p99) = (quantile(&mut palm, 0.5), quantile(&mut palm, 0.99));
    let (bare_p50, bare_p99) = (quantile(&mut bare, 0.5), quantile(&mut bare, 0.99));
    print!(
        "{name:<28} {ours} {p50:7.1} / {p99:7.1} µs   {theirs} {bare_p50:7.1} / {bare_p99:7.1} µs   ratio {:.2} / {:.2}",
        p50 / bare_p50,
        p99 / bare_p99,
    );
    match pylm {
        Some(mut pylm) => println!(
            "   pylm {:7.1} / {:7.1} µs",
            quantile(&mut pylm, 0.5),
            quantile(&mut pylm, 0.99)
        ),
        None => println!(),
    }
}

pub(crate) fn print_throughput(
    name: &str,
    labels: Labels,
    palm: f64,
    bare: f64,
    pylm: Option<f64>,
) {
    print_rates(name, labels, palm, bare);
    match pylm {
        Some(pylm) => println!("   pylm {pylm:7.0}/s   ratio {:.1}", palm / pylm),
        None => println!(),
    }
}

pub(crate) fn print_rates(name: &str, (ours, theirs): Labels, palm: f64, bare: f64) {
    print!(
        "{name:<28} {ours} {palm:9.0}/s   {theirs} {bare:9.0}/s   ratio {:.2}",
        palm / bare
    );
}

/// Returns the best of several rounds, which alternate so that both meet the same noise.
pub(crate) async fn best_of<P: Future<Output = f64>, B: Future<Output = f64>>(
    palm: impl Fn() -> P,
    bare: impl Fn() -> B,
) -> (f64, f64) {
    let (mut best_palm, mut best_bare) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        best_palm = best_palm.max(palm().await);
        best_bare = best_bare.max(bare().await);
    }
    (best_palm, best_bare)
}

/// Returns how many messages of a size are sent to measure throughput.
pub(crate) fn count_for(payload_bytes: usize) -> usize {
    if payload_bytes > 10_000 {
        10_000
    } else {
        200_000
    }
}
