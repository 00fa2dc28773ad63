//! Rate limits for log lines. No I/O; time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The shortest time between two log lines about one limit.
const LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// The shortest time between two log lines about one function.
const FUNCTION_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of remembered functions, because peers choose their names.
const MAX_LOGGED_FUNCTIONS: usize = 256;

/// Limits how often one event is logged: by default, that a limit is reached.
#[derive(Debug)]
pub(crate) struct LimitLog {
    interval: Duration,
    logged: Option<Instant>,
    suppressed: u64,
}

impl Default for LimitLog {
    fn default() -> Self {
        Self::new(LIMIT_INTERVAL)
    }
}

impl LimitLog {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            logged: None,
            suppressed: 0,
        }
    }

    /// Records the event. If it is to be logged, returns how often it has happened since the last line, this time
    /// included.
    pub(crate) fn record(&mut self, now: Instant) -> Option<u64> {
        self.suppressed += 1;
        if self.is_recent(now) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    fn is_recent(&self, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < self.interval;
        self.logged.is_some_and(is_recent)
    }
}

/// Limits the log of calls of unknown functions: one line per function and second.
#[derive(Debug, Default)]
pub(crate) struct UnknownLog {
    functions: HashMap<String, LimitLog>,
}

impl UnknownLog {
    /// Records a call of `function`. Returns the number of calls that were not logged before it, if it is to be logged.
    pub(crate) fn record(&mut self, now: Instant, function: &str) -> Option<u64> {
        if !self.functions.contains_key(function) {
            if self.functions.len() >= MAX_LOGGED_FUNCTIONS {
                self.functions.retain(|_, log| log.is_recent(now));
                if self.functions.len() >= MAX_LOGGED_FUNCTIONS {
                    return None;
                }
            }
            let log = LimitLog::new(FUNCTION_INTERVAL);
            self.functions.insert(function.to_owned(), log);
        }
        let calls = self.functions.get_mut(function)?.record(now)?;
        Some(calls - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_functions_are_logged_once_per_second_each() {
        let mut log = UnknownLog::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(log.record(at(0), "a"), Some(0));
        assert_eq!(log.record(at(1), "b"), Some(0));
        for millis in 2..999 {
            assert_eq!(log.record(at(millis), "a"), None);
        }
        assert_eq!(log.record(at(1000), "a"), Some(997));
        assert_eq!(log.record(at(2000), "a"), Some(0));
    }

    #[test]
    fn number_of_remembered_functions_is_bounded() {
        let mut log = UnknownLog::default();
        let start = Instant::now();
        for number in 0..MAX_LOGGED_FUNCTIONS {
            assert_eq!(log.record(start, &number.to_string()), Some(0));
        }
        assert_eq!(log.record(start, "more"), None);
        assert_eq!(log.record(start + FUNCTION_INTERVAL, "more"), Some(0));
        assert_eq!(log.functions.len(), 1);
    }

    #[test]
    fn event_is_logged_once_per_interval_with_a_count() {
        let mut log = LimitLog::default();
        let now = Instant::now();
        assert_eq!(log.record(now), Some(1));
        for _ in 0..9 {
            assert_eq!(log.record(now), None);
        }
        assert_eq!(log.record(now + LIMIT_INTERVAL), Some(10));
    }
}
