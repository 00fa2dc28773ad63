//! Reports as messages of `proto/palm.proto`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;

use super::{
    Backlog, Durations, Edge, EdgeState, Function, Legacy, Part, RecentCall, Report, Role, State,
    Worker, micros,
};
use crate::message::proto;

/// What is asked for with the verb `inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReportRequest {
    /// Whether the report is to contain recent calls, and the beginning of an id that they have; empty for all.
    pub recent: Option<String>,
}

impl ReportRequest {
    /// Encodes the payload of the request.
    #[doc(hidden)]
    pub fn encode(&self) -> Bytes {
        let request = proto::InspectRequest {
            calls: self.recent.is_some(),
            call: self.recent.clone().unwrap_or_default(),
        };
        request.encode_to_vec().into()
    }

    /// Reads the payload of the request. An earlier version sends an empty one, and a malformed one counts as that.
    #[doc(hidden)]
    pub fn decode(payload: Bytes) -> Self {
        let request = proto::InspectRequest::decode(payload).unwrap_or_default();
        Self {
            recent: request.calls.then_some(request.call),
        }
    }
}

/// The most bytes of a report. Recent calls of workers and edges that exceed them are omitted, and counted ([`Report::omitted_edges`]).
pub const MAX_REPORT_BYTES: usize = 1024 * 1024;

/// The most bytes of a worker's report. A larger one is sent without recent calls, and then without functions.
const MAX_WORKER_REPORT_BYTES: usize = 64 * 1024;

/// A reply to `inspect` that is not a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not a report of a component: {reason}")]
pub struct ReportError {
    reason: String,
}

/// What a worker sends to its master: its state and its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerState {
    /// The state, as the master reports it.
    pub worker: Worker,
    /// The functions, which the master merges with those of its other workers.
    pub functions: Vec<Function>,
    /// Whether the master has asked for recent calls, so that the report contains those that there are.
    pub has_calls: bool,
}

fn time_from_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .unwrap_or(UNIX_EPOCH)
}

fn ms_of_time(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    /// Returns the reply to `inspect`, of at most [`MAX_REPORT_BYTES`].
    pub fn encode(&self) -> Bytes {
        let mut wire = proto::Report {
            instance: self.instance,
            name: self.name.clone(),
            kind: self.kind.clone(),
            version: self.version.clone(),
            pid: self.pid,
            host: self.host.clone(),
            started_at_ms: ms_of_time(self.started_at),
            uptime_us: micros(self.uptime),
            state: match self.state {
                State::Starting => proto::report::State::Starting,
                State::Ready => proto::report::State::Ready,
                State::Draining => proto::report::State::Draining,
            }
            .into(),
            db_address: self.db_address.clone(),
            parts: self.parts.iter().map(Part::to_wire).collect(),
            functions: self.functions.iter().map(Function::to_wire).collect(),
            edges: self.edges.iter().map(Edge::to_wire).collect(),
            omitted_edges: self.omitted_edges,
            legacy: Some(self.legacy.to_wire()),
            waits: self.waits.clone(),
            tasks: self.tasks.to_wire(),
            recent: self.recent.iter().map(RecentCall::to_wire).collect(),
            requests: self.requests,
        };
        if wire.encoded_len() > MAX_REPORT_BYTES {
            let workers = wire.edges.iter_mut().filter_map(|it| it.worker.as_mut());
            workers.for_each(|worker| worker.recent.clear());
        }
        while wire.encoded_len() > MAX_REPORT_BYTES && !wire.edges.is_empty() {
            let omitted = wire.edges.len().div_ceil(4);
            wire.edges.truncate(wire.edges.len() - omitted);
            wire.omitted_edges += omitted as u64;
        }
        wire.encode_to_vec().into()
    }

    /// Reads the reply to `inspect`. Unknown fields are ignored, and missing ones have their defaults.
    ///
    /// # Errors
    ///
    /// [`ReportError`] if the reply is not a report: a legacy component, and one of an older version, reply with
    /// nothing.
    pub fn decode(reply: Bytes) -> Result<Self, ReportError> {
        if reply.is_empty() {
            let reason = "it is empty".to_owned();
            return Err(ReportError { reason });
        }
        let wire = proto::Report::decode(reply).map_err(|error| ReportError {
            reason: error.to_string(),
        })?;
        let state = wire.state();
        Ok(Self {
            instance: wire.instance,
            name: wire.name,
            kind: wire.kind,
            version: wire.version,
            pid: wire.pid,
            host: wire.host,
            started_at: time_from_ms(wire.started_at_ms),
            uptime: Duration::from_micros(wire.uptime_us),
            state: match state {
                proto::report::State::Starting => State::Starting,
                proto::report::State::Ready => State::Ready,
                proto::report::State::Draining => State::Draining,
            },
            db_address: wire.db_address,
            parts: wire.parts.into_iter().map(Part::from_wire).collect(),
            functions: wire
                .functions
                .into_iter()
                .map(Function::from_wire)
                .collect(),
            edges: wire.edges.into_iter().map(Edge::from_wire).collect(),
            omitted_edges: wire.omitted_edges,
            legacy: Legacy::from_wire(wire.legacy.unwrap_or_default()),
            waits: wire.waits,
            tasks: Backlog::from_wire(wire.tasks),
            recent: wire.recent.into_iter().map(RecentCall::from_wire).collect(),
            requests: wire.requests,
        })
    }
}

impl Backlog {
    /// Returns the message; `None` for an empty backlog without limits.
    fn to_wire(self) -> Option<proto::Backlog> {
        (self != Self::default()).then_some(proto::Backlog {
            messages: self.messages,
            bytes: self.bytes,
            limit_messages: self.limit_messages,
            limit_bytes: self.limit_bytes,
        })
    }

    fn from_wire(wire: Option<proto::Backlog>) -> Self {
        let wire = wire.unwrap_or_default();
        Self {
            messages: wire.messages,
            bytes: wire.bytes,
            limit_messages: wire.limit_messages,
            limit_bytes: wire.limit_bytes,
        }
    }
}

impl Part {
    fn to_wire(&self) -> proto::PartReport {
        proto::PartReport {
            name: self.name.clone(),
            messages: self.messages,
            bytes: self.bytes,
            errors: self.errors,
            dropped: self.dropped,
            queue: self.queue.to_wire(),
            held: self.held.to_wire(),
            late: self.late,
        }
    }

    fn from_wire(wire: proto::PartReport) -> Self {
        Self {
            name: wire.name,
            messages: wire.messages,
            bytes: wire.bytes,
            errors: wire.errors,
            dropped: wire.dropped,
            queue: Backlog::from_wire(wire.queue),
            held: Backlog::from_wire(wire.held),
            late: wire.late,
        }
    }
}

impl Function {
    fn to_wire(&self) -> proto::FunctionReport {
        proto::FunctionReport {
            name: self.name.clone(),
            calls: self.calls,
            errors: self.errors,
            running: self.running,
            waiting: self.waiting.to_wire(),
            working: self.working.to_wire(),
        }
    }

    fn from_wire(wire: proto::FunctionReport) -> Self {
        let durations = |it: Option<_>| it.map(Durations::from_wire).unwrap_or_default();
        Self {
            name: wire.name,
            calls: wire.calls,
            errors: wire.errors,
            running: wire.running,
            waiting: durations(wire.waiting),
            working: durations(wire.working),
        }
    }
}

impl Edge {
    fn to_wire(&self) -> proto::EdgeReport {
        use proto::edge_report::{Role as WireRole, State as WireState};
        proto::EdgeReport {
            role: match self.role {
                Role::Other => WireRole::Other,
                Role::Worker => WireRole::Worker,
                Role::Client => WireRole::Client,
                Role::Subscriber => WireRole::Subscriber,
                Role::Upstream => WireRole::Upstream,
                Role::Master => WireRole::Master,
            }
            .into(),
            name: self.name.clone(),
            db_address: self.db_address.clone(),
            topics: self.topics.clone(),
            age_us: micros(self.age),
            silent_us: micros(self.silent),
            state: match self.state {
                EdgeState::Connected => WireState::Connected,
                EdgeState::Disconnected => WireState::Disconnected,
                EdgeState::Lost => WireState::Lost,
                EdgeState::Draining => WireState::Draining,
            }
            .into(),
            sent: self.sent,
            acknowledged: self.acknowledged,
            received: self.received,
            waiting: self.waiting.to_wire(),
            unread: self.unread.to_wire(),
            stalled_us: micros(self.stalled),
            time: self.time.to_wire(),
            redelivered: self.redelivered,
            dropped: self.dropped,
            worker: self.worker.as_ref().map(Worker::to_wire),
        }
    }

    fn from_wire(wire: proto::EdgeReport) -> Self {
        use proto::edge_report::{Role as WireRole, State as WireState};
        let (role, state) = (wire.role(), wire.state());
        Self {
            role: match role {
                WireRole::Other => Role::Other,
                WireRole::Worker => Role::Worker,
                WireRole::Client => Role::Client,
                WireRole::Subscriber => Role::Subscriber,
                WireRole::Upstream => Role::Upstream,
                WireRole::Master => Role::Master,
            },
            name: wire.name,
            db_address: wire.db_address,
            topics: wire.topics,
            age: Duration::from_micros(wire.age_us),
            silent: Duration::from_micros(wire.silent_us),
            state: match state {
                WireState::Connected => EdgeState::Connected,
                WireState::Disconnected => EdgeState::Disconnected,
                WireState::Lost => EdgeState::Lost,
                WireState::Draining => EdgeState::Draining,
            },
            sent: wire.sent,
            acknowledged: wire.acknowledged,
            received: wire.received,
            waiting: Backlog::from_wire(wire.waiting),
            unread: Backlog::from_wire(wire.unread),
            stalled: Duration::from_micros(wire.stalled_us),
            time: wire.time.map(Durations::from_wire).unwrap_or_default(),
            redelivered: wire.redelivered,
            dropped: wire.dropped,
            worker: wire.worker.map(Worker::from_wire),
        }
    }
}

impl Worker {
    fn to_wire(&self) -> proto::WorkerReport {
        proto::WorkerReport {
            instance: self.instance,
            pid: self.pid,
            host: self.host.clone(),
            version: self.version.clone(),
            started_at_ms: ms_of_time(self.started_at),
            uptime_us: micros(self.uptime),
            concurrency: self.concurrency,
            prefetched: self.prefetched,
            running: self.running,
            results: self.results,
            functions: Vec::new(),
            age_us: micros(self.age),
            calls: self.calls,
            errors: self.errors,
            worked_us: micros(self.worked),
            recent: self.recent.iter().map(RecentCall::to_wire).collect(),
            late: self.late,
            has_calls: false,
            prefetch: self.prefetch,
            log_level: self.log_level.clone(),
        }
    }

    fn from_wire(wire: proto::WorkerReport) -> Self {
        Self {
            instance: wire.instance,
            pid: wire.pid,
            host: wire.host,
            version: wire.version,
            started_at: time_from_ms(wire.started_at_ms),
            uptime: Duration::from_micros(wire.uptime_us),
            concurrency: wire.concurrency,
            prefetched: wire.prefetched,
            prefetch: wire.prefetch,
            log_level: wire.log_level,
            running: wire.running,
            results: wire.results,
            calls: wire.calls,
            errors: wire.errors,
            worked: Duration::from_micros(wire.worked_us),
            late: wire.late,
            age: Duration::from_micros(wire.age_us),
            recent: wire.recent.into_iter().map(RecentCall::from_wire).collect(),
        }
    }
}

impl WorkerState {
    /// Creates the state of a worker with these functions.
    pub fn new(worker: Worker, functions: Vec<Function>) -> Self {
        Self {
            worker,
            functions,
            has_calls: false,
        }
    }

    /// Returns the report in the header of a link, of at most 64 KiB.
    #[doc(hidden)]
    pub fn encode(&self) -> Bytes {
        let mut wire = self.worker.to_wire();
        wire.functions = self.functions.iter().map(Function::to_wire).collect();
        wire.has_calls = self.has_calls;
        if wire.encoded_len() > MAX_WORKER_REPORT_BYTES {
            wire.recent.clear();
        }
        if wire.encoded_len() > MAX_WORKER_REPORT_BYTES {
            wire.functions.clear();
        }
        wire.encode_to_vec().into()
    }

    /// Reads the report of a worker. `None` if it is malformed, or larger than a worker may send.
    #[doc(hidden)]
    pub fn decode(report: Bytes) -> Option<Self> {
        if report.len() > MAX_WORKER_REPORT_BYTES {
            return None;
        }
        let mut wire = proto::WorkerReport::decode(report).ok()?;
        let functions = std::mem::take(&mut wire.functions);
        Some(Self {
            // A worker of an earlier version does not say it.
            has_calls: wire.has_calls || !wire.recent.is_empty(),
            worker: Worker::from_wire(wire),
            functions: functions.into_iter().map(Function::from_wire).collect(),
        })
    }
}

impl Legacy {
    fn to_wire(self) -> proto::LegacyReport {
        proto::LegacyReport {
            workers: self.workers,
            clients: self.clients,
            subscribers: self.subscribers,
            tasks: self.tasks,
        }
    }

    fn from_wire(wire: proto::LegacyReport) -> Self {
        Self {
            workers: wire.workers,
            clients: wire.clients,
            subscribers: wire.subscribers,
            tasks: wire.tasks,
        }
    }
}
