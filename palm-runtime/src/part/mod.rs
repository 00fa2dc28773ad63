//! The traits of parts, and what connects them: inlets, outlets and envelopes.
//!
//! A component is made of parts. An inbound part receives messages from peers, an outbound part handles or sends
//! messages, and a bypass runs without a route. Each part has two phases. [`Inbound::open`] binds sockets and
//! announces their addresses; a part *runs* once all parts of its component are open. An inbound part sends
//! messages to its [`Outlet`], and an outbound part receives them from its [`Inlet`]: the
//! [`ServerTemplate`](crate::ServerTemplate) has connected the two by a bounded queue.
//!
//! When the component stops, inbound parts return first. An outbound part returns once its inlet is closed and
//! empty, which is the case after all parts upstream of it have returned. Bypasses are stopped last.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::cache::ComponentStore;
use crate::component_state::{ComponentState, OnDemandSocket};
use crate::context::{ComponentContext, Context};
use crate::failure::{BoxError, CallFailure};
use crate::fair_queue::{Flow, FlowKey, Usage};
use crate::flow::flow_of;
use crate::message::{Batch, Message, Split};
use crate::method::{Emit, EmitQueue, FunctionInfo, Outcome};
use crate::metrics::{FunctionCounters, PartCounters};
use crate::queue::{self, Queued, Releases};
use crate::socket::{Address, AddressError, Peers, ReservedPort, SocketError, SocketOptions};
pub use crate::stop::Stop;

mod bypass_sender;

pub use bypass_sender::BypassSender;

/// The most messages that a part receives at once from a socket or a queue.
pub(crate) const BATCH: usize = 256;

/// A part that receives messages from peers or other sources, and sends them to an outbound part.
///
/// ```
/// use palm::part::{Inbound, OpenError, Outlet, Setup};
/// use palm::parts::*;
/// use palm::socket::{Pull, SocketOptions};
/// use palm::{BoxError, Message, ServerTemplate};
///
/// /// Sends one message for each word.
/// struct Words(&'static str);
///
/// impl Inbound for Words {
///     async fn open(&mut self, _: &mut Setup<'_>) -> Result<(), OpenError> {
///         Ok(())
///     }
///
///     async fn run(self, outlet: Outlet) -> Result<(), BoxError> {
///         for word in self.0.split(' ') {
///             outlet.send(Message::new("any.thing", word)).await;
///         }
///         outlet.stopped().await;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let any = "tcp://127.0.0.1:0".parse()?;
/// let (mut pull, pulls_at) = Pull::bind(&any, &SocketOptions::default()).await?;
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(Words("one two"), "Words").route("Push");
/// server.register_outbound(PushConnection::connect(&pulls_at), "Push");
/// let server = server.spawn().await?;
///
/// for word in ["one", "two"] {
///     let mut frames = Vec::new();
///     pull.recv_many(&mut frames, 1).await?;
///     assert_eq!(Message::decode(frames.remove(0))?.payload(), word);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Inbound: Send + 'static {
    /// Binds the sockets of the part, so that peers can connect.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an address of two parts is refused by their names.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Sends messages to `outlet` until [`Outlet::stopped`] returns.
    ///
    /// # Errors
    ///
    /// Any error that ends the part. The component then stops.
    fn run(self, outlet: Outlet) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A part that receives messages from other parts, and handles them or sends them to peers.
///
/// ```
/// use std::time::Duration;
///
/// use palm::part::{Inlet, OpenError, Outbound, Outlet, Setup};
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
/// use palm::{BoxError, Message, ServerTemplate};
///
/// /// Answers with the length of each message's payload.
/// struct Lengths;
///
/// impl Outbound for Lengths {
///     async fn open(&mut self, _: &mut Setup<'_>) -> Result<(), OpenError> {
///         Ok(())
///     }
///
///     async fn run(self, mut inlet: Inlet, _: Outlet) -> Result<(), BoxError> {
///         let mut batch = Vec::new();
///         while inlet.recv_many(&mut batch, 100).await > 0 {
///             for envelope in batch.drain(..) {
///                 let length = envelope.message().payload().len();
///                 envelope.answer(length.to_string().into());
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Lengths").block(true);
/// server.register_outbound(Lengths, "Lengths");
/// let server = server.spawn().await?;
///
/// let at = server.address("rep_address").expect("the part announces it").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// let question = Message::new("any.thing", "hello").encode();
/// assert_eq!(request.request(question, Duration::from_secs(10)).await?, "5");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Outbound: Send + 'static {
    /// Binds or prepares the resources of the part.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an address of two parts is refused by their names.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Handles the messages of `inlet` until it is closed and empty. `outlet` leads to the part that answers are
    /// routed to, if any.
    ///
    /// # Errors
    ///
    /// Any error that ends the part. The component then stops.
    fn run(self, inlet: Inlet, outlet: Outlet)
    -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A part without a route, which runs alongside the others.
///
/// ```
/// use palm::part::{Bypass, OpenError, Setup, Stop};
/// use palm::parts::*;
/// use palm::{BoxError, ServerTemplate};
/// use tokio::sync::oneshot;
///
/// /// Reports when the component starts to run, and its name.
/// struct Starter(oneshot::Sender<String>, String);
///
/// impl Bypass for Starter {
///     async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
///         self.1 = setup.component().to_owned();
///         Ok(())
///     }
///
///     async fn run(self, stop: Stop) -> Result<(), BoxError> {
///         self.0.send(self.1).map_err(|name| format!("no receiver for {name}"))?;
///         stop.stopped().await;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let (sender, started) = oneshot::channel();
/// let mut server = ServerTemplate::new("server");
/// server.register_bypass(Starter(sender, String::new()), "Starter");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// assert_eq!(started.await?, "server");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Bypass: Send + 'static {
    /// Binds or prepares the resources of the part.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an address of two parts is refused by their names.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    ///
    /// Any error that ends the part. The component then stops.
    fn run(self, stop: Stop) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Hooks of an inbound part in a component that is composed by hand.
///
/// In the other components, the hooks of the user's type take this role.
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use palm::callable::Emit;
/// use palm::part::InboundHooks;
/// use palm::parts::*;
/// use palm::socket::{Pull, Request, SocketOptions};
/// use palm::{CallFailure, Context, Message, ServerTemplate};
///
/// /// Turns each word into a message, and answers with thanks.
/// struct Words;
///
/// impl InboundHooks for Words {
///     async fn scatter(
///         &mut self,
///         message: Message,
///         _: Context,
///         emit: &mut Emit<'_>,
///     ) -> Result<(), CallFailure> {
///         for word in message.payload().split(|byte| *byte == b' ') {
///             emit.send(message.clone().with_payload(word.to_vec())).await;
///         }
///         Ok(())
///     }
///
///     fn reply_feedback(&mut self, _: Bytes) -> Bytes {
///         "thank you".into()
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0").hooks(Words), "Rep").route("Push");
/// server.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let server = server.spawn().await?;
/// let address = |key| server.address(key).expect("the part announces it");
///
/// let mut pull = Pull::connect(&address("push_address").parse()?, &SocketOptions::default()).await?;
/// let request = Request::connect(&address("rep_address").parse()?, &SocketOptions::default()).await?;
/// let message = Message::new("any.thing", "one two").encode();
/// assert_eq!(request.request(message, Duration::from_secs(10)).await?, "thank you");
/// for word in ["one", "two"] {
///     let mut frames = Vec::new();
///     pull.recv_many(&mut frames, 1).await?;
///     assert_eq!(Message::decode(frames.remove(0))?.payload(), word);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait InboundHooks: Send + 'static {
    /// Whether [`scatter`](Self::scatter) is implemented. Default: yes.
    const SCATTERS: bool = true;

    /// Whether [`handle_feedback`](Self::handle_feedback) is implemented. Default: yes.
    const TAKES_FEEDBACK: bool = true;

    /// Turns a received message into the messages that are sent on. Default: the message itself.
    ///
    /// # Errors
    ///
    /// The message is sent on with the error in it. The part continues with the next message.
    fn scatter(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send {
        let _ = context;
        async move {
            emit.send(message).await;
            Ok(())
        }
    }

    /// Receives the router's answer to a message: the answer of the outbound part if the route is registered with
    /// `block`, otherwise `1`. Default: does nothing.
    fn handle_feedback(&mut self, feedback: &Bytes) {
        let _ = feedback;
    }

    /// Returns the answer for a peer that waits for one. Called after
    /// [`handle_feedback`](Self::handle_feedback). Default: `feedback`.
    fn reply_feedback(&mut self, feedback: Bytes) -> Bytes {
        feedback
    }
}

/// The hook of a [`Handler`](crate::parts::Handler), an outbound part that runs user code: write messages to a store,
/// or call another service.
///
/// `#[palm::outbound]` implements it from a method `handle`.
///
/// ```
/// use std::time::Duration;
///
/// use palm::callable::Emit;
/// use palm::part::OutboundHooks;
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
/// use palm::{CallFailure, Context, Message, ServerTemplate};
///
/// /// Emits each word.
/// struct Words;
///
/// impl OutboundHooks for Words {
///     async fn handle(
///         &mut self,
///         message: Message,
///         _: Context,
///         emit: &mut Emit<'_>,
///     ) -> Result<(), CallFailure> {
///         for word in message.payload().split(|byte| *byte == b' ') {
///             emit.send(message.clone().with_payload(word.to_vec())).await;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Words").block(true);
/// server.register_outbound(Handler::new(Words), "Words");
/// let server = server.spawn().await?;
///
/// let at = server.address("rep_address").expect("the part announces it").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// let question = Message::new("any.thing", "one two").encode();
/// let answer = Message::decode(request.request(question, Duration::from_secs(10)).await?)?;
/// assert_eq!(answer.payload(), "two");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait OutboundHooks: Send + 'static {
    /// Handles one message. Emitted messages are sent along the part's route; the last one is also the answer for an
    /// inbound part that waits.
    ///
    /// # Errors
    ///
    /// The message is sent on with the error in it.
    fn handle(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send;
}

/// The hook of a bypass that receives bodies, a
/// [`RepBypassService`](crate::parts::RepBypassService) or a
/// [`PullBypassConnection`](crate::parts::PullBypassConnection).
///
/// `#[palm::bypass]` implements it from a method `recv`.
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
/// /// Answers with the body of the previous request.
/// struct Before(Bytes);
///
/// impl BypassInbound for Before {
///     async fn recv(&mut self, body: Bytes) -> Outcome {
///         Outcome::Payload(std::mem::replace(&mut self.0, body))
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let mut server = ServerTemplate::new("server");
/// let before = Before("nothing".into());
/// server.register_bypass(RepBypassService::bind("tcp://127.0.0.1:0", before), "Before");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// let at = server.address("bypass_address").expect("the part announces it").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// for (body, before) in [("one", "nothing"), ("two", "one")] {
///     assert_eq!(request.request(body.into(), Duration::from_secs(10)).await?, before);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait BypassInbound: Send + 'static {
    /// Receives one body. The outcome is the answer for a peer that waits for one.
    fn recv(&mut self, body: Bytes) -> impl Future<Output = Outcome> + Send;
}

/// The producer of a [`PushBypassConnection`](crate::parts::PushBypassConnection), which sends bodies that did not pass
/// the router.
///
/// `#[palm::bypass]` implements it from a method `run`.
///
/// ```
/// use palm::part::BypassOutbound;
/// use palm::parts::*;
/// use palm::socket::{Pull, SocketOptions};
/// use palm::{BoxError, ServerTemplate};
///
/// /// Counts down.
/// struct Countdown(u32);
///
/// impl BypassOutbound for Countdown {
///     async fn run(self, sender: BypassSender) -> Result<(), BoxError> {
///         for number in (0..=self.0).rev() {
///             sender.send(number.to_string()).await;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let any = "tcp://127.0.0.1:0".parse()?;
/// let (mut pull, pulls_at) = Pull::bind(&any, &SocketOptions::default()).await?;
/// let mut server = ServerTemplate::new("server");
/// let countdown = PushBypassConnection::connect(&pulls_at).producer(Countdown(2));
/// server.register_bypass(countdown, "Countdown");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// let mut bodies = Vec::new();
/// while bodies.len() < 3 {
///     pull.recv_many(&mut bodies, 3).await?;
/// }
/// assert_eq!(bodies, ["2", "1", "0"]);
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait BypassOutbound: Send + 'static {
    /// Sends bodies to `sender`. The future is dropped when the component stops.
    ///
    /// # Errors
    ///
    /// Any error that ends the part. The component then stops.
    fn run(self, sender: BypassSender) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Hooks that send every message on unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl InboundHooks for NoHooks {
    const SCATTERS: bool = false;
    const TAKES_FEEDBACK: bool = false;
}

/// The address of a socket that only legacy peers use.
#[derive(Debug, Clone)]
pub(crate) struct LegacyAddress {
    pub(crate) address: Result<Address, AddressError>,
    /// Whether the address is the default, and not set by the user.
    pub(crate) is_default: bool,
}

impl LegacyAddress {
    pub(crate) fn given(address: Result<Address, AddressError>) -> Self {
        Self {
            address,
            is_default: false,
        }
    }
}

/// The component in which a part is opened: its name, its options, and the addresses that it announces.
#[derive(Debug)]
pub struct Setup<'a> {
    pub(crate) context: &'a Arc<ComponentContext>,
    pub(crate) shared: &'a Arc<ComponentState>,
    pub(crate) store: &'a Arc<ComponentStore>,
    pub(crate) options: &'a SocketOptions,
    pub(crate) advertised_host: Option<&'a str>,
    /// Whether peers reach the component only over links.
    pub(crate) links_only: bool,
    pub(crate) announced: &'a mut BTreeMap<String, String>,
    /// The option that sets the address which is bound next; for errors.
    pub(crate) option: &'a mut Option<&'static str>,
    pub(crate) counters: Arc<PartCounters>,
    pub(crate) functions: &'a mut Vec<Arc<FunctionCounters>>,
    /// The functions that can be called.
    pub(crate) described: &'a mut Vec<FunctionInfo>,
}

impl Setup<'_> {
    /// Returns the component's name.
    pub fn component(&self) -> &str {
        &self.context.name
    }

    /// Returns the component's socket options. Binding a socket with these options fails if other hosts could reach it
    /// and the network is not trusted.
    pub fn socket_options(&self) -> &SocketOptions {
        self.options
    }

    /// Binds a socket for legacy peers: now, or when the first peer requests its address under `key`.
    ///
    /// `key` is also the option that sets the address. The socket is never bound if the component has links only.
    pub(crate) async fn bind_legacy(
        &mut self,
        key: &'static str,
        legacy: &LegacyAddress,
        socket: Peers,
    ) -> Result<(), SocketError> {
        let address = self.bind_address(key, &legacy.address)?;
        if self.links_only {
            return Ok(());
        }
        if let Some(network) = &self.options.network {
            address.check(network)?;
        }
        if legacy.is_default && self.shared.links.options().enabled {
            match ReservedPort::new(&address) {
                Ok(Some(port)) => {
                    self.bind_when_asked(key, port, socket);
                    return Ok(());
                }
                Ok(None) => {}
                Err(source) => return Err(SocketError::Bind { address, source }),
            }
        }
        let bound = socket.bind(&address, self.options).await?;
        self.announce(key, &bound);
        Ok(())
    }

    /// Binds `socket` when the first peer requests its address under `key`.
    fn bind_when_asked(&mut self, key: &'static str, port: ReservedPort, socket: Peers) {
        let address = port.address();
        if let (Some(network), Some(host)) = (&self.options.network, address.host()) {
            network.note(host, address);
        }
        self.announce(key, &address.clone());
        self.shared.on_demand.add(OnDemandSocket {
            key,
            port,
            socket,
            options: self.options.clone(),
            runtime: Handle::current(),
            span: tracing::Span::current(),
        });
    }

    /// Returns the address that a socket is to be bound to, and remembers the `option` that sets it for errors.
    pub(crate) fn bind_address(
        &mut self,
        option: &'static str,
        address: &Result<Address, AddressError>,
    ) -> Result<Address, SocketError> {
        *self.option = Some(option);
        Ok(address.clone()?)
    }

    /// Announces the address of the part to peers under the cache key `key`, and returns the announced address.
    ///
    /// A wildcard host is replaced by one that peers can connect to.
    pub fn announce(&mut self, key: &str, bound: &Address) -> Address {
        let address = bound.for_peers(self.advertised_host);
        self.announced.insert(key.to_owned(), address.to_string());
        address
    }

    pub(crate) fn counters(&self) -> Arc<PartCounters> {
        self.counters.clone()
    }
}

/// An address that a part will bind.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Binding {
    /// The option that sets the address, such as `pull_address`.
    pub(crate) option: &'static str,
    pub(crate) address: Result<Address, AddressError>,
    /// Whether only legacy peers use the address, so that it is not bound with `links_only`.
    pub(crate) is_legacy: bool,
}

impl Binding {
    pub(crate) fn new(option: &'static str, address: &Result<Address, AddressError>) -> Self {
        let address = address.clone();
        let is_legacy = false;
        Self {
            option,
            address,
            is_legacy,
        }
    }

    pub(crate) fn legacy(option: &'static str, address: &Result<Address, AddressError>) -> Self {
        let is_legacy = true;
        Self {
            is_legacy,
            ..Self::new(option, address)
        }
    }
}

/// The error of a part that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A socket could not be bound or connected.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An error of a part that is implemented by the user.
    #[error(transparent)]
    Custom(#[from] BoxError),
}

/// A message on its way from one part to the next.
#[derive(Debug)]
pub struct Envelope {
    pub(crate) message: Message,
    /// The client that it counts for in shared queues.
    pub(crate) flow: Flow,
    /// When it was received or created.
    pub(crate) since: Instant,
    pub(crate) feedback: Option<oneshot::Sender<Bytes>>,
    /// Whether it is passed to the hook `gather`: not if `scatter` failed.
    pub(crate) gathers: bool,
    /// The messages that travel as one, if there are several; `message` is the first of them.
    pub(crate) group: Option<Box<Batch>>,
}

impl Queued for Envelope {
    const HAS_FLOWS: bool = true;

    fn flow(&self) -> Flow {
        self.flow
    }

    fn usage(&self) -> Usage {
        match &self.group {
            Some(group) => Usage {
                messages: group.len(),
                bytes: group.bytes(),
            },
            None => Usage {
                messages: 1,
                bytes: self.message.weight(),
            },
        }
    }

    fn split_to(&mut self, messages: usize) -> Option<Self> {
        let group = self.group.as_mut()?;
        if messages == 0 || messages >= group.len() {
            return None;
        }
        let front = group.split_to(messages);
        // Decoding copies nothing. A malformed message is reported when the group is split.
        let next = Message::decode(group.first()).unwrap_or_default();
        let first = std::mem::replace(&mut self.message, next);
        Some(Self {
            gathers: self.gathers,
            ..Self::from_group(first, front, self.flow, self.since)
        })
    }
}

impl Envelope {
    /// Returns an envelope whose answer is not awaited.
    pub(crate) fn new(message: Message, flow: Flow, since: Instant) -> Self {
        Self {
            message,
            flow,
            since,
            feedback: None,
            gathers: true,
            group: None,
        }
    }

    /// Returns an envelope with several messages for the same route, of which `first` is the first.
    pub(crate) fn from_group(first: Message, group: Batch, flow: Flow, since: Instant) -> Self {
        Self {
            group: Some(Box::new(group)),
            ..Self::new(first, flow, since)
        }
    }

    /// Appends an envelope for each message to `out`. Drops malformed messages.
    pub(crate) fn split_into(self, out: &mut Vec<Self>) {
        let Some(group) = self.group else {
            return out.push(self);
        };
        let messages = group.frames().filter_map(Message::read);
        out.extend(messages.map(|message| Self::new(message, self.flow, self.since)));
    }

    /// Returns an envelope whose answer is sent to `feedback`, which is dropped if there is none.
    #[cfg(feature = "http")]
    pub(crate) fn answered_by(message: Message, feedback: oneshot::Sender<Bytes>) -> Self {
        let flow = flow_of(&message);
        Self {
            feedback: Some(feedback),
            ..Self::new(message, flow, Instant::now())
        }
    }

    /// Returns the message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the message, and sends `answer` to the inbound part if it waits for one.
    pub fn answer(self, answer: Bytes) -> Message {
        if let Some(feedback) = self.feedback {
            // The receiver is gone if the component stops.
            let _ = feedback.send(answer);
        }
        self.message
    }
}

/// The receiving end of an outbound part's queue.
#[derive(Debug)]
pub struct Inlet {
    pub(crate) queue: queue::Receiver<Envelope>,
    pub(crate) stop: Stop,
}

impl Inlet {
    /// Waits for messages, appends up to `max` of them to `out`, and returns their number. Clients are served in turn.
    ///
    /// Returns 0 once all parts upstream have ended and the queue is empty. Send messages that
    /// [are done](Message::is_done) on unchanged.
    ///
    /// # Cancel safety
    ///
    /// No message is lost if the future is dropped.
    pub async fn recv_many(&mut self, out: &mut Vec<Envelope>, max: usize) -> usize {
        let before = out.len();
        loop {
            let received = self.queue.recv_many(out, max.max(1)).await;
            if out[before..].iter().any(|it| it.group.is_some()) {
                for envelope in out.split_off(before) {
                    envelope.split_into(out);
                }
            }
            if received == 0 || out.len() > before {
                return out.len() - before;
            }
        }
    }

    /// Waits for messages and appends up to `max` envelopes to `out`, without splitting groups.
    pub(crate) async fn recv_groups(&mut self, out: &mut Vec<Envelope>, max: usize) -> usize {
        self.queue.recv_values(out, max).await
    }

    /// Pauses or resumes the messages of a flow.
    pub(crate) fn set_paused(&mut self, flow: FlowKey, is_paused: bool) {
        self.queue.set_paused(flow, is_paused);
    }

    /// Puts back the last received messages that were not handled, so that messages of other clients precede them.
    pub(crate) fn restore(&mut self, rest: impl DoubleEndedIterator<Item = Envelope>) {
        self.queue.restore(rest);
    }

    /// Yields to senders that wait for capacity, before user code that may block the thread.
    pub(crate) async fn yield_to_senders(&mut self) {
        if self.queue.made_room() {
            tokio::task::yield_now().await;
        }
    }

    /// Returns how long a closing socket may take to send queued messages.
    pub fn linger(&self) -> Duration {
        self.stop.linger
    }
}

/// Adapts the number of messages that a part receives at once to what it handles in [`TARGET`](Self::TARGET).
///
/// Further messages stay in the queue, which serves clients in turn; in the part they would be first in, first out.
#[derive(Debug)]
pub(crate) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        // Doubles with each batch that is handled in time.
        Self(1)
    }
}

impl Pace {
    const TARGET: Duration = Duration::from_millis(1);

    /// Returns how many messages to receive.
    pub(crate) fn messages(&self) -> usize {
        self.0
    }

    /// Returns whether the rest of a batch should be put back after this time.
    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed > Self::TARGET
    }

    /// Records that `handled` of `taken` messages were handled in `elapsed`.
    pub(crate) fn handled(&mut self, taken: usize, handled: usize, elapsed: Duration) {
        if handled < taken || self.is_over(elapsed) {
            self.0 = handled.max(1);
        } else {
            self.0 = (2 * self.0).min(BATCH);
        }
    }
}

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
        self.send_since(message, Instant::now()).await
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
    /// Messages that were not sent remain in `batch`.
    pub(crate) async fn send_all(&self, batch: &mut Vec<Envelope>) {
        if batch.is_empty() {
            return;
        }
        self.log_all(batch);
        let sent = match &self.route {
            Some(route) => route.send_all(batch).await,
            None => Ok(()),
        };
        if sent.is_err() {
            self.warn_of_loss(batch.len());
        }
        batch.clear();
    }

    /// Sends the messages whose flows have capacity, in the order of each flow. The others remain in `batch`; retry when
    /// [`released`](Self::released) returns.
    pub(crate) fn try_send_all(&self, batch: &mut Vec<Envelope>) -> Option<Releases> {
        let Some(route) = &self.route else {
            batch.clear();
            return None;
        };
        match route.try_send(batch) {
            Ok(releases) => Some(releases),
            Err(queue::Closed) => {
                self.warn_of_loss(batch.len());
                batch.clear();
                None
            }
        }
    }

    /// Returns for how many messages of a flow there is capacity; unlimited without a route.
    pub(crate) fn capacity(&self, flow: FlowKey) -> (usize, Option<Releases>) {
        match &self.route {
            Some(route) => {
                let (room, releases) = route.room(flow);
                (room, Some(releases))
            }
            None => (usize::MAX, None),
        }
    }

    /// Waits until messages have left the queue after `since`. Cancel safe.
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

    pub(crate) fn log_all(&self, batch: &[Envelope]) {
        debug_assert!(!self.block, "answers would be lost");
        if self.log {
            for Envelope { message, .. } in batch {
                tracing::debug!(part = &*self.part, ?message, "message");
            }
        }
    }

    /// Returns whether a group of `messages` messages can be sent without splitting it.
    pub(crate) fn can_send_group(&self, messages: usize) -> bool {
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

    /// Deducts up to `wanted` messages from those [`remaining`](Self::remaining), and returns how many. Stops the
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

/// Sends the messages that a hook emits to an outlet, each with an id.
pub(crate) struct EmitToOutlet<'a> {
    pub(crate) outlet: &'a Outlet,
    /// The flow of the message that was passed to the hook.
    pub(crate) flow: Flow,
    pub(crate) since: Instant,
    /// The answer to the last sent message.
    pub(crate) answer: Bytes,
    /// The completion weight that is split among the messages, and the client topic that it belongs to.
    pub(crate) share: Option<(Split, ByteString)>,
}

impl EmitToOutlet<'_> {
    /// Sends the remaining completion weight of `message` after its hook has returned.
    pub(crate) async fn finish(&mut self, message: impl FnOnce() -> Message) {
        if let Some((split, _)) = self.share.take() {
            let rest = message().into_rest(split.rest());
            let rest = Envelope::new(rest, self.flow, self.since);
            self.outlet.send_done(rest).await;
        }
    }
}

impl EmitQueue for EmitToOutlet<'_> {
    fn send(&mut self, mut message: Message) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            message.ensure_id();
            if let Some((split, client)) = &mut self.share {
                let is_same = message.client() == &**client;
                message.set_share(is_same.then(|| split.piece()));
            }
            self.answer = self.outlet.send_in(message, self.flow, self.since).await;
        })
    }
}

impl EmitQueue for Vec<Message> {
    fn send(&mut self, message: Message) -> BoxFuture<'_, ()> {
        self.push(message);
        Box::pin(std::future::ready(()))
    }
}
