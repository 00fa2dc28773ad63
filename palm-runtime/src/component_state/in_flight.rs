//! How many tasks of a component are with legacy workers.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::stop::Stop;

/// How many tasks are with workers, as far as counting results tells. A function that gives several
/// makes it too low while its tasks are out, one that gives none too high.
///
/// The parts of a component share it, so that those that push tasks and those that take results stop
/// together.
#[derive(Debug, Default)]
pub(crate) struct InFlightTasks {
    tasks: AtomicU64,
    /// Parts by which further tasks can go out.
    pushing: AtomicU64,
    changed: Notify,
    /// Notified when results arrive.
    results_arrived: Notify,
}

impl InFlightTasks {
    /// One more part pushes tasks, until it is [`close`](Self::close)d.
    pub(crate) fn open(&self) {
        self.pushing.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, results: usize) {
        let results = results as u64;
        let less = |tasks: u64| Some(tasks.saturating_sub(results));
        let tasks = &self.tasks;
        let before = tasks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if before.is_ok_and(|before| before <= results) {
            self.changed.notify_one();
        }
        self.results_arrived.notify_one();
    }

    pub(crate) fn close(&self) {
        self.pushing.fetch_sub(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until a result arrives. Cancel safe.
    pub(crate) async fn results_arrived(&self) {
        self.results_arrived.notified().await;
    }

    /// How many tasks are out.
    pub(crate) fn tasks(&self) -> u64 {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Waits until all tasks have gone out and come back. Whether tasks of workers without a link are done
    /// is not known if their functions may yield nothing, so this wait ends in time for the rest of the drain.
    pub(crate) async fn done(&self, stop: &Stop) {
        let limit = stop.linger / 10 * 9;
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
