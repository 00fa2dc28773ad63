//! The clock of the runtime, which is tokio's: if a test pauses tokio's time, all timeouts, heartbeats and deadlines of
//! palm pause too.
//!
//! Only these read the clock of the system: the threads of `link::liveness`, [`watchdog`](crate::watchdog) and
//! `cache::file`, which also stores times of expiry, and measurements of how long this machine needs for a piece of work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Whether any runtime of the process has paused its time.
///
/// If none has, the wall clock needs no correction, so that a deadline costs one reading of it.
static IS_ANY_PAUSED: AtomicBool = AtomicBool::new(false);

/// Returns the time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time since `begin`.
pub(crate) fn since(begin: Instant) -> Duration {
    now().saturating_duration_since(begin)
}

/// Returns the wall-clock time, for deadlines. It pauses and advances as [`now`] does.
pub(crate) fn wall() -> SystemTime {
    let wall = SystemTime::now();
    if !IS_ANY_PAUSED.load(Ordering::Relaxed) {
        return wall;
    }
    let (now, real) = (now(), Instant::now());
    wall + now.saturating_duration_since(real) - real.saturating_duration_since(now)
}

/// Detects whether the current runtime has paused its time. Components and clients call it when they start.
pub(crate) fn detect_pause() {
    let (before, real) = (now(), Instant::now());
    while Instant::now() == real {
        std::hint::spin_loop();
    }
    if now() == before {
        IS_ANY_PAUSED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_clock_advances_with_paused_time() {
        detect_pause();
        let hour = Duration::from_secs(3600);
        let (begin, wall_begin) = (now(), wall());
        tokio::time::sleep(hour).await;
        assert_eq!(since(begin), hour);
        // Between its readings the system's clocks run.
        let error = Duration::from_secs(60);
        let passed = wall().duration_since(wall_begin).unwrap();
        assert!(passed.abs_diff(hour) < error, "{passed:?}");
    }

    #[test]
    fn clocks_run_without_a_runtime() {
        detect_pause();
        let begin = now();
        let wall_error = wall().duration_since(SystemTime::now()).unwrap_or_default();
        assert!(wall_error < Duration::from_secs(60));
        while since(begin).is_zero() {}
    }
}
