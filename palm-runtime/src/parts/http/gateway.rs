//! The parts of a [`Gateway`]: [`GatewayRouter`] turns requests into messages, [`GatewayDealer`] returns results to
//! requests, and [`HttpGateway`] listens.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock;
use crate::failure::BoxError;
use crate::flow::flow_of;
use crate::http::{BoundListener, Gateway, GatewayComponent, Listener};
use crate::message::Message;
use crate::metrics::PartCounters;
use crate::network::NetworkTrust;
use crate::part::{
    BATCH, Bypass, Envelope, Inbound, Inlet, OpenError, Outbound, Outlet, Running, Setup, Stop,
};

/// Binds a listener of a component, which is announced as `http_address`.
pub(super) async fn bind_http(
    listener: Listener,
    setup: &mut Setup<'_>,
) -> Result<BoundListener, BoxError> {
    *setup.option = Some("http_address");
    match &setup.options.network {
        Some(network) => BoundListener::bind(listener, network).await,
        None => BoundListener::bind(listener, &NetworkTrust::new(false)).await,
    }
}

fn attach(gateway: &Gateway, setup: &Setup<'_>) {
    let component = GatewayComponent::new(setup.component(), setup.state);
    gateway.0.attach(component);
}

/// Converts the requests of a [`Gateway`] into messages. Created by [`Gateway::router`].
///
/// Each message has a client id of its own, by which its results are routed back to the request. When the component
/// stops, the gateway rejects further requests.
///
/// ```
/// use http_body_util::BodyExt as _;
/// use hyper::Request;
/// use palm::http::{Body, Gateway};
/// use palm::parts::*;
/// use palm::{Message, ServerTemplate};
/// use tower::ServiceExt as _;
/// # use palm::{CallFailure, Context, callable::Emit, part::OutboundHooks};
/// # struct Shout;
/// # impl OutboundHooks for Shout {
/// #     async fn handle(
/// #         &mut self,
/// #         message: Message,
/// #         _: Context,
/// #         emit: &mut Emit<'_>,
/// #     ) -> Result<(), CallFailure> {
/// #         let loud = message.payload().to_ascii_uppercase();
/// #         emit.send(message.with_payload(loud)).await;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// // `Shout` answers requests within the component, in capitals.
/// let gateway = Gateway::new();
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(gateway.router(), "gateway_router").route("Shout");
/// server.register_outbound(Handler::new(Shout), "Shout").route("gateway_dealer");
/// server.register_outbound(gateway.dealer(), "gateway_dealer");
/// let server = server.spawn().await?;
///
/// let request = Request::post("/shout").body(Body::from("hello"))?;
/// let response = gateway.service().oneshot(request).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "HELLO");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// With workers: [`HttpGateway`].
#[derive(Debug)]
pub struct GatewayRouter {
    gateway: Gateway,
}

impl GatewayRouter {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl Gateway {
    /// Returns the inbound part that turns requests into messages.
    pub fn router(&self) -> GatewayRouter {
        GatewayRouter::new(self.clone())
    }

    /// Returns the outbound part that returns results to requests. Other messages continue along its route.
    pub fn dealer(&self) -> GatewayDealer {
        GatewayDealer::new(self.clone())
    }
}

impl Inbound for GatewayRouter {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        self.gateway.0.call_headers().map_err(BoxError::from)?;
        attach(&self.gateway, setup);
        let counters = setup.counters();
        Ok(Running::inbound(|outlet| {
            self.receive_all(counters, outlet)
        }))
    }
}

impl GatewayRouter {
    async fn receive_all(
        self,
        counters: Arc<PartCounters>,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let mut incoming = self
            .gateway
            .0
            .take_incoming()
            .ok_or("a gateway is the inbound part of one component, once")?;
        let mut messages = Vec::new();
        let mut batch = Vec::new();
        // The messages count as unread until they are sent to the next part.
        let mut counted = Vec::new();
        // For fair queueing, all requests of a gateway count as one client.
        let flow = flow_of(&Message::new("", ""));
        loop {
            let max = outlet.remaining().min(BATCH);
            if max == 0 {
                break;
            }
            tokio::select! {
                biased;
                () = outlet.stopped() => break,
                count = incoming.recv_many(&mut messages, max) => {
                    if count == 0 {
                        break;
                    }
                }
            }
            // Lets other requests that are ready join the batch: a batch wakes each part, and each worker, once.
            tokio::task::yield_now().await;
            while messages.len() < max
                && let Ok(message) = incoming.try_recv()
            {
                messages.push(message);
            }
            let since = clock::now();
            outlet.take_remaining(messages.len());
            let bytes = messages.iter().map(|(message, _)| message.payload().len());
            counters.count(messages.len(), bytes.sum());
            for (message, unread) in messages.drain(..) {
                batch.push(Envelope::new(message, flow, since));
                counted.push(unread);
            }
            outlet.send_all(&mut batch).await;
            counted.clear();
        }
        self.gateway.0.closed.cancel();
        // Requests that were accepted before are still routed.
        incoming.close();
        while let Some((message, _counted)) = incoming.recv().await {
            outlet.send_in(message, flow, clock::now()).await;
        }
        Ok(())
    }
}

/// Returns results to the requests of a [`Gateway`]. Created by [`Gateway::dealer`].
///
/// A message that belongs to no request continues along the part's route, or is dropped if there is none.
///
/// ```
/// use http_body_util::BodyExt as _;
/// use hyper::Request;
/// use palm::ServerTemplate;
/// use palm::http::{Body, Gateway};
/// use palm::parts::*;
/// use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// // Messages that are pushed here belong to no request, so they continue to the subscribers.
/// let gateway = Gateway::new();
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(gateway.router(), "gateway_router").route("gateway_dealer");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("gateway_dealer");
/// server.register_outbound(gateway.dealer(), "gateway_dealer").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// let server = server.spawn().await?;
///
/// // The request is routed to the dealer, so it is its own answer.
/// let request = Request::post("/echo").body(Body::from("hello"))?;
/// let response = gateway.service().oneshot(request).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// With workers: [`HttpGateway`].
#[derive(Debug)]
pub struct GatewayDealer {
    gateway: Gateway,
}

impl GatewayDealer {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl Outbound for GatewayDealer {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        attach(&self.gateway, setup);
        let counters = setup.counters();
        Ok(Running::outbound(|inlet, outlet| {
            self.deliver_all(counters, inlet, outlet)
        }))
    }
}

impl GatewayDealer {
    async fn deliver_all(
        self,
        counters: Arc<PartCounters>,
        mut inlet: Inlet,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let gateway = &*self.gateway.0;
        let mut batch = Vec::new();
        let mut others = Vec::new();
        while inlet.recv_many(&mut batch, BATCH).await > 0 {
            for envelope in batch.drain(..) {
                let (gathers, flow, since) = (envelope.gathers, envelope.flow, envelope.since);
                let message = envelope.answer(Bytes::new());
                let bytes = message.payload().len();
                match gateway.deliver(message) {
                    None => counters.count(1, bytes),
                    Some(message) if outlet.has_route() => others.push(Envelope {
                        gathers,
                        ..Envelope::new(message, flow, since)
                    }),
                    Some(_) => counters.count_dropped(1),
                }
            }
            outlet.send_all(&mut others).await;
        }
        gateway.end();
        Ok(())
    }
}

/// Serves a [`Gateway`] at a [`Listener`]. Announced as `http_address`.
///
/// ```
/// use palm::http::Gateway;
/// use palm::parts::*;
/// use palm::{Message, ServerTemplate};
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # use palm::{CallFailure, Context, callable::Emit, part::OutboundHooks};
/// # struct Shout;
/// # impl OutboundHooks for Shout {
/// #     async fn handle(
/// #         &mut self,
/// #         message: Message,
/// #         _: Context,
/// #         emit: &mut Emit<'_>,
/// #     ) -> Result<(), CallFailure> {
/// #         let loud = message.payload().to_ascii_uppercase();
/// #         emit.send(message.with_payload(loud)).await;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let gateway = Gateway::new();
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(gateway.router(), "gateway_router").route("WorkerPush");
/// server.register_inbound(WorkerPullService::bind("tcp://127.0.0.1:0"), "WorkerPull")
///     .route("gateway_dealer");
/// server.register_outbound(WorkerPushService::bind("tcp://127.0.0.1:0"), "WorkerPush")
///     .failures("gateway_dealer");
/// server.register_outbound(gateway.dealer(), "gateway_dealer");
/// server.register_bypass(HttpGateway::bind("127.0.0.1:0", &gateway), "HttpGateway");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// let address = |key| server.address(key).expect("announced");
///
/// // A worker, whose `Shout` answers in capitals.
/// let tasks = PullConnection::connect(address("worker_push_address"));
/// let results = PushConnection::connect(address("worker_pull_address"));
/// let mut worker = ServerTemplate::new("worker");
/// worker.register_inbound(tasks, "Tasks").route("Shout");
/// worker.register_outbound(Handler::new(Shout), "Shout").route("Results");
/// worker.register_outbound(results, "Results");
/// let worker = worker.spawn().await?;
///
/// // curl --data hello http://127.0.0.1:8888/shout
/// let at = address("http_address").strip_prefix("http://").expect("the gateway serves plain HTTP");
/// let mut connection = tokio::net::TcpStream::connect(at).await?;
/// let request = format!(
///     "POST /shout HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
/// );
/// connection.write_all(request.as_bytes()).await?;
/// let mut response = String::new();
/// connection.read_to_string(&mut response).await?;
/// assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("HELLO"), "{response}");
/// worker.shutdown().await?;
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpGateway {
    listener: Listener,
    gateway: Gateway,
}

impl HttpGateway {
    /// Creates a part that serves `gateway` at `listener`, an address such as `"127.0.0.1:8888"`.
    pub fn bind(listener: impl Into<Listener>, gateway: &Gateway) -> Self {
        Self {
            listener: listener.into(),
            gateway: gateway.clone(),
        }
    }
}

impl Bypass for HttpGateway {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        attach(&self.gateway, setup);
        let bound = bind_http(self.listener, setup).await?;
        setup
            .announced
            .insert("http_address".to_owned(), bound.url());
        let gateway = self.gateway;
        Ok(Running::bypass(|stop| async move {
            let closed = gateway.0.closed.clone();
            let serving = bound.serve(gateway.service(), closed.clone(), stop.linger());
            let stopped = async {
                stop.stopped().await;
                closed.cancel();
            };
            tokio::join!(serving, stopped);
            Ok(())
        }))
    }
}
