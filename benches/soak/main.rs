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
mod diagnosis;
mod member;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use palm::prelude::*;
use palm::testing::Faults;
use tokio::sync::Mutex;

use member::{Member, signal};
use support::memory_kib;

/// Largest number of calls of a job.
const MAX_JOB_CALLS: u64 = 100_000;

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

/// The components of a scenario, and the random numbers that choose one for a fault.
type Members = Mutex<(Vec<Member>, Rng)>;

/// Injects a fault into one of the components.
async fn inject(members: &Members, fault: &str) -> Result<(), Infallible> {
    let (members, random) = &mut *members.lock().await;
    // Messages in other components are lost when those are killed.
    let is_for_workers = matches!(fault, "kill" | "stop");
    let members = members.iter_mut();
    let mut members: Vec<_> = members
        .filter(|member| !is_for_workers || member.role == "worker")
        .collect();
    let member = members.swap_remove(random.usize(..members.len()));
    let time = Duration::from_millis(random.u64(50..3500));
    eprintln!("{fault}, {} at {}, {time:?}", member.role, member.at);
    let proxy = || member.proxy.as_ref().expect("each has one");
    match fault {
        "restart" => member.restart().await,
        "kill" => member.kill(),
        "stop" => member.stop_for(time).await,
        "cut" => proxy().cut().await,
        "hold" => {
            proxy().hold();
            tokio::time::sleep(time).await;
            proxy().release();
        }
        _ => {
            proxy().delay(Duration::ZERO..=Duration::from_millis(random.u64(1..30)));
            tokio::time::sleep(time).await;
            proxy().no_delay();
        }
    }
    Ok(())
}

async fn soak(scenario: &str, seconds: u64, seed: u64) {
    println!("{scenario}: seed {seed}");
    let faults = Faults::seeded(seed);
    let mut members = Vec::new();
    let mut soaks = Vec::new();
    let duration = Duration::from_secs(seconds);
    let connect = async |first: (&'static str, &Member), last: &Member| {
        let client = Client::builder(first.0, first.1.address()).answered_by(last.address());
        client.connect().await.expect("it connects")
    };
    let soak_of = |client: Client, steps: &str| {
        let soak = faults.soak(client, steps).duration(duration);
        soak.max_job_calls(MAX_JOB_CALLS).answer_timeout(LAST)
    };
    match scenario {
        "workers" => {
            let master = Member::start("master", &["answers"], &faults).await;
            let [one, other] = [
                connect(("master", &master), &master).await,
                connect(("master", &master), &master).await,
            ];
            soaks.push(soak_of(one, "master.step").client(other));
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
            soaks.push(soak_of(connect(("server", &server), &sink).await, steps));
            members.extend([server, one, two, sink]);
        }
        "tee" => {
            let server = Member::start("server", &[], &faults).await;
            let one = Member::start("pipeline", &["pipeline", server.address()], &faults).await;
            let two = Member::start("pipeline", &["pipeline", server.address()], &faults).await;
            let sink = Member::start("sink", &[one.address(), two.address()], &faults).await;
            // Both pipelines receive each call.
            let steps = "server.step pipeline.step sink.step";
            let client = connect(("server", &server), &sink).await;
            soaks.push(soak_of(client, steps).copies(2));
            members.extend([server, one, two, sink]);
        }
        "chain" => {
            let master = Member::start("master", &["pipelined"], &faults).await;
            let downstream =
                Member::start("pipeline", &["pipeline", master.address()], &faults).await;
            let worker = Member::start("worker", &[master.address()], &faults).await;
            let client = connect(("master", &master), &downstream).await;
            soaks.push(soak_of(client, "master.step pipeline.step"));
            let server = Member::start("server", &[], &faults).await;
            let hub = Member::start("hub", &[server.address()], &faults).await;
            let hand = Member::start("worker", &[hub.address()], &faults).await;
            let client = connect(("server", &server), &hub).await;
            soaks.push(soak_of(client, "server.step hub.step"));
            members.extend([master, downstream, worker, server, hub, hand]);
        }
        _ => panic!("no scenario `{scenario}`"),
    }
    let memory: Vec<_> = members.iter().map(Member::memory_kib).collect();
    let has_workers = members.iter().any(|member| member.role == "worker");
    let members = Mutex::new((members, Rng::with_seed(seed)));
    let mut injected = vec!["restart", "cut", "hold", "delay"];
    if has_workers {
        injected.extend(["kill", "stop"]);
    }
    // Scenarios with several routes have one soak for each, of which the first injects the faults.
    let (first, others) = (soaks.remove(0), soaks);
    let first = injected.iter().fold(first, |soak, &fault| {
        soak.fault(fault, async || inject(&members, fault).await)
    });
    let soaks = std::iter::once(first)
        .chain(others)
        .map(palm::testing::Soak::run);
    let overdue = async {
        tokio::time::sleep(duration + LAST / 2).await;
        println!(
            "{scenario}: calls are overdue, {:?} after the last fault",
            LAST / 2
        );
        diagnosis::print(&members.lock().await.0).await;
        std::future::pending().await
    };
    let answered = async {
        tokio::select! {
            reports = join_all(soaks) => reports,
            never = overdue => never,
        }
    };
    let reports = tokio::time::timeout(duration + 3 * LAST, answered).await;
    let reports = reports.expect("all is answered in time");
    for report in &reports {
        println!("{scenario}: {report}");
    }
    if reports.iter().any(|report| !report.failures().is_empty()) {
        diagnosis::print(&members.lock().await.0).await;
    }
    for report in &reports {
        report.assert_all_answered();
    }
    // A soak without calls and faults would prove nothing.
    let called: u64 = reports.iter().map(palm::testing::SoakReport::calls).sum();
    let count = |fault: &&str| reports[0].faults(fault);
    let faults: u64 = injected.iter().map(count).sum();
    let (least_calls, least_faults) = (50 * seconds, seconds / 10);
    assert!(called >= least_calls, "{least_calls} calls would be enough");
    assert!(
        faults >= least_faults,
        "{least_faults} faults would be enough"
    );
    let (members, _) = members.into_inner();
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
