//! Handles subscriptions at the PUB socket, and withholds answers while they may be stale.

use bytes::Bytes;
use bytestring::ByteString;

use super::legacy::CallerGeneration;
use super::publisher::Publisher;
use crate::clock;
use crate::discovery::{READY_PREFIX, Readiness};
use crate::socket::{Peers, SocketClosed, SubscriptionChange};

impl Publisher {
    /// Publishes the withheld answers of `topic` to its current subscribers.
    pub(super) async fn publish_withheld(
        &mut self,
        topic: &ByteString,
    ) -> Result<(), SocketClosed> {
        // Without a subscriber they stay pending.
        if !self.subscribers.is_subscribed(topic.as_bytes()) {
            return Ok(());
        }
        for (topic, frame) in self.pending.release(topic.as_bytes()) {
            let recipients = self.subscribers.exact_subscribers(topic.as_bytes());
            let now = clock::now();
            self.resend_buffer.record(now, &topic, &frame, recipients);
            self.publish(topic, frame).await?;
        }
        Ok(())
    }

    pub(super) fn caller_generation(&self) -> CallerGeneration {
        self.component_state.callers.get().map(Peers::generation)
    }

    /// Returns whether the current subscriptions of a topic may be stale, so that its answer has to be withheld.
    pub(super) fn may_be_stale(&self, topic: &ByteString) -> bool {
        let subscribers = self.subscribers.exact_subscribers(topic.as_bytes());
        !subscribers.is_empty()
            && !self.pending.time().is_zero()
            && !self.pending.contains(topic)
            && self
                .stale
                .is_suspect(clock::now(), topic, subscribers, self.caller_generation())
    }

    /// Returns whether publications under `topic` are sent at the PUB socket. Answers to a client with a link are not,
    /// since a subscriber to all topics would receive them.
    pub(super) fn may_leave_by_socket(&self, topic: &str) -> bool {
        self.subscribers.is_subscribed(topic.as_bytes())
            && !(self.links && self.component_state.links.has_client(topic))
    }

    /// Answers a `ready` subscription: `UpstreamConnected` if this component is connected upstream; otherwise
    /// `Subscribed` now, and `UpstreamConnected` later.
    pub(super) async fn send_ready(&mut self, topic: Bytes) -> Result<(), SocketClosed> {
        let ready = if self.component_state.streams.are_in_place() {
            Readiness::UpstreamConnected
        } else {
            self.awaiting_ready.push(topic.clone());
            Readiness::Subscribed
        };
        self.subscribers.send(topic, ready.body()).await
    }

    pub(super) async fn streams_are_in_place(&mut self) -> Result<(), SocketClosed> {
        for topic in std::mem::take(&mut self.awaiting_ready) {
            self.subscribers
                .send(topic, Readiness::UpstreamConnected.body())
                .await?;
        }
        Ok(())
    }

    /// Handles changes of subscriptions at the PUB socket: answers `ready` topics, and publishes pending publications
    /// and missed answers to new subscribers.
    pub(super) async fn handle_subscriptions(&mut self) -> Result<(), SocketClosed> {
        while let Some(change) = self.subscribers.next_change().await? {
            self.direct_topic = None;
            let prefix = match change {
                SubscriptionChange::Added(prefix) => {
                    if prefix.starts_with(READY_PREFIX) {
                        self.send_ready(prefix).await?;
                        continue;
                    }
                    self.was_followed |= prefix == self.name.as_bytes();
                    for (topic, frame) in self.pending.release(&prefix) {
                        self.publish(topic, frame).await?;
                    }
                    prefix
                }
                SubscriptionChange::Removed(prefix) => {
                    self.awaiting_ready.retain(|topic| *topic != prefix);
                    if self.subscribers.exact_subscribers(&prefix).is_empty()
                        && let Ok(topic) = std::str::from_utf8(&prefix)
                    {
                        self.stale.forget(topic);
                    }
                    prefix
                }
            };
            if let [subscriber] = *self.subscribers.exact_subscribers(&prefix) {
                for frame in self.resend_buffer.missed(&prefix, subscriber) {
                    tracing::debug!("resending an answer that went to a stale subscription");
                    self.counters.count(1, frame.len());
                    self.subscribers.send(prefix.clone(), frame).await?;
                }
            }
        }
        Ok(())
    }
}
