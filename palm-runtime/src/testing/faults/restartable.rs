//! [`Restartable`]: a component that a test kills and starts again.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::Instant;

use crate::component::ComponentHandle;
use crate::component_error::RunError;
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Time for which a restart is retried while the address is in use: another program may use it briefly. If the test
/// starts a process meanwhile, that has copies of all sockets until it executes its own program.
const RESTART_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which counters are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A component that can be killed and started again. Dropping it stops the component.
pub struct Restartable {
    start: Box<dyn FnMut() -> BoxFuture<'static, Result<ComponentHandle>> + Send>,
    handle: Option<ComponentHandle>,
}

impl Restartable {
    /// Starts the component; `start` is called again at each [`restart`](Self::restart).
    ///
    /// A component with clients should keep its `db_address`: bind it to an
    /// [`unused_address`](super::super::unused_address()), or connect peers to a [`FaultProxy`](super::FaultProxy) and
    /// [set its target](super::FaultProxy::set_target) after the restart.
    ///
    /// # Errors
    ///
    /// The error of `start`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the one of `start`, and starts nothing else.
    pub async fn start<F, S>(mut start: F) -> Result<Self>
    where
        F: FnMut() -> S + Send + 'static,
        S: Future<Output = Result<ComponentHandle>> + Send + 'static,
    {
        let handle = start().await?;
        Ok(Self {
            start: Box::new(move || Box::pin(start())),
            handle: Some(handle),
        })
    }

    /// Returns the running component, or `None` after a [`kill`](Self::kill).
    pub fn handle(&self) -> Option<&ComponentHandle> {
        self.handle.as_ref()
    }

    /// [Kills](ComponentHandle::kill) the component, if it runs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the kill: the component ends in the background.
    pub async fn kill(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.kill().await;
        }
    }

    /// Kills the component if it runs, and starts it again. Retries for at most 5 s while its address is in use.
    ///
    /// # Errors
    ///
    /// The error of `start`. The component does not run then, and can be restarted again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the component stays killed.
    pub async fn restart(&mut self) -> Result<&ComponentHandle> {
        self.kill().await;
        let deadline = Instant::now() + RESTART_TIMEOUT;
        let handle = loop {
            match (self.start)().await {
                Err(error) if is_in_use(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(10 * POLL_INTERVAL).await;
                }
                started => break started?,
            }
        };
        Ok(self.handle.insert(handle))
    }

    /// Waits until `is_right` returns `true` for the component's counters, as [`until`] does. Cancel safe.
    ///
    /// Never completes if the component does not run.
    pub async fn until(&self, is_right: impl FnMut(&Metrics) -> bool) -> Metrics {
        match &self.handle {
            Some(handle) => until(handle, is_right).await,
            None => std::future::pending().await,
        }
    }

    /// [Shuts the component down](ComponentHandle::shutdown), if it runs.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a part failed, or the component did not drain within its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(mut self) -> Result<(), RunError> {
        match self.handle.take() {
            Some(handle) => handle.shutdown().await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Restartable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Restartable")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// Waits until `is_right` returns true for the counters of a component, and returns them.
///
/// A test can wait until a number of calls has begun, for example. Counters are polled once a millisecond, so a
/// condition on an exact value can be missed. Cancel safe.
pub async fn until(
    component: &ComponentHandle,
    mut is_right: impl FnMut(&Metrics) -> bool,
) -> Metrics {
    loop {
        let metrics = component.metrics();
        if is_right(&metrics) {
            return metrics;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns whether the error is an address that is in use.
fn is_in_use(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let error_kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if error_kind == Some(io::ErrorKind::AddrInUse) {
            return true;
        }
        cause = error.source();
    }
    false
}
