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

/// Waits until `next` returns an end. If nothing changes for `timeout`, the error names the instances that are not ready.
pub(super) fn wait(
    client: Client,
    timeout: Duration,
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
            let states: Vec<_> = status
                .instances
                .iter()
                .map(|it| (it.state.clone(), it.run))
                .collect();
            let reason = reasons(status).join("\n");
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

/// Waits until all instances are in the wanted state.
pub(super) fn until_settled(client: Client, timeout: Duration) -> Result<(), ClusterFailure> {
    wait(client, timeout, settled)
}

/// Returns whether all instances are in the wanted state.
pub(super) fn settled(status: &ClusterStatus) -> Next {
    let has_failed = |it: &&InstanceStatus| {
        it.state == "failed" || (it.failures >= MAX_FAILURES && it.state == "backoff")
    };
    if let Some(failure) = &status.rolling.failure {
        return Next::Failed(format!("the restart ended at {failure}"));
    }
    if status.instances.iter().any(|it| has_failed(&it)) {
        return Next::Failed(reasons(status).join("\n"));
    }
    let is_rolling = status.rolling.current.is_some() || status.rolling.waiting > 0;
    match status.instances.iter().all(|it| it.settled) && !is_rolling {
        true => Next::Done,
        false => Next::Wait,
    }
}

/// Returns a sentence for each component that is not in the wanted state:
/// `worker: 3 of 4 are ready, worker/3 exited with 101: ...`.
pub(super) fn reasons(status: &ClusterStatus) -> Vec<String> {
    let mut components = BTreeMap::<&str, Vec<&InstanceStatus>>::new();
    for instance in &status.instances {
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
        _ => format!("{id} (and {} others) {reason}", count - 1),
    };
    groups.into_iter().map(text).collect()
}

/// Returns the state of an instance as the end of a sentence.
pub(super) fn reason(instance: &InstanceStatus) -> String {
    match (&*instance.state, &*instance.why) {
        ("backoff" | "failed" | "pending" | "draining" | "starting", why) if !why.is_empty() => {
            why.to_owned()
        }
        (state, "") => format!("is {state}"),
        (state, why) => format!("is {state}: {why}"),
    }
}

/// Waits until the runner has ended.
pub(super) fn until_ended(client: Client, timeout: Duration) -> Result<(), ClusterFailure> {
    match wait(client, timeout, |_| Next::Wait) {
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
