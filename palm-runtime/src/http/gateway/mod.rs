//! [`Gateway`]: connects HTTP requests to the parts of a component.
//!
//! A request becomes a [`PendingCall`], whose message goes through a channel to `GatewayRouter`, and from there through
//! the component. `GatewayDealer` hands each result to [`GatewayInner::deliver`].

mod pending_call;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use hyper::StatusCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::pending_call::ResultSink;
pub(super) use self::pending_call::{PendingCall, StreamedResult};
use super::body_memory::BodyMemory;
use super::guard::HostGuard;
use super::problem::Problem;
use crate::component_state::ComponentState;
use crate::message::proto::Function;
use crate::message::{Message, new_id};

/// Exposes the functions of a component over HTTP. The path of a request names the function, its body is the payload,
/// and the response has the result.
///
/// A gateway connects its [`service`](Self::service), which receives the requests, to two parts of a
/// [`ServerTemplate`](crate::ServerTemplate): [`router`](Self::router) turns requests into messages, and
/// [`dealer`](Self::dealer) returns results to requests. Serve the service by an
/// [`HttpGateway`](crate::parts::HttpGateway), or mount it in an application of your own.
///
/// `MasterBuilder::gateway` adds a gateway with all its parts to a master.
///
/// `palm::guide::http` describes requests and responses.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<GatewayInner>);

/// The options of a gateway. A clone keeps the options it was made with.
#[derive(Debug, Clone)]
pub(crate) struct GatewayOptions {
    pub(crate) timeout: Duration,
    pub(crate) no_worker_timeout: Duration,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) tokens: Vec<String>,
    pub(crate) title: Option<String>,
    /// Checks requests that no [`Listener`](super::Listener) has checked.
    pub(super) guard: HostGuard,
}

#[derive(Debug)]
pub(crate) struct GatewayInner {
    pub(crate) options: GatewayOptions,
    /// Prefix of the client ids of the gateway's calls.
    prefix: String,
    calls: Mutex<HashMap<ByteString, ResultSink>>,
    /// To `GatewayRouter`.
    sender: mpsc::Sender<Message>,
    receiver: Mutex<Option<mpsc::Receiver<Message>>>,
    /// Covers the bodies of requests, and results that their clients have not read yet.
    pub(super) memory: BodyMemory,
    /// Cancelled when the gateway stops to accept requests.
    pub(crate) closed: CancellationToken,
    component: OnceLock<GatewayComponent>,
}

/// The component whose functions a gateway exposes.
#[derive(Debug)]
pub(crate) struct GatewayComponent {
    pub(crate) name: String,
    pub(crate) state: Arc<ComponentState>,
    /// The generation of worker connections in which a worker was last seen connected.
    pub(super) workers_seen: AtomicU64,
}

impl GatewayComponent {
    pub(crate) fn new(name: &str, state: &Arc<ComponentState>) -> Self {
        Self {
            name: name.to_owned(),
            state: state.clone(),
            workers_seen: AtomicU64::new(u64::MAX),
        }
    }
}

/// Requests that wait for `GatewayRouter`.
const MAX_QUEUED_REQUESTS: usize = 1000;
impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

impl Gateway {
    /// Creates a gateway with the default options.
    pub fn new() -> Self {
        Self::with_options(GatewayOptions {
            timeout: Duration::from_secs(30),
            no_worker_timeout: Duration::from_secs(1),
            request_bytes: 128 * 1024 * 1024,
            response_bytes: 128 * 1024 * 1024,
            memory_bytes: 1024 * 1024 * 1024,
            tokens: Vec::new(),
            title: None,
            guard: HostGuard::default(),
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

    /// Sets the time from the head of a request to its result, after which the request is answered by 504.
    /// Default: 30 s. A request can shorten it by the header `Palm-Timeout`, in seconds.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.timeout = timeout)
    }

    /// Sets the time that a request waits for a worker to connect, after which it is answered by 503. Default: 1 s.
    #[must_use]
    pub fn no_worker_timeout(self, timeout: Duration) -> Self {
        self.set(|options| options.no_worker_timeout = timeout)
    }

    /// Sets the size of the largest request body, in bytes. A larger one is answered by 413. Default: 128 MiB.
    #[must_use]
    pub fn max_request(self, bytes: usize) -> Self {
        self.set(|options| options.request_bytes = bytes)
    }

    /// Sets the size of the largest result, in bytes. A larger one is answered by 500. Default: 128 MiB.
    #[must_use]
    pub fn max_response(self, bytes: usize) -> Self {
        self.set(|options| options.response_bytes = bytes)
    }

    /// Sets the memory for request bodies and for results that clients have not read, in bytes. An eighth of it is
    /// reserved for those of at most 64 KiB, so that large ones do not lock small ones out. Requests beyond it are
    /// answered by 503. Default: 1 GiB. More than 4 GiB counts as 4 GiB.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        self.set(|options| options.memory_bytes = bytes)
    }

    /// Adds a bearer token (RFC 6750). Requests without one of the added tokens are answered by 401, except those to
    /// `/healthz`. Default: no tokens, and every request is accepted.
    #[must_use]
    pub fn bearer_token(self, token: impl Into<String>) -> Self {
        self.set(|options| options.tokens.push(token.into()))
    }

    /// Adds host names, without a port, that requests may be addressed to, if another server than palm's serves the
    /// gateway. `*` allows every name. A request for another name is answered by 421.
    ///
    /// `localhost`, the names below it, and loopback addresses are always allowed. Default: every name, unless names are
    /// added. Add the names of a server at a loopback address, because a web page can make its own host name resolve to
    /// that address (DNS rebinding).
    ///
    /// A [`Listener`](crate::http::Listener) knows its address and has options of its own. The gateway does not check
    /// its requests again.
    #[must_use]
    pub fn allowed_hosts(self, hosts: impl IntoIterator<Item: Into<String>>) -> Self {
        self.set(|options| options.guard.allow_hosts(hosts))
    }

    /// Adds origins whose web pages may send requests, in the form `https://shop.example.org`, if another server than
    /// palm's serves the gateway. `*` allows every origin. A request of a page of another origin is answered by 403.
    ///
    /// Default for requests to `localhost` or a loopback address: only pages of the same origin. Default for other hosts:
    /// every origin, unless origins are added.
    #[must_use]
    pub fn allowed_origins(self, origins: impl IntoIterator<Item: Into<String>>) -> Self {
        self.set(|options| options.guard.allow_origins(origins))
    }

    /// Sets the title of the OpenAPI document. Default: the component's name.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        self.set(|options| options.title = Some(title.into()))
    }

    /// Rejects a result over the limit of [`max_response`](Self::max_response).
    pub(super) fn check_size(&self, result: &Bytes) -> Result<(), Problem> {
        let (len, limit) = (result.len(), self.0.options.response_bytes);
        if len <= limit {
            return Ok(());
        }
        let detail = format!("the result has {len} bytes, the limit is {limit}");
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
    }
}

impl GatewayInner {
    pub(crate) fn attach(&self, component: GatewayComponent) {
        // Each part of a component attaches the same component.
        let _ = self.component.set(component);
    }

    pub(crate) fn component(&self) -> Option<&GatewayComponent> {
        self.component.get()
    }

    /// Returns the receiver of request messages to the first caller.
    pub(crate) fn take_incoming(&self) -> Option<mpsc::Receiver<Message>> {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the function with this name, if a worker has registered it.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        let functions = self.component.get()?.state.functions.functions();
        functions.get(name).cloned()
    }
}
