//! [`HttpWorker`]: a component's methods behind HTTP.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::body_memory::BodyMemory;
use super::message_body::{MessageBody, problem_response};
use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
use crate::context::ComponentContext;
use crate::executor::Callable;
use crate::executor::standalone;
use crate::executor::{Addressee, Executor, Order, default_concurrency};
use crate::failure::{BoxError, chain};
use crate::message::Message;
use crate::method::{Results, State};
use crate::part::Envelope;
use crate::queue::Sender;

/// The media type of a message.
const MESSAGE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The methods of a component as a tower service: the worker at the other end of an
/// [`HttpConnection`](crate::parts::HttpConnection), or of pylm's.
///
/// It takes the POST of a serialized `PalmMessage`, at any path, and answers 200 with the same message,
/// its payload replaced. What a method fails with is answered by 500; the body is then the message with
/// the error in it, which an `HttpConnection` of ours gives its caller. A method that gives nothing is
/// answered by 204, a body that is no message by 400, a body over 128 MiB by 413, one that takes longer
/// than a minute by 408, one for which there is no memory, 1 GiB for all of them, by 503, other methods
/// than POST by 405.
///
/// A request whose connection is closed before it is answered is cancelled: a method that awaits is dropped
/// there, one that waits for its turn is not called.
///
/// Serve it by [`serve`](super::serve), in an axum application, or in a serverless runtime that takes a
/// tower service. Clones share the component. A runtime of tokio has to be there when the first request
/// comes; methods run on it.
#[derive(Debug)]
pub struct HttpWorker<C>(Arc<HttpWorkerInner<C>>);

#[derive(Debug)]
struct HttpWorkerInner<C> {
    state: Arc<State<C>>,
    concurrency: usize,
    memory: BodyMemory,
    running: Mutex<Option<RunningExecutor>>,
}

/// The executor, once there is a runtime for it.
#[derive(Debug)]
struct RunningExecutor {
    calls: Sender<Envelope>,
    _executor: AbortOnDropHandle<()>,
}

/// A component that can be an [`HttpWorker`]. Implemented by `#[palm::http_worker]`.
pub trait IntoHttpWorker: Callable {
    /// Its methods as a tower service.
    fn into_service(self) -> HttpWorker<Self> {
        HttpWorker::new(self)
    }
}

impl<C: Callable> HttpWorker<C> {
    /// The methods of `component`.
    pub fn new(component: C) -> Self {
        Self::with_concurrency(State::new(component), default_concurrency())
    }

    fn with_concurrency(state: Arc<State<C>>, concurrency: usize) -> Self {
        Self(Arc::new(HttpWorkerInner {
            state,
            concurrency,
            memory: BodyMemory::default(),
            running: Mutex::default(),
        }))
    }

    /// How many calls may run at once; further ones wait. Default: as many as there are processors.
    #[must_use]
    pub fn concurrency(self, calls: usize) -> Self {
        Self::with_concurrency(self.0.state.clone(), calls)
    }

    /// Where calls go; begins to run them.
    async fn calls(&self) -> Sender<Envelope> {
        let known = || {
            let running = self.0.running.lock();
            let running = running.unwrap_or_else(PoisonError::into_inner);
            let running = running.as_ref().map(|running| running.calls.clone());
            running.filter(|calls| !calls.is_closed())
        };
        if let Some(calls) = known() {
            return calls;
        }
        // A runtime that has ended took the executor with it, as in tests.
        let executor = Executor::new(self.0.state.clone())
            .concurrency(self.0.concurrency)
            .order(Order::AsDone)
            .addressee(Addressee::Any);
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let store = Arc::new(store);
        let context = Arc::new(ComponentContext {
            name: C::NAME.to_owned(),
            cache: Cache::here(store.clone()),
        });
        let (calls, running) = standalone(executor, &context, &store, None).await;
        let executor = async move {
            if let Err(error) = running.await {
                tracing::error!("{}", chain(&*error));
            }
        };
        let executor = AbortOnDropHandle::new(tokio::spawn(executor));
        let running = self.0.running.lock();
        let mut running = running.unwrap_or_else(PoisonError::into_inner);
        match running
            .as_ref()
            .filter(|running| !running.calls.is_closed())
        {
            // Another request was first.
            Some(running) => running.calls.clone(),
            None => {
                *running = Some(RunningExecutor {
                    calls: calls.clone(),
                    _executor: executor,
                });
                calls
            }
        }
    }

    async fn respond(&self, request: Request<Body>) -> Response<Body> {
        let posted = match MessageBody::read(request, &self.0.memory).await {
            Ok(posted) => posted,
            Err(refused) => return refused,
        };
        let MessageBody { body, held: _held } = posted;
        let mut message = match Message::decode(body) {
            Ok(message) => message,
            Err(error) => {
                let detail = format!("the body is no PalmMessage: {}", chain(&error));
                return problem_response(StatusCode::BAD_REQUEST, &detail);
            }
        };
        message.ensure_id();
        if let Some(function) = gives_many::<C>(&message) {
            let detail = format!("`{function}` gives many results, and a request has one answer");
            return problem_response(StatusCode::INTERNAL_SERVER_ERROR, &detail);
        }
        let calls = self.calls().await;
        let (feedback, answer) = oneshot::channel();
        let envelope = Envelope::answered_by(message, feedback);
        if calls.send(envelope).await.is_err() {
            return problem_response(StatusCode::SERVICE_UNAVAILABLE, "the worker has stopped");
        }
        match answer.await {
            Ok(answer) => response(answer),
            Err(_) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
        }
    }
}

/// The function that a message is for, if it gives many results.
fn gives_many<C: Callable>(message: &Message) -> Option<&'static str> {
    let index = C::find(message.step().ok()?.function)?;
    let function = &C::FUNCTIONS[index];
    (function.results == Results::Many).then_some(function.name)
}

fn response(answer: Bytes) -> Response<Body> {
    let failed = Message::decode(answer.clone()).is_ok_and(|message| message.has_error());
    let mut response = Response::new(Body::from(answer));
    if failed {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(header::CONTENT_TYPE, MESSAGE);
    response
}

impl<C> Clone for HttpWorker<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C, B> tower::Service<Request<B>> for HttpWorker<C>
where
    C: Callable,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let worker = self.clone();
        let request = request.map(Body::new);
        async move { Ok(worker.respond(request).await) }.boxed()
    }
}
