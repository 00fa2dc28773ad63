//! Batches of tasks at one worker, which cost about as much as one task.

use smallvec::SmallVec;

use super::WorkerKey;
use super::eligibility::FunctionId;
use crate::message::Batch;

/// A batch of tasks with consecutive ids at one worker, each of which gets one result.
#[derive(Debug)]
pub(super) struct AssignedBatch {
    pub(super) tasks: Batch,
    pub(super) function: FunctionId,
    pub(super) key: WorkerKey,
    pub(super) sequence: u64,
    /// One bit for each task: whether it is done.
    pub(super) done: SmallVec<[u64; 4]>,
    /// Number of tasks that are not done.
    pub(super) left: usize,
}

impl AssignedBatch {
    pub(super) fn new(tasks: Batch, function: FunctionId, key: WorkerKey, sequence: u64) -> Self {
        Self {
            done: SmallVec::from_elem(0, tasks.len().div_ceil(64)),
            left: tasks.len(),
            tasks,
            function,
            key,
            sequence,
        }
    }

    pub(super) fn is_done(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    pub(super) fn finish(&mut self, index: usize) {
        self.done[index / 64] |= 1 << (index % 64);
        self.left -= 1;
    }
}
