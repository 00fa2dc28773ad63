//! How large and how old the log files of a cluster become.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How large and how old log files become. The file that an instance writes at present is never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLimits {
    /// A file is rotated when it has reached this size, in bytes. Default: 16 MiB.
    pub file_bytes: u64,
    /// The oldest files of an instance are deleted when all of them, compressed, are larger. Default: 512 MiB.
    pub instance_bytes: u64,
    /// The runs of an instance whose files are kept. Default: 500.
    pub runs: u32,
    /// The age from which on a file is deleted, since it was written last. Default: none.
    pub max_age: Option<Duration>,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            instance_bytes: 512 << 20,
            runs: 500,
            max_age: None,
        }
    }
}

impl LogLimits {
    /// Returns the keys of the file whose values differ, such as `file_size`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            (self.file_bytes != other.file_bytes, "file_size"),
            (self.instance_bytes != other.instance_bytes, "instance_size"),
            (self.runs != other.runs, "runs"),
            (self.max_age != other.max_age, "max_age"),
        ];
        let differing = keys.into_iter().filter(|(differs, _)| *differs);
        differing.map(|(_, key)| key).collect()
    }
}
