//! Least-loaded scheduling between workers with links and legacy workers.
//!
//! The dispatch of links knows the load of its workers. Legacy workers share one PUSH socket and report nothing, so
//! their load is the number of tasks in flight by their number.

use crate::component_state::InFlightTasks;
use crate::link::dispatch::WorkerReach;
use crate::socket::{Push, SocketClosed};

/// Maximum number of tasks per legacy worker while other workers have links. Legacy workers report no capacity.
pub(super) const MAX_TASKS_PER_LEGACY_WORKER: u64 = 16;

/// The legacy workers, for scheduling between them and workers with links.
#[derive(Debug, Default)]
pub(super) struct LegacyWorkers {
    /// The generation of the socket's peers when they were counted.
    pub(super) seen: Option<u64>,
    pub(super) count: u64,
    pub(super) turn: u64,
}

impl LegacyWorkers {
    /// Counts the legacy workers if any has connected or disconnected. Returns whether that is so.
    pub(super) async fn refresh(&mut self, push: &Push) -> Result<bool, SocketClosed> {
        let peers = push.peers();
        let generation = peers.generation();
        let is_new = self.seen != Some(generation);
        if is_new {
            self.count = peers.count()? as u64;
            self.seen = Some(generation);
        }
        Ok(is_new)
    }

    pub(super) fn have_capacity(&self, outstanding: &InFlightTasks) -> bool {
        outstanding.tasks() < MAX_TASKS_PER_LEGACY_WORKER * self.count
    }

    /// Returns whether a legacy worker receives the next task, and not a worker with a link: the least loaded does, and
    /// ties are broken in turn.
    pub(super) fn take_turn(&mut self, outstanding: &InFlightTasks, reach: WorkerReach) -> bool {
        let WorkerReach::Load(load) = reach else {
            return true;
        };
        self.turn = self.turn.wrapping_add(1);
        match (outstanding.tasks() / self.count).cmp(&(load as u64)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.turn.is_multiple_of(2),
            std::cmp::Ordering::Greater => false,
        }
    }
}
