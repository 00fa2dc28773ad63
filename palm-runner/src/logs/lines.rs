//! Lines of a process as lines of a log file.

use std::collections::VecDeque;

use super::format::{Line, MAX_LINE_BYTES, Stream};
use super::text::{clean, plain};

/// The last lines of each output that are kept for the reason of its end.
const LAST_LINES: usize = 20;

/// Writes lines of a process, all with one time.
pub(super) struct LineWriter<'a> {
    time: String,
    /// The text of the last line, without control characters.
    text: &'a mut String,
    lines: &'a mut Vec<u8>,
}

impl<'a> LineWriter<'a> {
    /// Creates a writer that replaces `lines`. The texts are memory that is used again.
    pub(super) fn new(time: String, text: &'a mut String, lines: &'a mut Vec<u8>) -> Self {
        lines.clear();
        Self { time, text, lines }
    }

    /// Writes a line that has ended, in parts if it is long, and appends its end to `last_lines`.
    pub(super) fn write_line(
        &mut self,
        stream: Stream,
        mut line: &[u8],
        last_lines: &mut VecDeque<String>,
    ) {
        if let [before @ .., b'\r'] = line {
            line = before;
        }
        while line.len() > MAX_LINE_BYTES {
            line = &line[self.write_begin(stream, line, MAX_LINE_BYTES)..];
        }
        self.write_part(stream, false, line);
        if is_of_backtrace(self.text) {
            return;
        }
        if last_lines.len() == LAST_LINES {
            last_lines.pop_front();
        }
        // Enough for a sentence.
        let end = self.text.char_indices().nth(500);
        let end = end.map_or(self.text.len(), |(end, _)| end);
        last_lines.push_back(plain(&self.text[..end]));
    }

    /// Writes at most `length` bytes of a line that continues, up to the boundary of a character. Returns how many
    /// bytes it has written, which are more than 0 unless the line is empty.
    pub(super) fn write_begin(&mut self, stream: Stream, line: &[u8], length: usize) -> usize {
        let end = character_boundary(line, length.min(line.len()));
        self.write_part(stream, true, &line[..end]);
        end
    }

    fn write_part(&mut self, stream: Stream, is_partial: bool, line: &[u8]) {
        self.text.clear();
        clean(line, self.text);
        let line = Line {
            time: &self.time,
            stream,
            is_partial,
            text: self.text,
        };
        line.write(self.lines);
    }
}

/// Returns the last boundary of a character of UTF-8 up to `end`, or `end` in binary data.
fn character_boundary(bytes: &[u8], end: usize) -> usize {
    let first = end.saturating_sub(3).max(1);
    let is_boundary = |index: &usize| bytes.get(*index).is_none_or(|byte| byte & 0xc0 != 0x80);
    match bytes.len() == end {
        // The last character may be incomplete.
        true => match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                error.valid_up_to()
            }
            _ => end,
        },
        false => (first..=end).rev().find(is_boundary).unwrap_or(end),
    }
}

/// Returns whether a line is one of a backtrace of Rust, or of the notes about it. A panic has dozens of them, which
/// would displace the line that explains it.
fn is_of_backtrace(line: &str) -> bool {
    let text = line.trim_start();
    let is_indented = text.len() < line.len();
    let number = text.trim_start_matches(|it: char| it.is_ascii_digit());
    let is_frame = number.len() < text.len() && number.starts_with(": ") || text.starts_with("at ");
    is_indented && is_frame
        || text == "stack backtrace:"
        || text.starts_with("note: run with `RUST_BACKTRACE=")
        || text.starts_with("note: Some details are omitted, run with `RUST_BACKTRACE=")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the whole line in parts of at most `length` bytes, and returns their texts.
    fn parts(line: &[u8], length: usize) -> Vec<String> {
        let (mut text, mut lines) = (String::new(), Vec::new());
        let mut writer = LineWriter::new("1970".to_owned(), &mut text, &mut lines);
        let mut written = 0;
        while written < line.len() {
            written += writer.write_begin(Stream::Stdout, &line[written..], length);
        }
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines.lines().map(|line| Line::parse(line).unwrap());
        lines.map(|line| line.text.to_owned()).collect()
    }

    #[test]
    fn backtrace_does_not_displace_the_lines_of_a_panic() {
        let (mut text, mut lines) = (String::new(), Vec::new());
        let mut last_lines = VecDeque::new();
        let mut writer = LineWriter::new("1970".to_owned(), &mut text, &mut lines);
        let panic = ["thread 'main' panicked at src/main.rs:4:5:", "no model"];
        let frame =
            |number| format!("  {number}: core::panicking\n             at /rustc/lib.rs:7:1");
        let frames: Vec<_> = (0..2 * LAST_LINES).map(frame).collect();
        let frames = frames.iter().flat_map(|it| it.lines());
        let notes = [
            "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        ];
        let all = panic.into_iter().chain(["stack backtrace:"]);
        for line in all.chain(frames).chain(notes) {
            writer.write_line(Stream::Stderr, line.as_bytes(), &mut last_lines);
        }
        assert_eq!(last_lines, panic);
        for line in ["at last", "  note: nothing", "1: one", "  one: two"] {
            writer.write_line(Stream::Stderr, line.as_bytes(), &mut last_lines);
        }
        assert_eq!(last_lines.len(), 6);
    }

    #[test]
    fn parts_of_a_line_end_between_characters() {
        assert_eq!(parts("aäöü".as_bytes(), 2), ["a", "ä", "ö", "ü"]);
        assert_eq!(parts("aäöü".as_bytes(), 100), ["aäöü"]);
        // Of an incomplete character at the end of a part nothing can be shown.
        assert_eq!(parts(b"ab\xc3", 100), ["ab", ""]);
        assert_eq!(parts(&[0xff; 5], 2).len(), 3);
    }

    #[test]
    fn long_line_is_split_and_its_end_is_the_last_line() {
        let (mut text, mut lines) = (String::new(), Vec::new());
        let mut last_lines = VecDeque::new();
        let line = "ä".repeat(MAX_LINE_BYTES);
        let mut writer = LineWriter::new("1970".to_owned(), &mut text, &mut lines);
        writer.write_line(
            Stream::Stderr,
            format!("{line}\r").as_bytes(),
            &mut last_lines,
        );
        let lines = String::from_utf8(lines).unwrap();
        let lines: Vec<_> = lines
            .lines()
            .map(|line| Line::parse(line).unwrap())
            .collect();
        let partial: Vec<_> = lines.iter().map(|it| it.is_partial).collect();
        assert_eq!(partial, [true, false]);
        let joined: String = lines.iter().map(|it| it.text).collect();
        assert_eq!(joined, line);
        assert_eq!(last_lines, ["ä".repeat(500)]);
    }
}
