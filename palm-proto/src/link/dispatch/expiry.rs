//! Timeouts of dispatch: deadlines of waiting tasks, calls of unknown functions, and the prefetching of stalled workers.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::eligibility::{self, UNKNOWN_FUNCTION};
use super::pool::{TaskExpiry, expired, usage};
use super::ready::WorkerState;
use super::task::DispatchedTask;
use super::{Dispatch, FailedTask};
use crate::failure::CallFailure;
use crate::function::nearest;
use crate::message::Deadline;

/// Time without a finished task after which a worker receives no tasks to prefetch.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for which a call waits if no worker has ever registered its function.
pub const UNKNOWN_FUNCTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of unknown function names whose start of waiting is remembered.
pub(super) const MAX_UNKNOWN_NAMES: usize = 1000;

impl Dispatch {
    /// Fails waiting tasks whose deadline has passed and calls of unknown functions, and detects stalled workers.
    ///
    /// The owner calls it in regular intervals. `today` is the same time as `now`, on the wall clock.
    pub fn expire(&mut self, now: Instant, today: SystemTime, failed: &mut Vec<FailedTask>) {
        let is_stalled = |worker: &WorkerState| {
            worker.load > 0 && now.saturating_duration_since(worker.progress) >= STALL_TIMEOUT
        };
        let changed = self.workers.iter();
        let changed = changed.filter(|(_, worker)| worker.is_stalled != is_stalled(worker));
        for key in changed.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.change(key, |worker| worker.is_stalled = !worker.is_stalled);
        }
        let today = Deadline::at(today);
        let mut pools = std::mem::take(&mut self.pools);
        for (index, pool) in pools.iter_mut().enumerate() {
            let is_unassignable = index == 0;
            let mut ended = 0;
            let (tasks, total) = (&mut self.tasks, &mut self.untried);
            let mut late = Vec::new();
            pool.untried.retain(|_, untried, own| {
                if !untried.expiry.has_passed(today, untried.batch.frames()) {
                    return true;
                }
                let (passed, rest) = expired(&untried.batch, today);
                ended += passed.len();
                total.messages -= passed.len();
                total.bytes -= passed.iter().map(Bytes::len).sum::<usize>();
                late.extend(passed);
                let Some(rest) = rest else {
                    return false;
                };
                *own = usage(&rest);
                untried.batch = rest;
                untried.expiry = TaskExpiry::Unread;
                true
            });
            for queue in pool.redelivered() {
                queue.retain(|id| {
                    let Some(task) = tasks.get_mut(id) else {
                        return false;
                    };
                    let frame = std::iter::once(task.frame.clone());
                    if !task.expiry.has_passed(today, frame) {
                        return true;
                    }
                    late.extend(tasks.remove(id).map(|task| task.frame));
                    ended += 1;
                    false
                });
            }
            pool.waiting -= ended;
            for frame in late {
                let failure = if !is_unassignable {
                    CallFailure::late()
                } else if self.functions.has_workers() {
                    let name = eligibility::name(&frame).unwrap_or_default();
                    CallFailure::unavailable(
                        format!("no worker that has `{name}` is connected").into(),
                    )
                } else {
                    CallFailure::unavailable("no worker is connected".into())
                };
                failed.push(FailedTask { frame, failure });
            }
        }
        self.pools = pools;
        self.expire_unknown(now, failed);
    }

    /// Fails the calls of functions that no worker has registered within [`UNKNOWN_FUNCTION_TIMEOUT`].
    pub(super) fn expire_unknown(&mut self, now: Instant, failed: &mut Vec<FailedTask>) {
        if self.pools[0].waiting == 0 || self.has_legacy || !self.functions.has_workers() {
            self.unknown.clear();
            return;
        }
        let (unknown, tasks, total) = (&mut self.unknown, &mut self.tasks, &mut self.untried);
        let mut is_due = |frame: &Bytes| {
            let name = eligibility::name(frame).unwrap_or_default();
            if let Some(since) = unknown.get(name) {
                return now.saturating_duration_since(*since) >= UNKNOWN_FUNCTION_TIMEOUT;
            }
            if unknown.len() >= MAX_UNKNOWN_NAMES {
                unknown.clear();
            }
            unknown.insert(name.into(), now);
            false
        };
        let pool = &mut self.pools[0];
        let mut frames = Vec::new();
        pool.untried.retain(|_, untried, _| {
            if untried.function != UNKNOWN_FUNCTION || !is_due(&untried.batch.first()) {
                return true;
            }
            total.messages -= untried.batch.len();
            total.bytes -= untried.batch.bytes();
            frames.extend(untried.batch.frames());
            false
        });
        for queue in pool.redelivered() {
            queue.retain(|id| {
                let is_unknown = |task: &mut DispatchedTask| {
                    task.function == UNKNOWN_FUNCTION && is_due(&task.frame)
                };
                if !tasks.get_mut(id).is_some_and(is_unknown) {
                    return true;
                }
                frames.extend(tasks.remove(id).map(|task| task.frame));
                false
            });
        }
        pool.waiting -= frames.len();
        for frame in frames {
            let name = eligibility::name(&frame).unwrap_or_default();
            let hint = nearest(name, &self.functions.names());
            let failure = CallFailure::unknown(format!("no worker has `{name}`; {hint}").into());
            failed.push(FailedTask { frame, failure });
        }
    }
}
