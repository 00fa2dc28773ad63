//! The side of links that is connected to: sessions over the ROUTER at `db_address`, with workers,
//! clients and subscribers.
//!
//! One state behind one lock, which is held for no wait: the service that owns the socket and the parts
//! that give and take messages call it, and whoever does sends what there is to be sent. What workers are
//! given is in [`workers`](super::workers), what is published in [`streams`](super::streams).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::dispatch::{Dispatch, Failed};
use super::header::{self, is_header};
use super::options::LinkOptions;
use super::session::{Event, Item, LOWEST_VERSION, Session, Window};
use super::streams::{Following, Streams};
use super::{CLIENT, SUBSCRIBER, WORKER};
use crate::by_number::ByNumber;
use crate::cancel::CANCEL_TOPIC;
use crate::message::Group;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal};
use crate::socket::{Frames, RouterSender, TrySendError};

/// How much one peer may send ahead of what the component has taken.
const WINDOW: Window = Window {
    messages: 4096,
    bytes: 8 * 1024 * 1024,
};

/// Longest name that is kept, in bytes, and most functions.
pub(super) const LONGEST_NAME: usize = 256;
const MOST_FUNCTIONS: usize = 10_000;

/// How often to look whether somebody has been silent for too long.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long, after a restart, those who were here before have time to come back, until what several of them
/// follow is published again: twice the longest pause between two attempts to connect.
const SETTLING: Duration = Duration::from_secs(2);

/// A session with a peer.
pub(crate) type PeerKey = u64;

/// Messages that came over a link together, and whom their places are to be given back to.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: PeerKey,
    pub(crate) groups: Vec<Group>,
}

/// Messages of one kind that come over links, for the one part that takes them.
#[derive(Debug)]
struct Lane {
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
    fn give(&self, peer: PeerKey, groups: Vec<Group>) {
        if !groups.is_empty() {
            let _ = self.sender.send(Incoming { peer, groups });
        }
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
    /// Told when there is room for tasks, a worker comes or goes, a task fails, or the last one is done.
    pub(super) changed: Notify,
    /// Told when what is published, or still comes in, may have got less.
    pub(super) flowed: Notify,
    results: Lane,
    inputs: Lane,
}

/// How many workers are there, and how often that has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Workers {
    pub(super) count: usize,
    pub(super) generation: u64,
}

impl Workers {
    fn turn(&mut self, count: usize) -> bool {
        let is_new = self.count != count;
        self.count = count;
        self.generation += u64::from(is_new);
        is_new
    }
}

#[derive(Debug)]
pub(super) struct State {
    router: Option<RouterSender>,
    /// Whether there is a part that gives tasks.
    pub(super) gives_tasks: bool,
    pub(super) peers: ByNumber<Peer>,
    /// How many workers are not lost.
    pub(super) there: usize,
    /// By the session's id.
    sessions: HashMap<Bytes, PeerKey>,
    /// By where it is to be found.
    routes: HashMap<Bytes, PeerKey>,
    last_key: PeerKey,
    pub(super) dispatch: Dispatch,
    pub(super) failed: Vec<Failed>,
    /// Whether there are further tasks, for whom there was no room beyond so many that wait.
    pub(super) blocked: Option<usize>,
    /// Whether somebody waits until all tasks are done.
    pub(super) tells_of_the_end: bool,
    pub(super) streams: Streams,
    /// Whether the component takes no more inputs.
    drains: bool,
    /// Whether all that the component follows itself is in place.
    in_place: bool,
    /// Until when those who were here before a restart have time to come back.
    pub(super) settled_at: Option<Instant>,
    /// Who may have something to be sent.
    pub(super) stirred: Vec<PeerKey>,
    events: Vec<Event>,
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
    pub(super) session: Session,
    route: Bytes,
    /// Since when its connection is gone.
    gone: Option<Instant>,
    /// Since when it is not heard of any more.
    lost: Option<Instant>,
}

#[derive(Debug)]
enum Role {
    Worker {
        at_most_once: HashSet<String>,
    },
    Stream {
        /// What came of it and was taken, while it was not to send more.
        owed: (u64, u64),
        /// Whether all that it sends has arrived.
        finished: bool,
        /// Whether nobody waits for it for long, as for a client.
        is_client: bool,
        /// Whether it makes calls, and is not only answered here.
        makes_calls: bool,
    },
}

impl Peer {
    pub(super) fn stir(&mut self, stirred: &mut Vec<PeerKey>) {
        if !std::mem::replace(&mut self.is_stirred, true) {
            stirred.push(self.key);
        }
    }

    /// Gives the places back of what was taken of it, unless it is to send no more for now: who takes no
    /// answers makes no further calls.
    fn settle(&mut self, streams: &Streams) {
        if let Role::Stream { owed, .. } = &mut self.role
            && owed.0 > 0
            && !streams.is_behind(self.key, &self.session)
        {
            let (messages, bytes) = std::mem::take(owed);
            self.session.consume(messages, bytes);
        }
    }

    /// Whether its tasks are not others'.
    pub(super) fn is_there(&self) -> bool {
        self.lost.is_none()
    }
}

impl Links {
    pub(crate) fn new(options: LinkOptions) -> Self {
        let dispatch = Dispatch::new(options.max_attempts);
        Self {
            options,
            component: uuid::Uuid::new_v4().as_u64_pair().0,
            state: Mutex::new(State {
                router: None,
                gives_tasks: false,
                peers: ByNumber::default(),
                there: 0,
                sessions: HashMap::new(),
                routes: HashMap::new(),
                last_key: 0,
                dispatch,
                failed: Vec::new(),
                blocked: None,
                tells_of_the_end: false,
                streams: Streams::default(),
                drains: false,
                in_place: false,
                settled_at: None,
                stirred: Vec::new(),
                events: Vec::new(),
            }),
            workers: watch::Sender::default(),
            outstanding: AtomicUsize::new(0),
            changed: Notify::new(),
            flowed: Notify::new(),
            results: Lane::default(),
            inputs: Lane::default(),
        }
    }

    /// How links are to behave.
    pub(crate) fn options(&self) -> &LinkOptions {
        &self.options
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
        self.state().router = Some(router);
    }

    /// To which roles links are offered: those for which there are parts.
    pub(crate) fn offered(&self) -> Vec<&'static str> {
        let state = self.state();
        let mut roles = vec![WORKER, CLIENT, SUBSCRIBER];
        roles.retain(|role| {
            self.options.enabled && state.router.is_some() && self.serves(&state, role)
        });
        roles
    }

    /// Takes what came over the link, each with the route in front.
    pub(crate) fn receive(&self, messages: impl Iterator<Item = Frames>) {
        let now = Instant::now();
        let mut state = self.state();
        for frames in messages {
            self.receive_one(&mut state, frames, now);
        }
        state.assign(now);
        self.flush(&mut state, now);
    }

    fn receive_one(&self, state: &mut State, mut frames: Frames, now: Instant) {
        debug_assert!(frames.len() >= 2 && is_header(&frames[1]));
        let mut frames = frames.drain(..);
        let (Some(route), Some(first)) = (frames.next(), frames.next()) else {
            return;
        };
        let Some(header) = header::decode(first) else {
            tracing::warn!("a peer sent what is no header of a link");
            return;
        };
        let id = header.session.clone();
        if let Some(hello) = &header.hello
            && let Err(refusal) = self.welcome(state, &id, &route, hello, now)
        {
            let reason = &refusal.reason;
            tracing::warn!("a link is refused: {reason}");
            let header = LinkHeader {
                refusal: Some(refusal),
                ..header::of(id)
            };
            state.send(route, &header, Vec::new());
            return;
        }
        let key = state.sessions.get(&id).copied().unwrap_or_default();
        let Some(peer) = state.peers.get_mut(&key) else {
            // It is one from before a restart, or was given up: it begins anew.
            if !header.closed && header.refusal.is_none() {
                let header = LinkHeader {
                    closed: true,
                    ..header::of(id)
                };
                state.send(route, &header, Vec::new());
            }
            return;
        };
        let mut events = std::mem::take(&mut state.events);
        peer.session.receive(now, &header, frames, &mut events);
        let is_worker = matches!(peer.role, Role::Worker { .. });
        if header.hello.is_none() && !peer.is_there() && !peer.session.is_over() {
            // It was only silent.
            state.rejoin(key);
        }
        let mut groups = Vec::new();
        let mut finished = 0;
        for event in events.drain(..) {
            match event {
                Event::Open => state.rejoin(key),
                Event::Messages(item) if is_worker => {
                    finished += state.results(key, item, &mut groups);
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
                    if !state.park(key, now) {
                        state.remove(key);
                    }
                    self.flowed.notify_waiters();
                }
                Event::Refused(refusal) => {
                    let reason = refusal.reason;
                    tracing::warn!("a link has ended: {reason}");
                    state.stir(key);
                    self.flush(state, now);
                    state.remove(key);
                    self.flowed.notify_waiters();
                }
            }
        }
        state.events = events;
        let lane = if is_worker {
            &self.results
        } else {
            &self.inputs
        };
        lane.give(key, groups);
        if is_worker {
            state.dispatch.unload(key, finished);
            if let Some(peer) = state.peers.get(&key)
                && peer.is_there()
            {
                let room = peer.session.room();
                state.dispatch.set_room(key, room);
            }
        } else if state.acknowledged(key) {
            self.flowed.notify_waiters();
        }
        state.stir(key);
    }

    /// Finds or begins the session of who introduces itself.
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
            let reason = format!("the role `{}` is not served here", short(&hello.role));
            return refuse(Kind::Role, reason);
        }
        if hello.version < LOWEST_VERSION {
            let reason = format!("version {LOWEST_VERSION} of the link is the lowest one");
            return refuse(Kind::Version, reason);
        }
        if let Some(&key) = state.sessions.get(id)
            && let Some(peer) = state.peers.get_mut(&key)
        {
            state.routes.remove(&peer.route);
            peer.route = route.clone();
            peer.gone = None;
            state.routes.insert(route.clone(), key);
            return Ok(());
        }
        let following = match Following::of(hello) {
            Ok(following) => following,
            Err(reason) => return refuse(Kind::Protocol, reason),
        };
        let name: Arc<str> = short(&hello.name).into();
        // What waits for one that has left, or was killed, is for the next of its name.
        let inherited = state.inherit(&name, &following);
        if state.peers.len() >= self.options.max_sessions {
            return refuse(Kind::Crowded, "there are too many links".to_owned());
        }
        state.last_key += 1;
        let key = state.last_key;
        // Of the memory of a frame that is large, this would hold all.
        let id = Bytes::copy_from_slice(id);
        tracing::info!("{} `{name}` is connected", hello.role);
        let role = if hello.role == WORKER {
            let functions = hello.functions.iter().take(MOST_FUNCTIONS);
            let at_most_once = functions
                .filter(|function| function.at_most_once && function.name.len() <= LONGEST_NAME)
                .map(|function| function.name.clone());
            Role::Worker {
                at_most_once: at_most_once.collect(),
            }
        } else {
            Role::Stream {
                owed: (0, 0),
                finished: hello.role == SUBSCRIBER,
                // Nobody waits for one that follows nothing but cancellations either.
                is_client: hello.role == CLIENT
                    || hello
                        .topics
                        .iter()
                        .all(|topic| topic.as_bytes() == CANCEL_TOPIC),
                makes_calls: hello.role == CLIENT,
            }
        };
        let window = match hello.role == SUBSCRIBER {
            false => WINDOW,
            true => Window {
                messages: 0,
                bytes: 0,
            },
        };
        let (instance, _) = uuid::Uuid::new_v4().as_u64_pair();
        let patience = self.options.patience;
        let mut session =
            Session::accept(id.clone(), instance, self.component, window, patience, now);
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
        }
        let peer = Peer {
            key,
            id: id.clone(),
            is_stirred: false,
            name,
            role,
            session,
            route: route.clone(),
            gone: None,
            // Until it has joined.
            lost: Some(now),
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

    /// The connection of a peer is gone.
    pub(crate) fn gone(&self, route: &Bytes) {
        let mut state = self.state();
        if let Some(key) = state.routes.remove(route)
            && let Some(peer) = state.peers.get_mut(&key)
        {
            peer.gone.get_or_insert_with(Instant::now);
        }
    }

    /// Messages that came in were passed on: their places are free.
    pub(crate) fn passed_on(&self, messages: impl Iterator<Item = (PeerKey, u64, u64)>) {
        let now = Instant::now();
        let mut state = self.state();
        let State {
            peers,
            stirred,
            streams,
            ..
        } = &mut *state;
        for (key, messages, bytes) in messages {
            if let Some(peer) = peers.get_mut(&key) {
                match &mut peer.role {
                    Role::Worker { .. } => peer.session.consume(messages, bytes),
                    Role::Stream { owed, .. } => {
                        owed.0 += messages;
                        owed.1 += bytes;
                        peer.settle(streams);
                    }
                }
                peer.stir(stirred);
            }
        }
        self.flush(&mut state, now);
    }

    /// Takes no more calls of clients than what they have sent by now.
    pub(crate) fn drain_inputs(&self) {
        let now = Instant::now();
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
        let now = Instant::now();
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

    /// Looks after those that are silent; to be called every [`TICK`]. Tells which clients have left
    /// without a word, and will not come back.
    pub(crate) fn tick(&self) -> Vec<String> {
        let now = Instant::now();
        let mut state = self.state();
        let LinkOptions {
            patience,
            grace,
            resume_limit,
            slow_limit,
            ..
        } = self.options;
        let (mut lost, mut given_up, mut slow) = (Vec::new(), Vec::new(), Vec::new());
        let State {
            peers,
            stirred,
            streams,
            ..
        } = &mut *state;
        let since = |begin: Instant| now.saturating_duration_since(begin);
        for (&key, peer) in peers {
            let is_subscriber = matches!(peer.role, Role::Stream { is_client, .. } if !is_client);
            match peer.lost {
                Some(begin) if since(begin) > resume_limit => given_up.push(key),
                Some(_) => {}
                None => {
                    // A subscriber that is stopped, and connected, is waited for.
                    let is_silent = !is_subscriber && since(peer.session.heard()) > patience;
                    if is_silent || peer.gone.is_some_and(|gone| since(gone) > grace) {
                        lost.push(key);
                    }
                }
            }
            if let Some(begin) = streams.full_since(peer.key) {
                let limit = if is_subscriber {
                    slow_limit
                } else {
                    Some(slow_limit.unwrap_or(resume_limit))
                };
                if limit.is_some_and(|limit| since(begin) > limit) {
                    slow.push(key);
                }
            }
            if peer.gone.is_none() && peer.session.due().is_some_and(|due| due <= now) {
                peer.stir(stirred);
            }
        }
        for key in lost {
            state.lose(key, now);
        }
        let mut vanished = Vec::new();
        for key in slow {
            if let Some(peer) = state.peers.get_mut(&key) {
                tracing::warn!("`{}` takes too little, and is dropped", peer.name);
                let reason = "what was published for it was not taken in time";
                peer.session.refuse_as(Kind::Slow, reason);
                state.stir(key);
                self.flush(&mut state, now);
                given_up.push(key);
            }
        }
        for key in given_up {
            vanished.extend(state.remove(key));
            self.flowed.notify_waiters();
        }
        let State {
            dispatch, failed, ..
        } = &mut *state;
        dispatch.expire(failed);
        state.assign(now);
        self.flush(&mut state, now);
        vanished
    }

    /// Says goodbye to everybody.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        let State { peers, router, .. } = &mut *state;
        for peer in peers.values_mut() {
            let header = peer.session.close();
            send(router.as_ref(), peer.route.clone(), &header, Vec::new());
        }
        peers.clear();
        state.there = 0;
        state.router = None;
    }

    /// Sends what there is to be sent, and tells who waits what has changed.
    pub(super) fn flush(&self, state: &mut State, now: Instant) {
        let State {
            peers,
            router,
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
                if !send(router.as_ref(), route, header, transmission.frames) {
                    // Its queue is full: again at the next tick, or when it is heard of.
                    peer.session.unsent();
                    break;
                }
            }
        }
        let there = state.there;
        let outstanding = state.dispatch.outstanding();
        let changed = self.workers.send_if_modified(|workers| workers.turn(there));
        let before = self.outstanding.swap(outstanding, Ordering::AcqRel);
        let is_done = state.tells_of_the_end && outstanding == 0 && before > 0;
        let has_failed = !state.failed.is_empty();
        let dispatch = &state.dispatch;
        let there_is_room =
            |ahead: usize| dispatch.has_room() || dispatch.waiting() < ahead.div_ceil(2);
        let has_room = state.blocked.is_some_and(there_is_room);
        if has_room {
            state.blocked = None;
        }
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

    fn rejoin(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.lost.take().is_none() {
                return;
            }
            if let Role::Worker { at_most_once } = &peer.role {
                self.there += 1;
                let once = at_most_once.clone();
                self.dispatch.join(peer.key, peer.name.clone(), once);
            }
        }
    }

    fn lose(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.lost = Some(now);
            if let Role::Worker { .. } = peer.role {
                tracing::warn!("worker `{}` is gone; its tasks go to others", peer.name);
                self.there -= 1;
                self.dispatch.lose(peer.key, &mut self.failed);
            }
        }
    }

    /// Forgets a peer; tells the id of one that makes calls.
    fn remove(&mut self, key: PeerKey) -> Option<String> {
        let peer = self.peers.remove(&key)?;
        self.routes.remove(&peer.route);
        self.sessions.remove(&peer.id);
        match peer.role {
            Role::Worker { .. } => {
                self.there -= usize::from(peer.is_there());
                self.dispatch.forget(peer.key, &mut self.failed);
                None
            }
            Role::Stream { makes_calls, .. } => {
                let (waiting, _) = peer.session.unacknowledged();
                let waiting = waiting + self.streams.parked(peer.key);
                if waiting > 0 {
                    let name = &peer.name;
                    tracing::warn!("dropped: {waiting} messages for `{name}`, which is gone");
                }
                self.streams.remove(peer.key);
                makes_calls.then(|| peer.name.to_string())
            }
        }
    }

    /// A peer takes no more than what is under way.
    fn drained(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            let unsent = match peer.role {
                Role::Worker { .. } => VecDeque::new(),
                Role::Stream { .. } => peer.session.take_unsent(),
            };
            tracing::info!("`{}` takes no more", peer.name);
            if self.streams.has_a_place(peer.key) {
                self.streams.park(peer.key, unsent);
            } else {
                self.streams.remove(peer.key);
            }
            peer.session.finish();
        }
    }

    /// Keeps the place of a subscriber that has left, for a while. Tells whether it has one.
    fn park(&mut self, key: PeerKey, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        tracing::info!("`{}` has left", peer.name);
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

    /// What waits for a subscriber of this name, which is not there any more, and follows the same.
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
        self.remove(key);
        items
    }

    /// A stream's peer may have acknowledged something. Tells whether somebody may have waited for that.
    fn acknowledged(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.settle(&self.streams);
        let session = &peer.session;
        self.streams.drained(peer.key, session) || session.is_acknowledged()
    }

    fn send(&self, route: Bytes, header: &LinkHeader, frames: Vec<Bytes>) -> bool {
        send(self.router.as_ref(), route, header, frames)
    }
}

/// Tells whether there was room.
fn send(
    router: Option<&RouterSender>,
    route: Bytes,
    header: &LinkHeader,
    frames: Vec<Bytes>,
) -> bool {
    let Some(router) = router else {
        return true;
    };
    let head = [route, header::encode(header)];
    let message = head.into_iter().chain(frames).collect();
    !matches!(router.try_send(message), Err(TrySendError::Full(_)))
}

pub(super) fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}
