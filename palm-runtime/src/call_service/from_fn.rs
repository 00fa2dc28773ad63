//! [`from_fn`]: a layer from an async function, as in axum.

use std::fmt;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use tower::{Layer, Service};

use super::MethodService;
use super::request::{CallRequest, CallResponse};
use crate::failure::BoxError;

/// Returns a layer that calls an async function for each call.
///
/// The function receives the request and [`Next`], the service inside of it, which it may run or not. Its error is any
/// that converts to [`BoxError`].
///
/// ```
/// use palm::middleware::{CallRequest, CallResponse, Next, from_fn};
/// use palm::prelude::*;
/// use palm::{CallFailure, FailureKind};
///
/// async fn only_with_token(call: CallRequest, next: Next) -> Result<CallResponse, CallFailure> {
///     if call.headers().get("token") != Some("secret") {
///         let error = "the call has no valid token";
///         return Err(CallFailure::new(FailureKind::PermissionDenied, error.into()));
///     }
///     next.run(call).await
/// }
///
/// struct Math;
///
/// #[palm::server(name = "math")]
/// impl Math {
///     #[palm::method]
///     fn double(&self, numbers: Vec<u8>) -> Vec<u8> {
///         numbers.into_iter().map(|number| number * 2).collect()
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Math.bind("tcp://127.0.0.1:5555").layer(from_fn(only_with_token)).start().await
/// # }
/// ```
pub fn from_fn<F>(function: F) -> FromFnLayer<F> {
    FromFnLayer(function)
}

/// The layer of [`from_fn`].
#[derive(Clone)]
pub struct FromFnLayer<F>(F);

/// The service of [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F, S> {
    function: F,
    inner: S,
}

/// The service inside of a function that is a layer; see [`from_fn`].
///
/// It is a [`MethodService`] at a component, and a [`ClientService`](crate::middleware::ClientService) at a client,
/// unless the function is one of several layers of a `tower::ServiceBuilder`.
#[derive(Debug, Clone)]
pub struct Next<S = MethodService>(S);

impl<S: Service<CallRequest>> Next<S> {
    /// Makes the call, and returns its answer.
    ///
    /// # Errors
    ///
    /// The error of the call, or of an inner layer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the call: an `async` method is dropped.
    pub async fn run(mut self, request: CallRequest) -> Result<CallResponse, S::Error>
    where
        S: Service<CallRequest, Response = CallResponse>,
    {
        self.0.call(request).await
    }
}

impl<F: Clone, S> Layer<S> for FromFnLayer<F> {
    type Service = FromFn<F, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let function = self.0.clone();
        FromFn { function, inner }
    }
}

impl<F, S, Answer, E> Service<CallRequest> for FromFn<F, S>
where
    F: FnMut(CallRequest, Next<S>) -> Answer,
    Answer: Future<Output = Result<CallResponse, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
    S: Service<CallRequest, Response = CallResponse, Error: Into<BoxError>> + Clone,
{
    type Response = CallResponse;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<CallResponse, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: CallRequest) -> Self::Future {
        // The service that is ready is the one to call; its clone has to become ready first.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let answer = (self.function)(request, Next(ready));
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

impl<F> fmt::Debug for FromFnLayer<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FromFnLayer")
    }
}

impl<F, S: fmt::Debug> fmt::Debug for FromFn<F, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FromFn")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
