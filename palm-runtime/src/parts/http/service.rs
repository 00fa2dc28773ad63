//! [`HttpService`]: receives messages as the bodies of HTTP requests.

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

use super::super::context::PartContext;
use super::super::request_loop::{
    ANSWER_TIMEOUT, RequestLoop, RequestOutcome, RequestSource, Respond,
};
use super::gateway::bind_http;
use crate::failure::BoxError;
use crate::http::{BodyMemory, BoundListener, Listener, MessageBody, problem_response};
use crate::part::{AnyInboundHooks, Inbound, OpenError, Outlet, Running, Setup};
use crate::socket::{Frames, SocketClosed};

/// Receives messages as the bodies of POST requests. Announced as `http_address`.
///
/// If the part is registered with `block`, the response has the answer of the outbound part, otherwise `1`. If the
/// connection of a request is closed, the request is abandoned: an [`Executor`](crate::Executor) without a route
/// drops its call.
///
/// | status | cause |
/// |---|---|
/// | 400 | the body is not a message |
/// | 405 | the method is not POST |
/// | 408 | the body was not received within a minute |
/// | 413 | the body has more than 128 MiB |
/// | 500 | a hook failed |
/// | 503 | all bodies together exceed 1 GiB, or the component stopped before the message was handled |
/// | 504 | there was no answer within [`answer_timeout`](Self::answer_timeout) |
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
pub struct HttpService {
    listener: Option<Listener>,
    answer_timeout: Duration,
    service: MessageService,
    receiver: mpsc::Receiver<PostedRequest>,
}

type HttpAnswer = (Bytes, RequestOutcome);

/// The body of a request, and the channel for its answer.
#[derive(Debug)]
struct PostedRequest {
    body: Bytes,
    answer: oneshot::Sender<HttpAnswer>,
}

/// Requests that wait to be read by the part.
const MAX_QUEUED_REQUESTS: usize = 1000;

impl HttpService {
    /// Creates a part that serves at `listener`, an address such as `"127.0.0.1:8888"`.
    pub fn bind(listener: impl Into<Listener>) -> Self {
        Self {
            listener: Some(listener.into()),
            ..Self::mounted()
        }
    }

    /// Creates a part without a listener. Mount its [`service`](HttpService::service) in an application of your own.
    pub fn mounted() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        Self {
            listener: None,
            answer_timeout: ANSWER_TIMEOUT,
            service: MessageService {
                sender,
                memory: BodyMemory::default(),
            },
            receiver,
        }
    }

    /// Sets the time until a request without an answer is answered by 504, counted from when the part reads it.
    /// Default: 60 s. A later result continues along its route.
    ///
    /// Hooks that scatter handle one request at a time, so a request without an answer delays the others for this
    /// time. Messages that the hook has not emitted by then are not sent.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Returns the tower service that receives the requests.
    pub fn service(&self) -> MessageService {
        self.service.clone()
    }
}

impl Inbound for HttpService {
    fn runs_hooks(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
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
        let opened = PartContext::new(setup);
        let hooks = setup.take_hooks();
        Ok(Running::inbound(|outlet| {
            self.serve(bound, opened, hooks, outlet)
        }))
    }
}

impl HttpService {
    async fn serve(
        self,
        bound: Option<BoundListener>,
        opened: PartContext,
        hooks: AnyInboundHooks,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let service = self.service;
        let (stop, linger) = (outlet.stop.clone(), outlet.stop.linger());
        let answering = RequestLoop {
            hooks,
            answer_timeout: self.answer_timeout,
            opened,
            outlet,
        };
        let mut posted = self.receiver;
        let closed = CancellationToken::new();
        let answer = async {
            let answered = answering.run(&mut posted).await;
            // Drops the answer channels of requests that were not read, which answers them by 503.
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
        // The client may have disconnected.
        let _ = self.send((answer, handled));
        true
    }

    async fn gone(&mut self) {
        self.closed().await;
    }
}

/// Receives the requests of an [`HttpService`]. A tower service, created by [`HttpService::service`].
#[derive(Clone, Debug)]
pub struct MessageService {
    sender: mpsc::Sender<PostedRequest>,
    memory: BodyMemory,
}

impl<B> tower::Service<Request<B>> for MessageService
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<crate::http::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let request = request.map(|body| crate::http::Body::new(body).into_inner());
        async move {
            Ok(service
                .respond(request)
                .await
                .map(crate::http::Body::from_inner))
        }
        .boxed()
    }
}

impl MessageService {
    async fn respond(self, request: Request<Body>) -> Response<Body> {
        let MessageBody {
            body,
            permit: _permit,
        } = match MessageBody::read(request, &self.memory).await {
            Ok(posted) => posted,
            Err(rejected) => return rejected,
        };
        let (answer, answered) = oneshot::channel();
        let stopped =
            || problem_response(StatusCode::SERVICE_UNAVAILABLE, "the component is stopping");
        let posted = PostedRequest { body, answer };
        if self.sender.send(posted).await.is_err() {
            return stopped();
        }
        match answered.await {
            Ok((answer, RequestOutcome::Answered)) => Response::new(Body::from(answer)),
            Ok((_, RequestOutcome::Malformed)) => {
                problem_response(StatusCode::BAD_REQUEST, "the body is not a PalmMessage")
            }
            Ok((_, RequestOutcome::Failed)) => {
                problem_response(StatusCode::INTERNAL_SERVER_ERROR, "a hook failed")
            }
            Ok((_, RequestOutcome::TimedOut)) => {
                problem_response(StatusCode::GATEWAY_TIMEOUT, "there was no answer in time")
            }
            Ok((_, RequestOutcome::Abandoned)) | Err(_) => stopped(),
        }
    }
}
