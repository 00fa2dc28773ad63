//! How long a peer may be silent before the link connects again.
//!
//! A busy component answers late. If each of its peers then connected again after the same time, the reconnections
//! would cost it more work than the answers, and it would never catch up (a metastable failure: Bronson et al., HotOS
//! 2021). So the limit doubles with each connection on which nothing was received, and has jitter.

use std::time::Duration;

/// Upper bound of the limit, in idle timeouts.
const MAX_FACTOR: u32 = 4;

/// The limit of one link.
#[derive(Debug)]
pub(super) struct SilenceLimit {
    idle_timeout: Duration,
    factor: u32,
    /// Between 0 and 1.
    jitter: f32,
}

impl SilenceLimit {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            factor: 1,
            jitter: 0.0,
        }
    }

    /// Returns how long the peer may be silent on the current connection: the idle timeout if the last connection was
    /// of use, otherwise a multiple and up to as much again.
    pub(super) fn get(&self) -> Duration {
        let limit = self.idle_timeout * self.factor;
        match self.factor {
            1 => limit,
            _ => limit.mul_f32(1.0 + self.jitter),
        }
    }

    /// Records the end of a connection, and whether anything was received on it. `jitter` is between 0 and 1.
    pub(super) fn connection_ended(&mut self, is_received: bool, jitter: f32) {
        self.factor = match is_received {
            true => 1,
            false => (2 * self.factor).min(MAX_FACTOR),
        };
        self.jitter = jitter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn limit_doubles_with_each_silent_connection_up_to_its_bound() {
        let mut limit = SilenceLimit::new(IDLE_TIMEOUT);
        assert_eq!(limit.get(), IDLE_TIMEOUT);
        for factor in [2, 4, 4] {
            limit.connection_ended(false, 0.0);
            assert_eq!(limit.get(), IDLE_TIMEOUT * factor);
        }
        limit.connection_ended(true, 0.9);
        assert_eq!(limit.get(), IDLE_TIMEOUT);
    }

    #[test]
    fn jitter_adds_up_to_as_much_again() {
        let mut limit = SilenceLimit::new(IDLE_TIMEOUT);
        limit.connection_ended(false, 0.5);
        assert_eq!(limit.get(), 3 * IDLE_TIMEOUT);
    }
}
