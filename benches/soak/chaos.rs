//! `chaos`: any component is killed, stopped, drained, cut off and restarted at any moment, also while the cluster is
//! idle, and twice within seconds. Clients connect, leave and are killed.
//!
//! During faults a call may fail, with an error that states the cause. It is never answered wrongly, a job receives
//! each answer once, nothing hangs, and a function that is `at_most_once` runs at most once. Afterwards the cluster
//! settles within [`SETTLE_TIMEOUT`]: each component has the sessions that it had at first. Then each of [`CALLS`]
//! calls is answered once and has run once, and no process has grown by more than [`GROWTH_KIB`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::join_all;
use palm::prelude::*;
use palm::testing::Faults;
use palm::{CallError, FailureKind};
use tempfile::NamedTempFile;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::components::{COUNTED, RUNS, connect};
use crate::member::{Member, signal};
use crate::support::Process;

/// Number of calls at the end, half of them for each route.
const CALLS: usize = 2_000;

/// Time within which the cluster must settle. Sessions of killed clients end after `idle_timeout` and `session_expiry`,
/// 10 s together.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(40);

/// Time within which the calls at the end must be answered.
const CALLS_TIMEOUT: Duration = Duration::from_secs(40);

/// Growth that is allowed between the first process of a role and its last one.
const GROWTH_KIB: u64 = 24 * 1024;

/// Time beyond its timeout after which a call counts as hanging.
const LATE: Duration = Duration::from_secs(5);

/// Time within which a job must end during faults.
const JOB_LIMIT: Duration = Duration::from_secs(90);

/// Time that a client waits for an answer during a job.
const JOB_TIMEOUT: Duration = Duration::from_secs(5);

/// A route through the cluster.
#[derive(Debug, Clone)]
struct Route {
    name: &'static str,
    first: String,
    last: String,
    steps: &'static str,
    /// The steps that a call has passed when it is answered.
    passed: &'static str,
}

impl Route {
    async fn connect(&self) -> Result<Client, palm::ConnectError> {
        connect(self.name, &self.first, &self.last).await
    }

    fn answer_to(&self, call: &str) -> String {
        format!("{call}{}", self.passed)
    }
}

/// The calls that are made at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Singles,
    Jobs,
    /// Clients connect and leave.
    Visitors,
    /// Clients are killed.
    Victims,
    Over,
}

/// A fault of a component.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill {
        down: Duration,
    },
    Drain {
        down: Duration,
    },
    Stop {
        time: Duration,
    },
    /// The component is killed while it is stopped.
    StopAndKill {
        time: Duration,
    },
    Cut,
    Hold {
        time: Duration,
    },
    Delay {
        time: Duration,
        most: Duration,
    },
    Refuse {
        time: Duration,
    },
}

impl Blow {
    fn random(random: &mut Rng) -> Self {
        let mut time = |most| Duration::from_millis(random.u64(0..most));
        let (down, long) = (time(1_500), time(3_000));
        // Peers have not noticed the loss of a component that is restarted immediately.
        let down = if down.as_millis().is_multiple_of(2) {
            Duration::ZERO
        } else {
            down
        };
        match random.u8(0..12) {
            0..=3 => Self::Kill { down },
            4 | 5 => Self::Drain { down },
            6 => Self::Stop { time: long },
            7 => Self::StopAndKill { time: long },
            8 => Self::Cut,
            9 => Self::Hold { time: long },
            10 => Self::Delay {
                time: long,
                most: Duration::from_millis(random.u64(1..50)),
            },
            _ => Self::Refuse { time: long / 2 },
        }
    }
}

/// A member, and its faults.
struct Incident {
    member: usize,
    /// Each fault, and what follows it.
    blows: Vec<(Blow, Duration)>,
}

impl Incident {
    fn random(random: &mut Rng, member: usize) -> Self {
        let count = if random.bool() { 1 } else { 2 };
        let blows = (0..count).map(|_| {
            let blow = Blow::random(random);
            let pause = if random.bool() { 0..50 } else { 0..2_000 };
            (blow, Duration::from_millis(random.u64(pause)))
        });
        Self {
            member,
            blows: blows.collect(),
        }
    }
}

async fn strike(member: &mut Member, blow: Blow) {
    let sleep = tokio::time::sleep;
    member.check_alive();
    let proxy = member.proxy.as_ref().expect("each has one");
    match blow {
        Blow::Kill { down } => {
            member.process = None;
            sleep(down).await;
            member.launch();
        }
        Blow::Drain { down } => {
            member.drain().await;
            sleep(down).await;
            member.launch();
        }
        Blow::Stop { time } => member.stop_for(time).await,
        Blow::StopAndKill { time } => {
            signal("STOP", member.id());
            sleep(time).await;
            member.process = None;
            member.launch();
        }
        Blow::Cut => proxy.cut().await,
        Blow::Hold { time } => {
            proxy.hold();
            sleep(time).await;
            proxy.release();
        }
        Blow::Delay { time, most } => {
            proxy.delay(Duration::ZERO..=most);
            sleep(time).await;
            proxy.no_delay();
        }
        Blow::Refuse { time } => {
            proxy.refuse();
            sleep(time).await;
            proxy.accept();
        }
    }
}

/// The outcomes of calls.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    failed: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn fail(&mut self, why: &'static str) {
        *self.failed.entry(why).or_default() += 1;
    }

    fn count<T>(&mut self, result: &Result<T, CallError>) {
        match result {
            Ok(_) => self.answered += 1,
            Err(error) => self.fail(excuse(error)),
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        for (why, count) in other.failed {
            *self.failed.entry(why).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} answered", self.answered)?;
        for (why, count) in &self.failed {
            write!(formatter, ", {count} {why}")?;
        }
        Ok(())
    }
}

/// The errors with which a call may fail during faults.
fn excuse(error: &CallError) -> &'static str {
    match error {
        CallError::Timeout { .. } => "timed out",
        CallError::Remote(remote) => match remote.kind {
            FailureKind::Unavailable => "unavailable",
            FailureKind::DeadlineExceeded => "too late",
            _ => panic!("no fault explains the error `{error}`: {error:?}"),
        },
        _ => panic!("no fault explains the error `{error}`: {error:?}"),
    }
}

/// Makes a call, which must end in time.
async fn single(
    client: &Client,
    route: &Route,
    steps: &str,
    call: String,
    timeout: Duration,
) -> Result<(), CallError> {
    let eval = client.eval(steps, call.clone()).timeout(timeout);
    let answer = tokio::time::timeout(timeout + LATE, eval.into_future()).await;
    let answer =
        answer.unwrap_or_else(|_| panic!("`{call}` hangs beyond its timeout of {timeout:?}"))?;
    assert_eq!(answer, route.answer_to(&call), "a wrong answer");
    Ok(())
}

/// Makes so many calls as a job, each of which ends once.
async fn job(client: &Client, route: &Route, name: &str, count: usize) -> Tally {
    let mut open: HashMap<String, usize> = HashMap::new();
    let calls: Vec<_> = (0..count)
        .map(|number| format!("{name} {number}"))
        .collect();
    for (number, call) in calls.iter().enumerate() {
        open.insert(route.answer_to(call), number);
    }
    let mut tally = Tally::default();
    let mut job = client.job(route.steps, calls).timeout(JOB_TIMEOUT);
    let all = async {
        let mut ended = 0;
        while let Some(answer) = job.next().await {
            tally.count(&answer);
            match answer {
                Ok(answer) => {
                    let answer = String::from_utf8_lossy(&answer);
                    let is_open = open.remove(&*answer).is_some();
                    assert!(is_open, "an answer is wrong, or was repeated: `{answer}`");
                    ended += 1;
                }
                Err(CallError::Remote(_)) => ended += 1,
                // This error ends the job.
                Err(_) => return,
            }
        }
        assert_eq!(
            ended, count,
            "a job is over, and calls of it have no answer"
        );
    };
    let done = tokio::time::timeout(JOB_LIMIT, all).await;
    assert!(
        done.is_ok(),
        "the job `{name}` is not over within {JOB_LIMIT:?}"
    );
    tally
}

/// A client that stays connected, and calls until the phase ends.
async fn stay(
    client: Client,
    route: Route,
    id: String,
    seed: u64,
    mut phase: watch::Receiver<Phase>,
) -> Tally {
    let mut random = Rng::with_seed(seed);
    let mut tally = Tally::default();
    for round in 0.. {
        let name = format!("{id}.{round}");
        let timeout = Duration::from_secs([1, 3, 8][random.usize(..3)]);
        let now = *phase.borrow_and_update();
        match now {
            Phase::Over => break,
            Phase::Idle => {
                let _ = phase.changed().await;
            }
            Phase::Jobs => {
                let count = random.usize(1..3_000);
                tally.add(job(&client, &route, &name, count).await);
            }
            Phase::Singles | Phase::Visitors | Phase::Victims => {
                let steps = match random.u8(..4) {
                    0 if route.name == "master" => "master.once",
                    1 if route.name == "master" => "master.slow",
                    _ => route.steps,
                };
                tally.count(&single(&client, &route, steps, name, timeout).await);
                tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
            }
        }
    }
    tally
}

/// A client that connects, makes some calls, and leaves.
async fn come_and_go(route: Route, id: usize) -> Tally {
    let mut tally = Tally::default();
    match route.connect().await {
        Ok(client) => {
            for number in 0..5 {
                let call = format!("visitor {id}.{number}");
                let timeout = Duration::from_secs(3);
                tally.count(&single(&client, &route, route.steps, call, timeout).await);
            }
        }
        Err(error) => {
            eprintln!("a client did not connect: {error}");
            tally.fail("not connected");
        }
    }
    tally
}

/// Changes phases until the end, and starts clients that leave again.
async fn change_phases(
    phase: watch::Sender<Phase>,
    routes: Vec<Route>,
    seed: u64,
    end: Instant,
) -> Tally {
    let mut random = Rng::with_seed(seed);
    let mut visitors = JoinSet::new();
    let mut id = 0;
    while Instant::now() < end {
        // Often idle, since faults before the first message show later; but not always.
        let busy = [Phase::Singles, Phase::Jobs, Phase::Visitors, Phase::Victims];
        let was_idle = *phase.borrow() == Phase::Idle && id > 0;
        let next = if random.bool() && !was_idle {
            Phase::Idle
        } else {
            busy[random.usize(..busy.len())]
        };
        id += 1;
        eprintln!("      {next:?}");
        phase.send_replace(next);
        let route = &routes[random.usize(..routes.len())];
        let time = Duration::from_millis(random.u64(300..3_000));
        match next {
            Phase::Visitors => {
                for _ in 0..4 {
                    id += 1;
                    visitors.spawn(come_and_go(route.clone(), id));
                }
            }
            Phase::Victims => {
                let Route {
                    name,
                    first,
                    last,
                    steps,
                    ..
                } = route;
                let victim = Process::launch(Process::command(&["call", name, first, last, steps]));
                tokio::time::sleep(time / 2).await;
                drop(victim);
            }
            _ => {}
        }
        tokio::time::sleep(time).await;
    }
    phase.send_replace(Phase::Over);
    let mut tally = Tally::default();
    while let Some(visitor) = visitors.join_next().await {
        tally.add(visitor.expect("a client does not panic"));
    }
    tally
}

/// The counters of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    sessions: u64,
    under_way: u64,
    counted: u64,
}

async fn report(member: &mut Member) -> Report {
    member.check_alive();
    let (role, at) = (member.role, member.at.clone());
    let process = member.process.as_mut().expect("it runs");
    assert!(process.ready().await, "`{role}` at {at} does not start");
    let line = process.request("report").await;
    let line = line.unwrap_or_else(|| panic!("`{role}` at {at} reports nothing"));
    let numbers: Vec<u64> = line
        .split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect();
    let [sessions, under_way, counted] = numbers[..] else {
        panic!("`{role}` reports `{line}`");
    };
    Report {
        sessions,
        under_way,
        counted,
    }
}

async fn reports(members: &mut [Member]) -> Vec<Report> {
    join_all(members.iter_mut().map(report)).await
}

fn sessions(reports: &[Report]) -> Vec<u64> {
    reports.iter().map(|report| report.sessions).collect()
}

/// Runs the soak in a task, and prints how to repeat it if it fails.
pub(crate) async fn run(seconds: u64, seed: u64) -> bool {
    println!("chaos: seed {seed}");
    let soak = tokio::spawn(soak(seconds, seed)).await;
    if soak.is_err() {
        println!(
            "chaos: seed {seed} FAILED; again: cargo bench --bench soak -- chaos {seconds} {seed}"
        );
    }
    soak.is_ok()
}

/// Runs the soak with each of several seeds.
pub(crate) async fn seeds(first: u64, count: u64, seconds: u64) -> bool {
    let mut failed = Vec::new();
    for seed in first..first + count {
        if !run(seconds, seed).await {
            failed.push(seed);
        }
    }
    println!(
        "chaos: {} of {count} seeds passed; failed: {failed:?}",
        count - failed.len() as u64
    );
    failed.is_empty() && count > 0
}

async fn soak(seconds: u64, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let faults = Faults::seeded(random.u64(..));
    let runs = NamedTempFile::new().expect("a temporary file can be created");
    let runs = Arc::new(runs);
    let begin = Instant::now();

    let start = async |role, arguments: &[&str]| {
        Member::start_with(role, arguments, &faults, (RUNS, runs.path())).await
    };
    let server = start("brief-server", &[]).await;
    let hub = start("brief-hub", &[server.address()]).await;
    let pipeline = start("brief-pipeline", &[hub.address()]).await;
    let sink = start("brief-sink", &[pipeline.address()]).await;
    let master = start("brief-master", &[]).await;
    let routes = vec![
        Route {
            name: "server",
            first: server.address().to_owned(),
            last: sink.address().to_owned(),
            steps: "server.visit hub.visit pipeline.visit sink.visit",
            passed: ">server>worker>pipeline>sink",
        },
        Route {
            name: "master",
            first: master.address().to_owned(),
            last: master.address().to_owned(),
            steps: "master.visit",
            passed: ">worker",
        },
    ];
    let mut members = Vec::new();
    for at in [&hub, &hub, &master, &master, &master, &master] {
        members.push(start("brief-worker", &[at.address()]).await);
    }
    members.extend([server, hub, pipeline, sink, master]);
    let mut clients = Vec::new();
    for route in &routes {
        clients.push(route.connect().await.expect("it connects"));
    }

    // No call has been made yet, so a component that is killed now has not received anything.
    let expected = quiet(&mut members).await;
    let memory: Vec<_> = members.iter().map(Member::memory_kib).collect();
    println!(
        "chaos: started in {:.1?}, sessions {expected:?}",
        begin.elapsed()
    );

    let end = Instant::now() + Duration::from_secs(seconds);
    let (phase, _) = watch::channel(Phase::Idle);
    let mut callers = JoinSet::new();
    for (number, (client, route)) in clients.iter().zip(&routes).enumerate() {
        let (client, route) = (client.clone(), route.clone());
        let id = format!("client {number}");
        callers.spawn(stay(client, route, id, random.u64(..), phase.subscribe()));
    }
    callers.spawn(change_phases(phase, routes.clone(), random.u64(..), end));

    let mut did = 0;
    while Instant::now() < end {
        let pause = if random.bool() { 0..200 } else { 0..1_500 };
        tokio::time::sleep(Duration::from_millis(random.u64(pause))).await;
        let mut chosen: Vec<_> = (0..members.len()).collect();
        random.shuffle(&mut chosen);
        let count = [1, 1, 1, 2, 2, 4][random.usize(..6)];
        let incidents: Vec<_> = chosen[..count]
            .iter()
            .map(|&member| Incident::random(&mut random, member))
            .collect();
        for Incident { member, blows } in &incidents {
            let Member { role, at, .. } = &members[*member];
            eprintln!("{:5.1?} {role} at {at}: {blows:?}", begin.elapsed());
            did += blows.len();
        }
        let struck = members
            .iter_mut()
            .enumerate()
            .filter_map(|(number, member)| {
                let incident = incidents
                    .iter()
                    .find(|incident| incident.member == number)?;
                Some(async move {
                    for &(blow, pause) in &incident.blows {
                        strike(member, blow).await;
                        tokio::time::sleep(pause).await;
                    }
                })
            });
        join_all(struck).await;
    }
    let mut tally = Tally::default();
    while let Some(caller) = callers.join_next().await {
        tally.add(caller.expect("a client does not panic"));
    }

    let settling = Instant::now();
    settle(&mut members, &clients, &routes, &expected).await;
    let settled = settling.elapsed();

    let calling = tokio::time::timeout(CALLS_TIMEOUT, call_all(&clients, &routes));
    calling.await.unwrap_or_else(|_| {
        panic!("{CALLS} calls without faults take longer than {CALLS_TIMEOUT:?}")
    });
    let last = reports(&mut members).await;
    for (role, each) in [("worker", 1), ("server", 1), ("pipeline", 1), ("sink", 1)] {
        let of_role = |(member, _): &(&Member, _)| member.role.ends_with(role);
        let ran = members
            .iter()
            .zip(&last)
            .filter(of_role)
            .map(|(_, report)| report.counted)
            .sum::<u64>();
        let calls = if role == "worker" {
            CALLS
        } else {
            CALLS / 2 * each
        };
        assert_eq!(ran, calls as u64, "runs of so many calls at each `{role}`");
    }
    assert_eq!(sessions(&last), expected, "sessions after all calls");

    let mut grown = 0;
    for (member, before) in members.iter().zip(memory) {
        let now = member.memory_kib();
        let role = member.role;
        assert!(
            now < before + GROWTH_KIB,
            "`{role}` has {now} KiB, and had {before} at first"
        );
        grown = grown.max(now.saturating_sub(before));
    }
    let written = std::fs::read_to_string(runs.path()).expect("the file of runs");
    let mut times: HashMap<&str, usize> = HashMap::new();
    for call in written.lines() {
        *times.entry(call).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        twice.is_empty(),
        "calls that are at most once ran more often: {twice:?}"
    );

    // A soak without calls and faults would prove nothing.
    let (least_calls, least_blows) = (seconds as usize, (seconds as usize / 4).max(1));
    assert!(
        tally.answered >= least_calls,
        "only {tally}; {least_calls} would be enough"
    );
    assert!(did >= least_blows, "only {did} faults");
    println!(
        "chaos: seed {seed} ok: {did} faults; {tally}; settled in {settled:.1?}; grown by at most {grown} KiB"
    );
}

/// Waits until sessions have not changed for a while, and returns their number.
async fn quiet(members: &mut [Member]) -> Vec<u64> {
    let mut before = sessions(&reports(members).await);
    let mut same = 0;
    while same < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = sessions(&reports(members).await);
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    before
}

/// Waits until each component has the expected sessions, no message is under way, and both routes answer.
async fn settle(members: &mut [Member], clients: &[Client], routes: &[Route], expected: &[u64]) {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    for number in 0.. {
        let mut problems = Vec::new();
        for (client, route) in clients.iter().zip(routes) {
            let call = format!("settle {number}");
            if let Err(error) =
                single(client, route, route.steps, call, Duration::from_secs(2)).await
            {
                problems.push(format!("`{}` does not answer: {error}", route.name));
            }
        }
        let reports = reports(members).await;
        for ((member, report), &expected) in members.iter().zip(reports).zip(expected) {
            let Report {
                sessions,
                under_way,
                ..
            } = report;
            let (role, at) = (member.role, &member.at);
            if sessions != expected {
                problems.push(format!(
                    "`{role}` at {at} has {sessions} sessions instead of {expected}"
                ));
            }
            if under_way > 0 {
                problems.push(format!(
                    "`{role}` at {at} has {under_way} messages under way"
                ));
            }
        }
        if problems.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not settled within {SETTLE_TIMEOUT:?}: {problems:#?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the calls of the end: for each route, half as a job and half as single calls, some at a time.
async fn call_all(clients: &[Client], routes: &[Route]) {
    let counted = std::str::from_utf8(COUNTED).expect("it is text");
    for (client, route) in clients.iter().zip(routes) {
        let half = CALLS / 4;
        let tally = job(client, route, &format!("{counted} job"), half).await;
        assert_eq!(
            (tally.answered, tally.failed),
            (half, BTreeMap::new()),
            "calls of a job without faults"
        );
        let singles = futures_util::stream::iter(0..half).map(|number| {
            let call = format!("{counted} single {number}");
            single(client, route, route.steps, call, Duration::from_secs(20))
        });
        let mut singles = singles.buffer_unordered(32);
        while let Some(done) = singles.next().await {
            done.expect("a call without faults is answered");
        }
    }
}
