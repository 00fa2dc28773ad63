//! The accepting side of links: sessions over the ROUTER at `db_address` with workers, clients and
//! subscribers.
//!
//! One state behind one lock, which is never held across a wait: the service that owns the socket and the
//! parts that send and receive messages call it, and every caller transmits what has become due. Tasks are
//! in [`workers`](super::workers), publications in [`streams`](super::streams).
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

use super::dispatch::{Dispatch, Failed, Loss};
use super::header::{self, is_header};
use super::options::LinkOptions;
use super::reports::{Reports, listed};
use super::session::{Event, Item, LOWEST_VERSION, Session, Window, held_bytes, messages};
use super::streams::{Following, Origin, Streams};
use super::workers::PausedFlows;
use super::{CLIENT, SUBSCRIBER, WORKER};
use crate::budget::Ledger;
use crate::by_number::ByNumber;
use crate::fair_queue::MAX_WEIGHT;
use crate::log_limit::LimitLog;
use crate::message::Group;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{Function, LinkHeader, LinkHello, LinkRefusal};
use crate::socket::{Frames, RouterSender, TrySendError};

#[cfg(test)]
#[path = "accept_test.rs"]
mod tests;

/// How much one peer may send ahead of what the component has taken.
const WINDOW: Window = Window {
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
pub(super) const LONGEST_NAME: usize = 256;

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
        groups: Vec<Group>,
    },
    /// A client does not read its answers, or reads again.
    Paused(PeerKey, bool),
}

/// Messages of one kind that come over links, for the one part that takes them.
#[derive(Debug)]
pub(super) struct Lane {
    sender: mpsc::UnboundedSender<Incoming>,
    taker: Mutex<Option<mpsc::UnboundedReceiver<Incoming>>>,
}

impl Default for Lane {
    fn default() -> Self {
        let (sender, taker) = mpsc::unbounded_channel();
        Self {
            sender,
            taker: Mutex::new(Some(taker)),
        }
    }
}

impl Lane {
    fn take(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        let taker = self.taker.lock();
        taker.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives what came of a peer to the taker; without one the component has stopped.
    fn give(&self, peer: PeerKey, weight: u32, groups: Vec<Group>) {
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
        let taker = self.taker.lock();
        taker.unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The links of a component with those that connect to it.
#[derive(Debug)]
pub(crate) struct Links {
    options: LinkOptions,
    /// Identifies this run of the component in each `welcome`.
    component: u64,
    state: Mutex<State>,
    pub(super) workers: watch::Sender<Workers>,
    /// Tasks that have no answer yet.
    pub(super) outstanding: AtomicUsize,
    /// Results that were dropped since they belong to no task of their worker, and are not counted yet.
    pub(super) strays: AtomicUsize,
    /// Told when there is room for tasks, a worker comes or goes, a task fails, or the last one is done.
    pub(super) changed: Notify,
    /// Told when what is published, or still comes in, may have got less.
    pub(super) flowed: Notify,
    results: Lane,
    pub(super) inputs: Arc<Lane>,
    /// What time it is in a test; `None`: the system's.
    #[cfg(test)]
    time: Mutex<Option<Instant>>,
}

/// How many workers are there, how often that has changed, and when it did last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Workers {
    pub(super) count: usize,
    pub(super) generation: u64,
    pub(super) since: Option<Instant>,
}

impl Workers {
    fn turn(&mut self, count: usize, now: Instant) -> bool {
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
pub(super) struct State {
    pub(super) output: Output,
    /// Whether there is a part that gives tasks.
    pub(super) gives_tasks: bool,
    pub(super) peers: ByNumber<Peer>,
    /// How many workers are not lost.
    pub(super) there: usize,
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
    pub(super) blocked: Option<usize>,
    /// Clients of which enough tasks wait.
    pub(super) paused_flows: PausedFlows,
    /// How many sessions have ended since this was last read.
    ended: usize,
    /// Whether somebody waits until all tasks are done.
    pub(super) tells_of_the_end: bool,
    pub(super) streams: Streams,
    pub(super) inputs: Arc<Lane>,
    /// Whether the component takes no more inputs.
    drains: bool,
    /// Whether all that the component follows itself is in place.
    in_place: bool,
    /// Until when those who were here before a restart have time to come back.
    pub(super) settled_at: Option<Instant>,
    /// Who may have something to be sent.
    pub(super) stirred: Vec<PeerKey>,
    events: Vec<Event>,
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
    hellos: Ledger<PeerKey>,
    /// Clients that have opened a session since this was taken.
    returned: Vec<Arc<str>>,
    reports: Reports,
}

/// Why a session is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
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
enum Fate {
    Stays,
    Lost,
    Expired,
}

#[derive(Debug)]
pub(super) struct Peer {
    key: PeerKey,
    /// The session's.
    id: Bytes,
    /// Whether it may have something to be sent.
    is_stirred: bool,
    pub(super) name: Arc<str>,
    role: Role,
    /// Its part of what clients share.
    weight: u32,
    pub(super) session: Session,
    /// The connection that it uses: the routing id.
    route: Bytes,
    /// When its connection was closed, if it was.
    gone: Option<Instant>,
    /// When it was lost, if it was: see the module's documentation.
    lost: Option<Instant>,
    /// A subscriber that was there, with the same name and topics, when this one came, and the number of the next
    /// message for it then. If that one turns out to have been dead, what it lacks below that number is for this
    /// one, which has received the rest itself.
    predecessor: Option<(PeerKey, u64)>,
}

#[derive(Debug)]
enum Role {
    Worker {
        /// What it can do, until it has joined.
        functions: Vec<Function>,
        /// How many tasks it runs at once; 0: unknown.
        concurrency: u32,
        /// How many results it has sent for tasks that it does not have.
        strays: u64,
    },
    Stream {
        /// What came of it and was taken, while it was not to send more.
        owed: (u64, u64),
        /// Whether its answers are backed up, so that its calls are not begun for now.
        is_paused: bool,
        /// Whether all that it sends has arrived.
        finished: bool,
        /// Whether it makes calls, and does not only receive answers and publications here.
        makes_calls: bool,
    },
}

impl Peer {
    pub(super) fn stir(&mut self, stirred: &mut Vec<PeerKey>) {
        if !std::mem::replace(&mut self.is_stirred, true) {
            stirred.push(self.key);
        }
    }

    /// Returns credit for consumed messages, and begins the calls that have come. Both wait while the client's
    /// own answers are backed up, so that a client that does not read cannot keep calling, or fill queues that
    /// it shares with others.
    pub(super) fn settle(&mut self, streams: &Streams, inputs: &Lane) {
        let Role::Stream {
            owed,
            is_paused,
            makes_calls: true,
            ..
        } = &mut self.role
        else {
            return;
        };
        let is_behind = streams.is_behind(self.key, &self.session);
        if *is_paused != is_behind {
            *is_paused = is_behind;
            inputs.pause(self.key, is_behind);
        }
        if owed.0 > 0 && !is_behind {
            let (messages, bytes) = std::mem::take(owed);
            self.session.consume(messages, bytes);
        }
    }

    /// Of a worker: how many results it has sent for tasks that it does not have.
    pub(super) fn strays(&mut self) -> Option<&mut u64> {
        match &mut self.role {
            Role::Worker { strays, .. } => Some(strays),
            Role::Stream { .. } => None,
        }
    }

    /// Whether it is not lost.
    pub(super) fn is_there(&self) -> bool {
        self.lost.is_none()
    }

    /// Whether it is lost or expired. `is_waited_for`: whether a full backlog of its makes others wait.
    fn fate(&self, options: &LinkOptions, is_waited_for: bool, now: Instant) -> Fate {
        let since = |begin: Instant| now.saturating_duration_since(begin);
        let is_silent = since(self.session.heard()) > options.idle_timeout;
        let is_gone_for = |limit: Duration| self.gone.is_some_and(|gone| since(gone) > limit);
        let makes_calls = matches!(
            self.role,
            Role::Stream {
                makes_calls: true,
                ..
            }
        );
        match self.lost {
            // Its answers have no receiver any more.
            _ if makes_calls && is_gone_for(CLIENT_RECONNECT_GRACE) => Fate::Expired,
            Some(lost) if since(lost) > options.session_expiry => Fate::Expired,
            Some(_) if is_silent && is_waited_for => Fate::Expired,
            None if is_silent || is_gone_for(options.reconnect_grace) => Fate::Lost,
            _ => Fate::Stays,
        }
    }
}

impl Links {
    pub(crate) fn new(options: LinkOptions) -> Self {
        let dispatch = Dispatch::new(options.max_deliver);
        let unread = options.max_unread_bytes;
        let backlog = options.max_backlog_bytes;
        let max_task_bytes = options.max_task_bytes;
        let inputs = Arc::<Lane>::default();
        Self {
            options,
            component: uuid::Uuid::new_v4().as_u64_pair().0,
            state: Mutex::new(State {
                output: Output::None,
                gives_tasks: false,
                peers: ByNumber::default(),
                there: 0,
                sessions: HashMap::new(),
                routes: HashMap::new(),
                callers: HashMap::new(),
                last_key: 0,
                dispatch,
                failed: Vec::new(),
                blocked: None,
                paused_flows: PausedFlows::default(),
                ended: 0,
                tells_of_the_end: false,
                streams: Streams::new(backlog),
                inputs: inputs.clone(),
                drains: false,
                in_place: false,
                settled_at: None,
                stirred: Vec::new(),
                events: Vec::new(),
                unread_calls: Ledger::new(unread),
                unread_results: Ledger::new(unread),
                unread_log: LimitLog::default(),
                max_task_bytes,
                tasks_held: 0,
                may_recount_tasks: true,
                hellos: Ledger::new(MAX_HELLOS_BYTES),
                returned: Vec::new(),
                reports: Reports::default(),
            }),
            workers: watch::Sender::default(),
            outstanding: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            changed: Notify::new(),
            flowed: Notify::new(),
            results: Lane::default(),
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
        self.state().reports.wait(cause, now);
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
        std::mem::take(&mut self.state().ended)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the part that takes results takes them from; the first one, where there are several.
    pub(crate) fn take_results(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        self.results.take()
    }

    /// What the part that takes calls of clients takes them from; the first one, where there are several.
    pub(crate) fn take_inputs(&self) -> Option<mpsc::UnboundedReceiver<Incoming>> {
        self.inputs.take()
    }

    /// Sends over `router` from now on.
    pub(crate) fn serve_on(&self, router: RouterSender) {
        self.state().output = Output::Router(router);
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
            self.receive_one(&mut state, frames, now);
        }
        state.assign(now);
        self.flush(&mut state, now);
        std::mem::take(&mut state.returned)
    }

    fn receive_one(&self, state: &mut State, mut frames: Frames, now: Instant) {
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
            state.hear(&id, now);
            return;
        }
        if let Some(hello) = &header.hello
            && let Err(refusal) = self.welcome(state, &id, &route, hello, now)
        {
            let reason = &refusal.reason;
            tracing::warn!(
                role = short(&hello.role),
                peer = short(&hello.name),
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
        let is_worker = matches!(peer.role, Role::Worker { .. });
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
        if header.hello.is_none() && !peer.is_there() && !peer.session.is_over() {
            // The peer was silent, and has kept its session.
            state.rejoin(key, now);
        }
        let mut groups = Vec::new();
        let mut finished = 0;
        for event in events.drain(..) {
            match event {
                Event::Open => state.rejoin(key, now),
                Event::Messages(item) if is_worker => {
                    let worked = state.results(key, item, &mut groups);
                    finished += worked.finished;
                    self.strays.fetch_add(worked.strays, Ordering::Relaxed);
                    state.unread_results.add(NO_PEER, held(&worked.made));
                    self.results.give(NO_PEER, 1, worked.made);
                }
                Event::Messages(Item { group, .. }) => groups.push(group),
                Event::Draining => state.drained(key),
                Event::Finished => {
                    if let Some(Role::Stream { finished, .. }) = state.role(key) {
                        *finished = true;
                        self.flowed.notify_waiters();
                    }
                }
                Event::Forgotten | Event::InPlace => {}
                Event::Closed { .. } => {
                    state.report_end(key, "left", now);
                    if !state.park(key, now) {
                        state.remove(key, Ending::Closed);
                    }
                    self.flowed.notify_waiters();
                }
                Event::Refused(refusal) => {
                    let reason = refusal.reason;
                    let name = state.peers.get(&key).map(|peer| peer.name.clone());
                    let name = name.unwrap_or_default();
                    tracing::warn!(peer = %name, "link ended: {reason}");
                    state.stir(key);
                    self.flush(state, now);
                    state.remove(key, Ending::Closed);
                    self.flowed.notify_waiters();
                }
            }
        }
        state.events = events;
        let (lane, unread) = if is_worker {
            (&self.results, &mut state.unread_results)
        } else {
            (&*self.inputs, &mut state.unread_calls)
        };
        unread.add(key, held(&groups));
        lane.give(key, weight, groups);
        if is_worker {
            state.dispatch.unload(key, finished, now);
            if let Some(peer) = state.peers.get(&key)
                && peer.is_there()
            {
                let (room, lent) = (peer.session.room(), peer.session.peer_lent());
                state.dispatch.set_lent(key, lent);
                state.dispatch.set_room(key, room);
            }
        } else if state.acknowledged(key) {
            self.flowed.notify_waiters();
        }
        state.stir(key);
    }

    /// Finds the session of a peer that introduces itself, or opens one. Opens none if the peer means a session
    /// of an earlier run.
    fn welcome(
        &self,
        state: &mut State,
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
        if hello.version < LOWEST_VERSION {
            let reason = format!("version {LOWEST_VERSION} of the link is the lowest one");
            return refuse(Kind::Version, reason);
        }
        if let Some(&key) = state.sessions.get(id) {
            state.connect(key, route, now);
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
        state.vacate(route, now);
        let name: Arc<str> = short(&hello.name).into();
        if state.peers.len() >= self.options.max_sessions && !state.evict() {
            return refuse(Kind::Crowded, "there are too many links".to_owned());
        }
        state.last_key += 1;
        let key = state.last_key;
        let kept = hello_bytes + SESSION_OVERHEAD + hello.functions.len() * FUNCTION_OVERHEAD;
        if !state.hellos.capacity(&key).admits(kept) || !state.streams.admits_news(&following) {
            let reason = "the links here keep too many functions and topics".to_owned();
            return refuse(Kind::Crowded, reason);
        }
        state.hellos.add(key, kept);
        // Pending publications of a lost subscriber are for the next one of its name.
        let inherited = state.inherit(&name, &following);
        let predecessor = state.predecessor(&name, &following);
        // A slice would keep the whole frame, which may be large.
        let id = Bytes::copy_from_slice(id);
        let role = if hello.role == WORKER {
            Role::Worker {
                functions: hello.functions.clone(),
                concurrency: hello.concurrency,
                strays: 0,
            }
        } else {
            Role::Stream {
                owed: (0, 0),
                is_paused: false,
                finished: hello.role == SUBSCRIBER,
                makes_calls: hello.role == CLIENT,
            }
        };
        if hello.role == CLIENT {
            *state.callers.entry(name.clone()).or_default() += 1;
            state.returned.push(name.clone());
        }
        let window = match hello.role == SUBSCRIBER {
            false => WINDOW,
            true => Window {
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
            if state.in_place {
                session.set_in_place();
            }
            if state.drains {
                session.drain();
            }
            for item in inherited {
                session.submit(item, now);
            }
            state.streams.add(key, following);
            state.streams.set_origin(key, Origin::of(hello));
            match state.streams.has_a_place(key) {
                _ if hello.role == CLIENT => state.reports.client_connected(&name, now),
                true => tracing::info!(subscriber = %name, "subscriber connected"),
                // It receives answers, or news of cancelled calls, as workers and clients do besides.
                false => tracing::debug!(peer = %name, "subscriber connected"),
            }
        }
        let peer = Peer {
            key,
            id: id.clone(),
            is_stirred: false,
            name,
            role,
            weight: hello.weight.clamp(1, MAX_WEIGHT),
            session,
            route: route.clone(),
            gone: None,
            // Until it has joined.
            lost: Some(now),
            predecessor,
        };
        state.sessions.insert(id, key);
        state.routes.insert(route.clone(), key);
        state.peers.insert(key, peer);
        Ok(())
    }

    /// Whether there are parts for a role.
    fn serves(&self, state: &State, role: &str) -> bool {
        match role {
            WORKER => state.gives_tasks && self.results.is_taken(),
            CLIENT => state.streams.publishes && self.inputs.is_taken(),
            SUBSCRIBER => state.streams.publishes,
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
            peer.gone.get_or_insert(now);
        }
    }

    /// Returns credit for messages that were passed on.
    pub(crate) fn passed_on(&self, messages: impl Iterator<Item = (PeerKey, u64, u64)>) {
        let now = self.now();
        let mut state = self.state();
        let State {
            peers,
            stirred,
            streams,
            unread_calls,
            unread_results,
            ..
        } = &mut *state;
        for (key, messages, bytes) in messages {
            let held = held_bytes(messages as usize, bytes as usize);
            // They count also after their session has ended.
            if !unread_calls.release(&key, held) {
                unread_results.release(&key, held);
            }
            if let Some(peer) = peers.get_mut(&key) {
                match &mut peer.role {
                    Role::Worker { .. } => peer.session.consume(messages, bytes),
                    Role::Stream { owed, .. } => {
                        owed.0 += messages;
                        owed.1 += bytes;
                        peer.settle(streams, &self.inputs);
                    }
                }
                peer.stir(stirred);
            }
        }
        self.flush(&mut state, now);
    }

    /// Takes no more calls of clients than what they have sent by now.
    pub(crate) fn drain_inputs(&self) {
        let now = self.now();
        let mut state = self.state();
        state.drains = true;
        let State { peers, stirred, .. } = &mut *state;
        for peer in peers.values_mut() {
            if let Role::Stream { .. } = peer.role {
                peer.session.drain();
                peer.stir(stirred);
            }
        }
        self.flush(&mut state, now);
    }

    /// Waits until all that clients have sent is here, once they were told to stop. Cancel safe.
    pub(crate) async fn inputs_drained(&self) {
        self.until(|state| {
            state.peers.values().all(|peer| match peer.role {
                Role::Worker { .. } => true,
                // One whose connection is gone has a moment to come back.
                Role::Stream { finished, .. } => {
                    finished || !peer.is_there() || peer.session.is_over()
                }
            })
        })
        .await;
    }

    /// Waits until those that are connected have all that was published for them. Cancel safe.
    pub(crate) async fn delivered(&self) {
        self.until(|state| {
            state.peers.values().all(|peer| match peer.role {
                Role::Worker { .. } => true,
                Role::Stream { .. } => peer.session.is_acknowledged() || !peer.is_there(),
            })
        })
        .await;
    }

    /// All that the component follows itself is in place.
    pub(crate) fn set_in_place(&self) {
        let now = self.now();
        let mut state = self.state();
        state.in_place = true;
        let State { peers, stirred, .. } = &mut *state;
        for peer in peers.values_mut() {
            peer.session.set_in_place();
            peer.stir(stirred);
        }
        self.flush(&mut state, now);
    }

    /// Waits until something is so, looking whenever messages have flowed. Cancel safe.
    pub(super) async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let mut flowed = std::pin::pin!(self.flowed.notified());
            flowed.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            flowed.await;
        }
    }

    /// Finds peers that are lost, expired or too slow; to be called every [`TICK`]. Returns the ids of clients
    /// that have vanished, whose calls are to be cancelled.
    pub(crate) fn tick(&self) -> Vec<Arc<str>> {
        let now = self.now();
        let mut state = self.state();
        let (mut lost, mut expired) = (Vec::new(), Vec::new());
        let State {
            peers,
            stirred,
            streams,
            unread_calls,
            unread_results,
            ..
        } = &mut *state;
        streams.recount(|key| peers.get(&key).map(|peer| &peer.session));
        for (&key, peer) in peers {
            if peer.session.is_held_back() {
                let unread = match peer.role {
                    Role::Worker { .. } => &*unread_results,
                    Role::Stream { .. } => &*unread_calls,
                };
                if peer.session.set_capacity(unread.capacity(&key), now) {
                    peer.stir(stirred);
                }
            }
            let is_waited_for = streams.full_since(key).is_some();
            match peer.fate(&self.options, is_waited_for, now) {
                Fate::Stays => {}
                Fate::Lost => lost.push(key),
                Fate::Expired => expired.push(key),
            }
            if streams.is_too_slow(key, &peer.session, self.options.slow_consumer_timeout, now) {
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
                peer.stir(stirred);
                expired.push(key);
            }
            if peer.gone.is_none() && peer.session.due().is_some_and(|due| due <= now) {
                peer.stir(stirred);
            }
        }
        if !lost.is_empty() {
            // A stop does not wait for them.
            self.flowed.notify_waiters();
        }
        for key in lost {
            state.lose(key, now);
        }
        // Refusals are sent before their sessions are forgotten.
        self.flush(&mut state, now);
        let mut vanished = Vec::new();
        for key in expired {
            vanished.extend(state.remove(key, Ending::Expired));
            self.flowed.notify_waiters();
        }
        let State {
            dispatch, failed, ..
        } = &mut *state;
        dispatch.expire(now, failed);
        state.reports.tick(now);
        state.may_recount_tasks = true;
        shrink(&mut state.peers);
        shrink(&mut state.sessions);
        shrink(&mut state.routes);
        shrink(&mut state.callers);
        state.streams.shrink();
        state.assign(now);
        self.flush(&mut state, now);
        vanished
    }

    /// This side was held up and has not read its socket: the silence of its peers is its own.
    pub(crate) fn was_held(&self) {
        let now = self.now();
        for peer in self.state().peers.values_mut() {
            peer.session.hear(now);
        }
    }

    /// Closes all sessions. `is_complete`: whether all that the component has acknowledged was dealt with.
    /// Clients that are not told so send again what has no answer yet.
    pub(crate) fn close(&self, is_complete: bool) {
        let mut state = self.state();
        let is_complete = is_complete && state.has_nothing_left();
        let drains = state.drains;
        let State { peers, output, .. } = &mut *state;
        for peer in peers.values_mut() {
            let mut header = peer.session.close();
            // What it sent after it was told to finish was not accepted.
            let is_finished = match peer.role {
                Role::Worker { .. } => true,
                Role::Stream {
                    finished,
                    makes_calls,
                    ..
                } => finished || !makes_calls || !drains,
            };
            header.finished &= is_complete && is_finished;
            output.send(peer.route.clone(), &header, Vec::new());
        }
        peers.clear();
        state.hellos.clear();
        state.there = 0;
        state.output = Output::None;
    }

    /// Transmits what is due, and wakes those who wait for what has changed.
    pub(super) fn flush(&self, state: &mut State, now: Instant) {
        let State {
            peers,
            output,
            stirred,
            ..
        } = state;
        for key in stirred.drain(..) {
            let Some(peer) = peers.get_mut(&key) else {
                continue;
            };
            peer.is_stirred = false;
            while let Some(transmission) = peer.session.transmit(now) {
                let route = peer.route.clone();
                let header = &transmission.header;
                if !output.send(route, header, transmission.frames) {
                    // The socket's queue is full: again at the next tick, or when the peer is heard of.
                    peer.session.unsent(transmission.header.first);
                    break;
                }
            }
        }
        let there = state.there;
        let outstanding = state.dispatch.outstanding();
        let changed = self
            .workers
            .send_if_modified(|workers| workers.turn(there, now));
        let before = self.outstanding.swap(outstanding, Ordering::AcqRel);
        let is_done = state.tells_of_the_end && outstanding == 0 && before > 0;
        let has_failed = !state.failed.is_empty();
        let dispatch = &state.dispatch;
        let accepts = |ahead: usize| dispatch.accepts(ahead.div_ceil(2));
        let has_room = state.blocked.is_some_and(accepts);
        if has_room {
            state.blocked = None;
        }
        let has_room = state.paused_flows.resume(&state.dispatch) || has_room;
        if changed || is_done || has_failed || has_room {
            self.changed.notify_one();
        }
    }
}

impl State {
    /// A peer may have something to be sent.
    pub(super) fn stir(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.stir(&mut self.stirred);
        }
    }

    fn role(&mut self, key: PeerKey) -> Option<&mut Role> {
        self.peers.get_mut(&key).map(|peer| &mut peer.role)
    }

    fn rejoin(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.lost.take().is_none() {
                return;
            }
            if let Role::Worker {
                functions,
                concurrency,
                ..
            } = &mut peer.role
            {
                self.there += 1;
                let functions = std::mem::take(functions);
                let (key, name) = (peer.key, &peer.name);
                if self.dispatch.knows(key) {
                    tracing::info!(worker = %name, "worker connected again");
                } else {
                    let functions = listed(functions.iter());
                    tracing::info!(worker = %name, functions, "worker connected");
                }
                self.dispatch.join(key, name, &functions, *concurrency, now);
            }
        }
    }

    fn lose(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.lost = Some(now);
            if let Role::Worker { .. } = peer.role {
                let loss = match peer.gone {
                    Some(_) => Loss::Disconnected,
                    None => {
                        let silent = now.saturating_duration_since(peer.session.heard());
                        Loss::Silent(Duration::from_secs(silent.as_secs()))
                    }
                };
                tracing::warn!(worker = %peer.name, "worker lost ({loss}), redelivering its tasks");
                self.there -= 1;
                self.dispatch.lose(peer.key, loss, &mut self.failed);
            } else {
                self.report_end(key, "lost", now);
            }
        }
        self.hand_over(key, now);
    }

    /// Logs that a peer has left or is lost.
    fn report_end(&mut self, key: PeerKey, how: &str, now: Instant) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let name = &peer.name;
        match peer.role {
            Role::Worker { .. } => tracing::info!(worker = %name, "worker {how}"),
            Role::Stream {
                makes_calls: true, ..
            } => self.reports.client_ended(name, how, now),
            Role::Stream { .. } if self.streams.has_a_place(key) => {
                tracing::info!(subscriber = %name, "subscriber {how}");
            }
            Role::Stream { .. } => tracing::debug!(peer = %name, "peer {how}"),
        }
    }

    /// Gives the messages that a lost subscriber lacks to its successor, if there is one: a subscriber that was
    /// restarted before the death of its first process was known.
    fn hand_over(&mut self, key: PeerKey, now: Instant) {
        let successor = self.peers.values().find_map(|peer| match peer.predecessor {
            Some((predecessor, number)) if predecessor == key => Some((peer.key, number)),
            _ => None,
        });
        let Some((successor, number)) = successor else {
            return;
        };
        let lost = self.peers.get_mut(&key);
        let Some(lost) = lost.filter(|lost| lost.session.lacks_below(number)) else {
            return;
        };
        let items = lost.session.take_unacknowledged_below(number);
        self.remove(key, Ending::Replaced);
        if let Some(peer) = self.peers.get_mut(&successor) {
            tracing::info!(peer = %peer.name, messages = messages(&items), "redelivering to a restarted subscriber");
            peer.predecessor = None;
            items
                .into_iter()
                .for_each(|item| peer.session.submit(item, now));
            peer.stir(&mut self.stirred);
        }
    }

    /// The last subscriber of this name that follows the same topics, and the number of its next message.
    fn predecessor(&self, name: &str, following: &Following) -> Option<(PeerKey, u64)> {
        if name.is_empty() || !following.has_a_place() {
            return None;
        }
        let same = self.peers.values().filter(|peer| {
            &*peer.name == name && peer.is_there() && self.streams.follows(peer.key, following)
        });
        let last = same.max_by_key(|peer| peer.key)?;
        Some((last.key, last.session.end()))
    }

    /// Whether no task is without an answer, and nothing is pending for a follower.
    fn has_nothing_left(&self) -> bool {
        let has_pending = |peer: &Peer| {
            self.streams.has_a_place(peer.key)
                && (!peer.session.is_acknowledged() || self.streams.parked(peer.key) > 0)
        };
        self.dispatch.outstanding() == 0 && !self.peers.values().any(has_pending)
    }

    /// Notes that the process of a session's peer lives.
    fn hear(&mut self, id: &Bytes, now: Instant) {
        let key = self.sessions.get(id).copied();
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.session.hear(now);
        }
    }

    /// A session goes on over this connection.
    fn connect(&mut self, key: PeerKey, route: &Bytes, now: Instant) {
        if self.routes.get(route) != Some(&key) {
            self.vacate(route, now);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.route != *route {
                self.routes.remove(&peer.route);
                peer.route = route.clone();
            }
            peer.gone = None;
            self.routes.insert(route.clone(), key);
        }
    }

    /// Ends the session that a connection carries: its peer uses the connection for another one. A subscriber's
    /// pending publications stay, since it is about to introduce itself again.
    fn vacate(&mut self, route: &Bytes, now: Instant) {
        let Some(&key) = self.routes.get(route) else {
            return;
        };
        let name = self.peers.get(&key).map(|peer| peer.name.clone());
        tracing::debug!(peer = %name.unwrap_or_default(), "session replaced by another one");
        if !self.park(key, now) {
            self.remove(key, Ending::Replaced);
        }
        self.routes.remove(route);
    }

    /// Ends the session of the peer that was lost first, so that there is room for another. Returns whether
    /// there was one.
    fn evict(&mut self) -> bool {
        let lost = self.peers.values().filter(|peer| !peer.is_there());
        let first = lost.min_by_key(|peer| peer.lost).map(|peer| peer.key);
        first.map(|key| self.remove(key, Ending::Expired)).is_some()
    }

    /// Forgets a peer. Returns the id of a client that has vanished: one that has not closed its session, and
    /// has no other one.
    fn remove(&mut self, key: PeerKey, ending: Ending) -> Option<Arc<str>> {
        let mut peer = self.peers.remove(&key)?;
        self.ended += 1;
        self.hellos.release_all(&key);
        if self.routes.get(&peer.route) == Some(&key) {
            self.routes.remove(&peer.route);
        }
        self.sessions.remove(&peer.id);
        match peer.role {
            Role::Worker { .. } => {
                self.there -= usize::from(peer.is_there());
                self.dispatch.forget(peer.key, &mut self.failed);
                None
            }
            Role::Stream {
                makes_calls,
                is_paused,
                ..
            } => {
                if is_paused {
                    self.inputs.pause(peer.key, false);
                }
                let (messages, _) = peer.session.unacknowledged();
                let messages = messages + self.streams.parked(peer.key);
                if messages > 0 && ending == Ending::Expired {
                    let name = &peer.name;
                    if self.streams.has_a_place(peer.key) {
                        tracing::warn!(peer = %name, messages, "dropping the backlog of a lost subscriber");
                    } else {
                        // Usually its process has ended.
                        tracing::info!(peer = %name, messages, "dropping the answers of a lost client");
                    }
                    let mut items = peer.session.take_unacknowledged();
                    items.extend(self.streams.take_parked(peer.key));
                    self.streams.return_backlog(peer.key, items);
                }
                self.streams.remove(peer.key);
                let is_last = makes_calls && self.forget_caller(&peer.name);
                (is_last && ending == Ending::Expired).then_some(peer.name)
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
    fn drained(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            let unsent = match peer.role {
                Role::Worker { .. } => VecDeque::new(),
                Role::Stream { .. } => peer.session.take_unsent(),
            };
            match peer.role {
                Role::Worker { .. } => tracing::info!(worker = %peer.name, "worker draining"),
                Role::Stream { .. } if self.streams.has_a_place(peer.key) => {
                    tracing::info!(subscriber = %peer.name, "subscriber draining");
                }
                Role::Stream { .. } => tracing::debug!(peer = %peer.name, "peer draining"),
            }
            if self.streams.has_a_place(peer.key) {
                self.streams.park(peer.key, unsent);
            } else {
                self.streams.remove(peer.key);
            }
            peer.session.finish();
        }
    }

    /// Keeps the pending publications of a subscriber that has left, until its session expires. Returns whether
    /// the peer may have any.
    fn park(&mut self, key: PeerKey, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let may_return =
            matches!(peer.role, Role::Stream { .. }) && self.streams.has_a_place(peer.key);
        if may_return && !self.drains {
            let unacknowledged = peer.session.take_unacknowledged();
            self.streams.park(peer.key, unacknowledged);
            peer.lost = Some(now);
            return true;
        }
        false
    }

    /// Removes the lost subscriber of this name that follows the same topics, and returns what it has not
    /// acknowledged and its pending publications.
    fn inherit(&mut self, name: &str, following: &Following) -> VecDeque<Item> {
        if name.is_empty() || !following.has_a_place() {
            return VecDeque::new();
        }
        let streams = &self.streams;
        let heir = |peer: &&Peer| {
            &*peer.name == name
                && (!peer.is_there() || peer.gone.is_some())
                && streams.follows(peer.key, following)
        };
        let Some(key) = self.peers.values().find(heir).map(|peer| peer.key) else {
            return VecDeque::new();
        };
        let peer = self.peers.get_mut(&key).expect("it was just there");
        let mut items = peer.session.take_unacknowledged();
        items.extend(self.streams.take_parked(peer.key));
        self.remove(key, Ending::Replaced);
        items
    }

    /// A stream's peer may have acknowledged something. Tells whether somebody may have waited for that.
    fn acknowledged(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.settle(&self.streams, &self.inputs);
        let session = &peer.session;
        self.streams.drained(peer.key, session) || session.is_acknowledged()
    }
}

/// Where headers and the messages behind them go.
#[derive(Debug)]
pub(super) enum Output {
    /// Nowhere: the component does not run yet, or any more.
    None,
    Router(RouterSender),
    #[cfg(test)]
    Recorded(VecDeque<Frames>),
}

impl Output {
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
    let role = short(role);
    match role {
        WORKER => "workers connect to a master or hub, and this component is neither: give the `db_address` of one of these".to_owned(),
        CLIENT => "clients call a server or master, and this component is neither: give the `db_address` of one of these".to_owned(),
        _ => format!("this component has no links for the role `{role}`"),
    }
}

/// How many bytes messages keep in memory, about.
fn held(groups: &[Group]) -> usize {
    let bytes = groups.iter().map(Group::bytes).sum();
    held_bytes(groups.iter().map(Group::len).sum(), bytes)
}

pub(super) fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}
