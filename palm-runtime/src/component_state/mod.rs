//! The state that the parts of a component share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

#[cfg(feature = "http")]
use bytes::Bytes;

use crate::cancel::Cancellations;
use crate::discovery::FunctionRegistry;
use crate::link::LinkOptions;
use crate::link::accept::Links;
use crate::link::reports::no_worker;
use crate::places::Places;
use crate::queue::QueueGauge;
use crate::socket::{Peers, SocketClosed};

mod in_flight;
mod on_demand;
mod redelivery;
mod streams;

pub(crate) use in_flight::InFlightTasks;
pub(crate) use on_demand::{OnDemand, OnDemandSocket};
pub(crate) use redelivery::{OverdueTasks, PushedTasks};
pub(crate) use streams::FollowedStreams;

/// What the parts of a component know of each other.
#[derive(Debug)]
pub(crate) struct ComponentState {
    /// Who pushes messages to the component, where anybody does.
    pub(crate) callers: OnceLock<Peers>,
    /// Who is given tasks, where anybody is.
    pub(crate) workers: OnceLock<Peers>,
    pub(crate) outstanding: InFlightTasks,
    /// The places that calls lend while they wait for other calls of this component.
    pub(crate) places: Arc<Places>,
    pub(crate) functions: FunctionRegistry,
    pub(crate) streams: FollowedStreams,
    pub(crate) cancellations: Cancellations,
    pub(crate) links: Links,
    /// Tasks of workers without a link, where those are given to others after a while.
    pub(crate) pushed: Option<Mutex<PushedTasks>>,
    pub(crate) unassigned: UnassignedTasks,
    pub(crate) on_demand: OnDemand,
}

/// Tasks that wait because no worker is connected at all.
#[derive(Debug, Default)]
pub(crate) struct UnassignedTasks {
    /// Those that the part that gives tasks has accepted.
    tasks: AtomicUsize,
    /// The queue in which further ones wait.
    upstream: OnceLock<QueueGauge>,
}

/// While this is held, tasks wait.
#[derive(Debug)]
pub(crate) struct UnassignedGuard<'a>(&'a UnassignedTasks);

impl UnassignedTasks {
    /// Further tasks wait in this queue. Of several the first one counts.
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

impl ComponentState {
    pub(crate) fn new(links: LinkOptions) -> Self {
        Self {
            callers: OnceLock::new(),
            workers: OnceLock::new(),
            outstanding: InFlightTasks::default(),
            places: Arc::default(),
            functions: FunctionRegistry::default(),
            streams: FollowedStreams::default(),
            cancellations: Cancellations::default(),
            pushed: links
                .ack_wait
                .map(|limit| Mutex::new(PushedTasks::new(limit, links.max_deliver))),
            links: Links::new(links),
            unassigned: UnassignedTasks::default(),
            on_demand: OnDemand::default(),
        }
    }

    /// Why calls wait for workers, if any do.
    pub(crate) fn wait_cause(&self) -> Option<String> {
        match self.unassigned.count() {
            0 => self.links.wait_cause(),
            calls => Some(no_worker(calls)),
        }
    }

    /// Tasks of workers without a link, where those are given to others after a while.
    pub(crate) fn pushed(&self) -> Option<MutexGuard<'_, PushedTasks>> {
        let pushed = self.pushed.as_ref()?.lock();
        Some(pushed.unwrap_or_else(PoisonError::into_inner))
    }

    /// A number that changes with each worker that comes or goes.
    #[cfg(feature = "http")]
    pub(crate) fn workers_generation(&self) -> u64 {
        let pushed_to = self.workers.get().map_or(0, Peers::generation);
        pushed_to.wrapping_add(self.links.generation())
    }

    /// Waits until a worker is connected, where there can be any. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn worker_connected(&self) -> Result<(), SocketClosed> {
        let Some(pushed_to) = self.workers.get() else {
            return Ok(());
        };
        tokio::select! {
            connected = pushed_to.connected() => connected,
            () = self.links.connected() => Ok(()),
        }
    }

    /// Whether a worker without a link is connected. Cancel safe.
    pub(crate) async fn any_legacy_worker(&self) -> bool {
        match self.workers.get() {
            Some(pushed_to) => pushed_to.any().await.unwrap_or(false),
            None => false,
        }
    }

    /// Whether a worker may run the function of `task`: `false` if all workers that are connected have registered their
    /// functions, and none this one. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn may_run(&self, task: &Bytes) -> bool {
        // Legacy workers register nothing.
        let has_workers = self.workers.get().is_some();
        !has_workers || self.links.may_run(task).await || self.any_legacy_worker().await
    }

    /// Whether a worker is connected. Cancel safe.
    pub(crate) async fn any_worker(&self) -> Result<bool, SocketClosed> {
        if self.links.workers() > 0 {
            return Ok(true);
        }
        match self.workers.get() {
            Some(pushed_to) => pushed_to.any().await,
            None => Ok(false),
        }
    }
}
