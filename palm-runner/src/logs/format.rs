//! Lines of log files.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Longer lines are split. It is the limit of container runtimes.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// Which output a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns the name in log files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The time at which it was read, in RFC 3339 with nanoseconds, in UTC.
    pub time: &'a str,
    /// Which output it is of.
    pub stream: Stream,
    /// Whether the next line of the same output continues it.
    pub is_partial: bool,
    /// The text, without a line break.
    pub text: &'a str,
}

/// Returns a time as log files have it.
pub(crate) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

impl<'a> Line<'a> {
    /// Reads a line without its line break. `None` if it is not a line of a log file.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (stream, rest) = rest.split_once(' ')?;
        let (tag, text) = rest.split_once(' ')?;
        Some(Self {
            time,
            stream: match stream {
                "stdout" => Stream::Stdout,
                "stderr" => Stream::Stderr,
                _ => return None,
            },
            is_partial: match tag {
                "F" => false,
                "P" => true,
                _ => return None,
            },
            text,
        })
    }

    pub(super) fn write(&self, output: &mut Vec<u8>) {
        for (index, part) in [self.time, self.stream.name(), self.tag(), self.text]
            .iter()
            .enumerate()
        {
            if index > 0 {
                output.push(b' ');
            }
            output.extend_from_slice(part.as_bytes());
        }
        output.push(b'\n');
    }

    fn tag(&self) -> &'static str {
        match self.is_partial {
            true => "P",
            false => "F",
        }
    }
}

/// Returns where the text of a line begins.
pub(super) fn text_start(line: &[u8]) -> usize {
    let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ');
    spaces.nth(2).map_or(line.len(), |(index, _)| index + 1)
}

/// How severe a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The most detailed.
    Trace,
    /// For developers.
    Debug,
    /// What an operator should know.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

impl Level {
    /// Returns the level that a line states: `level` of a JSON object, or a word such as `WARN` or `WARNING:` among
    /// its first words. `None` if it states none.
    pub fn of_text(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Json<'a> {
            #[serde(borrow, alias = "severity", alias = "lvl", alias = "levelname")]
            level: Option<std::borrow::Cow<'a, str>>,
        }
        if text.starts_with('{')
            && let Ok(Json { level: Some(level) }) = serde_json::from_str(text)
        {
            return Self::of_word(&level);
        }
        let text = super::plain(text);
        let mut words = text
            .split(|it: char| !it.is_ascii_alphanumeric())
            .filter(|it| !it.is_empty());
        // A time in RFC 3339 has up to eight words.
        let is_level = |word: &&str| word.chars().all(|it| it.is_ascii_uppercase());
        words
            .by_ref()
            .take(12)
            .filter(is_level)
            .find_map(Self::of_word)
    }

    fn of_word(word: &str) -> Option<Self> {
        Some(match &*word.to_ascii_lowercase() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" | "notice" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" | "err" | "critical" | "fatal" => Self::Error,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_read_as_it_was_written() {
        let time = timestamp(SystemTime::UNIX_EPOCH);
        for (stream, is_partial, text) in [
            (Stream::Stdout, false, "a b  c"),
            (Stream::Stderr, true, ""),
        ] {
            let line = Line {
                time: &time,
                stream,
                is_partial,
                text,
            };
            let mut bytes = Vec::new();
            line.write(&mut bytes);
            let written = std::str::from_utf8(&bytes).unwrap().trim_end_matches('\n');
            assert_eq!(Line::parse(written), Some(line));
            assert_eq!(&written[text_start(written.as_bytes())..], text);
        }
        assert_eq!(Line::parse("1970 stdout F"), None);
        assert_eq!(Line::parse("1970 out F x"), None);
    }

    #[test]
    fn level_is_found_in_text_and_json() {
        let cases = [
            ("2026-11-28T12:00:00.1Z  WARN palm: slow", Some(Level::Warn)),
            ("\u{1b}[32m INFO\u{1b}[0m started", Some(Level::Info)),
            ("WARNING:root:x", Some(Level::Warn)),
            ("[ERROR] no", Some(Level::Error)),
            (r#"{"a":1,"level":"warn","msg":"ERROR"}"#, Some(Level::Warn)),
            (r#"{"severity":"CRITICAL"}"#, Some(Level::Error)),
            ("no error at all", None),
            ("", None),
        ];
        for (text, level) in cases {
            assert_eq!(Level::of_text(text), level, "{text}");
        }
    }
}
