//! [`MessageBody`]: a message as the body of a request.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::body_memory::{self, BodyMemory, MemoryPermit};
use super::problem::Problem;

/// Largest body, in bytes.
const LIMIT: usize = 128 * 1024 * 1024;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body that is meant to be a message.
#[derive(Debug)]
pub(crate) struct MessageBody {
    pub(crate) body: Bytes,
    /// To be kept until the request is answered.
    pub(crate) held: MemoryPermit,
}

impl MessageBody {
    /// Reads it; the error is what the request is answered.
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
        let read = body_memory::read(request.into_body(), LIMIT, memory);
        match timeout(BODY_TIMEOUT, read).await {
            Ok(Ok((body, held))) => Ok(Self { body, held }),
            Ok(Err(error)) => Err(Problem::from(error).into_response()),
            Err(_) => Err(Problem::slow_body().into_response()),
        }
    }
}

/// A response that is no message, and why.
pub(crate) fn problem_response(status: StatusCode, detail: &str) -> Response<Body> {
    Problem::new(status, detail).into_response()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_answered() {
        let frames = stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::post("/").body(Body::from_stream(frames));
        let request = request.expect("it is a request");
        let response = MessageBody::read(request, &BodyMemory::default()).await;
        let response = response.expect_err("nothing came");
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
