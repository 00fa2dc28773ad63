//! What it costs to look into a cluster, in processor time of the observed and the observing process. The limits are those
//! of an optimized build: `cargo test --release -p palm-cli --test observe -- --ignored cost --nocapture`.

use std::time::Duration;

use libtest_mimic::Trial;
use palm::Bytes;
use palm::inspect::{Answer, Inspector};
use palm::report::{Edge, MAX_REPORT_BYTES, Report, Role};

use crate::problems::serve;
use crate::setup::{ANY, Component, cpu_time, trial};
use crate::tmux::Terminal;

/// Many reports, so that the time of one is known to a few per cent.
const REPORTS: u32 = 100;

/// The time over which the cost of an observation once a second is measured.
const SECONDS: u32 = 10;

pub(crate) fn tests() -> Vec<Trial> {
    let tests = [
        trial("cost_of_the_report_of_a_master_with_1000_workers", || {
            master(1000, Duration::from_millis(10), 300 * 1024)
        }),
        trial("cost_of_a_master_with_8_workers_that_is_observed", || {
            master(8, Duration::from_millis(1), 20 * 1024)
        }),
        trial("cost_of_palm_top_under_tmux_with_1000_instances", top),
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
    let before = cpu_time(master.pid());
    for _ in 0..REPORTS {
        report(&mut inspector).await;
    }
    let each = (cpu_time(master.pid()) - before) / REPORTS;
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
    let now = || [master, workers].map(|it| cpu_time(it.pid()));
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

/// Measures `palm top` with 1000 instances, which are sockets of this process with reports.
async fn top() {
    let mut addresses = Vec::new();
    for number in 1..1000 {
        let mut report = Report::new(number + 1, &format!("step {number}"));
        report.kind = "pipeline".to_owned();
        let reply = report.encode();
        addresses.push(serve(move |_, _| reply.clone()).await);
    }
    let mut first = Report::new(1, "master");
    for (number, address) in addresses.iter().enumerate() {
        let mut edge = Edge::default();
        edge.role = Role::Subscriber;
        edge.name = format!("step {}", number + 1);
        edge.db_address.clone_from(address);
        first.edges.push(edge);
    }
    let reply: Bytes = first.encode();
    let first = serve(move |_, _| reply.clone()).await;
    let terminal = Terminal::start(&first, "");
    terminal.shows(&["1000 components"]).await;
    let pid = terminal.pid();
    let before = cpu_time(pid);
    tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
    let each = (cpu_time(pid) - before) / SECONDS;
    let screen = terminal.screen();
    assert!(!screen.contains("unreachable"), "{screen}");
    println!("palm top with 1000 instances needs {each:?} a second");
    if !cfg!(debug_assertions) {
        assert!(each <= Duration::from_millis(50), "{each:?}");
    }
}
