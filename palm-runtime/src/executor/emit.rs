//! [`ResultEmitter`] sends the results of a call that has several.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::result::{CallResult, CompletionRequest, ResultSender};
use crate::failure::CallFailure;
use crate::fair_queue::Flow;
use crate::message::{Message, Share};
use crate::method::{Emitted, Outcome};

/// Limit on the results that wait for the end of a call.
const MAX_COLLECTED_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that each waiting result counts in addition to its payload.
const RESULT_OVERHEAD_BYTES: usize = 64;

/// Sends the results of a call that has several.
#[derive(Debug)]
pub(crate) struct ResultEmitter {
    pub(super) header: Message,
    pub(super) flow: Flow,
    pub(super) sender: Arc<ResultSender>,
    pub(super) before: Option<CancellationToken>,
    pub(super) completion: CompletionRequest,
    pub(super) collect: Option<mpsc::UnboundedSender<(Option<Share>, Outcome)>>,
    /// Bytes of results that wait for the end of the call.
    pub(super) collected: usize,
}

impl ResultEmitter {
    pub(crate) async fn emit(&mut self, result: Outcome) -> Emitted {
        let share = match &result {
            Outcome::Payload(_) | Outcome::Failed(_) => self.completion.record_result(),
            Outcome::Nothing => None,
        };
        if let Some(collect) = &self.collect {
            if let Outcome::Payload(payload) = &result {
                self.collected += payload.len() + RESULT_OVERHEAD_BYTES;
            }
            if self.collected > MAX_COLLECTED_BYTES {
                let error = "more than 64 MiB of results wait for the end of the call, since the component has methods that take `&mut self`";
                let failed = Outcome::Failed(CallFailure::failed(error.into()));
                let _ = collect.send((share, failed));
                return Emitted::Unwanted;
            }
            return match collect.send((share, result)) {
                Ok(()) => Emitted::Wanted,
                Err(_) => Emitted::Unwanted,
            };
        }
        if let Some(before) = self.before.take() {
            before.cancelled().await;
        }
        let result = CallResult::partial(self.header.clone(), share, result);
        self.sender.send(result, self.flow).await;
        if self.sender.outlet.is_closed() {
            Emitted::Unwanted
        } else {
            Emitted::Wanted
        }
    }
}
