//! Pushes tasks to legacy workers, and redelivers those without a result within `ack_wait`.

use std::time::Duration;

use bytes::Bytes;

use super::LegacyWorkers;
use crate::clock;
use crate::component_state::{ComponentState, OverdueTasks};
use crate::failure::CallFailure;
use crate::fair_queue::Flow;
use crate::link::dispatch::FailedTask;
use crate::message::{Batch, Message};
use crate::parts::workers::backlog::{TaskBacklog, next_task};
use crate::socket::{SocketClosed, TrySendError};

impl LegacyWorkers<'_> {
    /// Pushes as many tasks as the socket has capacity for. Returns whether all were pushed.
    pub(in crate::parts::workers) fn try_push_all(
        &self,
        tasks: &mut TaskBacklog,
    ) -> Result<bool, SocketClosed> {
        while !tasks.is_empty() {
            if !self.try_push(tasks)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pushes the first task, unless it was answered since it was overdue. Returns whether the socket had capacity.
    pub(in crate::parts::workers) fn try_push(
        &self,
        tasks: &mut TaskBacklog,
    ) -> Result<bool, SocketClosed> {
        let Some((flow, task)) = next_task(tasks, self.counters) else {
            return Ok(false);
        };
        let Some(numbered) = self.numbered(task.clone()) else {
            return Ok(true);
        };
        let pushed = self.record(&numbered);
        match self.socket.try_send(numbered) {
            Ok(()) => {
                pushed.keep();
                Ok(true)
            }
            Err(TrySendError::Full(_)) => {
                tasks.push_front((flow, task.into()));
                Ok(false)
            }
            Err(TrySendError::Closed(_)) => Err(SocketClosed),
        }
    }

    /// Pushes a [numbered](Self::numbered) task once the socket has capacity. Cancel safe: the task is pushed or it is not.
    pub(in crate::parts::workers) async fn push(&self, task: Bytes) -> Result<(), SocketClosed> {
        let recorded = self.record(&task).waiting();
        self.socket.send(task).await?;
        recorded.keep();
        Ok(())
    }

    /// Waits until a result arrives. Cancel safe.
    pub(in crate::parts::workers) async fn results_arrived(&self) {
        self.state.outstanding.results_arrived().await;
    }

    /// Numbers a task if unacknowledged tasks are redelivered. Returns `None` if it was answered since it was overdue.
    pub(in crate::parts::workers) fn numbered(&self, task: Bytes) -> Option<Bytes> {
        match self.state.pushed() {
            Some(mut pushed) => pushed.numbered(task),
            None => Some(task),
        }
    }

    /// Records that a task is pushed, before it is: its result may arrive before the socket's `send` returns.
    fn record(&self, task: &Bytes) -> RecordedPush<'_> {
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
    pub(in crate::parts::workers) async fn overdue(&self) -> OverdueTasks {
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
}

/// Adds the tasks that are redelivered to `tasks`, and returns those that were redelivered too often.
pub(in crate::parts::workers) fn redeliver(
    due: OverdueTasks,
    tasks: &mut TaskBacklog,
) -> impl Iterator<Item = FailedTask> {
    let count = due.redeliver.len();
    if count > 0 {
        tracing::warn!(
            tasks = count,
            "redelivering tasks that have no result within `ack_wait`"
        );
    }
    let redelivered = due.redeliver.into_iter();
    tasks.extend(redelivered.map(|task| (Flow::new(0), Batch::from(task))));
    due.failed.into_iter().map(|frame| FailedTask {
        frame,
        failure: CallFailure::unavailable("no worker returned a result in time".into()),
    })
}

/// A task that counts as pushed. If it is dropped without [`keep`](Self::keep), the task was not pushed.
#[derive(Debug)]
struct RecordedPush<'a> {
    state: &'a ComponentState,
    /// The number of the task; 0 if unacknowledged tasks are not redelivered.
    number: u64,
    /// Whether the task waits for capacity of the socket.
    is_waiting: bool,
    is_pushed: bool,
}

impl RecordedPush<'_> {
    /// The task is with no worker until it is sent.
    fn waiting(mut self) -> Self {
        self.state.outstanding.set_unsent(true);
        self.is_waiting = true;
        self
    }

    fn keep(mut self) {
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
