//! The path of a call through a cluster, as its components remember it.

use std::collections::HashMap;
use std::time::Duration;

use palm::inspect::{Answer, Cluster};
use palm::report::{RecentCall, Role};

/// Work of a component for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStep {
    /// The name of the component; of a worker its own.
    pub component: String,
    /// What it remembers.
    pub call: RecentCall,
}

/// Returns what the components of a cluster remember, in the order in which the work began.
pub fn steps(cluster: &Cluster) -> Vec<PathStep> {
    let mut steps = Vec::new();
    for report in cluster.reports() {
        let own = report.recent.iter().cloned();
        steps.extend(own.map(|call| PathStep {
            component: report.name.clone(),
            call,
        }));
        for edge in report.edges_of(Role::Worker) {
            let worker = edge.worker.iter();
            let recent = worker.flat_map(|worker| worker.recent.iter().cloned());
            steps.extend(recent.map(|call| PathStep {
                component: edge.name.clone(),
                call,
            }));
        }
    }
    steps.sort_by_key(|step| (step.call.begun_at, step.call.work, step.call.stage));
    steps
}

/// Returns the components that did not report, with the reason.
pub fn silent(cluster: &Cluster) -> Vec<(String, String)> {
    let silent = cluster.components.iter().filter_map(|(address, answer)| {
        let reason = match answer {
            Answer::Report(_) => return None,
            Answer::NoReport { name, .. } => {
                return Some((name.clone(), "it does not report".to_owned()));
            }
            Answer::Unreachable(reason) => reason.clone(),
            _ => "it is not known how it has answered".to_owned(),
        };
        Some((address.clone(), reason))
    });
    silent.collect()
}

/// A call that components remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedCall {
    /// The id of the message, or that of the call, if they differ only by the number of a job's input.
    pub id: String,
    /// The longest work for it, with its waiting time.
    pub slowest: PathStep,
    /// Whether any work for it failed.
    pub failed: bool,
}

fn time(step: &PathStep) -> Duration {
    step.call.waited + step.call.worked
}

/// Returns the calls that the steps belong to: failed ones first, then the slowest ones.
pub fn calls(steps: &[PathStep]) -> Vec<RememberedCall> {
    let mut calls: HashMap<&str, RememberedCall> = HashMap::new();
    for step in steps {
        let id = match step.call.id.is_empty() {
            true => &step.call.call,
            false => &step.call.id,
        };
        let failed = step.call.failure.is_some();
        let call = calls.entry(id).or_insert_with(|| RememberedCall {
            id: id.clone(),
            slowest: step.clone(),
            failed,
        });
        call.failed |= failed;
        if time(step) > time(&call.slowest) {
            call.slowest = step.clone();
        }
    }
    let mut calls: Vec<_> = calls.into_values().collect();
    calls.sort_by(|a, b| {
        let key = |call: &RememberedCall| (call.failed, time(&call.slowest));
        key(b).cmp(&key(a)).then_with(|| a.id.cmp(&b.id))
    });
    calls
}
