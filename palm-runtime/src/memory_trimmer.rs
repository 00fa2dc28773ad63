//! When freed memory is returned to the system: after many peers have left.
//!
//! The memory of closed connections is spread over the allocator's pages, between allocations that live on. The next
//! peers reuse it, so it is returned only when no session has ended for a while.

use std::time::{Duration, Instant};

/// Number of ended sessions after which memory is returned.
const MIN_ENDED_SESSIONS: usize = 64;

/// Time without an ended session after which memory is returned, because connections are still being closed until then.
const QUIET_INTERVAL: Duration = Duration::from_secs(2);

/// Decides when freed memory is returned. No I/O; time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Trimmer {
    /// Sessions that have ended since memory was last returned.
    ended: usize,
    /// When the end of a session was last recorded.
    last: Option<Instant>,
}

impl Trimmer {
    /// Records how many sessions have ended since the last call. Returns whether memory is to be returned now.
    pub(crate) fn is_due(&mut self, ended: usize, now: Instant) -> bool {
        if ended > 0 {
            self.ended += ended;
            self.last = Some(now);
        }
        let is_quiet = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) >= QUIET_INTERVAL);
        let is_due = is_quiet && self.ended >= MIN_ENDED_SESSIONS;
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_returned_once_when_many_sessions_have_ended_and_none_for_a_while() {
        let mut trimmer = Trimmer::default();
        let begin = Instant::now();
        assert!(!trimmer.is_due(0, begin + QUIET_INTERVAL));
        assert!(!trimmer.is_due(MIN_ENDED_SESSIONS - 1, begin));
        assert!(
            !trimmer.is_due(0, begin + QUIET_INTERVAL),
            "they are too few"
        );
        assert!(
            !trimmer.is_due(1, begin + QUIET_INTERVAL),
            "one has just ended"
        );
        assert!(!trimmer.is_due(0, begin + QUIET_INTERVAL * 2 - Duration::from_millis(1)));
        assert!(trimmer.is_due(0, begin + QUIET_INTERVAL * 2));
        assert!(!trimmer.is_due(0, begin + QUIET_INTERVAL * 4));
    }
}
