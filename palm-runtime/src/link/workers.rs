//! A master's side of the links with its workers: sessions over the ROUTER at `db_address`, and the
//! tasks that go over them.
//!
//! One state behind one lock, which is held for no wait: the part that pushes tasks, the service that
//! owns the socket, and the part that takes results call it, and whoever does sends what there is to be
//! sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::WORKER;
use super::dispatch::{Dispatch, Failed, WorkerKey};
use super::header::{self, PROTOCOL, is_header};
use super::options::LinkOptions;
use super::session::{Event, Session, VERSION, Window};
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal};
use crate::socket::{Frames, RouterSender, TrySendError};

/// How much one worker may send ahead of what is published.
const RESULTS: Window = Window {
    messages: 4096,
    bytes: 8 * 1024 * 1024,
};

/// Longest name of a worker that is kept, in bytes, and most functions.
const LONGEST_NAME: usize = 256;
const MOST_FUNCTIONS: usize = 10_000;

/// How often to look whether somebody has been silent for too long.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A result, and whom its place is to be given back to.
#[derive(Debug)]
pub(crate) struct WorkerResult {
    pub(crate) worker: WorkerKey,
    pub(crate) frame: Bytes,
}

/// The links of a component with its workers.
#[derive(Debug)]
pub(crate) struct WorkerLinks {
    options: LinkOptions,
    state: Mutex<State>,
    workers: watch::Sender<Workers>,
    /// Tasks that have no answer yet.
    outstanding: AtomicUsize,
    /// Told when there is room for tasks, a worker comes or goes, a task fails, or the last one is done.
    changed: Notify,
    results: mpsc::UnboundedSender<WorkerResult>,
    /// For the part that takes results, of which there is one.
    taker: Mutex<Option<mpsc::UnboundedReceiver<WorkerResult>>>,
}

/// How many workers are there, and how often that has changed.
#[derive(Debug, Clone, Copy, Default)]
struct Workers {
    count: usize,
    generation: u64,
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
struct State {
    router: Option<RouterSender>,
    /// Whether there is a part that gives tasks.
    gives_tasks: bool,
    /// By the session's id.
    peers: HashMap<Bytes, Peer>,
    /// How many of them are not lost.
    there: usize,
    sessions: HashMap<WorkerKey, Bytes>,
    /// By where it is to be found.
    routes: HashMap<Bytes, Bytes>,
    last_key: WorkerKey,
    dispatch: Dispatch,
    failed: Vec<Failed>,
    /// Whether there are further tasks, for whom there was no room beyond so many that wait.
    blocked: Option<usize>,
    /// Whether somebody waits until all tasks are done.
    tells_of_the_end: bool,
    /// Who may have something to be sent.
    stirred: HashSet<Bytes>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Peer {
    key: WorkerKey,
    name: Arc<str>,
    at_most_once: HashSet<String>,
    session: Session,
    route: Bytes,
    /// Since when its connection is gone.
    gone: Option<Instant>,
    /// Since when its tasks are others'.
    lost: Option<Instant>,
}

impl WorkerLinks {
    pub(crate) fn new(options: LinkOptions) -> Self {
        let (results, taker) = mpsc::unbounded_channel();
        let dispatch = Dispatch::new(options.max_attempts);
        Self {
            options,
            state: Mutex::new(State {
                router: None,
                gives_tasks: false,
                peers: HashMap::new(),
                there: 0,
                sessions: HashMap::new(),
                routes: HashMap::new(),
                last_key: 0,
                dispatch,
                failed: Vec::new(),
                blocked: None,
                tells_of_the_end: false,
                stirred: HashSet::new(),
                events: Vec::new(),
            }),
            workers: watch::Sender::default(),
            outstanding: AtomicUsize::new(0),
            changed: Notify::new(),
            results,
            taker: Mutex::new(Some(taker)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a part that gives tasks. Of several the first one does; tells whether this is it.
    pub(crate) fn give_tasks(&self) -> bool {
        !std::mem::replace(&mut self.state().gives_tasks, true)
    }

    /// What the part that takes results takes them from; the first one, where there are several.
    pub(crate) fn take_results(&self) -> Option<mpsc::UnboundedReceiver<WorkerResult>> {
        let taker = self.taker.lock();
        taker.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends over `router` from now on.
    pub(crate) fn serve_on(&self, router: RouterSender) {
        self.state().router = Some(router);
    }

    /// Whether workers can connect: somebody gives tasks, somebody takes results, and there is a socket.
    pub(crate) fn are_offered(&self) -> bool {
        let taker = self.taker.lock();
        let is_taken = taker.unwrap_or_else(PoisonError::into_inner).is_none();
        let state = self.state();
        is_taken && state.gives_tasks && state.router.is_some()
    }

    /// How many workers are there.
    pub(crate) fn workers(&self) -> usize {
        self.workers.borrow().count
    }

    /// A number that changes with each worker that comes or goes.
    #[cfg(feature = "http")]
    pub(crate) fn generation(&self) -> u64 {
        self.workers.borrow().generation
    }

    /// Waits until a worker is there. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn connected(&self) {
        let mut workers = self.workers.subscribe();
        // An error would mean that `self` is gone.
        let _ = workers.wait_for(|workers| workers.count > 0).await;
    }

    /// How many tasks have no answer yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until there may be room, a worker has come or gone, or the last task is done. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many tasks the worker has that would be given the next one, if there is one.
    pub(crate) fn least_load(&self) -> Option<usize> {
        self.state().dispatch.least_load()
    }

    /// Takes up to `most` tasks, as far as workers have room for them, and `ahead` more; the rest stays.
    /// Tells how many it took.
    pub(crate) fn submit(&self, tasks: &mut VecDeque<Bytes>, ahead: usize, most: usize) -> usize {
        let now = Instant::now();
        let mut state = self.state();
        let mut taken = 0;
        while !tasks.is_empty() && taken < most {
            let dispatch = &mut state.dispatch;
            if !dispatch.has_room() && dispatch.waiting() >= ahead {
                state.blocked = Some(ahead);
                break;
            }
            dispatch.submit(tasks.pop_front().expect("there is one"));
            state.assign(now);
            taken += 1;
        }
        self.flush(&mut state, now);
        taken
    }

    /// From now on the end of the last task is one of the [`changed`](Self::changed)s.
    pub(crate) fn tell_of_the_end(&self) {
        self.state().tells_of_the_end = true;
    }

    /// Takes what will come to nothing. There is more after some of the [`changed`](Self::changed)s.
    pub(crate) fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut self.state().failed)
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
                protocol: PROTOCOL,
                session: id,
                refusal: Some(refusal),
                ..LinkHeader::default()
            };
            state.send(route, &header, Vec::new());
            return;
        }
        let Some(peer) = state.peers.get_mut(&id) else {
            // It is one from before a restart, or was given up: it begins anew.
            if !header.closed && header.refusal.is_none() {
                let header = LinkHeader {
                    protocol: PROTOCOL,
                    session: id,
                    closed: true,
                    ..LinkHeader::default()
                };
                state.send(route, &header, Vec::new());
            }
            return;
        };
        let mut events = std::mem::take(&mut state.events);
        peer.session.receive(now, &header, frames, &mut events);
        let key = peer.key;
        if header.hello.is_none() && peer.lost.is_some() && !peer.session.is_over() {
            // It was only silent.
            state.rejoin(&id);
        }
        for event in events.drain(..) {
            match event {
                Event::Open => state.rejoin(&id),
                Event::Message(item) => {
                    let (task, is_last) = (item.tag >> 1, item.tag & 1 == 1);
                    let bytes = item.frame.len() as u64;
                    let is_result = !item.frame.is_empty();
                    // What belongs to no task goes on as it is.
                    if is_result && (task == 0 || state.dispatch.result(key, task)) {
                        let frame = item.frame;
                        // Without a taker the component has stopped.
                        let _ = self.results.send(WorkerResult { worker: key, frame });
                    } else if let Some(peer) = state.peers.get_mut(&id) {
                        peer.session.consume(1, bytes);
                    }
                    if is_last {
                        state.dispatch.finish(key, task);
                    }
                }
                Event::Draining => {
                    if let Some(peer) = state.peers.get_mut(&id) {
                        tracing::info!("worker `{}` takes no more tasks", peer.name);
                        peer.session.finish();
                    }
                }
                Event::Finished | Event::Forgotten => {}
                Event::Closed => {
                    tracing::info!("a worker has left");
                    state.remove(&id);
                }
                Event::Refused(refusal) => {
                    let reason = refusal.reason;
                    tracing::warn!("a link with a worker has ended: {reason}");
                    state.stirred.insert(id.clone());
                    self.flush(state, now);
                    state.remove(&id);
                }
            }
        }
        state.events = events;
        if let Some(peer) = state.peers.get(&id)
            && peer.lost.is_none()
        {
            let room = peer.session.room();
            state.dispatch.set_room(key, room);
        }
        state.stirred.insert(id);
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
        if hello.role != WORKER {
            let reason = format!("the role `{}` is not served here", short(&hello.role));
            return refuse(Kind::Role, reason);
        }
        if hello.version < VERSION {
            let reason = format!("version {VERSION} of the link is the lowest one");
            return refuse(Kind::Version, reason);
        }
        if let Some(peer) = state.peers.get_mut(id) {
            state.routes.remove(&peer.route);
            peer.route = route.clone();
            peer.gone = None;
            state.routes.insert(route.clone(), id.clone());
            return Ok(());
        }
        if state.peers.len() >= self.options.max_sessions {
            return refuse(Kind::Crowded, "there are too many links".to_owned());
        }
        state.last_key += 1;
        let key = state.last_key;
        // Of the memory of a frame that is large, this would hold all.
        let id = Bytes::copy_from_slice(id);
        let name: Arc<str> = short(&hello.name).into();
        tracing::info!("worker `{name}` is connected");
        let functions = hello.functions.iter().take(MOST_FUNCTIONS);
        let at_most_once = functions
            .filter(|function| function.at_most_once && function.name.len() <= LONGEST_NAME)
            .map(|function| function.name.clone());
        let (instance, _) = uuid::Uuid::new_v4().as_u64_pair();
        let session = Session::accept(id.clone(), instance, RESULTS, self.options.patience, now);
        let peer = Peer {
            key,
            name,
            at_most_once: at_most_once.collect(),
            session,
            route: route.clone(),
            gone: None,
            // Until it has joined.
            lost: Some(now),
        };
        state.sessions.insert(key, id.clone());
        state.routes.insert(route.clone(), id.clone());
        state.peers.insert(id, peer);
        Ok(())
    }

    /// The connection of a peer is gone.
    pub(crate) fn gone(&self, route: &Bytes) {
        let mut state = self.state();
        if let Some(id) = state.routes.remove(route)
            && let Some(peer) = state.peers.get_mut(&id)
        {
            peer.gone.get_or_insert_with(Instant::now);
        }
    }

    /// Results were passed on: their places are free.
    pub(crate) fn passed_on(&self, results: impl Iterator<Item = (WorkerKey, usize)>) {
        let now = Instant::now();
        let mut state = self.state();
        for (key, bytes) in results {
            let state = &mut *state;
            if let Some(id) = state.sessions.get(&key)
                && let Some(peer) = state.peers.get_mut(id)
            {
                peer.session.consume(1, bytes as u64);
                state.stirred.insert(id.clone());
            }
        }
        self.flush(&mut state, now);
    }

    /// Looks after those that are silent; to be called every [`TICK`].
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let LinkOptions {
            patience,
            grace,
            resume_limit,
            ..
        } = self.options;
        let (mut lost, mut given_up) = (Vec::new(), Vec::new());
        let State { peers, stirred, .. } = &mut *state;
        for (id, peer) in peers {
            let since = |begin: Instant| now.saturating_duration_since(begin);
            match peer.lost {
                Some(begin) if since(begin) > resume_limit => given_up.push(id.clone()),
                Some(_) => {}
                None => {
                    let is_silent = since(peer.session.heard()) > patience;
                    if is_silent || peer.gone.is_some_and(|gone| since(gone) > grace) {
                        lost.push(id.clone());
                    }
                }
            }
            if peer.gone.is_none() && peer.session.due().is_some_and(|due| due <= now) {
                stirred.insert(id.clone());
            }
        }
        for id in lost {
            state.lose(&id, now);
        }
        for id in given_up {
            state.remove(&id);
        }
        let State {
            dispatch, failed, ..
        } = &mut *state;
        dispatch.expire(failed);
        state.assign(now);
        self.flush(&mut state, now);
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
    fn flush(&self, state: &mut State, now: Instant) {
        let State {
            peers,
            router,
            stirred,
            ..
        } = state;
        for id in stirred.drain() {
            let Some(peer) = peers.get_mut(&id) else {
                continue;
            };
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
    /// Gives tasks that wait to workers that have room.
    fn assign(&mut self, now: Instant) {
        while let Some((key, task, frame)) = self.dispatch.assign() {
            let id = &self.sessions[&key];
            let peer = self.peers.get_mut(id).expect("who has a key has a session");
            let tag = task << 1;
            peer.session
                .submit(super::session::Item { tag, frame }, now);
            if !self.stirred.contains(id) {
                self.stirred.insert(id.clone());
            }
        }
    }

    fn rejoin(&mut self, id: &Bytes) {
        if let Some(peer) = self.peers.get_mut(id) {
            if peer.lost.take().is_none() {
                return;
            }
            self.there += 1;
            let once = peer.at_most_once.clone();
            self.dispatch.join(peer.key, peer.name.clone(), once);
        }
    }

    fn lose(&mut self, id: &Bytes, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            tracing::warn!("worker `{}` is gone; its tasks go to others", peer.name);
            peer.lost = Some(now);
            self.there -= 1;
            self.dispatch.lose(peer.key, &mut self.failed);
        }
    }

    fn remove(&mut self, id: &Bytes) {
        if let Some(peer) = self.peers.remove(id) {
            self.there -= usize::from(peer.lost.is_none());
            self.routes.remove(&peer.route);
            self.sessions.remove(&peer.key);
            self.dispatch.forget(peer.key, &mut self.failed);
        }
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

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}
