//! Pushes tasks to legacy workers, and redelivers those without a result within `ack_wait`.

use std::time::Duration;

use bytes::Bytes;

use super::scheduler::{TaskBacklog, TaskScheduler};
use crate::clock;
use crate::component_state::{ComponentState, OverdueTasks};
use crate::failure::CallFailure;
use crate::fair_queue::Flow;
use crate::message::{Batch, Message};
use crate::socket::{SocketClosed, TrySendError};

impl TaskScheduler<'_> {
    /// Pushes as many tasks as the socket has capacity for. Returns whether all were pushed.
    pub(super) fn try_push(&self, tasks: &mut TaskBacklog) -> Result<bool, SocketClosed> {
        while !tasks.is_empty() {
            if !self.try_push_one(tasks)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pushes the first task. Returns whether the socket had capacity.
    pub(super) fn try_push_one(&self, tasks: &mut TaskBacklog) -> Result<bool, SocketClosed> {
        let Some((flow, task)) = self.next(tasks) else {
            return Ok(false);
        };
        let task = self.numbered(task);
        let pushed = self.record_push(&task);
        match self.push.try_send(task) {
            Ok(()) => {
                pushed.keep();
                Ok(true)
            }
            Err(TrySendError::Full(task)) => {
                tasks.push_front((flow, task.into()));
                Ok(false)
            }
            Err(TrySendError::Closed(_)) => Err(SocketClosed),
        }
    }

    /// Numbers a task if unacknowledged tasks are redelivered.
    pub(super) fn numbered(&self, task: Bytes) -> Bytes {
        let Some(mut pushed) = self.state.pushed() else {
            return task;
        };
        match Message::decode(task.clone()) {
            Ok(mut message) if message.task_number() == 0 => {
                message.set_task_number(pushed.number());
                message.into_frame()
            }
            _ => task,
        }
    }

    /// Records that a task is pushed, before it is: its result may arrive before the socket's `send` returns.
    pub(super) fn record_push(&self, task: &Bytes) -> RecordedPush<'_> {
        self.state.outstanding.add();
        let mut number = 0;
        if let Some(mut pushed) = self.state.pushed()
            && let Ok(message) = Message::decode(task.clone())
        {
            number = message.task_number();
            pushed.push(clock::now(), number, task.clone());
        }
        RecordedPush {
            state: self.state,
            number,
            is_waiting: false,
            is_pushed: false,
        }
    }

    /// Waits for tasks without a result within `ack_wait`. Cancel safe.
    pub(super) async fn overdue(&self) -> OverdueTasks {
        /// Interval at which newly pushed tasks are considered.
        const POLL_INTERVAL: Duration = Duration::from_millis(100);
        loop {
            let Some(next) = self.state.pushed().map(|mut pushed| pushed.next_due()) else {
                return std::future::pending().await;
            };
            let look = clock::now() + POLL_INTERVAL;
            let at = next.map_or(look, |at| at.min(look));
            tokio::time::sleep_until(at.into()).await;
            let due = self
                .state
                .pushed()
                .map(|mut pushed| pushed.due(clock::now()));
            if let Some(due) = due
                && due != OverdueTasks::default()
            {
                return due;
            }
        }
    }

    pub(super) async fn redeliver(&self, due: OverdueTasks, tasks: &mut TaskBacklog) {
        let count = due.redeliver.len();
        if count > 0 {
            tracing::warn!(
                tasks = count,
                "redelivering tasks that have no result within `ack_wait`"
            );
        }
        let redelivered = due.redeliver.into_iter();
        tasks.extend(redelivered.map(|task| (Flow::new(0), Batch::from(task))));
        for frame in due.failed {
            self.counters.count_error();
            let failure = "no worker returned a result in time";
            let failure = CallFailure::unavailable(failure.into());
            self.fail(frame, &failure).await;
        }
    }
}

/// A task that counts as pushed. If it is dropped without [`keep`](Self::keep), the task was not pushed.
#[derive(Debug)]
pub(super) struct RecordedPush<'a> {
    state: &'a ComponentState,
    /// The number of the task; 0 if unacknowledged tasks are not redelivered.
    number: u64,
    /// Whether the task waits for capacity of the socket.
    is_waiting: bool,
    is_pushed: bool,
}

impl RecordedPush<'_> {
    /// The task is with no worker until it is sent.
    pub(super) fn waiting(mut self) -> Self {
        self.state.outstanding.set_unsent(true);
        self.is_waiting = true;
        self
    }

    pub(super) fn keep(mut self) {
        self.is_pushed = true;
    }
}

impl Drop for RecordedPush<'_> {
    fn drop(&mut self) {
        if self.is_waiting {
            self.state.outstanding.set_unsent(false);
        }
        if self.is_pushed {
            return;
        }
        self.state.outstanding.retract();
        if let Some(mut pushed) = self.state.pushed() {
            pushed.retract(self.number);
        }
    }
}
