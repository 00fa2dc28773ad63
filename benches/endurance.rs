//! A day's worth of messages in fast motion: ten million through a master and two workers, none lost,
//! and no process that grows; and a hundredth of them as calls of a server, one after the other.
//!
//! ```text
//! cargo bench --bench endurance
//! cargo bench --bench endurance -- 100000000
//! ```

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::time::Instant;

use futures_util::StreamExt;
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
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
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
        _ => run(10_000_000).await,
    }
}

async fn run(count: u64) -> palm::Result<()> {
    call(count / 100).await?;
    endure(count).await?;
    println!("2 passed, 0 failed");
    Ok(())
}

/// Calls a server, each time when the answer before is there.
async fn call(count: u64) -> palm::Result<()> {
    let server = Process::start(&["server"]);
    let client = Client::connect("server", server.address(0)).await?;
    let start = Instant::now();
    for number in 0..count {
        let payload = number.to_be_bytes().to_vec();
        let answer = client.eval(Server::FOO, payload.clone()).await?;
        assert_eq!(answer, payload, "an answer to another call");
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("test result: ok. {count} calls in a row, {each:.0} µs each\n");
    Ok(())
}

/// A component that is watched.
struct Watched {
    name: &'static str,
    process: Process,
    /// KiB after the warm-up.
    settled: u64,
}

impl Watched {
    fn start(name: &'static str, arguments: &[&str]) -> Self {
        Self {
            name,
            process: Process::start(arguments),
            settled: 0,
        }
    }

    fn memory(&self) -> u64 {
        self.process.memory_kib()
    }
}

async fn endure(count: u64) -> palm::Result<()> {
    let master = Watched::start("master", &["master"]);
    let address = master.process.address(0).to_owned();
    let worker = |name| Watched::start(name, &["worker", &address]);
    let mut processes = vec![worker("worker 1"), worker("worker 2"), master];

    let client = Client::connect("server", &*address).await?;
    let payloads = (0..count).map(|number| number.to_be_bytes().to_vec());
    let mut job = client.job(Echo::FOO, payloads).messages(count);
    let mut seen = vec![0_u64; usize::try_from(count.div_ceil(64)).expect("it fits into memory")];
    let mut settled = 0;
    let start = Instant::now();
    let mut received = 0;
    while let Some(answer) = job.next().await {
        let number: [u8; 8] = (&*answer?).try_into().expect("what was sent");
        let number = u64::from_be_bytes(number);
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        assert!(seen[word] & bit == 0, "{number} came twice");
        seen[word] |= bit;
        received += 1;
        if received == count / 10 {
            settled = memory_kib("self");
            for process in &mut processes {
                process.settled = process.memory();
            }
        }
        if received % (count / 10).max(1) == 0 {
            let rate = received as f64 / start.elapsed().as_secs_f64();
            let memory = |process: &Watched| format!("{} {} KiB", process.name, process.memory());
            let memory: Vec<_> = processes.iter().map(memory).collect();
            println!(
                "{received:>12} messages, {rate:.0}/s; {}, client {} KiB",
                memory.join(", "),
                memory_kib("self")
            );
        }
    }
    assert_eq!(received, count, "none is lost");

    // What a process had after a tenth of the messages, and some slack for the allocator.
    const SLACK: u64 = 24 * 1024;
    for process in &processes {
        let now = process.memory();
        assert!(
            now < process.settled + SLACK,
            "{} grew from {} to {now} KiB",
            process.name,
            process.settled
        );
    }
    let now = memory_kib("self");
    assert!(
        now < settled + SLACK,
        "the client grew from {settled} to {now} KiB"
    );
    println!("\ntest result: ok. {count} messages, none lost, memory flat");
    Ok(())
}
