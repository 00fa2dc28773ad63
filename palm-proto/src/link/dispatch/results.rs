//! Results of workers: which of them count, and which tasks they end.

use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::task::{DispatchedTask, TaskHolder};
use super::{Dispatch, TaskId, WorkerKey};

impl Dispatch {
    /// Ends several consecutive tasks, for each of which a worker has sent one result, its last.
    ///
    /// Returns how many tasks ended, from the first one on. The caller passes on their results, and calls
    /// [`remove_load`](Self::remove_load) for them. The results of the others need
    /// [`record_result`](Self::record_result) and [`finish`](Self::finish), since another worker or an earlier result
    /// is involved.
    pub fn finish_range(&mut self, key: WorkerKey, first: TaskId, tasks: usize) -> usize {
        let mut counted = 0;
        while counted < tasks {
            let id = first.wrapping_add(counted as u64);
            let left = tasks - counted;
            let ended = match self.finish_in_batch(key, id, left) {
                0 => usize::from(self.finish_single(key, id)),
                ended => ended,
            };
            if ended == 0 {
                break;
            }
            counted += ended;
        }
        counted
    }

    /// Ends up to `most` tasks of one batch, from this one on. Returns how many: 0 if the batch is with another worker,
    /// or one of them has ended.
    pub(super) fn finish_in_batch(&mut self, key: WorkerKey, id: TaskId, most: usize) -> usize {
        let Some((&begin, batch)) = self.batches.range_mut(..=id).next_back() else {
            return 0;
        };
        let index = (id - begin) as usize;
        let end = batch.tasks.len().min(index.saturating_add(most));
        let is_new = |index: usize| !batch.is_done(index);
        if batch.key != key || index >= end || !(index..end).all(is_new) {
            return 0;
        }
        for index in index..end {
            batch.finish(index);
        }
        self.batched_tasks -= end - index;
        if batch.left == 0 {
            self.batches.remove(&begin);
        }
        end - index
    }

    /// Ends a task that was assigned to this worker only and has no earlier result. Returns whether it did.
    pub(super) fn finish_single(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Entry::Occupied(task) = self.tasks.entry(id) else {
            return false;
        };
        let is_only = task.get().is_only_result(key);
        if is_only {
            task.remove();
        }
        is_only
    }

    /// Splits the batch that contains a task, if there is one, into single tasks.
    pub(super) fn split_batch(&mut self, id: TaskId) {
        let Some((&first, batch)) = self.batches.range(..=id).next_back() else {
            return;
        };
        if id - first >= batch.tasks.len() as u64 {
            return;
        }
        let batch = self.batches.remove(&first).expect("the batch was found");
        self.batched_tasks -= batch.left;
        for (index, frame) in batch.tasks.frames().enumerate() {
            if !batch.is_done(index) {
                let mut task = DispatchedTask::new(frame, batch.function);
                task.assign(batch.key, batch.sequence);
                self.tasks.insert(first + index as u64, task);
            }
        }
    }

    /// Returns a task. Splits its batch if it is part of one.
    pub(super) fn task(&mut self, id: TaskId) -> Option<&mut DispatchedTask> {
        if !self.tasks.contains_key(&id) {
            self.split_batch(id);
        }
        self.tasks.get_mut(&id)
    }

    /// Returns whether the worker was certainly never assigned this task. Of an ended task only the id is known.
    pub fn is_stray(&mut self, key: WorkerKey, id: TaskId) -> bool {
        if id == 0 || id > self.last_task {
            return true;
        }
        let is_holder =
            |task: &mut DispatchedTask| task.holders.iter().any(|holder| holder.key == key);
        !self.task(id).is_none_or(is_holder)
    }

    /// Records a result of a worker. Returns whether it counts: no other worker has sent as many results before.
    pub fn record_result(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Some(task) = self.task(id) else {
            return false;
        };
        let Some(holder) = task.holders.iter_mut().find(|holder| holder.key == key) else {
            return false;
        };
        holder.results += 1;
        let is_new = holder.results > task.passed_on;
        task.passed_on = task.passed_on.max(holder.results);
        is_new
    }

    /// Returns the message of an assigned task that has not ended.
    pub fn frame(&mut self, id: TaskId) -> Option<&Bytes> {
        self.task(id).map(|task| &task.frame)
    }

    /// Returns how often a task that has not ended was delivered to a worker, without returned deliveries.
    pub fn deliveries(&self, id: TaskId) -> u32 {
        self.tasks.get(&id).map_or(1, |task| {
            task.holders.iter().map(TaskHolder::deliveries).sum()
        })
    }

    /// Returns the message of a task that has not ended, if none of its results was passed on.
    pub fn unanswered(&mut self, id: TaskId) -> Option<Bytes> {
        let task = self.task(id).filter(|task| task.passed_on == 0);
        task.map(|task| task.frame.clone())
    }

    /// Ends a task of which a worker has sent all results.
    ///
    /// Returns whether the task counted towards the worker's load: then the caller calls
    /// [`remove_load`](Self::remove_load).
    pub fn finish(&mut self, key: WorkerKey, id: TaskId) -> bool {
        if self.task(id).is_none() {
            return false;
        }
        let Entry::Occupied(task) = self.tasks.entry(id) else {
            return false;
        };
        let holders = &task.get().holders;
        let Some(holder) = holders.iter().find(|holder| holder.key == key) else {
            return false;
        };
        let has_load = holder.is_assigned;
        let task = task.remove();
        if task.is_waiting {
            let pool = self.pool(task.function);
            pool.waiting -= 1;
            for queue in pool.redelivered() {
                queue.retain(|&waiting| waiting != id);
            }
        }
        for holder in task.holders {
            self.end_exclusive(holder.key, id);
            if holder.key != key && holder.is_assigned {
                self.change(holder.key, |worker| worker.remove_load(1));
            }
        }
        has_load
    }
}
