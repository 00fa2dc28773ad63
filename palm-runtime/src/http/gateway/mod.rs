//! [`Gateway`]: connects HTTP requests to the parts of a component.
//!
//! A request becomes a [`PendingCall`], whose message goes through a channel to `GatewayRouter`, and from there through
//! the component. `GatewayDealer` hands each result to [`GatewayInner::deliver`].

mod pending_call;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use hyper::StatusCode;
use hyper::header::HeaderName;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::pending_call::ResultSink;
pub(super) use self::pending_call::{PendingCall, StreamedResult};
use super::body_memory::BodyMemory;
use super::guard::HostGuard;
use super::problem::Problem;
use crate::component_state::{ComponentState, Counted, HttpCounters};
use crate::message::proto::Function;
use crate::message::{Message, new_id};
use crate::options::{Secret, options};

/// Exposes the functions of a component over HTTP. The path of a request names the function, its body is the payload,
/// and the response has the result.
///
/// A gateway connects its [`service`](Self::service), which receives the requests, to two parts of a
/// [`ServerTemplate`](crate::ServerTemplate): [`router`](Self::router) turns requests into messages, and
/// [`dealer`](Self::dealer) returns results to requests. Serve the service by an
/// [`HttpGateway`](crate::parts::HttpGateway), or mount it in an application of your own.
///
/// A clone is the same gateway. It belongs to one component; until that component has started, and after it has
/// stopped, requests are answered by 503.
///
/// `MasterBuilder::gateway` adds a gateway with all its parts to a master.
///
/// `palm::guide::http` describes requests and responses.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<GatewayInner>);

options! {
    /// The options of a [`Gateway`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use palm::http::{Gateway, GatewayOptions};
    /// let gateway = Gateway::with_options(GatewayOptions::new().timeout(Duration::from_secs(5)));
    /// ```
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GatewayOptions {
        /// Sets the time from the head of a request to its result, after which the request is answered by 504.
        /// Default: 30 s. A request can shorten it by the header `Palm-Timeout`, in seconds.
        timeout: Duration = Duration::from_secs(30),
        /// Sets the time that a request waits for a worker to connect, after which it is answered by 503. Default: 1 s.
        no_worker_timeout: Duration = Duration::from_secs(1),
        /// Sets the size of the largest request body. A larger one is answered by 413. Default: 128 MiB.
        max_request_bytes: usize = 128 * 1024 * 1024,
        /// Sets the size of the largest result. A larger one is answered by 500. Default: 128 MiB.
        max_response_bytes: usize = 128 * 1024 * 1024,
        /// Sets the memory for request bodies and for results that clients have not read. Default: 1 GiB. More than
        /// 4 GiB counts as 4 GiB.
        ///
        /// An eighth of it is reserved for those of at most 64 KiB, so that large ones do not lock small ones out.
        /// Requests beyond it are answered by 503.
        max_memory_bytes: usize = 1024 * 1024 * 1024,
        /// Adds bearer tokens (RFC 6750). Requests without one of the added tokens are answered by 401, except those to
        /// `/healthz`. Default: no tokens, and every request is accepted.
        bearer_tokens: Vec<Secret> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Adds host names, without a port, that requests may be addressed to, if another server than palm's serves the
        /// gateway. `*` allows every name. A request for another name is answered by 421.
        ///
        /// `localhost`, the names below it, and loopback addresses are always allowed. Default: every name, unless names
        /// are added. Add the names of a server at a loopback address, because a web page can make its own host name
        /// resolve to that address (DNS rebinding).
        ///
        /// A [`Listener`](crate::http::Listener) knows its address and has options of its own. The gateway does not check
        /// its requests again.
        allowed_hosts: Vec<String> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Adds origins whose web pages may send requests, in the form `https://shop.example.org`, if another server than
        /// palm's serves the gateway. `*` allows every origin. A request of a page of another origin is answered by 403.
        ///
        /// Default for requests to `localhost` or a loopback address: only pages of the same origin. Default for other
        /// hosts: every origin, unless origins are added.
        allowed_origins: Vec<String> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Adds headers of requests that become [headers](crate::message::Headers) of their calls, such as `authorization`
        /// for a layer that checks it. Their names in calls are in lower case. A request that has one of them twice, as
        /// `cookie` over HTTP/2 may be, or with bytes that are not ASCII text, is answered by 400. Default: none. A name that is not one of a header is an
        /// error when the component starts.
        call_headers: Vec<String> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Sets the title of the OpenAPI document. Default: the component's name.
        title: Option<String> => impl Into<String> = None,
    }
}

/// The message of a request, which counts as unread until it is in a queue.
pub(crate) type RequestMessage = (Message, Option<Counted>);

#[derive(Debug)]
pub(crate) struct GatewayInner {
    pub(crate) options: GatewayOptions,
    /// Checks requests that no [`Listener`](super::Listener) has checked.
    pub(super) guard: HostGuard,
    /// The headers of requests that become headers of their calls.
    call_headers: Result<Vec<HeaderName>, CallHeaderError>,
    /// Prefix of the client ids of the gateway's calls.
    prefix: String,
    calls: Mutex<HashMap<ByteString, ResultSink>>,
    /// To `GatewayRouter`.
    sender: mpsc::Sender<RequestMessage>,
    receiver: Mutex<Option<mpsc::Receiver<RequestMessage>>>,
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
        Self::with_options(GatewayOptions::default())
    }

    /// Creates a gateway.
    pub fn with_options(options: GatewayOptions) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        Self(Arc::new(GatewayInner {
            memory: BodyMemory::new(options.max_memory_bytes),
            guard: HostGuard::new(&options.allowed_hosts, &options.allowed_origins),
            call_headers: options.call_headers.iter().map(call_header).collect(),
            options,
            prefix: format!("{}/", new_id()),
            calls: Mutex::default(),
            sender,
            receiver: Mutex::new(Some(receiver)),
            closed: CancellationToken::new(),
            component: OnceLock::new(),
        }))
    }

    /// Rejects a result over the limit of [`max_response_bytes`](GatewayOptions::max_response_bytes).
    pub(super) fn check_size(&self, result: &Bytes) -> Result<(), Problem> {
        let (len, limit) = (result.len(), self.0.options.max_response_bytes);
        if len <= limit {
            return Ok(());
        }
        let detail = format!("the result has {len} bytes, the limit is {limit}");
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
    }
}

/// A name in `call_headers` that is not one of an HTTP header.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}`, in `call_headers` of the gateway, is not the name of an HTTP header")]
pub(crate) struct CallHeaderError(String);

fn call_header(name: &String) -> Result<HeaderName, CallHeaderError> {
    let parsed = HeaderName::try_from(name);
    parsed.map_err(|_| CallHeaderError(name.clone()))
}

impl GatewayInner {
    /// Returns the headers of requests that become headers of their calls.
    pub(crate) fn call_headers(&self) -> Result<&[HeaderName], CallHeaderError> {
        let names = self.call_headers.as_ref();
        names.map(Vec::as_slice).map_err(Clone::clone)
    }

    pub(crate) fn attach(&self, component: GatewayComponent) {
        // Each part of a component attaches the same component.
        let _ = self.component.set(component);
        if let Some(counters) = self.counters() {
            counters.set_gateway();
        }
    }

    /// Returns the counters of the component, to which the gateway is attached before it has requests.
    fn counters(&self) -> Option<&Arc<HttpCounters>> {
        Some(&self.component()?.state.http)
    }

    pub(crate) fn component(&self) -> Option<&GatewayComponent> {
        self.component.get()
    }

    /// Returns the receiver of request messages to the first caller.
    pub(crate) fn take_incoming(&self) -> Option<mpsc::Receiver<RequestMessage>> {
        self.receiver.lock().take()
    }

    /// Returns the function with this name, if a worker has registered it.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        let functions = self.component.get()?.state.functions.functions();
        functions.get(name).cloned()
    }
}
