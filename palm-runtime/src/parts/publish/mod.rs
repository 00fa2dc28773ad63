//! [`PubService`]: publishes results to clients and to the components that follow.
//!
//! The publisher waits in one `select!` for messages, for subscriptions, and for timers. It runs the hooks `gather`
//! and `handle_stream` on each message and finds its topic: the client, or the component's own name if the message has
//! a further step. Publications leave over links ([`LinkPublication`], collected in `linked` and sent by
//! [`Publisher::deliver`]) and, for legacy subscribers, at the PUB socket.
//!
//! A topic without a subscriber has its messages kept ([`PendingPublications`]). Two mechanisms exist only for legacy
//! clients, which reconnect for every call: [`StaleSubscriptions`] withholds answers, and [`ResendBuffer`] repeats
//! them. [`DirectTopic`] is the fast path around all of these for consecutive messages to one topic.
//!
//! A slow subscriber fills its backlog; [`Publisher::deliver`] then waits, which slows down everything upstream,
//! until the link disconnects it as a slow consumer (`link/subscriptions`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::mpsc;

mod legacy;
mod pending;

pub use pending::PendingLimits;

use crate::cancellation::CANCEL_TOPIC;
use crate::component_state::ComponentState;
use crate::context::{ComponentContext, Context};
use crate::discovery::IntoAddress;
use crate::discovery::{READY_PREFIX, Readiness};
use crate::failure::{BoxError, CallFailure, catch_panic};
use crate::function::has_next_step;
use crate::link::{LinkPublication, Subscription, SubscriptionEvent};
use crate::message::{Batch, FramePool, Message, Split};
use crate::method::{Emit, Plain, Shape, State};
use crate::metrics::PartCounters;
use crate::part::{
    BATCH, Binding, Envelope, Inlet, LegacyAddress, OpenError, Outbound, Outlet, Setup,
};
use crate::socket::{Peers, Publish, SocketClosed, SubscriptionChange, TrySendError};
use legacy::{CallerGeneration, ResendBuffer, STALE_TIMEOUT, StaleSubscriptions};
use pending::{PendingPublications, Publication, Retention};

/// An outbound part that publishes each message. Announced as `pub_address`.
///
/// Runs the hooks `gather` and `handle_stream` of `S` first. A message with a further step is published under the
/// component's own name and with the next stage, any other message under its client's id.
///
/// A message whose topic has no subscriber is kept for a while ([`PendingLimits`]). If it is for a further step and no
/// component follows in time, its caller receives an error that says so.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// let server = server.spawn().await?;
/// println!("subscribe at {}", server.address("pub_address").unwrap_or_default());
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PubService<S = Plain> {
    address: LegacyAddress,
    state: Arc<State<S>>,
    pipelined: Option<bool>,
    /// Whether results of a last step are published to followers if `pipelined` is not set.
    last_step_to_followers: bool,
    pending_limits: PendingLimits,
    opened: Option<OpenPubService>,
}

#[derive(Debug)]
struct OpenPubService {
    publish: Publish,
    /// New subscriptions over links; `None` if another part of the component publishes over links.
    followed: Option<mpsc::UnboundedReceiver<SubscriptionEvent>>,
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

impl PubService {
    /// Binds `address`, without hooks.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::with_hooks(address, State::new(Plain))
    }
}

impl<S: Shape> PubService<S> {
    /// Binds `address`, with the hooks `gather` and `handle_stream` of `state`.
    pub fn with_hooks(address: impl IntoAddress, state: Arc<State<S>>) -> Self {
        Self::at(LegacyAddress::given(address.into_address()), state)
    }

    pub(crate) fn at(address: LegacyAddress, state: Arc<State<S>>) -> Self {
        Self {
            address,
            state,
            pipelined: None,
            last_step_to_followers: false,
            pending_limits: PendingLimits::default(),
            opened: None,
        }
    }

    /// Sets whether messages are published to the component's followers (`true`) or to their client (`false`),
    /// whatever steps they have.
    ///
    /// Default: a message with a further step is published to the followers, any other message to its client.
    ///
    /// With `true`, the result of a last step is still sent to its client if that client receives its answers from
    /// this component over a link.
    #[must_use]
    pub fn pipelined(mut self, pipelined: bool) -> Self {
        self.pipelined = Some(pipelined);
        self
    }

    /// Sets [`pipelined`](Self::pipelined), and where results of a last step are published if that is not set.
    pub(crate) fn pipelined_or(
        mut self,
        pipelined: Option<bool>,
        last_step_to_followers: bool,
    ) -> Self {
        self.pipelined = pipelined;
        self.last_step_to_followers = last_step_to_followers;
        self
    }

    /// Sets the bounds of publications that are kept until their topic has a subscriber.
    #[must_use]
    pub fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.pending_limits = limits;
        self
    }
}

impl<S: Shape> Outbound for PubService<S> {
    fn forwards_only(&self) -> bool {
        !S::GATHERS && !S::HANDLES_STREAM
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy("pub_address", &self.address.address)]
    }

    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let publish = Publish::idle(setup.options).await?;
        setup
            .bind_legacy("pub_address", &self.address, publish.peers())
            .await?;
        self.opened = Some(OpenPubService {
            publish,
            followed: setup.shared.links.claim_publications(),
            context: setup.context.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, _: Outlet) -> Result<(), BoxError> {
        let opened = self.opened.expect("a part is opened before it runs");
        let shared = opened.shared.clone();
        let mut followed = opened.followed;
        let mut publisher = Publisher {
            links: followed.is_some(),
            linked: Vec::new(),
            direct_topic: None,
            awaiting_ready: Vec::new(),
            memory: FramePool::default(),
            stale: StaleSubscriptions::default(),
            state: self.state,
            pipelined: self.pipelined,
            last_step_to_followers: self.last_step_to_followers,
            was_followed: false,
            unfollowed: UnfollowedMessages::default(),
            pending: PendingPublications::new(self.pending_limits),
            resend_buffer: ResendBuffer::default(),
            publish: opened.publish,
            name: opened.context.name.as_str().into(),
            context: opened.context,
            shared: opened.shared,
            counters: opened.counters,
        };
        let stop = inlet.stop.clone();
        let mut cancelled = shared.cancellations.relay();
        let mut is_in_place = false;
        let (mut batch, mut each) = (Vec::new(), Vec::new());
        loop {
            let expiries = [
                publisher.pending.next_expiry(),
                publisher.stale.next_expiry(),
                publisher.unfollowed.next_warning(),
            ];
            let expiry = expiries.into_iter().flatten().min();
            let expired = async {
                match expiry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = publisher.publish.changed() => {
                    changed?;
                    publisher.handle_subscriptions().await?;
                }
                Some(news) = next(&mut followed) => match news {
                    SubscriptionEvent::Subscribed(following, _reservation) => publisher.follow(&following).await?,
                    SubscriptionEvent::Undelivered(deliveries) => publisher.undelivered(deliveries),
                },
                () = shared.streams.in_place(), if !is_in_place => {
                    is_in_place = true;
                    shared.links.set_in_place();
                }
                list = cancelled.next() => publisher.publish_cancellations(list).await?,
                count = inlet.recv_groups(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    inlet.yield_to_senders().await;
                    if publisher.links
                        && shared.links.is_settling()
                        && batch.iter().any(|it| publisher.may_have_followers(&it.message))
                    {
                        shared.links.settled().await;
                    }
                    publisher.handle_subscriptions().await?;
                    for envelope in batch.drain(..) {
                        if !publisher.send_group(&envelope) {
                            envelope.split_into(&mut each);
                        }
                        for envelope in each.drain(..) {
                            let gathers = envelope.gathers;
                            let message = envelope.answer(Bytes::new());
                            if gathers {
                                publisher.publish_message(message).await?;
                            } else {
                                publisher.publish_one(message).await?;
                            }
                        }
                    }
                }
                () = shared.streams.in_place(), if !publisher.awaiting_ready.is_empty() => {
                    publisher.streams_are_in_place().await?;
                }
                () = expired => publisher.expire().await?,
                () = stop.expired() => break,
            }
            if stop.within(publisher.deliver()).await.is_none() {
                break;
            }
        }
        if let Some(last) = stop
            .within(publisher.await_last_subscriptions(inlet.linger()))
            .await
        {
            last?;
        }
        let _ = stop.within(publisher.deliver()).await;
        if publisher.pending.next_expiry().is_some() {
            stop.set_incomplete();
        }
        // The close of a session reports what its peer has not acknowledged by then.
        let _ = tokio::time::timeout(stop.flush_time(), shared.links.delivered()).await;
        publisher.publish.close(stop.flush_time()).await;
        Ok(())
    }
}

/// Splits the completion weight of a message among the messages that a hook has made of it for the same client. If
/// there are none, adds a message that reports the whole weight.
fn split_weight(message: &Message, made: &mut Vec<Message>) {
    let Some(share) = message.share() else {
        return;
    };
    let mut split = Split::new(share);
    let is_same = |other: &Message| other.client() == message.client();
    let heirs = made.iter().filter(|other| is_same(other)).count();
    let mut left = heirs;
    for heir in &mut *made {
        if !is_same(heir) {
            heir.set_share(None);
            continue;
        }
        left -= 1;
        let share = if left == 0 {
            split.rest()
        } else {
            split.piece()
        };
        heir.set_share(Some(share));
    }
    if heirs == 0 {
        made.push(message.clone().into_rest(share));
    }
}

/// Waits for the next event of links; for ever if links are served by another part.
async fn next(
    followed: &mut Option<mpsc::UnboundedReceiver<SubscriptionEvent>>,
) -> Option<SubscriptionEvent> {
    match followed {
        Some(followed) => followed.recv().await,
        None => std::future::pending().await,
    }
}

/// How long a component that stops waits for subscribers of its pending publications.
const LAST_SUBSCRIPTIONS_TIMEOUT: Duration = Duration::from_secs(1);

/// The outcome of the fast path for a message.
enum DirectSend {
    Sent,
    /// The socket has no capacity for it.
    Full(Bytes, Bytes),
    /// The topic needs the general path.
    Other(ByteString, Message),
}

/// A topic whose messages are sent on the fast path, and how.
struct DirectTopic {
    topic: ByteString,
    over_links: bool,
    over_socket: bool,
}

/// Counts messages for a further step while no component has ever followed.
#[derive(Debug, Default)]
struct UnfollowedMessages {
    messages: usize,
    /// When to log a warning; `None` if there are no messages, or it was logged.
    warning: Option<Instant>,
}

impl UnfollowedMessages {
    /// How long a component that is started at the same time may take to follow.
    const WARNING_DELAY: Duration = Duration::from_secs(1);

    fn add(&mut self, now: Instant) {
        if self.messages == 0 {
            self.warning = Some(now + Self::WARNING_DELAY);
        }
        self.messages += 1;
    }

    fn next_warning(&self) -> Option<Instant> {
        self.warning
    }

    /// Returns the number of messages once, when the warning is due.
    fn take_warning(&mut self, now: Instant) -> Option<usize> {
        self.warning.take_if(|due| *due <= now)?;
        Some(self.messages)
    }
}

struct Publisher<S> {
    /// Whether this part publishes over links.
    links: bool,
    /// The deliveries of the current turn over links.
    linked: Vec<LinkPublication>,
    /// The topic of the last message, if the next message to it may use the fast path. Reset whenever subscriptions
    /// or pending publications change.
    direct_topic: Option<DirectTopic>,
    memory: FramePool,
    /// The `ready` topics of subscribers that wait until this component is connected upstream.
    awaiting_ready: Vec<Bytes>,
    stale: StaleSubscriptions,
    state: Arc<State<S>>,
    pipelined: Option<bool>,
    last_step_to_followers: bool,
    /// Whether a component has ever followed this one.
    was_followed: bool,
    unfollowed: UnfollowedMessages,
    pending: PendingPublications,
    resend_buffer: ResendBuffer,
    publish: Publish,
    name: ByteString,
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

impl<S: Shape> Publisher<S> {
    /// Runs the hooks on a message and publishes it.
    async fn publish_message(&mut self, message: Message) -> Result<(), SocketClosed> {
        if S::GATHERS || S::HANDLES_STREAM {
            return self.gather(message).await;
        }
        match self.try_send_direct(message)? {
            DirectSend::Sent => Ok(()),
            DirectSend::Full(topic, frame) => self.publish.send(topic, frame).await,
            DirectSend::Other(topic, message) => self.send(topic, message).await,
        }
    }

    /// Publishes a group without splitting it, if no hook or legacy subscriber needs its messages. Returns whether it did.
    fn send_group(&mut self, envelope: &Envelope) -> bool {
        let Some(group) = &envelope.group else {
            return false;
        };
        // The messages of a group have the same steps.
        if S::GATHERS || S::HANDLES_STREAM || self.may_have_followers(&envelope.message) {
            return false;
        }
        let topic = self.client_topic(&envelope.message);
        let is_linked = |direct: &DirectTopic| direct.over_links && !direct.over_socket;
        if !self.direct_topic(&topic, true).is_some_and(is_linked) {
            return false;
        }
        self.counters.count(group.len(), group.bytes());
        let group = Batch::clone(group);
        self.linked.push(LinkPublication { topic, group });
        true
    }

    /// Returns how to send to `topic` on the fast path; `None` if it needs the general path.
    fn direct_topic(&mut self, topic: &ByteString, is_client: bool) -> Option<&DirectTopic> {
        if self.direct_topic.as_ref().map(|direct| &direct.topic) != Some(topic) {
            let over_socket = self.may_leave_by_socket(topic);
            let over_links = self.has_subscriber(topic);
            let has_subscribers = (over_socket || over_links) && !self.pending.contains(topic);
            let exact = || self.publish.exact_subscribers(topic.as_bytes());
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
    fn try_send_direct(&mut self, message: Message) -> Result<DirectSend, SocketClosed> {
        let (topic, message) = self.default_topic(message);
        let is_client = topic == message.client();
        let Some(direct) = self.direct_topic(&topic, is_client) else {
            return Ok(DirectSend::Other(topic, message));
        };
        let (over_links, over_socket) = (direct.over_links, direct.over_socket);
        let frame = message.into_frame_in(&mut self.memory);
        self.counters.count(1, frame.len());
        if over_links {
            let (topic, group) = (topic.clone(), frame.clone().into());
            self.linked.push(LinkPublication { topic, group });
        }
        if !over_socket {
            return Ok(DirectSend::Sent);
        }
        match self.publish.try_send(topic.into_bytes(), frame) {
            Ok(()) => Ok(DirectSend::Sent),
            Err(TrySendError::Full((topic, frame))) => Ok(DirectSend::Full(topic, frame)),
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Returns whether messages under `topic` are sent over links: to its followers, or to the client with this id
    /// unless it has subscribed at the PUB socket.
    fn has_subscriber(&self, topic: &str) -> bool {
        let links = &self.shared.links;
        self.links
            && (links.has_subscriber(topic)
                || !self.publish.is_subscribed(topic.as_bytes()) && links.is_caller(topic))
    }

    /// Sends the collected deliveries over links, and waits until subscribers have capacity: backpressure.
    async fn deliver(&mut self) {
        while !self.linked.is_empty() {
            self.shared.links.publish(&mut self.linked);
            // The remaining deliveries have lost their subscriber. Keeping them may drop other publications, whose
            // errors are sent over links again; hence the loop.
            for LinkPublication { topic, group } in std::mem::take(&mut self.linked) {
                self.direct_topic = None;
                for frame in group.frames() {
                    self.add_pending(topic.clone(), frame, Retention::Full);
                }
            }
            self.shared.links.wait_for_capacity().await;
        }
    }

    /// Handles a new subscription over a link: publishes the pending publications of its topics.
    async fn follow(&mut self, following: &Subscription) -> Result<(), SocketClosed> {
        self.direct_topic = None;
        let mut released = Vec::new();
        self.was_followed |= following.topics.iter().any(|topic| *topic == *self.name);
        for topic in &following.topics {
            released.extend(self.pending.release_exactly(topic));
        }
        if !following.client.is_empty() {
            released.extend(self.pending.release_exactly(&following.client));
            let calls = format!("{}/", following.client);
            released.extend(self.pending.release(calls.as_bytes()));
            self.release_answers(following, &mut released);
        }
        for (topic, frame) in released {
            self.publish(topic, frame).await?;
        }
        Ok(())
    }

    /// Releases pending publications to followers that are results of a last step, for a client that has just
    /// connected to receive its answers here.
    ///
    /// After a restart of this component, results can arrive before their client has reconnected.
    fn release_answers(&mut self, client: &Subscription, released: &mut Vec<(ByteString, Bytes)>) {
        if self.pipelined == Some(false) {
            return;
        }
        for (topic, frame) in self.pending.release_exactly(&self.name) {
            let mut message = Message::decode(frame.clone()).unwrap_or_default();
            let was_at = message.stage().saturating_sub(1);
            if client.is_of(message.client()) && !has_next_step(message.function(), was_at) {
                message.set_stage(was_at);
                released.push((message.client_topic(), message.into_frame()));
            } else {
                let retention = match client.is_of(message.client()) && !self.was_followed {
                    true => Retention::Short,
                    false => Retention::Full,
                };
                self.add_pending(topic, frame, retention);
            }
        }
    }

    async fn gather(&mut self, message: Message) -> Result<(), SocketClosed> {
        if !S::GATHERS {
            return self.publish_one(message).await;
        }
        if message.is_rest() {
            return self.publish_one(message).await;
        }
        let mut gathered = Vec::new();
        let context = Context::new(self.context.clone(), message.clone());
        let mut emit = Emit::new(&mut gathered);
        let hook = S::gather(&self.state, message.clone(), context, &mut emit);
        if let Err(failure) = catch_panic(hook, Err).await {
            self.log_failure("gather", &message, &failure);
            gathered.push(message.clone().failed(&self.name, &failure));
        }
        split_weight(&message, &mut gathered);
        for message in gathered {
            self.publish_one(message).await?;
        }
        Ok(())
    }

    /// Finds the topic of a message and publishes it under that.
    async fn publish_one(&mut self, message: Message) -> Result<(), SocketClosed> {
        if !S::HANDLES_STREAM || message.is_rest() {
            let (topic, message) = self.default_topic(message);
            return self.send(topic, message).await;
        }
        let context = Context::new(self.context.clone(), message.clone());
        let hook = S::handle_stream(&self.state, message.clone(), context);
        let (topic, message) = match catch_panic(hook, Err).await {
            Ok(publication) => publication,
            Err(failure) => {
                self.log_failure("handle_stream", &message, &failure);
                self.default_topic(message.failed(&self.name, &failure))
            }
        };
        self.send(topic, message).await
    }

    /// Returns whether a message may be published to followers.
    fn may_have_followers(&self, message: &Message) -> bool {
        self.pipelined
            .unwrap_or_else(|| self.last_step_to_followers || message.has_next_step())
    }

    /// Returns whether the client of a message receives answers from this component, over a link or at the PUB socket.
    fn can_answer(&self, message: &Message) -> bool {
        let client = message.client();
        self.has_subscriber(client) || self.publish.is_subscribed(client.as_bytes())
    }

    /// Returns whether the client of a message receives answers from this component over a link.
    fn has_client(&self, message: &Message) -> bool {
        self.links && self.shared.links.has_client(message.client())
    }

    fn default_topic(&self, mut message: Message) -> (ByteString, Message) {
        let goes_on = self.may_have_followers(&message)
            && if message.has_next_step() {
                // An error or end has no use for the next step, and is sent to the client if it can be reached here.
                self.was_followed || !message.is_done() || !self.can_answer(&message)
            } else {
                !self.has_client(&message)
            };
        if goes_on {
            message.set_stage(message.stage().saturating_add(1));
            (self.name.clone(), message)
        } else {
            (self.client_topic(&message), message)
        }
    }

    /// Returns the topic of a message to its client.
    fn client_topic(&self, message: &Message) -> ByteString {
        match &self.direct_topic {
            Some(direct) if message.is_of(&direct.topic) => direct.topic.clone(),
            _ => message.client_topic(),
        }
    }

    async fn send(&mut self, topic: ByteString, message: Message) -> Result<(), SocketClosed> {
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
            self.publish.is_subscribed(topic.as_bytes()) || self.has_subscriber(&topic);
        let is_pending = self.pending.contains(&topic) || !has_subscribers;
        if !is_stale && !is_pending {
            return self.publish(topic, frame).await;
        }
        tracing::debug!(%topic, is_stale, "keeping a publication until a subscriber arrives");
        let now = Instant::now();
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

    /// Publishes the withheld answers of `topic` to its current subscribers.
    async fn publish_withheld(&mut self, topic: &ByteString) -> Result<(), SocketClosed> {
        // Without a subscriber they stay pending.
        if !self.publish.is_subscribed(topic.as_bytes()) {
            return Ok(());
        }
        for (topic, frame) in self.pending.release(topic.as_bytes()) {
            let recipients = self.publish.exact_subscribers(topic.as_bytes());
            let now = Instant::now();
            self.resend_buffer.record(now, &topic, &frame, recipients);
            self.publish(topic, frame).await?;
        }
        Ok(())
    }

    /// Publishes a list of cancelled calls to downstream components.
    async fn publish_cancellations(&mut self, list: Bytes) -> Result<(), SocketClosed> {
        let topic = str::from_utf8(CANCEL_TOPIC).expect("it is text");
        if self.has_subscriber(topic) {
            let (topic, group) = (topic.into(), list.clone().into());
            self.linked.push(LinkPublication { topic, group });
        }
        if !self.publish.is_subscribed(CANCEL_TOPIC) {
            return Ok(());
        }
        let topic = Bytes::from_static(CANCEL_TOPIC);
        self.publish.send(topic, list).await
    }

    fn caller_generation(&self) -> CallerGeneration {
        self.shared.callers.get().map(Peers::generation)
    }

    /// Returns whether the current subscriptions of a topic may be stale, so that its answer has to be withheld.
    fn may_be_stale(&self, topic: &ByteString) -> bool {
        let subscribers = self.publish.exact_subscribers(topic.as_bytes());
        !subscribers.is_empty()
            && !self.pending.time().is_zero()
            && !self.pending.contains(topic)
            && self
                .stale
                .is_suspect(Instant::now(), topic, subscribers, self.caller_generation())
    }

    async fn publish(&mut self, topic: ByteString, frame: Bytes) -> Result<(), SocketClosed> {
        self.counters.count(1, frame.len());
        let caller_generation = self.caller_generation();
        let recipients = self.publish.exact_subscribers(topic.as_bytes());
        if !recipients.is_empty() {
            self.stale
                .record_answer(Instant::now(), &topic, recipients, caller_generation);
        }
        if self.has_subscriber(&topic) {
            self.linked.push(LinkPublication {
                topic: topic.clone(),
                group: frame.clone().into(),
            });
            if self.linked.len() >= BATCH {
                self.deliver().await;
            }
            if !self.may_leave_by_socket(&topic) {
                return Ok(());
            }
        }
        self.publish.send(topic.into_bytes(), frame).await
    }

    /// Returns whether publications under `topic` are sent at the PUB socket. Answers to a client with a link are not,
    /// since a subscriber to all topics would receive them.
    fn may_leave_by_socket(&self, topic: &str) -> bool {
        self.publish.is_subscribed(topic.as_bytes())
            && !(self.links && self.shared.links.has_client(topic))
    }

    /// Answers a `ready` subscription: `InPlace` if the component is connected upstream, otherwise `Heard`, and `InPlace`
    /// as soon as it is.
    async fn send_ready(&mut self, topic: Bytes) -> Result<(), SocketClosed> {
        let ready = if self.shared.streams.are_in_place() {
            Readiness::InPlace
        } else {
            self.awaiting_ready.push(topic.clone());
            Readiness::Heard
        };
        self.publish.send(topic, ready.body()).await
    }

    async fn streams_are_in_place(&mut self) -> Result<(), SocketClosed> {
        for topic in std::mem::take(&mut self.awaiting_ready) {
            self.publish.send(topic, Readiness::InPlace.body()).await?;
        }
        Ok(())
    }

    /// Handles changes of subscriptions at the PUB socket: answers `ready` topics, and publishes pending publications
    /// and missed answers to new subscribers.
    async fn handle_subscriptions(&mut self) -> Result<(), SocketClosed> {
        while let Some(change) = self.publish.next_change().await? {
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
                    if self.publish.exact_subscribers(&prefix).is_empty()
                        && let Ok(topic) = std::str::from_utf8(&prefix)
                    {
                        self.stale.forget(topic);
                    }
                    prefix
                }
            };
            if let [subscriber] = *self.publish.exact_subscribers(&prefix) {
                for frame in self.resend_buffer.missed(&prefix, subscriber) {
                    tracing::debug!("resending an answer that went to a stale subscription");
                    self.counters.count(1, frame.len());
                    self.publish.send(prefix.clone(), frame).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits for subscribers of pending publications when the component stops, and drops the rest.
    async fn await_last_subscriptions(&mut self, linger: Duration) -> Result<(), SocketClosed> {
        let until = tokio::time::Instant::now() + linger.min(LAST_SUBSCRIPTIONS_TIMEOUT);
        while self.pending.next_expiry().is_some() {
            match tokio::time::timeout_at(until, self.publish.changed()).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
            self.handle_subscriptions().await?;
        }
        while let Some(topic) = self.stale.expire(Instant::now() + STALE_TIMEOUT) {
            self.publish_withheld(&topic).await?;
        }
        let dropped = self.pending.release(b"");
        self.drop_pending(dropped);
        Ok(())
    }

    async fn expire(&mut self) -> Result<(), SocketClosed> {
        let now = Instant::now();
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
    fn add_pending(&mut self, topic: ByteString, frame: Bytes, retention: Retention) {
        let now = Instant::now();
        if retention == Retention::Short {
            self.unfollowed.add(now);
        }
        let dropped = self.pending.push(now, topic, frame, retention);
        if !dropped.is_empty() {
            self.drop_pending(dropped);
        }
    }

    /// Drops publications without a subscriber. The callers of those for a further step receive an error.
    fn drop_pending(&mut self, mut dropped: Vec<Publication>) {
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
                let (topic, group) = (client, frame.into());
                self.linked.push(LinkPublication { topic, group });
            } else if !self.publish.is_subscribed(client.as_bytes()) {
                dropped.extend(
                    self.pending
                        .push(Instant::now(), client, frame, Retention::Full),
                );
            } else if self.publish.try_send(client.into_bytes(), frame).is_err() {
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

    /// Drops the backlog of a subscriber that was disconnected.
    fn undelivered(&mut self, deliveries: Vec<LinkPublication>) {
        let mut dropped = Vec::new();
        for LinkPublication { topic, group } in deliveries {
            if !self.publish.is_subscribed(topic.as_bytes()) {
                let frames = group.frames();
                dropped.extend(frames.map(|frame| (topic.clone(), frame)));
            }
        }
        // `drop_pending` pops them from the end.
        dropped.reverse();
        self.drop_pending(dropped);
    }

    /// Returns the error for the client of a message that no component follows for, with its topic. `None` if the
    /// message was published to its client.
    fn answer_unfollowed(&self, topic: &str, frame: Bytes) -> Option<Publication> {
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

    fn log_failure(&self, hook: &str, message: &Message, failure: &CallFailure) {
        self.counters.count_error();
        let function = message.function();
        let cause = failure.chain();
        tracing::error!(function, "`{hook}` {failure}: {cause}");
    }
}
