//! What is sent over the socket of the runner.

use std::path::PathBuf;

use palm_plan::{Instance, InstanceId, LogLimits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::ClusterStatus;

/// The version of the interface. A runner answers requests of its own version.
pub const VERSION: u32 = 1;

/// A request as it is sent: one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// The request, of that version.
    pub request: Value,
}

/// A request to the runner. It is answered by one [`Answer`], unless it says otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// The state of the cluster, with facts about its processes.
    Status,
    /// The state of the cluster now and after each change, without facts about processes, until the client leaves.
    Watch,
    /// The instances that should run.
    Wanted,
    /// Sets the instances that should run. Stopped and failed ones start again.
    Apply(Wanted),
    /// Sets the instances that should run. Stopped and failed ones remain as they are.
    Scale(Wanted),
    /// Restarts instances. Stopped ones start.
    Restart {
        /// The instances.
        ids: Vec<InstanceId>,
        /// Whether each has to be ready before the next one restarts.
        rolling: bool,
    },
    /// Drains and stops instances, until they are restarted or the file is applied again.
    Stop {
        /// The instances.
        ids: Vec<InstanceId>,
    },
    /// Drains and stops all instances, and ends the runner.
    Down {
        /// Whether processes are killed at once.
        kill: bool,
    },
    /// Replaces the runner by another version of itself. Components continue.
    Upgrade {
        /// The command `palm`.
        executable: PathBuf,
    },
}

/// The instances that should run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// The instances.
    pub instances: Vec<Instance>,
    /// What the client needs to know when it plans again, such as addresses. The runner keeps it.
    pub notes: Value,
    /// How large and how old their log files become.
    #[serde(default)]
    pub log_limits: LogLimits,
    /// The number of the last change. A change is refused if another one came first.
    pub revision: u64,
}

/// An answer of the runner: one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The request is carried out; what comes of it is part of the state.
    Done,
    /// The state of the cluster.
    Status(ClusterStatus),
    /// The instances that should run.
    Wanted(Wanted),
    /// The request is refused. The text says why and what to do.
    Refused(String),
}
