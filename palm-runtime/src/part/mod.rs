//! The traits of parts, and what connects them: inlets, outlets and envelopes.
//!
//! A component is made of parts. An inbound part receives messages from peers, an outbound part handles or sends
//! messages, and a bypass runs without a route. Each part has two phases. [`Inbound::open`] binds sockets and
//! announces their addresses; the part that it returns *runs* once all parts of its component are open. An inbound part
//! sends messages to its [`Outlet`], and an outbound part receives them from its [`Inlet`]: the
//! [`ServerTemplate`](crate::ServerTemplate) has connected the two by a bounded queue.
//!
//! When the component stops, inbound parts return first. An outbound part returns once its inlet is closed and
//! empty, which is the case after all parts upstream of it have returned. Bypasses are stopped last.

mod any_hooks;
mod bypass_sender;
mod emit;
mod envelope;
mod hooks;
mod inlet;
mod outlet;
mod running;
mod setup;

use std::future::Future;

pub use crate::stop::Stop;
pub(crate) use any_hooks::AnyInboundHooks;
pub use bypass_sender::BypassSender;
pub(crate) use emit::EmitToOutlet;
pub use envelope::Envelope;
pub use hooks::{BypassInbound, BypassOutbound, InboundHooks, OutboundHooks};
pub use inlet::Inlet;
pub(crate) use inlet::Pace;
pub use outlet::Outlet;
pub use running::Running;
pub(crate) use running::{ClosedPart, RunningPart};
pub(crate) use setup::LegacyAddress;
pub use setup::{Binding, OpenError, Setup};

/// Maximum number of messages that a part receives at once from a socket or a queue.
pub(crate) const BATCH: usize = 256;

/// A part that receives messages from peers or other sources, and sends them to an outbound part.
///
/// ```
/// use palm::part::{Inbound, OpenError, Outlet, Running, Setup};
/// use palm::parts::*;
/// use palm::socket::{Pull, SocketOptions};
/// use palm::{Message, ServerTemplate};
///
/// /// Sends one message for each word.
/// struct Words(&'static str);
///
/// impl Inbound for Words {
///     async fn open(self, _: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
///         Ok(Running::inbound(move |outlet| async move {
///             for word in self.0.split(' ') {
///                 outlet.send(Message::new("any.thing", word)).await;
///             }
///             outlet.stopped().await;
///             Ok(())
///         }))
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
    /// Binds the sockets of the part, so that peers can connect. Returns the part as one that runs once all parts of the
    /// component are open.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(
        self,
        setup: &mut Setup<'_>,
    ) -> impl Future<Output = Result<Running<Outlet>, OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns whether the part runs the hooks that it is registered with. Default: no.
    #[doc(hidden)]
    fn runs_hooks(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an error can name two parts with one address.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }
}

/// A part that receives messages from other parts, and handles them or sends them to peers.
///
/// ```
/// use std::time::Duration;
///
/// use palm::part::{Inlet, OpenError, Outbound, Outlet, Running, Setup};
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
/// use palm::{Message, ServerTemplate};
///
/// /// Answers with the length of each message's payload.
/// struct Lengths;
///
/// impl Outbound for Lengths {
///     async fn open(self, _: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
///         Ok(Running::outbound(move |mut inlet, _| async move {
///             let mut batch = Vec::new();
///             while inlet.recv_many(&mut batch, 100).await > 0 {
///                 for envelope in batch.drain(..) {
///                     let length = envelope.message().payload().len();
///                     envelope.answer(length.to_string().into());
///                 }
///             }
///             Ok(())
///         }))
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
    /// Binds or prepares the resources of the part. Returns the part as one that runs once all parts of the component are
    /// open.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(
        self,
        setup: &mut Setup<'_>,
    ) -> impl Future<Output = Result<Running<(Inlet, Outlet)>, OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an error can name two parts with one address.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }
}

/// A part without a route, which runs alongside the others.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::part::{Bypass, OpenError, Running, Setup, Stop};
/// use palm::parts::*;
/// use tokio::sync::oneshot;
///
/// /// Reports when the component starts to run, and its name.
/// struct Starter(oneshot::Sender<String>);
///
/// impl Bypass for Starter {
///     async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
///         let name = setup.component().to_owned();
///         Ok(Running::bypass(move |stop| async move {
///             self.0.send(name).map_err(|name| format!("no receiver for {name}"))?;
///             stop.stopped().await;
///             Ok(())
///         }))
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let (sender, started) = oneshot::channel();
/// let mut server = ServerTemplate::new("server");
/// server.register_bypass(Starter(sender), "Starter");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// assert_eq!(started.await?, "server");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Bypass: Send + 'static {
    /// Binds or prepares the resources of the part. Returns the part as one that runs once all parts of the component are
    /// open.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an address cannot be bound. The component is then not started.
    fn open(
        self,
        setup: &mut Setup<'_>,
    ) -> impl Future<Output = Result<Running<Stop>, OpenError>> + Send;

    /// Returns whether the part only forwards messages, and never blocks its thread for long. Default: no.
    ///
    /// Such parts of a component share a task, in which a message passes from one to the next without waking another
    /// thread. Outbound parts share it only if all parts of the component are of this kind.
    fn forwards_only(&self) -> bool {
        false
    }

    /// Returns the addresses that the part will bind, so that an error can name two parts with one address.
    #[doc(hidden)]
    fn binds(&self) -> Vec<Binding> {
        Vec::new()
    }
}
