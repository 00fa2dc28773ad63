//! [`ComponentHandle`]: a running component.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::CacheHealth;
use crate::component_error::RunError;
use crate::component_state::ComponentState;
use crate::metrics::Metrics;
use crate::report::{Report, ReportRequest};
use crate::socket::Kill;

/// A running component. Dropping the handle stops the component, which drains in the background.
#[must_use = "dropping the handle stops the component"]
pub struct ComponentHandle {
    pub(super) name: String,
    pub(super) addresses: BTreeMap<String, String>,
    pub(super) state: Arc<ComponentState>,
    pub(super) cache_health: Arc<CacheHealth>,
    pub(super) stop: CancellationToken,
    pub(super) kill: Kill,
    /// Cancelled when all of its parts have ended.
    pub(super) has_ended: CancellationToken,
    pub(super) outcome: JoinHandle<Result<(), RunError>>,
}

/// The readiness of a component, which may end before this.
#[cfg(feature = "main")]
#[derive(Debug)]
pub(crate) struct ComponentReadiness {
    name: String,
    state: Arc<ComponentState>,
}

#[cfg(feature = "main")]
impl ComponentReadiness {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns why the component is not ready, as a sentence without a subject; `None` if it is.
    pub(crate) fn unready_cause(&self) -> Option<String> {
        self.state.unready_cause()
    }
}

impl std::fmt::Debug for ComponentHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ComponentHandle");
        shown.field("name", &self.name);
        shown.field("addresses", &self.addresses);
        shown.finish_non_exhaustive()
    }
}

impl ComponentHandle {
    /// Returns the component's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address of the cache service, which clients and workers connect to.
    ///
    /// # Panics
    ///
    /// If the component has no cache service: it is a worker, or a template without that part.
    pub fn db_address(&self) -> &str {
        self.address("db_address")
            .expect("the component has no cache service, hence no `db_address`")
    }

    /// Returns the address that is announced under `key`, such as `pull_address`, with its actual port.
    ///
    /// A socket for legacy peers whose address is not configured is bound when a peer requests it, or soon after this
    /// was called. Peers may connect at once, since they retry.
    pub fn address(&self, key: &str) -> Option<&str> {
        self.state.on_demand.bind_soon(key);
        self.addresses.get(key).map(String::as_str)
    }

    /// Returns all announced addresses by key. Their sockets are bound as by [`address`](Self::address).
    pub fn addresses(&self) -> &BTreeMap<String, String> {
        for key in self.addresses.keys() {
            self.state.on_demand.bind_soon(key);
        }
        &self.addresses
    }

    /// Returns the state of the component, its parts, functions and peers: what `palm inspect` shows.
    ///
    /// If no report was requested in the last 30 s, a master or hub first asks its workers for theirs, and waits for them
    /// for half a second at most.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn report(&self) -> Report {
        self.state.report(&ReportRequest::default()).await
    }

    /// Returns the counters of the component: an extract of its [`report`](Self::report).
    pub fn metrics(&self) -> Metrics {
        let counters = self.state.reporter.get().map(|it| &it.counters);
        let (parts, functions) = counters.map(|it| it.report()).unwrap_or_default();
        Metrics::new(parts, functions, self.state.links.sessions())
    }

    /// Returns the current failure of the cache's store: the file or server, the cause, and a remedy.
    ///
    /// `None` if the last read, write, deletion and watch have succeeded. The failure is also logged once, and returned
    /// by each request that fails. The methods of a worker use the cache of its master.
    pub fn cache_failure(&self) -> Option<String> {
        self.cache_health.failure()
    }

    /// Waits until the component is connected to all of its upstream components. Cancel safe.
    #[cfg(any(feature = "main", feature = "testing"))]
    pub(crate) fn in_place(&self) -> impl Future<Output = ()> + Send + 'static {
        let state = self.state.clone();
        async move { state.streams.in_place().await }
    }

    /// Returns the readiness of the component, which outlives the handle.
    #[cfg(feature = "main")]
    pub(crate) fn readiness(&self) -> ComponentReadiness {
        ComponentReadiness {
            name: self.name.clone(),
            state: self.state.clone(),
        }
    }

    /// Stops the component, and returns once it has ended.
    ///
    /// The component drains: it accepts no further messages, and finishes and delivers those that it has within its
    /// drain limit.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a part failed, or the component did not drain within its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(self) -> Result<(), RunError> {
        self.stop.cancel();
        self.join().await
    }

    /// Ends the component at once, as if its process had crashed. Meant for tests of the other components.
    ///
    /// Its addresses are free when this returns. Accepted messages and unsent answers are lost, peers are not notified,
    /// and a cache in memory is lost unless the program holds its store. `blocking` methods and the writes of a file
    /// store continue in their threads, and their results are dropped. A method that does not await is waited for, at
    /// most for the [drain limit](crate::component::Builder::drain_limit).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the kill: the component ends in the background.
    pub async fn kill(mut self) {
        self.kill.order();
        let _ = self.ended().await;
    }

    /// Waits until the component stops by itself, at its limit of messages or because a part failed.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a part failed, or the component did not drain within its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component, as dropping the handle does.
    pub async fn join(mut self) -> Result<(), RunError> {
        self.ended().await
    }

    /// Waits until the component has ended, without consuming the handle. Cancel safe. Must not be awaited again once it
    /// was ready.
    pub(crate) async fn ended(&mut self) -> Result<(), RunError> {
        match (&mut self.outcome).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and has aborted the task.
                Err(_) => Ok(()),
            },
        }
    }
}

impl Drop for ComponentHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
