//! The backend for networks that are trusted: the crate `zeromq`, which is faster from 4 KB up.
//!
//! What the crate leaves open is done here, as far as its interface allows; what it does not allow
//! stands in `tests/conformance/expected.rs`. Its sockets do not reconnect, their queues hold
//! 100,000 messages or drop them, and a full queue of one peer stops the others. Therefore:
//!
//! - a socket of the crate belongs to one task, which alone sends and receives, so that futures of
//!   users can be dropped at any time;
//! - each address that is connected to has a socket of its own, and a new one after each loss;
//! - bound PUSH and PUB accept into one socket after the other, each for the peers that introduce
//!   themselves at once (mostly one), so that a peer that stalls has a queue of its own;
//! - messages in the crate's queues carry permits, which come back when they have been written;
//! - PUB is the crate's XPUB, which waits and shows subscriptions.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerSocket, Listener, MultiPeerBackend, PullSocket, PushSocket, RouterSocket, Socket as _,
    SocketEvent, SocketRecv, SocketSend, XPubSocket, XSubSocket, ZmqMessage,
};

use super::backend::{Kind, SubscriptionEvent};
use super::options::SocketOptions;
use super::{Address, Frames, SocketClosed, TrySendError};

/// Messages of one socket of the crate that may wait in its queue to be written.
const UNDER_WAY: usize = 128;

/// Events of subscriptions that may wait to be taken notice of.
const EVENTS: usize = 16 * 1024;

/// How often to look for what the crate gives no notice of.
const LOOK: Duration = Duration::from_millis(200);

/// How long tasks get to put away their listeners, even when nothing is to be flushed.
const GRACE: Duration = Duration::from_millis(100);

/// How often to look for peers that were introducing themselves when their socket was closed.
const LOOKS_AT_THE_END: u32 = 50;

/// Any number of sockets of the crate that look like one.
#[derive(Debug)]
pub(super) struct Socket(Arc<Core>);

/// What a socket shares with its tasks.
#[derive(Debug)]
struct Core {
    kind: Kind,
    options: SocketOptions,
    state: Mutex<State>,
    /// Told whenever a queue may have got room.
    room: Notify,
    peers: watch::Sender<Peers>,
    inbox: mpsc::Sender<Frames>,
    received: Arc<tokio::sync::Mutex<mpsc::Receiver<Frames>>>,
    /// Tasks send what they have and end.
    closing: CancellationToken,
    /// Tasks end.
    killed: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    /// Whom PUSH, DEALER and PUB can send to; the next in turn is the first.
    queues: VecDeque<Queue>,
    /// What was queued for a peer that went before the crate had it.
    left_over: VecDeque<Frames>,
    /// Whom ROUTER can send to, and how much room there is for each.
    routes: HashMap<Bytes, Arc<Semaphore>>,
    outbox: Option<mpsc::UnboundedSender<ZmqMessage>>,
    events: Option<mpsc::Sender<SubscriptionEvent>>,
    connections: HashMap<Address, Connection>,
    /// What SUB has asked for, and how often.
    wanted: HashMap<Bytes, usize>,
}

/// Which peers of a ROUTER have left: nobody tells.
#[derive(Debug)]
pub(super) struct Departures;

impl Departures {
    pub(super) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Queue {
    id: u64,
    sender: mpsc::Sender<Frames>,
    /// The subscriptions of PUB's peer.
    prefixes: Vec<Bytes>,
}

#[derive(Debug)]
struct Connection {
    given_up: CancellationToken,
    subscriptions: mpsc::UnboundedSender<(Bytes, bool)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Peers {
    count: usize,
    generation: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.killed.cancel();
        let tasks = self.0.tasks.clone();
        self.0.options.kill.close(|| async move {
            tasks.close();
            tasks.wait().await;
        });
    }
}

impl Socket {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        let (inbox, received) = mpsc::channel(queue_len(options));
        Self(Arc::new(Core {
            kind,
            options: options.clone(),
            state: Mutex::default(),
            room: Notify::new(),
            peers: watch::Sender::default(),
            inbox,
            received: Arc::new(tokio::sync::Mutex::new(received)),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Binds, and tells where: a port of 0 is replaced by the one that the system picked.
    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        let (bound, address) = Bound::new(address).await?;
        let core = self.0.clone();
        match core.kind {
            Kind::Push => core.clone().spawn(accept(core, bound, send_to_group)),
            Kind::Publish => core.clone().spawn(accept(core, bound, publish_to_group)),
            Kind::Pull => {
                let mut open = Open::<PullSocket>::new();
                open.socket
                    .bind_listener(bound.share()?)
                    .await
                    .map_err(to_io)?;
                core.clone().spawn(receive_from_all(core, bound, open));
            }
            Kind::Router => {
                let mut open = Open::<RouterSocket>::new();
                open.socket
                    .bind_listener(bound.share()?)
                    .await
                    .map_err(to_io)?;
                let (sender, outbox) = mpsc::unbounded_channel();
                core.state().outbox = Some(sender);
                core.clone().spawn(route(core, bound, open, outbox));
            }
            Kind::Subscribe | Kind::Dealer => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(address)
    }

    /// Connects, now or as soon as there is somebody, and again whenever the connection is lost.
    pub(super) async fn connect(&self, address: &Address) -> io::Result<()> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let given_up = CancellationToken::new();
        let (subscriptions, changes) = mpsc::unbounded_channel();
        let mut state = self.0.state();
        let wanted = state.wanted.keys().cloned().collect();
        let connection = Connection {
            given_up: given_up.clone(),
            subscriptions,
        };
        if let Some(old) = state.connections.insert(address.clone(), connection) {
            old.given_up.cancel();
        }
        drop(state);
        let line = Line::new(queue_len(&self.0.options), wanted, changes);
        let keep = keep_connected(self.0.clone(), address.clone(), line);
        self.0.clone().spawn(async move {
            given_up.run_until_cancelled(keep).await;
        });
        Ok(())
    }

    pub(super) async fn disconnect(&self, address: &Address) -> io::Result<()> {
        if let Some(connection) = self.0.state().connections.remove(address) {
            connection.given_up.cancel();
        }
        Ok(())
    }

    pub(super) async fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.0.open()?;
        let mut state = self.0.state();
        let count = state.wanted.entry(prefix.clone()).or_default();
        *count += 1;
        if *count == 1 {
            state.tell_connections(&prefix, true);
        }
        Ok(())
    }

    pub(super) async fn unsubscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.0.open()?;
        let mut state = self.0.state();
        if let Some(count) = state.wanted.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                state.wanted.remove(&prefix);
                state.tell_connections(&prefix, false);
            }
        }
        Ok(())
    }

    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.0.open()?;
        let mut state = self.0.state();
        match self.0.kind {
            Kind::Publish => state.try_publish(frames),
            Kind::Router => state.try_route(frames),
            _ => state.try_queue(frames),
        }
    }

    /// Waits for room. Cancel safe: the message is queued or it is not.
    pub(super) async fn send(&self, mut frames: Frames) -> Result<(), SocketClosed> {
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            // From here on, no notice of room is missed.
            room.as_mut().enable();
            match self.try_send(frames) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(closed)) => return Err(closed),
                Err(TrySendError::Full(returned)) => frames = returned,
            }
            tokio::select! {
                () = room => {}
                () = self.0.closing.cancelled() => return Err(SocketClosed),
            }
        }
    }

    /// The number of peers that are connected and have introduced themselves.
    pub(super) async fn peers(&self) -> Result<usize, SocketClosed> {
        self.0.open()?;
        Ok(self.0.peers.borrow().count)
    }

    /// Whether there may be somebody to send to.
    pub(super) fn has_peer(&self) -> bool {
        self.0.peers.borrow().count > 0
    }

    /// The crate's ROUTER does not say whose connection is gone.
    #[expect(clippy::unused_self, reason = "the other backend can tell")]
    pub(super) fn departures(&self) -> Departures {
        Departures
    }

    /// A number that changes with each peer that comes or goes.
    pub(super) fn peers_generation(&self) -> u64 {
        self.0.peers.borrow().generation
    }

    /// Waits until [`peers_generation`](Self::peers_generation) is no longer `seen`. Cancel safe.
    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        let mut peers = self.0.peers.subscribe();
        tokio::select! {
            biased;
            _ = peers.wait_for(|peers| peers.generation != seen) => Ok(()),
            () = self.0.closing.cancelled() => Err(SocketClosed),
        }
    }

    /// The subscriptions of the subscribers of a publisher, from now on.
    pub(super) async fn subscription_events(&self) -> Result<SubscriptionEvents, SocketClosed> {
        self.0.open()?;
        let (sender, events) = mpsc::channel(EVENTS);
        let mut state = self.0.state();
        state.events = Some(sender);
        let now = Instant::now();
        let added = |queue: &Queue| {
            let (id, prefixes) = (queue.id, queue.prefixes.clone());
            prefixes
                .into_iter()
                .map(move |prefix| SubscriptionEvent::Added(id, prefix, now))
        };
        let known = state.queues.iter().flat_map(added).collect();
        Ok(SubscriptionEvents {
            known,
            events,
            closing: self.0.closing.clone(),
        })
    }

    /// Sends what is queued, for at most `linger`, and closes.
    pub(super) async fn close(&self, linger: Duration) {
        self.0.closing.cancel();
        {
            let mut state = self.0.state();
            state.queues.clear();
            state.outbox = None;
            state.events = None;
        }
        self.0.tasks.close();
        let linger = linger.max(GRACE);
        let _ = tokio::time::timeout(linger, self.0.tasks.wait()).await;
        self.0.killed.cancel();
        self.0.tasks.wait().await;
    }

    pub(super) fn receiver(&self) -> Receiver {
        Receiver {
            received: self.0.received.clone(),
            closing: self.0.closing.clone(),
        }
    }
}

/// The receiving side of a socket.
#[derive(Debug)]
pub(super) struct Receiver {
    received: Arc<tokio::sync::Mutex<mpsc::Receiver<Frames>>>,
    closing: CancellationToken,
}

impl Receiver {
    /// Waits for a message and takes up to `max` that are there. Cancel safe: nothing is lost.
    pub(super) async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<usize, SocketClosed> {
        let mut received = self.received.lock().await;
        tokio::select! {
            biased;
            count = received.recv_many(out, max) => Ok(count),
            () = self.closing.cancelled() => Err(SocketClosed),
        }
    }

    /// Takes up to `max` messages that are there.
    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        let Ok(mut received) = self.received.try_lock() else {
            return 0;
        };
        let before = out.len();
        out.extend(std::iter::from_fn(|| received.try_recv().ok()).take(max));
        out.len() - before
    }
}

#[derive(Debug)]
pub(super) struct SubscriptionEvents {
    known: Vec<SubscriptionEvent>,
    events: mpsc::Receiver<SubscriptionEvent>,
    closing: CancellationToken,
}

impl SubscriptionEvents {
    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        if let Some(event) = self.known.pop() {
            return Ok(event);
        }
        match self.events.recv().await {
            Some(event) => Ok(event),
            None if self.closing.is_cancelled() => Err(SocketClosed),
            None => Ok(SubscriptionEvent::Missed),
        }
    }

    /// The next event, if there is one.
    pub(super) fn try_next(&mut self) -> Option<SubscriptionEvent> {
        if let Some(event) = self.known.pop() {
            return Some(event);
        }
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(mpsc::error::TryRecvError::Disconnected) if !self.closing.is_cancelled() => {
                Some(SubscriptionEvent::Missed)
            }
            Err(_) => None,
        }
    }
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(), SocketClosed> {
        if self.closing.is_cancelled() || self.options.kill.is_ordered() {
            Err(SocketClosed)
        } else {
            Ok(())
        }
    }

    fn spawn(self: Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            self.killed.run_until_cancelled(task).await;
        });
    }

    fn peer_came(&self) {
        self.peers.send_modify(|peers| {
            peers.count += 1;
            peers.generation += 1;
        });
    }

    fn peer_went(&self) {
        self.peers.send_modify(|peers| {
            peers.count = peers.count.saturating_sub(1);
            peers.generation += 1;
        });
    }

    /// Counts a peer that came or went.
    fn take_notice(&self, event: &SocketEvent) {
        match event {
            SocketEvent::Accepted(..) => self.peer_came(),
            SocketEvent::Disconnected(_) => self.peer_went(),
            _ => {}
        }
    }

    /// Lets messages come to a queue, as long as the result lives.
    fn enter(self: &Arc<Self>, sender: mpsc::Sender<Frames>) -> Entered {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if !self.closing.is_cancelled() {
            let prefixes = Vec::new();
            let mut state = self.state();
            state.queues.push_back(Queue {
                id,
                sender,
                prefixes,
            });
            state.place_left_over();
            drop(state);
            self.room.notify_waiters();
        }
        Entered {
            core: self.clone(),
            id,
        }
    }

    /// Receives one message; dropping this future loses none.
    async fn receive(&self, socket: &mut (impl SocketRecv + ?Sized)) -> Result<(), Failure> {
        let Ok(place) = self.inbox.reserve().await else {
            return Err(Failure);
        };
        let message = socket.recv().await.map_err(|_| Failure)?;
        let frames: Frames = message.into_vecdeque().into_iter().collect();
        // The crate has no limit of its own: the memory was needed, but is given up again.
        if frames.iter().map(Bytes::len).sum::<usize>() > self.options.max_message_bytes {
            return Err(Failure);
        }
        if self.kind == Kind::Router {
            // Before the message can be answered.
            self.state()
                .routes
                .entry(frames[0].clone())
                .or_insert_with(|| {
                    let room = queue_len(&self.options);
                    Arc::new(Semaphore::new(room))
                });
        }
        place.send(frames);
        Ok(())
    }
}

/// A connection that came to its end, one way or the other.
struct Failure;

/// The place of a queue among those that can be sent to.
struct Entered {
    core: Arc<Core>,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.core.state();
        state.queues.retain(|queue| queue.id != self.id);
        if self.core.kind == Kind::Publish {
            state.tell(SubscriptionEvent::Gone(self.id));
        }
        drop(state);
        // Who waited for this queue must look for another one.
        self.core.room.notify_waiters();
    }
}

impl State {
    fn try_queue(&mut self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        if self.place_left_over() {
            self.place(frames).map_err(TrySendError::Full)
        } else {
            Err(TrySendError::Full(frames))
        }
    }

    /// What is left over goes first; says whether nothing of it is left.
    fn place_left_over(&mut self) -> bool {
        while let Some(frames) = self.left_over.pop_front() {
            if let Err(frames) = self.place(frames) {
                self.left_over.push_front(frames);
                return false;
            }
        }
        true
    }

    fn place(&mut self, mut frames: Frames) -> Result<(), Frames> {
        for turn in 0..self.queues.len() {
            match self.queues[turn].sender.try_send(frames) {
                Ok(()) => {
                    self.queues.rotate_left(turn + 1);
                    return Ok(());
                }
                Err(error) => frames = error.into_inner(),
            }
        }
        Err(frames)
    }

    /// For all who want it, or for none.
    fn try_publish(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        let topic = &frames[0];
        let mut places = Vec::new();
        for queue in &self.queues {
            if queue
                .prefixes
                .iter()
                .any(|prefix| topic.starts_with(prefix))
            {
                match queue.sender.try_reserve() {
                    Ok(place) => places.push(place),
                    Err(mpsc::error::TrySendError::Closed(())) => {}
                    Err(mpsc::error::TrySendError::Full(())) => {
                        drop(places);
                        return Err(TrySendError::Full(frames));
                    }
                }
            }
        }
        for place in places {
            place.send(frames.clone());
        }
        Ok(())
    }

    fn try_route(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        let Some((route, outbox)) = self.routes.get(&frames[0]).zip(self.outbox.as_ref()) else {
            return Ok(());
        };
        match route.clone().try_acquire_owned() {
            Ok(permit) => {
                let _ = outbox.send(message(frames, Some(permit)));
                Ok(())
            }
            Err(_) => Err(TrySendError::Full(frames)),
        }
    }

    fn tell_connections(&self, prefix: &Bytes, wanted: bool) {
        for connection in self.connections.values() {
            let _ = connection.subscriptions.send((prefix.clone(), wanted));
        }
    }

    /// Tells an event of a subscription. When nobody takes notice for too long, the end of the
    /// channel says that events were missed.
    fn tell(&mut self, event: SubscriptionEvent) {
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            self.events = None;
        }
    }
}

fn queue_len(options: &SocketOptions) -> usize {
    usize::try_from(options.queue_len)
        .unwrap_or(usize::MAX)
        .clamp(1, Semaphore::MAX_PERMITS)
}

/// The last frame of a message in the crate's queue: its permit comes back with its memory.
struct UnderWay {
    frame: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for UnderWay {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

fn message(frames: Frames, permit: Option<OwnedSemaphorePermit>) -> ZmqMessage {
    let mut frames = frames.into_iter().rev();
    let frame = frames.next().unwrap_or_default();
    let mut message = ZmqMessage::from(match permit {
        Some(permit) => Bytes::from_owner(UnderWay {
            frame,
            _permit: permit,
        }),
        None => frame,
    });
    for frame in frames {
        message.push_front(frame);
    }
    message
}

fn to_io(error: zeromq::ZmqError) -> io::Error {
    match error {
        zeromq::ZmqError::Network(error) => error,
        error => io::Error::other(error),
    }
}

/// A socket of the crate, and its end.
struct Open<S: zeromq::Socket> {
    socket: S,
    end: End,
}

impl<S: zeromq::Socket> Open<S> {
    fn new() -> Self {
        let socket = S::new();
        let end = End(socket.backend());
        Self { socket, end }
    }
}

/// Ends the connections of a socket of the crate when it is dropped; by itself, not each does.
struct End(Arc<dyn MultiPeerBackend>);

impl End {
    /// Takes no more, and waits until what the crate was given is written. It tells nobody, but each
    /// of its writers is an owner of the backend; `others` are no writers.
    async fn written(&self, others: usize) {
        self.0.shutdown();
        while Arc::strong_count(&self.0) > others {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.shutdown();
        // A peer that is just introducing itself would stay connected to nobody.
        if Arc::strong_count(&self.0) > 1
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let backend = self.0.clone();
            runtime.spawn(async move {
                for _ in 0..LOOKS_AT_THE_END {
                    tokio::time::sleep(LOOK).await;
                    backend.shutdown();
                    if Arc::strong_count(&backend) == 1 {
                        break;
                    }
                }
            });
        }
    }
}

/// A listener that sockets of the crate can share.
enum Bound {
    Tcp(std::net::TcpListener),
    #[cfg(unix)]
    Ipc(
        std::os::unix::net::UnixListener,
        #[expect(dead_code, reason = "it deletes the path when it is dropped")] Leftover,
    ),
}

/// A path to be deleted in the end.
struct Leftover(std::path::PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    async fn new(address: &Address) -> io::Result<(Self, Address)> {
        #[cfg(unix)]
        if let Some(path) = address.ipc_path() {
            return Ok((Self::ipc(path).await?, address.clone()));
        }
        let text = address.to_string();
        let (host, port) = text
            .strip_prefix("tcp://")
            .and_then(|text| text.rsplit_once(':'))
            .ok_or(io::ErrorKind::Unsupported)?;
        let interface = if host == "*" { "0.0.0.0" } else { host };
        let listener = tokio::net::TcpListener::bind(format!("{interface}:{port}")).await?;
        let address = format!("tcp://{host}:{}", listener.local_addr()?.port());
        let address = address.parse().map_err(io::Error::other)?;
        Ok((Self::Tcp(listener.into_std()?), address))
    }

    /// Each time a socket of the crate stops to listen, it deletes the path under which the listener
    /// was bound. So that is another one, which is moved to the right place.
    #[cfg(unix)]
    async fn ipc(path: &str) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        use std::os::unix::net::UnixListener;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match std::fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(_) => {
                let answer = tokio::net::UnixStream::connect(path).await;
                if !answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
            }
            Err(_) => {}
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{path}.{}.{number}", std::process::id());
        let listener = UnixListener::bind(&temporary)?;
        std::fs::rename(&temporary, path)?;
        Ok(Self::Ipc(listener, Leftover(path.into())))
    }

    fn share(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            #[cfg(unix)]
            Self::Ipc(listener, _) => listener.try_clone().map(Listener::Ipc),
        }
    }
}

type Monitor = std::pin::Pin<Box<dyn futures_core::Stream<Item = SocketEvent> + Send>>;

/// Accepts into one socket after the other, each for the peers that introduce themselves at once.
async fn accept<S, F>(
    core: Arc<Core>,
    bound: Bound,
    serve: impl Fn(Arc<Core>, Group<S>) -> F + Send,
) where
    S: zeromq::Socket + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    while !core.closing.is_cancelled() {
        let mut open = Open::<S>::new();
        let mut monitor: Monitor = Box::pin(open.socket.monitor());
        let endpoint = match bound.share() {
            Ok(listener) => open.socket.bind_listener(listener).await.ok(),
            Err(_) => None,
        };
        let Some(endpoint) = endpoint else {
            // Out of file descriptors, most likely.
            tokio::time::sleep(core.options.reconnect.1).await;
            continue;
        };
        let first = async {
            loop {
                if let SocketEvent::Accepted(_, name) = monitor.next().await? {
                    return Some(name.into());
                }
            }
        };
        let first = core.closing.run_until_cancelled(first).await.flatten();
        let _ = open.socket.unbind(endpoint).await;
        if let Some(first) = first {
            core.peer_came();
            let names = vec![first];
            let group = Group {
                open,
                monitor,
                names,
            };
            core.clone().spawn(serve(core.clone(), group));
        }
    }
}

/// A bound socket of the crate and its peers: one of them, mostly.
struct Group<S: zeromq::Socket> {
    open: Open<S>,
    monitor: Monitor,
    names: Vec<Bytes>,
}

impl<S: zeromq::Socket> Drop for Group<S> {
    fn drop(&mut self) {
        // The crate's XPUB keeps its connections otherwise, even when it is dropped.
        for name in self.names.drain(..) {
            if let Ok(name) = PeerIdentity::try_from(name) {
                self.open.end.0.peer_disconnected(&name);
            }
        }
    }
}

impl<S: zeromq::Socket> Group<S> {
    /// Counts the peers of the group that came or went, and says whether one is left.
    fn take_notice(&mut self, core: &Core, event: Option<SocketEvent>) -> bool {
        if let Some(event) = &event {
            core.take_notice(event);
        }
        match event {
            Some(SocketEvent::Accepted(_, name)) => self.names.push(name.into()),
            Some(SocketEvent::Disconnected(name)) => self.names.retain(|known| **known != *name),
            _ => {}
        }
        !self.names.is_empty()
    }

    /// The crate's XPUB does not tell that a peer went, but it keeps the name of each peer that it
    /// has: a name that is only here is that of one that has gone.
    fn look(&mut self, core: &Core) -> bool {
        let before = self.names.len();
        self.names.retain(|name| !name.is_unique());
        for _ in self.names.len()..before {
            core.peer_went();
        }
        !self.names.is_empty()
    }
}

/// PUSH, bound.
async fn send_to_group(core: Arc<Core>, mut group: Group<PushSocket>) {
    let changes = mpsc::unbounded_channel().1;
    let mut line = Line::new(queue_len(&core.options), BTreeSet::new(), changes);
    let entered = core.enter(line.sender.clone());
    loop {
        let drained = tokio::select! {
            biased;
            event = group.monitor.next() => {
                if !group.take_notice(&core, event) {
                    break;
                }
                false
            }
            sent = line.send_all(&core, &mut group.open.socket) => sent.is_ok(),
        };
        if drained {
            // The socket itself owns the backend, too.
            return group.open.end.written(2).await;
        }
    }
    drop(entered);
    line.queue.close();
    let mut state = core.state();
    state.left_over.extend(line.returned.take());
    while let Ok(frames) = line.queue.try_recv() {
        state.left_over.push_back(frames);
    }
    state.place_left_over();
}

/// PUB, bound.
async fn publish_to_group(core: Arc<Core>, mut group: Group<XPubSocket>) {
    let (sender, mut queue) = mpsc::channel(queue_len(&core.options));
    let entered = core.enter(sender);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            received = group.open.socket.recv() => {
                if let Ok(message) = received {
                    core.take_notice_of_subscription(entered.id, message);
                } else if !group.look(&core) {
                    return;
                }
            }
            frames = queue.recv() => {
                // No further one only when the socket is closing and everything is sent.
                let Some(frames) = frames else { return };
                core.room.notify_waiters();
                let sent = group.open.socket.send(message(frames, None));
                let sent = tokio::time::timeout(core.options.slow_consumer_timeout, sent).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            event = group.monitor.next() => {
                if !group.take_notice(&core, event) {
                    return;
                }
            }
            _ = look.tick() => {
                if !group.look(&core) {
                    return;
                }
            }
        }
    }
    // Whoever stopped reading, all peers of this socket lose their connection.
    for _ in &group.names {
        core.peer_went();
    }
}

impl Core {
    fn take_notice_of_subscription(&self, id: u64, message: ZmqMessage) {
        let Some(frame) = message.get(0).filter(|_| message.len() == 1) else {
            return;
        };
        let mut state = self.state();
        let Some(queue) = state.queues.iter_mut().find(|queue| queue.id == id) else {
            return;
        };
        match frame.first() {
            Some(1) => {
                let prefix = frame.slice(1..);
                queue.prefixes.push(prefix.clone());
                state.tell(SubscriptionEvent::Added(id, prefix, Instant::now()));
            }
            Some(0) => {
                let prefix = frame.slice(1..);
                if let Some(position) = queue.prefixes.iter().position(|known| *known == prefix) {
                    queue.prefixes.swap_remove(position);
                    state.tell(SubscriptionEvent::Removed(id, prefix));
                }
            }
            _ => {}
        }
    }
}

/// PULL, bound.
async fn receive_from_all(core: Arc<Core>, _bound: Bound, mut open: Open<PullSocket>) {
    let mut monitor = open.socket.monitor();
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => break,
            Some(event) = monitor.next() => core.take_notice(&event),
            // An error is that of one peer, which the crate drops.
            _ = core.receive(&mut open.socket) => {}
        }
    }
    open.socket.unbind_all().await;
}

/// ROUTER, bound.
async fn route(
    core: Arc<Core>,
    _bound: Bound,
    mut open: Open<RouterSocket>,
    mut outbox: mpsc::UnboundedReceiver<ZmqMessage>,
) {
    let mut monitor = open.socket.monitor();
    let (mut sender, mut receiver) = open.socket.split();
    loop {
        tokio::select! {
            biased;
            Some(event) = monitor.next() => {
                core.take_notice(&event);
                if let SocketEvent::Disconnected(name) = event {
                    core.state().routes.remove(&name[..]);
                }
            }
            message = outbox.recv() => match message {
                // An error says that the peer has gone.
                Some(message) => drop(sender.send(message).await),
                // The socket is closing and everything is sent.
                None => break,
            },
            _ = core.receive(&mut receiver) => {}
        }
    }
    drop((sender, receiver));
    open.end.written(1).await;
}

/// What belongs to an address that is connected to, over all connections to it.
struct Line {
    sender: mpsc::Sender<Frames>,
    queue: mpsc::Receiver<Frames>,
    /// What the crate did not take.
    returned: Option<Frames>,
    wanted: BTreeSet<Bytes>,
    changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    under_way: Arc<Semaphore>,
}

impl Line {
    fn new(
        queue_len: usize,
        wanted: BTreeSet<Bytes>,
        changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(queue_len);
        let under_way = Arc::new(Semaphore::new(queue_len.min(UNDER_WAY)));
        Self {
            sender,
            queue,
            returned: None,
            wanted,
            changes,
            under_way,
        }
    }

    /// Sends what comes until the connection ends, which is an error, or until everything is sent
    /// when the socket is closing. Dropping this future loses nothing.
    async fn send_all(&mut self, core: &Core, socket: &mut impl SocketSend) -> Result<(), Failure> {
        loop {
            let permit = self
                .under_way
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| Failure)?;
            let frames = match self.returned.take() {
                Some(frames) => frames,
                None => tokio::select! {
                    biased;
                    Some(frames) = self.queue.recv() => frames,
                    () = core.closing.cancelled() => return Ok(()),
                },
            };
            core.room.notify_waiters();
            // Never waits: the permits are fewer than the places in the crate's queue.
            let sent = socket.send(message(frames.clone(), Some(permit))).await;
            if sent.is_err() {
                self.returned = Some(frames);
                return Err(Failure);
            }
        }
    }

    /// Takes over one change of what is wanted.
    fn change(&mut self, (prefix, wanted): (Bytes, bool)) -> ZmqMessage {
        let mut frame = BytesMut::with_capacity(1 + prefix.len());
        frame.put_u8(wanted.into());
        frame.put_slice(&prefix);
        if wanted {
            self.wanted.insert(prefix);
        } else {
            self.wanted.remove(&prefix);
        }
        frame.freeze().into()
    }
}

/// Connects to an address, again and again.
async fn keep_connected(core: Arc<Core>, address: Address, mut line: Line) {
    let (shortest, longest) = core.options.reconnect;
    let mut pause = shortest;
    loop {
        let connected = match core.kind {
            Kind::Push => push(&core, &address, &mut line).await,
            Kind::Pull => pull(&core, &address).await,
            Kind::Subscribe => subscribe(&core, &address, &mut line).await,
            Kind::Dealer => deal(&core, &address, &mut line).await,
            Kind::Publish | Kind::Router => return,
        };
        if core.closing.is_cancelled() && line.queue.is_empty() {
            return;
        }
        pause = if connected {
            shortest
        } else {
            (pause * 2).min(longest)
        };
        // Ends do not all come back at the same moment.
        let jitter = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        tokio::select! {
            () = tokio::time::sleep(pause + pause * jitter / 1024) => {}
            () = core.closing.cancelled(), if line.queue.is_empty() => return,
        }
    }
}

/// Connects one socket; `None` when that takes too long or nobody is there.
async fn connect<'a, S: zeromq::Socket>(
    core: &'a Core,
    address: &Address,
    socket: &mut S,
    line_is_empty: bool,
) -> Option<Connected<'a>> {
    // The crate tries again when nobody is there, after 50 ms and then ever more rarely: it begins
    // anew before that takes too long.
    let timeout = (core.options.reconnect.1 * 2).min(core.options.handshake_timeout);
    let address = address.to_string();
    tokio::select! {
        connected = tokio::time::timeout(timeout, socket.connect(&address)) => {
            connected.ok()?.ok()?;
        }
        () = core.closing.cancelled(), if line_is_empty => return None,
    }
    core.peer_came();
    Some(Connected(core))
}

/// Counts a peer as connected while it lives.
struct Connected<'a>(&'a Core);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.peer_went();
    }
}

async fn disconnected(monitor: &mut (impl futures_core::Stream<Item = SocketEvent> + Unpin)) {
    while let Some(event) = monitor.next().await {
        if let SocketEvent::Disconnected(_) = event {
            return;
        }
    }
}

/// PUSH, connecting. Like all of these, says in the end whether it was connected.
async fn push(core: &Arc<Core>, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<PushSocket>::new();
    let mut monitor = open.socket.monitor();
    let connected = connect(core, address, &mut open.socket, line.queue.is_empty()).await;
    let Some(_connected) = connected else {
        return false;
    };
    let entered = core.enter(line.sender.clone());
    let drained = tokio::select! {
        biased;
        () = disconnected(&mut monitor) => false,
        sent = line.send_all(core, &mut open.socket) => sent.is_ok(),
    };
    drop(entered);
    if drained {
        drop(open.socket);
        open.end.written(1).await;
    }
    true
}

/// PULL, connecting.
async fn pull(core: &Core, address: &Address) -> bool {
    let mut open = Open::<PullSocket>::new();
    let mut monitor = open.socket.monitor();
    let Some(_connected) = connect(core, address, &mut open.socket, true).await else {
        return false;
    };
    tokio::select! {
        biased;
        () = core.closing.cancelled() => {}
        () = async { while core.receive(&mut open.socket).await.is_ok() {} } => {}
        () = disconnected(&mut monitor) => {}
    }
    true
}

/// SUB: the crate's XSUB, for the sake of topics that are no text.
async fn subscribe(core: &Core, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<XSubSocket>::new();
    let mut monitor = open.socket.monitor();
    while let Ok(change) = line.changes.try_recv() {
        line.change(change);
    }
    for prefix in line.wanted.clone() {
        // The crate keeps these for the peer that it connects to.
        let _ = open.socket.send(line.change((prefix, true))).await;
    }
    let Some(_connected) = connect(core, address, &mut open.socket, true).await else {
        return false;
    };
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => return true,
            Some(change) = line.changes.recv() => {
                if open.socket.send(line.change(change)).await.is_err() {
                    return true;
                }
            }
            received = core.receive(&mut open.socket) => {
                if received.is_err() {
                    return true;
                }
            }
            () = disconnected(&mut monitor) => return true,
        }
    }
}

/// DEALER.
async fn deal(core: &Arc<Core>, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<DealerSocket>::new();
    let mut monitor = open.socket.monitor();
    let connected = connect(core, address, &mut open.socket, line.queue.is_empty()).await;
    let Some(_connected) = connected else {
        return false;
    };
    let (mut sender, mut receiver) = open.socket.split();
    let entered = core.enter(line.sender.clone());
    let drained = tokio::select! {
        biased;
        () = async { while core.receive(&mut receiver).await.is_ok() {} } => false,
        sent = line.send_all(core, &mut sender) => sent.is_ok(),
        () = disconnected(&mut monitor) => false,
    };
    drop((entered, sender, receiver));
    if drained {
        open.end.written(1).await;
    }
    true
}
