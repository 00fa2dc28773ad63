//! Publications without a subscriber: keeps them, expires them, and answers the callers of those that are dropped.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::legacy::STALE_TIMEOUT;
use super::pending::{Publication, Retention};
use super::publisher::Publisher;
use crate::clock;
use crate::failure::CallFailure;
use crate::function::has_next_step;
use crate::message::Message;
use crate::socket::SocketClosed;

/// Time for which a stopping component waits for subscribers of its pending publications.
const LAST_SUBSCRIPTIONS_TIMEOUT: Duration = Duration::from_secs(1);

impl Publisher {
    /// Waits for legacy subscribers of pending publications when the component stops, and drops the rest.
    pub(super) async fn await_last_subscriptions(
        &mut self,
        linger: Duration,
    ) -> Result<(), SocketClosed> {
        let until = tokio::time::Instant::now() + linger.min(LAST_SUBSCRIPTIONS_TIMEOUT);
        while self.subscribers.are_possible() && self.pending.next_expiry().is_some() {
            match tokio::time::timeout_at(until, self.subscribers.changed()).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
            self.handle_subscriptions().await?;
        }
        while let Some(topic) = self.stale.expire(clock::now() + STALE_TIMEOUT) {
            self.publish_withheld(&topic).await?;
        }
        let dropped = self.pending.release(b"");
        self.drop_pending(dropped);
        Ok(())
    }

    pub(super) async fn expire(&mut self) -> Result<(), SocketClosed> {
        let now = clock::now();
        while let Some(topic) = self.stale.expire(now) {
            self.publish_withheld(&topic).await?;
        }
        if let Some(messages) = self.unfollowed.take_warning(now)
            && !self.was_followed
        {
            let name = &self.name;
            tracing::warn!(
                messages,
                "messages with a further step are pending because no component follows `{name}`: start the component of that step with `.follow(..)`"
            );
        }
        let dropped = self.pending.expire(now);
        self.drop_pending(dropped);
        Ok(())
    }

    /// Keeps a publication until its topic has a subscriber.
    pub(super) fn add_pending(&mut self, topic: ByteString, frame: Bytes, retention: Retention) {
        let now = clock::now();
        if retention == Retention::Short {
            self.unfollowed.add(now);
        }
        let dropped = self.pending.push(now, topic, frame, retention);
        if !dropped.is_empty() {
            self.drop_pending(dropped);
        }
    }

    /// Drops publications without a subscriber. The callers of those for a further step receive an error.
    pub(super) fn drop_pending(&mut self, mut dropped: Vec<Publication>) {
        let (mut lost, mut unfollowed) = (0, 0);
        // An error may have to be kept for its client, and other publications dropped for it. Errors are not answered
        // when they are dropped, so the loop ends.
        while let Some((topic, frame)) = dropped.pop() {
            let Some((client, frame)) = self.answer_unfollowed(&topic, frame) else {
                lost += 1;
                continue;
            };
            unfollowed += 1;
            self.counters.count_error();
            if self.has_subscriber(&client) {
                self.linked.push(client, frame.into());
            } else if !self.subscribers.is_subscribed(client.as_bytes()) {
                dropped.extend(
                    self.pending
                        .push(clock::now(), client, frame, Retention::Full),
                );
            } else if self
                .subscribers
                .try_send(client.into_bytes(), frame)
                .is_err()
            {
                lost += 1;
            }
        }
        if lost > 0 {
            self.counters.count_dropped(lost);
            tracing::warn!(
                messages = lost,
                "dropping publications without a subscriber"
            );
        }
        if unfollowed > 0 {
            let name = &self.name;
            tracing::warn!(
                messages = unfollowed,
                "answering messages with a further step with an error: no component follows `{name}`"
            );
        }
    }

    /// Returns the error for the client of a message that no component follows for, with its topic. `None` if the
    /// message was published to its client.
    pub(super) fn answer_unfollowed(&self, topic: &str, frame: Bytes) -> Option<Publication> {
        let mut message = Message::read(frame)?;
        let client = message.client_topic();
        if client.is_empty() || client == topic {
            return None;
        }
        if message.is_done() {
            return Some((client, message.into_frame()));
        }
        let was_at = message.stage().saturating_sub(1);
        if *topic == *self.name && !has_next_step(message.function(), was_at) {
            // The result of a last step, which is for the client if there is no follower.
            message.set_stage(was_at);
            return Some((client, message.into_frame()));
        }
        let name = &self.name;
        let error = format!(
            "no component follows `{topic}`; start the component of that step with `.follow(..)`, or set `.pipelined(false)` for `{name}` if its results are for the client"
        );
        let failure = CallFailure::unavailable(error.into());
        let answer = message.failed(&self.name, &failure);
        Some((client, answer.into_frame()))
    }
}
