//! How many tasks a worker prefetches: as many as it finishes in a fixed time.

use std::time::{Duration, Instant};

use crate::call_slots::Prefetch;

/// How much work a worker prefetches: the time that its prefetched tasks take.
const PREFETCH_TIME: Duration = Duration::from_millis(10);

/// Maximum number of tasks that a worker prefetches.
const MAX_PREFETCH: u64 = 1000;

/// Computes the credit of a worker from how fast it finishes tasks.
#[derive(Debug)]
pub(super) struct PrefetchWindow {
    pub(super) concurrency: u64,
    /// Number of tasks whose methods wait for inner calls of the master: as many additional tasks run.
    pub(super) lent: u32,
    pub(super) prefetch: Prefetch,
    /// The number of tasks at this worker.
    tasks: u64,
    /// When the last task ended, or the first one began.
    since: Instant,
    /// The time between the ends of tasks while the worker is busy, in seconds: a moving average.
    seconds: f64,
}

impl PrefetchWindow {
    pub(super) fn new(concurrency: u64, prefetch: Prefetch, now: Instant) -> Self {
        Self {
            concurrency: concurrency.max(1),
            lent: 0,
            prefetch,
            tasks: 0,
            since: now,
            seconds: 1.0,
        }
    }

    pub(super) fn began(&mut self, tasks: u64, now: Instant) {
        if self.tasks == 0 {
            self.since = now;
        }
        self.tasks += tasks;
    }

    pub(super) fn ended(&mut self, tasks: u64, now: Instant) {
        self.tasks = self.tasks.saturating_sub(tasks);
        let each = now.saturating_duration_since(self.since).as_secs_f64() / tasks as f64;
        let weight = (0.2 * tasks as f64).min(1.0);
        self.seconds += weight * (each - self.seconds);
        self.since = now;
    }

    /// Records that tasks were returned without being run.
    pub(super) fn returned(&mut self, tasks: u64) {
        self.tasks = self.tasks.saturating_sub(tasks);
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.tasks = 0;
        self.since = now;
    }

    /// Returns the number of tasks at this worker, prefetched and running.
    pub(super) fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Returns how many tasks the worker prefetches.
    pub(super) fn prefetch(&self) -> u64 {
        match self.prefetch {
            Prefetch::Fixed(tasks) => tasks,
            Prefetch::Measured => {
                let tasks = PREFETCH_TIME.as_secs_f64() / self.seconds.max(1e-9);
                (tasks as u64).min(MAX_PREFETCH)
            }
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.concurrency + u64::from(self.lent) + self.prefetch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_after(tasks: u64, each: Duration) -> u64 {
        let mut now = Instant::now();
        let mut pace = PrefetchWindow::new(2, Prefetch::Measured, now);
        for _ in 0..tasks {
            pace.began(1, now);
            now += each;
            pace.ended(1, now);
        }
        pace.window()
    }

    #[test]
    fn short_tasks_are_prefetched_and_long_ones_are_not() {
        assert_eq!(window_after(0, Duration::ZERO), 2);
        assert_eq!(window_after(100, Duration::from_millis(11)), 2);
        assert_eq!(window_after(100, Duration::from_millis(6)), 2 + 1);
        assert!((98..=102).contains(&window_after(100, Duration::from_micros(100))));
        assert_eq!(
            window_after(100, Duration::from_nanos(100)),
            2 + MAX_PREFETCH
        );
        let pace = PrefetchWindow::new(3, Prefetch::Fixed(5), Instant::now());
        assert_eq!(pace.window(), 8);
    }

    #[test]
    fn idle_time_does_not_count_as_work() {
        let mut now = Instant::now();
        let mut pace = PrefetchWindow::new(1, Prefetch::Measured, now);
        for _ in 0..100 {
            now += Duration::from_secs(10);
            pace.began(1, now);
            now += Duration::from_micros(100);
            pace.ended(1, now);
        }
        assert!(pace.window() > 10);
    }
}
