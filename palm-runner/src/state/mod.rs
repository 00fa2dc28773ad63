//! Which process should run, and which does: a state machine without I/O and without a clock.
//!
//! The state of an instance is compared with its goal at every [`Supervisor::tick`] (level-triggered), so that a lost
//! or repeated event cannot leave an instance behind: an instance that waits for another one looks at its present state.
//!
//! ```text
//! pending → starting → ready ⇄ not ready → draining → stopped
//!    ↑         │         │        │           │
//!    └─────── backoff ←──┴────────┴───────────┘         completed, failed
//! ```
//!
//! The owner calls [`tick`](Supervisor::tick), carries out the returned [`Action`]s, and reports what happened:
//! [`started`](Supervisor::started) or [`start_failed`](Supervisor::start_failed) for each [`Action::Start`], then
//! [`exited`](Supervisor::exited) once the process and its descendants have ended. An instance has at most one process.

mod exit;
mod machine;
mod rolling;
mod sentence;
mod status;
mod supervisor;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod tick;

use std::time::Duration;

use palm_plan::InstanceId;
use serde::{Deserialize, Serialize};

pub use exit::{Exit, ExitKind};
pub(crate) use machine::WATCHDOG_TIMEOUT;
pub use machine::{Goal, Phase, Process};
pub use status::{ClusterStatus, InstanceStatus, RollingStatus};
pub(crate) use supervisor::TICK_INTERVAL;
pub use supervisor::{Stopped, Supervisor};

/// Monotonic time since an arbitrary begin, which remains the same when the runner executes itself again.
pub type Time = Duration;

/// What the owner of a [`Supervisor`] has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a process, and report its id.
    Start {
        /// The instance.
        id: InstanceId,
        /// The number of the run, from 1.
        run: u32,
    },
    /// Send SIGTERM to the process group.
    Terminate {
        /// The instance.
        id: InstanceId,
        /// The leader of the group.
        pid: u32,
    },
    /// Send SIGKILL to the process group.
    Kill {
        /// The instance.
        id: InstanceId,
        /// The leader of the group.
        pid: u32,
    },
    /// The instance was removed; nothing of it runs.
    Forget {
        /// The instance.
        id: InstanceId,
    },
}

/// The state of an instance has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The instance.
    pub id: InstanceId,
    /// The run, 0 before the first.
    pub run: u32,
    /// The new state, such as `ready`.
    pub state: String,
    /// Why, as a sentence without a full stop.
    pub why: String,
}
