//! A call that has started, and the delivery of its results in turn.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Span;

use super::callable::Call;
use super::result::{CallResult, CompletionRequest, ResultSender};
use crate::clock;
use crate::failure::CallFailure;
use crate::fair_queue::Flow;
use crate::message::{Deadline, Message, Share};
use crate::method::Outcome;
use crate::report::{RecentCall, Work};
use crate::trace::{self, SpanEnd, StepSpan};

/// A call that has started, and what is needed to deliver its result.
pub(super) struct StartedCall {
    pub(super) index: usize,
    pub(super) header: Message,
    pub(super) flow: Flow,
    pub(super) feedback: Option<oneshot::Sender<Bytes>>,
    /// When the message was received.
    pub(super) received_at: Instant,
    pub(super) started_at: Instant,
    /// When the caller stops waiting.
    pub(super) deadline: Option<Deadline>,
    /// The completion report that the caller requests.
    pub(super) completion: CompletionRequest,
    /// Whether the call counts as one of its function, which exists then.
    pub(super) is_counted: bool,
    /// The position in the order of delivery.
    pub(super) turn: DeliveryTurn,
    /// Results that wait for the end of the call.
    pub(super) collected: Option<mpsc::UnboundedReceiver<(Option<Share>, Outcome)>>,
    /// Signals the end of the call to its context, if the method or a layer takes one, when this is dropped.
    pub(super) end: Option<DropGuard>,
    /// The span of the call, if a subscriber listens.
    pub(super) span: Option<Box<StepSpan>>,
    /// Whether the message is part of a trace that its caller records.
    pub(super) is_sampled: bool,
    /// Whether the outcome was recorded.
    pub(super) is_over: bool,
}

impl StartedCall {
    /// Counts the call as one of its function, which exists.
    pub(super) fn count(&mut self, sender: &ResultSender, waited: Duration) {
        sender.functions[self.index].begin(waited);
        self.is_counted = true;
    }

    /// Returns the span of the call, in which its method is polled.
    pub(super) fn span(&self) -> Span {
        let span = self.span.as_deref().map(StepSpan::span);
        span.cloned().unwrap_or_else(Span::none)
    }

    /// Records how the call ended: in the counters of its function, its span, and the recent calls. Only the first call
    /// has an effect.
    pub(super) fn record_end(&mut self, sender: &ResultSender, outcome: &Outcome, now: Instant) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let failure = match outcome {
            Outcome::Failed(failure) => Some(failure),
            _ => None,
        };
        let worked = now.saturating_duration_since(self.started_at);
        if self.is_counted {
            sender.functions[self.index].end(worked, failure.is_some());
        }
        if let Some(span) = self.span.take() {
            let failure = failure.map(CallFailure::chain);
            trace::finish(span.span(), SpanEnd { worked, failure });
        }
        let recent = &sender.state.recent;
        let time = now.saturating_duration_since(self.received_at);
        if failure.is_some() || self.is_sampled || recent.is_slow(time) {
            let message = &self.header;
            let (call, id) = (message.client(), message.cache());
            let function = trace::called(message);
            let mut call = RecentCall::new(Work::Step, call, id, &function, message.stage());
            if let Some(trace) = message.trace() {
                call.trace = trace.id().unwrap_or_default().to_owned();
                call.delivery = trace.delivery;
            }
            call.begun_at = clock::wall().checked_sub(worked).unwrap_or(call.begun_at);
            call.waited = time.saturating_sub(worked);
            call.worked = worked;
            call.failure = failure.map(CallFailure::kind);
            recent.record(call, self.is_sampled);
        }
    }

    /// Sends the results of the call when it is its turn.
    pub(super) async fn deliver(self, sender: &ResultSender, outcome: Outcome) {
        self.turn.wait().await;
        if let Some(mut collected) = self.collected {
            while let Ok((share, outcome)) = collected.try_recv() {
                let result = CallResult::partial(self.header.clone(), share, outcome);
                sender.send(result, self.flow).await;
            }
        }
        let last = CallResult {
            message: self.header,
            outcome,
            feedback: self.feedback,
            completion: self.completion,
            is_last: true,
        };
        sender.send(last, self.flow).await;
    }
}

/// A position in the order of delivery. Dropping it lets the next call deliver.
#[derive(Debug, Default)]
pub(super) struct DeliveryTurn {
    pub(super) before: Option<CancellationToken>,
    pub(super) after: Option<DropGuard>,
}

impl DeliveryTurn {
    async fn wait(&self) {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
    }
}

/// The start of a call, or its immediate outcome.
pub(super) enum NextCall {
    Poll(Call),
    /// The message calls `echo` or cannot be called.
    Done(Outcome),
}

impl NextCall {
    pub(super) fn failed(failure: CallFailure) -> Self {
        Self::Done(Outcome::Failed(failure))
    }
}
