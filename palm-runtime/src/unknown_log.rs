//! The log of calls of functions that do not exist: one line per function and second, however many calls there are.
//! No I/O, time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The shortest time between two log lines about one function.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many functions are remembered; peers choose their names.
const MAX_FUNCTIONS: usize = 256;

/// When calls of each function were logged.
#[derive(Debug, Default)]
pub(crate) struct UnknownLog {
    functions: HashMap<String, Logged>,
}

#[derive(Debug)]
struct Logged {
    at: Instant,
    /// Calls since then.
    suppressed: u64,
}

impl UnknownLog {
    /// A call of `function`. Returns how many others were not logged before, if this one is to be.
    pub(crate) fn record(&mut self, now: Instant, function: &str) -> Option<u64> {
        if let Some(logged) = self.functions.get_mut(function) {
            if now.saturating_duration_since(logged.at) < INTERVAL {
                logged.suppressed += 1;
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.suppressed));
        }
        if self.functions.len() >= MAX_FUNCTIONS {
            let is_recent = |logged: &Logged| now.saturating_duration_since(logged.at) < INTERVAL;
            self.functions.retain(|_, logged| is_recent(logged));
            if self.functions.len() >= MAX_FUNCTIONS {
                return None;
            }
        }
        let logged = Logged {
            at: now,
            suppressed: 0,
        };
        self.functions.insert(function.to_owned(), logged);
        Some(0)
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
    fn names_that_peers_make_up_are_forgotten() {
        let mut log = UnknownLog::default();
        let start = Instant::now();
        for number in 0..MAX_FUNCTIONS {
            assert_eq!(log.record(start, &number.to_string()), Some(0));
        }
        assert_eq!(log.record(start, "more"), None);
        assert_eq!(log.record(start + INTERVAL, "more"), Some(0));
        assert_eq!(log.functions.len(), 1);
    }
}
