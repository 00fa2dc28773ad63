//! A call that has started, and the delivery of its results in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::callable::Call;
use super::result::{CallResult, CompletionRequest, ResultSender};
use crate::fair_queue::Flow;
use crate::message::{Deadline, Message, Share};
use crate::method::Outcome;
use crate::metrics::FunctionCounters;

/// A call that has started, and what is needed to deliver its result.
pub(super) struct StartedCall {
    pub(super) index: usize,
    pub(super) header: Message,
    pub(super) flow: Flow,
    pub(super) feedback: Option<oneshot::Sender<Bytes>>,
    pub(super) started_at: Instant,
    /// When the caller stops waiting.
    pub(super) deadline: Option<Deadline>,
    /// The completion report that the caller requests.
    pub(super) completion: CompletionRequest,
    /// Counters of the function, if it exists.
    pub(super) counters: Option<Arc<FunctionCounters>>,
    /// The position in the order of delivery.
    pub(super) turn: DeliveryTurn,
    /// Results that wait for the end of the call.
    pub(super) collected: Option<mpsc::UnboundedReceiver<(Option<Share>, Outcome)>>,
    /// Signals the end of the call to its context, if the method or a layer takes one, when this is dropped.
    pub(super) end: Option<DropGuard>,
}

impl StartedCall {
    /// Counts the call as one of a function.
    pub(super) fn count(&mut self, counters: &Arc<FunctionCounters>, waited: Duration) {
        counters.begin(waited);
        self.counters = Some(counters.clone());
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
    Poll(Call, StartedCall),
    /// The message calls `echo` or cannot be called.
    Done(Outcome, StartedCall),
}
