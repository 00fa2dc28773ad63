//! `palm scale`, `restart`, `stop`, `drain`, `down` and `upgrade`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use palm_plan::InstanceId;
use palm_runner::api::{Client, ClientError, Request, Wanted};
use palm_runner::state::{ClusterStatus, InstanceStatus};

use super::arguments::{Down, Restart, Scale, Stop};
use super::file::{File, Notes};
use super::wait::{Next, until_all, until_ended, wait};
use super::{ClusterFailure, Failure, write};
use crate::arguments::ClusterFile;

/// Time within which a new version of the runner listens.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn scale(scale: &Scale) -> Result<(), Failure> {
    let file = File::open(scale.file.file.as_deref())?;
    let mut client = file.connect()?;
    let wanted = client.wanted().map_err(ClusterFailure::from)?;
    let mut notes = file.remembered(wanted.notes);
    notes.replicas.extend(scale.replicas.iter().cloned());
    let planned = file.plan(&notes)?;
    let is_scaled = |component: &str| scale.replicas.iter().any(|(key, _)| key == component);
    // A command that changes numbers must not roll out an edit by the way.
    let plan = palm_plan::plan(&wanted.instances, &planned.instances);
    let mut others = plan.start.iter().chain(&plan.stop);
    if !plan.restart.is_empty() || others.any(|it| !is_scaled(&it.component)) {
        let _ = writeln!(
            anstream::stderr(),
            "note: `{}` was edited, which `palm up` applies",
            file.path.display()
        );
    }
    let running = |id: &InstanceId| wanted.instances.iter().find(|it| it.id() == *id).cloned();
    let scaled = planned.instances.into_iter();
    let scaled = scaled.filter(|it| is_scaled(&it.component));
    let scaled = scaled.map(|it| running(&it.id()).unwrap_or(it));
    let others = wanted
        .instances
        .iter()
        .filter(|it| !is_scaled(&it.component));
    // What the file does not have any more still runs, at its address.
    let Notes { addresses, .. } = serde_json::from_value(planned.notes).unwrap_or_default();
    let notes = Notes {
        addresses: notes.addresses.into_iter().chain(addresses).collect(),
        ..notes
    };
    let next = Wanted {
        instances: others.cloned().chain(scaled).collect(),
        notes: serde_json::to_value(notes).unwrap_or_default(),
        log_limits: wanted.log_limits,
        revision: wanted.revision,
    };
    client
        .command(&Request::Scale(next))
        .map_err(ClusterFailure::from)?;
    let is_meant = |it: &InstanceStatus| is_scaled(&it.id.component);
    until_all(file.connect()?, scale.timeout.timeout, is_meant, has_begun)?;
    let counts = scale
        .replicas
        .iter()
        .map(|(key, count)| format!("{key}: {count}\n"));
    Ok(write(counts.collect::<String>().as_bytes())?)
}

pub(super) fn restart(restart: &Restart) -> Result<(), Failure> {
    let file = File::open(restart.file.file.as_deref())?;
    let mut client = file.connect()?;
    let status = client.status().map_err(ClusterFailure::from)?;
    let ids = select(&status, &restart.names)?;
    let runs: BTreeMap<_, _> = status
        .instances
        .iter()
        .map(|it| (it.id.clone(), it.run))
        .collect();
    let request = Request::Restart {
        ids: ids.clone(),
        rolling: restart.rolling,
    };
    client.command(&request).map_err(ClusterFailure::from)?;
    let is_meant = |it: &InstanceStatus| ids.contains(&it.id);
    let is_restarted = |it: &InstanceStatus| has_begun(it) && it.run > runs[&it.id];
    let timeout = restart.timeout.timeout;
    until_all(file.connect()?, timeout, is_meant, is_restarted)?;
    Ok(write(format!("restarted {}\n", names(&ids)).as_bytes())?)
}

/// Returns whether an instance is in the wanted state, or is a job that runs: it may run for days.
fn has_begun(instance: &InstanceStatus) -> bool {
    instance.settled || instance.is_running()
}

/// What `stop` and `drain` show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The end.
    End,
    /// What instances do until then.
    Progress,
}

pub(super) fn stop(stop: &Stop, shown: Shown) -> Result<(), Failure> {
    let file = File::open(stop.file.file.as_deref())?;
    let mut client = file.connect()?;
    let status = client.status().map_err(ClusterFailure::from)?;
    let ids = select(&status, &stop.names)?;
    let request = Request::Stop { ids: ids.clone() };
    client.command(&request).map_err(ClusterFailure::from)?;
    let mut lines = BTreeMap::new();
    let is_meant = |it: &InstanceStatus| ids.contains(&it.id);
    wait(file.connect()?, stop.timeout.timeout, is_meant, |status| {
        let stopping = status.instances.iter().filter(|it| is_meant(it));
        for instance in stopping.clone().filter(|_| shown == Shown::Progress) {
            let line = progress(instance);
            if lines.insert(instance.id.clone(), line.clone()) != Some(line.clone()) {
                // Without a reader, the rest is not shown.
                let _ = write(format!("{}: {line}\n", instance.id).as_bytes());
            }
        }
        match stopping.clone().all(|it| it.pid.is_none()) {
            true => Next::Done,
            false => Next::Wait,
        }
    })?;
    Ok(write(format!("stopped {}\n", names(&ids)).as_bytes())?)
}

/// Returns what an instance does, without the time that passes.
fn progress(instance: &InstanceStatus) -> String {
    match instance.why.split_once("; it is killed in ") {
        Some((_, rest)) => match rest.split_once(": ") {
            Some((_, status)) => format!("{}: {status}", instance.state),
            None => instance.state.clone(),
        },
        None if instance.why.is_empty() => instance.state.clone(),
        None => format!("{}: {}", instance.state, instance.why),
    }
}

pub(super) fn down(down: &Down) -> Result<(), Failure> {
    let file = File::open(down.file.file.as_deref())?;
    let mut client = match file.connect() {
        Err(ClusterFailure::Client(ClientError::NotRunning)) => {
            return Ok(write(format!("{} does not run\n", file.name).as_bytes())?);
        }
        client => client?,
    };
    match client.command(&Request::Down { kill: down.kill }) {
        // Another command has stopped it, or a signal.
        Ok(()) | Err(ClientError::Ended) => {}
        Err(error) => return Err(ClusterFailure::from(error).into()),
    }
    until_ended(client, down.timeout.timeout)?;
    Ok(write(format!("{} is stopped\n", file.name).as_bytes())?)
}

pub(super) fn upgrade(file: &ClusterFile) -> Result<(), Failure> {
    let file = File::open(file.file.as_deref())?;
    let mut client = file.connect()?;
    let before = client.status().map_err(ClusterFailure::from)?;
    let executable = std::env::current_exe()?;
    let request = Request::Upgrade { executable };
    client.command(&request).map_err(ClusterFailure::from)?;
    let after = upgraded(&file.folders.api(), &before)?;
    let line = format!(
        "the runner (process {}) was version {} and is now {}\n",
        after.runner_pid, before.runner_version, after.runner_version
    );
    Ok(write(line.as_bytes())?)
}

/// Waits for the next version of the runner. Its socket is the one of the previous version, so that a request waits.
fn upgraded(api: &Path, before: &ClusterStatus) -> Result<ClusterStatus, ClusterFailure> {
    let begin = Instant::now();
    loop {
        match Client::connect(api).and_then(|mut client| client.status()) {
            Ok(status) if status.upgrades > before.upgrades => return Ok(status),
            // The connection was accepted by the previous version.
            Ok(_) | Err(ClientError::Ended | ClientError::Io(_))
                if begin.elapsed() < UPGRADE_TIMEOUT => {}
            Ok(_) => {
                let reason = "the runner could not be replaced: `palm events` says why";
                return Err(ClusterFailure::NotReady(reason.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the instances that have one of these names; all without names.
pub(super) fn select(
    status: &ClusterStatus,
    names: &[String],
) -> Result<Vec<InstanceId>, ClusterFailure> {
    let ids: Vec<_> = status.instances.iter().map(|it| &it.id).collect();
    let is_named = |id: &InstanceId, name: &str| id.component == name || id.to_string() == name;
    if let Some(name) = names
        .iter()
        .find(|name| !ids.iter().any(|id| is_named(id, name)))
    {
        let component = name.split_once('/').map_or("", |(component, _)| component);
        let is_replica = |id: &&&InstanceId| id.component == component;
        let mut known: Vec<_> = match ids.iter().filter(is_replica).collect::<Vec<_>>() {
            none if none.is_empty() => ids.iter().map(|id| id.component.clone()).collect(),
            replicas => replicas.iter().map(ToString::to_string).collect(),
        };
        known.dedup();
        return Err(ClusterFailure::UnknownName {
            name: name.clone(),
            known: known.join(", "),
        });
    }
    let is_selected =
        |id: &&&InstanceId| names.is_empty() || names.iter().any(|name| is_named(id, name));
    Ok(ids
        .iter()
        .filter(is_selected)
        .map(|id| (*id).clone())
        .collect())
}

fn names(ids: &[InstanceId]) -> String {
    ids.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
