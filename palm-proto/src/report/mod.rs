//! [`Report`]: the state of a component, as it reports it about itself.
//!
//! Each message that is in a component is counted by exactly one of these numbers: [`Edge::unread`] until it has reached
//! a queue, [`Part::queue`], [`Part::held`], [`Function::running`], [`Report::tasks`] while it waits for a worker,
//! [`Legacy::tasks`] while a worker without a link has it, and [`Edge::waiting`] until the peer has acknowledged it or, for
//! a worker, completed it. A message that one component
//! has acknowledged and the other one not heard of yet is counted by both, for 20 ms at most.
//!
//! Counters begin at the start of the component, and [`Report::instance`] changes with each start, so a report that was
//! lost is made up for by the next one. [`Rates`] computes rates from a sequence of reports.

use std::time::{Duration, SystemTime};

mod durations;
mod rates;
mod recent;
mod wire;

pub use durations::Durations;
pub use rates::Rates;
pub use recent::{RecentCall, Work};
pub use wire::{MAX_REPORT_BYTES, ReportError};
#[doc(hidden)]
pub use wire::{ReportRequest, WorkerState};

/// The name of the edge that stands for the clients of all HTTP gateways.
#[doc(hidden)]
pub const HTTP_EDGE: &str = "HTTP";

/// Returns a duration in microseconds, as reports are encoded.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The state of a component at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Identifies this run of the component.
    pub instance: u64,
    /// The name of the component.
    pub name: String,
    /// The kind, such as `master`; empty for a component that is built from parts.
    pub kind: String,
    /// The version of palm.
    pub version: String,
    /// The id of the process.
    pub pid: u32,
    /// The name of the host.
    pub host: String,
    /// When the component started, by the clock of its host.
    pub started_at: SystemTime,
    /// Time since the start, by a clock that never goes back.
    pub uptime: Duration,
    /// What the component is doing.
    pub state: State,
    /// The address at which the component answers; empty for a worker.
    pub db_address: String,
    /// The parts, in the order of registration.
    pub parts: Vec<Part>,
    /// The functions. Those of a master are merged from its workers.
    pub functions: Vec<Function>,
    /// The peers.
    pub edges: Vec<Edge>,
    /// How many further edges are not listed.
    pub omitted_edges: u64,
    /// Peers without links.
    pub legacy: Legacy,
    /// Why calls wait; empty if none wait.
    pub waits: String,
    /// Tasks of a master that wait for a worker.
    pub tasks: Backlog,
    /// Recent calls, if the request asks for them. Those of workers are at their edges.
    pub recent: Vec<RecentCall>,
    /// HTTP requests of gateways that are under way. Their messages are counted where they are: see the edge `HTTP`.
    pub requests: u64,
}

/// What a component is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum State {
    /// It is not connected to all of its upstream components.
    Starting,
    /// It runs.
    #[default]
    Ready,
    /// It accepts no further messages, and stops when those that it has are done.
    Draining,
}

impl State {
    /// Returns the state in lower case, such as `ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// Messages that wait, and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Backlog {
    /// The messages.
    pub messages: u64,
    /// Their bytes; 0 if they are not counted.
    pub bytes: u64,
    /// The most messages; 0 without a limit.
    pub limit_messages: u64,
    /// The most bytes; 0 without a limit.
    pub limit_bytes: u64,
}

impl Backlog {
    /// Returns a backlog without limits.
    pub fn new(messages: u64, bytes: u64) -> Self {
        Self {
            messages,
            bytes,
            ..Self::default()
        }
    }

    /// Returns the backlog with these limits; 0 means none.
    pub fn with_limits(self, limit_messages: u64, limit_bytes: u64) -> Self {
        Self {
            limit_messages,
            limit_bytes,
            ..self
        }
    }

    /// Returns whether a limit is reached.
    pub fn is_full(&self) -> bool {
        self.limit_messages > 0 && self.messages >= self.limit_messages
            || self.limit_bytes > 0 && self.bytes >= self.limit_bytes
    }
}

/// The counters of one part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Part {
    /// The registered name, such as `Pull`.
    pub name: String,
    /// Messages that the part has received or sent; for an executor, calls.
    pub messages: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Malformed messages, and messages that could not be handled.
    pub errors: u64,
    /// Messages that were dropped because no subscriber arrived in time, or a queue was full.
    pub dropped: u64,
    /// What waits in the queue of the part.
    pub queue: Backlog,
    /// What the part has taken from its queue or socket and not passed on, besides calls that run.
    pub held: Backlog,
    /// Calls that failed because they were not done in time: past their deadline, or beyond the limit of their method.
    pub late: u64,
}

/// The counters and durations of one function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Function {
    /// The name by which it is called.
    pub name: String,
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that run.
    pub running: u64,
    /// The time between the receipt of a message and the start of its call.
    pub waiting: Durations,
    /// The run time of calls.
    pub working: Durations,
}

/// The role of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Role {
    /// Any other peer.
    #[default]
    Other,
    /// A worker of this master or hub.
    Worker,
    /// A client, which calls this component.
    Client,
    /// A component that follows this one, or a client that receives its answers here.
    Subscriber,
    /// The component that this one follows.
    Upstream,
    /// The master of this worker.
    Master,
}

impl Role {
    /// Returns the role in lower case, such as `worker`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Subscriber => "subscriber",
            Self::Upstream => "upstream",
            Self::Master => "master",
        }
    }
}

/// The state of the connection with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EdgeState {
    /// The peer is connected.
    #[default]
    Connected,
    /// The connection is closed, and the peer may return to its session.
    Disconnected,
    /// The peer counts as lost: its work is redelivered.
    Lost,
    /// The peer accepts no further messages.
    Draining,
}

impl EdgeState {
    /// Returns the state in lower case, such as `connected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::Draining => "draining",
        }
    }
}

/// A peer of a component, and what waits between the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Edge {
    /// The role of the peer.
    pub role: Role,
    /// The name of the peer, if it is known.
    pub name: String,
    /// The `db_address` of the peer, if it has one.
    pub db_address: String,
    /// The topics that one end follows.
    pub topics: Vec<String>,
    /// Time since the session was opened.
    pub age: Duration,
    /// Time since the last sign of life of the peer.
    pub silent: Duration,
    /// The state of the connection.
    pub state: EdgeState,
    /// Messages that were submitted to the peer in this session.
    pub sent: u64,
    /// Those of them that the peer has acknowledged.
    pub acknowledged: u64,
    /// Messages that were received from the peer in this session.
    pub received: u64,
    /// What was sent to the peer and is not acknowledged; for a worker, the tasks that it has not completed.
    pub waiting: Backlog,
    /// What was received from the peer and has not reached a queue.
    pub unread: Backlog,
    /// Time for which this component had to wait for the peer.
    pub stalled: Duration,
    /// The time from the submission of a message to its acknowledgement, of every 64th message.
    pub time: Durations,
    /// Tasks of this peer that were redelivered after its loss.
    pub redelivered: u64,
    /// Messages of this peer that were dropped: results for tasks that it does not have.
    pub dropped: u64,
    /// What a worker has reported of itself, if it was asked in time.
    pub worker: Option<Worker>,
}

/// What a worker reports to its master.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Worker {
    /// Identifies this run of the worker.
    pub instance: u64,
    /// The id of the process.
    pub pid: u32,
    /// The name of the host.
    pub host: String,
    /// The version of palm.
    pub version: String,
    /// When the worker started, by the clock of its host.
    pub started_at: SystemTime,
    /// Time since the start, by a clock that never goes back.
    pub uptime: Duration,
    /// The most calls that run at once.
    pub concurrency: u32,
    /// Tasks that the worker has and has not begun.
    pub prefetched: u64,
    /// How many tasks the worker now asks for besides those that it runs; `None` if it is of an earlier version.
    pub prefetch: Option<u64>,
    /// The level at which the worker logs, as the setting `log_level`; empty if it is of an earlier version.
    pub log_level: String,
    /// Calls that run.
    pub running: u64,
    /// Results that the master has not acknowledged.
    pub results: u64,
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that failed because they were not done in time.
    pub late: u64,
    /// The run time of all completed calls together.
    pub worked: Duration,
    /// Time since the worker made the report.
    pub age: Duration,
    /// Recent calls, if the request asks for them.
    pub recent: Vec<RecentCall>,
}

/// Peers without links, which report nothing of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Legacy {
    /// Workers at the PUSH socket.
    pub workers: u64,
    /// Clients at the PULL socket.
    pub clients: u64,
    /// Subscribers at the PUB socket.
    pub subscribers: u64,
    /// Tasks that were pushed to workers and have no result.
    pub tasks: u64,
}

impl Worker {
    /// Returns an empty report of the run `instance` of a worker.
    pub fn new(instance: u64) -> Self {
        Self {
            instance,
            pid: 0,
            host: String::new(),
            version: String::new(),
            started_at: SystemTime::UNIX_EPOCH,
            uptime: Duration::ZERO,
            concurrency: 0,
            prefetched: 0,
            prefetch: None,
            log_level: String::new(),
            running: 0,
            results: 0,
            calls: 0,
            errors: 0,
            late: 0,
            worked: Duration::ZERO,
            age: Duration::ZERO,
            recent: Vec::new(),
        }
    }
}

impl Report {
    /// Returns an empty report of the run `instance` of the component `name`.
    pub fn new(instance: u64, name: &str) -> Self {
        Self {
            instance,
            name: name.to_owned(),
            kind: String::new(),
            version: String::new(),
            pid: 0,
            host: String::new(),
            started_at: SystemTime::UNIX_EPOCH,
            uptime: Duration::ZERO,
            state: State::default(),
            db_address: String::new(),
            parts: Vec::new(),
            functions: Vec::new(),
            edges: Vec::new(),
            omitted_edges: 0,
            legacy: Legacy::default(),
            waits: String::new(),
            tasks: Backlog::default(),
            recent: Vec::new(),
            requests: 0,
        }
    }

    /// Keeps the recent calls, also those of workers, of which one id begins with `prefix`.
    #[doc(hidden)]
    pub fn retain_recent(&mut self, prefix: &str) {
        self.recent.retain(|call| call.matches(prefix));
        let workers = self.edges.iter_mut().filter_map(|it| it.worker.as_mut());
        for worker in workers {
            worker.recent.retain(|call| call.matches(prefix));
        }
    }

    /// Removes the recent calls, also those of workers.
    #[doc(hidden)]
    pub fn clear_recent(&mut self) {
        self.recent.clear();
        let workers = self.edges.iter_mut().filter_map(|it| it.worker.as_mut());
        workers.for_each(|worker| worker.recent.clear());
    }

    /// Returns the part called `name`.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Returns the function called `name`.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// Returns the edges with peers of this role.
    pub fn edges_of(&self, role: Role) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.role == role)
    }

    /// Returns how many messages are in the component, and were not handed over to a peer.
    ///
    /// The tasks of workers and the calls that workers run are those of edges and workers, and do not count.
    pub fn messages_inside(&self) -> u64 {
        let running = match self.edges_of(Role::Worker).next() {
            Some(_) => 0,
            None => self.functions.iter().map(|function| function.running).sum(),
        };
        self.messages_waiting() + running
    }

    /// Returns how many messages wait in the component: [`messages_inside`](Self::messages_inside) without running calls.
    pub fn messages_waiting(&self) -> u64 {
        let parts = self
            .parts
            .iter()
            .map(|part| part.queue.messages + part.held.messages);
        let edges = self.edges.iter().map(|edge| edge.unread.messages);
        parts.chain(edges).sum::<u64>() + self.tasks.messages
    }
}

#[cfg(test)]
mod tests;
