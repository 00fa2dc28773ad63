//! Clusters under faults while clients call all the time: each call must be answered once. The components are real
//! processes, which are stopped and killed, and the connections between them are cut, held and delayed.
//!
//! ```text
//! cargo bench --bench soak                                  # all, for a minute each
//! cargo test --bench soak                                   # the same, in what is built already
//! cargo bench --bench soak -- workers 180                   # one of them, for so many seconds
//! cargo bench --bench soak -- workers 180 42                # as a seed that was printed had it
//! cargo bench --bench soak -- stopped 10 10000000           # a consumer that is stopped for 10 s
//! ```
//!
//! - `workers`: a master and four workers, killed with -9, stopped for a while, drained, cut off and replaced;
//!   the master is restarted now and then. Two clients.
//! - `pipelines`: a server, two pipelines and a sink in a row, each restarted.
//! - `tee`: a server, two pipelines that follow it, and a sink that follows both, each restarted. Answers are only
//!   counted: a message that a component has acknowledged while its connection was cut, just before it was stopped, may
//!   be answered twice.
//! - `chain`: a master with a downstream pipeline, and a server with a downstream hub, with their workers, each
//!   restarted.
//! - `stopped`: a consumer that receives nothing for some seconds, while a producer has many messages.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod components;
mod member;

use std::time::{Duration, Instant};

use fastrand::Rng;
use palm::prelude::*;
use palm::testing::Faults;

use member::{Member, signal};
use support::memory_kib;

/// Largest number of calls of a job.
const CALLS: usize = 1_000_000;

/// Time within which all calls under way must be answered after the last fault.
const LAST: Duration = Duration::from_secs(60);

/// Growth of a component that is allowed when all calls are answered: freed memory that the allocator keeps.
const GROWTH_KIB: u64 = 64 * 1024;

/// Growth of a server that is allowed while its consumer is stopped: the backlog of one subscriber, 10 000 messages
/// and a batch, or 64 MiB.
const STOPPED_GROWTH_KIB: u64 = 96 * 1024;

#[tokio::main]
async fn main() -> palm::Result<()> {
    let arguments = support::arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["run", role, at, ref arguments @ ..] => return components::run(role, at, arguments).await,
        ["call", name, first, last, steps] => {
            return components::call_for_ever((name, first), last, steps).await;
        }
        ["chaos", seconds] => chaos(number(seconds), fastrand::u64(..)).await,
        ["chaos", seconds, seed] => chaos(number(seconds), number(seed)).await,
        ["chaos-seeds", first, count, seconds] => {
            let passed = chaos::seeds(number(first), number(count), number(seconds)).await;
            assert!(passed, "there are seeds that failed");
        }
        ["stopped", seconds, messages] => {
            let messages = messages.parse().expect("a number of messages");
            stopped(number(seconds), messages).await;
        }
        [scenario, seconds] => soak(scenario, number(seconds), fastrand::u64(..)).await,
        [scenario, seconds, seed] => soak(scenario, number(seconds), number(seed)).await,
        [] => {
            for scenario in ["workers", "pipelines", "chain"] {
                soak(scenario, 60, fastrand::u64(..)).await;
            }
            stopped(10, 1_000_000).await;
            chaos(60, fastrand::u64(..)).await;
        }
        _ => panic!("not so: {arguments:?}"),
    }
    println!("test result: ok. nothing was lost, and nothing came twice");
    Ok(())
}

async fn chaos(seconds: u64, seed: u64) {
    assert!(chaos::run(seconds, seed).await, "the soak failed");
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Runs a client that makes one job after another until the end. Each call must be answered so many times. Returns the
/// number of calls.
async fn calls(client: Client, steps: &'static str, end: Instant, times: u8) -> usize {
    let mut called = 0;
    while Instant::now() < end {
        let arguments = (0..CALLS)
            .take_while(move |_| Instant::now() < end)
            .map(|call| call.to_string());
        let mut job = client.job(steps, arguments).timeout(LAST);
        if times > 1 {
            // The stream is copied, so the job must state its number of answers.
            job = client.job(steps, (0..20_000).map(|call| call.to_string()));
            job = job.expect_answers(20_000 * u64::from(times)).timeout(LAST);
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
            // Both pipelines receive each call.
            let steps = "server.step pipeline.step sink.step";
            client(("server", &server), &sink, steps, 2).await;
            members.extend([server, one, two, sink]);
        }
        "chain" => {
            let master = Member::start("master", &["pipelined"], &faults).await;
            let downstream =
                Member::start("pipeline", &["pipeline", master.address()], &faults).await;
            let worker = Member::start("worker", &[master.address()], &faults).await;
            client(
                ("master", &master),
                &downstream,
                "master.step pipeline.step",
                1,
            )
            .await;
            let server = Member::start("server", &[], &faults).await;
            let hub = Member::start("hub", &[server.address()], &faults).await;
            let hand = Member::start("worker", &[hub.address()], &faults).await;
            client(("server", &server), &hub, "server.step hub.step", 1).await;
            members.extend([master, downstream, worker, server, hub, hand]);
        }
        _ => panic!("no scenario `{scenario}`"),
    }
    let memory: Vec<_> = members.iter().map(Member::memory_kib).collect();
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
        match (fault, &member.proxy) {
            (0, _) => member.restart().await,
            // Messages in other components are lost when those are killed.
            (1, _) if member.role == "worker" => member.kill(),
            (2, _) if member.role == "worker" => member.stop_for(while_).await,
            (3, Some(proxy)) => proxy.cut().await,
            (4, Some(proxy)) => {
                proxy.hold();
                tokio::time::sleep(while_).await;
                proxy.release();
            }
            (5, Some(proxy)) => {
                proxy.delay(Duration::ZERO..=Duration::from_millis(random.u64(1..30)));
                tokio::time::sleep(while_).await;
                proxy.no_delay();
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
        "{scenario}: {called} calls; {restarted} restarts, {killed} kills, {stopped} stops, {cut} cuts, {held} holds, {delayed} delays"
    );
    // A soak without calls and faults would prove nothing.
    let (least_calls, least_faults) = (50 * seconds as usize, seconds as u32 / 10);
    assert!(called >= least_calls, "{least_calls} calls would be enough");
    let faults: u32 = did.iter().sum();
    assert!(
        faults >= least_faults,
        "{least_faults} faults would be enough"
    );
    for (mut member, before) in members.into_iter().zip(memory) {
        member.check_alive();
        let (role, now) = (member.role, member.memory_kib());
        println!("{role}: {now} KiB, {before} KiB at first");
        assert!(now < before + GROWTH_KIB, "`{role}` has grown");
    }
}

/// Stops a consumer for less than the idle timeout, while a producer has more messages than all queues hold. After the
/// idle timeout the consumer would be lost, with its backlog.
async fn stopped(seconds: u64, messages: usize) {
    let idle_timeout = Duration::from_secs(15);
    assert!(
        Duration::from_secs(seconds) < idle_timeout,
        "a consumer without a sign of life for {idle_timeout:?} is lost"
    );
    let faults = Faults::seeded(0);
    let server = Member::start("server", &["default_timeout"], &faults).await;
    let consumer = Member::start("sink", &[&server.at], &faults).await;
    // The window is larger than the capacity of all queues.
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
    let mut stop = None;
    while let Some(answer) = job.next().await {
        answer.expect("it answers");
        answered += 1;
        if answered == messages / 4 {
            before = answered as f64 / begin.elapsed().as_secs_f64();
            let memory = server.memory_kib();
            signal("STOP", consumer.id());
            let (id, of_server) = (consumer.id(), server.id());
            stop = Some(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let now = memory_kib(&of_server.to_string());
                signal("CONT", id);
                println!("the server has {now} KiB then, and had {memory}");
                assert!(now < memory + STOPPED_GROWTH_KIB, "the server grows");
            }));
        }
        if answered == messages / 2 {
            after = begin.elapsed().as_secs_f64();
        }
    }
    let after = (messages / 2) as f64 / (begin.elapsed().as_secs_f64() - after);
    assert_eq!(answered, messages);
    let stop = stop.expect("there are messages enough for a stop");
    stop.await.expect("the server did not grow");
    println!(
        "stopped for {seconds} s: {answered} of {messages} answered; {before:.0}/s before, {after:.0}/s afterwards"
    );
}
