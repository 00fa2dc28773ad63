//! Reading log files: of several instances at once, in the order of time, while they are written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use palm_plan::InstanceId;

use super::format::{Level, Line, Stream};
use super::segment::{Part, Segment, segments};

/// A longer text is split, although its process wrote no line break.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The instance.
    pub id: InstanceId,
    /// The run of the instance, from 1.
    pub run: u32,
    /// The time at which it was read, in RFC 3339 with nanoseconds, in UTC.
    pub time: String,
    /// The output.
    pub stream: Stream,
    /// The text, which can have escape sequences for colours, and no others.
    pub text: String,
}

/// Which lines are read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Components and instances, such as `worker` and `worker/2`. All if empty.
    pub names: Vec<String>,
    /// Only this run.
    pub run: Option<u32>,
    /// Only lines since this time, in RFC 3339 with nanoseconds, in UTC.
    pub since: Option<String>,
    /// Only lines of this level or a more severe one, and lines without a level that follow one of these.
    pub level: Option<Level>,
    /// Only the last lines, in all.
    pub tail: Option<usize>,
}

impl Selection {
    pub(super) fn includes(&self, id: &InstanceId) -> bool {
        let is_named = |name: &String| *name == id.component || *name == id.to_string();
        self.names.is_empty() || self.names.iter().any(is_named)
    }
}

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
        self.next_entry()
    }
}

/// A position in the files of one instance.
struct Cursor {
    folder: PathBuf,
    id: InstanceId,
    /// The file that is read.
    current: Option<Current>,
    /// The last file that was read to its end.
    done: Option<(u32, Part)>,
    line: Vec<u8>,
    /// The begins of lines that continue, by output.
    partial: [String; 2],
    /// Whether the last line with a level was selected.
    is_selected: bool,
}

struct Current {
    run: u32,
    part: Part,
    /// The number that the file receives when it is rotated, if it is the last of its run.
    number: u32,
    /// Nothing is written to it any more.
    is_closed: bool,
    reader: BufReader<Box<dyn Read + Send>>,
}

impl Cursor {
    fn new(folder: PathBuf, id: InstanceId, selection: &Selection) -> Self {
        let mut this = Self {
            done: None,
            current: None,
            line: Vec::new(),
            partial: Default::default(),
            is_selected: true,
            folder,
            id,
        };
        if let Some(lines) = selection.tail
            && selection.level.is_none()
        {
            this.skip_to_last(lines);
        }
        this
    }

    /// Skips files from whose successors on there are that many lines.
    fn skip_to_last(&mut self, lines: usize) {
        let mut found = 0;
        for segment in segments(&self.folder).iter().rev() {
            if found >= lines {
                self.done = Some((segment.run, segment.part));
                return;
            }
            if let Ok(reader) = segment.open(&self.folder) {
                found += count_lines(reader);
            }
        }
    }

    /// Returns the next line that is complete, or `None` if there is none yet.
    fn next(&mut self, selection: &Selection) -> Option<Entry> {
        loop {
            if self.current.is_none() && !self.open_next(selection) {
                return None;
            }
            let current = self.current.as_mut()?;
            let read = current
                .reader
                .read_until(b'\n', &mut self.line)
                .unwrap_or(0);
            if self.line.last() == Some(&b'\n') {
                let run = current.run;
                let entry = self.take_line(run, selection);
                if entry.is_some() {
                    return entry;
                }
            } else if read == 0 && !self.finish_file() {
                return None;
            }
        }
    }

    /// Decides at the end of a file whether it is complete. Returns whether there may be more to read.
    fn finish_file(&mut self) -> bool {
        let Some(current) = &mut self.current else {
            return true;
        };
        if current.is_closed {
            self.done = Some((current.run, current.part));
            self.current = None;
            self.line.clear();
            return true;
        }
        let segments = segments(&self.folder);
        let was_rotated = segments.iter().any(|it| {
            it.run == current.run
                && matches!(it.part, Part::Rotated(number) if number >= current.number)
        });
        let has_ended = segments.last().is_some_and(|last| last.run > current.run);
        if was_rotated {
            current.part = Part::Rotated(current.number);
        }
        // Lines may have been written since the end was reached: it is read again.
        current.is_closed = was_rotated || has_ended;
        current.is_closed
    }

    /// Opens the next file. Returns whether there is one.
    fn open_next(&mut self, selection: &Selection) -> bool {
        loop {
            let all = segments(&self.folder);
            let is_next = |it: &&Segment| {
                let is_selected = selection.run.is_none_or(|run| run == it.run);
                is_selected && self.done.is_none_or(|done| (it.run, it.part) > done)
            };
            let Some(segment) = all.iter().find(is_next) else {
                return false;
            };
            let number = next_number(&all, segment.run);
            let Ok(reader) = segment.open(&self.folder) else {
                // It was deleted or renamed since.
                if segments(&self.folder) == all {
                    self.done = Some((segment.run, segment.part));
                }
                continue;
            };
            if segment.part == Part::Live
                && next_number(&segments(&self.folder), segment.run) != number
            {
                continue;
            }
            self.current = Some(Current {
                run: segment.run,
                part: segment.part,
                number,
                is_closed: segment.part != Part::Live,
                reader: BufReader::with_capacity(64 * 1024, reader),
            });
            return true;
        }
    }

    /// Returns the line that was read, unless it continues or is not selected.
    fn take_line(&mut self, run: u32, selection: &Selection) -> Option<Entry> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let line = Line::parse(text.trim_end_matches('\n'))?;
        let partial = &mut self.partial[usize::from(line.stream == Stream::Stderr)];
        partial.push_str(line.text);
        if line.is_partial && partial.len() < MAX_TEXT_BYTES {
            return None;
        }
        let text = std::mem::take(partial);
        if selection
            .since
            .as_deref()
            .is_some_and(|since| line.time < since)
        {
            return None;
        }
        if let Some(wanted) = selection.level {
            if let Some(level) = Level::of_text(&text) {
                self.is_selected = level >= wanted;
            }
            if !self.is_selected {
                return None;
            }
        }
        Some(Entry {
            id: self.id.clone(),
            run,
            time: line.time.to_owned(),
            stream: line.stream,
            text,
        })
    }
}

/// Returns the number that the last file of a run receives when it is rotated.
fn next_number(segments: &[Segment], run: u32) -> u32 {
    let rotated = segments.iter().filter_map(|it| match it.part {
        Part::Rotated(number) if it.run == run => Some(number),
        _ => None,
    });
    rotated.max().unwrap_or(0) + 1
}

fn count_lines(mut reader: impl Read) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut count = 0;
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        count += buffer[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::LogLimits;
    use super::super::file::{Compressor, RunLog};
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
