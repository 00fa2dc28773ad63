//! The time of the state machine.

use std::time::Instant;

use crate::state::Time;

/// Monotonic time that continues in the next runner, and does not follow changes of the system's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    begin: Instant,
    offset: Time,
}

impl Clock {
    pub(super) fn new(offset: Time) -> Self {
        Self {
            begin: Instant::now(),
            offset,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.offset + self.begin.elapsed()
    }
}
