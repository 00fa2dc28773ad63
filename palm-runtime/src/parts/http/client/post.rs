//! [`HttpPoster`]: requests to a worker and their responses, repeated if they fail.

use std::sync::Arc;
use std::time::Duration;

use backon::Retryable as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use super::{HttpConnection, HttpError, Retry};
use crate::clock;
use crate::component_state::ComponentState;
use crate::failure::{BoxError, chain};
use crate::message::{Deadline, Message};
use crate::options::Secret;
use crate::part::Setup;

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// Posts messages to the workers at one URL.
#[derive(Debug)]
pub(super) struct HttpPoster {
    client: Client<Connector, Full<Bytes>>,
    uri: Uri,
    url: String,
    headers: HeaderMap,
    timeout: Duration,
    response_bytes: usize,
    pub(super) retry: Retry,
    pub(super) component: String,
    pub(super) state: Arc<ComponentState>,
}

impl HttpPoster {
    pub(super) fn new(connection: &HttpConnection, setup: &Setup<'_>) -> Result<Self, BoxError> {
        let bad_url = |problem: String| HttpError::Url {
            url: connection.url.clone(),
            problem,
        };
        let uri: Uri = connection
            .url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad_url(error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => {
                return Err(bad_url("https:// needs the feature `tls` of palm".into()).into());
            }
            _ => return Err(bad_url("expected http:// or https://".into()).into()),
        }
        let mut headers = HeaderMap::new();
        let message = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, message);
        if let Some(Secret(token)) = &connection.bearer_token {
            let mut token = HeaderValue::from_str(&format!("Bearer {token}"))?;
            token.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, token);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connection.timeout.min(Duration::from_secs(5))));
        #[cfg(feature = "tls")]
        let connector = {
            connector.enforce_http(false);
            let tls = connection.tls.clone();
            let is_plain = uri.scheme_str() == Some("http");
            crate::http::ClientTls::connector(tls, is_plain, connector)?
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(connection.max_workers)
            .build(connector);
        Ok(Self {
            client,
            uri,
            url: connection.url.clone(),
            headers,
            timeout: connection.timeout,
            response_bytes: connection.max_response_bytes,
            retry: connection.retry,
            component: setup.component().to_owned(),
            state: setup.state.clone(),
        })
    }

    /// Makes one attempt to post a serialized message. Returns `None` if the worker has no result (204).
    pub(super) async fn post(&self, frame: Bytes) -> Result<Option<Message>, HttpError> {
        let url = || self.url.clone();
        let mut request = Request::post(self.uri.clone())
            .body(Full::new(frame))
            .expect("the URL was validated when the part was opened");
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
            let head = ResponseHead::new(&response);
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

    /// Posts a message until a worker answers or the error is final. `last_cause` receives the cause of each failed
    /// attempt.
    pub(super) async fn post_with_retries(
        &self,
        frame: &Bytes,
        deadline: Option<Deadline>,
        last_cause: &Mutex<Option<String>>,
    ) -> Result<Option<Message>, HttpError> {
        let max_delay = self.retry.max_delay;
        (|| self.post(frame.clone()))
            .retry(self.retry.delays())
            .when(|error| error.is_transient(self.retry.repeatable))
            .adjust(|error, delay| {
                // `Retry-After` overrides the delay, up to the maximum.
                let after = match error {
                    HttpError::Status { retry_after, .. } => *retry_after,
                    _ => None,
                };
                let delay = delay.map(|delay| after.unwrap_or(delay).min(max_delay));
                // An attempt after the deadline would hide the cause behind a timeout.
                delay.filter(|delay| {
                    deadline.is_none_or(|deadline| *delay < deadline.left(clock::wall()))
                })
            })
            .notify(|error, delay| {
                let cause = chain(error);
                tracing::warn!(?delay, cause, "retrying a request to an HTTP worker");
                *last_cause.lock() = Some(cause);
            })
            .await
    }

    fn read(&self, head: ResponseHead, body: Bytes) -> Result<Option<Message>, HttpError> {
        let url = || self.url.clone();
        let ResponseHead {
            status,
            retry_after,
        } = head;
        let rejected = || HttpError::Status {
            url: url(),
            status: status.as_u16(),
            retry_after,
        };
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let message = Message::decode(body.clone());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            // A worker of palm returns the error in the message.
            return match message {
                Ok(message) if message.has_error() => Ok(Some(message)),
                _ => Err(rejected()),
            };
        }
        if !status.is_success() {
            return Err(rejected());
        }
        let no_message = |source: BoxError| HttpError::NoMessage { url: url(), source };
        match message {
            Ok(_) if body.is_empty() => Err(no_message("the body is empty".into())),
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(no_message(error.into())),
        }
    }
}

/// The parts of a response head that matter here.
#[derive(Debug, Clone, Copy)]
struct ResponseHead {
    status: StatusCode,
    retry_after: Option<Duration>,
}

impl ResponseHead {
    fn new<B>(response: &Response<B>) -> Self {
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Self {
            status: response.status(),
            retry_after: after.map(Duration::from_secs),
        }
    }
}
