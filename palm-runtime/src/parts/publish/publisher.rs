//! [`Publisher`]: finds the topic of each message and publishes it.
//!
//! Messages enter by [`Publisher::publish_message`]. With hooks (`hooks`) they pass [`gather`](Publisher::gather),
//! [`publish_one`](Publisher::publish_one), then [`send`](Publisher::send) and [`publish`](Publisher::publish). Without
//! hooks [`try_send_direct`](Publisher::try_send_direct) is the fast path for consecutive messages to one topic
//! ([`DirectTopic`]), and a batch to one client is published whole. Both collect what is sent over links in a
//! [`LinkQueue`], and [`deliver`](Publisher::deliver) (`links`) sends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::legacy::{LegacySubscribers, ResendBuffer, STALE_TIMEOUT, StaleSubscriptions};
use super::link_queue::LinkQueue;
use super::pending::{PendingPublications, Retention};
use crate::clock;
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::message::{Batch, FramePool, Message};
use crate::method::Hooks;
use crate::metrics::PartCounters;
use crate::part::{BATCH, Envelope};
use crate::socket::{SocketClosed, TrySendError};

/// The outcome of the fast path for a message.
pub(super) enum DirectSend {
    Sent,
    /// The socket has no capacity for it.
    Full(Bytes, Bytes),
    /// The topic needs the general path.
    Other(ByteString, Message),
}

/// A topic whose messages are sent on the fast path, and how.
pub(super) struct DirectTopic {
    topic: ByteString,
    over_links: bool,
    over_socket: bool,
}

/// Counts messages with a further step that were published before the first follower connected.
#[derive(Debug, Default)]
pub(super) struct UnfollowedMessages {
    pub(super) messages: usize,
    /// When to log a warning; `None` if there are no messages, or it was logged.
    pub(super) warning: Option<Instant>,
}

impl UnfollowedMessages {
    /// Time within which a follower that is started at the same time is expected to connect.
    const WARNING_DELAY: Duration = Duration::from_secs(1);

    pub(super) fn add(&mut self, now: Instant) {
        if self.messages == 0 {
            self.warning = Some(now + Self::WARNING_DELAY);
        }
        self.messages += 1;
    }

    pub(super) fn next_warning(&self) -> Option<Instant> {
        self.warning
    }

    /// Returns the number of messages once, when the warning is due.
    pub(super) fn take_warning(&mut self, now: Instant) -> Option<usize> {
        self.warning.take_if(|due| *due <= now)?;
        Some(self.messages)
    }
}

pub(super) struct Publisher {
    /// Whether this part publishes over links.
    pub(super) links: bool,
    /// The deliveries of the current turn over links.
    pub(super) linked: LinkQueue,
    /// The topic of the last message, if the next message to it may use the fast path. Reset whenever subscriptions
    /// or pending publications change.
    pub(super) direct_topic: Option<DirectTopic>,
    pub(super) memory: FramePool,
    /// The `ready` topics of subscribers that wait until this component is connected upstream.
    pub(super) awaiting_ready: Vec<Bytes>,
    pub(super) stale: StaleSubscriptions,
    /// The hooks `gather` and `handle_stream`; `None` if neither is overridden.
    pub(super) hooks: Option<Arc<dyn Hooks>>,
    pub(super) pipelined: Option<bool>,
    pub(super) last_step_to_followers: bool,
    /// Whether a component has ever followed this one.
    pub(super) was_followed: bool,
    pub(super) unfollowed: UnfollowedMessages,
    pub(super) pending: PendingPublications,
    pub(super) resend_buffer: ResendBuffer,
    pub(super) subscribers: LegacySubscribers,
    pub(super) name: ByteString,
    pub(super) context: Arc<ComponentContext>,
    pub(super) component_state: Arc<ComponentState>,
    pub(super) counters: Arc<PartCounters>,
}

impl Publisher {
    /// Returns when [`expire`](Self::expire) has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let expiries = [
            self.pending.next_expiry(),
            self.stale.next_expiry(),
            self.unfollowed.next_warning(),
        ];
        expiries.into_iter().flatten().min()
    }

    /// Publishes messages and batches. Waits until the followers of an earlier run have returned, if one may be for them.
    pub(super) async fn publish_envelopes(
        &mut self,
        envelopes: &mut Vec<Envelope>,
    ) -> Result<(), SocketClosed> {
        let links = &self.component_state.links;
        if self.links
            && links.awaits_resubscriptions()
            && envelopes
                .iter()
                .any(|it| self.may_have_followers(&it.message))
        {
            links.wait_for_resubscriptions().await;
        }
        self.handle_subscriptions().await?;
        for envelope in envelopes.drain(..) {
            let Some(batch) = &envelope.batch else {
                self.publish_envelope(envelope).await?;
                continue;
            };
            if !self.send_batch(&envelope.message, batch) {
                let mut each = Vec::new();
                envelope.split_into(&mut each);
                for envelope in each {
                    self.publish_envelope(envelope).await?;
                }
            }
        }
        Ok(())
    }

    /// Publishes one message, and answers the part that sent it.
    pub(super) async fn publish_envelope(
        &mut self,
        envelope: Envelope,
    ) -> Result<(), SocketClosed> {
        let gathers = envelope.gathers;
        let message = envelope.answer(Bytes::new());
        match gathers {
            true => self.publish_message(message).await,
            false => self.publish_one(message).await,
        }
    }

    /// Runs the hooks on a message and publishes it.
    pub(super) async fn publish_message(&mut self, message: Message) -> Result<(), SocketClosed> {
        if self.hooks.is_some() {
            return self.gather(message).await;
        }
        match self.try_send_direct(message)? {
            DirectSend::Sent => Ok(()),
            DirectSend::Full(topic, frame) => self.subscribers.send(topic, frame).await,
            DirectSend::Other(topic, message) => self.send(topic, message).await,
        }
    }

    /// Publishes a batch, of which `first` is the first message, without splitting it, unless a hook or legacy subscriber
    /// needs its messages. Returns whether it did.
    pub(super) fn send_batch(&mut self, first: &Message, batch: &Batch) -> bool {
        // The messages of a batch have the same steps.
        if self.hooks.is_some() || self.may_have_followers(first) {
            return false;
        }
        let topic = self.client_topic(first);
        let is_linked = |direct: &DirectTopic| direct.over_links && !direct.over_socket;
        if !self.direct_topic(&topic, true).is_some_and(is_linked) {
            return false;
        }
        self.counters.count(batch.len(), batch.bytes());
        self.linked.push(topic, batch.clone());
        true
    }

    /// Returns how to send to `topic` on the fast path; `None` if it needs the general path.
    pub(super) fn direct_topic(
        &mut self,
        topic: &ByteString,
        is_client: bool,
    ) -> Option<&DirectTopic> {
        if self.direct_topic.as_ref().map(|direct| &direct.topic) != Some(topic) {
            let over_socket = self.may_leave_by_socket(topic);
            let over_links = self.has_subscriber(topic);
            let has_subscribers = (over_socket || over_links) && !self.pending.contains(topic);
            let exact = || self.subscribers.exact_subscribers(topic.as_bytes());
            // A subscriber of exactly a client's topic may be a legacy client, whose subscription may be stale.
            if topic.is_empty() || !has_subscribers || is_client && !exact().is_empty() {
                return None;
            }
            self.direct_topic = Some(DirectTopic {
                topic: topic.clone(),
                over_links,
                over_socket,
            });
        }
        self.direct_topic.as_ref()
    }

    /// Publishes a message on the fast path if possible.
    pub(super) fn try_send_direct(&mut self, message: Message) -> Result<DirectSend, SocketClosed> {
        // Messages of the batch before have the topic that was found for its first message.
        let continued = match &self.direct_topic {
            Some(_) if !self.pending.contains(message.client()) => {
                self.linked.continue_batch(message)
            }
            _ => Err(message),
        };
        let Err(message) = continued else {
            return Ok(DirectSend::Sent);
        };
        let goes_on = self.goes_on(&message);
        let topic = self.topic_of(&message, goes_on);
        let Some(direct) = self.direct_topic(&topic, !goes_on) else {
            return Ok(DirectSend::Other(topic, advanced(message, goes_on)));
        };
        let (over_links, over_socket) = (direct.over_links, direct.over_socket);
        let begun = match over_socket {
            true => Err(message),
            false => self
                .linked
                .begin_batch(topic.clone(), i64::from(goes_on), message),
        };
        let Err(message) = begun else {
            return Ok(DirectSend::Sent);
        };
        let message = advanced(message, goes_on);
        let frame = message.into_frame_in(&mut self.memory);
        self.counters.count(1, frame.len());
        if over_links {
            self.linked.push(topic.clone(), frame.clone().into());
        }
        if !over_socket {
            return Ok(DirectSend::Sent);
        }
        match self.subscribers.try_send(topic.into_bytes(), frame) {
            Ok(()) => Ok(DirectSend::Sent),
            Err(TrySendError::Full((topic, frame))) => Ok(DirectSend::Full(topic, frame)),
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Returns whether a message may be published to followers.
    pub(super) fn may_have_followers(&self, message: &Message) -> bool {
        self.pipelined
            .unwrap_or_else(|| self.last_step_to_followers || message.has_next_step())
    }

    /// Returns whether the client of a message receives answers from this component, over a link or at the PUB socket.
    pub(super) fn can_answer(&self, message: &Message) -> bool {
        let client = message.client();
        self.has_subscriber(client) || self.subscribers.is_subscribed(client.as_bytes())
    }

    /// Returns whether the client of a message receives answers from this component over a link.
    pub(super) fn has_client(&self, message: &Message) -> bool {
        self.links && self.component_state.links.has_client(message.client())
    }

    /// Returns whether a message is published to followers, one step further.
    fn goes_on(&self, message: &Message) -> bool {
        self.may_have_followers(message)
            && if message.has_next_step() {
                // An error or end has no use for the next step, and is sent to the client if it can be reached here.
                self.was_followed || !message.is_done() || !self.can_answer(message)
            } else {
                !self.has_client(message)
            }
    }

    fn topic_of(&self, message: &Message, goes_on: bool) -> ByteString {
        match goes_on {
            true => self.name.clone(),
            false => self.client_topic(message),
        }
    }

    /// Returns the topic of a message, and the message as it is published.
    pub(super) fn default_topic(&self, message: Message) -> (ByteString, Message) {
        let goes_on = self.goes_on(&message);
        (self.topic_of(&message, goes_on), advanced(message, goes_on))
    }

    /// Returns the topic of a message to its client.
    pub(super) fn client_topic(&self, message: &Message) -> ByteString {
        match &self.direct_topic {
            Some(direct) if message.is_of(&direct.topic) => direct.topic.clone(),
            _ => message.client_topic(),
        }
    }

    pub(super) async fn send(
        &mut self,
        topic: ByteString,
        message: Message,
    ) -> Result<(), SocketClosed> {
        if topic.is_empty() {
            self.counters.count_dropped(1);
            let function = message.function();
            tracing::warn!(function, "dropping a result: its message names no client");
            return Ok(());
        }
        let is_client = topic == message.client();
        let is_stale = is_client && self.may_be_stale(&topic);
        let retention = match !is_client && topic == self.name && !self.was_followed {
            true if self.can_answer(&message) => Retention::Short,
            _ => Retention::Full,
        };
        let frame = message.into_frame_in(&mut self.memory);
        let has_subscribers =
            self.subscribers.is_subscribed(topic.as_bytes()) || self.has_subscriber(&topic);
        let is_pending = self.pending.contains(&topic) || !has_subscribers;
        if !is_stale && !is_pending {
            return self.publish(topic, frame).await;
        }
        tracing::debug!(%topic, is_stale, "keeping a publication until a subscriber arrives");
        let now = clock::now();
        let len = frame.len();
        if is_stale {
            let until = now + STALE_TIMEOUT.min(self.pending.time());
            self.stale.withhold(until, topic.clone(), len);
        }
        self.direct_topic = None;
        self.add_pending(topic.clone(), frame, retention);
        if !is_stale && self.stale.add_withheld(&topic, len) {
            self.publish_withheld(&topic).await?;
        }
        Ok(())
    }

    pub(super) async fn publish(
        &mut self,
        topic: ByteString,
        frame: Bytes,
    ) -> Result<(), SocketClosed> {
        self.counters.count(1, frame.len());
        let caller_generation = self.caller_generation();
        let recipients = self.subscribers.exact_subscribers(topic.as_bytes());
        if !recipients.is_empty() {
            self.stale
                .record_answer(clock::now(), &topic, recipients, caller_generation);
        }
        if self.has_subscriber(&topic) {
            self.linked.push(topic.clone(), frame.clone().into());
            if self.linked.len() >= BATCH {
                self.deliver().await;
            }
            if !self.may_leave_by_socket(&topic) {
                return Ok(());
            }
        }
        self.subscribers.send(topic.into_bytes(), frame).await
    }
}

/// Returns a message one step further if it goes on to followers.
fn advanced(mut message: Message, goes_on: bool) -> Message {
    if goes_on {
        message.set_stage(message.stage().saturating_add(1));
    }
    message
}
