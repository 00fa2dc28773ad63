//! [`UnreadBody`]: whether a request's body was dropped before its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, Version};

/// Adds `Connection: close` to the response of an HTTP/1 request whose body was dropped before its end (RFC 9112,
/// section 9.6).
///
/// hyper closes such a connection after the response. Without the header, a client that keeps connections could send
/// its next request on it, and lose that request.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadBody {
    /// A connection of HTTP/1 has one request at a time.
    was_dropped: Arc<AtomicBool>,
}

impl UnreadBody {
    /// Observes the body of a request.
    pub(super) fn observe(&self, request: Request<Incoming>) -> Request<super::Body> {
        if request.version() > Version::HTTP_11 {
            return request.map(super::Body::new);
        }
        self.was_dropped.store(false, Ordering::Relaxed);
        request.map(|body| {
            super::Body::new(Observed {
                body,
                was_read: false,
                was_dropped: self.was_dropped.clone(),
            })
        })
    }

    /// Adds the header if the body of the request with this response was dropped before its end.
    pub(super) fn announce<B>(&self, version: Version, response: &mut Response<B>) {
        if version <= Version::HTTP_11 && self.was_dropped.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

struct Observed {
    body: Incoming,
    was_read: bool,
    was_dropped: Arc<AtomicBool>,
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.was_read |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.was_read && !self.is_end_stream() {
            self.was_dropped.store(true, Ordering::Relaxed);
        }
    }
}
