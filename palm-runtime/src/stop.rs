//! How a component stops: the order to its parts, and the drain that follows.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The order to stop, as it reaches a part.
///
/// From then on the component drains: it accepts nothing, finishes and delivers what it has. Once its drain
/// limit has passed, parts return what is left to where it came from, and end within 1 s.
#[derive(Debug, Clone)]
pub struct Stop {
    pub(crate) token: CancellationToken,
    /// The drain limit, which is also how long closing sockets may take to send what is queued.
    pub(crate) linger: Duration,
    drain: Arc<Drain>,
}

/// How the drain of a component goes, for all of its parts.
#[derive(Debug, Default)]
struct Drain {
    /// Cancelled when the drain limit has passed.
    limit: CancellationToken,
    /// Whether work was dropped that peers believe to be dealt with.
    is_incomplete: AtomicBool,
}

/// How long parts may take, once the drain limit has passed, to return what is left and to say goodbye.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Stop {
    /// The order that a component may get, whose drain takes `limit` at most.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            linger: limit,
            drain: Arc::default(),
        }
    }

    /// Returns a signal with the same drain that is given by another token.
    pub(crate) fn with_token(&self, token: CancellationToken) -> Self {
        Self {
            token,
            ..self.clone()
        }
    }

    /// Waits until the part should stop. Cancel safe.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// How long a closing socket may take to send what is queued.
    pub fn linger(&self) -> Duration {
        self.linger
    }

    /// The drain limit has passed.
    pub(crate) fn expire(&self) {
        self.set_incomplete();
        self.drain.limit.cancel();
    }

    /// Waits until the drain limit has passed. Cancel safe.
    pub(crate) async fn expired(&self) {
        self.drain.limit.cancelled().await;
    }

    /// Returns what `future` gives, or `None` if the drain limit passes first. Cancel safe if `future` is.
    pub(crate) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.drain.limit.run_until_cancelled(future).await
    }

    /// How long a goodbye may take now.
    pub(crate) fn flush_time(&self) -> Duration {
        match self.drain.limit.is_cancelled() {
            true => self.linger.min(FLUSH_TIMEOUT / 2),
            false => self.linger,
        }
    }

    /// Work was dropped that peers believe to be dealt with: they are told so when links close, and send it
    /// again.
    pub(crate) fn set_incomplete(&self) {
        self.drain.is_incomplete.store(true, Ordering::Release);
    }

    /// Whether all that the component has acknowledged was dealt with.
    pub(crate) fn is_complete(&self) -> bool {
        !self.drain.is_incomplete.load(Ordering::Acquire)
    }
}
