//! The retry of HTTP workers: which requests are repeated, when, and how often.

use std::time::Duration;

use backon::ExponentialBuilder;

use crate::options::options;

options! {
    /// When and how often a failed request to an HTTP worker is repeated.
    ///
    /// A request that did not reach a worker, or that a worker rejected temporarily (429, 503), is always repeated. A
    /// request that a worker may have run is repeated only if [`repeatable`](Self::repeatable) is set. The delay between
    /// attempts grows exponentially with random jitter, unless the response has a `Retry-After`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Retry {
        /// Sets the number of attempts, including the first one. Default: 8, which take about 12 s. 0 counts as 1. No
        /// attempt begins after the deadline of its call.
        attempts: usize = 8,
        /// Sets the delay before the second attempt. Default: 100 ms.
        ///
        /// It doubles with each further attempt, and jitter adds up to as much again, so that many programs do not repeat
        /// at the same moment.
        initial_delay: Duration = Duration::from_millis(100),
        /// Sets the upper bound on the delay, jitter included. Default: 5 s.
        max_delay: Duration = Duration::from_secs(5),
        /// Sets whether it does no harm if a worker runs the same message twice. Then broken connections, timeouts and the
        /// statuses 502 and 504 are repeated as well. Default: no.
        repeatable: bool = false,
    }
}

impl Retry {
    pub(super) fn delays(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.initial_delay)
            // Jitter adds up to as much again.
            .with_max_delay(self.max_delay / 2)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            // With the default seed, every program would use the same delays.
            .with_jitter_seed(fastrand::u64(..))
    }
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;

    use super::*;

    #[test]
    fn retry_delays_are_random_and_stay_below_the_maximum() {
        let retry = Retry::default();
        let delays = || retry.delays().build().collect::<Vec<_>>();
        let (one, other) = (delays(), delays());
        assert_eq!((one.len(), other.len()), (7, 7));
        assert_ne!(one, other);
        for delay in one.into_iter().chain(other) {
            assert!(delay >= retry.initial_delay && delay <= retry.max_delay);
        }
    }
}
