//! What a runner leaves for the next one.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Folders;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) runner_pid: u32,
    /// Whether the cluster was stopped. Otherwise the runner was killed, or runs.
    pub(super) is_stopped: bool,
    /// The longest time that a process has from SIGTERM to SIGKILL.
    pub(super) drain: Duration,
    /// The notes of the client that planned the cluster.
    pub(super) notes: Value,
}

impl Saved {
    /// Reads the file. Without one, or with one of another version, nothing is known.
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("json.tmp");
        let mut file = fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        fs::rename(temporary, path)
    }
}

/// Returns the notes of the client that planned the cluster the last time; null if it has never run.
pub fn saved_notes(folders: &Folders) -> Value {
    Saved::read(&folders.saved()).notes
}
