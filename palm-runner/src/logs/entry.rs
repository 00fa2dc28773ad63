//! Lines of log files as readers receive them, and which of them they select.

use palm_plan::InstanceId;

use super::format::{Level, Stream};

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
