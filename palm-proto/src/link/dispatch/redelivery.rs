//! Redelivery of tasks that were returned, or whose worker was lost.

use super::task::{LostDelivery, WorkerLoss};
use super::{Dispatch, FailedTask, TaskId, WorkerKey};
use crate::failure::CallFailure;

impl Dispatch {
    /// Queues a task for another worker, ahead of the untried tasks.
    pub(super) fn redeliver(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.is_waiting = true;
        let failed_deliveries = task.failed_deliveries.len();
        let is_suspect = failed_deliveries > 0 && failed_deliveries + 1 >= self.max_deliver;
        let (was_lost, function) = (task.was_lost, task.function);
        let pool = self.pool(function);
        pool.waiting += 1;
        let queue = match (is_suspect, was_lost) {
            (true, _) => &mut pool.suspects,
            (false, true) => &mut pool.lost,
            (false, false) => &mut pool.returned,
        };
        queue.push_back(id);
    }

    /// Redelivers a task that a worker returns unfinished, without counting a failed delivery.
    ///
    /// A worker that was lost with the task before may still send the result of that delivery.
    ///
    /// Returns whether the worker had the task.
    pub fn return_task(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Some(was_assigned) = self.task(id).and_then(|task| task.take_back(key)) else {
            return false;
        };
        // Otherwise the task was redelivered when the worker was lost.
        if was_assigned {
            self.end_exclusive(key, id);
            self.change(key, |worker| worker.remove_load(1));
            self.redeliver(id);
        }
        true
    }

    /// Redelivers the tasks of a lost worker. Tasks that may not be redelivered are added to `failed`.
    ///
    /// A result that the worker still sends counts if it is the first one.
    pub fn lose_worker(&mut self, key: WorkerKey, loss: WorkerLoss, failed: &mut Vec<FailedTask>) {
        let Some(worker) = self.workers.get(&key).filter(|worker| worker.is_connected) else {
            return;
        };
        let (name, class) = (worker.name.clone(), worker.class);
        let (begun, exclusive) = (worker.begun(), worker.exclusive_task);
        self.change(key, |worker| {
            worker.is_connected = false;
            worker.lent_slots = 0;
            worker.former_concurrency = 0;
            worker.load = 0;
            worker.exclusive_task = None;
            worker.is_reserved = false;
            worker.is_stalled = false;
        });
        if self.functions.disconnect(class) {
            self.rebuild_pools();
            self.limit_unassignable(failed);
        }
        let batch = self.batches.iter();
        let batch = batch.filter(|(_, batch)| batch.key == key);
        for first in batch.map(|(&first, _)| first).collect::<Vec<_>>() {
            self.split_batch(first);
        }
        // Losses are rare, so tasks are not indexed by worker.
        let mut assigned = Vec::new();
        for (&id, task) in &mut self.tasks {
            let mut holders = task.holders.iter_mut();
            if let Some(holder) = holders.find(|holder| holder.key == key)
                && holder.lose()
            {
                assigned.push((holder.sequence, id));
            }
        }
        assigned.sort_unstable();
        let begun = match begun {
            0 => assigned.len(),
            begun => begun,
        };
        for (index, (_, id)) in assigned.into_iter().enumerate() {
            let is_begun = exclusive.map_or(index < begun, |task| task == id);
            let task = self.tasks.get_mut(&id).expect("the task was found above");
            task.was_lost = true;
            if is_begun {
                let worker = name.clone();
                task.failed_deliveries.push(LostDelivery { worker, loss });
            }
            // A later task may have been begun too, if results were lost with the worker. A worker that left
            // has delivered its results.
            let may_have_run = is_begun || loss != WorkerLoss::Left;
            let failure = if may_have_run && self.functions.is_at_most_once(class, task.function) {
                format!("worker `{name}` was lost ({loss}), and the task must not be run twice")
            } else if task.failed_deliveries.len() >= self.max_deliver {
                let failed_deliveries = task.failed_deliveries.iter().map(LostDelivery::to_string);
                let failed_deliveries = failed_deliveries.collect::<Vec<_>>().join(", ");
                let attempts = task.failed_deliveries.len();
                format!("{attempts} workers were lost while they ran it: {failed_deliveries}")
            } else {
                self.redeliver(id);
                continue;
            };
            let task = self.tasks.remove(&id).expect("the task was found above");
            failed.push(FailedTask {
                frame: task.frame,
                failure: CallFailure::unavailable(failure.into()),
            });
        }
    }

    /// Removes a worker that has left, or whose session has expired.
    pub fn remove_worker(&mut self, key: WorkerKey, failed: &mut Vec<FailedTask>) {
        self.lose_worker(key, WorkerLoss::Left, failed);
        if let Some(worker) = self.workers.remove(&key) {
            self.functions.remove(worker.class);
        }
    }
}
