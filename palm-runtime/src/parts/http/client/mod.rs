//! [`HttpConnection`]: sends tasks to workers that listen for HTTP requests.
//!
//! `post` makes requests and repeats them as `retry` says, `task` is the life of a task around that: its deadline, its
//! cancellation, and what is routed on. `error` is the error type of a request.

mod error;
mod post;
mod retry;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument as _;

pub use self::error::HttpError;
use self::post::HttpPoster;
pub use self::retry::Retry;
use crate::failure::BoxError;
use crate::metrics::PartCounters;
use crate::options::Secret;
use crate::part::{BATCH, Inlet, OpenError, Outbound, Outlet, Running, Setup};

/// Posts each message to a worker that listens for HTTP requests, and routes on the message with the worker's result
/// or error as its payload.
///
/// Connections are kept alive and reused. Requests that fail are repeated as [`Retry`] says. If no attempt succeeds,
/// the caller receives an error, of the kind [`Unavailable`](crate::FailureKind::Unavailable) if no worker was
/// reached. If the deadline of a call passes, its error names the cause of the last failed attempt. A worker that
/// answers 204 ends the call without a result.
///
/// ```
/// use std::time::Duration;
///
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
/// use palm::{Message, ServerTemplate};
/// # use palm::{CallFailure, Context, callable::Emit, part::OutboundHooks};
/// # struct Shout;
/// # impl OutboundHooks for Shout {
/// #     async fn handle(
/// #         &mut self,
/// #         message: Message,
/// #         _: Context,
/// #         emit: &mut Emit<'_>,
/// #     ) -> Result<(), CallFailure> {
/// #         let loud = message.payload().to_ascii_uppercase();
/// #         emit.send(message.with_payload(loud)).await;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// // A worker, or a load balancer in front of several. `Shout` answers in capitals.
/// let mut worker = ServerTemplate::new("worker");
/// worker.register_inbound(HttpService::bind("127.0.0.1:0"), "Http").route("Shout").block(true);
/// worker.register_outbound(Handler::new(Shout), "Shout");
/// let worker = worker.spawn().await?;
/// let url = worker.address("http_address").expect("announced");
///
/// let workers = HttpConnection::connect(url).max_workers(64);
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Workers").block(true);
/// server.register_outbound(workers, "Workers");
/// let server = server.spawn().await?;
///
/// let at = server.address("rep_address").expect("announced").parse()?;
/// let request = Request::connect(&at, &SocketOptions::default()).await?;
/// let question = Message::new("server.shout", "hello").encode();
/// let answer = request.request(question, Duration::from_secs(10)).await?;
/// assert_eq!(Message::decode(answer)?.payload(), "HELLO");
/// server.shutdown().await?;
/// worker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpConnection {
    url: String,
    max_workers: usize,
    timeout: Duration,
    max_response_bytes: usize,
    retry: Retry,
    bearer_token: Option<Secret>,
    #[cfg(feature = "tls")]
    tls: Option<crate::http::ClientTls>,
}

impl HttpConnection {
    /// Posts to `url`, in the form `http://host:port/path`. `https://` needs the feature `tls`.
    pub fn connect(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_workers: 16,
            timeout: Duration::from_secs(60),
            max_response_bytes: 128 * 1024 * 1024,
            retry: Retry::default(),
            bearer_token: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the number of concurrent requests. Default: 16. 0 counts as 1.
    #[must_use]
    pub fn max_workers(mut self, requests: usize) -> Self {
        self.max_workers = requests.max(1);
        self
    }

    /// Sets the timeout of a single attempt. Default: 60 s. The deadline of the message applies as well.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the size of the largest accepted response. Default: 128 MiB.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Sets when and how often a request is repeated, see [`Retry`] for the defaults.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sends a bearer token (RFC 6750) with each request. Default: none.
    #[must_use]
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.bearer_token = Some(Secret(token.into()));
        self
    }

    /// Sets the certificates that are trusted with HTTPS. Default: those of the system.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::http::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }
}

impl Outbound for HttpConnection {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let poster = Arc::new(HttpPoster::new(&self, setup)?);
        let counters = setup.counters();
        Ok(Running::outbound(|inlet, outlet| {
            self.post_all(poster, counters, inlet, outlet)
        }))
    }
}

impl HttpConnection {
    async fn post_all(
        self,
        poster: Arc<HttpPoster>,
        counters: Arc<PartCounters>,
        mut inlet: Inlet,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let free_requests = Arc::new(Semaphore::new(self.max_workers));
        let mut requests = JoinSet::new();
        let mut batch = Vec::new();
        loop {
            // Receives only what can be posted at once, so that the queue upstream serves clients in turn.
            let mut permit = free_requests.clone().acquire_owned().await.ok();
            let max = 1 + free_requests.available_permits();
            if inlet.recv_many(&mut batch, max.min(BATCH)).await == 0 {
                break;
            }
            while requests.try_join_next().is_some() {}
            for envelope in batch.drain(..) {
                let permit = match permit.take() {
                    Some(permit) => Ok(permit),
                    None => free_requests.clone().acquire_owned().await,
                };
                counters.count(1, envelope.message.payload().len());
                let (poster, outlet) = (poster.clone(), outlet.clone());
                let counters = counters.clone();
                let request = async move {
                    let _permit = permit;
                    poster.handle(envelope, &outlet, &counters).await;
                };
                requests.spawn(request.in_current_span());
            }
        }
        while requests.join_next().await.is_some() {}
        Ok(())
    }
}
