//! [`Restartable`]: a component that is killed and comes back.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::Instant;

use crate::component::{ComponentHandle, RunError};
use crate::metrics::Metrics;
use crate::{Error, Result};

/// How long a component that comes back may wait for its address: another program may use it for a
/// moment, or the system still closes it.
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);

/// How often counters are read; nothing tells of them.
const LOOK: Duration = Duration::from_millis(1);

/// A component that can be killed and started again. Dropping it tells the component to stop.
pub struct Restartable {
    start: Box<dyn FnMut() -> BoxFuture<'static, Result<ComponentHandle>> + Send>,
    handle: Option<ComponentHandle>,
}

impl Restartable {
    /// Starts the component; `start` is called again at each [`restart`](Self::restart).
    ///
    /// A component with clients should come back at the same `db_address`: bind it to a fixed port, or let
    /// peers connect to a [`FaultProxy`](super::FaultProxy), which [leads](super::FaultProxy::set_target) to the new one then.
    ///
    /// # Errors
    ///
    /// What `start` fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing running, as far as `start` does.
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

    /// The component that runs; `None` after a [`kill`](Self::kill).
    pub fn handle(&self) -> Option<&ComponentHandle> {
        self.handle.as_ref()
    }

    /// [Kills](ComponentHandle::kill) the component, if it runs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the component ends in the background.
    pub async fn kill(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.kill().await;
        }
    }

    /// Starts the component anew; one that runs is killed before. Where its address is still in use it
    /// tries again, for at most 5 s.
    ///
    /// # Errors
    ///
    /// What `start` fails with. The component is dead then, and may be restarted again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the component dead.
    pub async fn restart(&mut self) -> Result<&ComponentHandle> {
        self.kill().await;
        let deadline = Instant::now() + ADDRESS_LIMIT;
        let handle = loop {
            match (self.start)().await {
                Err(error) if is_in_use(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(10 * LOOK).await;
                }
                started => break started?,
            }
        };
        Ok(self.handle.insert(handle))
    }

    /// Waits until the component's counters are as they should be, as [`until`] does. For ever, when it
    /// is dead. Cancel safe.
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
    /// [`RunError`] when a part failed, or the component was not done in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the component go on to stop.
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

/// Waits until the counters of a component are as they should be, and returns them: e.g. until it has
/// begun so many calls of a function. They are read once a millisecond, so there may be more by then.
/// Cancel safe.
pub async fn until(
    component: &ComponentHandle,
    mut is_right: impl FnMut(&Metrics) -> bool,
) -> Metrics {
    loop {
        let metrics = component.metrics();
        if is_right(&metrics) {
            return metrics;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether an address is taken.
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
