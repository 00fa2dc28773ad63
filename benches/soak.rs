//! Clusters in which everything goes wrong, while clients call all the time: each call is answered once. Real
//! processes, stopped and killed for real, and lines between them that are cut, held and delayed.
//!
//! ```text
//! cargo bench --bench soak                                  # all, for a minute each
//! cargo test --bench soak                                   # the same, in what is built already
//! cargo bench --bench soak -- workers 180                   # one of them, for so many seconds
//! cargo bench --bench soak -- workers 180 42                # as a seed that was printed had it
//! cargo bench --bench soak -- stopped 60 10000000           # a consumer that is stopped for a minute
//! ```
//!
//! - `workers`: a master and four workers, killed with -9, stopped for a while, drained, cut off and replaced;
//!   the master is restarted now and then. Two clients.
//! - `pipelines`: a server, two pipelines and a sink in a row, each restarted.
//! - `tee`: a server, two pipelines that follow it, and a sink that follows both, each restarted. Answers are
//!   counted, and cannot be told apart: what a component has acknowledged while its line was down, just before
//!   it was told to stop, may come twice.
//! - `chain`: a master, a pipeline behind it, and a hub behind a server, with their workers, each restarted.
//! - `stopped`: a consumer that takes nothing for some seconds, while a producer has many messages.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt;
use palm::LinkOptions;
use palm::component::SinkBuilder;
use palm::prelude::*;
use palm::testing::{Faults, Line};
use support::{ANY, Process, until_orphaned};

/// How many calls a job has at most.
const CALLS: usize = 1_000_000;

/// How long all that is under way may take when nothing goes wrong any more.
const LAST: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Step;

#[palm::server(name = "server")]
impl Step {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }
}

#[derive(Default)]
struct Follower;

#[palm::pipeline(name = "pipeline")]
impl Follower {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }
}

#[derive(Default)]
struct Last;

#[palm::sink(name = "sink")]
impl Last {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }
}

#[derive(Default)]
struct Worker;

#[palm::worker(server = "master")]
impl Worker {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }
}

/// So that who is stopped or cut off does not make all wait for long.
fn impatient() -> LinkOptions {
    let mut link = LinkOptions::default();
    link.patience = Duration::from_secs(2);
    link
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["run", role, at, ref follows @ ..] => return run(role, at, follows).await,
        ["stopped", seconds, messages] => {
            let messages = messages.parse().expect("a number of messages");
            stopped(number(seconds), messages).await;
        }
        [scenario, seconds] => soak(scenario, number(seconds), fastrand::u64(..)).await,
        [scenario, seconds, seed] => soak(scenario, number(seconds), number(seed)).await,
        _ => {
            for scenario in ["workers", "pipelines", "chain"] {
                soak(scenario, 60, fastrand::u64(..)).await;
            }
            stopped(10, 1_000_000).await;
        }
    }
    println!("test result: ok. nothing was lost, and nothing came twice");
    Ok(())
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// A component in this process.
async fn run(role: &str, at: &str, follows: &[&str]) -> palm::Result<()> {
    let link = impatient();
    let drain = Duration::from_secs(30);
    let component = match (role, follows) {
        ("server", []) => {
            let server = Step.bind(at).pipelined(true).link_options(link);
            server.drain_limit(drain).spawn().await?
        }
        ("pipeline", [name, first]) => {
            let pipeline = Follower.bind(at).name(*name).follow(*first);
            pipeline
                .link_options(link)
                .drain_limit(drain)
                .spawn()
                .await?
        }
        ("sink", streams) => {
            let sink = Last.bind(at).link_options(link).drain_limit(drain);
            let follow = |sink: SinkBuilder<Last>, stream: &&str| sink.follow(*stream);
            streams.iter().fold(sink, follow).spawn().await?
        }
        ("master", [pipelined]) => {
            let master = Master::new("master").bind(at).link_options(link);
            let master = master.pipelined(*pipelined == "pipelined");
            master.drain_limit(drain).spawn().await?
        }
        ("hub", [first]) => {
            let hub = Hub::new("hub").bind(at).follow(*first).link_options(link);
            hub.drain_limit(drain).spawn().await?
        }
        ("worker", []) => Worker.connect(at).concurrency(1).spawn().await?,
        _ => panic!("no role `{role}`"),
    };
    println!(
        "{}",
        component
            .addresses()
            .get("db_address")
            .map_or("ready", |at| at)
    );
    until_orphaned().await;
    component.shutdown().await?;
    Ok(())
}

/// A component, and a line in front of it, or of a worker, with its master.
struct Member {
    role: &'static str,
    at: String,
    follows: Vec<String>,
    process: Option<Process>,
    line: Option<Line>,
}

impl Member {
    async fn start(role: &'static str, follows: &[&str], faults: &Faults) -> Self {
        let line = async |to: &str| faults.line(to).await.expect("there is a port");
        let mut member = Self {
            role,
            at: ANY.to_owned(),
            follows: follows.iter().map(|&it| it.to_owned()).collect(),
            process: None,
            line: None,
        };
        if role == "worker" {
            // It has one with its master, and nobody connects to it.
            let with = line(follows[0]).await;
            member.follows.clear();
            member.at = with.address().to_owned();
            member.line = Some(with);
            member.run();
        } else {
            member.run();
            let process = member.process.as_ref().expect("it runs");
            member.at = process.address(0).to_owned();
            member.line = Some(line(&member.at).await);
        }
        member
    }

    /// Where others connect to.
    fn address(&self) -> &str {
        self.line.as_ref().map_or(&self.at, Line::address)
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    fn run(&mut self) {
        let mut arguments = vec!["run", self.role, &self.at];
        arguments.extend(self.follows.iter().map(String::as_str));
        self.process = Some(Process::start(&arguments));
    }

    async fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.release().await;
        }
        self.run();
    }

    fn kill(&mut self) {
        self.process = None;
        self.run();
    }

    async fn stop_for(&self, time: Duration) {
        signal("STOP", self.id());
        tokio::time::sleep(time).await;
        signal("CONT", self.id());
    }
}

/// Nothing that is safe and at hand sends one but this.
fn signal(signal: &str, id: u32) {
    let id = id.to_string();
    let status = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(status.expect("there is a `kill`").success());
}

/// A client that makes one job after the other until the end. Each call has to be answered so many times.
/// Tells how many calls there were.
async fn calls(client: Client, steps: &'static str, end: Instant, times: u8) -> usize {
    let mut called = 0;
    while Instant::now() < end {
        let arguments = (0..CALLS)
            .take_while(move |_| Instant::now() < end)
            .map(|call| call.to_string());
        let mut job = client.job(steps, arguments).timeout(LAST);
        if times > 1 {
            // A stream that is copied: how many answers there will be has to be said.
            job = client.job(steps, (0..20_000).map(|call| call.to_string()));
            job = job.messages(20_000 * u64::from(times)).timeout(LAST);
        }
        let mut answered = Vec::new();
        while let Some(answer) = job.next().await {
            let answer = answer.expect("it answers");
            let text = std::str::from_utf8(&answer).expect("it answers text");
            let call: usize = text.parse().expect("it answers what it got");
            if answered.len() <= call {
                answered.resize(call + 1, 0);
            }
            answered[call] += 1;
        }
        let sent = job.progress().sent as usize;
        assert_eq!(answered.len(), sent, "calls have no answer");
        for (what, wrong) in [
            (
                "not often enough",
                answered.iter().position(|&count| count < times),
            ),
            (
                "too often",
                answered.iter().position(|&count| count > times),
            ),
        ] {
            assert_eq!(wrong, None, "call answered {what}");
        }
        called += sent;
    }
    called
}

async fn soak(scenario: &str, seconds: u64, seed: u64) {
    println!("{scenario}: seed {seed}");
    let faults = Faults::seeded(seed);
    let mut random = Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut members = Vec::new();
    let mut clients = Vec::new();
    let mut client = async |first: (&'static str, &Member), last: &Member, steps, times| {
        let client = Client::builder(first.0, first.1.address()).answered_by(last.address());
        let client = client.connect().await.expect("it connects");
        clients.push(tokio::spawn(calls(client, steps, end, times)));
    };
    match scenario {
        "workers" => {
            let master = Member::start("master", &["answers"], &faults).await;
            for _ in 0..2 {
                client(("master", &master), &master, "master.step", 1).await;
            }
            for _ in 0..4 {
                members.push(Member::start("worker", &[master.address()], &faults).await);
            }
            members.push(master);
        }
        "pipelines" => {
            let server = Member::start("server", &[], &faults).await;
            let one = Member::start("pipeline", &["one", server.address()], &faults).await;
            let two = Member::start("pipeline", &["two", one.address()], &faults).await;
            let sink = Member::start("sink", &[two.address()], &faults).await;
            let steps = "server.step one.step two.step sink.step";
            client(("server", &server), &sink, steps, 1).await;
            members.extend([server, one, two, sink]);
        }
        "tee" => {
            let server = Member::start("server", &[], &faults).await;
            let one = Member::start("pipeline", &["pipeline", server.address()], &faults).await;
            let two = Member::start("pipeline", &["pipeline", server.address()], &faults).await;
            let sink = Member::start("sink", &[one.address(), two.address()], &faults).await;
            // Both pipelines get each call.
            let steps = "server.step pipeline.step sink.step";
            client(("server", &server), &sink, steps, 2).await;
            members.extend([server, one, two, sink]);
        }
        "chain" => {
            let master = Member::start("master", &["pipelined"], &faults).await;
            let behind = Member::start("pipeline", &["pipeline", master.address()], &faults).await;
            let worker = Member::start("worker", &[master.address()], &faults).await;
            client(("master", &master), &behind, "master.step pipeline.step", 1).await;
            let server = Member::start("server", &[], &faults).await;
            let hub = Member::start("hub", &[server.address()], &faults).await;
            let hand = Member::start("worker", &[hub.address()], &faults).await;
            client(("server", &server), &hub, "server.step hub.step", 1).await;
            members.extend([master, behind, worker, server, hub, hand]);
        }
        _ => panic!("no scenario `{scenario}`"),
    }
    let mut did = [0_u32; 6];
    while Instant::now() < end {
        let pause = Duration::from_millis(random.u64(100..1500));
        tokio::time::sleep(pause).await;
        let count = members.len();
        let member = &mut members[random.usize(..count)];
        let fault = random.usize(..6);
        let while_ = Duration::from_millis(random.u64(50..3500));
        let what = ["restarts", "kill", "stop", "cut", "hold", "delay"][fault];
        let left = end.saturating_duration_since(Instant::now());
        eprintln!(
            "{left:.1?} left: {what}, {} at {}, {while_:?}",
            member.role, member.at
        );
        match (fault, &member.line) {
            (0, _) => member.restart().await,
            // What is in others when they die is lost with them.
            (1, _) if member.role == "worker" => member.kill(),
            (2, _) if member.role == "worker" => member.stop_for(while_).await,
            (3, Some(line)) => line.cut().await,
            (4, Some(line)) => {
                line.hold();
                tokio::time::sleep(while_).await;
                line.release();
            }
            (5, Some(line)) => {
                line.delay(Duration::ZERO..=Duration::from_millis(random.u64(1..30)));
                tokio::time::sleep(while_).await;
                line.no_delay();
            }
            _ => continue,
        }
        did[fault] += 1;
    }
    let mut called = 0;
    for client in clients {
        let done = tokio::time::timeout(2 * LAST, client).await;
        called += done.expect("all is answered in time").expect("each once");
    }
    let [restarted, killed, stopped, cut, held, delayed] = did;
    println!(
        "{scenario}: {called} calls; {restarted} restarts, {killed} kills, {stopped} stops, {cut} cuts, {held} lines held, {delayed} delayed"
    );
}

/// A consumer that is stopped, while a producer has more messages than anybody has room for.
async fn stopped(seconds: u64, messages: usize) {
    let faults = Faults::seeded(0);
    let server = Member::start("server", &[], &faults).await;
    let consumer = Member::start("sink", &[&server.at], &faults).await;
    // More under way than anybody has room for.
    let client = Client::builder("server", &*server.at).answered_by(&*consumer.at);
    let client = client.window(100_000).connect().await.expect("it connects");
    let steps = "server.step sink.step";
    let arguments = (0..messages).map(|call| call.to_string());
    let mut job = client
        .job(steps, arguments)
        .timeout(LAST + Duration::from_secs(seconds));
    let begin = Instant::now();
    let mut answered = 0;
    let (mut before, mut after) = (0.0, 0.0);
    while let Some(answer) = job.next().await {
        answer.expect("it answers");
        answered += 1;
        if answered == messages / 4 {
            before = answered as f64 / begin.elapsed().as_secs_f64();
            let memory = resident(server.id());
            signal("STOP", consumer.id());
            let (id, of_server) = (consumer.id(), server.id());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                println!(
                    "the server has {} KiB then, and had {memory}",
                    resident(of_server)
                );
                signal("CONT", id);
            });
        }
        if answered == messages / 2 {
            after = begin.elapsed().as_secs_f64();
        }
    }
    let after = (messages / 2) as f64 / (begin.elapsed().as_secs_f64() - after);
    assert_eq!(answered, messages);
    println!(
        "stopped for {seconds} s: {answered} of {messages} answered; {before:.0}/s before, {after:.0}/s afterwards"
    );
}

/// What a process has in memory, in KiB, where Linux tells it; from `proc(5)`.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).unwrap_or_default()
}
