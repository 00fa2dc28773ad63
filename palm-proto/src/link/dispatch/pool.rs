//! Pools of waiting tasks: those that the same workers can run share a pool, fairly by client.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::eligibility::{Eligibility, FunctionId};
use super::{TaskId, WorkerKey};
use crate::fair_queue::{FairQueue, Usage};
use crate::message::{Batch, BatchSizes, Deadline, Message};

/// The deadline of a waiting task. It is decoded from the message once, and only if the task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskExpiry {
    Unread,
    Never,
    At(Deadline),
}

impl TaskExpiry {
    pub(super) fn read(frame: Bytes) -> Self {
        let deadline = Message::decode(frame).unwrap_or_default().deadline();
        deadline.map_or(Self::Never, Self::At)
    }

    /// Returns whether the earliest deadline of the messages has passed.
    pub(super) fn has_passed(
        &mut self,
        now: Deadline,
        frames: impl Iterator<Item = Bytes>,
    ) -> bool {
        if *self == Self::Unread {
            let deadlines = frames.filter_map(|frame| match Self::read(frame) {
                Self::At(deadline) => Some(deadline),
                _ => None,
            });
            *self = deadlines.min().map_or(Self::Never, Self::At);
        }
        matches!(*self, Self::At(deadline) if deadline <= now)
    }
}

/// A batch of tasks that were never assigned.
#[derive(Debug)]
pub(super) struct UntriedTasks {
    pub(super) batch: Batch,
    pub(super) function: FunctionId,
    pub(super) expiry: TaskExpiry,
    pub(super) submitted: Instant,
}

pub(super) fn usage(batch: &Batch) -> Usage {
    Usage {
        messages: batch.len(),
        bytes: batch.bytes(),
    }
}

/// Waiting tasks that the same workers can run.
#[derive(Debug, Default)]
pub(super) struct TaskPool {
    pub(super) eligibility: Eligibility,
    /// Number of tasks that wait in the pool.
    pub(super) waiting: usize,
    /// Tasks with one delivery left, which may be poison messages and run exclusively.
    pub(super) suspects: VecDeque<TaskId>,
    /// Other tasks of lost workers.
    pub(super) lost: VecDeque<TaskId>,
    /// Tasks that workers have returned.
    pub(super) returned: VecDeque<TaskId>,
    pub(super) untried: FairQueue<UntriedTasks>,
    /// The worker that is reserved for the next suspect, and since when.
    pub(super) reserved: Option<(WorkerKey, Instant)>,
}

impl TaskPool {
    pub(super) fn shares_workers(&self, other: &Eligibility) -> bool {
        self.eligibility.iter().any(|class| other.contains(class))
    }

    /// Returns the queues of redelivered tasks.
    pub(super) fn redelivered(&mut self) -> [&mut VecDeque<TaskId>; 3] {
        [&mut self.suspects, &mut self.lost, &mut self.returned]
    }
}

/// Splits a batch into the messages whose deadline has passed, and the others.
pub(super) fn expired(batch: &Batch, now: Deadline) -> (Vec<Bytes>, Option<Batch>) {
    let has_passed =
        |frame: &Bytes| TaskExpiry::Unread.has_passed(now, std::iter::once(frame.clone()));
    let (passed, rest): (Vec<_>, Vec<_>) = batch.frames().partition(has_passed);
    let sizes = rest.iter().map(|frame| frame.len() as u32).collect();
    (
        passed,
        Batch::from_sizes(rest.concat().into(), BatchSizes::new(sizes)),
    )
}
