//! [`CallService`]: the innermost service, or a service that layers were put around.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use tokio::sync::Mutex;
use tower::Service;

use super::error::{CallServiceError, LayerFailure};
use super::request::{CallRequest, CallResponse};
use crate::clock;
use crate::failure::BoxError;

/// The service that a layer wraps: the innermost one, or one to which earlier layers were added.
///
/// It is `Clone`, as `tower::retry` needs, and always ready. Its error is [`CallFailure`](crate::CallFailure) at a
/// component and [`CallError`](crate::CallError) at a client.
pub struct CallService<E> {
    /// `None` for the innermost service.
    layered: Option<Arc<Mutex<dyn LayeredService>>>,
    error: PhantomData<fn() -> E>,
}

/// The service that a layer returns: any `tower::Service<CallRequest, Response = CallResponse>` with
/// an error that converts to [`BoxError`].
///
/// Implemented for all such services that are `Send` and `'static`. They need not be `Clone`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service of calls",
    label = "the layer makes this service",
    note = "implement `tower::Service<CallRequest, Response = CallResponse>` for it, with an error that converts to `palm::BoxError`, and `Send` for it and its future"
)]
pub trait LayeredService: Send + 'static {
    #[doc(hidden)]
    fn poll_call_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    #[doc(hidden)]
    fn start_call(
        &mut self,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<CallResponse, BoxError>>;
}

impl<S> LayeredService for S
where
    S: Service<CallRequest, Response = CallResponse> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn poll_call_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(self, context).map_err(Into::into)
    }

    fn start_call(
        &mut self,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<CallResponse, BoxError>> {
        let answer = Service::call(self, request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

impl<E: CallServiceError> CallService<E> {
    pub(super) fn innermost() -> Self {
        Self {
            layered: None,
            error: PhantomData,
        }
    }

    pub(super) fn layered(service: impl LayeredService) -> Self {
        Self {
            layered: Some(Arc::new(Mutex::new(service))),
            error: PhantomData,
        }
    }

    /// Makes the call of `request`.
    pub(crate) fn run(
        &self,
        request: CallRequest,
    ) -> impl Future<Output = Result<CallResponse, E>> + Send + use<E> {
        let (function, begun) = (request.function.clone(), clock::now());
        let layered = self.layered.clone();
        async move {
            let answer = match layered {
                None => request.run().await,
                Some(service) => call(&service, request).await,
            };
            answer.map_err(|error| {
                E::from_layer(LayerFailure {
                    function,
                    waited: clock::since(begun),
                    error,
                })
            })
        }
    }
}

/// Waits for the service to become ready, and calls it. Calls wait for readiness in their order, and run concurrently.
async fn call(
    service: &Mutex<dyn LayeredService>,
    request: CallRequest,
) -> Result<CallResponse, BoxError> {
    let answer = {
        let mut service = service.lock().await;
        poll_fn(|context| service.poll_call_ready(context)).await?;
        service.start_call(request)
    };
    answer.await
}

impl<E: CallServiceError> Service<CallRequest> for CallService<E> {
    type Response = CallResponse;
    type Error = E;
    type Future = BoxFuture<'static, Result<CallResponse, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: CallRequest) -> Self::Future {
        Box::pin(self.run(request))
    }
}

impl<E> Clone for CallService<E> {
    fn clone(&self) -> Self {
        Self {
            layered: self.layered.clone(),
            error: PhantomData,
        }
    }
}

impl<E> fmt::Debug for CallService<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CallService")
            .field("is_innermost", &self.layered.is_none())
            .finish_non_exhaustive()
    }
}
