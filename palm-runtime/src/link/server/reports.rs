//! What the links of a component report: its edges, and the reports of its workers.
//!
//! A master asks its workers for reports once a second, while it is asked itself: a cluster that is not observed sends
//! none. Reports of workers are bounded in total, and dropped when the observation has ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::peer::{LinkPeer, PeerRole};
use super::{LinkServer, ServerState};
use crate::budget::IdLedger;
use crate::link::PeerKey;
use crate::report::{Backlog, Edge, EdgeState, Function, Role, WorkerState};

/// Time for which workers are asked for reports after a report of the component was requested.
const OBSERVED_TIME: Duration = Duration::from_secs(30);

/// The interval at which workers are asked for reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Time within which workers report when they are asked for the first time.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Time for which workers are asked for their recent calls after those were requested: until the request is answered.
const CALLS_TIME: Duration = Duration::from_secs(1);

/// Reports of workers that are older than this are not listed.
const MAX_REPORT_AGE: Duration = Duration::from_secs(10);

/// The most memory that reports of workers may occupy.
const MAX_REPORTS_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes a decoded report occupies for each byte on the wire, at most about.
const DECODED_BYTES: usize = 8;

/// Until when the component is observed, and when its workers are asked for reports.
#[derive(Debug)]
pub(super) struct Inspection {
    /// Until when workers are asked for reports.
    pub(super) observed_until: Option<Instant>,
    requested_at: Option<Instant>,
    /// Until when workers are asked for their recent calls too: a request without them would replace a report with them.
    calls_until: Option<Instant>,
    ticked_at: Option<Instant>,
    /// The memory of the reports, by session.
    pub(super) memory: IdLedger,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            observed_until: None,
            requested_at: None,
            calls_until: None,
            ticked_at: None,
            memory: IdLedger::new(MAX_REPORTS_BYTES),
        }
    }
}

impl Inspection {
    fn is_observed(&self, now: Instant) -> bool {
        self.observed_until.is_some_and(|until| now < until)
    }

    /// Returns whether the observation has ended, and there may be reports of workers. Only the first call returns
    /// `true`.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        let has_ended = self.observed_until.is_some() && !self.is_observed(now);
        if has_ended {
            self.observed_until = None;
            self.memory.clear();
        }
        has_ended
    }

    /// Returns the time since the last tick.
    pub(super) fn tick(&mut self, now: Instant) -> Duration {
        let before = self.ticked_at.replace(now).unwrap_or(now);
        now.saturating_duration_since(before)
    }

    /// Returns whether workers are asked for their recent calls too.
    pub(super) fn wants_calls(&self, now: Instant) -> bool {
        self.calls_until.is_some_and(|until| now <= until)
    }

    /// Returns whether workers are to be asked for reports now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_observed = self.is_observed(now);
        let waits = |at| now.saturating_duration_since(at) < REPORT_INTERVAL;
        let is_due = is_observed && !self.requested_at.is_some_and(waits);
        if is_due {
            self.requested_at = Some(now);
        }
        is_due
    }
}

/// What the links of a component add to its report.
#[derive(Debug, Default)]
pub(crate) struct LinkReport {
    /// The peers, sorted by role and name.
    pub(crate) edges: Vec<Edge>,
    /// The functions of all workers.
    pub(crate) functions: Vec<Function>,
    /// The tasks that wait for a worker.
    pub(crate) tasks: Backlog,
}

impl LinkServer {
    /// Asks workers for reports from now on, for [`OBSERVED_TIME`]. If they were not asked before, or are asked for their
    /// recent `calls`, waits until they have reported, at most for [`REPORT_TIMEOUT`]. Cancel safe.
    pub(crate) async fn observe(&self, calls: bool) {
        let now = self.now();
        {
            let mut state = self.state();
            let until = state.inspection.observed_until.replace(now + OBSERVED_TIME);
            if !calls && until.is_some_and(|until| now < until) {
                return;
            }
            state.inspection.requested_at = Some(now);
            if calls {
                state.inspection.calls_until = Some(now + CALLS_TIME);
            }
            let calls = state.inspection.wants_calls(now);
            let ServerState {
                peers, scheduled, ..
            } = &mut *state;
            let workers = peers.values_mut().filter(|peer| peer.reports());
            for peer in workers {
                peer.session.request_report(calls);
                peer.schedule(scheduled);
            }
            self.flush(&mut state, now);
        }
        let have_reported = self.wait_until(|state| {
            let mut workers = state.peers.values().filter(|peer| peer.reports());
            // A report without calls may answer a request that was sent before this one.
            workers.all(|peer| {
                let report = peer.report.as_ref();
                report.is_some_and(|(report, at)| *at >= now && (!calls || report.has_calls))
            })
        });
        let _ = tokio::time::timeout(REPORT_TIMEOUT, have_reported).await;
    }

    /// Returns what is reported of the links.
    pub(crate) fn report(&self) -> LinkReport {
        let now = self.now();
        let state = self.state();
        let mut functions = BTreeMap::new();
        let mut edges = Vec::new();
        for (key, peer) in &state.peers {
            if state.subscriptions.receives_only_cancellations(*key) {
                // The peer has another session, which is listed.
                continue;
            }
            edges.push(state.edge(*key, peer, now));
            for function in peer.recent_report(now).map_or(&[][..], |it| &it.functions) {
                merge(&mut functions, function);
            }
        }
        let untried = state.dispatch.untried();
        let redelivered = state.dispatch.redelivered();
        let tasks = Backlog::new(
            (untried.messages + redelivered.messages) as u64,
            (untried.bytes + redelivered.bytes) as u64,
        );
        drop(state);
        let order = |edge: &Edge| (edge.role, edge.name.clone(), edge.age);
        edges.sort_by_cached_key(order);
        LinkReport {
            edges,
            functions: functions.into_values().collect(),
            tasks,
        }
    }
}

fn merge(functions: &mut BTreeMap<String, Function>, added: &Function) {
    let Some(function) = functions.get_mut(&added.name) else {
        functions.insert(added.name.clone(), added.clone());
        return;
    };
    function.calls += added.calls;
    function.errors += added.errors;
    function.running += added.running;
    function.waiting.merge(&added.waiting);
    function.working.merge(&added.working);
}

impl LinkPeer {
    /// Returns whether the peer is a connected worker that answers a request for a report.
    fn reports(&self) -> bool {
        matches!(self.role, PeerRole::Worker { .. }) && self.is_connected()
    }

    /// Returns the report of a worker, unless it is old.
    fn recent_report(&self, now: Instant) -> Option<&WorkerState> {
        let (report, at) = self.report.as_ref()?;
        let age = now.saturating_duration_since(*at);
        (age <= MAX_REPORT_AGE).then_some(&**report)
    }
}

impl ServerState {
    /// Stores the report of a worker. Reports that were not requested, malformed ones, and those that exceed the memory
    /// for reports are dropped.
    pub(super) fn record_report(&mut self, key: PeerKey, report: Bytes, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let memory = &mut self.inspection.memory;
        memory.release_all(&key);
        peer.report = None;
        let cost = DECODED_BYTES * report.len();
        if self.inspection.observed_until.is_none() || !memory.capacity(&key).admits(cost) {
            return;
        }
        match WorkerState::decode(report) {
            Some(report) => {
                memory.add(key, cost);
                peer.report = Some((Box::new(report), now));
            }
            None => tracing::debug!(worker = %peer.name, "dropping a malformed report of a worker"),
        }
    }

    fn edge(&self, key: PeerKey, peer: &LinkPeer, now: Instant) -> Edge {
        let since = |at: Instant| now.saturating_duration_since(at);
        let counts = peer.session.message_counts();
        let subscriber = self.subscriptions.subscribers.get(&key);
        let mut edge = Edge::default();
        edge.name = peer.name.to_string();
        edge.age = since(peer.session.opened_at());
        edge.silent = since(peer.session.last_heard());
        edge.state = match (peer.lost_at, peer.disconnected_at) {
            (Some(_), _) => EdgeState::Lost,
            (None, Some(_)) => EdgeState::Disconnected,
            (None, None) if peer.session.is_peer_draining() => EdgeState::Draining,
            (None, None) => EdgeState::Connected,
        };
        edge.sent = counts.sent;
        edge.acknowledged = counts.acknowledged;
        edge.received = counts.received;
        edge.unread = Backlog::new(peer.unread.messages as u64, peer.unread.bytes as u64);
        edge.stalled = peer.stalled;
        edge.time = peer.session.acknowledgement_times();
        edge.redelivered = peer.redelivered;
        let (messages, bytes) = peer.session.unacknowledged();
        edge.waiting = Backlog::new(messages as u64, bytes as u64);
        match &peer.role {
            PeerRole::Worker { strays, .. } => {
                edge.role = Role::Worker;
                edge.dropped = *strays;
                // Tasks that the worker has acknowledged are its own until it has completed them.
                edge.waiting.messages = self.dispatch.load(key) as u64;
                edge.worker = peer.report.as_ref().map(|(report, at)| {
                    let mut worker = report.worker.clone();
                    worker.age = since(*at);
                    worker
                });
            }
            PeerRole::Consumer { makes_calls, .. } => {
                edge.role = match makes_calls {
                    true => Role::Client,
                    false => Role::Subscriber,
                };
                if let Some(subscriber) = subscriber {
                    edge.db_address.clone_from(&subscriber.origin.db_address);
                    edge.topics.clone_from(&subscriber.following.topics);
                    let backlog = subscriber.backlog(&peer.session);
                    edge.waiting = Backlog::new(backlog.messages as u64, backlog.bytes as u64);
                    if let Some(limit) = subscriber.following.backlog_limit() {
                        let limit = limit.at_most(self.subscriptions.backlog_share());
                        edge.waiting = edge
                            .waiting
                            .with_limits(limit.messages as u64, limit.bytes as u64);
                    }
                }
            }
        }
        edge
    }
}
