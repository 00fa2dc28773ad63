//! [`Body`]: the body of a response, and of a request that a server of palm has received.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::failure::BoxError;

/// The body of a response, and of a request that [`serve`](super::serve()) passes to a service.
///
/// It implements `http_body::Body`, so that `http_body_util` reads it and frameworks accept it.
#[derive(Debug)]
pub struct Body(axum::body::Body);

impl Body {
    /// Creates a body of another body, without a copy.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut body = Some(body);
        // A body of this type is not wrapped again.
        let body_here = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>();
        match (body_here.and_then(Option::take), body) {
            (Some(body), _) => body,
            (None, Some(body)) => Self(axum::body::Body::new(body)),
            (None, None) => Self::empty(),
        }
    }

    /// Creates a body without data.
    pub fn empty() -> Self {
        Self(axum::body::Body::empty())
    }

    pub(crate) fn from_inner(body: axum::body::Body) -> Self {
        Self(body)
    }

    pub(crate) fn into_inner(self) -> axum::body::Body {
        self.0
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(body: Bytes) -> Self {
        Self(body.into())
    }
}

impl From<String> for Body {
    fn from(body: String) -> Self {
        Self(body.into())
    }
}

impl From<&'static str> for Body {
    fn from(body: &'static str) -> Self {
        Self(body.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        polled.map(|frame| frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
