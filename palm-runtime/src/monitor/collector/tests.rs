//! Tests of the metrics: their text, their bounds, and names that peers choose.

use std::collections::{BTreeMap, BTreeSet};

use histogram::Histogram;

use crate::inspect::{Answer, Cluster};
use crate::monitor::{Exposition, Format};
use crate::report::{Backlog, Durations, Edge, EdgeState, Function, Part, Report, Role, Worker};

fn edge(role: Role, name: &str) -> Edge {
    let mut edge = Edge::default();
    (edge.role, edge.name) = (role, name.to_owned());
    edge
}

fn text(report: Report) -> String {
    let mut exposition = Exposition::new();
    exposition.add(report);
    String::from_utf8(exposition.encode(Format::OpenMetrics)).unwrap()
}

/// Returns the value of a series, whose labels follow those of the component.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{series}` in\n{text}"))
        .parse()
        .unwrap()
}

#[test]
fn report_of_a_server_has_counters_gauges_and_histograms() {
    let mut report = Report::new(1, "text");
    report.kind = "server".to_owned();
    let mut part = Part::default();
    part.name = "Pull".to_owned();
    (part.messages, part.bytes, part.late) = (7, 70, 2);
    part.queue = Backlog::new(3, 30).with_limits(1000, 0);
    report.parts.push(part);
    let mut function = Function::default();
    function.name = "double".to_owned();
    (function.calls, function.errors) = (5, 1);
    let mut recorded = Histogram::new(5, 40).unwrap();
    for milliseconds in [2, 2, 90_000] {
        recorded.increment(milliseconds * 1_000_000).unwrap();
    }
    function.working = Durations::estimated(&recorded);
    report.functions.push(function);
    let text = text(report);
    let of = |metric: &str, own: &str| {
        value(
            &text,
            &format!("palm_{metric}{{component=\"text\",kind=\"server\",{own}}}"),
        )
    };
    assert_eq!(of("part_messages_total", "part=\"Pull\""), 7.0);
    assert_eq!(of("part_bytes_total", "part=\"Pull\""), 70.0);
    assert_eq!(of("part_late_calls_total", "part=\"Pull\""), 2.0);
    assert_eq!(of("part_queue_limit_messages", "part=\"Pull\""), 1000.0);
    assert_eq!(of("calls_total", "function=\"double\""), 5.0);
    assert_eq!(of("call_errors_total", "function=\"double\""), 1.0);
    assert_eq!(
        of("call_duration_seconds_count", "function=\"double\""),
        3.0
    );
    let labels = "component=\"text\",kind=\"server\",function=\"double\"";
    let bucket = |bound: &str| {
        let series = format!("palm_call_duration_seconds_bucket{{le=\"{bound}\",{labels}}}");
        value(&text, &series)
    };
    let found = ["0.001", "0.0025", "60.0", "+Inf"].map(bucket);
    assert_eq!(found, [0.0, 2.0, 2.0, 3.0]);
    assert_eq!(of("component_state", "state=\"ready\""), 1.0);
    assert_eq!(of("component_state", "state=\"draining\""), 0.0);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn functions_of_a_master_are_counted_by_worker() {
    let mut report = Report::new(1, "images");
    report.kind = "master".to_owned();
    let mut function = Function::default();
    function.name = "resize".to_owned();
    report.functions.push(function);
    let mut lost = edge(Role::Worker, "first");
    lost.state = EdgeState::Lost;
    let mut worker = Worker::new(2);
    worker.calls = 9;
    lost.worker = Some(worker);
    report.edges.push(lost);
    let text = text(report);
    let labels = "component=\"images\",kind=\"master\"";
    assert!(!text.contains("palm_calls_total"), "{text}");
    assert_eq!(
        value(
            &text,
            &format!("palm_worker_calls_total{{{labels},worker=\"first\"}}")
        ),
        9.0
    );
    let peers = |state| {
        let own = format!("role=\"worker\",state=\"{state}\"");
        value(&text, &format!("palm_peers{{{labels},{own}}}"))
    };
    assert_eq!((peers("lost"), peers("connected")), (1.0, 0.0));
}

#[test]
fn peers_beyond_the_bound_and_clients_share_the_label_other() {
    let mut report = Report::new(1, "images");
    for number in 0..150 {
        let mut worker = edge(Role::Worker, &format!("worker {number:03}"));
        worker.waiting = Backlog::new(1, 10);
        worker.sent = 5;
        report.edges.push(worker);
        report
            .edges
            .push(edge(Role::Client, &format!("client {number}")));
    }
    let text = text(report);
    let labels = "component=\"images\",kind=\"\"";
    let other = format!("palm_peer_waiting_messages{{{labels},role=\"worker\",peer=\"other\"}}");
    assert_eq!(value(&text, &other), 50.0);
    // The sum of the counters of several peers would decrease when one of them leaves.
    let is_counter = |line: &&str| line.starts_with("palm_peer_sent_messages_total");
    assert_eq!(text.lines().filter(is_counter).count(), 100);
    assert!(!text.contains("client 1"), "{text}");
    let clients = format!("palm_peers{{{labels},role=\"client\",state=\"connected\"}}");
    assert_eq!(value(&text, &clients), 150.0);
}

#[test]
fn newest_session_of_a_peer_has_its_counters() {
    let mut report = Report::new(1, "images");
    for (seconds, sent) in [(9, 900), (1, 10)] {
        let mut session = edge(Role::Worker, "first");
        session.age = std::time::Duration::from_secs(seconds);
        (session.sent, session.waiting) = (sent, Backlog::new(1, 1));
        report.edges.push(session);
    }
    let text = text(report);
    let labels = "component=\"images\",kind=\"\",role=\"worker\",peer=\"first\"";
    let sent = format!("palm_peer_sent_messages_total{{{labels}}}");
    assert_eq!(value(&text, &sent), 10.0);
    let waiting = format!("palm_peer_waiting_messages{{{labels}}}");
    assert_eq!(value(&text, &waiting), 2.0);
}

#[test]
fn no_series_occurs_twice_whatever_peers_report() {
    let mut report = Report::new(1, "images");
    let long = "x".repeat(200);
    for name in ["\"\\\n", "\"\\\n", &format!("{long}1"), &format!("{long}2")] {
        let mut part = Part::default();
        part.name = name.to_owned();
        report.parts.push(part);
        let mut function = Function::default();
        function.name = name.to_owned();
        report.functions.push(function);
        report.edges.push(edge(Role::Upstream, name));
    }
    let mut exposition = Exposition::new();
    exposition.add(report.clone());
    exposition.add(report);
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let mut exposition = Exposition::new();
        let mut components = BTreeMap::new();
        let mut report = Report::new(1, "images");
        report.edges = vec![edge(Role::Master, "other"), edge(Role::Master, "other")];
        components.insert("tcp://a:1".to_owned(), Answer::Report(Box::new(report)));
        components.insert(
            "tcp://a:2".to_owned(),
            Answer::Unreachable("it is away".to_owned()),
        );
        let cluster = Cluster {
            components,
            ..Cluster::default()
        };
        exposition.add_cluster(cluster);
        assert_unique(&exposition.encode(format));
    }
    assert_unique(&exposition.encode(Format::Prometheus));
}

#[track_caller]
fn assert_unique(text: &[u8]) {
    let text = str::from_utf8(text).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series), "{line} occurs twice in\n{text}");
    }
}

#[test]
fn format_is_that_which_the_client_accepts() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::for_accept(prometheus), Format::OpenMetrics);
    let native = format!(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,{prometheus}"
    );
    #[cfg(feature = "native-histograms")]
    assert_eq!(Format::for_accept(&native), Format::Protobuf);
    #[cfg(not(feature = "native-histograms"))]
    assert_eq!(Format::for_accept(&native), Format::OpenMetrics);
    assert_eq!(Format::for_accept("*/*"), Format::Prometheus);
    assert_eq!(Format::for_accept(""), Format::Prometheus);
}
