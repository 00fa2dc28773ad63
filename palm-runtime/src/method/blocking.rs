//! Methods that block.

use crate::failure::CallFailure;
use crate::outcome::Outcome;
use crate::trace::CurrentCall;

/// Runs `function`, which may block, on a thread of tokio's blocking pool.
#[doc(hidden)]
pub async fn blocking(function: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let (span, call) = (tracing::Span::current(), CurrentCall::current());
    let run = move || CurrentCall::enter(call.as_ref(), || span.in_scope(function));
    match tokio::task::spawn_blocking(run).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(match error.try_into_panic() {
            Ok(panic) => CallFailure::panicked(&*panic),
            Err(_) => CallFailure::stopped(),
        }),
    }
}
