//! Suspects: tasks with one delivery left, which may be poison messages, run exclusively on their worker.

use std::time::{Duration, Instant};

use super::ready::WorkerChoice;
use super::{Assignment, Dispatch, TaskId, WorkerKey};

/// How long a worker is reserved for a suspect while it still runs other tasks. A suspect whose worker is not idle by
/// then runs alongside these.
pub(super) const RESERVATION_TIMEOUT: Duration = Duration::from_secs(5);

impl Dispatch {
    /// Assigns a suspect to an idle worker, or reserves a worker for it.
    pub(super) fn assign_suspect(&mut self, index: usize, now: Instant) -> Option<Assignment> {
        let pool = &self.pools[index];
        let id = *pool.suspects.front()?;
        let classes = pool.eligibility.iter();
        let exclusive: usize = classes.map(|&class| self.ready[class].exclusive).sum();
        if exclusive >= (self.functions.connected(&pool.eligibility) / 2).max(1) {
            return None;
        }
        let idle = self.pick(&pool.eligibility, WorkerChoice::Idle);
        let waits = pool.reserved.and_then(|(key, since)| {
            let worker = self.workers.get(&key)?;
            let is_due =
                worker.load == 0 || now.saturating_duration_since(since) >= RESERVATION_TIMEOUT;
            (worker.is_reserved && worker.is_connected)
                .then_some((is_due && worker.credit > 0, key))
        });
        let key = match (idle, waits) {
            (Some((.., key)), _) | (None, Some((true, key))) => key,
            (None, Some((false, _))) => return None,
            (None, None) => {
                self.reserve(index, now);
                return None;
            }
        };
        if let Some((key, _)) = self.pools[index].reserved.take() {
            self.change(key, |worker| worker.is_reserved = false);
        }
        self.pools[index].suspects.pop_front();
        self.change(key, |worker| worker.exclusive_task = Some(id));
        Some(self.reassign(id, key, now))
    }

    /// Reserves the least-loaded worker for a suspect, so that it becomes idle.
    pub(super) fn reserve(&mut self, index: usize, now: Instant) {
        let eligibility = &self.pools[index].eligibility;
        let workers = self.workers.iter().filter(|(_, worker)| {
            let is_free =
                worker.is_connected && worker.exclusive_task.is_none() && !worker.is_reserved;
            is_free && eligibility.contains(&worker.class)
        });
        let least = workers.min_by_key(|(key, worker)| (worker.load, worker.last_sequence, **key));
        if let Some((&key, _)) = least {
            self.change(key, |worker| worker.is_reserved = true);
            self.pools[index].reserved = Some((key, now));
        }
    }

    /// Lets the reserved worker of a pool receive other tasks again if no suspect waits any more: a lost worker has
    /// returned with its result, or its deadline has passed.
    #[inline]
    pub(super) fn end_vain_reservation(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        if pool.suspects.is_empty()
            && let Some((key, _)) = pool.reserved.take()
        {
            self.change(key, |worker| worker.is_reserved = false);
        }
    }

    /// Lets a worker receive other tasks again, if it ran this one exclusively.
    pub(super) fn end_exclusive(&mut self, key: WorkerKey, id: TaskId) {
        self.change(key, |worker| {
            worker.exclusive_task.take_if(|task| *task == id);
        });
    }
}
