//! [`SubConnection`]: receives the messages that another component publishes under one topic.
//!
//! Over a link if the publisher offers one ([`LinkTopicSource`]), otherwise at its PUB socket
//! ([`SocketTopicSource`]). Cancellations are published by the same component and received here as well.

use std::sync::Arc;

use tokio::sync::watch;

use super::context::PartContext;
use super::receive_loop::{
    ConsumedMessages, MessageIds, MessageSource, Origin, ReceiveLoop, SourceEvent,
};
use crate::cache::ComponentStore;
use crate::component_state::{ComponentState, StreamId};
use crate::discovery::{
    Directory, Endpoint, IntoAddress, Readiness, UPSTREAM_TIMEOUT, descriptor, ready_topic,
    until_upstream_connected,
};
use crate::failure::BoxError;
use crate::link::client::{LinkArrivals, LinkClient, LinkSettings};
use crate::link::{CANCEL_TOPIC, SUBSCRIBER, Subscription};
use crate::message::new_id;
use crate::metrics::PartCounters;
use crate::part::{AnyInboundHooks, Inbound, OpenError, Outlet, Running, Setup};
use crate::report::Role;
use crate::socket::{Address, AddressError, Publication, SocketClosed, Subscribe};

/// An inbound part that receives the messages that a component publishes under exactly the topic `previous`.
///
/// A message with an empty `cache` field is assigned an id.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut first = ServerTemplate::new("first");
/// first.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// first.register_outbound(PubService::bind("tcp://127.0.0.1:0").pipelined(true), "Pub");
/// let first = first.spawn().await?;
///
/// // A pipelined component publishes under its name.
/// let publishes = first.address("pub_address").expect("the part announces it");
/// let mut second = ServerTemplate::new("second");
/// second.register_inbound(SubConnection::connect(publishes, "first"), "Sub").route("Push");
/// second.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let second = second.spawn().await?;
/// second.shutdown().await?;
/// first.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SubConnection {
    endpoint: Endpoint,
    /// The topic; `None` for the name of the component that is discovered.
    previous: Option<String>,
    /// The cache key under which the address of the publisher is announced.
    key: Option<String>,
    /// Set when the part is opened.
    stream: StreamId,
}

impl SubConnection {
    /// Connects to the publisher at `address`, for the topic `previous`.
    pub fn connect(address: impl IntoAddress, previous: impl Into<String>) -> Self {
        Self::to(
            Endpoint::Static(address.into_address()),
            Some(previous.into()),
        )
    }

    pub(crate) fn follow(directory: Arc<Directory>, previous: Option<String>) -> Self {
        Self::to(Endpoint::Discovered(directory, "pub_address"), previous)
    }

    fn to(endpoint: Endpoint, previous: Option<String>) -> Self {
        Self {
            endpoint,
            previous,
            key: None,
            stream: StreamId::default(),
        }
    }

    /// Announces the address of the publisher under `key` once it is known.
    pub(crate) fn announced(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Receives the messages of a publisher over a link.
    async fn run_linked(
        self,
        publisher: Publisher,
        opened: PartContext,
        hooks: AnyInboundHooks,
        store: Arc<ComponentStore>,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let topic = self.previous.unwrap_or(publisher.name);
        let request = publisher.directory.request();
        let address = request.address();
        store.configure(self.key.map(|key| (key, address.to_string())));
        let cancelled = String::from_utf8_lossy(CANCEL_TOPIC).into_owned();
        let following = Subscription {
            topics: vec![topic.clone(), cancelled],
            client: String::new(),
        };
        let name = &opened.context.name;
        let own = store.get("db_address").await.ok().flatten();
        let own = own.and_then(|own| String::from_utf8(own.into()).ok());
        let introduction = LinkSettings {
            // Clients look for it here, if this component runs the last of their steps.
            db_address: own.unwrap_or_default(),
            ..LinkSettings::following(SUBSCRIBER, name, following)
        };
        let options = opened.state.links.options().clone();
        let (link, arrivals) = LinkClient::sharing(request, &opened.options, introduction, options);
        let state = opened.state.clone();
        state.report_link(Role::Upstream, vec![topic.clone()], &link);
        state.streams.is_opening(self.stream, &link);
        let mut source = LinkTopicSource {
            link: link.clone(),
            arrivals,
            in_place: watch::Sender::new(false),
            state: state.clone(),
        };
        let mut readiness = source.in_place.subscribe();
        let receive_loop = ReceiveLoop::new(opened, hooks, MessageIds::Assigned, outlet);
        let linger = receive_loop.linger();
        let in_place = async {
            link.opened().await;
            tracing::info!("following `{topic}` at {address}");
            state.streams.awaits_upstream(self.stream);
            let is_ready = readiness.wait_for(|is_in_place| *is_in_place);
            if tokio::time::timeout(UPSTREAM_TIMEOUT, is_ready)
                .await
                .is_err()
            {
                tracing::warn!(
                    "a component upstream of `{topic}` is still not connected to its own upstream"
                );
            }
            state.streams.is_in_place(self.stream);
            std::future::pending::<()>().await;
        };
        let _ended = tokio::select! {
            ended = link.drive_with(receive_loop.run(&mut source)) => ended?.transpose()?,
            () = in_place => None,
        };
        let _ = tokio::time::timeout(linger, link.acknowledged()).await;
        link.close().await;
        Ok(())
    }
}

/// A publisher that offers links, as its descriptor says.
struct Publisher {
    directory: Arc<Directory>,
    name: String,
}

/// Waits until the publisher answers, and returns it if it offers a link. Cancel safe.
async fn offering(endpoint: &Endpoint) -> Option<Publisher> {
    let Endpoint::Discovered(directory, _) = endpoint else {
        // The user has configured the address of a socket.
        return None;
    };
    let descriptor = directory.serves_role(SUBSCRIBER, "pub_address").await;
    descriptor::offers_link(&descriptor, SUBSCRIBER).then(|| Publisher {
        directory: directory.clone(),
        name: descriptor.name,
    })
}

/// The publications of one topic over a link.
struct LinkTopicSource {
    link: Arc<LinkClient>,
    arrivals: LinkArrivals,
    in_place: watch::Sender<bool>,
    state: Arc<ComponentState>,
}

impl LinkTopicSource {
    fn sort(
        &mut self,
        arrivals: Vec<crate::link::client::LinkArrival>,
        out: &mut Vec<SourceEvent>,
    ) {
        for arrival in arrivals {
            match arrival {
                crate::link::client::LinkArrival::Messages(received, batch) => {
                    if received.is_of_topic(0) {
                        out.push(SourceEvent::Messages {
                            batch,
                            flow: None,
                            origin: Origin::Publisher(received),
                        });
                    } else {
                        self.state.cancellations.cancel(batch.frame());
                        self.link.consume(std::iter::once(received));
                    }
                }
                crate::link::client::LinkArrival::SubscriptionsReady => {
                    self.in_place.send_replace(true);
                }
                crate::link::client::LinkArrival::Renewed => {}
            }
        }
    }
}

impl MessageSource for LinkTopicSource {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        _: usize,
    ) -> Result<(), SocketClosed> {
        let mut arrivals = Vec::new();
        self.arrivals.recv_many(&mut arrivals, usize::MAX).await;
        self.sort(arrivals, out);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, _: usize) {
        let mut arrivals = Vec::new();
        self.arrivals.try_recv_many(&mut arrivals, usize::MAX);
        self.sort(arrivals, out);
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        if messages.is_empty() {
            return;
        }
        self.link
            .consume(messages.drain(..).filter_map(|it| match it.origin {
                Origin::Publisher(received) => Some(received.part(it.messages, it.bytes)),
                _ => None,
            }));
    }

    async fn drain_peers(&mut self) {
        self.link.drain();
        // Also while the connection is broken: messages that were received and not acknowledged would be delivered to
        // the next subscriber as well.
        self.link.finished().await;
    }
}

impl Inbound for SubConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    fn runs_hooks(&self) -> bool {
        true
    }

    async fn open(mut self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        if let (Some(key), Endpoint::Static(Ok(address))) = (&self.key, &self.endpoint) {
            setup.announced.insert(key.clone(), address.to_string());
        }
        self.stream = setup.state.streams.expect(Role::Upstream, &self.endpoint);
        let store = setup.store.clone();
        let hooks = setup.take_hooks();
        Ok(Running::inbound(|outlet| {
            self.receive_all(opened, hooks, store, outlet)
        }))
    }
}

impl SubConnection {
    async fn receive_all(
        self,
        opened: PartContext,
        hooks: AnyInboundHooks,
        store: Arc<ComponentStore>,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let offering = async {
            match opened.state.links.options().enabled {
                true => offering(&self.endpoint).await,
                false => None,
            }
        };
        let publisher = tokio::select! {
            () = outlet.stopped() => {
                let cause = self.endpoint.wait_cause();
                if let Some(cause) = cause {
                    tracing::warn!("stopped before it was connected upstream: {cause}");
                }
                return Ok(());
            }
            publisher = offering => publisher,
        };
        if let Some(publisher) = publisher {
            let linked = self.run_linked(publisher, opened, hooks, store, outlet);
            return linked.await;
        }
        self.run_subscribed(opened, hooks, store, outlet).await
    }

    /// Receives the messages of a publisher at its PUB socket.
    async fn run_subscribed(
        self,
        opened: PartContext,
        hooks: AnyInboundHooks,
        store: Arc<ComponentStore>,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let locate = async {
            let topic = match (self.previous, &self.endpoint) {
                (Some(topic), _) => topic,
                (None, Endpoint::Discovered(directory, _)) => directory.value("name").await,
                (None, Endpoint::Static(_)) => String::new(),
            };
            Ok::<_, AddressError>((topic, self.endpoint.locate().await?))
        };
        let (topic, address) = tokio::select! {
            () = outlet.stopped() => return Ok(()),
            located = locate => located?,
        };
        let subscribe = Subscribe::connect(&address, &opened.options).await?;
        subscribe.subscribe(topic.clone()).await?;
        subscribe.subscribe(CANCEL_TOPIC).await?;
        tracing::info!("subscribing to `{topic}` at {address}");
        if let Endpoint::Discovered(directory, _) = &self.endpoint {
            let publisher = directory.request().address();
            let topics = vec![topic.clone()];
            opened
                .state
                .report_sockets(Role::Upstream, topics, publisher);
        }
        let announce = move |address: &Address| {
            let key = self.key.clone();
            store.configure(key.map(|key| (key, address.to_string())));
        };
        announce(&address);
        let peers = subscribe.peers();
        let _following = self.endpoint.follow(peers.clone(), address, announce);
        let (ready, readiness) = watch::channel(None);
        let mut source = SocketTopicSource {
            subscribe,
            topic,
            ready,
            state: opened.state.clone(),
            publications: Vec::new(),
            counters: opened.counters.clone(),
        };
        let state = opened.state.clone();
        let receive_loop = ReceiveLoop::new(opened, hooks, MessageIds::Assigned, outlet);
        let in_place = async {
            peers.connected().await?;
            peers.subscribe(ready_topic(&new_id()))?;
            state.streams.awaits_upstream(self.stream);
            until_upstream_connected(readiness).await;
            state.streams.is_in_place(self.stream);
            std::future::pending::<Result<(), SocketClosed>>().await
        };
        tokio::select! {
            ended = receive_loop.run(&mut source) => ended?,
            failed = in_place => failed?,
        }
        source.subscribe.close().await;
        Ok(())
    }
}

/// The publications of exactly one topic at a PUB socket.
struct SocketTopicSource {
    subscribe: Subscribe,
    topic: String,
    /// The publisher's answer to the `ready` subscription.
    ready: watch::Sender<Option<Readiness>>,
    state: Arc<ComponentState>,
    publications: Vec<Publication>,
    counters: Arc<PartCounters>,
}

impl SocketTopicSource {
    fn sort(&mut self, out: &mut Vec<SourceEvent>) {
        for Publication { topic, body } in self.publications.drain(..) {
            // Subscriptions match by prefix.
            if topic != self.topic {
                if let (CANCEL_TOPIC, Some(list)) = (&*topic, &body) {
                    self.state.cancellations.cancel(list);
                } else if let Some(said) = Readiness::from_publication(&topic, body.as_ref()) {
                    self.ready.send_replace(Some(said));
                }
                continue;
            }
            match body {
                Some(body) => out.push(SourceEvent::from_socket(body)),
                None => {
                    self.counters.count_error();
                    tracing::warn!(
                        "dropping a malformed publication: it does not have exactly one body"
                    );
                }
            }
        }
    }
}

impl MessageSource for SocketTopicSource {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        if max == 0 {
            return std::future::pending().await;
        }
        self.subscribe
            .recv_many(&mut self.publications, max)
            .await?;
        self.sort(out);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        self.subscribe.try_recv_many(&mut self.publications, max);
        self.sort(out);
    }
}
