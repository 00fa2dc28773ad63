//! The subscriptions that a PUB receives, and those that a SUB requests.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeromq::ZmqMessage;

use super::{SocketCore, SocketState};
use crate::clock;
use crate::socket::SocketClosed;
use crate::socket::subscriptions::SubscriptionEvent;

/// Maximum number of unread subscription events. Beyond that, all are read again.
pub(super) const MAX_EVENTS: usize = 16 * 1024;

#[derive(Debug)]
pub(in crate::socket) struct SubscriptionEvents {
    pub(super) known: Vec<SubscriptionEvent>,
    pub(super) events: mpsc::Receiver<SubscriptionEvent>,
    pub(super) closing: CancellationToken,
}

impl SubscriptionEvents {
    pub(in crate::socket) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        if let Some(event) = self.known.pop() {
            return Ok(event);
        }
        match self.events.recv().await {
            Some(event) => Ok(event),
            None if self.closing.is_cancelled() => Err(SocketClosed),
            None => Ok(SubscriptionEvent::Missed),
        }
    }

    pub(in crate::socket) fn try_next(&mut self) -> Option<SubscriptionEvent> {
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

impl SocketCore {
    /// Applies a message in which a peer of an XPUB subscribes or unsubscribes.
    pub(super) fn apply_subscription(&self, id: u64, message: ZmqMessage) {
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
                state.send_event(SubscriptionEvent::Added(id, prefix, clock::now()));
            }
            Some(0) => {
                let prefix = frame.slice(1..);
                if let Some(position) = queue.prefixes.iter().position(|known| *known == prefix) {
                    queue.prefixes.swap_remove(position);
                    state.send_event(SubscriptionEvent::Removed(id, prefix));
                }
            }
            _ => {}
        }
    }
}

impl SocketState {
    /// Requests or revokes a subscription on all connections.
    pub(super) fn send_subscription(&self, prefix: &Bytes, wanted: bool) {
        for connection in self.connections.values() {
            let _ = connection.subscriptions.send((prefix.clone(), wanted));
        }
    }

    /// Reports an event. If too many are unread, the channel is closed, which the reader sees as
    /// [`SubscriptionEvent::Missed`].
    pub(super) fn send_event(&mut self, event: SubscriptionEvent) {
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            self.events = None;
        }
    }
}
