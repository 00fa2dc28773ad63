//! [`HttpError`]: why a request to an HTTP worker failed.

use std::time::Duration;

use crate::failure::{BoxError, CallFailure, FailureKind};

/// Error of a request to an HTTP worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be posted to.
    #[error("`{url}` is not the URL of an HTTP worker: {problem}")]
    #[non_exhaustive]
    Url {
        /// The configured URL.
        url: String,
        /// The mistake.
        problem: String,
    },
    /// No connection could be opened.
    #[error("`{url}` cannot be reached")]
    #[non_exhaustive]
    Connect {
        /// The URL of the worker.
        url: String,
        /// The cause.
        source: BoxError,
    },
    /// The connection broke before the response was complete.
    #[error("the connection to `{url}` broke")]
    #[non_exhaustive]
    Broken {
        /// The URL of the worker.
        url: String,
        /// The cause.
        source: BoxError,
    },
    /// The response did not arrive in time.
    #[error("`{url}` did not respond within {waited:?}")]
    #[non_exhaustive]
    Timeout {
        /// The URL of the worker.
        url: String,
        /// The timeout of the attempt.
        waited: Duration,
    },
    /// The worker answered with a status that reports a failure.
    #[error("`{url}` answered with status {status}")]
    #[non_exhaustive]
    Status {
        /// The URL of the worker.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The value of `Retry-After`, if the response has one.
        retry_after: Option<Duration>,
    },
    /// The response does not contain a message.
    #[error("the response of `{url}` is not a message")]
    #[non_exhaustive]
    NoMessage {
        /// The URL of the worker.
        url: String,
        /// The cause.
        source: BoxError,
    },
}

impl HttpError {
    /// Returns whether the request may be repeated. `repeatable` says that running a function twice does no harm.
    pub(super) fn is_transient(&self, repeatable: bool) -> bool {
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

    /// Converts the error to the one that the caller receives.
    pub(super) fn into_failure(self) -> CallFailure {
        match self {
            Self::Connect { .. } => CallFailure::unavailable(self.into()),
            Self::Status {
                status: 429 | 503, ..
            } => CallFailure::unavailable(self.into()),
            Self::Timeout { .. } => CallFailure::new(FailureKind::DeadlineExceeded, self.into()),
            _ => CallFailure::failed(self.into()),
        }
    }
}
