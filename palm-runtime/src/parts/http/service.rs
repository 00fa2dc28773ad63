//! HTTP in: messages as the bodies of requests.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::answering::{
    ANSWER_TIMEOUT, RequestLoop, RequestOutcome, RequestSource, Respond,
};
use super::super::context::PartContext;
use super::gateway::bind_http;
use crate::failure::BoxError;
use crate::http::{BodyMemory, BoundListener, Listener, MessageBody, problem_response};
use crate::part::{Inbound, InboundHooks, NoHooks, OpenError, Outlet, Setup};
use crate::socket::{Frames, SocketClosed};

/// Takes messages as the bodies of POST requests, and answers each: with the outbound part's answer
/// where it is registered with `block`, with `1` otherwise. Announced as `http_address`.
///
/// A request whose connection is closed waits no longer: an [`Executor`](crate::Executor) without a route
/// drops its call.
///
/// A body that is no message is answered by 400, one over 128 MiB by 413, one that takes longer than a
/// minute by 408, one that has no answer in time by 504. One for which there is no memory, 1 GiB for all
/// of them, and what was not done when the component stops are answered by 503.
///
/// ```no_run
/// # use palm::{Executor, ServerTemplate, callable::{Callable, State}, parts::*};
/// # async fn example<C: Callable>(component: C) -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// let service = HttpService::bind("127.0.0.1:8888");
/// server.register_inbound(service, "Http").route("Executor").block(true);
/// server.register_outbound(Executor::new(State::new(component)), "Executor");
/// server.start().await
/// # }
/// ```
#[derive(Debug)]
pub struct HttpService<H = NoHooks> {
    listener: Option<Listener>,
    hooks: H,
    answer_timeout: Duration,
    service: MessageService,
    receiver: mpsc::Receiver<PostedRequest>,
    opened: Option<(Option<BoundListener>, PartContext)>,
}

type HttpAnswer = (Bytes, RequestOutcome);

/// A body, and who waits for the answer.
#[derive(Debug)]
struct PostedRequest {
    body: Bytes,
    answer: oneshot::Sender<HttpAnswer>,
}

/// Requests that wait to be taken.
const MAX_QUEUED_REQUESTS: usize = 1000;

impl HttpService {
    /// Serves at `listener`, an address such as `"127.0.0.1:8888"`.
    pub fn bind(listener: impl Into<Listener>) -> Self {
        Self {
            listener: Some(listener.into()),
            ..Self::mounted()
        }
    }

    /// Serves nowhere: mount its [`service`](HttpService::service) in an application of your own.
    pub fn mounted() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        Self {
            listener: None,
            hooks: NoHooks,
            answer_timeout: ANSWER_TIMEOUT,
            service: MessageService {
                sender,
                memory: BodyMemory::default(),
            },
            receiver,
            opened: None,
        }
    }
}

impl<H> HttpService<H> {
    /// How long a request may wait for its answer once it has been taken; then its peer gets 504.
    /// Default: 60 s. A result that comes later goes on along its route, and is nobody's answer.
    ///
    /// Hooks that scatter take one request at a time: one without an answer holds up the others for as
    /// long, and of its messages those are not sent that the hook has not given on by then.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Runs `hooks` on each message.
    pub fn hooks<G: InboundHooks>(self, hooks: G) -> HttpService<G> {
        HttpService {
            listener: self.listener,
            hooks,
            answer_timeout: self.answer_timeout,
            service: self.service,
            receiver: self.receiver,
            opened: None,
        }
    }

    /// What takes the requests, as a tower service.
    pub fn service(&self) -> MessageService {
        self.service.clone()
    }
}

impl<H: InboundHooks> Inbound for HttpService<H> {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let bound = match self.listener.clone() {
            Some(listener) => {
                let bound = bind_http(listener, setup).await?;
                setup
                    .announced
                    .insert("http_address".to_owned(), bound.url());
                Some(bound)
            }
            None => None,
        };
        self.opened = Some((bound, PartContext::new(setup)));
        Ok(())
    }

    async fn run(self, outlet: Outlet) -> Result<(), BoxError> {
        let (bound, opened) = self.opened.expect("a part is opened before it runs");
        let service = self.service;
        let (stop, linger) = (outlet.stop.clone(), outlet.stop.linger());
        let answering = RequestLoop {
            hooks: self.hooks,
            answer_timeout: self.answer_timeout,
            opened,
            outlet,
        };
        let mut posted = self.receiver;
        let closed = CancellationToken::new();
        let answer = async {
            let answered = answering.run(&mut posted).await;
            // Who has not been taken is told so, by losing whom it waits for.
            drop(posted);
            closed.cancel();
            answered
        };
        let serve = async {
            if let Some(bound) = bound {
                bound.serve(service, closed.clone(), linger).await;
            }
        };
        let stopping = async {
            tokio::select! {
                () = stop.stopped() => closed.cancel(),
                () = closed.cancelled() => {}
            }
        };
        let (answered, (), ()) = tokio::join!(answer, serve, stopping);
        Ok(answered?)
    }
}

impl RequestSource for mpsc::Receiver<PostedRequest> {
    type Responder = oneshot::Sender<HttpAnswer>;

    async fn recv(&mut self) -> Result<(Frames, Self::Responder), SocketClosed> {
        let PostedRequest { body, answer } = self.recv().await.ok_or(SocketClosed)?;
        Ok(([body].into_iter().collect(), answer))
    }
}

impl Respond for oneshot::Sender<HttpAnswer> {
    fn respond(self, answer: Bytes, handled: RequestOutcome) -> bool {
        // A client that has gone leaves its answer behind, which is its own affair.
        let _ = self.send((answer, handled));
        true
    }

    async fn gone(&mut self) {
        self.closed().await;
    }
}

/// Takes the requests of an [`HttpService`]: a tower service.
#[derive(Clone, Debug)]
pub struct MessageService {
    sender: mpsc::Sender<PostedRequest>,
    memory: BodyMemory,
}

impl<B> tower::Service<Request<B>> for MessageService
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { sender, memory } = self.clone();
        let request = request.map(Body::new);
        async move {
            let posted = MessageBody::read(request, &memory).await;
            let MessageBody { body, held: _held } = match posted {
                Ok(posted) => posted,
                Err(refused) => return Ok(refused),
            };
            let (answer, answered) = oneshot::channel();
            let stopped =
                || problem_response(StatusCode::SERVICE_UNAVAILABLE, "the component stops");
            if sender.send(PostedRequest { body, answer }).await.is_err() {
                return Ok(stopped());
            }
            Ok(match answered.await {
                Ok((answer, RequestOutcome::Answered)) => Response::new(Body::from(answer)),
                Ok((_, RequestOutcome::Malformed)) => {
                    problem_response(StatusCode::BAD_REQUEST, "the body is no PalmMessage")
                }
                Ok((_, RequestOutcome::Failed)) => {
                    problem_response(StatusCode::INTERNAL_SERVER_ERROR, "a hook failed")
                }
                Ok((_, RequestOutcome::TimedOut)) => {
                    problem_response(StatusCode::GATEWAY_TIMEOUT, "there was no answer in time")
                }
                Ok((_, RequestOutcome::Abandoned)) | Err(_) => stopped(),
            })
        }
        .boxed()
    }
}
