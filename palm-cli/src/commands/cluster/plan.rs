//! `palm plan`.

use std::path::Path;

use palm_plan::{LogLimits, plan};
use palm_runner::api::ClientError;

use super::file::{File, Notes};
use super::{ClusterFailure, Failure};

/// Returns what `palm up` would do, and the addresses of the components.
///
/// # Errors
///
/// The file cannot be read or has mistakes, which are shown, or the runner does not answer.
pub(in crate::commands) fn text(
    path: Option<&Path>,
    profiles: &[String],
) -> Result<String, Failure> {
    let file = File::open(path)?;
    let (running, mut notes) = match file.connect() {
        Err(ClusterFailure::Client(ClientError::NotRunning)) => (None, file.last_notes()),
        client => {
            let mut running = client?.wanted().map_err(ClusterFailure::from)?;
            let notes = file.remembered(running.notes.take());
            (Some(running), notes)
        }
    };
    notes.profiles.extend(profiles.iter().cloned());
    let wanted = file.plan(&notes)?;
    let instances = running.as_ref().map_or(&[][..], |it| &it.instances);
    let mut text = plan(instances, &wanted.instances).to_string();
    let logs = running.and_then(|it| log_changes(&it.log_limits, &wanted.log_limits));
    text += &logs.unwrap_or_default();
    let notes: Notes = serde_json::from_value(wanted.notes).unwrap_or_default();
    if !notes.addresses.is_empty() {
        text.push('\n');
    }
    for (endpoint, address) in notes.addresses {
        text += &format!("{endpoint} = {address}\n");
    }
    Ok(text)
}

/// Returns a line about the limits of log files that differ, if there are any.
pub(super) fn log_changes(from: &LogLimits, to: &LogLimits) -> Option<String> {
    let differences = from.differences(to);
    (!differences.is_empty()).then(|| format!("~ update   logs  {}\n", differences.join(", ")))
}
