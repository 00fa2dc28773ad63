//! [`ComponentHandle`]: a component that runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::CacheHealth;
use crate::component_error::RunError;
use crate::component_state::ComponentState;
use crate::metrics::{ComponentCounters, Metrics};
use crate::socket::Kill;

/// A component that runs. Dropping the handle tells it to stop: it drains in the background.
#[must_use = "dropping the handle stops the component"]
#[derive(Debug)]
pub struct ComponentHandle {
    pub(super) name: String,
    pub(super) addresses: BTreeMap<String, String>,
    pub(super) counters: Arc<ComponentCounters>,
    pub(super) shared: Arc<ComponentState>,
    pub(super) cache_health: Arc<CacheHealth>,
    pub(super) stop: CancellationToken,
    pub(super) kill: Kill,
    /// Cancelled when nothing of it runs any more.
    pub(super) has_ended: CancellationToken,
    pub(super) outcome: JoinHandle<Result<(), RunError>>,
}

impl ComponentHandle {
    /// The component's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of the cache service: the one that clients and workers need.
    ///
    /// # Panics
    ///
    /// When the component has no cache service, as a worker, or a template without that part.
    pub fn db_address(&self) -> &str {
        self.address("db_address")
            .expect("the component has no cache service, hence no `db_address`")
    }

    /// The address that is announced under `key`, e.g. `pull_address`, with its real port.
    ///
    /// A socket for legacy peers whose address was not given is bound when a peer asks for it, or when this is
    /// called: soon after it returns. Peers may connect to it at once, since they try again.
    pub fn address(&self, key: &str) -> Option<&str> {
        self.shared.on_demand.bind_soon(key);
        self.addresses.get(key).map(String::as_str)
    }

    /// All addresses that are announced, by key; their sockets are bound as by [`address`](Self::address).
    pub fn addresses(&self) -> &BTreeMap<String, String> {
        for key in self.addresses.keys() {
            self.shared.on_demand.bind_soon(key);
        }
        &self.addresses
    }

    /// What the component has counted until now.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot(self.shared.links.sessions())
    }

    /// Why the store of the component's cache fails, as its log says once: with the file or server, and what
    /// to do. `None` while the last requests of each kind, to read, set, delete and watch, were carried out.
    ///
    /// Each request that fails ends with that error as well. A worker's methods use the cache of its master.
    pub fn cache_failure(&self) -> Option<String> {
        self.cache_health.failure()
    }

    /// Waits until it is connected to all that it follows; a worker, to its master. Cancel safe.
    pub(crate) async fn in_place(&self) {
        self.shared.streams.in_place().await;
    }

    /// Tells the component to stop: it takes nothing new, finishes and delivers what it has, within
    /// its drain limit, and ends.
    ///
    /// # Errors
    ///
    /// [`RunError`] when a part failed, or the component was not done in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the component go on to stop.
    pub async fn shutdown(self) -> Result<(), RunError> {
        self.stop.cancel();
        self.join().await
    }

    /// Ends the component at once, as if its process had died: for tests of what others do then. Its
    /// addresses are free when this returns.
    ///
    /// What is in its queues, hands and sockets is lost: messages that it has taken are not finished,
    /// answers that were not on the network yet are not sent, nobody is told that it goes, and a cache
    /// in memory is gone unless a store of yours holds it. What threads do goes on, and comes to nothing:
    /// methods that are `blocking`, and the changes that a store in a file was given. A method that does
    /// not await is waited for, for at most the [drain limit](crate::component::Builder::drain_limit).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the component ends in the background.
    pub async fn kill(mut self) {
        self.kill.order();
        let _ = self.ended().await;
    }

    /// Waits until the component stops by itself: at its limit of messages, or because a part failed.
    ///
    /// # Errors
    ///
    /// [`RunError`] when a part failed, or the component was not done in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component, as dropping the handle does.
    pub async fn join(mut self) -> Result<(), RunError> {
        self.ended().await
    }

    /// [`join`](Self::join), without giving the handle away. Cancel safe; not to be awaited again
    /// after it is done.
    pub(super) async fn ended(&mut self) -> Result<(), RunError> {
        match (&mut self.outcome).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being shut down, and everything with it.
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
