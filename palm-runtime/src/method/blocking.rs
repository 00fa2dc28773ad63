//! Methods that block.

use crate::failure::CallFailure;
use crate::outcome::Outcome;

/// Runs `function`, which may block, on a thread of tokio's blocking pool.
#[doc(hidden)]
pub async fn blocking(function: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(function)).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(match error.try_into_panic() {
            Ok(panic) => CallFailure::panicked(&*panic),
            Err(_) => CallFailure::stopped(),
        }),
    }
}
