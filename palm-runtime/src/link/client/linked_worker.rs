//! What the link of a worker does for its component besides tasks: it carries reports and the requests of operators, and
//! its credit follows the settings of the worker.

use std::fmt::Debug;

use bytes::Bytes;

use super::{ClientState, LinkClient};
use crate::call_slots::SlotCounts;
use crate::clock;
use crate::message::proto::LinkRequest;
use crate::report::WorkerState;

/// The worker whose link it is, as its master sees it. Methods are called with the state of the link locked, so they must
/// not wait or call the link.
pub(crate) trait LinkedWorker: Debug + Send + Sync {
    /// Returns what the worker reports, with its recent calls if `calls`; `None` until it has started.
    fn report(&self, calls: bool) -> Option<WorkerState>;

    /// Handles a request of an operator, and returns the reply: an empty one if the verb is unknown, and `None` until the
    /// worker has started, so that the master repeats the request.
    fn handle(&self, verb: &str, payload: &Bytes) -> Option<Bytes>;
}

impl LinkClient {
    /// Sets the worker whose link this is. Only the first call has an effect.
    pub(crate) fn set_worker(&self, worker: impl LinkedWorker + 'static) {
        let _ = self.worker.set(Box::new(worker));
    }

    /// Changes how many tasks this worker runs and prefetches, and reports it to the master.
    ///
    /// Credit is never revoked, so a smaller number takes effect as tasks end.
    pub(crate) fn resize(&self, slots: SlotCounts) {
        let mut state = self.state();
        let pace = &mut state.pace;
        pace.concurrency = (slots.concurrency() as u64).max(1);
        pace.lent = slots.lent;
        if let Some(prefetch) = slots.prefetch {
            pace.prefetch = prefetch;
        }
        state.session.set_lent_slots(slots.lent);
        let concurrency = state.concurrency();
        if state.session.concurrency() != concurrency {
            state.session.set_concurrency(concurrency);
        }
        if !state.is_draining {
            let window = state.pace.window();
            state.session.set_window(window);
        }
        state.flush(clock::now());
    }

    /// Sends the report of this worker with the next header, if it has one, with its recent calls if `calls`.
    pub(super) fn send_report(&self, state: &mut ClientState, calls: bool) {
        let report = self.worker.get().and_then(|worker| worker.report(calls));
        let Some(WorkerState {
            mut worker,
            functions,
            ..
        }) = report
        else {
            return;
        };
        worker.concurrency = state.concurrency();
        worker.prefetch = Some(state.pace.prefetch());
        worker.prefetched = state.pace.tasks().saturating_sub(worker.running);
        worker.results = state.session.unacknowledged().0 as u64;
        let mut report = WorkerState::new(worker, functions);
        report.has_calls = calls;
        state.session.send_report(report.encode());
    }

    /// Handles a request of an operator, which the master has passed on.
    pub(super) fn handle_request(&self, state: &mut ClientState, request: &LinkRequest) {
        let worker = self.worker.get();
        let reply = worker.and_then(|worker| worker.handle(&request.verb, &request.payload));
        if let Some(reply) = reply {
            state.session.reply(request.number, reply);
        }
    }
}

impl ClientState {
    /// Returns how many tasks this worker runs at once.
    pub(super) fn concurrency(&self) -> u32 {
        u32::try_from(self.pace.concurrency).unwrap_or(u32::MAX)
    }
}
