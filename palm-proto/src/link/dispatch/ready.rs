//! The workers of each class that may be assigned a task, least loaded first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::eligibility::ClassId;
use super::{TaskId, WorkerKey};

#[derive(Debug)]
pub(super) struct WorkerState {
    pub(super) name: Arc<str>,
    pub(super) class: ClassId,
    /// Number of tasks that the worker runs at once; 0 if unknown.
    pub(super) concurrency: usize,
    /// The largest number before, if the worker may still run tasks that it began at that time.
    pub(super) former_concurrency: usize,
    /// Number of its tasks whose methods wait for inner calls: the worker runs as many additional tasks.
    pub(super) lent_slots: usize,
    /// Number of tasks that are assigned to the worker.
    pub(super) load: usize,
    /// Number of further tasks that the worker accepts.
    pub(super) credit: u64,
    /// The position of its last assignment among all assignments: the round-robin order of workers with equal load.
    pub(super) last_sequence: u64,
    pub(super) is_connected: bool,
    /// When the worker last finished a task, or received one while it had none.
    pub(super) progress: Instant,
    pub(super) is_stalled: bool,
    /// The suspect that the worker runs. Until it is done, the worker receives no other task.
    pub(super) exclusive_task: Option<TaskId>,
    /// Whether the worker is reserved for a suspect, and receives no other task.
    pub(super) is_reserved: bool,
}

impl WorkerState {
    pub(super) fn can_receive(&self) -> bool {
        self.is_connected && self.credit > 0 && self.exclusive_task.is_none()
    }

    /// Removes tasks that have ended or were returned from the load.
    pub(super) fn remove_load(&mut self, tasks: usize) {
        self.load = self.load.saturating_sub(tasks);
        self.end_former_concurrency();
    }

    /// Forgets the former concurrency if the worker begins all its tasks with the present one.
    pub(super) fn end_former_concurrency(&mut self) {
        if self.load <= self.concurrency {
            self.former_concurrency = 0;
        }
    }

    /// Returns how many tasks the worker runs at once now; 0 if unknown.
    pub(super) fn runs(&self) -> usize {
        match self.concurrency {
            0 => 0,
            concurrency => concurrency + self.lent_slots,
        }
    }

    /// Returns how many of its oldest tasks the worker may have begun; 0 if unknown.
    pub(super) fn begun(&self) -> usize {
        match self.concurrency {
            0 => 0,
            concurrency => concurrency.max(self.former_concurrency) + self.lent_slots,
        }
    }

    /// Returns whether the worker begins a further task at once, or its concurrency is unknown.
    pub(super) fn begins_at_once(&self) -> bool {
        self.concurrency == 0 || self.load < self.runs()
    }

    /// Returns the worker's entry among those that may be assigned a task, or `None`.
    pub(super) fn ready_entry(&self, key: WorkerKey) -> Option<ReadyEntry> {
        let is_ready =
            self.can_receive() && !self.is_reserved && (!self.is_stalled || self.begins_at_once());
        is_ready.then_some((self.load, self.last_sequence, key))
    }
}

/// A worker's load, the position of its last assignment, and its key.
pub(super) type ReadyEntry = (usize, u64, WorkerKey);

/// The workers of a class that may be assigned a task, sorted: least loaded first, round-robin on ties.
///
/// A sorted deque, since a worker that receives a task moves to the end or close to it.
#[derive(Debug, Default)]
pub(super) struct ReadyWorkers {
    pub(super) entries: VecDeque<ReadyEntry>,
    /// Number of workers of the class that run a suspect.
    pub(super) exclusive: usize,
}

impl ReadyWorkers {
    #[inline]
    pub(super) fn first(&self) -> Option<&ReadyEntry> {
        self.entries.front()
    }

    pub(super) fn insert(&mut self, entry: ReadyEntry) {
        let index = self.entries.partition_point(|other| *other < entry);
        self.entries.insert(index, entry);
    }

    pub(super) fn remove(&mut self, entry: &ReadyEntry) {
        if let Ok(index) = self.entries.binary_search(entry) {
            self.entries.remove(index);
        }
    }
}

/// Which ready workers a task may be assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerChoice {
    Any,
    /// Workers that begin the task at once.
    BeginsAtOnce,
    /// Workers without any task.
    Idle,
}
