//! What it costs to look into a cluster, in processor time of the observed and the observing process. The limits are those
//! of an optimized build: `cargo test --release -p palm-cli --test observe -- --ignored cost --nocapture`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use histogram::Histogram;
use libtest_mimic::Trial;
use palm::Durations;
use palm::inspect::{Answer, Inspector};
use palm::report::{Edge, Function, MAX_REPORT_BYTES, Report, Role, Worker};

use crate::problems::serve;
use crate::setup::{ANY, Component, cpu_time, succeed, trial};
use crate::tmux::Terminal;

/// Many reports, so that the time of one is known to a few per cent.
const REPORTS: u32 = 100;

/// The time over which the cost of an observation once a second is measured.
const SECONDS: u32 = 10;

/// Rounds of an unobserved and an observed cluster under load, by turns.
const ROUNDS: usize = 5;

/// Calls of each round.
const CALLS: u32 = 500_000;

pub(crate) fn tests() -> Vec<Trial> {
    let tests = [
        trial("cost_of_the_report_of_a_master_with_1000_workers", || {
            master(1000, Duration::from_millis(10), 300 * 1024)
        }),
        trial("cost_of_a_master_with_8_workers_that_is_observed", || {
            master(8, Duration::from_millis(1), 20 * 1024)
        }),
        trial("cost_of_observing_a_server_under_load", || under_load(0)),
        trial(
            "cost_of_observing_a_master_with_2_workers_under_load",
            || under_load(2),
        ),
        trial(
            "cost_of_palm_top_under_tmux_with_1000_components",
            top_of_components,
        ),
        trial(
            "cost_of_palm_top_under_tmux_with_1000_workers",
            top_of_workers,
        ),
    ];
    tests.map(|it| it.with_ignored_flag(true)).into()
}

async fn report(inspector: &mut Inspector) -> Report {
    // A master that many workers join at once may be late.
    loop {
        if let Answer::Report(report) = inspector.inspect_first().await {
            return *report;
        }
    }
}

/// Measures the reports of a master with so many workers, and compares them with the limits.
async fn master(workers: usize, limit: Duration, limit_bytes: usize) {
    let master = Component::start(&["master", ANY]);
    let all = Component::start(&["workers", &master.db_address, &workers.to_string()]);
    let mut inspector = Inspector::new(&*master.db_address).unwrap();
    let (idle_master, idle_workers) = over_time(&master, &all, async || {}).await;
    // Until each worker has reported.
    let described = loop {
        let report = report(&mut inspector).await;
        let with_report = report.edges.iter().filter(|it| it.worker.is_some());
        if with_report.count() == workers {
            break report;
        }
    };
    let before = cpu_time(master.id());
    for _ in 0..REPORTS {
        report(&mut inspector).await;
    }
    let each = (cpu_time(master.id()) - before) / REPORTS;
    let bytes = described.encode().len();
    let (observed_master, observed_workers) = over_time(&master, &all, async || {
        report(&mut inspector).await;
    })
    .await;
    println!(
        "{workers} workers: a report costs the master {each:?} and has {bytes} bytes; observed once a second it needs {observed_master:?} a second, unobserved {idle_master:?}; all workers need {observed_workers:?}, unobserved {idle_workers:?}"
    );
    assert!(bytes <= limit_bytes && bytes <= MAX_REPORT_BYTES, "{bytes}");
    if !cfg!(debug_assertions) {
        assert!(each <= limit, "{each:?}");
    }
}

/// Returns the processor time a second of a master and of its workers, while `act` is done once a second.
async fn over_time(
    master: &Component,
    workers: &Component,
    mut act: impl AsyncFnMut(),
) -> (Duration, Duration) {
    let now = || [master, workers].map(|it| cpu_time(it.id()));
    let before = now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..=SECONDS {
        ticks.tick().await;
        act().await;
    }
    let after = now();
    (
        (after[0] - before[0]) / SECONDS,
        (after[1] - before[1]) / SECONDS,
    )
}

/// Compares the processor time of a call of 10 B in an observed and an unobserved cluster: `palm inspect` asks it once a
/// second. Each round is a cluster of its own, because workers report for a while after the last request.
async fn under_load(workers: usize) {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..2 * ROUNDS {
        let is_observed = round % 2 == 1;
        let kind = if workers == 0 {
            "server"
        } else {
            "plain_master"
        };
        let mut cluster = vec![Component::start(&[kind, ANY])];
        let address = cluster[0].db_address.clone();
        let names = ["alpha", "beta"].iter().take(workers);
        cluster.extend(names.map(|name| Component::start(&["worker", &address, name])));
        run_job(&address, CALLS / 10).await;
        let used = || cluster.iter().map(|it| cpu_time(it.id())).sum::<Duration>();
        let before = used();
        let mut requests = 0;
        tokio::select! {
            () = run_job(&address, CALLS) => {}
            () = inspect_each_second(&address, &mut requests), if is_observed => {}
        }
        assert_eq!(is_observed, requests > 0, "{requests}");
        times[usize::from(is_observed)].push((used() - before) / CALLS);
    }
    for times in &mut times {
        times.sort();
    }
    let [unobserved, observed] = times.map(|times| (times[0], times[ROUNDS / 2]));
    println!(
        "{workers} workers: a call costs the cluster {unobserved:?} (least and median), observed {observed:?}"
    );
    // An observation costs 0.1 %, and the noise of a busy machine is a tenth.
    assert!(observed.0 <= unobserved.0 * 5 / 4, "{observed:?}");
}

/// Runs a job of so many calls in a process of its own.
async fn run_job(address: &str, calls: u32) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["job", address, &calls.to_string()])
        .kill_on_drop(true);
    let status = command.status().await.unwrap();
    assert!(status.success(), "{status}");
}

async fn inspect_each_second(address: &str, requests: &mut u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        succeed(&["inspect", address, "--measure", "0"]).await;
        *requests += 1;
    }
}

/// Serves a component whose times and counters grow, as those of a running one: 1000 calls a second of its function, and as
/// many messages on each edge.
async fn serve_running(report: &Arc<Mutex<Report>>) -> String {
    let (begin, report) = (Instant::now(), report.clone());
    serve(move |_, _| {
        let mut report = report.lock().unwrap().clone();
        report.uptime = begin.elapsed();
        let calls = u64::try_from(report.uptime.as_millis()).unwrap();
        let mut durations = Histogram::new(5, 40).unwrap();
        for bucket in 1..=10 {
            durations.add(bucket * 10_000, calls / 10).unwrap();
        }
        let mut function = Function::default();
        function.name = "foo".to_owned();
        function.calls = calls;
        function.working = Durations::estimated(&durations);
        report.functions.push(function);
        for edge in &mut report.edges {
            edge.age = report.uptime;
            (edge.sent, edge.received) = (calls, calls);
        }
        report.encode()
    })
    .await
}

fn component(number: u64, name: &str, kind: &str) -> Arc<Mutex<Report>> {
    let mut report = Report::new(number, name);
    report.kind = kind.to_owned();
    Arc::new(Mutex::new(report))
}

fn add_edge(report: &Mutex<Report>, role: Role, name: &str, db_address: &str) {
    let mut edge = Edge::default();
    edge.role = role;
    edge.name = name.to_owned();
    edge.db_address = db_address.to_owned();
    report.lock().unwrap().edges.push(edge);
}

/// Measures `palm top` with 1000 instances, which are sockets of this process with reports: a master, and steps that follow
/// it.
async fn top_of_components() {
    let master = component(1000, "master", "master");
    let first = serve_running(&master).await;
    for number in 1..1000 {
        let name = format!("step {number}");
        let step = component(number, &name, "pipeline");
        add_edge(&step, Role::Upstream, "master", &first);
        let address = serve_running(&step).await;
        add_edge(&master, Role::Subscriber, &name, &address);
    }
    top(&first, "1000 components").await;
}

/// Measures `palm top` with a master that reports 1000 workers.
async fn top_of_workers() {
    let master = component(1001, "master", "master");
    for number in 1..=1000 {
        add_edge(&master, Role::Worker, &format!("worker {number}"), "");
        let mut worker = Worker::new(number);
        worker.concurrency = 8;
        master.lock().unwrap().edges.last_mut().unwrap().worker = Some(worker);
    }
    let first = serve_running(&master).await;
    top(&first, "worker 1").await;
}

/// Measures `palm top` at this address, once the screen shows `text`.
async fn top(address: &str, text: &str) {
    let terminal = Terminal::start(address, "");
    terminal.shows(&[text]).await;
    let pid = terminal.pid();
    let before = cpu_time(pid);
    tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
    let each = (cpu_time(pid) - before) / SECONDS;
    let screen = terminal.screen();
    assert!(!screen.contains("unreachable"), "{screen}");
    println!("palm top with {text} needs {each:?} a second");
    if !cfg!(debug_assertions) {
        assert!(each <= Duration::from_millis(50), "{each:?}");
    }
}
