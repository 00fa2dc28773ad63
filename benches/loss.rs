//! The cost of losing a worker, and how evenly work is spread, with real processes that are killed. Each call must be
//! answered once, within [`MAX_RATIO`] of the ideal time.
//!
//! ```text
//! cargo bench --bench loss
//! cargo test --bench loss          # what CI runs: the same, in what is built already
//! cargo bench --bench loss -- idle 1000        # what a master does for so many workers without work
//! ```

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::time::{Duration, Instant};

use palm::prelude::*;
use support::{ANY, Process, until_orphaned};

struct Sleeper;

#[palm::worker(server = "server")]
impl Sleeper {
    /// Runs for as many milliseconds as the first word says, and returns the payload.
    #[palm::method(blocking)]
    fn sleep(&self, call: String) -> String {
        let milliseconds = call.split(' ').next().and_then(|word| word.parse().ok());
        // Timers of an executor are too coarse for such times.
        std::thread::sleep(Duration::from_millis(milliseconds.unwrap_or_default()));
        call
    }
}

/// Largest allowed ratio to the ideal time. Without redelivery a lost worker would cost its idle timeout, and uneven
/// work would cost twice the time.
const MAX_RATIO: f64 = 1.8;

#[tokio::main]
async fn main() -> palm::Result<()> {
    let arguments = support::arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["master"] => {
            let master = Master::new("server").bind(ANY).spawn().await?;
            println!("{}", master.db_address());
            until_orphaned().await;
            master.shutdown().await?;
            Ok(())
        }
        ["worker", master] => {
            let worker = Sleeper.connect(master).concurrency(1).spawn().await?;
            println!("ready");
            until_orphaned().await;
            worker.shutdown().await?;
            Ok(())
        }
        ["workers", master, count] => {
            let mut workers = Vec::new();
            for _ in 0..count.parse().expect("a number of workers") {
                workers.push(Sleeper.connect(master).concurrency(1).spawn().await?);
            }
            println!("ready");
            until_orphaned().await;
            Ok(())
        }
        ["idle", workers] => {
            idle(workers).await;
            Ok(())
        }
        [] => {
            measure().await;
            Ok(())
        }
        _ => panic!("not so: {arguments:?}"),
    }
}

/// A master and its workers, each in a process of its own, and a client.
struct Cluster {
    master: Process,
    workers: Vec<Process>,
    client: Client,
}

impl Cluster {
    async fn start(workers: usize) -> Self {
        let master = Process::start(&["master"]);
        let client = Client::connect("server", master.address(0)).await;
        let mut cluster = Self {
            master,
            workers: Vec::new(),
            client: client.expect("it connects"),
        };
        for _ in 0..workers {
            cluster.join();
        }
        // All workers are connected once as many calls as workers take no longer than one call.
        loop {
            let begin = Instant::now();
            let calls = vec!["100".to_owned(); workers];
            job(&cluster.client, calls).await;
            if begin.elapsed() < Duration::from_millis(190) {
                return cluster;
            }
        }
    }

    fn join(&mut self) {
        let worker = Process::start(&["worker", self.master.address(0)]);
        self.workers.push(worker);
    }
}

/// Makes all calls at once, each of which must be answered once. Returns the time until the last answer.
async fn job(client: &Client, calls: Vec<String>) {
    let mut missing = calls.clone();
    missing.sort();
    let count = calls.len() as u64;
    let mut job = client.job("server.sleep", calls).expect_answers(count);
    while let Some(answer) = job.next().await {
        let answer = answer.expect("it answers");
        let answer = std::str::from_utf8(&answer).expect("it answers text");
        let position = missing.binary_search_by(|call| call.as_str().cmp(answer));
        missing.remove(position.expect("each answer arrives once"));
    }
    assert!(missing.is_empty(), "these have no answer: {missing:?}");
}

fn report(what: &str, took: Duration, ideal: f64) {
    let took = took.as_secs_f64();
    let ratio = took / ideal;
    println!("{what:<66} {took:5.2} s, ideal {ideal:.2} s, ratio {ratio:.2}");
    assert!(ratio < MAX_RATIO, "{what}: the ratio is {ratio:.2}");
}

async fn measure() {
    for (what, calls, each, after, ideal) in [
        (
            "1000 calls of 5 ms, 2 workers, one killed after 2 s",
            1000,
            5,
            2.0,
            3.0,
        ),
        (
            "100 calls of 50 ms, 2 workers, one killed after 0.6 s",
            100,
            50,
            0.6,
            4.4,
        ),
    ] {
        let mut cluster = Cluster::start(2).await;
        let victim = cluster.workers.pop();
        let begin = Instant::now();
        let kill = async {
            tokio::time::sleep(Duration::from_secs_f64(after)).await;
            drop(victim);
        };
        let calls = (0..calls).map(|number| format!("{each} {number}"));
        tokio::join!(job(&cluster.client, calls.collect()), kill);
        report(what, begin.elapsed(), ideal);
    }

    let cluster = Cluster::start(2).await;
    let begin = Instant::now();
    let calls =
        (0..20).map(|number| format!("{} {number}", if number % 2 == 0 { 500 } else { 10 }));
    job(&cluster.client, calls.collect()).await;
    report(
        "20 calls of 500 and of 10 ms in turn, 2 workers",
        begin.elapsed(),
        2.55,
    );

    let mut cluster = Cluster::start(1).await;
    let begin = Instant::now();
    let calls = (0..100).map(|number| format!("20 {number}"));
    let client = cluster.client.clone();
    let late = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        cluster.join();
    };
    tokio::join!(job(&client, calls.collect()), late);
    report(
        "100 calls of 20 ms, 1 worker, a second after 0.4 s",
        begin.elapsed(),
        1.2,
    );
    println!("test result: ok. each call was answered once");
}

/// Measures what heartbeats cost a master. Reads its processor time where Linux provides it.
async fn idle(count: &str) {
    // Five heartbeats of each worker.
    const IDLE: Duration = Duration::from_secs(35);
    let cluster = Cluster::start(0).await;
    let master = cluster.master.address(0);
    let _workers = Process::start(&["workers", master, count]);
    // Each worker runs a task once.
    let calls = count.parse().expect("a number of workers");
    let begin = Instant::now();
    job(&cluster.client, vec!["2000".to_owned(); calls]).await;
    println!(
        "{calls} calls of 2 s by as many workers took {:.2?}",
        begin.elapsed()
    );
    let before = processor_seconds(&cluster.master);
    tokio::time::sleep(IDLE).await;
    let spent = processor_seconds(&cluster.master) - before;
    let share = 100.0 * spent / IDLE.as_secs_f64();
    println!(
        "test result: ok. {count} idle workers take {share:.2} % of a processor of their master"
    );
}

/// Returns the processor time of a process, from `proc(5)`: fields 14 and 15, in hundredths of a second.
fn processor_seconds(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()));
    let stat = stat.expect("the system provides it");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let ticks = fields.split(' ').skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}
