//! What happened in a cluster, as lines of JSON in a file.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use palm_plan::InstanceId;
use serde::{Deserialize, Serialize};

use crate::logs::{LogChange, LogChangeKind, lost, timestamp};
use crate::state::Transition;

/// The file is renamed when it is larger, and the one before is deleted.
const MAX_BYTES: u64 = 8 << 20;
/// Events that are kept while the file cannot be written.
const MAX_UNWRITTEN: usize = 1000;

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
    /// The new state of the instance; or of its logs, `logs stopped`, `logs resumed` and `logs lost`; or of the
    /// cluster, `up`, `change`, `upgrade`, `down`, `clock` and `events lost`.
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

impl From<LogChange> for ClusterEvent {
    fn from(LogChange { id, run, kind }: LogChange) -> Self {
        let (event, why) = match kind {
            LogChangeKind::Stopped(error) => ("logs stopped", error),
            LogChangeKind::Resumed(lines) => ("logs resumed", lost(lines)),
            LogChangeKind::Lost(lines, error) => ("logs lost", format!("{}: {error}", lost(lines))),
        };
        Self {
            instance: Some(id),
            run: Some(run),
            ..Self::new(event, why)
        }
    }
}

/// The file of events.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    /// Events that could not be written yet, such as on a full disk.
    unwritten: VecDeque<ClusterEvent>,
    /// Unwritten events that were dropped.
    dropped: u64,
    failure: Option<String>,
}

impl Events {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            unwritten: VecDeque::new(),
            dropped: 0,
            failure: None,
        }
    }

    /// Appends events. On a full disk they wait for the next call; if there are too many, the oldest are lost.
    pub(super) fn append(&mut self, events: impl IntoIterator<Item = ClusterEvent>) {
        self.unwritten.extend(events);
        if self.unwritten.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) => {
                self.unwritten.clear();
                self.dropped = 0;
                self.failure = None;
            }
            Err(error) => {
                let excess = self.unwritten.len().saturating_sub(MAX_UNWRITTEN);
                self.unwritten.drain(..excess);
                self.dropped += u64::try_from(excess).unwrap_or(u64::MAX);
                self.failure = Some(format!("events: {error}"));
            }
        }
    }

    /// Returns the events that could not be written yet.
    pub(super) fn unwritten(&self) -> Vec<ClusterEvent> {
        self.unwritten.iter().cloned().collect()
    }

    /// Returns why events are not written at present.
    pub(super) fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    fn write(&self) -> io::Result<()> {
        let why = format!("{} events could not be written", self.dropped);
        let lost = (self.dropped > 0).then(|| ClusterEvent::new("events lost", why));
        let mut lines = Vec::new();
        for event in lost.iter().chain(&self.unwritten) {
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
        if bytes >= MAX_BYTES {
            // The events are written. If it fails, the file grows until the next time.
            let _ = fs::rename(&self.path, older(&self.path));
        }
        Ok(())
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
            events.append([event.clone()]);
        }
        assert_eq!(read_events(&path).unwrap(), all);
    }

    #[test]
    fn events_wait_while_the_disk_is_full_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let event = |number: usize| ClusterEvent::new("up", number.to_string());
        let mut events = Events::new(path.clone());
        events.append([event(0)]);
        assert!(events.failure().unwrap().contains("No space left"));
        events.append((1..MAX_UNWRITTEN + 3).map(event));
        fs::remove_file(&path).unwrap();
        events.append([]);
        assert_eq!(events.failure(), None);
        let found = read_events(&path).unwrap();
        let of_loss = (&*found[0].event, &*found[0].why);
        assert_eq!(of_loss, ("events lost", "3 events could not be written"));
        let numbers = found[1..].iter().map(|it| it.why.clone());
        let expected = (3..MAX_UNWRITTEN + 3).map(|it| it.to_string());
        assert_eq!(numbers.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        events.append([event(7)]);
        assert_eq!(read_events(&path).unwrap().len(), MAX_UNWRITTEN + 2);
    }
}
