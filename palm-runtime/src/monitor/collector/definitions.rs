//! The metrics of components, parts, functions, peers and workers: their names, units and values.

use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::peers::PeerGroup;
use crate::component_kind::ComponentKind;
use crate::report::{Durations, Function, HTTP_EDGE, Part, Report, Role, Worker};

/// The value of a series.
pub(super) enum Value<'a> {
    Count(u64),
    Seconds(f64),
    /// With the upper bounds of its classic buckets in seconds. The last bucket has none.
    Histogram(&'a Durations, &'static [f64]),
}

/// The classic buckets of calls.
const CALL_BOUNDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 60.0,
];

/// The classic buckets of peers, of which there may be many.
const PEER_BOUNDS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0];

/// A metric of each `T`.
pub(super) struct Definition<T> {
    /// Without the prefix `palm_`, the unit, and the suffix `_total` of counters.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) kind: MetricType,
    /// Returns `None` if this `T` has no value.
    pub(super) value: fn(&T) -> Option<Value<'_>>,
}

/// Declares a table of definitions.
macro_rules! definitions {
    ($(#[$doc:meta])* $table:ident: $type:ty {
        $($kind:ident $name:literal $($unit:ident)?, $help:literal, |$it:ident| $value:expr;)*
    }) => {
        $(#[$doc])*
        pub(super) const $table: &[Definition<$type>] = &[$(Definition {
            name: $name,
            help: $help,
            unit: definitions!(@unit $($unit)?),
            kind: MetricType::$kind,
            value: |$it| $value,
        }),*];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
}

definitions! {
    /// The metrics of a component.
    COMPONENT: Report {
        Gauge "component_start_time" Seconds, "When the component started, in seconds since 1970",
            |it| Some(Value::Seconds(it.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()));
        Gauge "messages_waiting", "Messages that wait in the component", |it| count(it.messages_waiting());
        Gauge "tasks_waiting", "Tasks that wait for a worker",
            |it| has_workers(it).then_some(Value::Count(it.tasks.messages));
        Gauge "http_requests_running", "HTTP requests of gateways that are under way",
            |it| has_gateway(it).then_some(Value::Count(it.requests));
        Gauge "unlisted_peers", "Peers that are missing in this exposition because there are too many",
            |it| count(it.omitted_edges);
        Gauge "legacy_workers", "Workers without links", |it| count(it.legacy.workers);
        Gauge "legacy_clients", "Clients without links", |it| count(it.legacy.clients);
        Gauge "legacy_subscribers", "Subscribers without links", |it| count(it.legacy.subscribers);
        Gauge "legacy_tasks", "Tasks that workers without links have not completed", |it| count(it.legacy.tasks);
    }
}

definitions! {
    /// The metrics of a part.
    PART: Part {
        Counter "part_messages", "Messages that the part has received or sent; for an executor, calls",
            |it| count(it.messages);
        Counter "part" Bytes, "Bytes of these messages", |it| count(it.bytes);
        Counter "part_errors", "Malformed messages, and messages that could not be handled", |it| count(it.errors);
        Counter "part_late_calls", "Calls that were not done within their deadline or the limit of their method",
            |it| count(it.late);
        Counter "part_dropped_messages", "Messages that were dropped", |it| count(it.dropped);
        Gauge "part_queue_messages", "Messages in the queue of the part", |it| count(it.queue.messages);
        Gauge "part_queue" Bytes, "Bytes of the messages in the queue of the part", |it| count(it.queue.bytes);
        Gauge "part_queue_limit_messages", "The most messages in the queue of the part",
            |it| limit(it.queue.limit_messages);
        Gauge "part_held_messages", "Messages that the part has taken from its queue and not passed on",
            |it| count(it.held.messages);
    }
}

definitions! {
    /// The metrics of a function of a component that runs its own methods.
    FUNCTION: Function {
        Counter "calls", "Calls that were begun", |it| count(it.calls);
        Counter "call_errors", "Calls that failed", |it| count(it.errors);
        Gauge "calls_running", "Calls that run", |it| count(it.running);
        Histogram "call_wait" Seconds, "Time between the receipt of a message and the start of its call",
            |it| Some(Value::Histogram(&it.waiting, CALL_BOUNDS));
        Histogram "call_duration" Seconds, "Run time of calls",
            |it| Some(Value::Histogram(&it.working, CALL_BOUNDS));
    }
}

definitions! {
    /// The metrics of a peer, or of all peers that share the label `other`.
    PEER: PeerGroup {
        Gauge "peer_waiting_messages", "Messages that the peer has not acknowledged, or as a worker not completed",
            |it| count(it.waiting.0);
        Gauge "peer_waiting" Bytes, "Bytes of these messages", |it| count(it.waiting.1);
        Gauge "peer_waiting_limit_messages", "The most messages that may wait for the peer",
            |it| it.single.as_ref().and_then(|edge| limit(edge.waiting.limit_messages));
        Gauge "peer_unread_messages", "Messages from the peer that have not reached a queue", |it| count(it.unread);
        Counter "peer_sent_messages", "Messages that were submitted to the peer",
            |it| it.single.as_ref().and_then(|edge| count(edge.sent));
        Counter "peer_acknowledged_messages", "Messages that the peer has acknowledged",
            |it| it.single.as_ref().and_then(|edge| count(edge.acknowledged));
        Counter "peer_received_messages", "Messages that were received from the peer",
            |it| it.single.as_ref().and_then(|edge| count(edge.received));
        Counter "peer_stalled" Seconds, "Time for which the component had to wait for the peer",
            |it| it.single.as_ref().and_then(|edge| seconds(edge.stalled));
        Histogram "peer_time" Seconds, "Time from the submission of a message to its acknowledgement, of every 64th one",
            |it| it.single.as_ref().map(|edge| Value::Histogram(&edge.time, PEER_BOUNDS));
        Counter "peer_redelivered_tasks", "Tasks of the peer that were redelivered after its loss",
            |it| it.single.as_ref().and_then(|edge| count(edge.redelivered));
        Counter "peer_dropped_messages", "Messages of the peer that were dropped",
            |it| it.single.as_ref().and_then(|edge| count(edge.dropped));
    }
}

definitions! {
    /// The metrics that a worker reports to its master.
    WORKER: Worker {
        Counter "worker_calls", "Calls that the worker has begun", |it| count(it.calls);
        Counter "worker_call_errors", "Calls of the worker that failed", |it| count(it.errors);
        Counter "worker_late_calls", "Calls of the worker that were not done in time", |it| count(it.late);
        Counter "worker_busy" Seconds, "Run time of all completed calls of the worker", |it| seconds(it.worked);
        Gauge "worker_calls_running", "Calls that the worker runs", |it| count(it.running);
        Gauge "worker_concurrency", "The most calls that the worker runs at once", |it| count(it.concurrency.into());
    }
}

fn count(count: u64) -> Option<Value<'static>> {
    Some(Value::Count(count))
}

/// Returns a limit; 0 means that there is none.
fn limit(limit: u64) -> Option<Value<'static>> {
    (limit > 0).then_some(Value::Count(limit))
}

fn seconds(duration: Duration) -> Option<Value<'static>> {
    Some(Value::Seconds(duration.as_secs_f64()))
}

fn has_gateway(report: &Report) -> bool {
    let mut clients = report.edges_of(Role::Client);
    clients.any(|edge| edge.name == HTTP_EDGE)
}

/// Returns whether the component distributes its calls to workers.
pub(super) fn has_workers(report: &Report) -> bool {
    [ComponentKind::Master, ComponentKind::Hub]
        .iter()
        .any(|kind| report.kind == kind.to_string())
}
