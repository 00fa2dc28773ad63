//! A position in the files of one instance, while they are written, rotated and deleted.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;

use palm_plan::InstanceId;

use super::entry::{Entry, Selection};
use super::format::{Level, Line, Stream};
use super::segment::{Part, Segment, segments};

/// A longer text is split, although its process wrote no line break.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A position in the files of one instance.
pub(super) struct Cursor {
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
    pub(super) fn new(folder: PathBuf, id: InstanceId, selection: &Selection) -> Self {
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
    pub(super) fn next(&mut self, selection: &Selection) -> Option<Entry> {
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
