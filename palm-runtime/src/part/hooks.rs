//! The hooks of parts that run user code.

use std::future::Future;

use bytes::Bytes;

use super::BypassSender;
use crate::context::Context;
use crate::failure::{BoxError, CallFailure};
use crate::message::Message;
use crate::method::{Emit, Outcome};

/// Hooks of an inbound part in a component that is composed by hand, set where the part is
/// [registered](crate::component::InboundEntry::hooks).
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
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").hooks(Words).route("Push");
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
