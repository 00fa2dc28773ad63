//! [`Peer`]: a connection, as the rest of its socket sees it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::table::{self, Activity};
use crate::clock;
use crate::socket::{Frames, TrySendError};

/// Messages for which an idle connection keeps a buffer.
const MAX_IDLE_CAPACITY: usize = 16;

/// A connection, as the rest of the socket sees it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Unique in the process.
    pub(super) number: u64,
    /// The time of the connection.
    pub(super) connected: Instant,
    pub(super) activity: Activity,
    /// The routing id, once the peer has completed its handshake.
    pub(super) routing_id: Mutex<Option<Bytes>>,
    outbox: Mutex<Outbox>,
    /// Notified when a full queue of a peer has capacity again.
    has_capacity: Arc<Notify>,
    /// Notified when the task of the connection has something to do.
    pub(super) wake: Arc<Notify>,
    /// Orders the task of the connection to end at once.
    pub(super) closed: CancellationToken,
}

/// Messages to a peer.
#[derive(Debug, Default)]
struct Outbox {
    messages: VecDeque<Frames>,
    /// The time at which a message has found no capacity, or the last one at which some of the output was written since.
    full_since: Option<Instant>,
    is_closing: bool,
}

/// Why a peer may not send messages after its handshake, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("the socket is closed")]
    Closed,
    #[error("another peer has this routing id")]
    RoutingIdInUse,
    #[error("its subscriptions need too much memory")]
    TooManySubscriptions,
}

impl table::Connection for Peer {
    fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Peer {
    pub(super) fn new(has_capacity: Arc<Notify>, closed: CancellationToken) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            connected: clock::now(),
            activity: Activity::default(),
            routing_id: Mutex::default(),
            outbox: Mutex::default(),
            has_capacity,
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
        if !batch.is_empty() && outbox.full_since.take().is_some() {
            self.has_capacity.notify_waiters();
        }
        if outbox.messages.capacity() > MAX_IDLE_CAPACITY && outbox.messages.is_empty() {
            outbox.messages = VecDeque::new();
        }
        outbox.is_closing && outbox.messages.is_empty()
    }

    /// Queues a message, unless there are `queue_len`.
    pub(super) fn queue(
        &self,
        frames: Frames,
        queue_len: usize,
    ) -> Result<(), TrySendError<Frames>> {
        let mut outbox = lock(&self.outbox);
        if outbox.has_capacity(queue_len) {
            self.push(outbox, frames);
            Ok(())
        } else {
            Err(TrySendError::Full(frames))
        }
    }

    /// Queues a message, however many there are.
    pub(super) fn queue_any(&self, frames: Frames) {
        self.push(lock(&self.outbox), frames);
    }

    fn push(&self, mut outbox: MutexGuard<'_, Outbox>, frames: Frames) {
        outbox.messages.push_back(frames);
        let is_first = outbox.messages.len() == 1;
        drop(outbox);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Returns whether another message may be queued. If not, its sender waits.
    pub(super) fn has_capacity(&self, queue_len: usize) -> bool {
        lock(&self.outbox).has_capacity(queue_len)
    }

    /// Returns since when a message has waited for capacity while nothing was written.
    pub(super) fn full_since(&self) -> Option<Instant> {
        lock(&self.outbox).full_since
    }

    /// Some of the output was written.
    pub(super) fn note_written(&self) {
        if let Some(since) = &mut lock(&self.outbox).full_since {
            *since = clock::now();
        }
    }

    /// Returns the messages that are not encoded, for another peer.
    pub(super) fn take_unsent(&self) -> VecDeque<Frames> {
        std::mem::take(&mut lock(&self.outbox).messages)
    }

    pub(super) fn queued_output(&self) -> usize {
        lock(&self.outbox).messages.len()
    }

    pub(super) fn close_output(&self) {
        lock(&self.outbox).is_closing = true;
        self.wake.notify_one();
    }
}

impl Outbox {
    fn has_capacity(&mut self, queue_len: usize) -> bool {
        let has_capacity = self.messages.len() < queue_len;
        if !has_capacity {
            self.full_since.get_or_insert_with(clock::now);
        }
        has_capacity
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
