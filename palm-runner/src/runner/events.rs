//! What happened in a cluster, as lines of JSON in a file.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use palm_plan::InstanceId;
use serde::{Deserialize, Serialize};

use crate::logs::timestamp;
use crate::state::Transition;

/// The file is renamed when it is larger, and the one before is deleted.
const MAX_BYTES: u64 = 8 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// The time, in RFC 3339 with nanoseconds, in UTC.
    pub time: String,
    /// The instance; `None` for an event of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The run of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// The new state of the instance, or `up`, `change`, `upgrade`, `down`.
    pub event: String,
    /// Why: a sentence without a subject and without a full stop.
    pub why: String,
}

impl ClusterEvent {
    pub(super) fn new(event: &str, why: String) -> Self {
        Self {
            time: timestamp(SystemTime::now()),
            instance: None,
            run: None,
            event: event.to_owned(),
            why,
        }
    }
}

impl From<Transition> for ClusterEvent {
    fn from(transition: Transition) -> Self {
        Self {
            instance: Some(transition.id),
            run: Some(transition.run),
            ..Self::new(&transition.state, transition.why)
        }
    }
}

/// The file of events.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    failure: Option<String>,
}

impl Events {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            failure: None,
        }
    }

    /// Appends events. On a full disk they are lost.
    pub(super) fn append(&mut self, events: &[ClusterEvent]) {
        if !events.is_empty() {
            let written = self.write(events);
            self.failure = written.err().map(|error| format!("events: {error}"));
        }
    }

    /// Returns why the last events were lost.
    pub(super) fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    fn write(&self, events: &[ClusterEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        let bytes = file.metadata()?.len();
        if let Err(error) = file.write_all(&lines) {
            // A part of a line would spoil the next one.
            let _ = file.set_len(bytes);
            return Err(error);
        }
        match bytes >= MAX_BYTES {
            true => fs::rename(&self.path, older(&self.path)),
            false => Ok(()),
        }
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("older.jsonl")
}

/// Reads the events of a cluster, the oldest first.
///
/// # Errors
///
/// The file cannot be read. If there is none, nothing has happened.
pub fn read_events(path: &Path) -> io::Result<Vec<ClusterEvent>> {
    let mut events = Vec::new();
    for path in [older(path), path.to_owned()] {
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines() {
            // A line of a later version may have another form.
            events.extend(serde_json::from_str::<ClusterEvent>(&line?).ok());
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        assert_eq!(read_events(&path).unwrap(), []);
        let mut events = Events::new(path.clone());
        let transition = Transition {
            id: "a/0".parse().unwrap(),
            run: 1,
            state: "ready".to_owned(),
            why: String::new(),
        };
        let all = [
            ClusterEvent::new("up", "x".to_owned()),
            ClusterEvent::from(transition),
        ];
        for event in &all {
            events.append(std::slice::from_ref(event));
        }
        assert_eq!(read_events(&path).unwrap(), all);
        let mut events = Events::new("/dev/full".into());
        events.append(&all);
        assert!(events.failure().unwrap().contains("No space left"));
    }
}
