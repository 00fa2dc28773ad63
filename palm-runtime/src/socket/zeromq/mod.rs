//! The backend on the crate `zeromq`, which is faster from 4 KB up, for trusted networks.
//!
//! The crate's sockets do not reconnect, their queues hold 100,000 messages or drop them, and a full queue of one peer
//! blocks the others. A [`Socket`] therefore consists of several sockets of the crate, called native below, each owned by
//! a task:
//!
//! - Only its task sends and receives on a native socket, so futures of users can be dropped at any time. Queues connect
//!   the tasks with the [`Socket`] (`queues`).
//! - Each connected address has a native socket, and a new one after each loss of the connection (`connect`).
//! - A bound PUSH or PUB accepts into one native socket after the other, each for the peers whose handshakes complete
//!   together, usually one (`accept`). A peer that stalls then blocks only its own queue.
//! - A message in a queue of the crate owns a permit, which is released when the message has been written (`native`).
//! - PUB is the crate's XPUB, which waits for slow subscribers and reports subscriptions (`subscriptions`).
//!
//! `tests/conformance/expected.rs` lists the tests that fail because of the crate's interface.

mod accept;
mod bound;
mod connect;
mod native;
mod queues;
mod subscriptions;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeromq::{SocketEvent, SocketRecv};

use self::accept::{accept, publish_to_group, send_to_group};
use self::bound::BoundListener;
use self::connect::{SendQueue, stay_connected};
use self::queues::PeerQueue;
use self::subscriptions::MAX_EVENTS;
pub(super) use self::subscriptions::SubscriptionEvents;
use super::kind::Kind;
use super::options::SocketOptions;
use super::subscriptions::SubscriptionEvent;
use super::{Address, Frames, SocketClosed, TrySendError};
use crate::clock;

/// Time in which tasks may close their listeners, even with a linger of zero.
const MIN_CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A socket that consists of any number of native sockets.
#[derive(Debug)]
pub(super) struct Socket(Arc<SocketCore>);

/// The state that a socket shares with its tasks.
#[derive(Debug)]
struct SocketCore {
    kind: Kind,
    options: SocketOptions,
    state: Mutex<SocketState>,
    /// Notified whenever a queue may have gained capacity.
    capacity: Notify,
    peers: watch::Sender<PeerCount>,
    inbox: mpsc::Sender<Frames>,
    received: Arc<tokio::sync::Mutex<mpsc::Receiver<Frames>>>,
    /// Orders tasks to send their queued messages and end.
    closing: CancellationToken,
    /// Orders tasks to end at once.
    killed: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct SocketState {
    /// The peers of a PUSH or PUB. The first one is next in turn.
    queues: VecDeque<PeerQueue>,
    /// Messages from the queues of disconnected peers.
    left_over: VecDeque<Frames>,
    events: Option<mpsc::Sender<SubscriptionEvent>>,
    connections: HashMap<Address, ConnectTask>,
    /// The subscriptions of a SUB, with the number of times that each was requested.
    wanted: HashMap<Bytes, usize>,
}

/// Disconnections of a ROUTER's peers. Never completes: a ROUTER runs on no backend.
#[derive(Debug)]
pub(super) struct Departures;

impl Departures {
    pub(super) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct ConnectTask {
    cancelled: CancellationToken,
    subscriptions: mpsc::UnboundedSender<(Bytes, bool)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct PeerCount {
    count: usize,
    generation: u64,
}

fn reject_inproc(address: &Address) -> io::Result<()> {
    match address.is_inproc() {
        true => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "`inproc` addresses need `Backend::Omq`",
        )),
        false => Ok(()),
    }
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
        Self(Arc::new(SocketCore {
            kind,
            options: options.clone(),
            state: Mutex::default(),
            capacity: Notify::new(),
            peers: watch::Sender::default(),
            inbox,
            received: Arc::new(tokio::sync::Mutex::new(received)),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        reject_inproc(address)?;
        let (bound, address) = BoundListener::new(address).await?;
        let core = self.0.clone();
        match core.kind {
            Kind::Push => core.clone().spawn(accept(core, bound, send_to_group)),
            Kind::Publish => core.clone().spawn(accept(core, bound, publish_to_group)),
            // Others run on no backend.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(address)
    }

    pub(super) async fn connect(&self, address: &Address) -> io::Result<()> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        reject_inproc(address)?;
        let cancelled = CancellationToken::new();
        let (subscriptions, changes) = mpsc::unbounded_channel();
        let mut state = self.0.state();
        let wanted = state.wanted.keys().cloned().collect();
        let connection = ConnectTask {
            cancelled: cancelled.clone(),
            subscriptions,
        };
        if let Some(old) = state.connections.insert(address.clone(), connection) {
            old.cancelled.cancel();
        }
        drop(state);
        let queue = SendQueue::new(queue_len(&self.0.options), wanted, changes);
        let keep = stay_connected(self.0.clone(), address.clone(), queue);
        self.0.clone().spawn(async move {
            cancelled.run_until_cancelled(keep).await;
        });
        Ok(())
    }

    pub(super) async fn disconnect(&self, address: &Address) -> io::Result<()> {
        if let Some(connection) = self.0.state().connections.remove(address) {
            connection.cancelled.cancel();
        }
        Ok(())
    }

    pub(super) async fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.0.open()?;
        let mut state = self.0.state();
        let count = state.wanted.entry(prefix.clone()).or_default();
        *count += 1;
        if *count == 1 {
            state.send_subscription(&prefix, true);
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
                state.send_subscription(&prefix, false);
            }
        }
        Ok(())
    }

    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.0.open()?;
        let mut state = self.0.state();
        match self.0.kind {
            Kind::Publish => state.try_publish(frames),
            _ => state.try_enqueue(frames),
        }
    }

    pub(super) async fn send(&self, mut frames: Frames) -> Result<(), SocketClosed> {
        loop {
            let mut capacity = std::pin::pin!(self.0.capacity.notified());
            // No notification is missed from here on.
            capacity.as_mut().enable();
            match self.try_send(frames) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(closed)) => return Err(closed),
                Err(TrySendError::Full(returned)) => frames = returned,
            }
            tokio::select! {
                () = capacity => {}
                () = self.0.closing.cancelled() => return Err(SocketClosed),
            }
        }
    }

    pub(super) async fn peers(&self) -> Result<usize, SocketClosed> {
        self.0.open()?;
        Ok(self.0.peers.borrow().count)
    }

    pub(super) fn has_peer(&self) -> bool {
        self.0.peers.borrow().count > 0
    }

    #[expect(clippy::unused_self, reason = "the other backend reports them")]
    pub(super) fn departures(&self) -> Departures {
        Departures
    }

    pub(super) fn peers_generation(&self) -> u64 {
        self.0.peers.borrow().generation
    }

    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        let mut peers = self.0.peers.subscribe();
        tokio::select! {
            biased;
            _ = peers.wait_for(|peers| peers.generation != seen) => Ok(()),
            () = self.0.closing.cancelled() => Err(SocketClosed),
        }
    }

    pub(super) async fn subscription_events(&self) -> Result<SubscriptionEvents, SocketClosed> {
        self.0.open()?;
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let mut state = self.0.state();
        state.events = Some(sender);
        let now = clock::now();
        let added = |queue: &PeerQueue| {
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

    pub(super) async fn close(&self, linger: Duration) {
        self.0.closing.cancel();
        {
            let mut state = self.0.state();
            state.queues.clear();
            state.events = None;
        }
        self.0.tasks.close();
        let linger = linger.max(MIN_CLOSE_TIMEOUT);
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

    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        let Ok(mut received) = self.received.try_lock() else {
            return 0;
        };
        let before = out.len();
        out.extend(std::iter::from_fn(|| received.try_recv().ok()).take(max));
        out.len() - before
    }
}

impl SocketCore {
    fn state(&self) -> MutexGuard<'_, SocketState> {
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

    fn peer_connected(&self) {
        self.peers.send_modify(|peers| {
            peers.count += 1;
            peers.generation += 1;
        });
    }

    fn peer_disconnected(&self) {
        self.peers.send_modify(|peers| {
            peers.count = peers.count.saturating_sub(1);
            peers.generation += 1;
        });
    }

    /// Counts a peer that connected or disconnected.
    fn apply(&self, event: &SocketEvent) {
        match event {
            SocketEvent::Accepted(..) => self.peer_connected(),
            SocketEvent::Disconnected(_) => self.peer_disconnected(),
            _ => {}
        }
    }

    /// Receives one message. Cancel safe: no message is lost.
    async fn receive(&self, socket: &mut (impl SocketRecv + ?Sized)) -> Result<(), ConnectionLost> {
        let Ok(permit) = self.inbox.reserve().await else {
            return Err(ConnectionLost);
        };
        let message = socket.recv().await.map_err(|_| ConnectionLost)?;
        let frames: Frames = message.into_vecdeque().into_iter().collect();
        // The crate has no limit, so the memory was needed once. It is freed here.
        if frames.iter().map(Bytes::len).sum::<usize>() > self.options.max_message_bytes {
            return Err(ConnectionLost);
        }
        permit.send(frames);
        Ok(())
    }
}

/// A connection was closed, or its peer has to be disconnected.
struct ConnectionLost;

fn queue_len(options: &SocketOptions) -> usize {
    usize::try_from(options.queue_len)
        .unwrap_or(usize::MAX)
        .clamp(1, Semaphore::MAX_PERMITS)
}
