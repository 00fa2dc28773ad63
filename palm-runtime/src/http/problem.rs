//! [`Problem`]: an error response as a document of RFC 9457 (Problem Details for HTTP APIs).

use axum::body::Body;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use super::body_memory::BodyError;
use crate::client::CallError;
use crate::failure::FailureKind;
use crate::message::{Message, RemoteError};

/// The media type of a problem document.
pub(super) const PROBLEM: &str = "application/problem+json";

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    detail: String,
    /// Extension members, besides those that the RFC defines.
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A temporary problem: 503 with `Retry-After: 1`.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The deadline of the call has passed: 504.
    pub(super) fn late(waited: std::time::Duration) -> Self {
        let detail = format!("no answer within {waited:?}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, detail)
    }

    /// Returns a problem if `result` is the answer of a step before the last one.
    pub(super) fn unfinished(result: &Message) -> Option<Self> {
        let unfinished = CallError::unfinished(result.function(), result.stage())?;
        Some(Self::new(StatusCode::BAD_GATEWAY, unfinished.to_string()))
    }

    /// The body was not received in time: 408.
    pub(super) fn slow_body() -> Self {
        let detail = "the body was not received in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// Converts an error that a component returned.
    pub(super) fn from_remote(error: RemoteError) -> Self {
        let status = match error.kind {
            FailureKind::UnknownFunction => StatusCode::NOT_FOUND,
            FailureKind::Undecodable => StatusCode::BAD_REQUEST,
            FailureKind::PermissionDenied => StatusCode::FORBIDDEN,
            FailureKind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            FailureKind::Unavailable | FailureKind::Cancelled => {
                return Self::unavailable(error.message.clone()).remote(error);
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message.clone()).remote(error)
    }

    fn remote(self, error: RemoteError) -> Self {
        self.with("kind", format!("{:?}", error.kind))
            .with("component", error.component)
            .with("function", error.function)
            .with("step", error.step)
    }

    /// Returns the problem document.
    pub(super) fn to_json(&self) -> Value {
        let mut document = self.members.clone();
        let title = self.status.canonical_reason().unwrap_or("Error");
        document.insert("title".to_owned(), title.into());
        document.insert("status".to_owned(), self.status.as_u16().into());
        document.insert("detail".to_owned(), self.detail.clone().into());
        document.into()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let detail = error.to_string();
        match error {
            BodyError::TooLarge { limit, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).with("limit", limit)
            }
            BodyError::OutOfMemory => Self::unavailable(detail),
            BodyError::Broken(_) => Self::new(StatusCode::BAD_REQUEST, detail),
        }
    }
}
