//! [`Stop`]: the stop signal of a component's parts, and the state of the drain that follows.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The stop signal of a part.
///
/// After the signal the component drains: it accepts no further messages, and finishes and delivers those that it
/// has. When the drain limit has passed, parts return unfinished work to their peers and end within 1 s.
#[derive(Debug, Clone)]
pub struct Stop {
    pub(crate) token: CancellationToken,
    drain: Arc<Drain>,
}

/// The state of a component's drain, shared by its parts.
#[derive(Debug, Default)]
struct Drain {
    /// The drain limit in microseconds, which is also the time that closing sockets may take to send queued messages.
    linger_us: AtomicU64,
    /// Cancelled when the drain limit has passed.
    limit: CancellationToken,
    /// Whether acknowledged work was dropped.
    is_incomplete: AtomicBool,
}

/// Time after the drain limit in which parts return unfinished work and close their links.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Stop {
    /// Returns the stop signal of a component whose drain takes at most `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        let stop = Self {
            token: CancellationToken::new(),
            drain: Arc::default(),
        };
        stop.set_linger(limit);
        stop
    }

    /// Changes the drain limit.
    pub(crate) fn set_linger(&self, limit: Duration) {
        let microseconds = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.drain.linger_us.store(microseconds, Ordering::Relaxed);
    }

    /// Returns a signal with the same drain and another token.
    pub(crate) fn with_token(&self, token: CancellationToken) -> Self {
        Self {
            token,
            drain: self.drain.clone(),
        }
    }

    /// Waits until the part should stop. Cancel safe.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Returns the time that a closing socket has to send queued messages.
    pub fn linger(&self) -> Duration {
        Duration::from_micros(self.drain.linger_us.load(Ordering::Relaxed))
    }

    /// Signals that the drain limit has passed.
    pub(crate) fn expire(&self) {
        self.set_incomplete();
        self.drain.limit.cancel();
    }

    /// Waits until the drain limit has passed. Cancel safe.
    pub(crate) async fn expired(&self) {
        self.drain.limit.cancelled().await;
    }

    /// Returns the output of `future`, or `None` if the drain limit passes first. Cancel safe if `future` is.
    pub(crate) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.drain.limit.run_until_cancelled(future).await
    }

    /// Returns the current limit on closing a link or socket.
    pub(crate) fn flush_time(&self) -> Duration {
        match self.drain.limit.is_cancelled() {
            true => self.linger().min(FLUSH_TIMEOUT / 2),
            false => self.linger(),
        }
    }

    /// Records that acknowledged work was dropped. Links are then closed without `finished`, so that peers send
    /// their messages again.
    pub(crate) fn set_incomplete(&self) {
        self.drain.is_incomplete.store(true, Ordering::Release);
    }

    /// Returns whether all acknowledged work was finished.
    pub(crate) fn is_complete(&self) -> bool {
        !self.drain.is_incomplete.load(Ordering::Acquire)
    }
}
