//! The accepting side of links: sessions with workers, clients and subscribers over the ROUTER at `db_address`.
//!
//! [`LinkServer`] owns the sessions of all peers, in one state behind one lock that is never held across an await. The
//! service that owns the socket calls [`receive`](LinkServer::receive), [`tick`](LinkServer::tick) and
//! [`record_disconnect`](LinkServer::record_disconnect); the parts that send and receive messages call the other
//! methods. Each of them ends with a flush, which sends the due transmissions.
//!
//! [`handshake`] opens sessions, and [`receive`](mod@receive) handles their events; [`requests`] has the requests of
//! operators to workers; [`tasks`] has tasks and results, [`publications`] publications and answers, and [`timers`]
//! lost peers, session expiry and slow consumers. Slow consumers are detected in
//! [`subscriptions`](super::subscriptions) and disconnected in [`timers`]; `parts/publish/links` waits for them.
//! [`peers`] restores and removes peers, and [`drain`] ends all sessions of a component that stops.
//!
//! **Invariant:** the server keeps no session that its peer has forgotten, or does not return to:
//!
//! - An `instance` is this side's number for a session, which the peer's later `hello`s repeat (`proto/README.md`). A
//!   `hello` with an `instance`, for a session that is unknown, comes from before the session expired or this component
//!   was restarted. It is answered with `closed`, or with the reason why the session was refused, and opens no session.
//! - One connection carries one session. A `hello` for another session on the same connection ends the first.
//! - A peer that shows no sign of life for the idle timeout ([`LinkOptions::idle_timeout`]) is lost, whatever its
//!   role. Reports of closed connections only speed this up: nothing depends on them.
//! - A lost peer may return to its session until the session expires ([`LinkOptions::session_expiry`]). The session
//!   ends earlier if a publisher waits for it, or if the limit of sessions is reached.
//!
//! **Memory.** Received messages that were not passed on are bounded in total, calls and results separately
//! ([`LinkOptions::max_unread_bytes`]). Messages of a peer that exceed its part are dropped as if the connection had
//! lost them, and requested again once there is capacity. The contents of `hello`s count against a limit of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, watch};

use super::dispatch::{Dispatch, FailedTask};
use super::inbound::{InboundChannel, InboundEvent};
use super::options::LinkOptions;
use super::peer_log::PeerLog;
use super::session::{Session, SessionEvent, memory_bytes};
use super::subscriptions::{BacklogSize, SubscriptionEvent, SubscriptionTable};
use super::{CLIENT, PeerKey, SUBSCRIBER, WORKER, truncate_name, write_by};
use crate::budget::IdLedger;
use crate::clock;
use crate::id_map::IdMap;
use crate::log_limit::LimitLog;
use crate::message::Batch;
use crate::message::proto::Function;
use crate::socket::{Frames, RouterSender, WriteBy};
use crate::trace::RecentCalls;

mod deliveries;
mod drain;
mod handshake;
mod output;
mod peer;
mod peers;
mod publications;
mod receive;
mod refused;
mod reports;
mod requests;
mod retained;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use requests::UnansweredRequest;
pub(crate) use timers::TICK;

use deliveries::Deliveries;
use handshake::{MAX_HELLOS_BYTES, Resubscriptions};
use output::ServerOutput;
use peer::{LinkPeer, PeerRole};
use refused::RefusedSessions;
use reports::Inspection;
use requests::OpenRequests;
use tasks::PausedFlows;

/// Limit on the peers to which one thread writes at once. The tasks of more connections write in parallel.
const MAX_LONE_PEERS: usize = 2;

/// The links of a component with the peers that connect to it.
#[derive(Debug)]
pub(crate) struct LinkServer {
    options: LinkOptions,
    /// Identifies this run of the component in each `accept_hello`.
    component: u64,
    state: Mutex<ServerState>,
    workers: watch::Sender<WorkerCount>,
    /// The number of tasks that have not ended.
    outstanding: AtomicUsize,
    /// Results that were dropped because their worker does not have the task, until they are counted.
    strays: AtomicUsize,
    open_requests: OpenRequests,
    /// Notified when workers have credit again, the number of workers changes, a task fails, or the last task ends.
    changed: Notify,
    /// Notified when a backlog may have become smaller, or a peer may have sent its last message.
    progressed: Notify,
    results: InboundChannel,
    inputs: Arc<InboundChannel>,
    /// The time in a test; `None` for the system's.
    #[cfg(test)]
    time: Mutex<Option<Instant>>,
}

/// What peers have reported by opening sessions, for the owner of the socket.
#[derive(Debug, Default)]
pub(crate) struct OpenedSessions {
    /// The ids of clients. If their calls were cancelled because they had vanished, the cancellation is revoked.
    pub(crate) clients: Vec<Arc<str>>,
    /// The functions of workers, which are to be registered.
    pub(crate) functions: Vec<Function>,
}

/// The number of connected workers, with the number and time of its changes.
#[derive(Debug, Clone, Copy, Default)]
struct WorkerCount {
    count: usize,
    generation: u64,
    since: Option<Instant>,
}

impl WorkerCount {
    fn update(&mut self, count: usize, now: Instant) -> bool {
        let is_new = self.count != count;
        self.count = count;
        self.generation += u64::from(is_new);
        if is_new {
            self.since = Some(now);
        }
        is_new
    }
}

#[derive(Debug)]
struct ServerState {
    output: ServerOutput,
    /// Whether the component has a part that submits tasks.
    has_task_source: bool,
    peers: IdMap<LinkPeer>,
    /// The number of workers that are not lost.
    connected_workers: usize,
    /// The peers by the id of their session.
    sessions: HashMap<Bytes, PeerKey>,
    refused: RefusedSessions,
    /// The peers by the routing id of the connection that their session uses.
    routes: HashMap<Bytes, PeerKey>,
    /// The number of sessions in which each client calls: normally one.
    callers: HashMap<Arc<str>, u32>,
    last_key: PeerKey,
    dispatch: Dispatch,
    deliveries: Deliveries,
    failed: Vec<FailedTask>,
    /// The number of waiting tasks beyond which further ones were not accepted, if there are further ones.
    blocked_beyond: Option<usize>,
    /// Clients from which no further tasks are accepted for now.
    paused_flows: PausedFlows,
    /// Clients that have vanished since the last tick, whose calls are to be cancelled.
    vanished: Vec<Arc<str>>,
    /// Number of sessions that have ended since this was last read.
    ended_sessions: usize,
    /// Whether the end of the last task is to be notified, because a part waits for it.
    reports_completion: bool,
    subscriptions: SubscriptionTable,
    /// Reports subscriptions to the part that publishes.
    publisher: Option<mpsc::UnboundedSender<SubscriptionEvent>>,
    inputs: Arc<InboundChannel>,
    /// Whether the component drains, and accepts no further calls.
    is_draining: bool,
    /// Whether the last calls were received. Those that a lost client still sends when it returns are not handled.
    are_calls_closed: bool,
    /// Whether publications were dropped because their subscriber left while the component drains.
    has_dropped: bool,
    /// Whether the component has established its own subscriptions.
    subscriptions_ready: bool,
    /// After a restart, the wait for former followers.
    resubscriptions: Option<Resubscriptions>,
    /// The number of followers at the last tick, which they were told then.
    announced_followers: usize,
    /// The peers for which a transmission may be due.
    scheduled: Vec<PeerKey>,
    events: Vec<SessionEvent>,
    /// The memory of received calls that were not passed on, by session.
    unread_calls: IdLedger,
    /// The memory of received results that were not passed on, by session.
    unread_results: IdLedger,
    unread_log: LimitLog,
    /// The limit on the bytes of tasks that are with workers.
    max_task_bytes: usize,
    /// An upper bound of these bytes: tasks that have ended are counted until the next recount.
    assigned_task_bytes: usize,
    /// Whether the tasks may be recounted in this tick.
    may_recount_tasks: bool,
    /// The memory of the `hello`s, by session.
    hello_memory: IdLedger,
    /// When a report of this component was last requested, and reports of its workers.
    inspection: Inspection,
    /// The sessions that were opened since this was last taken.
    opened: OpenedSessions,
    peer_log: PeerLog,
}

impl LinkServer {
    pub(crate) fn new(options: LinkOptions) -> Self {
        let dispatch = Dispatch::new(options.max_deliver);
        let unread = options.max_unread_bytes;
        let backlog = options.max_backlog_bytes;
        let max_task_bytes = options.max_task_bytes;
        let inputs = Arc::<InboundChannel>::default();
        Self {
            options,
            component: uuid::Uuid::new_v4().as_u64_pair().0,
            state: Mutex::new(ServerState {
                output: ServerOutput::None,
                has_task_source: false,
                peers: IdMap::default(),
                connected_workers: 0,
                sessions: HashMap::new(),
                refused: RefusedSessions::default(),
                routes: HashMap::new(),
                callers: HashMap::new(),
                last_key: 0,
                dispatch,
                deliveries: Deliveries::default(),
                failed: Vec::new(),
                blocked_beyond: None,
                paused_flows: PausedFlows::default(),
                vanished: Vec::new(),
                ended_sessions: 0,
                reports_completion: false,
                subscriptions: SubscriptionTable::new(backlog),
                publisher: None,
                inputs: inputs.clone(),
                is_draining: false,
                are_calls_closed: false,
                has_dropped: false,
                subscriptions_ready: false,
                resubscriptions: None,
                announced_followers: 0,
                scheduled: Vec::new(),
                events: Vec::new(),
                unread_calls: IdLedger::new(unread),
                unread_results: IdLedger::new(unread),
                unread_log: LimitLog::default(),
                max_task_bytes,
                assigned_task_bytes: 0,
                may_recount_tasks: true,
                hello_memory: IdLedger::new(MAX_HELLOS_BYTES),
                inspection: Inspection::default(),
                opened: OpenedSessions::default(),
                peer_log: PeerLog::default(),
            }),
            workers: watch::Sender::default(),
            outstanding: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            open_requests: OpenRequests::default(),
            changed: Notify::new(),
            progressed: Notify::new(),
            results: InboundChannel::default(),
            inputs,
            #[cfg(test)]
            time: Mutex::default(),
        }
    }

    fn now(&self) -> Instant {
        #[cfg(test)]
        if let Some(now) = *self.time.lock() {
            return now;
        }
        clock::now()
    }

    pub(crate) fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// Records the deliveries of tasks to workers as those of `component`, and adds them to its recent calls.
    pub(crate) fn record_deliveries(&self, component: &str, recent: Arc<RecentCalls>) {
        self.state().deliveries.set_owner(component, recent);
    }

    /// Returns the random number that identifies this run of the component.
    pub(crate) fn component(&self) -> u64 {
        self.component
    }

    /// Logs why calls wait for workers, if they have waited for a while. The owner calls it every [`TICK`].
    pub(crate) fn report_wait(&self, cause: Option<String>) {
        let now = self.now();
        self.state().peer_log.wait(cause, now);
    }

    /// Explains why submitted calls wait for workers, if any do.
    pub(crate) fn wait_cause(&self) -> Option<String> {
        self.state().dispatch.wait_cause()
    }

    /// Returns the number of sessions, including those of lost peers that may return.
    pub(crate) fn sessions(&self) -> usize {
        self.state().peers.len()
    }

    /// Returns how many sessions have ended since the last call.
    pub(crate) fn take_ended(&self) -> usize {
        std::mem::take(&mut self.state().ended_sessions)
    }

    fn state(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock()
    }

    /// Returns the receiver of workers' results; `None` if another part has it.
    pub(crate) fn take_results(&self) -> Option<mpsc::UnboundedReceiver<InboundEvent>> {
        self.results.take_receiver()
    }

    /// Returns the receiver of clients' calls; `None` if another part has it.
    pub(crate) fn take_calls(&self) -> Option<mpsc::UnboundedReceiver<InboundEvent>> {
        self.inputs.take_receiver()
    }

    /// Sets the socket over which the sessions send.
    pub(crate) fn set_router(&self, router: RouterSender) {
        self.state().output = ServerOutput::Router(router);
    }

    /// Returns the roles for which links are offered: those that a part of the component serves.
    pub(crate) fn offered(&self) -> Vec<&'static str> {
        let state = self.state();
        let mut roles = vec![WORKER, CLIENT, SUBSCRIBER];
        roles.retain(|role| {
            self.options.enabled && state.output.is_some() && self.serves(&state, role)
        });
        roles
    }

    /// Receives messages of links, each preceded by its routing id. Returns the sessions that they have opened.
    pub(crate) fn receive(&self, messages: impl Iterator<Item = Frames>) -> OpenedSessions {
        let now = self.now();
        let mut state = self.state();
        for frames in messages {
            self.receive_frames(&mut state, frames, now);
        }
        state.assign(now);
        self.flush(&mut state, now);
        std::mem::take(&mut state.opened)
    }

    /// Sends a list of cancelled calls to all workers whose sessions have such lists.
    pub(crate) fn cancel(&self, list: &Bytes) {
        let now = self.now();
        let submit = |session: &mut Session| session.submit_cancelled(list.clone(), now);
        let is_worker = |role: &PeerRole| matches!(role, PeerRole::Worker { .. });
        self.change_sessions(&mut self.state(), is_worker, submit);
    }

    /// Records that the connection of a peer was closed.
    pub(crate) fn record_disconnect(&self, route: &Bytes) {
        let now = self.now();
        let mut state = self.state();
        if let Some(key) = state.routes.remove(route)
            && let Some(peer) = state.peers.get_mut(&key)
        {
            peer.disconnected_at.get_or_insert(now);
        }
    }

    /// Returns credit for messages that were passed on.
    pub(crate) fn passed_on(&self, messages: impl Iterator<Item = (PeerKey, u64, u64)>) {
        let now = self.now();
        let mut state = self.state();
        let ServerState {
            peers,
            scheduled,
            subscriptions,
            unread_calls,
            unread_results,
            ..
        } = &mut *state;
        for (key, messages, bytes) in messages {
            let cost = memory_bytes(messages as usize, bytes as usize);
            // Messages count until they are passed on, even if their session has ended.
            if !unread_calls.release(&key, cost) {
                unread_results.release(&key, cost);
            }
            if let Some(peer) = peers.get_mut(&key) {
                let unread = &mut peer.unread;
                unread.messages = unread.messages.saturating_sub(messages as usize);
                unread.bytes = unread.bytes.saturating_sub(bytes as usize);
                match &mut peer.role {
                    PeerRole::Worker { .. } => peer.session.consume(messages, bytes),
                    PeerRole::Consumer {
                        withheld_credit, ..
                    } => {
                        withheld_credit.0 += messages;
                        withheld_credit.1 += bytes;
                        peer.return_credit(subscriptions, &self.inputs);
                    }
                }
                peer.schedule(scheduled);
            }
        }
        self.flush(&mut state, now);
    }

    /// Reports to all peers that the component has established its own subscriptions.
    pub(crate) fn set_in_place(&self) {
        let mut state = self.state();
        state.subscriptions_ready = true;
        self.change_sessions(&mut state, |_| true, Session::set_subscriptions_ready);
    }

    /// Changes the sessions with all peers of some roles, and sends what is due.
    fn change_sessions(
        &self,
        state: &mut ServerState,
        is_changed: impl Fn(&PeerRole) -> bool,
        change: impl Fn(&mut Session),
    ) {
        let now = self.now();
        let peers = state.peers.values_mut();
        for peer in peers.filter(|peer| is_changed(&peer.role)) {
            change(&mut peer.session);
            peer.schedule(&mut state.scheduled);
        }
        self.flush(state, now);
    }

    /// Waits until a condition holds, which is checked whenever backlogs may have changed. Cancel safe.
    async fn wait_until(&self, done: impl Fn(&ServerState) -> bool) {
        loop {
            let mut progressed = std::pin::pin!(self.progressed.notified());
            progressed.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            progressed.await;
        }
    }

    /// Sends all due transmissions, and notifies the parts that wait for a change.
    fn flush(&self, state: &mut ServerState, now: Instant) {
        let followers = state.subscriptions.followers();
        let ServerState {
            peers,
            output,
            scheduled,
            ..
        } = state;
        let is_lone = scheduled.len() <= MAX_LONE_PEERS;
        for key in scheduled.drain(..) {
            let Some(peer) = peers.get_mut(&key) else {
                continue;
            };
            peer.is_scheduled = false;
            if matches!(peer.role, PeerRole::Consumer { .. }) {
                peer.session.set_followers(followers);
            }
            while let Some(transmission) = peer.session.transmit(now) {
                let route = peer.route.clone();
                let header = &transmission.header;
                let by = match is_lone {
                    true => write_by(&peer.session, &transmission.frames),
                    false => WriteBy::Task,
                };
                if !output.send(route, header, transmission.frames, by) {
                    // The socket's queue is full. The session retries at the next tick or with the next header.
                    peer.session.retry_from(transmission.header.first);
                    break;
                }
            }
        }
        if let Some(publisher) = &state.publisher {
            for event in state.subscriptions.events.drain(..) {
                // Without a receiver the component has stopped.
                let _ = publisher.send(event);
            }
        }
        let there = state.connected_workers;
        let outstanding = state.dispatch.outstanding();
        let changed = self
            .workers
            .send_if_modified(|workers| workers.update(there, now));
        let before = self.outstanding.swap(outstanding, Ordering::AcqRel);
        let is_done = state.reports_completion && outstanding == 0 && before > 0;
        let has_failed = !state.failed.is_empty();
        let dispatch = &state.dispatch;
        let accepts = |ahead: usize| dispatch.accepts(ahead.div_ceil(2));
        let has_capacity = state.blocked_beyond.is_some_and(accepts);
        if has_capacity {
            state.blocked_beyond = None;
        }
        let has_capacity = state.paused_flows.resume(&state.dispatch) || has_capacity;
        if changed || is_done || has_failed || has_capacity {
            self.changed.notify_one();
        }
    }
}

impl ServerState {
    /// Schedules a peer for the next flush.
    fn schedule(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.schedule(&mut self.scheduled);
        }
    }

    fn role(&mut self, key: PeerKey) -> Option<&mut PeerRole> {
        self.peers.get_mut(&key).map(|peer| &mut peer.role)
    }
}

/// Returns the number of messages, and their bytes.
fn size_of(batches: &[Batch]) -> BacklogSize {
    BacklogSize {
        messages: batches.iter().map(Batch::len).sum(),
        bytes: batches.iter().map(Batch::bytes).sum(),
    }
}
