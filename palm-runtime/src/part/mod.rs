//! What a part is: an inbound one brings messages in, an outbound one takes them on, a bypass runs
//! beside.
//!
//! A part lives twice: it is opened ([`Inbound::open`]: sockets are bound, addresses announced),
//! and, once all parts of its component are, it runs. An inbound part gives messages to its
//! [`Outlet`], an outbound part takes them from its [`Inlet`]; the
//! [`ServerTemplate`](crate::ServerTemplate) has connected the two by a bounded queue. When the
//! component stops, inbound parts return first; each outbound part returns when its inlet has run
//! dry; bypasses come last.

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
use crate::message::{Group, Message, Split};
use crate::method::{Emit, EmitQueue, FunctionInfo, Outcome};
use crate::metrics::{FunctionCounters, PartCounters};
use crate::queue::{self, Queued, Releases};
use crate::socket::{Address, AddressError, Peers, ReservedPort, SocketError, SocketOptions};
pub use crate::stop::Stop;

mod bypass_sender;

pub use bypass_sender::BypassSender;

/// Messages that a part takes from a socket or a queue at once.
pub(crate) const BATCH: usize = 256;

/// Brings messages in.
///
/// ```
/// use palm::part::{Inbound, OpenError, Outlet, Setup};
/// use palm::parts::*;
/// use palm::socket::{Pull, SocketOptions};
/// use palm::{BoxError, Message, ServerTemplate};
///
/// /// Brings in one message for each word.
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
    /// Opens what the part needs: after this, peers can connect.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when an address cannot be bound; the component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// What the part is going to bind, so that two parts at one address are refused by name.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Brings messages in, until [`Outlet::stopped`].
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to go on; the component then stops.
    fn run(self, outlet: Outlet) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Takes messages on.
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
/// let at = server.address("rep_address").expect("it was announced").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// let question = Message::new("any.thing", "hello").encode();
/// assert_eq!(request.request(question, Duration::from_secs(10)).await?, "5");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Outbound: Send + 'static {
    /// Opens what the part needs.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when an address cannot be bound; the component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// What the part is going to bind, so that two parts at one address are refused by name.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Takes messages on, until the inlet has run dry. `outlet` leads to the part that its answers
    /// are routed to, if any.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to go on; the component then stops.
    fn run(self, inlet: Inlet, outlet: Outlet)
    -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Runs beside, without a route.
///
/// ```
/// use palm::part::{Bypass, OpenError, Setup, Stop};
/// use palm::parts::*;
/// use palm::{BoxError, ServerTemplate};
/// use tokio::sync::oneshot;
///
/// /// Tells when the component starts to run, and whose it is.
/// struct Starter(oneshot::Sender<String>, String);
///
/// impl Bypass for Starter {
///     async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
///         self.1 = setup.component().to_owned();
///         Ok(())
///     }
///
///     async fn run(self, stop: Stop) -> Result<(), BoxError> {
///         self.0.send(self.1).map_err(|name| format!("nobody waits for {name}"))?;
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
    /// Opens what the part needs.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when an address cannot be bound; the component is then not started.
    fn open(&mut self, setup: &mut Setup<'_>)
    -> impl Future<Output = Result<(), OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// What the part is going to bind, so that two parts at one address are refused by name.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to go on; the component then stops.
    fn run(self, stop: Stop) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Hooks of an inbound part, for components made from parts by hand.
///
/// The high-level components have the hooks of their user's type in this place.
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
/// /// Makes a message of each word, and thanks for them.
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
/// let address = |key| server.address(key).expect("it was announced");
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
    /// Whether [`scatter`](Self::scatter) does anything. Default: yes.
    const SCATTERS: bool = true;

    /// Whether [`handle_feedback`](Self::handle_feedback) does anything. Default: yes.
    const TAKES_FEEDBACK: bool = true;

    /// Turns a message that came in into those that go on. Default: the message itself.
    ///
    /// # Errors
    ///
    /// The message then goes no further; the part goes on with the next.
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

    /// Takes what the router answered to a message: the outbound part's answer where the route is
    /// registered with `block`, `1` otherwise. Default: nothing happens.
    fn handle_feedback(&mut self, feedback: &Bytes) {
        let _ = feedback;
    }

    /// What the peer is answered, in a part whose peer waits for it, after
    /// [`handle_feedback`](Self::handle_feedback) got `feedback`. Default: the feedback.
    fn reply_feedback(&mut self, feedback: Bytes) -> Bytes {
        feedback
    }
}

/// What an outbound part of your own does with messages, in a [`Handler`](crate::parts::Handler): write
/// them to a store, call another service.
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
/// /// Yields each word.
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
/// let at = server.address("rep_address").expect("it was announced").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// let question = Message::new("any.thing", "one two").encode();
/// let answer = Message::decode(request.request(question, Duration::from_secs(10)).await?)?;
/// assert_eq!(answer.payload(), "two");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait OutboundHooks: Send + 'static {
    /// Handles one message. What it yields goes on along the part's route; the last of it is the answer
    /// where an inbound part waits for one.
    ///
    /// # Errors
    ///
    /// The message then goes on with the error in it.
    fn handle(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send;
}

/// What becomes of bytes that come in beside the router, in a
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
/// /// Answers with what it was told before.
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
/// let at = server.address("bypass_address").expect("it was announced").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// for (told, before) in [("one", "nothing"), ("two", "one")] {
///     assert_eq!(request.request(told.into(), Duration::from_secs(10)).await?, before);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait BypassInbound: Send + 'static {
    /// Takes one body; what it gives is the answer, where a peer waits for one.
    fn recv(&mut self, body: Bytes) -> impl Future<Output = Outcome> + Send;
}

/// What is sent beside the router, in a
/// [`PushBypassConnection`](crate::parts::PushBypassConnection).
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
    /// Gives bytes to `sender`. It is dropped when the component stops.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to go on; the component then stops.
    fn run(self, sender: BypassSender) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Every message goes on as it came.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl InboundHooks for NoHooks {
    const SCATTERS: bool = false;
    const TAKES_FEEDBACK: bool = false;
}

/// The address of a socket for legacy peers.
#[derive(Debug, Clone)]
pub(crate) struct LegacyAddress {
    pub(crate) address: Result<Address, AddressError>,
    /// Whether the user has left it open.
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

/// What a part finds when it is opened.
#[derive(Debug)]
pub struct Setup<'a> {
    pub(crate) context: &'a Arc<ComponentContext>,
    pub(crate) shared: &'a Arc<ComponentState>,
    pub(crate) store: &'a Arc<ComponentStore>,
    pub(crate) options: &'a SocketOptions,
    pub(crate) advertised_host: Option<&'a str>,
    /// Whether peers reach the component over links and nothing else.
    pub(crate) links_only: bool,
    pub(crate) announced: &'a mut BTreeMap<String, String>,
    /// The option by which the address was given that is bound next.
    pub(crate) option: &'a mut Option<&'static str>,
    pub(crate) counters: Arc<PartCounters>,
    pub(crate) functions: &'a mut Vec<Arc<FunctionCounters>>,
    /// What can be called.
    pub(crate) described: &'a mut Vec<FunctionInfo>,
}

impl Setup<'_> {
    /// The component's name.
    pub fn component(&self) -> &str {
        &self.context.name
    }

    /// How sockets are to behave. A socket that is bound with these options is refused where other hosts could
    /// reach it, unless the network is trusted.
    pub fn socket_options(&self) -> &SocketOptions {
        self.options
    }

    /// Binds a socket for legacy peers, now or when one first asks for its address under `key`, which is also how
    /// the address is given; never if the component has links only.
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

    /// Binds `socket` when a peer first asks for its address under `key`.
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

    /// Where a socket is to be bound. `option` is how the address is given.
    pub(crate) fn bind_address(
        &mut self,
        option: &'static str,
        address: &Result<Address, AddressError>,
    ) -> Result<Address, SocketError> {
        *self.option = Some(option);
        Ok(address.clone()?)
    }

    /// Tells peers, under the cache key `key`, where the part is to be found. A wildcard host becomes
    /// one that they can connect to.
    pub fn announce(&mut self, key: &str, bound: &Address) -> Address {
        let address = bound.for_peers(self.advertised_host);
        self.announced.insert(key.to_owned(), address.to_string());
        address
    }

    pub(crate) fn counters(&self) -> Arc<PartCounters> {
        self.counters.clone()
    }
}

/// An address that a part of palm binds when it is opened.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Binding {
    /// How the address is given, such as `pull_address`.
    pub(crate) option: &'static str,
    pub(crate) address: Result<Address, AddressError>,
    /// Whether only legacy peers need it, so that it is not bound with `links_only`.
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

/// Why a part could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A socket could not be bound or connected.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Something of the user's own parts.
    #[error(transparent)]
    Custom(#[from] BoxError),
}

/// A message on its way from one part to the next.
#[derive(Debug)]
pub struct Envelope {
    pub(crate) message: Message,
    /// Whose it is, where several share a queue.
    pub(crate) flow: Flow,
    /// When it came in, or was made.
    pub(crate) since: Instant,
    pub(crate) feedback: Option<oneshot::Sender<Bytes>>,
    /// Whether the hook `gather` is to see it: not where `scatter` failed.
    pub(crate) gathers: bool,
    /// The messages that travel as one, if there are several; `message` is the first of them.
    pub(crate) group: Option<Box<Group>>,
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
        // Views of the same memory. A malformed message is found where the group is taken apart.
        let next = Message::decode(group.first()).unwrap_or_default();
        let first = std::mem::replace(&mut self.message, next);
        Some(Self {
            gathers: self.gathers,
            ..Self::from_group(first, front, self.flow, self.since)
        })
    }
}

impl Envelope {
    /// A message without a peer that waits for its answer.
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
    pub(crate) fn from_group(first: Message, group: Group, flow: Flow, since: Instant) -> Self {
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

    /// A message whose answer goes to `feedback`; where there is none, that is dropped.
    #[cfg(feature = "http")]
    pub(crate) fn answered_by(message: Message, feedback: oneshot::Sender<Bytes>) -> Self {
        let flow = flow_of(&message);
        Self {
            feedback: Some(feedback),
            ..Self::new(message, flow, Instant::now())
        }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Takes the message; `answer` goes back to the inbound part if that waits for it.
    pub fn answer(self, answer: Bytes) -> Message {
        if let Some(feedback) = self.feedback {
            // Nobody waits any more: the component stops.
            let _ = feedback.send(answer);
        }
        self.message
    }
}

/// Where an outbound part takes its messages from.
#[derive(Debug)]
pub struct Inlet {
    pub(crate) queue: queue::Receiver<Envelope>,
    pub(crate) stop: Stop,
}

impl Inlet {
    /// Waits for messages and takes up to `max`, of each client in turn; 0 when the component stops and
    /// nothing is left. Cancel safe: nothing is lost.
    ///
    /// Among them are messages that [are done](Message::is_done): send those on as they are.
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

    /// Takes no messages of a flow until it is resumed.
    pub(crate) fn set_paused(&mut self, flow: FlowKey, is_paused: bool) {
        self.queue.set_paused(flow, is_paused);
    }

    /// Returns the messages that were taken last and are not handled yet, so that others do not wait for them.
    pub(crate) fn restore(&mut self, rest: impl DoubleEndedIterator<Item = Envelope>) {
        self.queue.restore(rest);
    }

    /// Yields to senders that wait for capacity, before user code that may block the thread.
    pub(crate) async fn yield_to_senders(&mut self) {
        if self.queue.made_room() {
            tokio::task::yield_now().await;
        }
    }

    /// How long a closing socket may take to send what is queued.
    pub fn linger(&self) -> Duration {
        self.stop.linger
    }
}

/// How many messages a part takes at once from its inlet: those that it handles in about [`SPAN`](Self::SPAN).
/// The rest stays in the queue, where clients have their turns, and is not first in, first out in the part.
#[derive(Debug)]
pub(crate) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        // Soon there are more, unless the first ones take long.
        Self(1)
    }
}

impl Pace {
    const TARGET: Duration = Duration::from_millis(1);

    /// How many messages to take.
    pub(crate) fn messages(&self) -> usize {
        self.0
    }

    /// Whether messages that were begun after such a time go back to the inlet.
    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed > Self::TARGET
    }

    /// Of `taken` messages so many were handled, in this time.
    pub(crate) fn handled(&mut self, taken: usize, handled: usize, elapsed: Duration) {
        if handled < taken || self.is_over(elapsed) {
            self.0 = handled.max(1);
        } else {
            self.0 = (2 * self.0).min(BATCH);
        }
    }
}

/// Where a part gives its messages to: the queue of the part that it is routed to.
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
    /// Gives one message on; waits while the queue is full. Returns the router's answer: that of the
    /// outbound part where the route is registered with `block`, otherwise `1`, at once.
    ///
    /// Where no route is registered the message goes nowhere.
    pub async fn send(&self, message: Message) -> Bytes {
        self.send_since(message, Instant::now()).await
    }

    /// [`send`](Self::send) of a message that has come in, or was made, at another time.
    pub(crate) async fn send_since(&self, message: Message, since: Instant) -> Bytes {
        let flow = flow_of(&message);
        self.send_in(message, flow, since).await
    }

    /// [`send_since`](Self::send_since) of a message of a known flow.
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
            // No answer: the message came to nothing, e.g. a function that returns nothing.
            Some(answer) => answer.await.unwrap_or_default(),
            None => NO_ANSWER,
        }
    }

    /// Sends on a message with an error in it: along the route for failures, or else along the ordinary
    /// route, whose parts pass it on as it is.
    pub(crate) async fn send_failed(&self, mut message: Message, flow: Flow, since: Instant) {
        let route = match (&self.failures, &self.route) {
            (Some(failures), _) => failures,
            // Without a client no publisher could deliver it.
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

    /// Sends on a message that [`is_done`](Message::is_done), and that no part answers: along the ordinary
    /// route, so that it stays in order behind the messages that were sent before it.
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

    /// Sends messages, all at once if there is capacity, which costs no more than sending one; waits for
    /// capacity. Where the outlet waits for answers, use [`send`](Self::send) instead.
    ///
    /// Cancel safe: messages that were not sent are still in `batch`.
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

    /// Sends the messages whose flows have capacity, in the order of each flow, and leaves the others, which
    /// may be sent when the queue is [`released`](Self::released).
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

    /// Waits until messages have left the queue since. Cancel safe.
    pub(crate) async fn released(&self, since: Option<Releases>) {
        match (&self.route, since) {
            (Some(route), Some(since)) => route.released(since).await,
            _ => std::future::pending().await,
        }
    }

    /// How many messages the queue holds.
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
        // The part behind ended before its time; the component stops, and says why.
        let part = &*self.part;
        tracing::warn!(
            part,
            messages,
            "dropping messages: the downstream part has ended"
        );
    }

    /// Whether there is a part behind.
    pub fn has_route(&self) -> bool {
        self.route.is_some()
    }

    /// Whether the part behind has ended, so that nothing can be given to it.
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

/// Gives the messages that a hook yields to an outlet, each with an id.
pub(crate) struct EmitToOutlet<'a> {
    pub(crate) outlet: &'a Outlet,
    /// That of the message which the hook is given.
    pub(crate) flow: Flow,
    pub(crate) since: Instant,
    /// The answer to the last message.
    pub(crate) answer: Bytes,
    /// What is split among the messages, and whose it is.
    pub(crate) share: Option<(Split, ByteString)>,
}

impl EmitToOutlet<'_> {
    /// Sends the rest of the completion weight of `message`, which its hook has left.
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
