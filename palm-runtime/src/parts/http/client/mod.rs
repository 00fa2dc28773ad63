//! HTTP out: messages to workers that are reached by HTTP.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::component_state::ComponentState;
use crate::executor::log_failure;
use crate::failure::{BoxError, CallFailure, FailureKind, chain};
use crate::message::proto::Extensions;
use crate::message::{Deadline, Message};
use crate::metrics::PartCounters;
use crate::part::{BATCH, Envelope, Inlet, OpenError, Outbound, Outlet, Setup};

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// Posts each message to a worker that is reached by HTTP, and routes the answer on: the same message
/// with the worker's payload, or with its error.
///
/// Connections are kept and used again. A request that fails becomes an error to the caller, of the kind
/// [`Unavailable`](FailureKind::Unavailable) where no worker was reached; it is never the answer. A call
/// whose deadline passes ends with the cause of its last failed attempt. A worker that answers 204 ends its
/// call without a result.
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
/// // Where the workers are, or what distributes requests among them; `Shout` answers in capitals.
/// let mut worker = ServerTemplate::new("worker");
/// worker.register_inbound(HttpService::bind("127.0.0.1:0"), "Http").route("Shout").block(true);
/// worker.register_outbound(Handler::new(Shout), "Shout");
/// let worker = worker.spawn().await?;
/// let url = worker.address("http_address").expect("it was announced");
///
/// let workers = HttpConnection::connect(url).max_workers(64);
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Workers").block(true);
/// server.register_outbound(workers, "Workers");
/// let server = server.spawn().await?;
///
/// let at = server.address("rep_address").expect("it was announced").parse()?;
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
    response_bytes: usize,
    retry: Retry,
    bearer_token: Option<String>,
    #[cfg(feature = "tls")]
    tls: Option<crate::http::ClientTls>,
    opened: Option<(HttpPoster, Arc<PartCounters>)>,
}

/// When a request is tried again, and how often.
///
/// A request that did not reach a worker, or that it refused for the moment (429, 503), is tried again
/// in any case. One that may have been carried out is tried again only where that does no harm:
/// [`repeatable`](Self::repeatable).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is tried in all. Default: 8, which takes some 12 s. 0 counts as 1. A try that
    /// would begin after the deadline of its call is not made.
    pub attempts: usize,
    /// How long to wait before the second try. The time doubles with each further try, and up to as much
    /// again is added at random, so that many programs do not come back at once. Default: 100 ms.
    pub first_pause: Duration,
    /// The longest such wait. Default: 5 s.
    pub longest_pause: Duration,
    /// Whether all functions may be called twice for one message: then broken connections, timeouts and
    /// the statuses 502 and 504 are tried again too. Default: no.
    pub repeatable: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            repeatable: false,
        }
    }
}

impl Retry {
    fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            // Jitter adds up to as much again.
            .with_max_delay(self.longest_pause / 2)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            // Without a seed, every program would wait for the same times.
            .with_jitter_seed(fastrand::u64(..))
    }
}

/// Why an HTTP worker gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL is none that can be posted to.
    #[error("`{url}` is no URL of a worker: {problem}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody was reached.
    #[error("`{url}` cannot be reached")]
    Connect {
        /// The worker's.
        url: String,
        /// The cause.
        source: BoxError,
    },
    /// The connection broke before there was an answer.
    #[error("the connection to `{url}` broke")]
    Broken {
        /// The worker's.
        url: String,
        /// The cause.
        source: BoxError,
    },
    /// There was no answer in time.
    #[error("`{url}` gave no answer within {waited:?}")]
    Timeout {
        /// The worker's.
        url: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The answer is none of success.
    #[error("`{url}` answered {status}")]
    Status {
        /// The worker's.
        url: String,
        /// The HTTP status.
        status: u16,
        /// When to come again, where it says so.
        retry_after: Option<Duration>,
    },
    /// The answer is no message.
    #[error("`{url}` answered what is no message")]
    NoMessage {
        /// The worker's.
        url: String,
        /// The cause.
        source: BoxError,
    },
}

impl HttpError {
    /// Whether the request may be tried again, given whether it may be carried out twice.
    fn is_transient(&self, repeatable: bool) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Broken { .. } | Self::Timeout { .. } => repeatable,
            Self::Status { status, .. } => match *status {
                429 | 503 => true,
                502 | 504 => repeatable,
                _ => false,
            },
            Self::Url { .. } | Self::NoMessage { .. } => false,
        }
    }

    /// What it means to the caller.
    fn into_failure(self) -> CallFailure {
        match self {
            Self::Connect { .. } => CallFailure::unavailable(self.into()),
            Self::Status {
                status: 429 | 503, ..
            } => CallFailure::unavailable(self.into()),
            Self::Timeout { .. } => CallFailure::of(FailureKind::DeadlineExceeded, self.into()),
            _ => CallFailure::failed(self.into()),
        }
    }
}

impl HttpConnection {
    /// Posts to `url`, as `http://host:port/path`; `https://` needs the feature `tls`.
    pub fn connect(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_workers: 16,
            timeout: Duration::from_secs(60),
            response_bytes: 128 * 1024 * 1024,
            retry: Retry::default(),
            bearer_token: None,
            #[cfg(feature = "tls")]
            tls: None,
            opened: None,
        }
    }

    /// How many requests are under way at once. Default: 16. 0 counts as 1.
    #[must_use]
    pub fn max_workers(mut self, requests: usize) -> Self {
        self.max_workers = requests.max(1);
        self
    }

    /// How long one try may take. A message's deadline counts as well. Default: 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Largest answer, in bytes. Default: 128 MiB.
    #[must_use]
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.response_bytes = bytes;
        self
    }

    /// When a request is tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sends this token with each request (RFC 6750). Default: none.
    #[must_use]
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        self.bearer_token = Some(token.into());
        self
    }

    /// Whom to trust with HTTPS. Default: whom the system trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::http::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    fn poster(&self, setup: &Setup<'_>) -> Result<HttpPoster, BoxError> {
        let bad_url = |problem: String| HttpError::Url {
            url: self.url.clone(),
            problem,
        };
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad_url(error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => return Err(bad_url("HTTPS needs the feature `tls`".into()).into()),
            _ => return Err(bad_url("it begins neither with http:// nor https://".into()).into()),
        }
        let mut headers = HeaderMap::new();
        let message = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, message);
        if let Some(token) = &self.bearer_token {
            let mut token = HeaderValue::from_str(&format!("Bearer {token}"))?;
            token.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, token);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.timeout.min(Duration::from_secs(5))));
        #[cfg(feature = "tls")]
        let connector = {
            connector.enforce_http(false);
            let tls = self.tls.clone();
            let is_plain = uri.scheme_str() == Some("http");
            crate::http::ClientTls::connector(tls, is_plain, connector)?
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(self.max_workers)
            .build(connector);
        Ok(HttpPoster {
            client,
            uri,
            url: self.url.clone(),
            headers,
            timeout: self.timeout,
            response_bytes: self.response_bytes,
            retry: self.retry,
            component: setup.component().to_owned(),
            shared: setup.shared.clone(),
        })
    }
}

impl Outbound for HttpConnection {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        self.opened = Some((self.poster(setup)?, setup.counters()));
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let (poster, counters) = self.opened.expect("a part is opened before it runs");
        let poster = Arc::new(poster);
        let places = Arc::new(Semaphore::new(self.max_workers));
        let mut requests = JoinSet::new();
        let mut batch = Vec::new();
        loop {
            // No more is taken than can be requested at once: clients have their turns in the queue.
            let mut place = places.clone().acquire_owned().await.ok();
            let most = 1 + places.available_permits();
            if inlet.recv_many(&mut batch, most.min(BATCH)).await == 0 {
                break;
            }
            while requests.try_join_next().is_some() {}
            for envelope in batch.drain(..) {
                let place = match place.take() {
                    Some(place) => Ok(place),
                    None => places.clone().acquire_owned().await,
                };
                counters.count(1, envelope.message.payload().len());
                let (poster, outlet) = (poster.clone(), outlet.clone());
                let counters = counters.clone();
                let request = async move {
                    let _place = place;
                    poster.handle(envelope, &outlet, &counters).await;
                };
                requests.spawn(request.in_current_span());
            }
        }
        while requests.join_next().await.is_some() {}
        Ok(())
    }
}

/// What posts messages.
#[derive(Debug)]
struct HttpPoster {
    client: Client<Connector, Full<Bytes>>,
    uri: Uri,
    url: String,
    headers: HeaderMap,
    timeout: Duration,
    response_bytes: usize,
    retry: Retry,
    component: String,
    shared: Arc<ComponentState>,
}

impl HttpPoster {
    /// Gets the answer to one message, and sends it on.
    async fn handle(&self, envelope: Envelope, outlet: &Outlet, counters: &PartCounters) {
        let since = Instant::now();
        let Envelope {
            message,
            flow,
            feedback,
            ..
        } = envelope;
        let answer = match self.answer(message.clone()).await {
            Ok(answer) => answer,
            Err(failure) => {
                counters.count_error();
                log_failure(&message, &failure);
                Some(message.failed(&self.component, &failure))
            }
        };
        // The call has no result, and its caller does not ask for an end: a part that waits for the answer gets an empty one.
        let Some(mut answer) = answer else {
            return;
        };
        if let Some(feedback) = feedback {
            let _ = feedback.send(answer.encode());
        }
        let end = end_of(&mut answer);
        outlet.send_in(answer, flow, since).await;
        if let Some(end) = end {
            outlet.send_in(end, flow, since).await;
        }
    }

    /// Returns the message with its result, or without one but with an end if the worker gives none and the
    /// caller wants to know that.
    async fn answer(&self, mut message: Message) -> Result<Option<Message>, CallFailure> {
        let extensions = message.extensions().unwrap_or_default();
        if extensions.error.is_some() || extensions.end.is_some() {
            return Ok(Some(message));
        }
        let topic = message.client_topic();
        if self.shared.cancellations.has(&topic) {
            return Err(CallFailure::given_up());
        }
        let deadline = Deadline::from_extension(extensions.deadline);
        if deadline.is_some_and(Deadline::has_passed) {
            return Err(CallFailure::late());
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.left()).await,
                None => std::future::pending().await,
            }
        };
        let frame = message.encode();
        let last_cause = Mutex::new(None);
        let answer = tokio::select! {
            biased;
            answer = self.post_with_retries(&frame, deadline, &last_cause) => {
                answer.map_err(HttpError::into_failure)?
            }
            () = late => return Err(late_because(last_cause)),
            () = self.shared.cancellations.of(&topic) => return Err(CallFailure::given_up()),
        };
        let Some(answer) = answer else {
            if !extensions.wants_end && extensions.share.is_none() {
                return Ok(None);
            }
            message.end(0);
            return Ok(Some(message.with_payload(Bytes::new())));
        };
        // The rest of the answer is left alone: a worker does not decide whom its result goes to.
        if let Some(error) = answer.extensions().and_then(|extensions| extensions.error) {
            message.extend(&Extensions {
                error: Some(error),
                ..Extensions::default()
            });
        }
        Ok(Some(message.with_payload(answer.payload().clone())))
    }

    /// Posts until there is an answer, or an error that is final; `last_cause` is that of the last attempt that
    /// failed.
    async fn post_with_retries(
        &self,
        frame: &Bytes,
        deadline: Option<Deadline>,
        last_cause: &Mutex<Option<String>>,
    ) -> Result<Option<Message>, HttpError> {
        let longest = self.retry.longest_pause;
        (|| self.post(frame.clone()))
            .retry(self.retry.pauses())
            .when(|error| error.is_transient(self.retry.repeatable))
            .adjust(|error, pause| {
                // Whoever says when to come again is believed, as long as it is not too late.
                let after = match error {
                    HttpError::Status { retry_after, .. } => *retry_after,
                    _ => None,
                };
                let pause = pause.map(|pause| after.unwrap_or(pause).min(longest));
                // A caller whose deadline passes meanwhile would only learn that.
                pause.filter(|pause| deadline.is_none_or(|deadline| *pause < deadline.left()))
            })
            .notify(|error, pause| {
                let cause = chain(error);
                tracing::warn!(?pause, "retrying an HTTP request: {cause}");
                *last_cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
            })
            .await
    }

    async fn post(&self, frame: Bytes) -> Result<Option<Message>, HttpError> {
        let url = || self.url.clone();
        let mut request = Request::post(self.uri.clone())
            .body(Full::new(frame))
            .expect("the URL was checked when the part was opened");
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let source: BoxError = error.into();
                match source.downcast::<hyper_util::client::legacy::Error>() {
                    Ok(error) if error.is_connect() => HttpError::Connect {
                        url: url(),
                        source: error,
                    },
                    Ok(error) => HttpError::Broken {
                        url: url(),
                        source: error,
                    },
                    Err(source) => HttpError::Broken { url: url(), source },
                }
            })?;
            let head = Head::of(&response);
            let body = Limited::new(response.into_body(), self.response_bytes);
            let body = body
                .collect()
                .await
                .map_err(|source| HttpError::Broken { url: url(), source })?;
            Ok((head, body.to_bytes()))
        };
        let (head, body) = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| HttpError::Timeout {
                url: url(),
                waited: self.timeout,
            })??;
        self.read(head, body)
    }

    fn read(&self, head: Head, body: Bytes) -> Result<Option<Message>, HttpError> {
        let url = || self.url.clone();
        let Head {
            status,
            retry_after,
        } = head;
        let refused = || HttpError::Status {
            url: url(),
            status: status.as_u16(),
            retry_after,
        };
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let message = Message::decode(body.clone());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            // A worker of ours says in the message what went wrong.
            return match message {
                Ok(message) if message.has_error() => Ok(Some(message)),
                _ => Err(refused()),
            };
        }
        if !status.is_success() {
            return Err(refused());
        }
        let no_message = |source: BoxError| HttpError::NoMessage { url: url(), source };
        match message {
            Ok(_) if body.is_empty() => Err(no_message("the answer is empty".into())),
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(no_message(error.into())),
        }
    }
}

/// The deadline of a call has passed, whose last attempt failed for this cause, if one has.
fn late_because(last_cause: Mutex<Option<String>>) -> CallFailure {
    let last_cause = last_cause.into_inner();
    match last_cause.unwrap_or_else(PoisonError::into_inner) {
        Some(cause) => {
            let error = format!("its deadline has passed; the last attempt failed: {cause}");
            CallFailure::of(FailureKind::DeadlineExceeded, error.into())
        }
        None => CallFailure::late(),
    }
}

/// Says that `answer` is the only one, where somebody wants to know: that a request has one answer is
/// known only to who posted it. After a result the message that is returned says it, an error does itself.
fn end_of(answer: &mut Message) -> Option<Message> {
    // Of a call with several steps, the steps before may have given many results.
    if answer.function().contains(' ') {
        return None;
    }
    if answer.has_error() {
        answer.end_with_error();
        return None;
    }
    let extensions = answer.extensions()?;
    if !extensions.wants_end || extensions.end.is_some() {
        return None;
    }
    let mut end = answer.clone().with_payload(Bytes::new());
    end.end(1);
    Some(end)
}

/// What counts of a response's head.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: StatusCode,
    retry_after: Option<Duration>,
}

impl Head {
    fn of<B>(response: &Response<B>) -> Self {
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Self {
            status: response.status(),
            retry_after: after.map(Duration::from_secs),
        }
    }
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;

    use super::*;

    #[test]
    fn retry_pauses_differ_from_call_to_call_and_stay_below_the_longest() {
        let retry = Retry::default();
        let pauses = || retry.pauses().build().collect::<Vec<_>>();
        let (one, other) = (pauses(), pauses());
        assert_eq!((one.len(), other.len()), (7, 7));
        assert_ne!(one, other);
        for pause in one.into_iter().chain(other) {
            assert!(pause >= retry.first_pause && pause <= retry.longest_pause);
        }
    }

    #[test]
    fn a_call_whose_deadline_passes_names_the_cause_of_the_last_attempt() {
        let text = |cause: Option<&str>| {
            let failure = late_because(Mutex::new(cause.map(str::to_owned)));
            assert_eq!(failure.kind(), FailureKind::DeadlineExceeded);
            failure.chain()
        };
        assert_eq!(text(None), "its deadline has passed");
        assert_eq!(
            text(Some("connection refused")),
            "its deadline has passed; the last attempt failed: connection refused"
        );
    }
}
