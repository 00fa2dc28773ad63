//! Fairness between clients of a component: a small call alongside a large job, clients with equal work, and weights.
//!
//! ```text
//! cargo bench --bench fairness
//! cargo bench --bench fairness -- job=5000 calls=30      # as in CI
//! ```
//!
//! One process has a master with two workers that run one task of 10 ms at a time. The latency of a small call
//! alongside the job is measured in task times: the call waits for running tasks, prefetched tasks, and its own. The
//! benchmark fails if the 99th percentile is above 5 task times, or if clients with equal work end more than 20 %
//! apart.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::{Duration, Instant};

use palm::prelude::*;
use palm::testing::{Cluster, ClusterHandle};
use tokio::task::JoinSet;

/// Task times within which 99 % of the small calls must be answered.
const MOST_TASK_TIMES: f64 = 5.0;

/// Largest allowed difference between the ends of clients with equal work.
const MOST_SPREAD: f64 = 0.2;

struct Options {
    /// Number of tasks in the large job.
    job: usize,
    /// Number of small calls alongside the job.
    calls: usize,
    /// Number of clients with equal work, and of tasks of each.
    clients: usize,
    each: usize,
    task: Duration,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self {
            job: 100_000,
            calls: 200,
            clients: 20,
            each: 50,
            task: Duration::from_millis(10),
        };
        // `cargo bench` adds `--bench`.
        let args = std::env::args()
            .skip(1)
            .filter(|arg| !arg.starts_with("--"));
        for arg in args {
            let (key, value) = arg.split_once('=').expect("arguments are `key=value`");
            let value: usize = value.parse().expect("the value is an integer");
            match key {
                "job" => options.job = value,
                "calls" => options.calls = value,
                "clients" => options.clients = value,
                "each" => options.each = value,
                "task_ms" => options.task = Duration::from_millis(value as u64),
                _ => panic!("unknown argument `{key}`: job, calls, clients, each or task_ms"),
            }
        }
        options
    }
}

struct Sleeps(Duration);

#[palm::worker(server = "m")]
impl Sleeps {
    #[palm::method]
    async fn run(&self, payload: String) -> String {
        tokio::time::sleep(self.0).await;
        payload
    }
}

/// Starts a separate cluster for each measurement.
async fn cluster(options: &Options) -> ClusterHandle {
    let worker = || Sleeps(options.task);
    Cluster::new()
        .master(Master::new("m"))
        .worker_with(worker(), |it| it.concurrency(1))
        .worker_with(worker(), |it| it.concurrency(1))
        .start()
        .await
        .expect("the cluster starts")
}

async fn client(cluster: &ClusterHandle, weight: u32) -> Client {
    let address = cluster.handle("m").expect("it is there").db_address();
    let client = Client::builder("m", address).weight(weight);
    client.connect().await.expect("the client connects")
}

/// Makes so many calls, and returns how many were answered, and when the last answer arrived.
async fn job(client: Client, calls: usize) -> (usize, Instant) {
    let mut job = client.job("m.run", (0..calls).map(|_| "large"));
    let mut answers = 0;
    while let Some(answer) = job.next().await {
        answer.expect("the task is done");
        answers += 1;
    }
    (answers, Instant::now())
}

async fn small_calls(options: &Options) -> bool {
    let cluster = cluster(options).await;
    let (large, small) = (client(&cluster, 1).await, client(&cluster, 1).await);
    let running = tokio::spawn(job(large, options.job));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut times = Vec::new();
    for _ in 0..options.calls {
        let begin = Instant::now();
        let answer = small
            .eval("m.run", "small")
            .timeout(Duration::from_secs(60));
        answer.await.expect("the call is answered");
        times.push(begin.elapsed().as_secs_f64() / options.task.as_secs_f64());
    }
    let is_busy = !running.is_finished();
    running.abort();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let (p50, p99) = (at(50), at(99));
    println!(
        "small call alongside a job of {}: p50 {p50:.1}, p99 {p99:.1} task times",
        options.job
    );
    if !is_busy {
        println!("  the job ended first: it is too small to say anything");
    }
    is_busy && p99 <= MOST_TASK_TIMES
}

async fn equal_clients(options: &Options) -> bool {
    let cluster = cluster(options).await;
    let mut clients = Vec::new();
    for _ in 0..options.clients {
        clients.push(client(&cluster, 1).await);
    }
    let mut jobs = JoinSet::new();
    let begin = Instant::now();
    for client in clients {
        jobs.spawn(job(client, options.each));
    }
    let ends = jobs.join_all().await;
    let ends = ends
        .iter()
        .map(|(_, end)| end.duration_since(begin).as_secs_f64());
    let first = ends.clone().fold(f64::INFINITY, f64::min);
    let last = ends.fold(0.0, f64::max);
    let spread = (last - first) / last;
    println!(
        "{} clients with {} tasks each: first after {first:.2} s, last after {last:.2} s, {:.0} % apart",
        options.clients,
        options.each,
        100.0 * spread
    );
    spread <= MOST_SPREAD
}

async fn weights(options: &Options) {
    let cluster = cluster(options).await;
    let light = client(&cluster, 1).await;
    let heavy = client(&cluster, 4).await;
    let tasks = 10 * options.each;
    let mut light_job = light.job("m.run", (0..tasks).map(|_| "light"));
    let heavy = tokio::spawn(job(heavy, tasks));
    let mut answers = 0;
    while !heavy.is_finished() && light_job.next().await.is_some() {
        answers += 1;
    }
    println!("weights 4 and 1: {tasks} and {answers} tasks done when the first client ended");
}

fn main() {
    let options = Options::from_args();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let is_fair = runtime.block_on(async {
        let small = small_calls(&options).await;
        let equal = equal_clients(&options).await;
        weights(&options).await;
        small && equal
    });
    if !is_fair {
        println!("FAILED: at most {MOST_TASK_TIMES} task times, and {MOST_SPREAD} apart");
        std::process::exit(1);
    }
}
