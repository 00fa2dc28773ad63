//! The time of lines.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use super::format::timestamp;

/// A step of the system's clock back by at most this much is hidden: the lines after it carry the time before it until
/// the clock has caught up. Otherwise the lines of several instances would be shown in the wrong order. After a longer
/// step the new time is the right one, and only the lines of each instance keep their order.
const MAX_HIDDEN_STEP: Duration = Duration::from_secs(10);

/// The time of the next line of any instance.
#[derive(Debug)]
pub(super) struct Stamps {
    last: Cell<SystemTime>,
}

impl Default for Stamps {
    fn default() -> Self {
        Self {
            last: Cell::new(SystemTime::UNIX_EPOCH),
        }
    }
}

impl Stamps {
    /// Returns the time of a line that is read now.
    pub(super) fn now(&self) -> String {
        timestamp(self.at(SystemTime::now()))
    }

    fn at(&self, now: SystemTime) -> SystemTime {
        let last = self.last.get();
        let stamp = match last.duration_since(now) {
            Ok(step) if step <= MAX_HIDDEN_STEP => last,
            _ => now,
        };
        self.last.set(stamp);
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_step_back_of_the_clock_is_hidden() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let stamps = Stamps::default();
        for (now, expected) in [
            (100, 100),
            (95, 100),
            (99, 100),
            (101, 101),
            (90, 90),
            (5, 5),
        ] {
            assert_eq!(stamps.at(at(now)), at(expected), "{now}");
        }
    }
}
