//! The state that the parts of a component share.
//!
//! Each component has one [`ComponentState`], which parts find in their `Setup`. Parts that receive, push and publish
//! coordinate through it, so that parts do not depend on each other's types.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

#[cfg(feature = "http")]
use bytes::Bytes;
#[cfg(feature = "http")]
use futures_util::future::OptionFuture;
use tokio::sync::SetOnce;

use crate::call_slots::CallSlots;
use crate::cancellation::Cancellations;
use crate::discovery::FunctionRegistry;
use crate::link::LinkOptions;
use crate::link::dispatch::no_worker;
use crate::link::server::LinkServer;
use crate::queue::QueueGauge;
use crate::socket::{Peers, SocketClosed};
use crate::trace::RecentCalls;

#[cfg(feature = "http")]
mod http_counters;
mod legacy;
mod live_settings;
mod operator_requests;
mod reporter;
mod streams;

#[cfg(feature = "http")]
pub(crate) use http_counters::{Counted, HttpCounters};
pub(crate) use legacy::{InFlightTasks, OnDemand, OnDemandSocket, OverdueTasks, PushedTasks};
pub(crate) use live_settings::LiveSettings;
pub(crate) use operator_requests::OperatorRequestError;
use reporter::OpenedConnection;
pub(crate) use reporter::{Reporter, host_name};
pub(crate) use streams::{FollowedStreams, StreamId};

/// The state that the parts of a component share.
pub(crate) struct ComponentState {
    /// The legacy clients at the PULL socket, if the component has one.
    pub(crate) callers: OnceLock<Peers>,
    /// Set if the component has workers: the legacy ones at the PUSH socket, or `None` with links only.
    pub(crate) workers: OnceLock<Option<Peers>>,
    /// The legacy subscribers at the PUB socket, if the component has one.
    pub(crate) followers: OnceLock<Peers>,
    /// Set when all parts run.
    pub(crate) reporter: SetOnce<Reporter>,
    /// The components that this one is connected to, to report them.
    connections: Mutex<Vec<OpenedConnection>>,
    pub(crate) outstanding: InFlightTasks,
    /// The slots of calls, which calls lend while they wait for other calls of this component.
    pub(crate) slots: Arc<CallSlots>,
    pub(crate) functions: FunctionRegistry,
    pub(crate) streams: FollowedStreams,
    pub(crate) cancellations: Arc<Cancellations>,
    /// The calls that the component remembers.
    pub(crate) recent: Arc<RecentCalls>,
    pub(crate) links: LinkServer,
    /// The unacknowledged tasks of legacy workers, if they are redelivered (`ack_wait`).
    pub(crate) pushed: Option<Mutex<PushedTasks>>,
    pub(crate) unassigned: UnassignedTasks,
    pub(crate) on_demand: OnDemand,
    /// What HTTP gateways count.
    #[cfg(feature = "http")]
    pub(crate) http: Arc<HttpCounters>,
}

/// Counts the tasks that wait because no worker is connected.
#[derive(Debug, Default)]
pub(crate) struct UnassignedTasks {
    /// Tasks that the pushing part has received.
    tasks: AtomicUsize,
    /// The queue of tasks that the pushing part has not received yet.
    upstream: OnceLock<QueueGauge>,
}

/// Tasks count as waiting until this is dropped.
#[derive(Debug)]
pub(crate) struct UnassignedGuard<'a>(&'a UnassignedTasks);

impl UnassignedTasks {
    /// Sets the queue upstream of the pushing part. Only the first call has an effect.
    pub(crate) fn set_upstream(&self, queue: QueueGauge) {
        let _ = self.upstream.set(queue);
    }

    pub(crate) fn hold(&self, tasks: usize) -> UnassignedGuard<'_> {
        self.tasks.store(tasks, Ordering::Relaxed);
        UnassignedGuard(self)
    }

    fn count(&self) -> usize {
        match self.tasks.load(Ordering::Relaxed) {
            0 => 0,
            tasks => tasks + self.upstream.get().map_or(0, QueueGauge::messages),
        }
    }
}

impl Drop for UnassignedGuard<'_> {
    fn drop(&mut self) {
        self.0.tasks.store(0, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for ComponentState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ComponentState");
        shown.finish_non_exhaustive()
    }
}

impl ComponentState {
    pub(crate) fn new(links: LinkOptions) -> Self {
        Self {
            callers: OnceLock::new(),
            workers: OnceLock::new(),
            followers: OnceLock::new(),
            reporter: SetOnce::new(),
            connections: Mutex::default(),
            outstanding: InFlightTasks::default(),
            slots: Arc::default(),
            functions: FunctionRegistry::default(),
            streams: FollowedStreams::default(),
            cancellations: Arc::default(),
            recent: Arc::default(),
            pushed: links
                .ack_wait
                .map(|limit| Mutex::new(PushedTasks::new(limit, links.max_deliver))),
            links: LinkServer::new(links),
            unassigned: UnassignedTasks::default(),
            on_demand: OnDemand::default(),
            #[cfg(feature = "http")]
            http: Arc::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<OpenedConnection>> {
        self.connections.lock()
    }

    /// Returns why calls wait for workers, if any do.
    pub(crate) fn wait_cause(&self) -> Option<String> {
        match self.unassigned.count() {
            0 => self.links.wait_cause(),
            calls => Some(no_worker(calls)),
        }
    }

    /// Returns the unacknowledged tasks of legacy workers, if they are redelivered.
    pub(crate) fn pushed(&self) -> Option<MutexGuard<'_, PushedTasks>> {
        Some(self.pushed.as_ref()?.lock())
    }

    /// Returns whether the component sends tasks to workers.
    pub(crate) fn has_workers(&self) -> bool {
        self.workers.get().is_some()
    }

    /// Returns the legacy workers at the PUSH socket, if the component has one.
    fn legacy_workers(&self) -> Option<&Peers> {
        self.workers.get()?.as_ref()
    }

    /// Returns a number that changes when a worker connects or disconnects.
    #[cfg(feature = "http")]
    pub(crate) fn workers_generation(&self) -> u64 {
        let pushed_to = self.legacy_workers().map_or(0, Peers::generation);
        pushed_to.wrapping_add(self.links.generation())
    }

    /// Waits until a worker is connected. Returns immediately if the component has no workers. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn worker_connected(&self) -> Result<(), SocketClosed> {
        if !self.has_workers() {
            return Ok(());
        }
        tokio::select! {
            Some(connected) = OptionFuture::from(self.legacy_workers().map(Peers::connected)) => connected,
            () = self.links.connected() => Ok(()),
        }
    }

    /// Returns whether a legacy worker is connected.
    pub(crate) fn any_legacy_worker(&self) -> bool {
        self.legacy_workers()
            .is_some_and(|pushed_to| pushed_to.any().unwrap_or(false))
    }

    /// Returns whether a worker may run the function of `task`: `false` if all connected workers have registered their
    /// functions, and none has registered this one. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn may_run(&self, task: &Bytes) -> bool {
        // Legacy workers register nothing.
        !self.has_workers() || self.links.may_run(task).await || self.any_legacy_worker()
    }

    /// Returns whether a worker is connected.
    pub(crate) fn any_worker(&self) -> Result<bool, SocketClosed> {
        if self.links.workers() > 0 {
            return Ok(true);
        }
        match self.legacy_workers() {
            Some(pushed_to) => pushed_to.any(),
            None => Ok(false),
        }
    }
}
