//! [`Peer`]: a connection, as the rest of its socket sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, OutboxState};
use super::table::{self, Activity};
use super::writer::{WriteBy, Writer};
use crate::clock;
use crate::socket::{Frames, TrySendError};

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
    /// `None` unless the connection is open. It is locked before the outbox; senders only try to lock it.
    writer: Mutex<Option<Writer>>,
    keeps_received: AtomicBool,
    /// Notified when a full queue of a peer has capacity again.
    has_capacity: Arc<Notify>,
    /// Notified when the task of the connection has something to do.
    pub(super) wake: Arc<Notify>,
    /// Orders the task of the connection to end at once.
    pub(super) closed: CancellationToken,
}

/// The direction to a peer, which is closed when this is dropped.
pub(super) struct OpenWriter<'a>(&'a Peer);

impl Drop for OpenWriter<'_> {
    fn drop(&mut self) {
        *self.0.writer.lock() = None;
    }
}

impl OpenWriter<'_> {
    /// Locks the writer.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = self.0.writer.lock();
        action(
            writer
                .as_mut()
                .expect("the writer is open until `self` is dropped"),
        )
    }
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
            writer: Mutex::default(),
            keeps_received: AtomicBool::new(false),
            has_capacity,
            wake: Arc::default(),
            closed,
        }
    }

    /// Opens the direction to the peer until the guard is dropped.
    pub(super) fn open_writer(&self, writer: Writer) -> OpenWriter<'_> {
        *self.writer.lock() = Some(writer);
        OpenWriter(self)
    }

    /// Moves queued messages to `batch`, up to one after the first `bytes`. Returns the state of the queue then.
    pub(super) fn take_output(&self, batch: &mut Vec<Frames>, bytes: usize) -> OutboxState {
        let mut outbox = self.outbox.lock();
        if outbox.take(batch, bytes) {
            self.has_capacity.notify_waiters();
        }
        outbox.state()
    }

    /// Queues a message, unless there are `queue_len`. Returns whether the caller has to call [`write_now`](Self::write_now).
    pub(super) fn queue(
        &self,
        frames: Frames,
        queue_len: usize,
        by: WriteBy,
    ) -> Result<bool, TrySendError<Frames>> {
        let mut outbox = self.outbox.lock();
        if !outbox.has_capacity(queue_len) {
            return Err(TrySendError::Full(frames));
        }
        let is_first = outbox.push(frames);
        drop(outbox);
        if is_first && by == WriteBy::Task {
            self.wake.notify_one();
        }
        Ok(is_first && by == WriteBy::Sender)
    }

    /// Queues a message, however many there are.
    pub(super) fn queue_any(&self, frames: Frames) {
        if self.outbox.lock().push(frames) {
            self.wake.notify_one();
        }
    }

    /// Writes the queued messages if the connection is idle, and wakes its task if messages are left.
    pub(super) fn write_now(&self) {
        let is_written = match self.writer.try_lock() {
            Some(mut writer) => writer
                .as_mut()
                .is_some_and(|it| it.write_now(|batch, bytes| self.take_output(batch, bytes))),
            None => false,
        };
        // The task keeps received messages back while the queue is full.
        if !is_written || self.keeps_received.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// Notes whether the task has received messages that are not delivered. It notes this before it reads
    /// [`queued_output`](Self::queued_output): a sender that empties the queue afterwards then wakes the task.
    pub(super) fn set_keeps_received(&self, keeps_received: bool) {
        self.keeps_received.store(keeps_received, Ordering::Release);
    }

    /// Returns whether another message may be queued. If not, its sender waits.
    pub(super) fn has_capacity(&self, queue_len: usize) -> bool {
        self.outbox.lock().has_capacity(queue_len)
    }

    /// Returns since when a message has waited for capacity while nothing was written.
    pub(super) fn full_since(&self) -> Option<Instant> {
        self.outbox.lock().full_since
    }

    /// Some of the output was written.
    pub(super) fn note_written(&self) {
        if let Some(since) = &mut self.outbox.lock().full_since {
            *since = clock::now();
        }
    }

    /// Returns the messages that are not encoded, for another peer.
    pub(super) fn take_unsent(&self) -> VecDeque<Frames> {
        std::mem::take(&mut self.outbox.lock().messages)
    }

    pub(super) fn queued_output(&self) -> usize {
        self.outbox.lock().messages.len()
    }

    pub(super) fn close_output(&self) {
        self.outbox.lock().is_closing = true;
        self.wake.notify_one();
    }
}
