//! [`MessageBody`]: a serialized `PalmMessage` as the body of a POST request, as HTTP workers and `HttpService`
//! receive it.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::body_memory::{self, BodyMemory, MemoryPermit};
use super::problem::Problem;

const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Time until the whole body has been received.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A received body, not decoded yet.
#[derive(Debug)]
pub(crate) struct MessageBody {
    pub(crate) body: Bytes,
    /// Covers `body`. Keep it until the request is answered.
    pub(crate) permit: MemoryPermit,
}

impl MessageBody {
    /// Reads the body of `request`, or returns the response that rejects it.
    pub(crate) async fn read(
        request: Request<Body>,
        memory: &BodyMemory,
    ) -> Result<Self, Response<Body>> {
        if request.method() != Method::POST {
            let detail = format!("{} is not POST", request.method());
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
            let allow = HeaderValue::from_static("POST");
            return Err(problem.header(header::ALLOW, allow).into_response());
        }
        let read = body_memory::read(request.into_body(), MAX_BODY_BYTES, memory);
        match timeout(BODY_TIMEOUT, read).await {
            Ok(Ok((body, permit))) => Ok(Self { body, permit }),
            Ok(Err(error)) => Err(Problem::from(error).into_response()),
            Err(_) => Err(Problem::slow_body().into_response()),
        }
    }
}

/// Returns a response without a message, whose problem document says why.
pub(crate) fn problem_response(status: StatusCode, detail: &str) -> Response<Body> {
    Problem::new(status, detail).into_response()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn request_without_a_body_in_time_is_answered_by_408() {
        let frames = stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::post("/").body(Body::from_stream(frames));
        let request = request.expect("the request is valid");
        let response = MessageBody::read(request, &BodyMemory::default()).await;
        let response = response.expect_err("no body is sent");
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
