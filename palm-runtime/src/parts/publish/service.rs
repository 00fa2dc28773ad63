//! [`PubService`]: the part, its options and its run loop.

use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::legacy::{LegacySubscribers, ResendBuffer, StaleSubscriptions};
use super::link_queue::LinkQueue;
use super::pending::{PendingLimits, PendingPublications};
use super::publisher::{Publisher, UnfollowedMessages};
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::discovery::IntoAddress;
use crate::failure::BoxError;
use crate::link::SubscriptionEvent;
use crate::message::FramePool;
use crate::method::{Hooks, Plain, Shape, State};
use crate::metrics::PartCounters;
use crate::part::{
    BATCH, Binding, Inlet, LegacyAddress, OpenError, Outbound, Outlet, Running, Setup,
};
use crate::socket::Publish;

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
    service: AnyPubService,
    hooks: PhantomData<fn() -> S>,
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
        let address = LegacyAddress::configured(address.into_address());
        Self {
            service: AnyPubService::new(address, state),
            hooks: PhantomData,
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
        self.service.pipelined = Some(pipelined);
        self
    }

    /// Sets the bounds of publications that are kept until their topic has a subscriber.
    #[must_use]
    pub fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.service.pending_limits = limits;
        self
    }
}

impl<S: Shape> Outbound for PubService<S> {
    fn forwards_only(&self) -> bool {
        self.service.forwards_only()
    }

    fn binds(&self) -> Vec<Binding> {
        self.service.binds()
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        self.service.open(setup).await
    }
}

/// A [`PubService`] with the hooks of any component.
#[derive(Debug)]
pub(crate) struct AnyPubService {
    address: LegacyAddress,
    /// `None` if neither hook is overridden.
    hooks: Option<Arc<dyn Hooks>>,
    pipelined: Option<bool>,
    /// Whether results of a last step are published to followers if `pipelined` is not set.
    last_step_to_followers: bool,
    pending_limits: PendingLimits,
}

#[derive(Debug)]
struct OpenPubService {
    publish: Option<Publish>,
    /// Whether this part of the component publishes over links.
    links: bool,
    context: Arc<ComponentContext>,
    state: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

impl AnyPubService {
    pub(crate) fn new(address: LegacyAddress, hooks: Arc<dyn Hooks>) -> Self {
        let overridden = hooks.overridden();
        Self {
            address,
            hooks: (overridden.gather || overridden.handle_stream).then_some(hooks),
            pipelined: None,
            last_step_to_followers: false,
            pending_limits: PendingLimits::default(),
        }
    }

    /// Sets whether messages are published to followers, and where results of a last step are published if that is not
    /// set.
    pub(crate) fn pipelined_or(
        mut self,
        pipelined: Option<bool>,
        last_step_to_followers: bool,
    ) -> Self {
        self.pipelined = pipelined;
        self.last_step_to_followers = last_step_to_followers;
        self
    }

    pub(crate) fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.pending_limits = limits;
        self
    }
}

impl Outbound for AnyPubService {
    fn forwards_only(&self) -> bool {
        self.hooks.is_none()
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy("pub_address", &self.address.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let publish = setup
            .legacy_socket("pub_address", &self.address, Publish::idle, Publish::peers)
            .await?;
        if let Some(publish) = &publish {
            let _ = setup.state.followers.set(publish.peers());
        }
        // New subscriptions over links; `None` if another part of the component publishes over links.
        let followed = setup.state.links.claim_publications();
        let opened = OpenPubService {
            publish,
            links: followed.is_some(),
            context: setup.context.clone(),
            state: setup.state.clone(),
            counters: setup.counters(),
        };
        Ok(Running::outbound(|inlet, _| {
            self.publish_all(opened, followed, inlet)
        }))
    }
}

impl AnyPubService {
    /// Creates the publisher of the open part.
    fn publisher(self, opened: OpenPubService) -> Publisher {
        Publisher {
            links: opened.links,
            linked: LinkQueue::new(opened.counters.clone()),
            direct_topic: None,
            awaiting_ready: Vec::new(),
            memory: FramePool::default(),
            stale: StaleSubscriptions::default(),
            hooks: self.hooks,
            pipelined: self.pipelined,
            last_step_to_followers: self.last_step_to_followers,
            was_followed: false,
            unfollowed: UnfollowedMessages::default(),
            pending: PendingPublications::new(self.pending_limits),
            resend_buffer: ResendBuffer::default(),
            subscribers: LegacySubscribers::new(opened.publish),
            name: opened.context.name.as_str().into(),
            context: opened.context,
            component_state: opened.state,
            counters: opened.counters,
        }
    }

    async fn publish_all(
        self,
        opened: OpenPubService,
        followed: Option<mpsc::UnboundedReceiver<SubscriptionEvent>>,
        mut inlet: Inlet,
    ) -> Result<(), BoxError> {
        let state = opened.state.clone();
        let mut publisher = self.publisher(opened);
        let stop = inlet.stop.clone();
        let mut events = events(&state, followed);
        let mut is_expired = pin!(stop.expired());
        let mut envelopes = Vec::new();
        loop {
            let next_expiry = publisher.next_expiry();
            let expired = async {
                match next_expiry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = publisher.subscribers.changed() => {
                    changed?;
                    publisher.handle_subscriptions().await?;
                }
                Some(event) = events.next() => match event {
                    PublisherEvent::StreamsInPlace => state.links.set_in_place(),
                    PublisherEvent::Cancelled(list) => publisher.publish_cancellations(list).await?,
                    PublisherEvent::Subscription(SubscriptionEvent::Subscribed(following, _reservation)) => {
                        publisher.follow(&following).await?;
                    }
                    PublisherEvent::Subscription(SubscriptionEvent::Undelivered(deliveries)) => {
                        publisher.undelivered(deliveries);
                    }
                },
                count = inlet.recv_batches(&mut envelopes, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    inlet.yield_to_senders().await;
                    publisher.publish_envelopes(&mut envelopes).await?;
                }
                () = state.streams.in_place(), if !publisher.awaiting_ready.is_empty() => {
                    publisher.streams_are_in_place().await?;
                }
                () = expired => publisher.expire().await?,
                () = &mut is_expired => break,
            }
            let (messages, bytes) = publisher.pending.size();
            publisher.counters.set_held(messages, bytes);
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
        let _ = tokio::time::timeout(stop.flush_time(), state.links.delivered()).await;
        publisher.subscribers.close(stop.flush_time()).await;
        Ok(())
    }
}

/// A change that a publisher handles besides its messages.
enum PublisherEvent {
    StreamsInPlace,
    Cancelled(Bytes),
    Subscription(SubscriptionEvent),
}

/// Returns the events of a publisher as one stream; subscriptions are among them if there is `followed`. The stream polls
/// an event only after a wake-up for it, so that a message does not poll each.
fn events(
    state: &ComponentState,
    followed: Option<mpsc::UnboundedReceiver<SubscriptionEvent>>,
) -> SelectAll<BoxStream<'_, PublisherEvent>> {
    let in_place = state.streams.in_place();
    let in_place = stream::once(in_place).map(|()| PublisherEvent::StreamsInPlace);
    let cancelled = state.cancellations.relay().map(PublisherEvent::Cancelled);
    let mut events = stream::select_all([in_place.boxed(), cancelled.boxed()]);
    if let Some(followed) = followed {
        let subscriptions = stream::unfold(followed, async |mut followed| {
            Some((
                PublisherEvent::Subscription(followed.recv().await?),
                followed,
            ))
        });
        events.push(subscriptions.boxed());
    }
    events
}
