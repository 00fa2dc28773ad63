//! [`RecentCalls`]: the calls that a component remembers, so that a path can be shown without a collector of traces.
//!
//! Each of three lists has at most [`MAX_CALLS`] entries: the slowest calls of the last one or two [`PERIOD`]s, the last
//! failed ones, and the last ones of sampled traces. Whether a call is among the slowest costs a comparison. A call must
//! exceed the fastest of them by an eighth, so that a growing backlog, in which each call is slower than the one before,
//! does not change the list with each call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::report::RecentCall;

/// The most calls of each list.
const MAX_CALLS: usize = 64;

/// How long the slowest calls are compared with each other.
const PERIOD: Duration = Duration::from_secs(60);

/// The calls that a component remembers.
#[derive(Debug, Default)]
pub(crate) struct RecentCalls {
    /// Calls that took longer are among the slowest, in nanoseconds.
    threshold_ns: AtomicU64,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    slow: Vec<Arc<RecentCall>>,
    /// The slowest calls of the period before.
    slow_before: Vec<Arc<RecentCall>>,
    failed: VecDeque<Arc<RecentCall>>,
    traced: VecDeque<Arc<RecentCall>>,
    period_began: Option<Instant>,
}

fn push(list: &mut VecDeque<Arc<RecentCall>>, call: Arc<RecentCall>) {
    if list.len() == MAX_CALLS {
        list.pop_front();
    }
    list.push_back(call);
}

fn time(call: &RecentCall) -> Duration {
    call.waited + call.worked
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl RecentCalls {
    /// Returns whether a call that took this long is to be [recorded](Self::record).
    #[inline]
    pub(crate) fn is_slow(&self, time: Duration) -> bool {
        nanos(time) >= self.threshold_ns.load(Ordering::Relaxed)
    }

    /// Adds a call that is slow, failed or part of a sampled trace.
    pub(crate) fn record(&self, call: RecentCall, is_sampled: bool) {
        let call = Arc::new(call);
        let mut lists = self.lists.lock();
        if call.failure.is_some() {
            push(&mut lists.failed, call.clone());
        }
        if is_sampled {
            push(&mut lists.traced, call.clone());
        }
        if self.is_slow(time(&call)) {
            let slow = &mut lists.slow;
            let fastest = |slow: &[Arc<RecentCall>]| {
                let calls = slow.iter().enumerate();
                calls.min_by_key(|(_, call)| time(call)).map(|(at, _)| at)
            };
            if slow.len() < MAX_CALLS {
                slow.push(call);
            } else if let Some(fastest) = fastest(slow) {
                slow[fastest] = call;
            }
            if slow.len() == MAX_CALLS
                && let Some(fastest) = fastest(slow)
            {
                let least = nanos(time(&slow[fastest]));
                let threshold = least.saturating_add(least / 8).saturating_add(1);
                self.threshold_ns.store(threshold, Ordering::Relaxed);
            }
        }
    }

    /// Forgets the slowest calls of the period before last, if a period has ended. Returns when the next one ends.
    pub(crate) fn end_period(&self, now: Instant) -> Instant {
        let mut lists = self.lists.lock();
        let began = *lists.period_began.get_or_insert(now);
        let end = began + PERIOD;
        if now < end {
            return end;
        }
        lists.slow_before = match now < end + PERIOD {
            true => std::mem::take(&mut lists.slow),
            false => Vec::new(),
        };
        lists.slow.clear();
        lists.period_began = Some(now);
        self.threshold_ns.store(0, Ordering::Relaxed);
        now + PERIOD
    }

    /// Returns the calls, in the order in which their work began.
    pub(crate) fn list(&self) -> Vec<RecentCall> {
        let lists = self.lists.lock();
        let calls = lists.failed.iter().chain(&lists.traced);
        let calls = calls.chain(&lists.slow).chain(&lists.slow_before);
        let mut unique: Vec<&Arc<RecentCall>> = Vec::new();
        for call in calls {
            if !unique.iter().any(|known| Arc::ptr_eq(known, call)) {
                unique.push(call);
            }
        }
        unique.sort_by_key(|call| call.begun_at);
        unique.into_iter().map(|call| (**call).clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use crate::report::Work;

    fn call(id: u64, worked: u64) -> RecentCall {
        let mut call = RecentCall::new(Work::Step, &id.to_string(), "", "a.b", 0);
        call.worked = Duration::from_micros(worked);
        call
    }

    #[test]
    fn slowest_failed_and_sampled_calls_are_kept() {
        let recent = RecentCalls::default();
        // The slowest of 1000 calls, in an order that is neither ascending nor descending.
        for id in 0..1000_u64 {
            let call = call(id, 1 + id * 7919 % 1000);
            if recent.is_slow(call.worked) {
                recent.record(call, false);
            }
        }
        let worked = |call: &RecentCall| call.worked.as_micros();
        assert_eq!(recent.list().len(), MAX_CALLS);
        assert!(recent.list().iter().map(worked).max() > Some(950));
        assert!(recent.list().iter().map(worked).min() > Some(750));
        for id in 0..100 {
            let mut failed = call(id, 0);
            failed.failure = Some(FailureKind::Failed);
            recent.record(failed, true);
        }
        let failed = recent.list();
        let failed = failed.iter().filter(|call| call.failure.is_some());
        // Each is in two lists.
        assert_eq!(failed.map(|call| &*call.call).min(), Some("36"));
        assert_eq!(recent.list().len(), 2 * MAX_CALLS);
    }

    #[test]
    fn growing_backlog_changes_the_slowest_calls_seldom() {
        let recent = RecentCalls::default();
        let mut recorded = 0;
        for id in 0..100_000 {
            let call = call(id, 1000 + id);
            if recent.is_slow(call.worked) {
                recent.record(call, false);
                recorded += 1;
            }
        }
        assert!((MAX_CALLS..4000).contains(&recorded), "{recorded}");
    }

    #[test]
    fn slow_calls_are_forgotten_after_two_periods() {
        let recent = RecentCalls::default();
        let begin = Instant::now();
        let calls = || recent.list().len();
        assert_eq!(recent.end_period(begin), begin + PERIOD);
        for id in 0..64 {
            recent.record(call(id, 1_000_000), false);
        }
        assert!(!recent.is_slow(Duration::from_millis(1)));
        recent.end_period(begin + PERIOD);
        assert!(recent.is_slow(Duration::from_millis(1)));
        assert_eq!(calls(), 64);
        recent.end_period(begin + 2 * PERIOD);
        assert_eq!(calls(), 0);
        recent.record(call(1, 1), false);
        recent.end_period(begin + 5 * PERIOD);
        assert_eq!(calls(), 0);
    }
}
