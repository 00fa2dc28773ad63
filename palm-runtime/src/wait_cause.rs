//! Why a connection or a call waits.
//!
//! A wait has a last known cause ([`WaitCause`]), which is reported in the log once per change, and in the error if the
//! wait ends with one. [`Connecting`] finds the cause of a connection that is not established.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::socket::{Address, probe};

/// Duration of a wait from which its cause is probed.
const SHORT_WAIT: Duration = Duration::from_millis(300);

/// The shortest and the longest time between two probes for the cause.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The last known cause of a wait, if there is one.
#[derive(Debug, Default)]
pub(crate) struct WaitCause(Mutex<Option<Arc<str>>>);

impl WaitCause {
    /// Sets the cause. Returns whether it has changed, and is to be logged.
    pub(crate) fn set(&self, cause: &str) -> bool {
        let mut current = self.0.lock();
        let is_new = current.as_deref() != Some(cause);
        if is_new {
            *current = Some(cause.into());
        }
        is_new
    }

    /// Ends the wait. Returns whether it had a known cause.
    pub(crate) fn clear(&self) -> bool {
        self.0.lock().take().is_some()
    }

    pub(crate) fn get(&self) -> Option<Arc<str>> {
        self.0.lock().clone()
    }
}

/// Explains why a connection to an address waits: ZeroMQ retries without reporting why.
#[derive(Debug)]
pub(crate) struct Connecting {
    address: Address,
    cause: WaitCause,
    /// Held by the one of several waits that probes for the cause.
    prober: tokio::sync::Mutex<()>,
}

impl Connecting {
    pub(crate) fn new(address: &Address) -> Self {
        Self {
            address: address.clone(),
            cause: WaitCause::default(),
            prober: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn cause(&self) -> Option<Arc<str>> {
        self.cause.get()
    }

    /// Awaits a future that needs the connection, and explains the wait if it is longer than [`SHORT_WAIT`].
    ///
    /// `unanswered` is the cause if the address can be connected to. Cancel safe if `future` is.
    pub(crate) async fn wait_for<T>(
        &self,
        future: impl Future<Output = T>,
        unanswered: impl Fn() -> String + Sync,
    ) -> T {
        tokio::select! {
            biased;
            done = future => {
                self.is_over();
                done
            }
            never = self.explain(&unanswered) => match never {},
        }
    }

    /// Finds the cause of a wait that is longer than [`SHORT_WAIT`], and logs it whenever it changes. Never completes.
    /// Cancel safe.
    pub(crate) async fn explain(&self, unanswered: &(dyn Fn() -> String + Sync)) -> Infallible {
        sleep(SHORT_WAIT).await;
        let _one = self.prober.lock().await;
        let mut pause = PROBE_INTERVAL.0;
        loop {
            let begun = Instant::now();
            let cause = match probe(&self.address).await {
                Ok(()) => unanswered(),
                Err(fault) => fault.to_string(),
            };
            if self.cause.set(&cause) {
                tracing::warn!("waiting for `{}`: {cause}", self.address);
            }
            sleep(pause.saturating_sub(begun.elapsed())).await;
            pause = (2 * pause).min(PROBE_INTERVAL.1);
        }
    }

    /// Ends the wait, and logs that if its cause was logged.
    pub(crate) fn is_over(&self) {
        if self.cause.clear() {
            tracing::info!("connected to `{}`", self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_is_logged_once_per_change() {
        let cause = WaitCause::default();
        assert!(!cause.clear());
        assert!(cause.set("connection refused"));
        assert!(!cause.set("connection refused"));
        assert_eq!(cause.get().as_deref(), Some("connection refused"));
        assert!(cause.set("it does not answer"));
        assert!(cause.clear());
        assert_eq!(cause.get(), None);
        assert!(cause.set("it does not answer"));
    }
}
