//! [`Outlet`]: the end of a route at which a part sends its messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Envelope;
use crate::clock;
use crate::fair_queue::{Flow, FlowKey};
use crate::flow::flow_of;
use crate::message::Message;
use crate::queue::{self, Releases};
use crate::stop::Stop;

/// The sending end of the queue of the part that a part is routed to.
#[derive(Debug, Clone)]
pub struct Outlet {
    pub(crate) route: Option<queue::Sender<Envelope>>,
    pub(crate) failures: Option<queue::Sender<Envelope>>,
    pub(crate) block: bool,
    pub(crate) log: bool,
    pub(crate) part: Arc<str>,
    pub(crate) remaining: Option<Arc<AtomicU64>>,
    pub(crate) stop: Stop,
}

/// The router's answer if the outbound part does not answer.
const NO_ANSWER: Bytes = Bytes::from_static(b"1");

impl Outlet {
    /// Sends one message, waiting while the queue is full, and returns the router's answer.
    ///
    /// If the route is registered with `block`, waits for the answer of the outbound part. Otherwise the answer is `1`.
    /// Without a route the message is dropped.
    pub async fn send(&self, message: Message) -> Bytes {
        self.send_since(message, clock::now()).await
    }

    /// Sends a message that was received or created at `since`, as [`send`](Self::send) does.
    pub(crate) async fn send_since(&self, message: Message, since: Instant) -> Bytes {
        let flow = flow_of(&message);
        self.send_in(message, flow, since).await
    }

    /// Sends a message of a known flow, as [`send_since`](Self::send_since) does.
    pub(crate) async fn send_in(&self, message: Message, flow: Flow, since: Instant) -> Bytes {
        if self.log {
            tracing::debug!(part = &*self.part, ?message, "message");
        }
        let Some(route) = &self.route else {
            return NO_ANSWER;
        };
        let (feedback, answer) = if self.block {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let envelope = Envelope {
            feedback,
            ..Envelope::new(message, flow, since)
        };
        if route.send(envelope).await.is_err() {
            self.warn_of_loss(1);
            return Bytes::new();
        }
        match answer {
            // The sender is dropped without an answer if the message has no result.
            Some(answer) => answer.await.unwrap_or_default(),
            None => NO_ANSWER,
        }
    }

    /// Sends a message with an error in it along the route for failures or, if there is none, along the ordinary route,
    /// whose parts forward it unchanged.
    pub(crate) async fn send_failed(&self, mut message: Message, flow: Flow, since: Instant) {
        let route = match (&self.failures, &self.route) {
            (Some(failures), _) => failures,
            // A publisher delivers an error to the client of the message.
            (None, Some(route)) if !message.client().is_empty() => route,
            _ => return,
        };
        message.end_with_error();
        let envelope = Envelope {
            gathers: false,
            ..Envelope::new(message, flow, since)
        };
        self.send_on(route, envelope).await;
    }

    /// Sends a message that [`is_done`](Message::is_done) along the ordinary route, so that it stays in order after the
    /// messages that were sent before it.
    pub(crate) async fn send_done(&self, envelope: Envelope) {
        if let Some(route) = self.route.as_ref().or(self.failures.as_ref()) {
            self.send_on(route, envelope).await;
        }
    }

    async fn send_on(&self, route: &queue::Sender<Envelope>, envelope: Envelope) {
        if route.send(envelope).await.is_err() {
            self.warn_of_loss(1);
        }
    }

    /// Sends all messages, waiting for capacity. An outlet that waits for answers must use [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Messages that were not sent remain in `envelopes`.
    pub(crate) async fn send_all(&self, envelopes: &mut Vec<Envelope>) {
        if envelopes.is_empty() {
            return;
        }
        self.log_all(envelopes);
        let sent = match &self.route {
            Some(route) => route.send_all(envelopes).await,
            None => Ok(()),
        };
        if sent.is_err() {
            self.warn_of_loss(envelopes.len());
        }
        envelopes.clear();
    }

    /// Sends the messages whose flows have capacity, in the order of each flow. The others remain in `envelopes`; retry
    /// when [`released`](Self::released) returns.
    pub(crate) fn try_send_all(&self, envelopes: &mut Vec<Envelope>) -> Option<Releases> {
        let Some(route) = &self.route else {
            envelopes.clear();
            return None;
        };
        match route.try_send(envelopes) {
            Ok(releases) => Some(releases),
            Err(queue::Closed) => {
                self.warn_of_loss(envelopes.len());
                envelopes.clear();
                None
            }
        }
    }

    /// Returns the capacity for messages of a flow; unlimited without a route.
    pub(crate) fn capacity(&self, flow: FlowKey) -> (usize, Option<Releases>) {
        match &self.route {
            Some(route) => {
                let (capacity, releases) = route.free_capacity(flow);
                (capacity, Some(releases))
            }
            None => (usize::MAX, None),
        }
    }

    /// Waits until the queue has released messages after `since` was read. Cancel safe.
    pub(crate) async fn released(&self, since: Option<Releases>) {
        match (&self.route, since) {
            (Some(route), Some(since)) => route.released(since).await,
            _ => std::future::pending().await,
        }
    }

    /// Returns the capacity of the queue in messages.
    pub(crate) fn limit(&self) -> usize {
        self.route.as_ref().map_or(usize::MAX, queue::Sender::limit)
    }

    pub(crate) fn log_all(&self, envelopes: &[Envelope]) {
        debug_assert!(!self.block, "answers would be lost");
        if self.log {
            for Envelope { message, .. } in envelopes {
                tracing::debug!(part = &*self.part, ?message, "message");
            }
        }
    }

    /// Returns whether a batch of `messages` messages can be sent without splitting it.
    pub(crate) fn can_send_batch(&self, messages: usize) -> bool {
        !self.log && !self.block && self.has_route() && messages <= self.limit() / 2
    }

    fn warn_of_loss(&self, messages: usize) {
        // The downstream part has failed, so the component stops and reports the cause.
        let part = &*self.part;
        tracing::warn!(
            part,
            messages,
            "dropping messages: the downstream part has ended"
        );
    }

    /// Returns whether the part has a route.
    pub fn has_route(&self) -> bool {
        self.route.is_some()
    }

    /// Returns whether the downstream part has ended, so that messages would be dropped.
    pub fn is_closed(&self) -> bool {
        self.route.as_ref().is_some_and(queue::Sender::is_closed)
    }

    /// Waits until the part should stop. Cancel safe.
    pub async fn stopped(&self) {
        self.stop.stopped().await;
    }

    /// Returns how many more messages the component accepts before it stops by itself.
    pub(crate) fn remaining(&self) -> usize {
        let left = self
            .remaining
            .as_ref()
            .map(|left| left.load(Ordering::Relaxed));
        left.map_or(usize::MAX, |left| {
            usize::try_from(left).unwrap_or(usize::MAX)
        })
    }

    /// Deducts up to `wanted` messages from those [`remaining`](Self::remaining), and returns their number. Stops the
    /// component when none remain.
    pub(crate) fn take_remaining(&self, wanted: usize) -> usize {
        let Some(left) = &self.remaining else {
            return wanted;
        };
        let wanted = wanted as u64;
        let before = left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(wanted))
            })
            .unwrap_or(0);
        if before <= wanted {
            self.stop.token.cancel();
        }
        before.min(wanted) as usize
    }
}
