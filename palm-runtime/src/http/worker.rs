//! [`HttpWorker`]: serves the methods of a component over HTTP, for masters that have an `HttpConnection`.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::body_memory::BodyMemory;
use super::message_body::{MessageBody, problem_response};
use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
use crate::context::ComponentContext;
use crate::executor::{
    Addressee, AnyExecutor, Callable, Methods, Order, default_concurrency, standalone,
};
use crate::failure::{BoxError, chain};
use crate::message::Message;
use crate::method::{Results, State};
use crate::part::Envelope;
use crate::queue::Sender;

/// The media type of a serialized message.
const MESSAGE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Serves the methods of a component as a tower service. The worker for an
/// [`HttpConnection`](crate::parts::HttpConnection) of palm or pylm.
///
/// The service accepts a POST of a serialized `PalmMessage` at any path. The status of the response says what became
/// of the task:
///
/// | status | cause | body |
/// |---|---|---|
/// | 200 | the method returned a result | the message with the result as its payload |
/// | 204 | the method returned no result | none |
/// | 400 | the body is not a message | problem document |
/// | 405 | the method of the request is not POST | problem document |
/// | 408 | the body was not received within a minute | problem document |
/// | 413 | the body has more than 128 MiB | problem document |
/// | 500 | the method failed | the message with the error, which an `HttpConnection` of palm returns to the caller |
/// | 500 | the method returns several results | problem document |
/// | 503 | all bodies together exceed 1 GiB, or the worker has stopped | problem document |
///
/// If the connection of a request is closed before the response, the task is cancelled: a running async method is
/// dropped at its next `.await`, and a queued one is not called.
///
/// Serve it by [`serve`](super::serve()), in an axum application, or in a serverless runtime that accepts a tower
/// service. Clones share the component. The first request has to be made on a tokio runtime, on which the methods
/// then run.
#[derive(Debug)]
pub struct HttpWorker<C> {
    worker: Arc<AnyHttpWorker>,
    component: PhantomData<fn() -> C>,
}

/// The service of an [`HttpWorker`] of any type.
#[derive(Debug, Clone)]
pub(crate) struct ErasedHttpWorker(Arc<AnyHttpWorker>);

/// An [`HttpWorker`] of any component.
#[derive(Debug)]
struct AnyHttpWorker {
    name: String,
    methods: Arc<dyn Methods>,
    /// Applies when the executor starts, so that it is shared by clones.
    concurrency: AtomicUsize,
    memory: BodyMemory,
    running: Mutex<Option<RunningExecutor>>,
}

/// The executor, started by the first request.
#[derive(Debug)]
struct RunningExecutor {
    calls: Sender<Envelope>,
    _executor: AbortOnDropHandle<()>,
}

/// Converts a component into an [`HttpWorker`]. Implemented by `#[palm::http_worker]`.
pub trait IntoHttpWorker: Callable {
    /// Returns a tower service of the component's methods.
    fn into_service(self) -> HttpWorker<Self> {
        HttpWorker::new(self)
    }
}

impl<C: Callable> HttpWorker<C> {
    /// Creates a service of the methods of `component`.
    pub fn new(component: C) -> Self {
        let name = component.name().to_owned();
        let worker = AnyHttpWorker::new(name, State::new(component));
        Self {
            worker: Arc::new(worker),
            component: PhantomData,
        }
    }

    /// Sets how many methods run at once; further tasks are queued. Default: the number of processors.
    ///
    /// Clones share it. Call it before the first request, which starts the worker.
    #[must_use]
    pub fn concurrency(self, calls: usize) -> Self {
        self.worker.concurrency.store(calls, Ordering::Relaxed);
        self
    }
}

impl AnyHttpWorker {
    fn new(name: String, methods: Arc<dyn Methods>) -> Self {
        Self {
            name,
            methods,
            concurrency: AtomicUsize::new(default_concurrency()),
            memory: BodyMemory::default(),
            running: Mutex::default(),
        }
    }

    /// Returns the queue of the executor, and starts the executor if it does not run.
    async fn calls(&self) -> Sender<Envelope> {
        let known = || {
            let running = self.running.lock();
            let running = running.as_ref().map(|running| running.calls.clone());
            running.filter(|calls| !calls.is_closed())
        };
        if let Some(calls) = known() {
            return calls;
        }
        // No executor yet, or its runtime has ended, as happens between tests.
        let executor = AnyExecutor::new(self.methods.clone())
            .concurrency(self.concurrency.load(Ordering::Relaxed))
            .order(Order::AsDone)
            .addressee(Addressee::Any);
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let store = Arc::new(store);
        let context = Arc::new(ComponentContext {
            name: self.name.clone(),
            cache: Cache::local(store.clone()),
            cancellations: Arc::default(),
        });
        let (calls, running) = standalone(executor, &context, &store, None).await;
        let executor = async move {
            if let Err(error) = running.await {
                tracing::error!("{}", chain(&*error));
            }
        };
        let executor = AbortOnDropHandle::new(tokio::spawn(executor));
        let mut running = self.running.lock();
        match running
            .as_ref()
            .filter(|running| !running.calls.is_closed())
        {
            // A concurrent request has started one.
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
        let posted = match MessageBody::read(request, &self.memory).await {
            Ok(posted) => posted,
            Err(rejected) => return rejected,
        };
        let MessageBody {
            body,
            permit: _permit,
        } = posted;
        let mut message = match Message::decode(body) {
            Ok(message) => message,
            Err(error) => {
                let detail = format!("the body is not a PalmMessage: {}", chain(&error));
                return problem_response(StatusCode::BAD_REQUEST, &detail);
            }
        };
        message.ensure_id();
        if let Some(function) = function_with_several_results(&*self.methods, &message) {
            let detail = format!(
                "`{function}` returns several results, and an HTTP worker can return only one"
            );
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

/// Returns the function that a message calls, if it returns several results.
fn function_with_several_results<'a>(
    methods: &'a dyn Methods,
    message: &Message,
) -> Option<&'a str> {
    let index = methods.find(message.step().ok()?.function)?;
    let function = &methods.functions()[index];
    (function.results == Results::Many).then_some(&*function.name)
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
        Self {
            worker: self.worker.clone(),
            component: PhantomData,
        }
    }
}

impl<C, B> tower::Service<Request<B>> for HttpWorker<C>
where
    C: Callable,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<super::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(super::Body::new);
        tower::Service::call(&mut ErasedHttpWorker(self.worker.clone()), request)
    }
}

impl ErasedHttpWorker {
    pub(crate) fn new(name: String, methods: Arc<dyn Methods>, concurrency: usize) -> Self {
        let worker = AnyHttpWorker::new(name, methods);
        worker.concurrency.store(concurrency, Ordering::Relaxed);
        Self(Arc::new(worker))
    }
}

impl tower::Service<Request<super::Body>> for ErasedHttpWorker {
    type Response = Response<super::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<super::Body>) -> Self::Future {
        let worker = self.0.clone();
        let request = request.map(super::Body::into_inner);
        async move { Ok(worker.respond(request).await.map(super::Body::from_inner)) }.boxed()
    }
}
