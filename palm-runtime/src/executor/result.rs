//! [`ResultSender`] turns the results of calls into messages and sends them downstream.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::clock;
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::failure::{CallFailure, FailureKind};
use crate::fair_queue::Flow;
use crate::log_limit::UnknownLog;
use crate::message::{Message, Share};
use crate::method::Outcome;
use crate::metrics::{FunctionCounters, PartCounters};
use crate::part::Outlet;

/// Sends results downstream.
#[derive(Debug)]
pub(super) struct ResultSender {
    /// Limits the log of calls to unknown functions.
    pub(super) unknown: Mutex<UnknownLog>,
    pub(super) context: Arc<ComponentContext>,
    pub(super) state: Arc<ComponentState>,
    pub(super) counters: Arc<PartCounters>,
    /// In the order of [`Methods::functions`](super::callable::Methods::functions), followed by `echo`.
    pub(super) functions: Vec<Arc<FunctionCounters>>,
    pub(super) outlet: Outlet,
}

impl ResultSender {
    /// Logs a failure. Repeated calls of an unknown function are summarized.
    fn log_failure(&self, message: &Message, failure: &CallFailure) {
        if failure.kind() != FailureKind::UnknownFunction {
            log_failure(message, failure);
            return;
        }
        let function = message.function();
        let mut unknown = self.unknown.lock();
        let suppressed = unknown.record(clock::now(), function);
        drop(unknown);
        match suppressed {
            None => {}
            Some(0) => log_failure(message, failure),
            Some(calls) => {
                log_failure(message, failure);
                tracing::error!(
                    function,
                    calls,
                    "further calls of unknown function `{function}` failed"
                );
            }
        }
    }

    pub(super) async fn send(&self, result: CallResult, flow: Flow) {
        if let Some(message) = self.message(result) {
            self.outlet.send_in(message, flow, clock::now()).await;
        }
    }

    /// Returns the message to send downstream, if there is one.
    pub(super) fn message(&self, result: CallResult) -> Option<Message> {
        let CallResult {
            mut message,
            outcome,
            feedback,
            completion,
            is_last,
        } = result;
        if is_last {
            message.set_last_result();
        }
        match outcome {
            Outcome::Payload(payload) => message.set_payload(payload),
            Outcome::Nothing => {
                if !completion.is_requested() {
                    if is_last {
                        message.finish_task();
                    }
                    return None;
                }
                let (results, rest) = completion.rest();
                if rest.is_some() {
                    message.set_share(rest);
                }
                message.end(results);
                return Some(message.with_payload(Bytes::new()));
            }
            Outcome::Failed(failure) => {
                self.counters.count_error();
                if failure.kind() == FailureKind::DeadlineExceeded {
                    self.counters.count_late();
                }
                self.log_failure(&message, &failure);
                message = message.failed(&self.context.name, &failure);
                let (results, rest) = completion.rest();
                if results > 0 && rest.is_some() {
                    message.set_share(rest);
                }
                if completion.end {
                    // The error is the last result.
                    message.end(results + 1);
                }
            }
        }
        if let Some(feedback) = feedback {
            let _ = feedback.send(message.encode());
        }
        Some(message)
    }
}

pub(crate) fn log_failure(message: &Message, failure: &CallFailure) {
    let (function, stage) = (message.function(), message.stage());
    let (call_id, trace) = (message.client(), message.trace());
    let call_id = (!call_id.is_empty()).then_some(call_id);
    let trace_id = trace
        .as_ref()
        .and_then(|trace| trace.parent.split('-').nth(1));
    let cause = failure.chain();
    if failure.kind() == FailureKind::Cancelled {
        // No caller waits for it, and there may be many of them.
        tracing::debug!(
            function,
            stage,
            call_id,
            trace_id,
            "`{function}` {failure}: {cause}"
        );
    } else {
        tracing::error!(
            function,
            stage,
            call_id,
            trace_id,
            "`{function}` {failure}: {cause}"
        );
    }
}

/// One result of a call, before it is sent downstream.
#[derive(Debug)]
pub(super) struct CallResult {
    pub(super) message: Message,
    pub(super) outcome: Outcome,
    pub(super) feedback: Option<oneshot::Sender<Bytes>>,
    /// As in [`StartedCall`](super::started_call::StartedCall).
    pub(super) completion: CompletionRequest,
    /// Whether the call has no further result.
    pub(super) is_last: bool,
}

impl CallResult {
    /// Creates one of several results.
    pub(super) fn partial(mut message: Message, share: Option<Share>, outcome: Outcome) -> Self {
        if share.is_some() {
            message.set_share(share);
        }
        message.set_result();
        Self {
            message,
            outcome,
            feedback: None,
            completion: CompletionRequest::default(),
            is_last: false,
        }
    }
}

/// The completion report of a call that its caller requests.
#[derive(Debug, Clone, Default)]
pub(super) struct CompletionRequest {
    /// Whether the caller requests the end of the results.
    pub(super) end: bool,
    /// The completion weight of the call, which its results share.
    pub(super) share: Option<Share>,
    /// Results that were sent, if there may be several.
    pub(super) emitted: Option<Arc<Mutex<EmittedResults>>>,
}

impl CompletionRequest {
    pub(super) fn is_requested(&self) -> bool {
        self.end || self.share.is_some()
    }

    fn emitted(&self) -> Option<MutexGuard<'_, EmittedResults>> {
        Some(self.emitted.as_ref()?.lock())
    }

    /// Records one of several results. Returns its completion weight.
    pub(super) fn record_result(&self) -> Option<Share> {
        let mut emitted = self.emitted()?;
        let piece = self.share.map(|share| share.piece(emitted.results));
        emitted.results += 1;
        emitted.sum = emitted.sum.wrapping_add(piece.map_or(0, Share::value));
        piece
    }

    /// Returns the number of results that were sent, and the remaining completion weight.
    fn rest(&self) -> (u64, Option<Share>) {
        match self.emitted() {
            Some(emitted) => (
                emitted.results,
                self.share.map(|share| share.rest(emitted.sum)),
            ),
            None => (0, self.share),
        }
    }
}

/// Counts the results of a call that were sent.
#[derive(Debug, Default)]
pub(super) struct EmittedResults {
    results: u64,
    /// The sum of their completion weights.
    sum: u64,
}
