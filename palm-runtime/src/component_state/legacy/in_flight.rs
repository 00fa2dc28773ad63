//! The number of tasks that are with legacy workers.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::stop::Stop;

/// The number of tasks with legacy workers, estimated by counting results.
///
/// The estimate is too low while tasks of functions with several results are in flight, and too high after tasks of
/// functions without a result. The parts of a component share it, so that those that push tasks and those that
/// receive results stop at the same time.
#[derive(Debug, Default)]
pub(crate) struct InFlightTasks {
    tasks: AtomicU64,
    /// Those of them that wait for capacity of the socket.
    unsent: AtomicU64,
    /// Parts that can still push tasks.
    pushing: AtomicU64,
    changed: Notify,
    /// Notified when results arrive.
    results_arrived: Notify,
}

impl InFlightTasks {
    /// Adds a part that pushes tasks, until it calls [`close`](Self::close).
    pub(crate) fn open(&self) {
        self.pushing.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, results: usize) {
        self.reduce(results as u64);
        self.results_arrived.notify_one();
    }

    /// Sets whether a task that was added waits for capacity of the socket, so that it is not with a worker yet.
    pub(crate) fn set_unsent(&self, is_unsent: bool) {
        match is_unsent {
            true => self.unsent.fetch_add(1, Ordering::Relaxed),
            false => self.unsent.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Returns the number of tasks that workers have.
    pub(crate) fn sent(&self) -> u64 {
        let unsent = self.unsent.load(Ordering::Relaxed);
        self.tasks().saturating_sub(unsent)
    }

    /// Removes a task that was added and not pushed.
    pub(crate) fn retract(&self) {
        self.reduce(1);
    }

    fn reduce(&self, by: u64) {
        let less = |tasks: u64| Some(tasks.saturating_sub(by));
        let tasks = &self.tasks;
        let before = tasks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if before.is_ok_and(|before| before <= by) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.pushing.fetch_sub(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until a result arrives. Cancel safe.
    pub(crate) async fn results_arrived(&self) {
        self.results_arrived.notified().await;
    }

    /// Returns the number of tasks in flight.
    pub(crate) fn tasks(&self) -> u64 {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Waits until no part pushes tasks and all results have arrived, for at most nine tenths of the drain limit.
    ///
    /// The limit leaves time for the rest of the drain, since a task without a result is never counted as done.
    pub(crate) async fn done(&self, stop: &Stop) {
        let limit = stop.linger() / 10 * 9;
        let waited = timeout(limit, stop.within(self.none_left())).await;
        if !matches!(waited, Ok(Some(()))) && self.tasks() > 0 {
            stop.set_incomplete();
            let tasks = self.tasks();
            tracing::warn!(
                tasks,
                "stopping without the results of tasks at legacy workers, unless their functions have none"
            );
        }
    }

    async fn none_left(&self) {
        loop {
            let closed = self.pushing.load(Ordering::Acquire) == 0;
            if closed && self.tasks() == 0 {
                return;
            }
            self.changed.notified().await;
        }
    }
}
