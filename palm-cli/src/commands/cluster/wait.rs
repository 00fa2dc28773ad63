//! Waiting for a state of a cluster, with the reason if it does not come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palm_runner::api::{Client, ClientError};
use palm_runner::state::{ClusterStatus, InstanceStatus};

use super::ClusterFailure;

/// Failed runs in a row that end the wait.
const MAX_FAILURES: u32 = 3;

/// Whether to wait on.
pub(super) enum Next {
    /// It is not there yet.
    Wait,
    /// It is there.
    Done,
    /// It will not come, for this reason.
    Failed(String),
}

/// Waits until `next` returns an end. If nothing changes for `timeout`, the error names the instances that are meant and
/// are not in the wanted state.
pub(super) fn wait(
    client: Client,
    timeout: Duration,
    is_meant: impl Fn(&InstanceStatus) -> bool,
    mut next: impl FnMut(&ClusterStatus) -> Next,
) -> Result<(), ClusterFailure> {
    let mut last = None;
    let mut changed_at = Instant::now();
    let result = client.watch(|status| {
        if let Some(status) = status {
            match next(status) {
                Next::Done => return Some(Ok(())),
                Next::Failed(reason) => return Some(Err(ClusterFailure::NotReady(reason))),
                Next::Wait => {}
            }
            let meant: Vec<_> = status.instances.iter().filter(|it| is_meant(it)).collect();
            let states: Vec<_> = meant.iter().map(|it| (it.state.clone(), it.run)).collect();
            let reason = reasons(meant).join("\n");
            match &mut last {
                Some((before, text)) if *before == states => *text = reason,
                _ => {
                    last = Some((states, reason));
                    changed_at = Instant::now();
                }
            }
        }
        (changed_at.elapsed() >= timeout).then(|| {
            let reason = last
                .as_ref()
                .map(|(_, reason)| reason.as_str())
                .unwrap_or_default();
            Err(ClusterFailure::NotReady(format!(
                "nothing has changed for {} s:\n{reason}",
                timeout.as_secs()
            )))
        })
    });
    result?
}

/// Waits until all instances are in the wanted state, and all jobs have completed.
pub(super) fn until_settled(client: Client, timeout: Duration) -> Result<(), ClusterFailure> {
    wait(
        client,
        timeout,
        |_| true,
        |status| {
            let is_rolling = status.rolling.current.is_some() || status.rolling.waiting > 0;
            match next(status, |_| true, |it| it.settled) {
                Next::Done if is_rolling => Next::Wait,
                next => next,
            }
        },
    )
}

/// Waits until all instances that are meant are done, or one of them has failed.
pub(super) fn until_all(
    client: Client,
    timeout: Duration,
    is_meant: impl Fn(&InstanceStatus) -> bool,
    is_done: impl Fn(&InstanceStatus) -> bool,
) -> Result<(), ClusterFailure> {
    wait(client, timeout, &is_meant, |status| {
        next(status, &is_meant, &is_done)
    })
}

/// Returns whether all instances that are meant are done.
fn next(
    status: &ClusterStatus,
    is_meant: impl Fn(&InstanceStatus) -> bool,
    is_done: impl Fn(&InstanceStatus) -> bool,
) -> Next {
    let has_failed = |it: &InstanceStatus| {
        it.state == "failed" || (it.failures >= MAX_FAILURES && it.state == "backoff")
    };
    if let Some(failure) = &status.rolling.failure {
        return Next::Failed(format!("the restart ended at {failure}"));
    }
    let meant: Vec<_> = status.instances.iter().filter(|it| is_meant(it)).collect();
    if meant.iter().any(|it| has_failed(it)) {
        return Next::Failed(reasons(meant).join("\n"));
    }
    match meant.into_iter().all(is_done) {
        true => Next::Done,
        false => Next::Wait,
    }
}

/// Returns how many instances are ready, run or are stopped: `3 of 4 are ready, 1 job runs`.
pub(super) fn summary(status: &ClusterStatus) -> String {
    let count = |is_counted: &dyn Fn(&&InstanceStatus) -> bool| {
        status.instances.iter().filter(is_counted).count()
    };
    let ready = count(&|it| it.is_ready());
    let running = count(&|it| it.is_running());
    let stopped = count(&|it| it.settled && !it.is_ready());
    let of = status.instances.len() - running - stopped;
    let mut parts = Vec::new();
    if of > 0 || running + stopped == 0 {
        parts.push(format!("{ready} of {of} are ready"));
    }
    match running {
        0 => {}
        1 => parts.push("1 job runs".to_owned()),
        _ => parts.push(format!("{running} jobs run")),
    }
    match stopped {
        0 => {}
        1 => parts.push("1 is stopped".to_owned()),
        _ => parts.push(format!("{stopped} are stopped")),
    }
    parts.join(", ")
}

/// Returns a sentence for each component with an instance that is not in the wanted state:
/// `worker: 3 of 4 are ready, worker/3 exited with 101: ...`.
pub(super) fn reasons<'a>(instances: impl IntoIterator<Item = &'a InstanceStatus>) -> Vec<String> {
    let mut components = BTreeMap::<&str, Vec<&InstanceStatus>>::new();
    for instance in instances {
        components
            .entry(&instance.id.component)
            .or_default()
            .push(instance);
    }
    let mut sentences = Vec::new();
    for (component, replicas) in components {
        let ready = replicas.iter().filter(|it| it.is_ready()).count();
        let mut others = replicas.iter().filter(|it| !it.settled).peekable();
        if others.peek().is_none() {
            continue;
        }
        let why = grouped(others.map(|it| (it.id.to_string(), reason(it))));
        let count = match replicas.len() {
            1 => String::new(),
            all => format!("{ready} of {all} are ready, "),
        };
        sentences.push(format!("{component}: {count}{}", why.join(", ")));
    }
    sentences
}

/// Returns a text for each reason, with the first instance that has it.
fn grouped(reasons: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut groups: Vec<(String, String, usize)> = Vec::new();
    for (id, reason) in reasons {
        match groups.iter_mut().find(|(_, other, _)| *other == reason) {
            Some((.., count)) => *count += 1,
            None => groups.push((id, reason, 1)),
        }
    }
    let text = |(id, reason, count): (String, String, usize)| match count {
        1 => format!("{id} {reason}"),
        2 => format!("{id} (and 1 other) {reason}"),
        _ => format!("{id} (and {} others) {reason}", count - 1),
    };
    groups.into_iter().map(text).collect()
}

/// Returns the state of an instance as the end of a sentence.
pub(super) fn reason(instance: &InstanceStatus) -> String {
    match (&*instance.state, &*instance.why) {
        ("backoff" | "failed" | "pending" | "draining" | "starting" | "running", why)
            if !why.is_empty() =>
        {
            why.to_owned()
        }
        (state, "") => format!("is {state}"),
        (state, why) => format!("is {state}: {why}"),
    }
}

/// Waits until the runner has ended.
pub(super) fn until_ended(client: Client, timeout: Duration) -> Result<(), ClusterFailure> {
    match wait(client, timeout, |_| true, |_| Next::Wait) {
        Err(ClusterFailure::Client(ClientError::Ended)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_with_the_same_reason_share_a_sentence() {
        let reasons = [
            ("w/0", "waits for `m`"),
            ("w/1", "exited with 1"),
            ("w/2", "waits for `m`"),
            ("w/3", "waits for `m`"),
        ];
        let reasons = reasons.map(|(id, reason)| (id.to_owned(), reason.to_owned()));
        let expected = ["w/0 (and 2 others) waits for `m`", "w/1 exited with 1"];
        assert_eq!(grouped(reasons.into_iter()), expected);
    }
}
