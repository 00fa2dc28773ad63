//! How a process ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};

use crate::logs::Level;

/// How a process ended, and the last lines that it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub kind: ExitKind,
    /// Why the runner ended it, if it did because the process had failed: a sentence without a subject.
    #[serde(default)]
    pub cause: Option<String>,
    /// Its last lines: those of standard output, then those of standard error.
    pub last_lines: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed it because the memory was exhausted.
    OutOfMemory,
    /// It could not be started, for this reason.
    NotStarted(String),
}

impl ExitKind {
    /// Returns whether the process ended with code 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {number}"),
            },
            Self::OutOfMemory => f.write_str("was killed by the kernel: out of memory"),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cause) = &self.cause {
            write!(f, "{cause}, and ")?;
        }
        write!(f, "{}", self.kind)?;
        match self.decisive_line() {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}

impl Exit {
    /// Returns the line that explains the end best: the first of a panic, or the last line, without those of the level
    /// INFO and below if there are others. A process that SIGKILL ended could not say why.
    fn decisive_line(&self) -> Option<String> {
        const SIGKILL: i32 = 9;
        if self.kind == ExitKind::Signal(SIGKILL) {
            return None;
        }
        let is_panic = |line: &&String| line.contains("panicked at");
        let line = match self.last_lines.iter().rposition(|line| is_panic(&line)) {
            // Since Rust 1.73 the message follows on a line of its own.
            Some(index) => match self.last_lines.get(index + 1) {
                Some(message) => format!("{} {message}", self.last_lines[index]),
                None => self.last_lines[index].clone(),
            },
            None => {
                let texts = || {
                    self.last_lines
                        .iter()
                        .rev()
                        .filter(|it| !it.trim().is_empty())
                };
                let is_grave =
                    |line: &&String| Level::of_text(line).is_none_or(|it| it >= Level::Warn);
                texts().find(is_grave).or_else(|| texts().next())?.clone()
            }
        };
        Some(shorten(line.trim()))
    }
}

/// Limits a line of a process to what fits into a sentence.
fn shorten(line: &str) -> String {
    const MAX_CHARS: usize = 200;
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Returns a name such as `SIGKILL`.
fn signal_name(number: i32) -> Option<String> {
    // The standard library has the names of the platform: "signal: 9 (SIGKILL)".
    let text = ExitStatus::from_raw(number).to_string();
    let name = text.split_once('(')?.1.split(')').next()?;
    name.starts_with("SIG").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: ExitKind, lines: &[&str]) -> String {
        let last_lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let exit = Exit {
            kind,
            cause: None,
            last_lines,
        };
        exit.to_string()
    }

    #[test]
    fn exit_is_one_sentence_with_the_decisive_line() {
        let panic = [
            "INFO started",
            "thread 'main' panicked at src/main.rs:4:5:",
            "no more",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        ];
        let expected = "exited with 101: thread 'main' panicked at src/main.rs:4:5: no more";
        assert_eq!(text(ExitKind::Code(101), &panic), expected);
        assert_eq!(text(ExitKind::Signal(9), &[]), "was killed by SIGKILL");
        assert_eq!(
            text(ExitKind::Signal(15), &["", "x", " "]),
            "was killed by SIGTERM: x"
        );
        let log = ["1 ERROR no disk", "2 INFO is ready"];
        assert_eq!(text(ExitKind::Signal(9), &log), "was killed by SIGKILL");
        assert_eq!(
            text(ExitKind::Code(1), &log),
            "exited with 1: 1 ERROR no disk"
        );
        let last = ["2 INFO is ready", "no model file", "3 INFO stops"];
        assert_eq!(
            text(ExitKind::Code(1), &last),
            "exited with 1: no model file"
        );
        let long = "é".repeat(500);
        assert!(text(ExitKind::Code(1), &[&long]).chars().count() < 250);
    }
}
