//! What the tasks of a socket share: its connections, and what they have received.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::kind::Kind;
use super::buffers::Buffers;
use super::inbox::Inbox;
use super::table::{self, Activity, Table};
use crate::clock;
use crate::log_limit::LimitLog;
use crate::socket::{Address, Frames, SocketClosed, SocketOptions, TrySendError};

/// Messages for which an idle connection keeps a buffer.
const MAX_IDLE_CAPACITY: usize = 16;

/// Departures that are kept for a user that is slow.
const MAX_DEPARTURES: usize = 4096;

/// What the tasks of a socket share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) kind: Kind,
    pub(super) options: SocketOptions,
    opened: Instant,
    pub(super) table: Mutex<Table<Peer>>,
    /// The peers of a ROUTER by routing id.
    routes: Mutex<HashMap<Bytes, Arc<Peer>>>,
    /// The peer that a DEALER is connected to.
    server: Mutex<Option<Arc<Peer>>>,
    /// Orders the tasks that connect to each address to end.
    pub(super) connections: Mutex<HashMap<Address, CancellationToken>>,
    pub(super) inbox: Inbox,
    pub(super) buffers: Arc<Buffers>,
    pub(super) peers: watch::Sender<PeerCount>,
    pub(super) departed: broadcast::Sender<Bytes>,
    /// Orders tasks to send their queued messages and end.
    pub(super) closing: CancellationToken,
    /// Orders tasks to end at once.
    pub(super) killed: CancellationToken,
    pub(super) tasks: TaskTracker,
    log: Mutex<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    replaced: LimitLog,
    stalled: LimitLog,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerCount {
    pub(super) count: usize,
    pub(super) generation: u64,
}

/// A connection, as the rest of the socket sees it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Unique in the process.
    pub(super) number: u64,
    pub(super) activity: Activity,
    /// The routing id, once the peer has completed its handshake.
    routing_id: Mutex<Option<Bytes>>,
    outbox: Mutex<Outbox>,
    /// Notified when a full outbox has capacity again.
    has_capacity: Notify,
    /// Notified when the task of the connection has something to do.
    pub(super) wake: Arc<Notify>,
    /// Orders the task of the connection to end at once.
    pub(super) closed: CancellationToken,
}

/// Messages to a peer.
#[derive(Debug, Default)]
struct Outbox {
    messages: VecDeque<Frames>,
    /// Set when a message has found no capacity.
    is_full: bool,
    is_closing: bool,
}

/// Why a peer may not send messages after its handshake.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("the socket is closed")]
    Closed,
    #[error("another peer has this routing id")]
    RoutingIdInUse,
}

impl table::Connection for Peer {
    fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Peer {
    pub(super) fn new(closed: CancellationToken) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            activity: Activity::default(),
            routing_id: Mutex::default(),
            outbox: Mutex::default(),
            has_capacity: Notify::new(),
            wake: Arc::default(),
            closed,
        }
    }

    /// Moves queued messages to `batch`, up to one after the first `bytes`. Returns whether the socket is closing and the
    /// queue is empty.
    pub(super) fn take_output(&self, batch: &mut Vec<Frames>, bytes: usize) -> bool {
        let mut outbox = lock(&self.outbox);
        let mut taken = 0;
        while taken <= bytes
            && let Some(frames) = outbox.messages.pop_front()
        {
            taken += frames.iter().map(Bytes::len).sum::<usize>();
            batch.push(frames);
        }
        if std::mem::take(&mut outbox.is_full) {
            self.has_capacity.notify_waiters();
        }
        if outbox.messages.capacity() > MAX_IDLE_CAPACITY && outbox.messages.is_empty() {
            outbox.messages = VecDeque::new();
        }
        outbox.is_closing && outbox.messages.is_empty()
    }

    /// Queues a message, unless there are `queue_len`.
    fn queue(&self, frames: Frames, queue_len: usize) -> Result<(), TrySendError<Frames>> {
        let mut outbox = lock(&self.outbox);
        if outbox.messages.len() >= queue_len {
            outbox.is_full = true;
            return Err(TrySendError::Full(frames));
        }
        outbox.messages.push_back(frames);
        let is_first = outbox.messages.len() == 1;
        drop(outbox);
        if is_first {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(super) fn queued_output(&self) -> usize {
        lock(&self.outbox).messages.len()
    }

    fn close_output(&self) {
        lock(&self.outbox).is_closing = true;
        self.wake.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        let departures = match kind {
            Kind::Router => MAX_DEPARTURES,
            _ => 1,
        };
        let queue_len = usize::try_from(options.queue_len).unwrap_or(usize::MAX);
        Self {
            kind,
            options: options.clone(),
            opened: clock::now(),
            table: Mutex::new(Table::new(options.max_connections, options.max_handshakes)),
            routes: Mutex::default(),
            server: Mutex::default(),
            connections: Mutex::default(),
            inbox: Inbox::new(queue_len.max(1)),
            buffers: Arc::default(),
            peers: watch::Sender::default(),
            departed: broadcast::Sender::new(departures),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            log: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        clock::since(self.opened)
    }

    pub(super) fn queue_len(&self) -> usize {
        usize::try_from(self.options.queue_len).unwrap_or(usize::MAX)
    }

    pub(super) fn is_open(&self) -> Result<(), SocketClosed> {
        if self.closing.is_cancelled() || self.options.kill.is_ordered() {
            Err(SocketClosed)
        } else {
            Ok(())
        }
    }

    /// Queues a message for the peer of a DEALER, or for the peer of a ROUTER that the first frame names. A ROUTER drops
    /// a message that names no peer.
    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.is_open()?;
        let peer = match self.kind {
            Kind::Dealer => lock(&self.server).clone(),
            _ => {
                let routes = lock(&self.routes);
                frames.first().and_then(|id| routes.get(id).cloned())
            }
        };
        match peer {
            Some(peer) => peer.queue(frames, self.queue_len()),
            None if self.kind == Kind::Dealer => Err(TrySendError::Full(frames)),
            None => Ok(()),
        }
    }

    /// Queues a message for the peer of a DEALER, once it is connected and has capacity. Cancel safe.
    pub(super) async fn send(&self, mut frames: Frames) -> Result<(), SocketClosed> {
        let mut peers = self.peers.subscribe();
        loop {
            let peer = lock(&self.server).clone();
            // It receives notifications from here on.
            let capacity = peer.as_ref().map(|peer| peer.has_capacity.notified());
            frames = match self.try_send(frames) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(frames)) => frames,
                Err(TrySendError::Closed(closed)) => return Err(closed),
            };
            let has_capacity = async {
                match capacity {
                    Some(notified) => notified.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = has_capacity => {}
                _ = peers.changed() => {}
                () = self.closing.cancelled() => return Err(SocketClosed),
            }
        }
    }

    /// Begins to close: connections send their queued messages and end.
    pub(super) fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        for peer in lock(&self.table).iter() {
            peer.close_output();
        }
    }

    /// Ends all connections.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    pub(super) fn log_replaced(&self, reason: &str) {
        if let Some(times) = lock(&self.log).replaced.record(clock::now()) {
            tracing::warn!(
                times,
                reason,
                max_connections = self.options.max_connections,
                max_handshakes = self.options.max_handshakes,
                "closing connections: the socket has `SocketOptions::max_connections`"
            );
        }
    }

    pub(super) fn log_stalled(&self, peer: &str) {
        if let Some(times) = lock(&self.log).stalled.record(clock::now()) {
            tracing::warn!(
                peer,
                times,
                max_receive_bytes = self.options.max_receive_bytes,
                "closing connections that stopped within a message while others wait for memory"
            );
        }
    }

    /// Registers a peer that has completed its handshake. Returns the first frame of its messages.
    pub(super) fn introduce(
        &self,
        peer: &Arc<Peer>,
        chosen: Bytes,
    ) -> Result<Option<Bytes>, Rejected> {
        if self.closing.is_cancelled() {
            return Err(Rejected::Closed);
        }
        let id = if chosen.is_empty() {
            // A zero, and the number of the connection.
            std::iter::once(0)
                .chain(peer.number.to_be_bytes())
                .collect()
        } else {
            chosen
        };
        match self.kind {
            Kind::Router => {
                let mut routes = lock(&self.routes);
                let Entry::Vacant(route) = routes.entry(id.clone()) else {
                    // A peer that has connected again tries until its former connection has ended.
                    return Err(Rejected::RoutingIdInUse);
                };
                route.insert(peer.clone());
            }
            Kind::Dealer => *lock(&self.server) = Some(peer.clone()),
            _ => {}
        }
        *lock(&peer.routing_id) = Some(id.clone());
        peer.activity.set_introduced();
        self.count(1);
        Ok((self.kind == Kind::Router).then_some(id))
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, peer: &Arc<Peer>) {
        lock(&self.table).remove(peer.number);
        self.inbox.end(peer.number);
        let Some(id) = lock(&peer.routing_id).take() else {
            return;
        };
        match self.kind {
            Kind::Router => {
                lock(&self.routes).remove(&id);
                let _ = self.departed.send(id);
            }
            Kind::Dealer => {
                lock(&self.server).take_if(|server| Arc::ptr_eq(server, peer));
            }
            _ => {}
        }
        self.count(-1);
    }

    fn count(&self, change: isize) {
        self.peers.send_modify(|peers| {
            peers.count = peers.count.saturating_add_signed(change);
            peers.generation += 1;
        });
    }
}
