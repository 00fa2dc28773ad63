//! The state of a cluster as `palm ps` shows it.

use std::time::Duration;

use palm_plan::InstanceId;
use palm_plan::kind::Kind;
use serde::{Deserialize, Serialize};

use super::machine::RUNNING;
use super::{Goal, Supervisor, Time};

/// The state of a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The name of the cluster.
    pub cluster: String,
    /// The process id of the runner.
    pub runner_pid: u32,
    /// The version of the runner.
    pub runner_version: String,
    /// How often the runner was replaced by another version.
    pub upgrades: u32,
    /// Whether the cluster is stopping.
    pub stopping: bool,
    /// All instances, by component and number.
    pub instances: Vec<InstanceStatus>,
    /// The rolling restart that is under way or was the last.
    pub rolling: RollingStatus,
    /// What an operator has to know about the runner itself, such as a full disk.
    pub problems: Vec<String>,
}

/// The state of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The instance, such as `worker/2`.
    pub id: InstanceId,
    /// The kind of its component.
    pub kind: Kind,
    /// `pending`, `starting`, `running` (a job), `ready`, `not ready`, `draining`, `backoff`, `stopped`, `completed` or
    /// `failed`.
    pub state: String,
    /// Whether the state is what is wanted.
    pub settled: bool,
    /// Why it is in this state: a sentence without a subject and without a full stop.
    pub why: String,
    /// Time in this state, in milliseconds.
    pub since_ms: u64,
    /// The process.
    pub pid: Option<u32>,
    /// The number of the run, from 1; 0 before the first.
    pub run: u32,
    /// Runs that ended on their own since the runner began.
    pub exits: u32,
    /// Consecutive failed runs.
    pub failures: u32,
    /// How the last run ended that was not asked to end.
    pub last_failure: Option<String>,
    /// Processor time of the process and its descendants, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Resident memory of the process and its descendants, in bytes.
    pub memory_bytes: Option<u64>,
}

/// The state of a rolling restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RollingStatus {
    /// The instance that restarts.
    pub current: Option<InstanceId>,
    /// Instances that wait for their turn.
    pub waiting: u32,
    /// Instances that were restarted.
    pub done: u32,
    /// Why the rolling restart ended early.
    pub failure: Option<String>,
}

impl InstanceStatus {
    /// Returns whether the instance is ready, or has completed.
    pub fn is_ready(&self) -> bool {
        matches!(&*self.state, "ready" | "completed")
    }

    /// Returns whether the instance is a job that runs.
    pub fn is_running(&self) -> bool {
        self.state == RUNNING
    }
}

impl Supervisor {
    /// Returns the state of all instances, without facts about processes.
    pub fn statuses(&self, now: Time) -> Vec<InstanceStatus> {
        let status = |(id, it): (&InstanceId, &super::machine::Supervised)| InstanceStatus {
            id: id.clone(),
            kind: it.instance.kind,
            state: it.state().to_owned(),
            settled: match it.goal {
                Goal::Run => it.is_ready() && !it.restart,
                Goal::Stop | Goal::Remove => it.phase.process().is_none(),
            },
            why: self.why(id, now),
            since_ms: millis(now.saturating_sub(it.since)),
            pid: it.phase.process().and_then(|process| process.pid),
            run: it.run,
            exits: it.exits,
            failures: it.failures,
            last_failure: it.last_failure.as_ref().map(ToString::to_string),
            cpu_ms: None,
            memory_bytes: None,
        };
        self.instances.iter().map(status).collect()
    }

    /// Returns the state of the rolling restart.
    pub fn rolling_status(&self) -> RollingStatus {
        let rolling = &self.rolling;
        RollingStatus {
            current: rolling.current.as_ref().map(|(id, _)| id.clone()),
            waiting: u32::try_from(rolling.waiting.len()).unwrap_or(u32::MAX),
            done: rolling.done,
            failure: rolling.failure.clone(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
