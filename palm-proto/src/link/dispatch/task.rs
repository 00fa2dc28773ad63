//! A task that was assigned: the workers that have it, and those that were lost with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::WorkerKey;
use super::eligibility::FunctionId;
use super::pool::TaskExpiry;

/// How a worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerLoss {
    /// Its connection was closed, as when its process dies.
    Disconnected,
    /// It showed no sign of life for this long.
    Silent(Duration),
    /// It closed its session.
    Left,
}

impl std::fmt::Display for WorkerLoss {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disconnected => formatter.write_str("connection closed"),
            Self::Silent(time) => write!(formatter, "no sign of life for {time:?}"),
            Self::Left => formatter.write_str("left"),
        }
    }
}

/// The loss of a worker that had begun a task.
#[derive(Debug, Clone)]
pub(super) struct LostDelivery {
    pub(super) worker: Arc<str>,
    pub(super) loss: WorkerLoss,
}

impl std::fmt::Display for LostDelivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` ({})", self.worker, self.loss)
    }
}

/// A task that was assigned at least once, alone or as part of a batch that was split.
#[derive(Debug)]
pub(super) struct DispatchedTask {
    pub(super) frame: Bytes,
    pub(super) function: FunctionId,
    pub(super) expiry: TaskExpiry,
    /// Number of results that were passed on to the caller.
    pub(super) passed_on: u64,
    /// The workers that the task was assigned to.
    pub(super) holders: SmallVec<[TaskHolder; 1]>,
    /// The workers that were lost after they had begun the task.
    pub(super) failed_deliveries: Vec<LostDelivery>,
    /// Whether a worker was lost that had the task, begun or prefetched.
    pub(super) was_lost: bool,
    /// Whether the task waits for a worker again.
    pub(super) is_waiting: bool,
}

/// A worker that a task was assigned to.
#[derive(Debug)]
pub(super) struct TaskHolder {
    pub(super) key: WorkerKey,
    /// The position of the assignment among all assignments.
    pub(super) sequence: u64,
    /// Number of results of the task that this worker has sent.
    pub(super) results: u64,
    /// Number of deliveries with which the worker was lost. It may still send their results, or return them.
    pub(super) lost_deliveries: u32,
    /// Whether the worker has the task, and was not lost since.
    pub(super) is_assigned: bool,
}

impl TaskHolder {
    /// Returns how often the task was delivered to the worker, without returned deliveries.
    pub(super) fn deliveries(&self) -> u32 {
        self.lost_deliveries + u32::from(self.is_assigned)
    }

    /// Ends the delivery, since the worker was lost. Returns whether the worker had the task.
    pub(super) fn lose(&mut self) -> bool {
        let was_assigned = std::mem::take(&mut self.is_assigned);
        self.lost_deliveries += u32::from(was_assigned);
        was_assigned
    }
}

impl DispatchedTask {
    pub(super) fn new(frame: Bytes, function: FunctionId) -> Self {
        Self {
            frame,
            function,
            expiry: TaskExpiry::Unread,
            passed_on: 0,
            holders: SmallVec::new(),
            failed_deliveries: Vec::new(),
            was_lost: false,
            is_waiting: false,
        }
    }

    /// Returns whether a last result of this worker is the only result of the task, and no other worker has the task.
    pub(super) fn is_only_result(&self, key: WorkerKey) -> bool {
        let is_only_holder = matches!(&self.holders[..], [holder] if holder.key == key);
        is_only_holder && self.passed_on == 0 && !self.was_lost
    }

    pub(super) fn assign(&mut self, key: WorkerKey, sequence: u64) {
        self.is_waiting = false;
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.key == key) {
            // The worker had been considered lost, and has returned.
            holder.sequence = sequence;
            holder.is_assigned = true;
            return;
        }
        self.holders.push(TaskHolder {
            key,
            sequence,
            results: 0,
            lost_deliveries: 0,
            is_assigned: true,
        });
    }

    /// Takes back one delivery to this worker: the current one, or else one with which it was lost.
    ///
    /// Returns whether it was the current one, and `None` if there is neither.
    pub(super) fn take_back(&mut self, key: WorkerKey) -> Option<bool> {
        let index = self.holders.iter().position(|holder| holder.key == key)?;
        let holder = &mut self.holders[index];
        let was_assigned = std::mem::take(&mut holder.is_assigned);
        holder.lost_deliveries -= u32::from(!was_assigned);
        if holder.lost_deliveries == 0 {
            self.holders.remove(index);
        }
        Some(was_assigned)
    }
}
