//! The messages of a day in a short time: ten million through a master and two workers, and a hundredth as many calls
//! of a server, one after another. No message is lost, and no process grows.
//!
//! ```text
//! cargo bench --bench endurance
//! cargo bench --bench endurance -- 100000000
//! ```

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::time::Instant;

use palm::prelude::*;
use support::{ANY, Process, memory_kib, until_orphaned};

struct Echo;

#[palm::worker(server = "server")]
impl Echo {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

struct Server;

#[palm::server(name = "server")]
impl Server {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

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
        ["server"] => {
            let server = Server.bind(ANY).spawn().await?;
            println!("{}", server.db_address());
            until_orphaned().await;
            server.shutdown().await?;
            Ok(())
        }
        ["worker", master] => {
            let worker = Echo.connect(master).spawn().await?;
            println!("ready");
            until_orphaned().await;
            worker.shutdown().await?;
            Ok(())
        }
        [count] => run(count.parse().expect("a number of messages")).await,
        [] => run(10_000_000).await,
        _ => panic!("not so: {arguments:?}"),
    }
}

async fn run(count: u64) -> palm::Result<()> {
    assert!(count >= 100_000, "fewer messages than 100,000 show no leak");
    call(count / 50).await?;
    endure(count).await?;
    println!("2 passed, 0 failed");
    Ok(())
}

/// Growth that is allowed between the maximum of the beginning and the minimum of the end of a series of calls, in KiB:
/// noise of the allocator. A leak of 70 bytes for each call shows.
const CALLS_NOISE_KIB: u64 = 1024;

/// The same of a stream of messages, whose queues reach their largest size late on a slow machine. A leak of one allocation
/// for each message, 16 bytes at least, is over twice as much in a run of a million messages.
const STREAM_NOISE_KIB: u64 = 4 * 1024;

/// Growth that is allowed at any moment, in KiB, for messages under way.
const PEAK_KIB: u64 = 24 * 1024;

/// The memory of a process during a run.
struct Watched {
    name: &'static str,
    /// `None` for this process.
    process: Option<Process>,
    /// The maximum between 10 % and 40 % of the run, in KiB.
    begin: u64,
    /// The minimum and the maximum of the last quarter, in KiB.
    end: Option<(u64, u64)>,
}

impl Watched {
    fn new(name: &'static str, process: Option<Process>) -> Self {
        Self {
            name,
            process,
            begin: 0,
            end: None,
        }
    }

    fn start(name: &'static str, arguments: &[&str]) -> Self {
        Self::new(name, Some(Process::start(arguments)))
    }

    fn memory(&self) -> u64 {
        let process = self.process.as_ref();
        process.map_or_else(|| memory_kib("self"), Process::memory_kib)
    }

    /// Records the memory. Called at each percent of the run.
    fn sample(&mut self, percent: u64) {
        let now = self.memory();
        match percent {
            10..40 => self.begin = self.begin.max(now),
            75.. => {
                let (least, most) = self.end.unwrap_or((now, now));
                self.end = Some((least.min(now), most.max(now)));
            }
            _ => {}
        }
    }

    /// # Panics
    ///
    /// If the process has grown.
    fn check(&self, noise_kib: u64) {
        let Self {
            name, begin, end, ..
        } = self;
        let (least, most) = end.expect("the run has an end");
        println!("{name}: at most {begin} KiB in the beginning, {least} to {most} KiB in the end");
        assert!(*begin > 0, "the memory of {name} is not known");
        assert!(least < begin + noise_kib, "{name} grows");
        assert!(most < begin + PEAK_KIB, "{name} needs too much at times");
    }
}

/// Calls a server again whenever the previous answer has arrived.
async fn call(count: u64) -> palm::Result<()> {
    let server = Process::start(&["server"]);
    let client = Client::connect("server", server.address(0)).await?;
    let mut watched = [
        Watched::new("server", Some(server)),
        Watched::new("client", None),
    ];
    let start = Instant::now();
    for number in 0..count {
        let payload = number.to_be_bytes().to_vec();
        let answer = client.eval(Server::FOO, payload.clone()).await?;
        assert_eq!(answer, payload, "an answer to another call");
        if number.is_multiple_of(count / 100) {
            for process in &mut watched {
                process.sample(number * 100 / count);
            }
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    for process in &watched {
        process.check(CALLS_NOISE_KIB);
    }
    println!("test result: ok. {count} calls in a row, {each:.0} µs each\n");
    Ok(())
}

async fn endure(count: u64) -> palm::Result<()> {
    let master = Process::start(&["master"]);
    let address = master.address(0).to_owned();
    let worker = |name| Watched::start(name, &["worker", &address]);
    let mut processes = vec![
        worker("worker 1"),
        worker("worker 2"),
        Watched::new("master", Some(master)),
        Watched::new("client", None),
    ];

    let client = Client::connect("server", &*address).await?;
    let payloads = (0..count).map(|number| number.to_be_bytes().to_vec());
    let mut job = client.job(Echo::FOO, payloads).expect_answers(count);
    let mut seen = vec![0_u64; usize::try_from(count.div_ceil(64)).expect("it fits into memory")];
    let start = Instant::now();
    let mut received = 0;
    while let Some(answer) = job.next().await {
        let number: [u8; 8] = (&*answer?).try_into().expect("what was sent");
        let number = u64::from_be_bytes(number);
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        assert!(seen[word] & bit == 0, "{number} came twice");
        seen[word] |= bit;
        received += 1;
        if received % (count / 100) == 0 {
            for process in &mut processes {
                process.sample(received * 100 / count);
            }
        }
        if received % (count / 10) == 0 {
            let rate = received as f64 / start.elapsed().as_secs_f64();
            let memory = |process: &Watched| format!("{} {} KiB", process.name, process.memory());
            let memory: Vec<_> = processes.iter().map(memory).collect();
            println!(
                "{received:>12} messages, {rate:.0}/s; {}",
                memory.join(", ")
            );
        }
    }
    assert_eq!(received, count, "none is lost");
    for process in &processes {
        process.check(STREAM_NOISE_KIB);
    }
    println!("\ntest result: ok. {count} messages, none lost, memory flat");
    Ok(())
}
