//! What the loss of a worker costs, and how evenly work is spread: real processes, killed for real. That each
//! call is answered once is a condition; how long it takes is printed, beside the ideal.
//!
//! ```text
//! cargo bench --bench loss
//! cargo test --bench loss          # what CI runs: the same, in what is built already
//! cargo bench --bench loss -- idle 1000        # what a master does for so many workers without work
//! cargo bench --bench loss -- soak 180         # workers that die in all ways, for so many seconds
//! cargo bench --bench loss -- soak 180 42      # the same, as a seed that was printed had it
//! ```

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::time::{Duration, Instant};

use std::process::Command;

use futures_util::StreamExt;
use palm::LinkOptions;
use palm::prelude::*;
use support::{ANY, Process, until_orphaned};

struct Sleeper;

#[palm::worker(server = "server")]
impl Sleeper {
    /// Takes as many milliseconds as the first word says, and answers all of them.
    #[palm::method(blocking)]
    fn sleep(&self, call: String) -> String {
        let milliseconds = call.split(' ').next().and_then(|word| word.parse().ok());
        // The timers of an executor are for longer times.
        std::thread::sleep(Duration::from_millis(milliseconds.unwrap_or_default()));
        call
    }
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["master"] | ["impatient-master"] => {
            let mut link = LinkOptions::default();
            if arguments[0] == "impatient-master" {
                // So that a worker that is stopped does not make all wait for long.
                link.patience = Duration::from_secs(2);
            }
            let master = Master::new("server").bind(ANY).link_options(link);
            let master = master.spawn().await?;
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
        ["soak", seconds] => {
            soak(seconds, &fastrand::u64(..).to_string()).await;
            Ok(())
        }
        ["soak", seconds, seed] => {
            soak(seconds, seed).await;
            Ok(())
        }
        _ => {
            measure().await;
            Ok(())
        }
    }
}

/// A master and its workers, each a process of its own, and a client.
struct Cluster {
    master: Process,
    workers: Vec<Process>,
    client: Client,
}

impl Cluster {
    async fn start(master: &str, workers: usize) -> Self {
        let master = Process::start(&[master]);
        let client = Client::connect("server", master.address(0)).await;
        let mut cluster = Self {
            master,
            workers: Vec::new(),
            client: client.expect("it connects"),
        };
        for _ in 0..workers {
            cluster.join();
        }
        // All of them are there: as many calls as workers, each of which takes a while, take it once.
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

/// Makes all calls at once; each has to be answered once. Returns when the last one is.
async fn job(client: &Client, calls: Vec<String>) {
    let mut missing = calls.clone();
    missing.sort();
    let count = calls.len() as u64;
    let mut job = client.job("server.sleep", calls).messages(count);
    while let Some(answer) = job.next().await {
        let answer = answer.expect("it answers");
        let answer = std::str::from_utf8(&answer).expect("it answers text");
        let place = missing.binary_search_by(|call| call.as_str().cmp(answer));
        missing.remove(place.expect("no answer comes twice"));
    }
    assert!(missing.is_empty(), "these have no answer: {missing:?}");
}

fn report(what: &str, took: Duration, ideal: f64) {
    let took = took.as_secs_f64();
    let ratio = took / ideal;
    println!("{what:<66} {took:5.2} s, ideal {ideal:.2} s, ratio {ratio:.2}");
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
        let mut cluster = Cluster::start("master", 2).await;
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

    let cluster = Cluster::start("master", 2).await;
    let begin = Instant::now();
    let calls =
        (0..20).map(|number| format!("{} {number}", if number % 2 == 0 { 500 } else { 10 }));
    job(&cluster.client, calls.collect()).await;
    report(
        "20 calls of 500 and of 10 ms in turn, 2 workers",
        begin.elapsed(),
        2.55,
    );

    let mut cluster = Cluster::start("master", 1).await;
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

/// What heartbeats cost a master. Reads its processor time where Linux tells it.
async fn idle(count: &str) {
    const IDLE: Duration = Duration::from_secs(30);
    let cluster = Cluster::start("master", 0).await;
    let master = cluster.master.address(0);
    let _workers = Process::start(&["workers", master, count]);
    // Each of them has something to do once.
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

/// What a process has taken so far, from `proc(5)`: fields 14 and 15, in hundredths of a second.
fn processor_seconds(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()));
    let stat = stat.expect("the system tells it");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let ticks = fields.split(' ').skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}

/// Clients that call all the time, while workers are killed, stopped, told to stop, and replaced.
async fn soak(seconds: &str, seed: &str) {
    const WORKERS: usize = 4;
    const CLIENTS: usize = 2;
    let seconds: u64 = seconds.parse().expect("a number of seconds");
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed.parse().expect("a number as a seed"));
    let mut cluster = Cluster::start("impatient-master", WORKERS).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::connect("server", cluster.master.address(0)).await;
        let client = client.expect("it connects");
        let mut random = random.fork();
        clients.push(tokio::spawn(async move {
            let mut answered = 0;
            while Instant::now() < end {
                let calls = (0..10_000).map(|call| {
                    let milliseconds = if random.u8(..) == 0 {
                        random.u8(..50)
                    } else {
                        0
                    };
                    format!("{milliseconds} {number} {call}")
                });
                let calls = calls.collect();
                job(&client, calls).await;
                answered += 10_000;
            }
            answered
        }));
    }
    let (mut killed, mut stopped, mut drained) = (0, 0, 0);
    while Instant::now() < end {
        let pause = Duration::from_millis(random.u64(100..2000));
        tokio::time::sleep(pause).await;
        let victim = cluster.workers.swap_remove(random.usize(..WORKERS));
        match random.u8(..3) {
            0 => {
                killed += 1;
                drop(victim);
                cluster.join();
            }
            1 => {
                stopped += 1;
                signal("STOP", &victim);
                // For less than the master's patience, or for more.
                let pause = Duration::from_millis(random.u64(100..5000));
                tokio::time::sleep(pause).await;
                signal("CONT", &victim);
                cluster.workers.push(victim);
            }
            _ => {
                drained += 1;
                cluster.join();
                victim.release().await;
            }
        }
    }
    let mut answered = 0;
    for client in clients {
        let limit = Duration::from_secs(60);
        let done = tokio::time::timeout(limit, client).await;
        answered += done.expect("all is answered in time").expect("each once");
    }
    println!(
        "test result: ok. {answered} calls were answered once each; workers: {killed} killed, {stopped} stopped for a while, {drained} drained"
    );
}

/// Nothing that is safe and at hand sends one but this.
fn signal(signal: &str, process: &Process) {
    let id = process.id().to_string();
    let status = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(status.expect("there is a `kill`").success());
}
