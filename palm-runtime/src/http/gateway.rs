//! [`Gateway`]: the calls that HTTP requests wait for, between the requests and the parts of a component.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::GatewayService;
use super::body_memory::{BodyError, BodyMemory, MemoryPermit};
use super::problem::Problem;
use crate::component_state::ComponentState;
use crate::message::proto::Function;
use crate::message::{Message, new_id};

/// HTTP in front of a component: a path names a function, the body is its payload, the response its
/// result.
///
/// A gateway connects three things: its [`service`](Self::service), which takes requests, and two parts
/// of a [`ServerTemplate`](crate::ServerTemplate), [`router`](Self::router), where they come in as
/// messages, and [`dealer`](Self::dealer), where their results go back. The service is served by an
/// [`HttpGateway`](crate::parts::HttpGateway), or mounted in an application of your own.
///
/// `MasterBuilder::gateway` puts one in front of a whole master.
///
/// What a request and a response look like is in `palm::guide::http`.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<GatewayInner>);

/// What a gateway is to be like; each of these can be said as long as the gateway is not cloned.
#[derive(Debug, Clone)]
pub(crate) struct GatewayOptions {
    pub(crate) timeout: Duration,
    pub(crate) no_worker_timeout: Duration,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) tokens: Vec<String>,
    pub(crate) title: Option<String>,
}

#[derive(Debug)]
pub(crate) struct GatewayInner {
    pub(crate) options: GatewayOptions,
    /// What the ids of its calls begin with.
    prefix: String,
    calls: Mutex<HashMap<ByteString, ResultSink>>,
    /// To the part that brings them in.
    sender: mpsc::Sender<Message>,
    receiver: Mutex<Option<mpsc::Receiver<Message>>>,
    /// Of the bodies of requests, and of results that their clients have not read yet.
    pub(super) memory: BodyMemory,
    /// Cancelled when no further request is taken.
    pub(crate) closed: CancellationToken,
    component: OnceLock<GatewayComponent>,
}

/// The component that it is in front of.
#[derive(Debug)]
pub(crate) struct GatewayComponent {
    pub(crate) name: String,
    pub(crate) shared: Arc<ComponentState>,
    /// The generation of the workers' connections in which there was one.
    pub(super) workers_seen: AtomicU64,
}

impl GatewayComponent {
    pub(crate) fn new(name: &str, shared: &Arc<ComponentState>) -> Self {
        Self {
            name: name.to_owned(),
            shared: shared.clone(),
            workers_seen: AtomicU64::new(u64::MAX),
        }
    }
}

/// Who waits for the results of a call.
#[derive(Debug)]
enum ResultSink {
    Single {
        result: oneshot::Sender<OneResult>,
        /// The place of the request's body, which that of the result takes.
        body: Option<MemoryPermit>,
    },
    Stream(ResultStream),
}

/// The result of a call that has one, and the place in memory that it takes.
pub(super) type OneResult = Result<(Message, MemoryPermit), Problem>;

/// The results of a call on their way to its client. Bounded by their bytes: they may come in bursts.
#[derive(Debug)]
struct ResultStream {
    results: mpsc::UnboundedSender<StreamedResult>,
    backlog: BodyMemory,
}

/// A result, and the places in memory that it takes.
#[derive(Debug)]
pub(super) struct StreamedResult {
    pub(super) message: Message,
    /// Among the results of all calls, to be kept until it is written.
    pub(super) permit: MemoryPermit,
    /// Among those that wait in its own.
    _backlog_permit: MemoryPermit,
}

impl ResultStream {
    /// Tells whether there was room, and somebody who waits.
    fn send(&self, message: Message, memory: &BodyMemory) -> bool {
        let bytes = message.weight() + RESULT_OVERHEAD;
        let (Some(_backlog_permit), Some(permit)) =
            (self.backlog.try_acquire(bytes), memory.try_acquire(bytes))
        else {
            return false;
        };
        let result = StreamedResult {
            message,
            permit,
            _backlog_permit,
        };
        self.results.send(result).is_ok()
    }
}

/// Requests that wait to become messages.
const MAX_QUEUED_REQUESTS: usize = 1000;
/// Calls that may be under way.
const MAX_CALLS: usize = 16_384;
/// Bytes of the results of one call that wait to be written to its client, each with what it takes besides.
const MAX_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
const RESULT_OVERHEAD: usize = 256;

impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

impl Gateway {
    /// A gateway with the defaults.
    pub fn new() -> Self {
        Self::with_options(GatewayOptions {
            timeout: Duration::from_secs(30),
            no_worker_timeout: Duration::from_secs(1),
            request_bytes: 128 * 1024 * 1024,
            response_bytes: 128 * 1024 * 1024,
            memory_bytes: 1024 * 1024 * 1024,
            tokens: Vec::new(),
            title: None,
        })
    }

    fn with_options(options: GatewayOptions) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        Self(Arc::new(GatewayInner {
            memory: BodyMemory::new(options.memory_bytes),
            options,
            prefix: format!("{}/", new_id()),
            calls: Mutex::default(),
            sender,
            receiver: Mutex::new(Some(receiver)),
            closed: CancellationToken::new(),
            component: OnceLock::new(),
        }))
    }

    fn set(self, set: impl FnOnce(&mut GatewayOptions)) -> Self {
        let mut options = self.0.options.clone();
        set(&mut options);
        Self::with_options(options)
    }

    /// How long a request may take, from its head to its result; then it is answered by 504. Default:
    /// 30 s. A request may ask for less by the header `Palm-Timeout`, in seconds.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.timeout = timeout)
    }

    /// How long a request waits for a worker to connect while there is none; then it is answered by 503.
    /// Default: 1 s.
    #[must_use]
    pub fn no_worker_timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.no_worker_timeout = timeout)
    }

    /// Largest body of a request, in bytes; a larger one is answered by 413. Default: 128 MiB.
    #[must_use]
    pub fn max_request(self, bytes: usize) -> Self {
        self.set(|options| options.request_bytes = bytes)
    }

    /// Largest result, in bytes; a larger one is answered by 500. Default: 128 MiB.
    #[must_use]
    pub fn max_response(self, bytes: usize) -> Self {
        self.set(|options| options.response_bytes = bytes)
    }

    /// How much memory the bodies of requests and the results that were not read yet may take together,
    /// in bytes; what finds no room is answered by 503. Default: 1 GiB. More than 4 GiB counts as 4 GiB.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        self.set(|options| options.memory_bytes = bytes)
    }

    /// Lets only requests in that carry this bearer token (RFC 6750), or another one that was allowed so.
    /// `/healthz` needs none. Default: everybody is let in.
    #[must_use]
    pub fn bearer_token(self, token: impl Into<String>) -> Self {
        self.set(|options| options.tokens.push(token.into()))
    }

    /// The title of the OpenAPI description. Default: the component's name.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        self.set(|options| options.title = Some(title.into()))
    }

    /// Takes requests: a tower service, to be mounted in an application, or served.
    pub fn service(&self) -> GatewayService {
        GatewayService::new(self.clone())
    }
}

impl GatewayInner {
    pub(crate) fn attach(&self, component: GatewayComponent) {
        // Of several parts of one component all say the same.
        let _ = self.component.set(component);
    }

    pub(crate) fn component(&self) -> Option<&GatewayComponent> {
        self.component.get()
    }

    /// The requests, as messages; to be taken once.
    pub(crate) fn take_incoming(&self) -> Option<mpsc::Receiver<Message>> {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<ByteString, ResultSink>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function that a step names, where a component has told of it.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        let offers = self.component.get()?.shared.functions.functions();
        offers.get(name).cloned()
    }

    /// The id of a new call, by which its results are known.
    pub(super) fn new_call(&self) -> ByteString {
        format!("{}{}", self.prefix, new_id()).into()
    }

    /// Gives a result to the request that waits for it; gives back what is no request's. A result that
    /// no request waits for any more ends here.
    pub(crate) fn deliver(&self, message: Message) -> Option<Message> {
        let mut calls = self.calls();
        match calls.remove(message.client()) {
            None => Some(message).filter(|message| !message.client().starts_with(&self.prefix)),
            // Parts of a user's own may let an end pass the results that it counts.
            Some(waiting @ ResultSink::Single { .. }) if message.promises_results() => {
                calls.insert(message.client_topic(), waiting);
                None
            }
            Some(ResultSink::Single { result, body }) => {
                drop(body);
                let permit = self.memory.try_acquire(message.weight() + RESULT_OVERHEAD);
                let permit = permit.ok_or_else(|| Problem::from(BodyError::OutOfMemory));
                // The request may have been given up meanwhile.
                let _ = result.send(permit.map(|permit| (message, permit)));
                None
            }
            Some(ResultSink::Stream(stream)) => {
                let call = message.client_topic();
                // A client that reads too slowly loses its stream, and holds up nobody.
                if stream.send(message, &self.memory) {
                    calls.insert(call, ResultSink::Stream(stream));
                }
                None
            }
        }
    }

    /// No result will come any more.
    pub(crate) fn end(&self) {
        self.calls().clear();
    }

    fn begin(&self, call: &ByteString, waiting: ResultSink) -> Result<(), Problem> {
        let mut calls = self.calls();
        if calls.len() >= MAX_CALLS {
            return Err(Problem::unavailable("too many calls are under way"));
        }
        calls.insert(call.clone(), waiting);
        Ok(())
    }
}

/// A call whose results a request waits for; given up when it is dropped.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) gateway: Gateway,
    call: ByteString,
    /// Whether results are still to come.
    pub(super) is_open: bool,
}

impl PendingCall {
    /// A call that has one result; `body` is permit until it is there.
    pub(super) fn single(
        gateway: &Gateway,
        call: ByteString,
        body: Option<MemoryPermit>,
    ) -> Result<(Self, oneshot::Receiver<OneResult>), Problem> {
        let (sender, receiver) = oneshot::channel();
        let result = sender;
        gateway
            .0
            .begin(&call, ResultSink::Single { result, body })?;
        Ok((Self::new(gateway, call), receiver))
    }

    /// A call that has many.
    pub(super) fn stream(
        gateway: &Gateway,
        call: ByteString,
    ) -> Result<(Self, mpsc::UnboundedReceiver<StreamedResult>), Problem> {
        // Bounded by its room.
        let (sender, results) = mpsc::unbounded_channel();
        let stream = ResultStream {
            results: sender,
            backlog: BodyMemory::new(MAX_BACKLOG_BYTES),
        };
        gateway.0.begin(&call, ResultSink::Stream(stream))?;
        Ok((Self::new(gateway, call), results))
    }

    fn new(gateway: &Gateway, call: ByteString) -> Self {
        Self {
            gateway: gateway.clone(),
            call,
            is_open: true,
        }
    }

    /// Sends the message of the call. Cancel safe.
    pub(super) async fn send(&self, message: Message) -> Result<(), Problem> {
        let gateway = &*self.gateway.0;
        let stopped = || Problem::unavailable("the component stops");
        tokio::select! {
            biased;
            () = gateway.closed.cancelled() => Err(stopped()),
            sent = gateway.sender.send(message) => sent.map_err(|_| stopped()),
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.gateway.0.calls().remove(&self.call);
        if self.is_open
            && let Some(component) = self.gateway.0.component()
        {
            component.shared.cancellations.cancel(self.call.as_bytes());
        }
    }
}
