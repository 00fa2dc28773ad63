//! The accepting side of links: sessions over the ROUTER at `db_address` with workers, clients and
//! subscribers.
//!
//! One state behind one lock, which is never held across a wait: the service that owns the socket and the
//! parts that send and receive messages call it, and every caller transmits what has become due. Tasks are
//! in [`workers`](super::workers), publications in [`subscriptions`](super::streams).
//!
//! A session exists only as long as a peer may use it. These rules keep out sessions that no peer knows:
//!
//! - An unknown session whose `hello` repeats an `instance` belongs to an earlier run of this component. It is
//!   answered by `closed` and never adopted.
//! - One connection carries one session. A `hello` for another session on the same connection ends the first.
//! - A peer that shows no sign of life for the idle timeout ([`LinkOptions::idle_timeout`]) is lost, whatever its
//!   role. News of closed connections only make this faster: nothing depends on them.
//! - A lost peer may return to its session until the session expires ([`LinkOptions::session_expiry`]). Its
//!   session ends earlier if others have to wait for it, or if the limit of sessions is reached.
//!
//! Messages that have come and were not passed on yet are bounded in total, calls and results apart
//! ([`LinkOptions::max_unread_bytes`]). Further ones of a peer that has its part of that are dropped as if its
//! connection had lost them, and requested again once there is capacity. What is kept of a peer's `hello` counts
//! against a limit too.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, mpsc, watch};

use super::dispatch::{Dispatch, Failed, WorkerLoss};
use super::header::{self, is_header};
use super::options::LinkOptions;
use super::reports::{PeerLog, listed};
use super::session::{
    CreditWindow, MIN_VERSION, Session, SessionEvent, TaggedBatch, memory_bytes, message_count,
};
use super::streams::{Following, PeerOrigin, SubscriptionTable};
use super::workers::PausedFlows;
use super::{CLIENT, SUBSCRIBER, WORKER};
use crate::budget::Ledger;
use crate::by_number::ByNumber;
use crate::fair_queue::MAX_WEIGHT;
use crate::log_limit::LimitLog;
use crate::message::Batch;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{Function, LinkHeader, LinkHello, LinkRefusal};
use crate::socket::{Frames, RouterSender, TrySendError};

#[cfg(test)]
#[path = "accept_test.rs"]
mod tests;

/// How much one peer may send ahead of what the component has taken.
const WINDOW: CreditWindow = CreditWindow {
    messages: 4096,
    bytes: 8 * 1024 * 1024,
};

/// How many bytes a `hello` has at most: a worker's functions, names and topics.
const MAX_HELLO_BYTES: usize = 1024 * 1024;

/// How many bytes the `hello`s of all sessions keep in memory, about.
const MAX_HELLOS_BYTES: usize = 64 * 1024 * 1024;

/// What a session, and a function of a worker, take of memory besides the bytes of their `hello`, about.
const SESSION_OVERHEAD: usize = 2048;
const FUNCTION_OVERHEAD: usize = 64;

/// Longest name that is kept, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// How often idle and slow peers are looked for.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long a restarted component waits for its former followers before it publishes to them, so that none of
/// several misses a message: twice the longest pause between two attempts to connect.
const SETTLING: Duration = Duration::from_secs(2);

/// How long a client whose connection was closed may take to connect again before its calls are cancelled. A
/// client that lives connects within about a second.
const CLIENT_RECONNECT_GRACE: Duration = Duration::from_secs(3);

/// A session with a peer.
pub(crate) type PeerKey = u64;

/// Stands for no session: for messages that take no credit.
const NO_PEER: PeerKey = 0;

/// What comes over links to the part that takes it.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Messages that came together, for which credit is to be returned.
    Messages {
        peer: PeerKey,
        /// The client's weight, see [`Flow`](crate::fair_queue::Flow).
        weight: u32,
        groups: Vec<Batch>,
    },
    /// A client does not read its answers, or reads again.
    Paused(PeerKey, bool),
}

/// Messages of one kind that come over links, for the one part that takes them.
#[derive(Debug)]
pub(super) struct InboundChannel {
    sender: mpsc::UnboundedSender<Incoming>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Incoming>>>,
}

impl Default for InboundChannel {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl InboundChannel {
    fn take_receiver(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives what came of a peer to the taker; without one the component has stopped.
    fn send(&self, peer: PeerKey, weight: u32, groups: Vec<Batch>) {
        if !groups.is_empty() {
            let _ = self.sender.send(Incoming::Messages {
                peer,
                weight,
                groups,
            });
        }
    }

    /// Begins no messages of a peer, or begins them again.
    fn pause(&self, peer: PeerKey, is_paused: bool) {
        let _ = self.sender.send(Incoming::Paused(peer, is_paused));
    }

    fn is_taken(&self) -> bool {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The links of a component with those that connect to it.
#[derive(Debug)]
pub(crate) struct Links {
    options: LinkOptions,
    /// Identifies this run of the component in each `accept_hello`.
    component: u64,
    state: Mutex<ServerState>,
    pub(super) workers: watch::Sender<WorkerCount>,
    /// Tasks that have no answer yet.
    pub(super) outstanding: AtomicUsize,
    /// Results that were dropped since they belong to no task of their worker, and are not counted yet.
    pub(super) strays: AtomicUsize,
    /// Told when there is room for tasks, a worker comes or goes, a task fails, or the last one is done.
    pub(super) changed: Notify,
    /// Told when what is published, or still comes in, may have got less.
    pub(super) progressed: Notify,
    results: InboundChannel,
    pub(super) inputs: Arc<InboundChannel>,
    /// What time it is in a test; `None`: the system's.
    #[cfg(test)]
    time: Mutex<Option<Instant>>,
}

/// How many workers are there, how often that has changed, and when it did last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerCount {
    pub(super) count: usize,
    pub(super) generation: u64,
    pub(super) since: Option<Instant>,
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
pub(super) struct ServerState {
    pub(super) output: ServerOutput,
    /// Whether there is a part that gives tasks.
    pub(super) has_task_source: bool,
    pub(super) peers: ByNumber<LinkPeer>,
    /// How many workers are not lost.
    pub(super) connected_workers: usize,
    /// By the session's id.
    sessions: HashMap<Bytes, PeerKey>,
    /// By the connection that the session uses.
    routes: HashMap<Bytes, PeerKey>,
    /// How many sessions in which calls are made each client id has: normally one.
    callers: HashMap<Arc<str>, u32>,
    last_key: PeerKey,
    pub(super) dispatch: Dispatch,
    pub(super) failed: Vec<Failed>,
    /// Whether there are further tasks, for whom there was no room beyond so many that wait.
    pub(super) blocked_beyond: Option<usize>,
    /// Clients of which enough tasks wait.
    pub(super) paused_flows: PausedFlows,
    /// How many sessions have ended since this was last read.
    ended_sessions: usize,
    /// Whether somebody waits until all tasks are done.
    pub(super) reports_completion: bool,
    pub(super) subscriptions: SubscriptionTable,
    pub(super) inputs: Arc<InboundChannel>,
    /// Whether the component takes no more inputs.
    is_draining: bool,
    /// Whether all that the component follows itself is in place.
    subscriptions_ready: bool,
    /// Until when those who were here before a restart have time to come back.
    pub(super) settled_at: Option<Instant>,
    /// Who may have something to be sent.
    pub(super) scheduled: Vec<PeerKey>,
    events: Vec<SessionEvent>,
    /// Calls, and results of workers, that have come and were not passed on yet, by session.
    unread_calls: Ledger<PeerKey>,
    unread_results: Ledger<PeerKey>,
    unread_log: LimitLog,
    /// How many bytes of tasks workers may have, how many they have had since all were counted, and whether they
    /// may be counted again.
    pub(super) max_task_bytes: usize,
    pub(super) tasks_held: usize,
    pub(super) may_recount_tasks: bool,
    /// What sessions keep of their `hello`s.
    hello_memory: Ledger<PeerKey>,
    /// Clients that have opened a session since this was taken.
    returned_clients: Vec<Arc<str>>,
    peer_log: PeerLog,
}

/// Why a session is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionEnd {
    /// The peer, or this side, has closed it.
    Closed,
    /// The peer goes on in another session.
    Replaced,
    /// The peer is gone, or too slow.
    Expired,
}

/// Returns memory of a table that has become much smaller.
pub(super) fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    const LEAST: usize = 64;
    if table.capacity() > LEAST.max(4 * table.len()) * 2 {
        table.shrink_to(LEAST.max(2 * table.len()));
    }
}

/// What becomes of a peer at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerFate {
    Stays,
    Lost,
    Expired,
}

#[derive(Debug)]
pub(super) struct LinkPeer {
    key: PeerKey,
    /// The session's.
    id: Bytes,
    /// Whether it may have something to be sent.
    is_scheduled: bool,
    pub(super) name: Arc<str>,
    role: PeerRole,
    /// Its part of what clients share.
    weight: u32,
    pub(super) session: Session,
    /// The connection that it uses: the routing id.
    route: Bytes,
    /// When its connection was closed, if it was.
    disconnected_at: Option<Instant>,
    /// When it was lost, if it was: see the module's documentation.
    lost_at: Option<Instant>,
    /// A subscriber that was there, with the same name and topics, when this one came, and the number of the next
    /// message for it then. If that one turns out to have been dead, what it lacks below that number is for this
    /// one, which has received the rest itself.
    predecessor: Option<(PeerKey, u64)>,
}

#[derive(Debug)]
enum PeerRole {
    Worker {
        /// What it can do, until it has joined.
        functions: Vec<Function>,
        /// How many tasks it runs at once; 0: unknown.
        concurrency: u32,
        /// How many results it has sent for tasks that it does not have.
        strays: u64,
    },
    Consumer {
        /// What came of it and was taken, while it was not to send more.
        withheld_credit: (u64, u64),
        /// Whether its answers are backed up, so that its calls are not begun for now.
        is_paused: bool,
        /// Whether all that it sends has arrived.
        finished: bool,
        /// Whether it makes calls, and does not only receive answers and publications here.
        makes_calls: bool,
    },
}

impl LinkPeer {
    pub(super) fn schedule(&mut self, scheduled: &mut Vec<PeerKey>) {
        if !std::mem::replace(&mut self.is_scheduled, true) {
            scheduled.push(self.key);
        }
    }

    /// Returns credit for consumed messages, and begins the calls that have come. Both wait while the client's
    /// own answers are backed up, so that a client that does not read cannot keep calling, or fill queues that
    /// it shares with others.
    pub(super) fn return_credit(
        &mut self,
        subscriptions: &SubscriptionTable,
        inputs: &InboundChannel,
    ) {
        let PeerRole::Consumer {
            withheld_credit,
            is_paused,
            makes_calls: true,
            ..
        } = &mut self.role
        else {
            return;
        };
        let is_backlogged = subscriptions.is_backlogged(self.key, &self.session);
        if *is_paused != is_backlogged {
            *is_paused = is_backlogged;
            inputs.pause(self.key, is_backlogged);
        }
        if withheld_credit.0 > 0 && !is_backlogged {
            let (messages, bytes) = std::mem::take(withheld_credit);
            self.session.consume(messages, bytes);
        }
    }

    /// Of a worker: how many results it has sent for tasks that it does not have.
    pub(super) fn strays(&mut self) -> Option<&mut u64> {
        match &mut self.role {
            PeerRole::Worker { strays, .. } => Some(strays),
            PeerRole::Consumer { .. } => None,
        }
    }

    /// Whether it is not lost.
    pub(super) fn is_alive(&self) -> bool {
        self.lost_at.is_none()
    }

    /// Whether it is lost or expired. `is_waited_for`: whether a full backlog of its makes others wait.
    fn fate(&self, options: &LinkOptions, is_waited_for: bool, now: Instant) -> PeerFate {
        let since = |begin: Instant| now.saturating_duration_since(begin);
        let is_silent = since(self.session.last_heard()) > options.idle_timeout;
        let is_gone_for =
            |limit: Duration| self.disconnected_at.is_some_and(|gone| since(gone) > limit);
        let makes_calls = matches!(
            self.role,
            PeerRole::Consumer {
                makes_calls: true,
                ..
            }
        );
        match self.lost_at {
            // Its answers have no receiver any more.
            _ if makes_calls && is_gone_for(CLIENT_RECONNECT_GRACE) => PeerFate::Expired,
            Some(lost) if since(lost) > options.session_expiry => PeerFate::Expired,
            Some(_) if is_silent && is_waited_for => PeerFate::Expired,
            None if is_silent || is_gone_for(options.reconnect_grace) => PeerFate::Lost,
            _ => PeerFate::Stays,
        }
    }
}

impl Links {
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
                peers: ByNumber::default(),
                connected_workers: 0,
                sessions: HashMap::new(),
                routes: HashMap::new(),
                callers: HashMap::new(),
                last_key: 0,
                dispatch,
                failed: Vec::new(),
                blocked_beyond: None,
                paused_flows: PausedFlows::default(),
                ended_sessions: 0,
                reports_completion: false,
                subscriptions: SubscriptionTable::new(backlog),
                inputs: inputs.clone(),
                is_draining: false,
                subscriptions_ready: false,
                settled_at: None,
                scheduled: Vec::new(),
                events: Vec::new(),
                unread_calls: Ledger::new(unread),
                unread_results: Ledger::new(unread),
                unread_log: LimitLog::default(),
                max_task_bytes,
                tasks_held: 0,
                may_recount_tasks: true,
                hello_memory: Ledger::new(MAX_HELLOS_BYTES),
                returned_clients: Vec::new(),
                peer_log: PeerLog::default(),
            }),
            workers: watch::Sender::default(),
            outstanding: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            changed: Notify::new(),
            progressed: Notify::new(),
            results: InboundChannel::default(),
            inputs,
            #[cfg(test)]
            time: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        #[cfg(test)]
        if let Some(now) = *self.time.lock().unwrap_or_else(PoisonError::into_inner) {
            return now;
        }
        Instant::now()
    }

    /// How links are to behave.
    pub(crate) fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// Logs why calls wait for workers, if they have for a while; to be called every [`TICK`].
    pub(crate) fn report_wait(&self, cause: Option<String>) {
        let now = self.now();
        self.state().peer_log.wait(cause, now);
    }

    /// Why calls that were given to the dispatch wait for workers, if any do.
    pub(crate) fn wait_cause(&self) -> Option<String> {
        self.state().dispatch.wait_cause()
    }

    /// Returns the number of sessions, including those of peers that may still come back.
    pub(crate) fn sessions(&self) -> usize {
        self.state().peers.len()
    }

    /// Returns how many sessions have ended since the last call.
    pub(crate) fn take_ended(&self) -> usize {
        std::mem::take(&mut self.state().ended_sessions)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the part that takes results takes them from; the first one, where there are several.
    pub(crate) fn take_results(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        self.results.take_receiver()
    }

    /// What the part that takes calls of clients takes them from; the first one, where there are several.
    pub(crate) fn take_inputs(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        self.inputs.take_receiver()
    }

    /// Sends over `router` from now on.
    pub(crate) fn serve_on(&self, router: RouterSender) {
        self.state().output = ServerOutput::Router(router);
    }

    /// To which roles links are offered: those for which there are parts.
    pub(crate) fn offered(&self) -> Vec<&'static str> {
        let state = self.state();
        let mut roles = vec![WORKER, CLIENT, SUBSCRIBER];
        roles.retain(|role| {
            self.options.enabled && state.output.is_some() && self.serves(&state, role)
        });
        roles
    }

    /// Receives messages of links, each with the route in front. Returns the ids of clients that have opened a
    /// session: calls of theirs that were cancelled because they had vanished are wanted again.
    pub(crate) fn receive(&self, messages: impl Iterator<Item = Frames>) -> Vec<Arc<str>> {
        let now = self.now();
        let mut state = self.state();
        for frames in messages {
            self.receive_frames(&mut state, frames, now);
        }
        state.assign(now);
        self.flush(&mut state, now);
        std::mem::take(&mut state.returned_clients)
    }

    fn receive_frames(&self, state: &mut ServerState, mut frames: Frames, now: Instant) {
        debug_assert!(frames.len() >= 2 && is_header(&frames[1]));
        let mut frames = frames.drain(..);
        let (Some(route), Some(first)) = (frames.next(), frames.next()) else {
            return;
        };
        let Some(header) = header::decode(first) else {
            tracing::warn!("a peer sent a malformed header of a link");
            return;
        };
        let id = header.session.clone();
        if header.alive {
            state.record_life_sign(&id, now);
            return;
        }
        if let Some(hello) = &header.hello
            && let Err(refusal) = self.accept_hello(state, &id, &route, hello, now)
        {
            let reason = &refusal.reason;
            tracing::warn!(
                role = truncate_name(&hello.role),
                peer = truncate_name(&hello.name),
                "link refused: {reason}"
            );
            let header = LinkHeader {
                refusal: Some(refusal),
                ..header::of(id)
            };
            state.output.send(route, &header, Vec::new());
            return;
        }
        let key = state.sessions.get(&id).copied().unwrap_or_default();
        let Some(peer) = state.peers.get_mut(&key) else {
            // A session of an earlier run, or one that has ended: its peer begins another one.
            if !header.closed && header.refusal.is_none() {
                let header = LinkHeader {
                    closed: true,
                    ..header::of(id)
                };
                state.output.send(route, &header, Vec::new());
            }
            return;
        };
        let mut events = std::mem::take(&mut state.events);
        let is_worker = matches!(peer.role, PeerRole::Worker { .. });
        let unread = match is_worker {
            true => &state.unread_results,
            false => &state.unread_calls,
        };
        let was_held_back = peer.session.is_held_back();
        peer.session.set_capacity(unread.capacity(&key), now);
        peer.session.receive(now, &header, frames, &mut events);
        if peer.session.is_held_back()
            && !was_held_back
            && let Some(times) = state.unread_log.record(now)
        {
            tracing::warn!(
                peer = %peer.name,
                times,
                used_bytes = unread.used(),
                "holding back messages of a peer: too many bytes wait to be handled"
            );
        }
        let weight = peer.weight;
        if header.hello.is_none() && !peer.is_alive() && !peer.session.is_over() {
            // The peer was silent, and has kept its session.
            state.restore(key, now);
        }
        let mut groups = Vec::new();
        let mut finished = 0;
        for event in events.drain(..) {
            match event {
                SessionEvent::Opened => state.restore(key, now),
                SessionEvent::Messages(item) if is_worker => {
                    let outcome = state.results(key, item, &mut groups);
                    finished += outcome.finished;
                    self.strays.fetch_add(outcome.strays, Ordering::Relaxed);
                    state
                        .unread_results
                        .add(NO_PEER, memory_of(&outcome.created));
                    self.results.send(NO_PEER, 1, outcome.created);
                }
                SessionEvent::Messages(TaggedBatch { group, .. }) => groups.push(group),
                SessionEvent::Draining => state.peer_is_draining(key),
                SessionEvent::Finished => {
                    if let Some(PeerRole::Consumer { finished, .. }) = state.role(key) {
                        *finished = true;
                        self.progressed.notify_waiters();
                    }
                }
                SessionEvent::Forgotten | SessionEvent::SubscriptionsReady => {}
                SessionEvent::Closed { .. } => {
                    state.log_end(key, "left", now);
                    if !state.retain(key, now) {
                        state.remove(key, SessionEnd::Closed);
                    }
                    self.progressed.notify_waiters();
                }
                SessionEvent::Refused(refusal) => {
                    let reason = refusal.reason;
                    let name = state.peers.get(&key).map(|peer| peer.name.clone());
                    let name = name.unwrap_or_default();
                    tracing::warn!(peer = %name, "link ended: {reason}");
                    state.schedule(key);
                    self.flush(state, now);
                    state.remove(key, SessionEnd::Closed);
                    self.progressed.notify_waiters();
                }
            }
        }
        state.events = events;
        let (lane, unread) = if is_worker {
            (&self.results, &mut state.unread_results)
        } else {
            (&*self.inputs, &mut state.unread_calls)
        };
        unread.add(key, memory_of(&groups));
        lane.send(key, weight, groups);
        if is_worker {
            state.dispatch.remove_load(key, finished, now);
            if let Some(peer) = state.peers.get(&key)
                && peer.is_alive()
            {
                let (room, lent) = (peer.session.credit(), peer.session.peer_lent_slots());
                state.dispatch.set_lent_slots(key, lent);
                state.dispatch.set_credit(key, room);
            }
        } else if state.handle_acknowledgement(key) {
            self.progressed.notify_waiters();
        }
        state.schedule(key);
    }

    /// Finds the session of a peer that introduces itself, or opens one. Opens none if the peer means a session
    /// of an earlier run.
    fn accept_hello(
        &self,
        state: &mut ServerState,
        id: &Bytes,
        route: &Bytes,
        hello: &LinkHello,
        now: Instant,
    ) -> Result<(), LinkRefusal> {
        let refuse = |kind: Kind, reason: String| {
            let kind = kind.into();
            Err(LinkRefusal { kind, reason })
        };
        let is_served = self.serves(state, &hello.role);
        if !is_served {
            return refuse(Kind::Role, not_served(&hello.role));
        }
        if hello.version < MIN_VERSION {
            let reason = format!("version {MIN_VERSION} of the link is the lowest one");
            return refuse(Kind::Version, reason);
        }
        if let Some(&key) = state.sessions.get(id) {
            state.attach(key, route, now);
            return Ok(());
        }
        if hello.instance != 0 {
            // The caller answers by `closed`.
            return Ok(());
        }
        let hello_bytes = hello.encoded_len();
        if hello_bytes > MAX_HELLO_BYTES {
            let reason = format!(
                "the hello has {hello_bytes} bytes, and at most {MAX_HELLO_BYTES} are kept"
            );
            return refuse(Kind::Protocol, reason);
        }
        let following = match Following::of(hello) {
            Ok(following) => following,
            Err(reason) => return refuse(Kind::Protocol, reason),
        };
        state.end_session_on(route, now);
        let name: Arc<str> = truncate_name(&hello.name).into();
        if state.peers.len() >= self.options.max_sessions && !state.evict() {
            return refuse(Kind::Crowded, "there are too many links".to_owned());
        }
        state.last_key += 1;
        let key = state.last_key;
        let kept = hello_bytes + SESSION_OVERHEAD + hello.functions.len() * FUNCTION_OVERHEAD;
        if !state.hello_memory.capacity(&key).admits(kept)
            || !state.subscriptions.admits_news(&following)
        {
            let reason = "the links here keep too many functions and topics".to_owned();
            return refuse(Kind::Crowded, reason);
        }
        state.hello_memory.add(key, kept);
        // Pending publications of a lost subscriber are for the next one of its name.
        let retained = state.take_retained_of(&name, &following);
        let predecessor = state.predecessor(&name, &following);
        // A slice would keep the whole frame, which may be large.
        let id = Bytes::copy_from_slice(id);
        let role = if hello.role == WORKER {
            PeerRole::Worker {
                functions: hello.functions.clone(),
                concurrency: hello.concurrency,
                strays: 0,
            }
        } else {
            PeerRole::Consumer {
                withheld_credit: (0, 0),
                is_paused: false,
                finished: hello.role == SUBSCRIBER,
                makes_calls: hello.role == CLIENT,
            }
        };
        if hello.role == CLIENT {
            *state.callers.entry(name.clone()).or_default() += 1;
            state.returned_clients.push(name.clone());
        }
        let window = match hello.role == SUBSCRIBER {
            false => WINDOW,
            true => CreditWindow {
                messages: 0,
                bytes: 0,
            },
        };
        let (instance, _) = uuid::Uuid::new_v4().as_u64_pair();
        let idle_timeout = self.options.idle_timeout;
        let mut session = Session::accept(
            id.clone(),
            instance,
            self.component,
            window,
            idle_timeout,
            now,
        );
        if hello.role != WORKER {
            if hello.again {
                state.settled_at.get_or_insert(now + SETTLING);
            }
            if state.subscriptions_ready {
                session.set_subscriptions_ready();
            }
            if state.is_draining {
                session.drain();
            }
            for item in retained {
                session.submit(item, now);
            }
            state.subscriptions.add(key, following);
            state.subscriptions.set_origin(key, PeerOrigin::of(hello));
            match state.subscriptions.is_retained(key) {
                _ if hello.role == CLIENT => state.peer_log.client_connected(&name, now),
                true => tracing::info!(subscriber = %name, "subscriber connected"),
                // It receives answers, or news of cancelled calls, as workers and clients do besides.
                false => tracing::debug!(peer = %name, "subscriber connected"),
            }
        }
        let peer = LinkPeer {
            key,
            id: id.clone(),
            is_scheduled: false,
            name,
            role,
            weight: hello.weight.clamp(1, MAX_WEIGHT),
            session,
            route: route.clone(),
            disconnected_at: None,
            // Until it has joined.
            lost_at: Some(now),
            predecessor,
        };
        state.sessions.insert(id, key);
        state.routes.insert(route.clone(), key);
        state.peers.insert(key, peer);
        Ok(())
    }

    /// Whether there are parts for a role.
    fn serves(&self, state: &ServerState, role: &str) -> bool {
        match role {
            WORKER => state.has_task_source && self.results.is_taken(),
            CLIENT => state.subscriptions.has_publisher && self.inputs.is_taken(),
            SUBSCRIBER => state.subscriptions.has_publisher,
            _ => false,
        }
    }

    /// Notes that the connection of a peer was closed.
    pub(crate) fn gone(&self, route: &Bytes) {
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
            let held = memory_bytes(messages as usize, bytes as usize);
            // They count also after their session has ended.
            if !unread_calls.release(&key, held) {
                unread_results.release(&key, held);
            }
            if let Some(peer) = peers.get_mut(&key) {
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

    /// Takes no more calls of clients than what they have sent by now.
    pub(crate) fn drain_inputs(&self) {
        let now = self.now();
        let mut state = self.state();
        state.is_draining = true;
        let ServerState {
            peers, scheduled, ..
        } = &mut *state;
        for peer in peers.values_mut() {
            if let PeerRole::Consumer { .. } = peer.role {
                peer.session.drain();
                peer.schedule(scheduled);
            }
        }
        self.flush(&mut state, now);
    }

    /// Waits until all that clients have sent is here, once they were told to stop. Cancel safe.
    pub(crate) async fn inputs_drained(&self) {
        self.wait_until(|state| {
            state.peers.values().all(|peer| match peer.role {
                PeerRole::Worker { .. } => true,
                // One whose connection is gone has a moment to come back.
                PeerRole::Consumer { finished, .. } => {
                    finished || !peer.is_alive() || peer.session.is_over()
                }
            })
        })
        .await;
    }

    /// Waits until those that are connected have all that was published for them. Cancel safe.
    pub(crate) async fn delivered(&self) {
        self.wait_until(|state| {
            state.peers.values().all(|peer| match peer.role {
                PeerRole::Worker { .. } => true,
                PeerRole::Consumer { .. } => peer.session.is_acknowledged() || !peer.is_alive(),
            })
        })
        .await;
    }

    /// All that the component follows itself is in place.
    pub(crate) fn set_in_place(&self) {
        let now = self.now();
        let mut state = self.state();
        state.subscriptions_ready = true;
        let ServerState {
            peers, scheduled, ..
        } = &mut *state;
        for peer in peers.values_mut() {
            peer.session.set_subscriptions_ready();
            peer.schedule(scheduled);
        }
        self.flush(&mut state, now);
    }

    /// Waits until something is so, looking whenever messages have flowed. Cancel safe.
    pub(super) async fn wait_until(&self, done: impl Fn(&ServerState) -> bool) {
        loop {
            let mut progressed = std::pin::pin!(self.progressed.notified());
            progressed.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            progressed.await;
        }
    }

    /// Finds peers that are lost, expired or too slow; to be called every [`TICK`]. Returns the ids of clients
    /// that have vanished, whose calls are to be cancelled.
    pub(crate) fn tick(&self) -> Vec<Arc<str>> {
        let now = self.now();
        let mut state = self.state();
        let (mut lost, mut expired) = (Vec::new(), Vec::new());
        let ServerState {
            peers,
            scheduled,
            subscriptions,
            unread_calls,
            unread_results,
            ..
        } = &mut *state;
        subscriptions.recount(|key| peers.get(&key).map(|peer| &peer.session));
        for (&key, peer) in peers {
            if peer.session.is_held_back() {
                let unread = match peer.role {
                    PeerRole::Worker { .. } => &*unread_results,
                    PeerRole::Consumer { .. } => &*unread_calls,
                };
                if peer.session.set_capacity(unread.capacity(&key), now) {
                    peer.schedule(scheduled);
                }
            }
            let is_waited_for = subscriptions.full_since(key).is_some();
            match peer.fate(&self.options, is_waited_for, now) {
                PeerFate::Stays => {}
                PeerFate::Lost => lost.push(key),
                PeerFate::Expired => expired.push(key),
            }
            if subscriptions.is_slow_consumer(
                key,
                &peer.session,
                self.options.slow_consumer_timeout,
                now,
            ) {
                let (name, backlog) = (&peer.name, peer.session.unacknowledged());
                tracing::error!(
                    peer = %name,
                    messages = backlog.0,
                    bytes = backlog.1,
                    "disconnecting a slow consumer: its backlog is full, and it reads nothing"
                );
                let reason =
                    "slow consumer: the backlog is full, and nothing of it was read in time";
                peer.session.refuse_as(Kind::Slow, reason);
                peer.schedule(scheduled);
                expired.push(key);
            }
            if peer.disconnected_at.is_none()
                && peer.session.timeout().is_some_and(|due| due <= now)
            {
                peer.schedule(scheduled);
            }
        }
        if !lost.is_empty() {
            // A stop does not wait for them.
            self.progressed.notify_waiters();
        }
        for key in lost {
            state.mark_lost(key, now);
        }
        // Refusals are sent before their sessions are forgotten.
        self.flush(&mut state, now);
        let mut vanished = Vec::new();
        for key in expired {
            vanished.extend(state.remove(key, SessionEnd::Expired));
            self.progressed.notify_waiters();
        }
        let ServerState {
            dispatch, failed, ..
        } = &mut *state;
        dispatch.expire(now, failed);
        state.peer_log.tick(now);
        state.may_recount_tasks = true;
        shrink(&mut state.peers);
        shrink(&mut state.sessions);
        shrink(&mut state.routes);
        shrink(&mut state.callers);
        state.subscriptions.shrink();
        state.assign(now);
        self.flush(&mut state, now);
        vanished
    }

    /// This side was held up and has not read its socket: the silence of its peers is its own.
    pub(crate) fn was_held(&self) {
        let now = self.now();
        for peer in self.state().peers.values_mut() {
            peer.session.record_life_sign(now);
        }
    }

    /// Closes all sessions. `is_complete`: whether all that the component has acknowledged was dealt with.
    /// Clients that are not told so send again what has no answer yet.
    pub(crate) fn close(&self, is_complete: bool) {
        let mut state = self.state();
        let is_complete = is_complete && state.has_delivered_all();
        let is_draining = state.is_draining;
        let ServerState { peers, output, .. } = &mut *state;
        for peer in peers.values_mut() {
            let mut header = peer.session.close();
            // What it sent after it was told to finish was not accepted.
            let is_finished = match peer.role {
                PeerRole::Worker { .. } => true,
                PeerRole::Consumer {
                    finished,
                    makes_calls,
                    ..
                } => finished || !makes_calls || !is_draining,
            };
            header.finished &= is_complete && is_finished;
            output.send(peer.route.clone(), &header, Vec::new());
        }
        peers.clear();
        state.hello_memory.clear();
        state.connected_workers = 0;
        state.output = ServerOutput::None;
    }

    /// Transmits what is due, and wakes those who wait for what has changed.
    pub(super) fn flush(&self, state: &mut ServerState, now: Instant) {
        let ServerState {
            peers,
            output,
            scheduled,
            ..
        } = state;
        for key in scheduled.drain(..) {
            let Some(peer) = peers.get_mut(&key) else {
                continue;
            };
            peer.is_scheduled = false;
            while let Some(transmission) = peer.session.transmit(now) {
                let route = peer.route.clone();
                let header = &transmission.header;
                if !output.send(route, header, transmission.frames) {
                    // The socket's queue is full: again at the next tick, or when the peer is heard of.
                    peer.session.retry_from(transmission.header.first);
                    break;
                }
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
        let has_room = state.blocked_beyond.is_some_and(accepts);
        if has_room {
            state.blocked_beyond = None;
        }
        let has_room = state.paused_flows.resume(&state.dispatch) || has_room;
        if changed || is_done || has_failed || has_room {
            self.changed.notify_one();
        }
    }
}

impl ServerState {
    /// A peer may have something to be sent.
    pub(super) fn schedule(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.schedule(&mut self.scheduled);
        }
    }

    fn role(&mut self, key: PeerKey) -> Option<&mut PeerRole> {
        self.peers.get_mut(&key).map(|peer| &mut peer.role)
    }

    fn restore(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.lost_at.take().is_none() {
                return;
            }
            if let PeerRole::Worker {
                functions,
                concurrency,
                ..
            } = &mut peer.role
            {
                self.connected_workers += 1;
                let functions = std::mem::take(functions);
                let (key, name) = (peer.key, &peer.name);
                if self.dispatch.has_worker(key) {
                    tracing::info!(worker = %name, "worker connected again");
                } else {
                    let functions = listed(functions.iter());
                    tracing::info!(worker = %name, functions, "worker connected");
                }
                self.dispatch
                    .connect(key, name, &functions, *concurrency, now);
            }
        }
    }

    fn mark_lost(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.lost_at = Some(now);
            if let PeerRole::Worker { .. } = peer.role {
                let loss = match peer.disconnected_at {
                    Some(_) => WorkerLoss::Disconnected,
                    None => {
                        let silent = now.saturating_duration_since(peer.session.last_heard());
                        WorkerLoss::Silent(Duration::from_secs(silent.as_secs()))
                    }
                };
                tracing::warn!(worker = %peer.name, "worker lost ({loss}), redelivering its tasks");
                self.connected_workers -= 1;
                self.dispatch.lose_worker(peer.key, loss, &mut self.failed);
            } else {
                self.log_end(key, "lost", now);
            }
        }
        self.redeliver_to_successor(key, now);
    }

    /// Logs that a peer has left or is lost.
    fn log_end(&mut self, key: PeerKey, how: &str, now: Instant) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let name = &peer.name;
        match peer.role {
            PeerRole::Worker { .. } => tracing::info!(worker = %name, "worker {how}"),
            PeerRole::Consumer {
                makes_calls: true, ..
            } => self.peer_log.client_ended(name, how, now),
            PeerRole::Consumer { .. } if self.subscriptions.is_retained(key) => {
                tracing::info!(subscriber = %name, "subscriber {how}");
            }
            PeerRole::Consumer { .. } => tracing::debug!(peer = %name, "peer {how}"),
        }
    }

    /// Gives the messages that a lost subscriber lacks to its successor, if there is one: a subscriber that was
    /// restarted before the death of its first process was known.
    fn redeliver_to_successor(&mut self, key: PeerKey, now: Instant) {
        let successor = self.peers.values().find_map(|peer| match peer.predecessor {
            Some((predecessor, number)) if predecessor == key => Some((peer.key, number)),
            _ => None,
        });
        let Some((successor, number)) = successor else {
            return;
        };
        let lost = self.peers.get_mut(&key);
        let Some(lost) = lost.filter(|lost| lost.session.has_unacknowledged_below(number)) else {
            return;
        };
        let items = lost.session.take_unacknowledged_below(number);
        self.remove(key, SessionEnd::Replaced);
        if let Some(peer) = self.peers.get_mut(&successor) {
            tracing::info!(peer = %peer.name, messages = message_count(&items), "redelivering to a restarted subscriber");
            peer.predecessor = None;
            items
                .into_iter()
                .for_each(|item| peer.session.submit(item, now));
            peer.schedule(&mut self.scheduled);
        }
    }

    /// The last subscriber of this name that follows the same topics, and the number of its next message.
    fn predecessor(&self, name: &str, following: &Following) -> Option<(PeerKey, u64)> {
        if name.is_empty() || !following.is_retained() {
            return None;
        }
        let same = self.peers.values().filter(|peer| {
            &*peer.name == name
                && peer.is_alive()
                && self.subscriptions.follows(peer.key, following)
        });
        let last = same.max_by_key(|peer| peer.key)?;
        Some((last.key, last.session.next_number()))
    }

    /// Whether no task is without an answer, and nothing is pending for a follower.
    fn has_delivered_all(&self) -> bool {
        let has_pending = |peer: &LinkPeer| {
            self.subscriptions.is_retained(peer.key)
                && (!peer.session.is_acknowledged() || self.subscriptions.retained(peer.key) > 0)
        };
        self.dispatch.outstanding() == 0 && !self.peers.values().any(has_pending)
    }

    /// Notes that the process of a session's peer lives.
    fn record_life_sign(&mut self, id: &Bytes, now: Instant) {
        let key = self.sessions.get(id).copied();
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.session.record_life_sign(now);
        }
    }

    /// A session goes on over this connection.
    fn attach(&mut self, key: PeerKey, route: &Bytes, now: Instant) {
        if self.routes.get(route) != Some(&key) {
            self.end_session_on(route, now);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.route != *route {
                self.routes.remove(&peer.route);
                peer.route = route.clone();
            }
            peer.disconnected_at = None;
            self.routes.insert(route.clone(), key);
        }
    }

    /// Ends the session that a connection carries: its peer uses the connection for another one. A subscriber's
    /// pending publications stay, since it is about to introduce itself again.
    fn end_session_on(&mut self, route: &Bytes, now: Instant) {
        let Some(&key) = self.routes.get(route) else {
            return;
        };
        let name = self.peers.get(&key).map(|peer| peer.name.clone());
        tracing::debug!(peer = %name.unwrap_or_default(), "session replaced by another one");
        if !self.retain(key, now) {
            self.remove(key, SessionEnd::Replaced);
        }
        self.routes.remove(route);
    }

    /// Ends the session of the peer that was lost first, so that there is room for another. Returns whether
    /// there was one.
    fn evict(&mut self) -> bool {
        let lost = self.peers.values().filter(|peer| !peer.is_alive());
        let first = lost.min_by_key(|peer| peer.lost_at).map(|peer| peer.key);
        first
            .map(|key| self.remove(key, SessionEnd::Expired))
            .is_some()
    }

    /// Forgets a peer. Returns the id of a client that has vanished: one that has not closed its session, and
    /// has no other one.
    fn remove(&mut self, key: PeerKey, ending: SessionEnd) -> Option<Arc<str>> {
        let mut peer = self.peers.remove(&key)?;
        self.ended_sessions += 1;
        self.hello_memory.release_all(&key);
        if self.routes.get(&peer.route) == Some(&key) {
            self.routes.remove(&peer.route);
        }
        self.sessions.remove(&peer.id);
        match peer.role {
            PeerRole::Worker { .. } => {
                self.connected_workers -= usize::from(peer.is_alive());
                self.dispatch.remove_worker(peer.key, &mut self.failed);
                None
            }
            PeerRole::Consumer {
                makes_calls,
                is_paused,
                ..
            } => {
                if is_paused {
                    self.inputs.pause(peer.key, false);
                }
                let (messages, _) = peer.session.unacknowledged();
                let messages = messages + self.subscriptions.retained(peer.key);
                if messages > 0 && ending == SessionEnd::Expired {
                    let name = &peer.name;
                    if self.subscriptions.is_retained(peer.key) {
                        tracing::warn!(peer = %name, messages, "dropping the backlog of a lost subscriber");
                    } else {
                        // Usually its process has ended.
                        tracing::info!(peer = %name, messages, "dropping the answers of a lost client");
                    }
                    let mut items = peer.session.take_unacknowledged();
                    items.extend(self.subscriptions.take_retained(peer.key));
                    self.subscriptions.return_backlog(peer.key, items);
                }
                self.subscriptions.remove(peer.key);
                let is_last = makes_calls && self.forget_caller(&peer.name);
                (is_last && ending == SessionEnd::Expired).then_some(peer.name)
            }
        }
    }

    /// Returns whether it was the client's last session in which calls are made.
    fn forget_caller(&mut self, name: &Arc<str>) -> bool {
        let Some(sessions) = self.callers.get_mut(name) else {
            return false;
        };
        *sessions -= 1;
        let is_last = *sessions == 0;
        if is_last {
            self.callers.remove(name);
        }
        is_last
    }

    /// A peer drains: it accepts only what it has given credit for.
    fn peer_is_draining(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            let unsent = match peer.role {
                PeerRole::Worker { .. } => VecDeque::new(),
                PeerRole::Consumer { .. } => peer.session.take_unsent(),
            };
            match peer.role {
                PeerRole::Worker { .. } => tracing::info!(worker = %peer.name, "worker draining"),
                PeerRole::Consumer { .. } if self.subscriptions.is_retained(peer.key) => {
                    tracing::info!(subscriber = %peer.name, "subscriber draining");
                }
                PeerRole::Consumer { .. } => tracing::debug!(peer = %peer.name, "peer draining"),
            }
            if self.subscriptions.is_retained(peer.key) {
                self.subscriptions.retain(peer.key, unsent);
            } else {
                self.subscriptions.remove(peer.key);
            }
            peer.session.finish();
        }
    }

    /// Keeps the pending publications of a subscriber that has left, until its session expires. Returns whether
    /// the peer may have any.
    fn retain(&mut self, key: PeerKey, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let may_return = matches!(peer.role, PeerRole::Consumer { .. })
            && self.subscriptions.is_retained(peer.key);
        if may_return && !self.is_draining {
            let unacknowledged = peer.session.take_unacknowledged();
            self.subscriptions.retain(peer.key, unacknowledged);
            peer.lost_at = Some(now);
            return true;
        }
        false
    }

    /// Removes the lost subscriber of this name that follows the same topics, and returns what it has not
    /// acknowledged and its pending publications.
    fn take_retained_of(&mut self, name: &str, following: &Following) -> VecDeque<TaggedBatch> {
        if name.is_empty() || !following.is_retained() {
            return VecDeque::new();
        }
        let subscriptions = &self.subscriptions;
        let heir = |peer: &&LinkPeer| {
            &*peer.name == name
                && (!peer.is_alive() || peer.disconnected_at.is_some())
                && subscriptions.follows(peer.key, following)
        };
        let Some(key) = self.peers.values().find(heir).map(|peer| peer.key) else {
            return VecDeque::new();
        };
        let peer = self.peers.get_mut(&key).expect("it was just there");
        let mut items = peer.session.take_unacknowledged();
        items.extend(self.subscriptions.take_retained(peer.key));
        self.remove(key, SessionEnd::Replaced);
        items
    }

    /// A stream's peer may have acknowledged something. Tells whether somebody may have waited for that.
    fn handle_acknowledgement(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.return_credit(&self.subscriptions, &self.inputs);
        let session = &peer.session;
        self.subscriptions.has_drained(peer.key, session) || session.is_acknowledged()
    }
}

/// Where headers and the messages behind them go.
#[derive(Debug)]
pub(super) enum ServerOutput {
    /// Nowhere: the component does not run yet, or any more.
    None,
    Router(RouterSender),
    #[cfg(test)]
    Recorded(VecDeque<Frames>),
}

impl ServerOutput {
    fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns whether the socket had room.
    fn send(&mut self, route: Bytes, header: &LinkHeader, frames: Vec<Bytes>) -> bool {
        let message = || {
            let head = [route, header::encode(header)];
            head.into_iter().chain(frames).collect()
        };
        match self {
            Self::None => true,
            Self::Router(router) => {
                !matches!(router.try_send(message()), Err(TrySendError::Full(_)))
            }
            #[cfg(test)]
            Self::Recorded(sent) => {
                sent.push_back(message());
                true
            }
        }
    }
}

/// Why a peer of this role is refused.
fn not_served(role: &str) -> String {
    let role = truncate_name(role);
    match role {
        WORKER => "workers connect to a master or hub, and this component is neither: give the `db_address` of one of these".to_owned(),
        CLIENT => "clients call a server or master, and this component is neither: give the `db_address` of one of these".to_owned(),
        _ => format!("this component has no links for the role `{role}`"),
    }
}

/// How many bytes messages keep in memory, about.
fn memory_of(groups: &[Batch]) -> usize {
    let bytes = groups.iter().map(Batch::bytes).sum();
    memory_bytes(groups.iter().map(Batch::len).sum(), bytes)
}

pub(super) fn truncate_name(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}
