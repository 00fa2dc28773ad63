//! The state of one instance.

use std::time::Duration;

use palm_plan::instance::{Instance, Readiness, RestartPolicy};
use serde::{Deserialize, Serialize};

use super::text::seconds;
use super::{Exit, Time};

/// Time without `WATCHDOG=1` after which a process counts as hung. Processes read it from `WATCHDOG_USEC`.
pub(crate) const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(30);

/// The state of a job whose process runs.
pub(super) const RUNNING: &str = "running";

/// What an instance should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Run, and be restarted by its policy.
    Run,
    /// Drain and stop, but remain in the list.
    Stop,
    /// Drain and stop, and be forgotten.
    Remove,
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `None` until the owner has reported the start.
    pub(super) pid: Option<u32>,
    pub(super) started_at: Time,
    /// The text of `STATUS=`.
    pub(super) status: Option<String>,
    /// The last `WATCHDOG=1`. Processes that have never sent one are not watched.
    pub(super) heard_at: Option<Time>,
    pub(super) terminated: Option<Termination>,
}

/// A process has received SIGTERM, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Termination {
    pub(super) reason: Reason,
    pub(super) kill_at: Time,
    pub(super) killed: bool,
}

/// Why a process is terminated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reason {
    /// The instance is to stop.
    Stop,
    /// The instance is to restart.
    Restart,
    /// It was not ready in time, which counts as a failure.
    NotReady(String),
    /// It has sent no `WATCHDOG=1` in time, which counts as a failure.
    Watchdog,
}

/// The phase of an instance. Each but `Starting` to `Draining` is one without a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It has not begun, or waits for other components.
    Pending,
    /// Its process runs and is not ready yet.
    Starting(Process),
    /// Its process is ready.
    Ready(Process),
    /// Its process was ready and is not at present.
    NotReady(Process, String),
    /// Its process was asked to stop.
    Draining(Process),
    /// Its process ended; it starts again at this time.
    Backoff {
        /// The time of the next start.
        until: Time,
    },
    /// It was stopped.
    Stopped,
    /// It ended successfully and is not to be started again.
    Completed,
    /// It ended, and is not started again before a person wishes it.
    Failed,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting(_) => "starting",
            Self::Ready(_) => "ready",
            Self::NotReady(..) => "not ready",
            Self::Draining(_) => "draining",
            Self::Backoff { .. } => "backoff",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Returns the process, if there is one.
    pub fn process(&self) -> Option<&Process> {
        match self {
            Self::Starting(process)
            | Self::Ready(process)
            | Self::NotReady(process, _)
            | Self::Draining(process) => Some(process),
            _ => None,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match self {
            Self::Starting(process)
            | Self::Ready(process)
            | Self::NotReady(process, _)
            | Self::Draining(process) => Some(process),
            _ => None,
        }
    }
}

/// An instance and what is known about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Supervised {
    /// How it is started the next time.
    pub(super) instance: Instance,
    pub(super) goal: Goal,
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    pub(super) since: Time,
    /// Its process has to be replaced.
    pub(super) restart: bool,
    /// The number of the last run, 0 before the first.
    pub(super) run: u32,
    /// Runs that ended on their own since the runner began.
    pub(super) exits: u32,
    /// Consecutive runs that failed.
    pub(super) failures: u32,
    /// How the last run ended.
    pub(super) last_exit: Option<Exit>,
    /// How the last run ended that was not asked to.
    pub(super) last_failure: Option<Exit>,
}

impl Supervised {
    pub(super) fn new(instance: Instance, run: u32, now: Time) -> Self {
        Self {
            instance,
            goal: Goal::Run,
            phase: Phase::Pending,
            since: now,
            restart: false,
            run,
            exits: 0,
            failures: 0,
            last_exit: None,
            last_failure: None,
        }
    }

    /// Returns the name of the state. A job is never ready; it runs until it has completed.
    pub(super) fn state(&self) -> &'static str {
        match (&self.phase, &self.instance.readiness) {
            (Phase::Starting(process), Readiness::Exit) if process.pid.is_some() => RUNNING,
            (phase, _) => phase.name(),
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.since = now;
    }

    /// Begins a run.
    pub(super) fn start(&mut self, now: Time) {
        self.run += 1;
        self.restart = false;
        let process = Process {
            pid: None,
            started_at: now,
            status: None,
            heard_at: None,
            terminated: None,
        };
        self.enter(Phase::Starting(process), now);
    }

    /// Asks the process to stop. Returns whether it was not asked before.
    pub(super) fn terminate(&mut self, reason: Reason, now: Time) -> bool {
        let drain = self.instance.drain;
        let Some(mut process) = self.phase.process().cloned() else {
            return false;
        };
        if process.terminated.is_some() {
            return false;
        }
        process.terminated = Some(Termination {
            reason,
            kill_at: now + drain,
            killed: false,
        });
        self.enter(Phase::Draining(process), now);
        true
    }

    /// Waits for its turn again, without the memory of earlier failures: a person has asked for it.
    pub(super) fn retry(&mut self, now: Time) {
        self.failures = 0;
        if self.phase.process().is_none() {
            self.enter(Phase::Pending, now);
        }
    }

    /// The process has ended; decides what follows.
    pub(super) fn end(&mut self, mut exit: Exit, now: Time) {
        exit.cause = self.cause();
        let Some(process) = self.phase.process().cloned() else {
            return;
        };
        let reason = process.terminated.map(|it| it.reason);
        let is_success = exit.kind.is_success();
        if !matches!(reason, Some(Reason::Restart | Reason::Stop)) {
            self.last_failure = Some(exit.clone());
        }
        self.last_exit = Some(exit);
        if self.goal != Goal::Run {
            return self.enter(Phase::Stopped, now);
        }
        match reason {
            Some(Reason::Restart | Reason::Stop) => return self.enter(Phase::Pending, now),
            Some(Reason::NotReady(_) | Reason::Watchdog) => {}
            None => {
                self.exits += 1;
                if is_success && self.ends_well() {
                    return self.enter(Phase::Completed, now);
                }
            }
        }
        if self.restart {
            return self.enter(Phase::Pending, now);
        }
        self.fail(now);
    }

    /// Returns whether the code 0 is what was expected of the process.
    fn ends_well(&self) -> bool {
        self.instance.readiness == Readiness::Exit
            || self.instance.restart.policy != RestartPolicy::Always
    }

    fn fail(&mut self, now: Time) {
        let restart = &self.instance.restart;
        self.failures += 1;
        let is_last = restart.max.is_some_and(|max| self.failures > max);
        if restart.policy == RestartPolicy::Never || is_last {
            return self.enter(Phase::Failed, now);
        }
        let (first, longest) = (*restart.backoff.start(), *restart.backoff.end());
        let doublings = (self.failures - 1).min(20);
        let delay = first.saturating_mul(1 << doublings).min(longest.max(first));
        self.enter(Phase::Backoff { until: now + delay }, now);
    }

    /// Returns whether dependents may start: the process is ready, or a job has succeeded.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_) | Phase::Completed)
    }

    /// Returns whether nothing happens by itself any more.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Failed)
    }

    /// Returns the time at which the process counts as failed, unless it is ready by then.
    pub(super) fn ready_deadline(&self) -> Option<Time> {
        let has_deadline = self.instance.readiness != Readiness::Exit;
        has_deadline.then(|| self.since + self.instance.ready_timeout)
    }

    /// Returns why the process has to be replaced.
    pub(super) fn failure(&self, now: Time) -> Option<Reason> {
        let heard = self.phase.process().and_then(|process| process.heard_at);
        if heard.is_some_and(|heard| heard + WATCHDOG_TIMEOUT <= now) {
            return Some(Reason::Watchdog);
        }
        let is_late = self
            .ready_deadline()
            .is_some_and(|deadline| deadline <= now);
        let limit = seconds(self.instance.ready_timeout);
        match &self.phase {
            Phase::Starting(process) if is_late => {
                let status = process.status.as_ref();
                let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                let text = self.readiness_text();
                Some(Reason::NotReady(format!("{text} within {limit}{status}")))
            }
            Phase::NotReady(_, why) if is_late => {
                Some(Reason::NotReady(format!("{why} for {limit}")))
            }
            _ => None,
        }
    }
}
