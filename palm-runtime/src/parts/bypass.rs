//! Bypass parts that exchange bodies with peers without the router.

use std::future::Future;

use bytes::Bytes;
use futures_util::future::pending;

use super::context::PartContext;
use crate::discovery::{Endpoint, IntoAddress, ParsedAddress};
use crate::failure::{BoxError, CallFailure, catch_panic};
use crate::method::Outcome;
use crate::part::{
    BATCH, Binding, Bypass, BypassInbound, BypassOutbound, BypassSender, OpenError, Running, Setup,
    Stop,
};
use crate::queue::{QueueLimits, Receiver, queue};
use crate::socket::{Pull, Push, Reply};

/// A bypass that answers REQ peers with the outcome of [`BypassInbound::recv`]. Announced as `bypass_address`.
///
/// It serves a protocol of your own alongside that of the component.
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use palm::ServerTemplate;
/// use palm::callable::Outcome;
/// use palm::part::BypassInbound;
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// /// Answers with the number of requests.
/// struct Counter(u64);
///
/// impl BypassInbound for Counter {
///     async fn recv(&mut self, _: Bytes) -> Outcome {
///         self.0 += 1;
///         Outcome::Payload(self.0.to_string().into())
///     }
/// }
///
/// let mut server = ServerTemplate::new("server");
/// server.register_bypass(RepBypassService::bind("tcp://127.0.0.1:0", Counter(0)), "Counter");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// let at = server.address("bypass_address").expect("the part announces it").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// for count in ["1", "2"] {
///     let answer = request.request("how often?".into(), Duration::from_secs(10)).await?;
///     assert_eq!(answer, count);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// With `#[palm::bypass]` the same is `fn recv(&mut self, _: Bytes) -> String`.
#[derive(Debug)]
pub struct RepBypassService<H> {
    address: ParsedAddress,
    hooks: H,
}

impl<H: BypassInbound> RepBypassService<H> {
    /// Binds `address`; each request goes to `hooks`, one after the other.
    pub fn bind(address: impl IntoAddress, hooks: H) -> Self {
        Self {
            address: address.into_address(),
            hooks,
        }
    }
}

impl<H: BypassInbound> Bypass for RepBypassService<H> {
    fn binds(&self) -> Vec<Binding> {
        vec![Binding::new("bypass_address", &self.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        let address = setup.bind_address("bypass_address", &self.address)?;
        let (reply, bound) = Reply::bind(&address, setup.options).await?;
        setup.announce("bypass_address", &bound);
        let opened = PartContext::new(setup);
        Ok(Running::bypass(|stop| self.answer_all(reply, opened, stop)))
    }
}

impl<H: BypassInbound> RepBypassService<H> {
    async fn answer_all(
        mut self,
        mut reply: Reply,
        opened: PartContext,
        stop: Stop,
    ) -> Result<(), BoxError> {
        loop {
            let (mut frames, responder) = tokio::select! {
                biased;
                () = stop.stopped() => break,
                request = reply.recv() => request?,
            };
            let bytes = frames.iter().map(Bytes::len).sum();
            opened.counters.count(1, bytes);
            let outcome = match (frames.pop(), frames.is_empty()) {
                (Some(body), true) => recv(&mut self.hooks, body).await,
                _ => {
                    let error = format!("the request has {} frames", frames.len() + 1);
                    Outcome::Failed(CallFailure::failed(error.into()))
                }
            };
            let answer = match outcome {
                Outcome::Payload(payload) => payload,
                // A REQ peer can do nothing until it has an answer.
                Outcome::Nothing => Bytes::new(),
                Outcome::Failed(failure) => {
                    opened.counters.count_error();
                    tracing::error!("`recv` {failure}: {}", failure.chain());
                    Bytes::new()
                }
            };
            if responder.reply(answer).is_err() {
                opened.counters.count_dropped(1);
                tracing::warn!("dropping a reply: the peer does not read its replies");
            }
        }
        reply.close(stop.linger()).await;
        Ok(())
    }
}

async fn recv<H: BypassInbound>(hooks: &mut H, body: Bytes) -> Outcome {
    catch_panic(hooks.recv(body), Outcome::Failed).await
}

/// A bypass that connects to a peer and passes the bodies that it pushes to [`BypassInbound::recv`], such as events.
///
/// Outcomes are dropped; failures are logged.
///
/// ```
/// use bytes::Bytes;
/// use palm::ServerTemplate;
/// use palm::callable::Outcome;
/// use palm::part::BypassInbound;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// /// Prints events.
/// struct Printer;
///
/// impl BypassInbound for Printer {
///     async fn recv(&mut self, body: Bytes) -> Outcome {
///         println!("{body:?}");
///         Outcome::Nothing
///     }
/// }
///
/// let mut source = ServerTemplate::new("source");
/// source.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Push");
/// source.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let source = source.spawn().await?;
///
/// let events = source.address("push_address").expect("the part announces it");
/// let mut server = ServerTemplate::new("server");
/// server.register_bypass(PullBypassConnection::connect(events, Printer), "Events");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// server.shutdown().await?;
/// source.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PullBypassConnection<H> {
    endpoint: Endpoint,
    hooks: H,
}

impl<H: BypassInbound> PullBypassConnection<H> {
    /// Connects to `address`, where a PUSH socket binds.
    pub fn connect(address: impl IntoAddress, hooks: H) -> Self {
        Self {
            endpoint: Endpoint::Static(address.into_address()),
            hooks,
        }
    }
}

impl<H: BypassInbound> Bypass for PullBypassConnection<H> {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        Ok(Running::bypass(|stop| self.receive_all(opened, stop)))
    }
}

impl<H: BypassInbound> PullBypassConnection<H> {
    async fn receive_all(mut self, opened: PartContext, stop: Stop) -> Result<(), BoxError> {
        let address = self.endpoint.locate().await?;
        let mut pull = Pull::connect(&address, &opened.options).await?;
        let mut bodies = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => break,
                received = pull.recv_many(&mut bodies, BATCH) => received?,
            }
            for body in bodies.drain(..) {
                opened.counters.count(1, body.len());
                if let Outcome::Failed(failure) = recv(&mut self.hooks, body).await {
                    opened.counters.count_error();
                    tracing::error!("`recv` {failure}: {}", failure.chain());
                }
            }
        }
        pull.close().await;
        Ok(())
    }
}

/// A bypass that pushes bodies to a peer. Methods send them by the [`sender`](Self::sender), or a [`BypassOutbound`]
/// produces them.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
/// use palm::socket::{Pull, SocketOptions};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let any = "tcp://127.0.0.1:0".parse()?;
/// let (mut pull, pulls_at) = Pull::bind(&any, &SocketOptions::default()).await?;
///
/// let audit = PushBypassConnection::connect(&pulls_at);
/// let sender = audit.sender();
/// let mut server = ServerTemplate::new("server");
/// server.register_bypass(audit, "Audit");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// sender.send("user logged in").await;
/// let mut events = Vec::new();
/// pull.recv_many(&mut events, 1).await?;
/// assert_eq!(events, ["user logged in"]);
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PushBypassConnection<P = NoProducer> {
    endpoint: Endpoint,
    producer: P,
    sender: BypassSender,
    bodies: Receiver<Bytes>,
}

/// No producer: only [`BypassSender`]s send bodies.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProducer;

impl BypassOutbound for NoProducer {
    fn run(self, _: BypassSender) -> impl Future<Output = Result<(), BoxError>> + Send {
        pending()
    }
}

impl PushBypassConnection {
    /// Connects to `address`, where a PULL socket binds.
    pub fn connect(address: impl IntoAddress) -> Self {
        let (sender, bodies) = queue(QueueLimits::default());
        Self {
            endpoint: Endpoint::Static(address.into_address()),
            producer: NoProducer,
            sender: BypassSender(sender),
            bodies,
        }
    }
}

impl<P> PushBypassConnection<P> {
    /// Runs `producer` while the component runs.
    pub fn producer<Q: BypassOutbound>(self, producer: Q) -> PushBypassConnection<Q> {
        PushBypassConnection {
            endpoint: self.endpoint,
            producer,
            sender: self.sender,
            bodies: self.bodies,
        }
    }

    /// Returns a sender of bodies.
    pub fn sender(&self) -> BypassSender {
        self.sender.clone()
    }
}

impl<P: BypassOutbound> Bypass for PushBypassConnection<P> {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        Ok(Running::bypass(|stop| self.send_all(opened, stop)))
    }
}

impl<P: BypassOutbound> PushBypassConnection<P> {
    async fn send_all(self, opened: PartContext, stop: Stop) -> Result<(), BoxError> {
        let Self {
            endpoint,
            producer,
            sender,
            mut bodies,
        } = self;
        let address = endpoint.locate().await?;
        let push = Push::connect(&address, &opened.options).await?;
        let mut batch = Vec::new();
        let forward = async {
            loop {
                if bodies.recv_many(&mut batch, BATCH).await == 0 {
                    pending::<()>().await;
                }
                // Bodies leave the batch one at a time, so that unsent ones are still in it when the part stops.
                batch.reverse();
                while let Some(body) = batch.last() {
                    let bytes = body.len();
                    push.send(body.clone()).await?;
                    opened.counters.count(1, bytes);
                    batch.pop();
                }
            }
        };
        let produce = async {
            producer.run(sender).await?;
            // The producer is done; the part still serves senders.
            pending::<Result<(), BoxError>>().await
        };
        let ended: Result<(), BoxError> = tokio::select! {
            () = stop.stopped() => Ok(()),
            failed = forward => failed,
            failed = produce => failed,
        };
        ended?;
        // Sends queued bodies within the drain limit.
        let rest = async {
            for body in batch.iter().rev() {
                push.send(body.clone()).await?;
            }
            let mut left = Vec::new();
            bodies.try_recv_all(&mut left);
            for body in left {
                push.send(body).await?;
            }
            Ok::<(), BoxError>(())
        };
        if let Ok(sent) = tokio::time::timeout(stop.linger(), rest).await {
            sent?;
        }
        push.close(stop.linger()).await;
        Ok(())
    }
}
