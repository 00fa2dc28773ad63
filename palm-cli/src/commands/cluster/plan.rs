//! `palm plan`.

use std::path::Path;

use palm_plan::plan;
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
        Err(ClusterFailure::Client(ClientError::NotRunning)) => (Vec::new(), file.last_notes()),
        client => {
            let running = client?.wanted().map_err(ClusterFailure::from)?;
            let notes: Notes = serde_json::from_value(running.notes).unwrap_or_default();
            (running.instances, notes)
        }
    };
    notes.profiles.extend(profiles.iter().cloned());
    let wanted = file.plan(&notes)?;
    let mut text = plan(&running, &wanted.instances).to_string();
    let notes: Notes = serde_json::from_value(wanted.notes).unwrap_or_default();
    if !notes.addresses.is_empty() {
        text.push('\n');
    }
    for (endpoint, address) in notes.addresses {
        text += &format!("{endpoint} = {address}\n");
    }
    Ok(text)
}
