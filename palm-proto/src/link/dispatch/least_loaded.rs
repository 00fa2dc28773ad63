//! Least-loaded scheduling: pools take turns, clients of a pool take turns, and the ready worker with the fewest tasks
//! receives the next one, round-robin on ties.

use std::time::Instant;

use super::batches::AssignedBatch;
use super::eligibility::{ClassId, Eligibility};
use super::pool::{UntriedTasks, usage};
use super::ready::{ReadyEntry, WorkerChoice, WorkerState};
use super::task::DispatchedTask;
use super::{Assignment, Dispatch, TaskId, WorkerKey};

/// Maximum number of tasks of a client that are assigned in one batch while tasks of other clients wait.
pub(super) const MAX_FAIR_BATCH: usize = 16;

impl Dispatch {
    /// Assigns the next task or batch.
    pub fn assign(&mut self, now: Instant) -> Option<Assignment> {
        let pools = self.pools.len() - 1;
        for offset in 0..pools {
            let index = 1 + (self.last_pool + offset) % pools;
            self.end_vain_reservation(index);
            if self.pools[index].waiting == 0 {
                continue;
            }
            if let Some(assigned) = self.assign_from(index, now) {
                self.last_pool = index;
                return Some(assigned);
            }
        }
        None
    }

    pub(super) fn assign_from(&mut self, index: usize, now: Instant) -> Option<Assignment> {
        if let Some(assigned) = self.assign_suspect(index, now) {
            return Some(assigned);
        }
        let eligibility = &self.pools[index].eligibility;
        // A worker that keeps prefetching untried tasks would never have a free slot for redelivered ones.
        let are_lost_first = self
            .pools
            .iter()
            .any(|pool| !pool.lost.is_empty() && pool.shares_workers(eligibility));
        let choice = match are_lost_first {
            true => WorkerChoice::BeginsAtOnce,
            false => WorkerChoice::Any,
        };
        let (.., key) = self.pick(eligibility, choice)?;
        let pool = &mut self.pools[index];
        let again = pool.lost.pop_front();
        if let Some(id) = again.or_else(|| pool.returned.pop_front()) {
            return Some(self.reassign(id, key, now));
        }
        self.assign_untried(index, key, choice, now)
    }

    /// Returns the least-loaded ready worker among those that are eligible.
    pub(super) fn pick(
        &self,
        eligibility: &Eligibility,
        choice: WorkerChoice,
    ) -> Option<ReadyEntry> {
        let first = |&class: &ClassId| {
            let ready = &self.ready[class];
            match choice {
                WorkerChoice::Any => ready.first(),
                WorkerChoice::Idle => ready.first().filter(|(load, ..)| *load == 0),
                WorkerChoice::BeginsAtOnce => ready.entries.iter().find(|(.., key)| {
                    let worker = self.workers.get(key);
                    worker.is_some_and(WorkerState::begins_at_once)
                }),
            }
        };
        eligibility.iter().filter_map(first).min().copied()
    }

    /// Assigns a redelivered task.
    pub(super) fn reassign(&mut self, id: TaskId, key: WorkerKey, now: Instant) -> Assignment {
        self.add_load(key, 1, now);
        let task = self.tasks.get_mut(&id).expect("a waiting task exists");
        task.assign(key, self.last_sequence);
        let (function, tasks) = (task.function, task.frame.clone().into());
        self.pool(function).waiting -= 1;
        Assignment {
            worker: key,
            first: id,
            tasks,
            submitted: None,
        }
    }

    /// Assigns tasks of the next client, limited by the credit of the worker and by the fair shares of other workers
    /// and clients.
    pub(super) fn assign_untried(
        &mut self,
        index: usize,
        key: WorkerKey,
        choice: WorkerChoice,
        now: Instant,
    ) -> Option<Assignment> {
        let pool = &self.pools[index];
        let fair = self.fair_share(&pool.eligibility, pool.waiting);
        let worker = self.workers.get(&key)?;
        let mut most = usize::try_from(worker.credit)
            .unwrap_or(usize::MAX)
            .min(fair);
        if (choice == WorkerChoice::BeginsAtOnce || worker.is_stalled) && worker.concurrency > 0 {
            most = most.min(worker.runs().saturating_sub(worker.load));
        }
        let pool = &mut self.pools[index];
        let (flow, untried) = pool.untried.pop()?;
        let UntriedTasks {
            mut batch,
            function,
            expiry,
            submitted,
        } = untried;
        let rest_of_flow = usize::from(pool.untried.usage(flow.key).messages > 0);
        if pool.untried.busy_flows() > rest_of_flow {
            most = most.min(MAX_FAIR_BATCH);
        }
        let count = batch.len().min(most).max(1);
        if count < batch.len() {
            let front = batch.split_to(count);
            let rest = UntriedTasks {
                batch: std::mem::replace(&mut batch, front),
                function,
                expiry,
                submitted,
            };
            let usage = usage(&rest.batch);
            pool.untried.restore(flow, rest, usage);
        }
        pool.waiting -= count;
        self.untried.messages -= count;
        self.untried.bytes -= batch.bytes();
        let id = self.last_task + 1;
        self.last_task += count as u64;
        self.add_load(key, count, now);
        if count == 1 {
            let mut task = DispatchedTask::new(batch.first(), function);
            task.assign(key, self.last_sequence);
            self.tasks.insert(id, task);
        } else {
            self.batched_tasks += count;
            let assigned = AssignedBatch::new(batch.clone(), function, key, self.last_sequence);
            self.batches.insert(id, assigned);
        }
        Some(Assignment {
            worker: key,
            first: id,
            tasks: batch,
            submitted: Some(submitted),
        })
    }

    /// Returns how many waiting tasks the least-loaded worker may receive, so that the loads become equal.
    pub(super) fn fair_share(&self, eligibility: &Eligibility, waiting: usize) -> usize {
        let (mut least, mut next, mut workers) = (None, None, 0);
        for &class in eligibility {
            let ready = &self.ready[class].entries;
            workers += ready.len();
            for &(load, ..) in ready.iter().take(2) {
                match least {
                    Some(first) if load >= first => {
                        next = Some(next.map_or(load, |next: usize| next.min(load)));
                    }
                    first => {
                        next = first;
                        least = Some(load);
                    }
                }
            }
        }
        let ahead = match (least, next) {
            (Some(least), Some(next)) => next - least,
            _ => 0,
        };
        let rest = waiting.saturating_sub(ahead);
        ahead + rest.div_ceil(workers.max(1))
    }

    /// Records that a worker was assigned tasks.
    pub(super) fn add_load(&mut self, key: WorkerKey, tasks: usize, now: Instant) {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.change(key, |worker| {
            if worker.load == 0 {
                worker.progress = now;
            }
            worker.load += tasks;
            worker.credit = worker.credit.saturating_sub(tasks as u64);
            worker.last_sequence = sequence;
        });
    }

    /// Records that a worker has finished tasks.
    pub fn remove_load(&mut self, key: WorkerKey, tasks: usize, now: Instant) {
        if tasks > 0 {
            self.change(key, |worker| {
                worker.remove_load(tasks);
                worker.progress = now;
                worker.is_stalled = false;
            });
        }
    }
}
