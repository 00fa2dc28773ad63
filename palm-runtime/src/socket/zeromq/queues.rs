//! The queues from which sockets of the crate take what they send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::native::message;
use super::{Kind, SocketCore, SocketState};
use crate::socket::backend::SubscriptionEvent;
use crate::socket::{Frames, TrySendError};

#[derive(Debug)]
pub(super) struct PeerQueue {
    pub(super) id: u64,
    pub(super) sender: mpsc::Sender<Frames>,
    /// The subscriptions of PUB's peer.
    pub(super) prefixes: Vec<Bytes>,
}

impl SocketCore {
    /// Lets messages come to a queue, as long as the result lives.
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

/// The place of a queue among those that can be sent to.
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
        // Who waited for this queue must look for another one.
        self.core.capacity.notify_waiters();
    }
}

impl SocketState {
    pub(super) fn try_enqueue(&mut self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        if self.enqueue_left_over() {
            self.enqueue(frames).map_err(TrySendError::Full)
        } else {
            Err(TrySendError::Full(frames))
        }
    }

    /// What is left over goes first; says whether nothing of it is left.
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

    /// For all who want it, or for none.
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

    pub(super) fn try_route(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
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
}
