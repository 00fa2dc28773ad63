//! Reading log files: of several instances at once, in the order of time, while they are written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use palm_plan::InstanceId;

use super::cursor::Cursor;
use super::entry::{Entry, Selection};

/// Returns the instances that have logs in a folder, sorted.
pub fn instances(logs: &Path) -> Vec<InstanceId> {
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    };
    let of_component = |component: String| {
        let indices = folders(&logs.join(&component)).filter_map(|index| index.parse().ok());
        let id = move |index| InstanceId {
            component: component.clone(),
            index,
        };
        indices.map(id).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = folders(logs).flat_map(of_component).collect();
    all.sort();
    all
}

/// The folder of an instance.
pub(super) fn folder(logs: &Path, id: &InstanceId) -> PathBuf {
    logs.join(&id.component).join(id.index.to_string())
}

/// The lines of several instances in the order of time. After its end, [`refresh`](Self::refresh) looks for further
/// lines, runs and instances.
pub struct History {
    logs: PathBuf,
    selection: Selection,
    cursors: BTreeMap<InstanceId, Cursor>,
    /// The next line of each instance that has one.
    next: BinaryHeap<Reverse<(String, InstanceId)>>,
    entries: BTreeMap<InstanceId, Entry>,
    /// The last lines, if only these are wanted and the end has not been reached before.
    tail: Option<VecDeque<Entry>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("History");
        text.field("logs", &self.logs)
            .field("selection", &self.selection);
        text.finish_non_exhaustive()
    }
}

impl History {
    /// Reads the selected lines of a folder with a folder for each component.
    pub fn new(logs: &Path, selection: Selection) -> Self {
        let mut this = Self {
            logs: logs.to_owned(),
            cursors: BTreeMap::new(),
            next: BinaryHeap::new(),
            entries: BTreeMap::new(),
            tail: None,
            selection,
        };
        this.refresh();
        if let Some(count) = this.selection.tail.take() {
            let mut tail = VecDeque::new();
            while let Some(entry) = this.next_entry() {
                tail.push_back(entry);
                if tail.len() > count {
                    tail.pop_front();
                }
            }
            this.tail = Some(tail);
        }
        this
    }

    /// Looks for lines that were written since, and for instances that are new.
    pub fn refresh(&mut self) {
        for id in instances(&self.logs) {
            if self.selection.includes(&id) && !self.cursors.contains_key(&id) {
                let cursor = Cursor::new(folder(&self.logs, &id), id.clone(), &self.selection);
                self.cursors.insert(id, cursor);
            }
        }
        let ids: Vec<_> = self.cursors.keys().cloned().collect();
        for id in ids {
            if !self.entries.contains_key(&id) {
                self.advance(&id);
            }
        }
    }

    fn advance(&mut self, id: &InstanceId) {
        let cursor = self.cursors.get_mut(id);
        if let Some(entry) = cursor.and_then(|cursor| cursor.next(&self.selection)) {
            self.next.push(Reverse((entry.time.clone(), id.clone())));
            self.entries.insert(id.clone(), entry);
        }
    }

    fn next_entry(&mut self) -> Option<Entry> {
        let Reverse((_, id)) = self.next.pop()?;
        let entry = self.entries.remove(&id);
        self.advance(&id);
        entry
    }
}

impl Iterator for History {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if let Some(entry) = self.tail.as_mut().and_then(VecDeque::pop_front) {
            return Some(entry);
        }
        self.tail = None;
        let entry = self.next_entry();
        if entry.is_none() {
            // What is written from now on is later, whatever time the system's clock shows then.
            self.selection.since = None;
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::super::compress::Compressor;
    use super::super::file::RunLog;
    use super::super::{Level, LogLimits};
    use super::*;

    struct Logs(tempfile::TempDir);

    impl Logs {
        fn log(&self, id: &str, run: u32, file_bytes: u64) -> RunLog {
            let limits = LogLimits {
                file_bytes,
                ..LogLimits::default()
            };
            RunLog::open(
                &self.0.path().join(id),
                run,
                limits,
                Compressor::start().unwrap(),
            )
        }

        fn history(&self, selection: Selection) -> History {
            History::new(self.0.path(), selection)
        }
    }

    fn logs() -> Logs {
        Logs(tempfile::tempdir().unwrap())
    }

    fn line(seconds: u32, tag: &str, text: &str) -> Vec<u8> {
        let time = format!(
            "2026-11-28T12:{:02}:{:02}.000000000Z",
            seconds / 60,
            seconds % 60
        );
        format!("{time} stdout {tag} {text}\n").into_bytes()
    }

    fn texts(history: &mut History) -> Vec<String> {
        history
            .map(|it| format!("{}.{} {}", it.id, it.run, it.text))
            .collect()
    }

    #[test]
    fn lines_of_several_instances_are_merged_by_time() {
        let logs = logs();
        let mut first = logs.log("a/0", 1, 1 << 20);
        first.append(&line(1, "F", "one"));
        first.append(&line(3, "P", "thr"));
        first.append(&line(4, "F", "ee"));
        logs.log("b/2", 7, 1 << 20).append(&line(2, "F", "two"));
        let all = texts(&mut logs.history(Selection::default()));
        assert_eq!(all, ["a/0.1 one", "b/2.7 two", "a/0.1 three"]);
        let select = |names: &[&str]| Selection {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Selection::default()
        };
        assert_eq!(texts(&mut logs.history(select(&["b"]))), ["b/2.7 two"]);
        assert_eq!(
            texts(&mut logs.history(select(&["b/1"]))),
            Vec::<String>::new()
        );
        let tail = Selection {
            tail: Some(2),
            ..Selection::default()
        };
        assert_eq!(texts(&mut logs.history(tail)), ["b/2.7 two", "a/0.1 three"]);
    }

    #[test]
    fn level_selects_lines_and_what_follows_them() {
        let logs = logs();
        let mut log = logs.log("a/0", 1, 1 << 20);
        for text in ["INFO a", "  of a", "ERROR b", "  of b", "DEBUG c"] {
            log.append(&line(1, "F", text));
        }
        let selection = Selection {
            level: Some(Level::Warn),
            ..Selection::default()
        };
        let texts = texts(&mut logs.history(selection));
        assert_eq!(texts, ["a/0.1 ERROR b", "a/0.1   of b"]);
    }

    #[test]
    fn followed_lines_are_selected_although_the_clock_went_back() {
        let logs = logs();
        let mut log = logs.log("a/0", 1, 1 << 20);
        let selection = Selection {
            since: Some("2026-11-28T12:10:00.000000000Z".to_owned()),
            ..Selection::default()
        };
        for (seconds, text) in [(599, "before"), (600, "since")] {
            log.append(&line(seconds, "F", text));
        }
        let mut history = logs.history(selection);
        assert_eq!(texts(&mut history), ["a/0.1 since"]);
        log.append(&line(1, "F", "back"));
        history.refresh();
        assert_eq!(texts(&mut history), ["a/0.1 back"]);
    }

    #[test]
    fn refresh_follows_rotation_runs_and_new_instances() {
        let logs = logs();
        let mut history = logs.history(Selection::default());
        assert_eq!(history.next(), None);
        let mut expected = Vec::new();
        let mut found = Vec::new();
        for run in 1..4 {
            let mut log = logs.log("a/0", run, 2000);
            for number in 0..500 {
                log.append(&line(number, "F", &number.to_string()));
                expected.push(format!("a/0.{run} {number}"));
                if number % 97 == 0 {
                    history.refresh();
                    found.extend(texts(&mut history));
                }
            }
        }
        history.refresh();
        found.extend(texts(&mut history));
        assert_eq!(found, expected);
        logs.log("a/1", 1, 2000).append(&line(0, "F", "new"));
        history.refresh();
        assert_eq!(texts(&mut history), ["a/1.1 new"]);
    }
}
