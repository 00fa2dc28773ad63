//! The queues between a socket and the tasks of its native sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Kind, SocketCore, SocketState};
use crate::socket::subscriptions::SubscriptionEvent;
use crate::socket::{Frames, TrySendError};

/// The queue of one native socket.
#[derive(Debug)]
pub(super) struct PeerQueue {
    pub(super) id: u64,
    pub(super) sender: mpsc::Sender<Frames>,
    /// The subscriptions of a PUB's peers.
    pub(super) prefixes: Vec<Bytes>,
}

impl SocketCore {
    /// Adds a queue to those that messages are sent to, until the result is dropped.
    pub(super) fn register(self: &Arc<Self>, sender: mpsc::Sender<Frames>) -> QueueRegistration {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if !self.closing.is_cancelled() {
            let prefixes = Vec::new();
            let mut state = self.state();
            state.queues.push_back(PeerQueue {
                id,
                sender,
                prefixes,
            });
            state.enqueue_left_over();
            drop(state);
            self.capacity.notify_waiters();
        }
        QueueRegistration {
            core: self.clone(),
            id,
        }
    }
}

impl SocketCore {
    /// Removes the oldest queue of a PUB whose peer has not subscribed, which closes its connection. Returns whether
    /// there is one.
    pub(super) fn remove_unsubscribed(&self) -> bool {
        let mut state = self.state();
        let is_silent = |queue: &PeerQueue| queue.prefixes.is_empty();
        let silent = state.queues.iter().position(is_silent);
        let silent = silent.filter(|_| self.kind == Kind::Publish);
        silent.is_some_and(|silent| state.queues.remove(silent).is_some())
    }
}

/// Removes its queue when it is dropped.
pub(super) struct QueueRegistration {
    core: Arc<SocketCore>,
    pub(super) id: u64,
}

impl Drop for QueueRegistration {
    fn drop(&mut self) {
        let mut state = self.core.state();
        state.queues.retain(|queue| queue.id != self.id);
        if self.core.kind == Kind::Publish {
            state.send_event(SubscriptionEvent::Gone(self.id));
        }
        drop(state);
        // Senders that waited for this queue try another one.
        self.core.capacity.notify_waiters();
    }
}

impl SocketState {
    /// Queues a message for the next peer with capacity.
    pub(super) fn try_enqueue(&mut self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        if self.enqueue_left_over() {
            self.enqueue(frames).map_err(TrySendError::Full)
        } else {
            Err(TrySendError::Full(frames))
        }
    }

    /// Queues the messages of peers that have left. Returns whether all found a queue.
    pub(super) fn enqueue_left_over(&mut self) -> bool {
        while let Some(frames) = self.left_over.pop_front() {
            if let Err(frames) = self.enqueue(frames) {
                self.left_over.push_front(frames);
                return false;
            }
        }
        true
    }

    fn enqueue(&mut self, mut frames: Frames) -> Result<(), Frames> {
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

    /// Queues a publication for all of its subscribers, or for none if a queue is full.
    pub(super) fn try_publish(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        let topic = &frames[0];
        let mut permits = Vec::new();
        for queue in &self.queues {
            if queue
                .prefixes
                .iter()
                .any(|prefix| topic.starts_with(prefix))
            {
                match queue.sender.try_reserve() {
                    Ok(permit) => permits.push(permit),
                    Err(mpsc::error::TrySendError::Closed(())) => {}
                    Err(mpsc::error::TrySendError::Full(())) => {
                        drop(permits);
                        return Err(TrySendError::Full(frames));
                    }
                }
            }
        }
        for permit in permits {
            permit.send(frames.clone());
        }
        Ok(())
    }
}
