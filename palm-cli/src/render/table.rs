//! Reports as tables.

use std::fmt::Write as _;

use palm::Durations;
use palm::report::{Edge, Report, Role};

use crate::model::{Component, Monitor};
use crate::text::{self, Align, clean, count, duration, or_unknown, percent, rate};

/// Returns the components and the sentence about the bottleneck.
pub fn cluster(monitor: &Monitor) -> String {
    let columns = [
        ("component", Align::Left),
        ("kind", Align::Left),
        ("state", Align::Left),
        ("rate/s", Align::Right),
        ("waiting", Align::Right),
        ("uptime", Align::Right),
        ("address", Align::Left),
    ];
    let row = |component: &Component| {
        let current = component.current();
        vec![
            component.name().to_owned(),
            component.kind().to_owned(),
            component.state().to_owned(),
            or_unknown(component.rate(), rate),
            or_unknown(current, |_| count(component.waiting())),
            or_unknown(current, |report| duration(report.uptime)),
            component.address.clone(),
        ]
    };
    let rows: Vec<_> = monitor.components().map(row).collect();
    let mut text = text::table("", &columns, &rows);
    let edges: Vec<_> = monitor.components().flat_map(all_edges).collect();
    if !edges.is_empty() {
        text.push('\n');
        text.push_str(&text::table("", &EDGE_COLUMNS, &edges));
    }
    text.push_str(&processes(monitor));
    text.push('\n');
    text.push_str(&summary(monitor));
    text
}

/// Returns the table of processes with an empty line above it; nothing if the cluster is not one of a file.
pub fn processes(monitor: &Monitor) -> String {
    match monitor.processes() {
        Some(Ok(processes)) => format!("\n{}", super::processes::text(processes)),
        _ => String::new(),
    }
}

/// Returns the sentence about the bottleneck, and one about each component that does not report.
pub fn summary(monitor: &Monitor) -> String {
    let mut text = format!("{}\n", monitor.bottleneck());
    for component in monitor.components() {
        if let Some(reason) = component.reason() {
            let (name, kind) = (clean(component.name()), clean(component.kind()));
            let _ = match component.name() == component.address {
                true => writeln!(text, "{name}: {}.", clean(reason)),
                false => writeln!(text, "{name} ({kind}): {}.", clean(reason)),
            };
        }
    }
    if monitor.is_incomplete() {
        text.push_str("There are further components, which were not asked in time.\n");
    }
    text
}

const EDGE_COLUMNS: [(&str, Align); 10] = [
    ("edge", Align::Left),
    ("role", Align::Left),
    ("state", Align::Left),
    ("rate/s", Align::Right),
    ("sent", Align::Right),
    ("received", Align::Right),
    ("waiting", Align::Right),
    ("stalled", Align::Right),
    ("busy", Align::Right),
    ("p99", Align::Right),
];

fn all_edges(component: &Component) -> Vec<Vec<String>> {
    let edges = component.current().into_iter().flat_map(|it| &it.edges);
    edges.map(|it| edge(component, it)).collect()
}

/// Returns "master → worker", in the direction of the messages.
pub fn ends(component: &Component, edge: &Edge) -> String {
    let names = [&*edge.name, &edge.db_address, edge.role.as_str()];
    let peer = names.into_iter().find(|name| !name.is_empty());
    let peer = peer.unwrap_or_default();
    let name = component.name();
    match edge.role {
        Role::Client | Role::Upstream | Role::Master => format!("{peer} → {name}"),
        _ => format!("{name} → {peer}"),
    }
}

fn edge(component: &Component, edge: &Edge) -> Vec<String> {
    vec![
        ends(component, edge),
        edge.role.as_str().to_owned(),
        edge.state.as_str().to_owned(),
        or_unknown(component.edge_rate(edge), rate),
        count(edge.sent),
        count(edge.received),
        text::backlog(&edge.waiting),
        or_unknown(component.stalled(edge), percent),
        or_unknown(component.busy(edge), percent),
        or_unknown(edge.time.quantile(0.99), duration),
    ]
}

/// Returns the whole report of one component.
pub fn component(component: &Component) -> String {
    let name = clean(component.name());
    let kind = clean(component.kind());
    let mut text = format!("{name}, {kind}, {}", component.state());
    let _ = writeln!(text, ", {}", clean(&component.address));
    if let Some(reason) = component.reason() {
        let _ = writeln!(text, "  {}", clean(reason));
    }
    if let Some(report) = component.current() {
        details(&mut text, component, report);
    }
    text
}

fn details(text: &mut String, component: &Component, report: &Report) {
    let _ = writeln!(
        text,
        "  palm {}, process {} on {}, up {}",
        clean(&report.version),
        report.pid,
        clean(&report.host),
        duration(report.uptime)
    );
    if report.tasks.messages > 0 || report.kind == "master" || report.kind == "hub" {
        let tasks = text::backlog(&report.tasks);
        let _ = writeln!(text, "  tasks without a worker: {tasks}");
    }
    if !report.waits.is_empty() {
        let _ = writeln!(text, "  calls wait: {}", clean(&report.waits));
    }
    let legacy = report.legacy;
    if legacy.workers + legacy.clients + legacy.subscribers > 0 {
        let _ = writeln!(
            text,
            "  without links: {} workers with {} tasks, {} clients, {} subscribers",
            legacy.workers, legacy.tasks, legacy.clients, legacy.subscribers
        );
    }
    text.push('\n');
    text.push_str(&parts(report));
    if !report.functions.is_empty() {
        text.push('\n');
        text.push_str(&functions(report));
    }
    if report.edges.iter().any(|edge| edge.worker.is_some()) {
        text.push('\n');
        text.push_str(&workers(report));
    }
    if !report.edges.is_empty() {
        text.push('\n');
        text.push_str(&text::table("  ", &EDGE_COLUMNS, &all_edges(component)));
    }
    if report.omitted_edges > 0 {
        let _ = writeln!(text, "  and {} further edges", count(report.omitted_edges));
    }
}

fn parts(report: &Report) -> String {
    let columns = [
        ("part", Align::Left),
        ("messages", Align::Right),
        ("bytes", Align::Right),
        ("errors", Align::Right),
        ("late", Align::Right),
        ("dropped", Align::Right),
        ("queue", Align::Right),
        ("held", Align::Right),
    ];
    let parts = report.parts.iter().map(|part| {
        vec![
            part.name.clone(),
            count(part.messages),
            text::bytes(part.bytes),
            count(part.errors),
            count(part.late),
            count(part.dropped),
            text::backlog(&part.queue),
            text::backlog(&part.held),
        ]
    });
    text::table("  ", &columns, &parts.collect::<Vec<_>>())
}

/// Returns what the workers that have reported say of themselves.
fn workers(report: &Report) -> String {
    let columns = [
        ("worker", Align::Left),
        ("instance", Align::Left),
        ("process", Align::Right),
        ("host", Align::Left),
        ("running", Align::Right),
        ("prefetched", Align::Right),
        ("log level", Align::Left),
    ];
    let workers = report.edges.iter().filter_map(|edge| {
        let worker = edge.worker.as_ref()?;
        let prefetch = or_unknown(worker.prefetch, count);
        Some(vec![
            edge.name.clone(),
            format!("{:016x}", worker.instance),
            worker.pid.to_string(),
            worker.host.clone(),
            format!("{} of {}", count(worker.running), worker.concurrency),
            format!("{} of {prefetch}", count(worker.prefetched)),
            worker.log_level.clone(),
        ])
    });
    text::table("  ", &columns, &workers.collect::<Vec<_>>())
}

fn functions(report: &Report) -> String {
    let columns = [
        ("function", Align::Left),
        ("calls", Align::Right),
        ("errors", Align::Right),
        ("running", Align::Right),
        ("waits p50", Align::Right),
        ("p99", Align::Right),
        ("works p50", Align::Right),
        ("p99", Align::Right),
    ];
    let quantile = |durations: &Durations, at| or_unknown(durations.quantile(at), duration);
    let functions = report.functions.iter().map(|function| {
        vec![
            function.name.clone(),
            count(function.calls),
            count(function.errors),
            count(function.running),
            quantile(&function.waiting, 0.5),
            quantile(&function.waiting, 0.99),
            quantile(&function.working, 0.5),
            quantile(&function.working, 0.99),
        ]
    });
    text::table("  ", &columns, &functions.collect::<Vec<_>>())
}
