//! Lines of a process as lines of a log file.

use std::collections::VecDeque;

use super::format::{Line, MAX_LINE_BYTES, Stream};
use super::text::{clean, plain};

/// The last lines of each output that are kept for the reason of its end.
const LAST_LINES: usize = 20;

/// Returns the last boundary of a character of UTF-8 up to `end`, or `end` in binary data.
pub(super) fn character_boundary(bytes: &[u8], end: usize) -> usize {
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

pub(super) fn write_line(
    time: &str,
    stream: Stream,
    mut line: &[u8],
    text: &mut String,
    lines: &mut Vec<u8>,
    last_lines: &mut VecDeque<String>,
) {
    if let [before @ .., b'\r'] = line {
        line = before;
    }
    while line.len() > MAX_LINE_BYTES {
        let end = character_boundary(line, MAX_LINE_BYTES);
        write_part(time, stream, true, &line[..end], text, lines);
        line = &line[end..];
    }
    write_part(time, stream, false, line, text, lines);
    if last_lines.len() == LAST_LINES {
        last_lines.pop_front();
    }
    // Enough for a sentence.
    let end = text
        .char_indices()
        .nth(500)
        .map_or(text.len(), |(end, _)| end);
    last_lines.push_back(plain(&text[..end]));
}

pub(super) fn write_part(
    time: &str,
    stream: Stream,
    is_partial: bool,
    line: &[u8],
    text: &mut String,
    lines: &mut Vec<u8>,
) {
    text.clear();
    clean(line, text);
    let line = Line {
        time,
        stream,
        is_partial,
        text,
    };
    line.write(lines);
}
