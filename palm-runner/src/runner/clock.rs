//! The time of the state machine, and the clock of the system.

use std::time::{Duration, Instant, SystemTime};

use crate::state::Time;

/// Smaller steps of the system's clock are its adjustment, and no event.
const MIN_STEP: Duration = Duration::from_secs(10);

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

/// Notices steps of the system's clock, which only the times of lines and events follow.
#[derive(Debug)]
pub(super) struct SystemClock {
    last: (Instant, SystemTime),
}

impl SystemClock {
    pub(super) fn new() -> Self {
        Self {
            last: (Instant::now(), SystemTime::now()),
        }
    }

    /// Returns a sentence without a subject if the clock made a step since the last call.
    pub(super) fn step(&mut self, now: Instant, time: SystemTime) -> Option<String> {
        let (before, time_before) = std::mem::replace(&mut self.last, (now, time));
        let expected = time_before + now.duration_since(before);
        let (step, text) = match time.duration_since(expected) {
            Ok(step) => (step, "forward: it was set, or the machine was suspended"),
            Err(error) => (error.duration(), "back"),
        };
        let seconds = step.as_secs();
        (step >= MIN_STEP).then(|| format!("the system's clock went {seconds} s {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_clock_are_noticed_and_adjustments_are_not() {
        let mut clock = SystemClock::new();
        let (begin, time) = clock.last;
        let mut step = |elapsed, shown| {
            let time = time + Duration::from_secs(shown);
            clock.step(begin + Duration::from_secs(elapsed), time)
        };
        assert_eq!(step(1, 1), None);
        assert_eq!(step(2, 4), None);
        let forward = step(3, 105).unwrap();
        assert!(
            forward.starts_with("the system's clock went 100 s forward"),
            "{forward}"
        );
        let back = step(4, 6);
        assert_eq!(back.as_deref(), Some("the system's clock went 100 s back"));
        assert_eq!(step(1000, 1002), None);
    }
}
