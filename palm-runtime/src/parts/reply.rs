//! REP parts: receive messages from peers that wait for an answer.

use std::time::Duration;

use bytes::Bytes;

use super::context::PartContext;
use super::request_loop::{ANSWER_TIMEOUT, RequestLoop, RequestOutcome, RequestSource, Respond};
use crate::discovery::{Endpoint, IntoAddress, ParsedAddress};
use crate::failure::BoxError;
use crate::part::{AnyInboundHooks, Binding, Inbound, OpenError, Outlet, Running, Setup};
use crate::socket::{Frames, Reply, Responder, SocketClosed};

/// An inbound part that receives messages from REQ peers and answers each. Announced as `rep_address`.
///
/// If the part is registered with `block`, the answer is that of the outbound part, or `0` if there is none in time.
/// Otherwise it is `1`, at once.
///
/// Ahead of a [`PushPullService`](super::PushPullService), concurrent requests need different message ids, also those of
/// other parts. One with the id of a request that waits for its result is answered with an error, unless it is the same
/// request, sent again because the peer received no answer (up to 64 KiB): the first result answers both.
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
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// /// Answers in capitals.
/// struct Shout;
///
/// impl OutboundHooks for Shout {
///     async fn handle(
///         &mut self,
///         message: Message,
///         _: Context,
///         emit: &mut Emit<'_>,
///     ) -> Result<(), CallFailure> {
///         let loud = message.payload().to_ascii_uppercase();
///         emit.send(message.with_payload(loud)).await;
///         Ok(())
///     }
/// }
///
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Shout").block(true);
/// server.register_outbound(Handler::new(Shout), "Shout");
/// let server = server.spawn().await?;
///
/// let at = server.address("rep_address").expect("the part announces it").parse().expect("an address");
/// let request = Request::connect(&at, &SocketOptions::default()).await.expect("connects");
/// let question = Message::new("server.shout", "hello").encode();
/// let answer = request.request(question, Duration::from_secs(10)).await.expect("an answer");
/// assert_eq!(Message::decode(answer).expect("a message").payload(), "HELLO");
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RepService {
    address: ParsedAddress,
    answer_timeout: Duration,
}

impl RepService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    /// Sets how long a request may wait for its answer after it was received. Default: 60 s.
    ///
    /// Then its peer receives `0`. A later result is sent along its route, but is not an answer any more.
    ///
    /// With the hook `scatter`, requests are handled one at a time. A request without an answer delays the others until
    /// the timeout, which also ends its hook.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }
}

impl Inbound for RepService {
    fn runs_hooks(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::new("rep_address", &self.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let address = setup.bind_address("rep_address", &self.address)?;
        let (reply, bound) = Reply::bind(&address, setup.options).await?;
        setup.announce("rep_address", &bound);
        let opened = PartContext::new(setup);
        let hooks = setup.take_hooks();
        Ok(Running::inbound(move |outlet| {
            answer_all(reply, hooks, self.answer_timeout, opened, outlet)
        }))
    }
}

/// An inbound part that connects to one peer, and receives and answers its messages as a [`RepService`] does.
///
/// The peer is a REQ socket that binds, or the DEALER side of a broker.
///
/// ```no_run
/// # use palm::{Executor, ServerTemplate, callable::{Callable, State}, parts::*};
/// # async fn example<C: Callable>(component: C) -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// let broker = RepConnection::connect("tcp://10.0.0.7:5560");
/// server.register_inbound(broker, "Rep").route("Executor").block(true);
/// server.register_outbound(Executor::new(State::new(component)), "Executor");
/// server.start().await
/// # }
/// ```
#[derive(Debug)]
pub struct RepConnection {
    endpoint: Endpoint,
    answer_timeout: Duration,
}

impl RepConnection {
    /// Connects to `address`.
    pub fn connect(address: impl IntoAddress) -> Self {
        Self {
            endpoint: Endpoint::Static(address.into_address()),
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    /// Sets how long a request may wait for its answer after it was received. Default: 60 s.
    ///
    /// Then its peer receives `0`. A later result is sent along its route, but is not an answer any more.
    ///
    /// With the hook `scatter`, requests are handled one at a time. A request without an answer delays the others until
    /// the timeout, which also ends its hook.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }
}

impl Inbound for RepConnection {
    fn runs_hooks(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        let hooks = setup.take_hooks();
        Ok(Running::inbound(move |outlet| async move {
            let address = self.endpoint.locate().await?;
            let reply = Reply::connect(&address, &opened.options).await?;
            tracing::info!("connecting to {address} to answer its requests");
            answer_all(reply, hooks, self.answer_timeout, opened, outlet).await
        }))
    }
}

async fn answer_all(
    mut reply: Reply,
    hooks: AnyInboundHooks,
    answer_timeout: Duration,
    opened: PartContext,
    outlet: Outlet,
) -> Result<(), BoxError> {
    let linger = outlet.stop.linger();
    let answering = RequestLoop {
        hooks,
        answer_timeout,
        opened,
        outlet,
    };
    answering.run(&mut reply).await?;
    reply.close(linger).await;
    Ok(())
}

impl RequestSource for Reply {
    type Responder = Responder;

    async fn recv(&mut self) -> Result<(Frames, Responder), SocketClosed> {
        self.recv().await
    }
}

impl Respond for Responder {
    /// Answers failed requests as well, as pylm does: a REQ peer is blocked until it receives an answer.
    fn respond(self, answer: Bytes, _: RequestOutcome) -> bool {
        self.reply(answer).is_ok()
    }
}
