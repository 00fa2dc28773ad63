//! What a master has only for legacy workers.
//!
//! They share one PUSH socket, which knows neither their load nor what became of their tasks. So [`LegacyWorkers`]
//! estimates their load from the tasks in flight, and sends a task again that has no result within `ack_wait`, if that is
//! set. [`count_results`] counts the results that arrive at the PULL socket. With `links_only` there is none of it.

mod push;
mod results;

pub(super) use push::redeliver;
pub(super) use results::count_results;

use crate::component_state::ComponentState;
use crate::link::dispatch::WorkerReach;
use crate::metrics::PartCounters;
use crate::socket::{Push, SocketClosed};

/// Maximum number of tasks per legacy worker while other workers have links. Legacy workers report no capacity.
pub(super) const MAX_TASKS_PER_LEGACY_WORKER: u64 = 16;

/// The legacy workers of a master.
pub(super) struct LegacyWorkers<'a> {
    socket: &'a Push,
    state: &'a ComponentState,
    counters: &'a PartCounters,
    /// The generation of the socket's peers when they were counted.
    counted: Option<u64>,
    count: u64,
    turn: u64,
}

impl<'a> LegacyWorkers<'a> {
    pub(super) fn new(
        socket: &'a Push,
        state: &'a ComponentState,
        counters: &'a PartCounters,
    ) -> Self {
        Self {
            socket,
            state,
            counters,
            counted: None,
            count: 0,
            turn: 0,
        }
    }

    /// Returns how many were connected at the last [`refresh`](Self::refresh).
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Counts them if any has connected or disconnected. Returns whether that is so.
    pub(super) fn refresh(&mut self) -> Result<bool, SocketClosed> {
        let peers = self.socket.peers();
        let generation = peers.generation();
        let is_new = self.counted != Some(generation);
        if is_new {
            self.count = peers.count()? as u64;
            self.counted = Some(generation);
        }
        Ok(is_new)
    }

    /// Waits until one is connected. Cancel safe.
    pub(super) async fn connected(&self) -> Result<(), SocketClosed> {
        self.socket.peers().connected().await
    }

    /// Returns whether one of them may have capacity for a further task.
    pub(super) fn have_capacity(&self) -> bool {
        self.state.outstanding.tasks() < MAX_TASKS_PER_LEGACY_WORKER * self.count
    }

    /// Returns whether one of them receives the next task, and not a worker with a link: the least loaded does, and ties
    /// are broken in turn. There must be at least one.
    pub(super) fn take_turn(&mut self, reach: WorkerReach) -> bool {
        let WorkerReach::Load(load) = reach else {
            return true;
        };
        self.turn = self.turn.wrapping_add(1);
        let tasks = self.state.outstanding.tasks();
        match (tasks / self.count).cmp(&(load as u64)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.turn.is_multiple_of(2),
            std::cmp::Ordering::Greater => false,
        }
    }
}
