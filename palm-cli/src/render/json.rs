//! Reports as JSON. Fields are only added, never renamed: programs read them.
//!
//! Durations are in seconds, shares are from 0 to 1, and a number that is unknown is `null`.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use palm::report::{Backlog, Edge, Function, Part, Report, Worker};
use palm::{CallError, Durations};
use serde_json::{Map, Value, json};

use super::processes;
use crate::model::{Bottleneck, Component, Monitor};
use crate::text::clean;

/// Returns an object with a payload: `value`, or `base64` if it is not text.
pub fn payload(payload: &[u8]) -> Map<String, Value> {
    let (name, value) = match std::str::from_utf8(payload) {
        Ok(text) => ("value", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(payload)),
    };
    Map::from_iter([(name.to_owned(), value.into())])
}

/// Returns an object with the failure of a call.
pub fn failure(error: &CallError) -> Value {
    let mut value = json!({ "message": clean(&error.to_string()) });
    if let CallError::Remote(remote) = error {
        value["kind"] = json!(format!("{:?}", remote.kind));
        value["component"] = json!(remote.component);
        value["function"] = json!(remote.function);
    }
    json!({ "error": value })
}

/// Returns all components.
pub fn cluster(monitor: &Monitor) -> Value {
    let components: Vec<_> = monitor.components().map(component).collect();
    json!({
        "bottleneck": bottleneck(&monitor.bottleneck()),
        "components": components,
        "is_incomplete": monitor.is_incomplete(),
        // `null` if the cluster is not one of a file.
        "processes": monitor.processes().and_then(Result::ok).map(processes::json),
    })
}

/// Returns one component.
pub fn component(component: &Component) -> Value {
    let mut value = match component.current() {
        Some(current) => report(component, current),
        None => json!({ "name": component.name(), "kind": component.kind() }),
    };
    value["address"] = json!(component.address);
    value["key"] = json!(component.key);
    value["state"] = json!(component.state());
    value["problem"] = json!(component.reason());
    value
}

fn bottleneck(bottleneck: &Bottleneck) -> Value {
    let mut value = json!({ "sentence": bottleneck.to_string() });
    if let Bottleneck::Slow(slow) = bottleneck {
        value["subject"] = json!(slow.subject);
        value["role"] = json!(slow.role.as_str());
        value["address"] = json!(slow.address);
        value["waits"] = json!(slow.waits);
        value["stalled_share"] = json!(slow.stalled);
        value["busy_share"] = json!(slow.busy);
        value["waiting"] = backlog(&slow.backlog);
        value["problem"] = json!(slow.problem);
    }
    if let Bottleneck::Backlogged(backlogged) = bottleneck {
        value["subject"] = json!(backlogged.subject);
        value["address"] = json!(backlogged.address);
        value["waiting"] = json!({ "messages": backlogged.messages });
        value["problem"] = json!(backlogged.cause);
    }
    value
}

fn report(component: &Component, report: &Report) -> Value {
    let edges = report.edges.iter().map(|it| edge(component, it));
    json!({
        // Larger than the integers that all readers of JSON keep.
        "instance": format!("{:016x}", report.instance),
        "name": report.name,
        "kind": report.kind,
        "version": report.version,
        "pid": report.pid,
        "host": report.host,
        "started_at": unix_seconds(report.started_at),
        "uptime": report.uptime.as_secs_f64(),
        "waits": report.waits,
        "rate": component.rate(),
        "messages_inside": report.messages_inside(),
        "http_requests": report.requests,
        "tasks": backlog(&report.tasks),
        "parts": report.parts.iter().map(part).collect::<Vec<_>>(),
        "functions": report.functions.iter().map(function).collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "omitted_edges": report.omitted_edges,
        "legacy": {
            "workers": report.legacy.workers,
            "clients": report.legacy.clients,
            "subscribers": report.legacy.subscribers,
            "tasks": report.legacy.tasks,
        },
    })
}

fn part(part: &Part) -> Value {
    json!({
        "name": part.name,
        "messages": part.messages,
        "bytes": part.bytes,
        "errors": part.errors,
        "dropped": part.dropped,
        "late": part.late,
        "queue": backlog(&part.queue),
        "held": backlog(&part.held),
    })
}

fn function(function: &Function) -> Value {
    json!({
        "name": function.name,
        "calls": function.calls,
        "errors": function.errors,
        "running": function.running,
        "waiting": durations(&function.waiting),
        "working": durations(&function.working),
    })
}

fn edge(component: &Component, edge: &Edge) -> Value {
    json!({
        "role": edge.role.as_str(),
        "name": edge.name,
        "address": edge.db_address,
        "topics": edge.topics,
        "state": edge.state.as_str(),
        "age": edge.age.as_secs_f64(),
        "silent": edge.silent.as_secs_f64(),
        "sent": edge.sent,
        "acknowledged": edge.acknowledged,
        "received": edge.received,
        "rate": component.edge_rate(edge),
        "waiting": backlog(&edge.waiting),
        "unread": backlog(&edge.unread),
        "stalled": edge.stalled.as_secs_f64(),
        "stalled_share": component.stalled(edge),
        "time": durations(&edge.time),
        "redelivered": edge.redelivered,
        "dropped": edge.dropped,
        "worker": edge.worker.as_ref().map(|it| worker(component, edge, it)),
    })
}

fn worker(component: &Component, edge: &Edge, worker: &Worker) -> Value {
    json!({
        "instance": format!("{:016x}", worker.instance),
        "pid": worker.pid,
        "host": worker.host,
        "version": worker.version,
        "started_at": unix_seconds(worker.started_at),
        "uptime": worker.uptime.as_secs_f64(),
        "concurrency": worker.concurrency,
        "prefetched": worker.prefetched,
        "prefetch": worker.prefetch,
        "log_level": worker.log_level,
        "running": worker.running,
        "results": worker.results,
        "calls": worker.calls,
        "errors": worker.errors,
        "worked": worker.worked.as_secs_f64(),
        "busy_share": component.busy(edge),
        "age": worker.age.as_secs_f64(),
    })
}

fn backlog(backlog: &Backlog) -> Value {
    json!({
        "messages": backlog.messages,
        "bytes": backlog.bytes,
        "limit_messages": backlog.limit_messages,
        "limit_bytes": backlog.limit_bytes,
    })
}

fn durations(durations: &Durations) -> Value {
    let quantile = |quantile| durations.quantile(quantile).map(|it| it.as_secs_f64());
    json!({
        "count": durations.count(),
        "sum": durations.sum().as_secs_f64(),
        "p50": quantile(0.5),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
    })
}

fn unix_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}
