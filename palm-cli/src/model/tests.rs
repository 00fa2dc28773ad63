use std::time::{Duration, Instant};

use palm::inspect::{Answer, Cluster};
use palm::report::{Backlog, Edge, Part, Report, Role, Worker};

use super::*;

/// A cluster of hand-made reports, which are made once a second.
#[derive(Default)]
struct Made {
    reports: Vec<Report>,
    others: Vec<(String, Answer)>,
}

fn address(name: &str) -> String {
    format!("tcp://{name}:5559")
}

/// A peer for which a component has waited for `stalled` ms.
fn edge(role: Role, name: &str, stalled: u64, waiting: u64) -> Edge {
    let mut edge = Edge::default();
    edge.role = role;
    edge.name = name.to_owned();
    edge.stalled = Duration::from_millis(stalled);
    edge.waiting = Backlog::new(waiting, 0).with_limits(10_000, 0);
    if role == Role::Subscriber {
        edge.db_address = address(name);
    }
    edge
}

fn worker(name: &str, stalled: u64, waiting: u64, worked: u64) -> Edge {
    let mut edge = edge(Role::Worker, name, stalled, waiting);
    let mut worker = Worker::new(1);
    worker.concurrency = 2;
    worker.worked = Duration::from_millis(worked);
    edge.worker = Some(worker);
    edge
}

impl Made {
    /// Adds a component with these edges, after the second in which they have stalled.
    fn component(mut self, name: &str, edges: Vec<Edge>) -> Self {
        let mut report = Report::new(self.reports.len() as u64 + 1, name);
        report.db_address = address(name);
        report.kind = "server".to_owned();
        report.edges = edges;
        self.reports.push(report);
        self
    }

    fn tasks(mut self, tasks: u64) -> Self {
        self.reports.last_mut().unwrap().tasks = Backlog::new(tasks, 0);
        self
    }

    fn unreachable(mut self, name: &str, reason: &str) -> Self {
        let answer = Answer::Unreachable(reason.to_owned());
        self.others.push((address(name), answer));
        self
    }

    /// Returns the state after a second: in the first report all counters are 0.
    fn monitor(self) -> Monitor {
        let mut monitor = Monitor::default();
        for second in [1, 2] {
            let mut cluster = Cluster::default();
            for report in &self.reports {
                let mut report = report.clone();
                report.uptime = Duration::from_secs(second);
                for edge in &mut report.edges {
                    edge.age = Duration::from_secs(second);
                    if second == 1 {
                        edge.stalled = Duration::ZERO;
                        edge.worker
                            .iter_mut()
                            .for_each(|it| it.worked = Duration::ZERO);
                    }
                }
                let answer = Answer::Report(Box::new(report.clone()));
                cluster.components.insert(report.db_address, answer);
            }
            cluster.components.extend(self.others.iter().cloned());
            monitor.update(cluster, Instant::now());
        }
        monitor
    }

    fn sentence(self) -> String {
        self.monitor().bottleneck().to_string()
    }
}

#[test]
fn last_component_of_a_slow_chain_is_the_bottleneck() {
    let chain = Made::default()
        .component("first", vec![edge(Role::Subscriber, "second", 990, 10_000)])
        .component("second", vec![edge(Role::Subscriber, "third", 970, 9500)])
        .component("third", vec![edge(Role::Subscriber, "fourth", 10, 3)])
        .component("fourth", vec![edge(Role::Upstream, "third", 1000, 0)]);
    assert_eq!(
        chain.sentence(),
        "Bottleneck: `third`. `second` waits for it 97 % of the time, with 9,500 of 10,000 messages waiting."
    );
}

#[test]
fn slower_branch_is_the_bottleneck() {
    let branches = vec![
        edge(Role::Subscriber, "slow", 600, 10_000),
        edge(Role::Subscriber, "slower", 900, 10_000),
    ];
    let cluster = Made::default()
        .component("first", branches)
        .component("slow", vec![])
        .component("slower", vec![]);
    assert!(cluster.sentence().starts_with("Bottleneck: `slower`."));
}

#[test]
fn nothing_is_slow_without_stalls() {
    let cluster = || Made::default().component("a", vec![edge(Role::Subscriber, "b", 40, 20)]);
    let nothing = "Nothing is slow: no component waits for another one.";
    assert_eq!(cluster().sentence(), nothing);
    let mut once = Monitor::default();
    let mut answers = Cluster::default();
    let report = Answer::Report(Box::new(cluster().reports.remove(0)));
    answers.components.insert(address("a"), report);
    once.update(answers, Instant::now());
    assert_eq!(once.bottleneck(), Bottleneck::Unknown);
}

#[test]
fn component_with_a_backlog_is_the_bottleneck_before_others_wait_for_it() {
    let with_queue = |messages| {
        let mut cluster = Made::default().component("a", vec![edge(Role::Subscriber, "b", 0, 20)]);
        let mut part = Part::default();
        part.queue = Backlog::new(messages, 0).with_limits(1000, 0);
        cluster.reports[0].parts = vec![part];
        cluster
    };
    assert_eq!(
        with_queue(800).sentence(),
        "Bottleneck: `a`. 800 messages wait in it; no component waits for it yet."
    );
    assert!(with_queue(99).sentence().starts_with("Nothing is slow"));
    let mut waits = with_queue(1);
    waits.reports[0].waits = "no worker is connected (1 call waits)".to_owned();
    assert_eq!(
        waits.sentence(),
        "Bottleneck: `a`. 1 message waits in it: no worker is connected (1 call waits)."
    );
    let stopped = with_queue(800).unreachable("b", "it is stopped");
    assert_eq!(
        stopped.sentence(),
        "Bottleneck: `tcp://b:5559`. 20 messages wait for it: it does not answer: it is stopped."
    );
}

#[test]
fn workers_are_the_bottleneck_together_if_the_master_waits_for_each() {
    let pool = vec![worker("a", 980, 2, 2000), worker("b", 950, 2, 1900)];
    let master = Made::default().component("master", pool).tasks(315);
    assert_eq!(
        master.sentence(),
        "Bottleneck: the 2 workers of `master`. `master` waits for them 98 % of the time, with 319 messages waiting; they are 98 % busy."
    );
    let idle = vec![worker("a", 980, 2, 100), worker("b", 950, 2, 100)];
    let sentence = Made::default().component("master", idle).sentence();
    let expected = "they are 5 % busy. Methods are not slow: the processors are in use, or `prefetch` is too small.";
    assert!(sentence.ends_with(expected), "{sentence}");
    let one = vec![worker("a", 980, 2, 0), worker("b", 0, 2, 1900)];
    let master = Made::default().component("master", one);
    let sentence = master.sentence();
    assert!(
        sentence.starts_with("Bottleneck: the worker `a` of `master`."),
        "{sentence}"
    );
}

#[test]
fn workers_are_not_the_bottleneck_if_their_results_cannot_be_passed_on() {
    let edges = vec![
        worker("a", 990, 2, 2000),
        edge(Role::Subscriber, "index", 800, 10_000),
    ];
    let cluster = Made::default()
        .component("master", edges)
        .component("index", vec![]);
    assert!(cluster.sentence().starts_with("Bottleneck: `index`."));
}

#[test]
fn stopped_component_and_slow_client_are_named_with_the_reason() {
    let stopped = Made::default()
        .component("first", vec![edge(Role::Subscriber, "second", 1000, 7)])
        .unreachable("second", "connection refused");
    assert_eq!(
        stopped.sentence(),
        "Bottleneck: `tcp://second:5559`. `first` waits for it 100 % of the time, with 7 of 10,000 messages waiting. It does not answer: connection refused."
    );
    let client = vec![edge(Role::Client, "load\u{1b}[2J", 500, 7)];
    let sentence = Made::default().component("first", client).sentence();
    assert!(
        sentence.starts_with("Bottleneck: the client `load\u{fffd}[2J`."),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("It does not read its answers fast enough."),
        "{sentence}"
    );
}

#[test]
fn circle_of_components_that_wait_names_the_worst() {
    let circle = Made::default()
        .component("a", vec![edge(Role::Subscriber, "b", 600, 1)])
        .component("b", vec![edge(Role::Subscriber, "a", 900, 1)]);
    assert!(circle.sentence().starts_with("Bottleneck: `a`."));
}

#[test]
fn component_at_two_addresses_is_listed_once() {
    let mut monitor = Monitor::default();
    let mut cluster = Cluster::default();
    let mut report = Report::new(7, "math");
    report.db_address = "tcp://127.0.0.1:1".to_owned();
    for address in ["tcp://127.0.0.1:1", "tcp://localhost:1"] {
        let answer = Answer::Report(Box::new(report.clone()));
        cluster.components.insert(address.to_owned(), answer);
    }
    monitor.update(cluster, Instant::now());
    assert_eq!(monitor.components().count(), 1);
    let other = monitor.component("tcp://localhost:1").unwrap();
    assert_eq!(other.address, "tcp://127.0.0.1:1");
}

#[test]
fn component_that_vanishes_keeps_its_last_report_and_a_reason() {
    let now = Instant::now();
    let mut monitor = Monitor::default();
    let mut cluster = Cluster::default();
    let report = Answer::Report(Box::new(Report::new(7, "math")));
    cluster.components.insert(address("math"), report);
    monitor.update(cluster, now);
    monitor.update(Cluster::default(), now + Duration::from_secs(3));
    let component = monitor.component(&address("math")).unwrap();
    assert_eq!(
        (component.name(), component.state()),
        ("math", "unreachable")
    );
    assert_eq!(component.answered_at, Some(now));
    assert_eq!(
        component.reason(),
        Some("no component leads to it any more")
    );
    assert!(component.current().is_none());
}
