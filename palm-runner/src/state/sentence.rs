//! Why an instance is in its state, as one sentence.

use palm_plan::InstanceId;
use palm_plan::instance::{Readiness, RestartPolicy};

use super::machine::{Process, Reason, Supervised, WATCHDOG_TIMEOUT};
use super::text::seconds;
use super::{ExitKind, Phase, Supervisor, Time};

impl Supervisor {
    /// Returns why an instance is in its state: a sentence without a subject and without a full stop.
    pub fn why(&self, id: &InstanceId, now: Time) -> String {
        let Some(supervised) = self.instances.get(id) else {
            return "is unknown".to_owned();
        };
        match &supervised.phase {
            Phase::Pending => self.why_pending(supervised),
            Phase::Starting(process) => {
                let elapsed = seconds(now.saturating_sub(process.started_at));
                let text = supervised.readiness_text();
                match &process.status {
                    Some(status) => format!("{text} since {elapsed}: {status}"),
                    None => format!("{text} since {elapsed}"),
                }
            }
            Phase::Ready(process) => process.status.clone().unwrap_or_default(),
            Phase::NotReady(_, why) => why.clone(),
            Phase::Draining(process) => why_draining(process, now),
            Phase::Backoff { until } => {
                let remaining = seconds(until.saturating_sub(now));
                let count = supervised.count_failures();
                format!(
                    "{}; starts again in {remaining} ({count})",
                    supervised.end_text()
                )
            }
            Phase::Stopped => match &supervised.last_exit {
                Some(exit) => exit.kind.to_string(),
                None => String::new(),
            },
            Phase::Completed => supervised.end_text(),
            Phase::Failed => supervised.why_failed(),
        }
    }

    /// Returns how a process has ended that is about to be reported as [`exited`](Self::exited): a sentence without a
    /// subject.
    pub fn end_of(&self, id: &InstanceId, kind: &ExitKind) -> String {
        match self.instances.get(id).and_then(Supervised::cause) {
            Some(cause) => format!("{cause}, and {kind}"),
            None => kind.to_string(),
        }
    }

    fn why_pending(&self, supervised: &Supervised) -> String {
        let missing: Vec<_> = self
            .missing(&supervised.instance)
            .map(|component| self.why_missing(component))
            .collect();
        match &*missing {
            [] => "is about to start".to_owned(),
            missing => format!("waits for {}", missing.join(", and for ")),
        }
    }

    fn why_missing(&self, component: &str) -> String {
        let replicas: Vec<_> = self.replicas(component).collect();
        let ready = replicas.iter().filter(|it| it.is_ready()).count();
        let failed = replicas.iter().find(|it| it.phase == Phase::Failed);
        let stopped = replicas.iter().find(|it| it.phase == Phase::Stopped);
        match (failed, stopped, &*replicas) {
            (_, _, []) => format!("`{component}`, which does not exist"),
            (Some(failed), ..) => format!("`{component}`, which {}", failed.why_failed()),
            (_, Some(_), _) => format!("`{component}`, which was stopped"),
            (.., [only]) if matches!(only.phase, Phase::Backoff { .. }) => {
                format!("`{component}`, which has failed and starts again")
            }
            (.., [only]) => format!("`{component}`, which is {}", only.state()),
            (.., all) => format!("`{component}`: {ready} of {} are ready", all.len()),
        }
    }
}

impl Supervised {
    /// Returns what the process has not done that would make it ready.
    pub(super) fn readiness_text(&self) -> String {
        match &self.instance.readiness {
            Readiness::Notify => "has not reported READY=1".to_owned(),
            Readiness::Address(address) => format!("does not accept connections at {address}"),
            Readiness::Running => "is not running".to_owned(),
            _ => "runs".to_owned(),
        }
    }

    /// Returns why the runner has asked the process to stop, if that was for a failure.
    pub(super) fn cause(&self) -> Option<String> {
        let process = self.phase.process()?;
        match &process.terminated.as_ref()?.reason {
            Reason::NotReady(why) => Some(why.clone()),
            Reason::Watchdog => Some(silence()),
            Reason::Stop | Reason::Restart => None,
        }
    }

    /// Returns how the last run ended.
    fn end_text(&self) -> String {
        match &self.last_exit {
            Some(exit) => exit.to_string(),
            None => "ended".to_owned(),
        }
    }

    fn count_failures(&self) -> String {
        match self.instance.restart.max {
            Some(max) => format!("{} of {max} restarts", self.failures),
            None => format!("failure {}", self.failures),
        }
    }

    fn why_failed(&self) -> String {
        let end = self.end_text();
        match (self.instance.restart.policy, self.failures) {
            (RestartPolicy::Never, _) => format!("{end}; it is not restarted"),
            (_, 0 | 1) => end,
            (_, failures) => format!("{end}; it failed {failures} times in a row"),
        }
    }
}

fn why_draining(process: &Process, now: Time) -> String {
    let Some(termination) = &process.terminated else {
        return "stops".to_owned();
    };
    let reason = match &termination.reason {
        Reason::Stop => "was asked to stop".to_owned(),
        Reason::Restart => "restarts".to_owned(),
        Reason::NotReady(why) => format!("{why} and is restarted"),
        Reason::Watchdog => format!("{} and is restarted", silence()),
    };
    let status = process
        .status
        .as_deref()
        .map(|status| format!(": {status}"));
    let status = status.unwrap_or_default();
    match termination.killed {
        true => format!("{reason}, did not stop in time and was killed"),
        false => {
            let remaining = seconds(termination.kill_at.saturating_sub(now));
            format!("{reason}; it is killed in {remaining}{status}")
        }
    }
}

/// Returns what a hung process has not done.
fn silence() -> String {
    format!("has sent no WATCHDOG=1 for {}", seconds(WATCHDOG_TIMEOUT))
}
