//! [`PostedMessage`]: a message as the body of a request.

use axum::body::Body;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::problem::Problem;

/// Largest body, in bytes.
const LIMIT: usize = 128 * 1024 * 1024;

/// A body that is meant to be a message.
#[derive(Debug)]
pub(crate) struct PostedMessage {
    pub(crate) body: Bytes,
}

impl PostedMessage {
    /// Reads it; the error is what the request is answered.
    pub(crate) async fn read(request: Request<Body>) -> Result<Self, Response<Body>> {
        if request.method() != Method::POST {
            let detail = format!("{} is not POST", request.method());
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
            let allow = HeaderValue::from_static("POST");
            return Err(problem.header(header::ALLOW, allow).into_response());
        }
        let too_large = || {
            let detail = format!("the body has more than {LIMIT} bytes");
            no_answer(StatusCode::PAYLOAD_TOO_LARGE, &detail)
        };
        if hyper::body::Body::size_hint(request.body()).lower() > LIMIT as u64 {
            return Err(too_large());
        }
        match axum::body::to_bytes(request.into_body(), LIMIT).await {
            Ok(body) => Ok(Self { body }),
            Err(error) if is_too_large(&error) => Err(too_large()),
            Err(error) => {
                let detail = format!("the body cannot be read: {error}");
                Err(no_answer(StatusCode::BAD_REQUEST, &detail))
            }
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>())
}

/// A response that is no message, and why.
pub(crate) fn no_answer(status: StatusCode, detail: &str) -> Response<Body> {
    Problem::new(status, detail).into_response()
}
