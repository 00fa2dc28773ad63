//! [`call_layered`]: a call that passes layers before it reaches its method.
//!
//! The method runs within the future of the layered call: if that ends, because a layer answers early or the call is
//! cancelled, the method is dropped, also if a layer has moved it to a task of its own. So limits on concurrency, the
//! drain and the lease of a task hold as without layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;
use futures_core::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::call_future::CallFuture;
use super::callable::{Call, Methods};
use super::emit::ResultEmitter;
use crate::call_service::{CallRequest, CallResponse, InnermostCall, MethodService};
use crate::context::Context;
use crate::failure::{BoxError, CallFailure};
use crate::message::Message;
use crate::method::{FunctionInfo, Outcome, Results};

/// The innermost part of a layered call: its method.
struct MethodCall {
    component: Arc<dyn Methods>,
    index: usize,
    runs_once: bool,
    /// Whether there may be several results.
    has_many: bool,
    has_run: AtomicBool,
    /// The sender of results, if there may be several. Removed when the call ends.
    results: Mutex<Option<Box<ResultEmitter>>>,
    /// Cancelled once the call has ended.
    ended: CancellationToken,
}

impl MethodCall {
    fn take_results(&self) -> Option<Box<ResultEmitter>> {
        self.results.lock().take()
    }
}

impl InnermostCall for MethodCall {
    fn run(
        self: Arc<Self>,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<CallResponse, BoxError>> {
        Box::pin(async move {
            let has_run = self.has_run.swap(true, Ordering::AcqRel);
            if has_run && self.runs_once {
                let function = &self.component.functions()[self.index].name;
                let error = format!("a layer has run `{function}` twice, which runs once per call");
                return Err(CallFailure::failed(error.into()).into());
            }
            let context = request
                .context
                .map(|it| it.with_extensions(request.extensions));
            let call = Call::new(request.payload, context, self.take_results());
            let mut method = CallFuture::default();
            self.component.clone().call(self.index, call, &mut method);
            // If the call has ended, no result may follow; another method is polled once more, see `Context::cancelled`.
            let outcome = tokio::select! {
                biased;
                () = self.ended.cancelled(), if self.has_many => Outcome::Failed(CallFailure::cancelled()),
                outcome = method => outcome,
                () = self.ended.cancelled() => Outcome::Failed(CallFailure::cancelled()),
            };
            match outcome {
                Outcome::Payload(payload) => Ok(CallResponse::new(payload)),
                Outcome::Nothing => Ok(CallResponse::empty()),
                Outcome::Failed(failure) => Err(failure.into()),
            }
        })
    }
}

/// Removes the sender of results at the end of a call. A layer may keep the request, and the sender keeps the queue
/// downstream open.
struct RemoveResults(Arc<MethodCall>);

impl Drop for RemoveResults {
    fn drop(&mut self) {
        self.0.take_results();
    }
}

/// Passes a call, which has a context, through layers.
pub(super) fn call_layered(
    layers: &MethodService,
    component: Arc<dyn Methods>,
    index: usize,
    call: Call,
    message: &Message,
) -> impl Future<Output = Outcome> + Send + use<> {
    let info = &component.functions()[index];
    let (payload, context, results) = call.into_parts();
    let ended = context.as_ref().and_then(Context::end).cloned();
    let has_many = info.results == Results::Many;
    let runs_once = info.at_most_once || has_many;
    let function = called(message, info);
    let method = Arc::new(MethodCall {
        component,
        index,
        runs_once,
        has_many,
        has_run: AtomicBool::new(false),
        results: Mutex::new(results),
        ended: ended.unwrap_or_default(),
    });
    let request = CallRequest {
        function,
        client: message.client_topic(),
        headers: message.headers(),
        payload,
        deadline: message.deadline(),
        runs_once,
        extensions: Default::default(),
        context,
        innermost: Some(method.clone()),
    };
    let answer = layers.run(request);
    async move {
        let method = RemoveResults(method);
        match answer.await {
            Ok(response) => match (response.into_payload(), method.0.take_results()) {
                // The method has not run: its answer is that of a layer, the only one of several possible results.
                (Some(payload), Some(mut results)) => {
                    results.emit(Outcome::Payload(payload)).await;
                    Outcome::Nothing
                }
                (Some(payload), None) if !has_many => Outcome::Payload(payload),
                _ => Outcome::Nothing,
            },
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

/// Returns the function that a message calls, as `server.function`.
fn called(message: &Message, info: &FunctionInfo) -> ByteString {
    let server = message.step().map_or("", |step| step.server);
    format!("{server}.{}", info.name).into()
}
