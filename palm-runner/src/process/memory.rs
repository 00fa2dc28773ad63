//! Whether the kernel has killed processes because the memory was exhausted.

use std::fs;
use std::path::PathBuf;

/// The counter of such kills in the control group of the runner, in which its processes are, too.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    /// `None` without control groups of version 2.
    file: Option<PathBuf>,
    seen: u64,
}

impl OutOfMemory {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            file: find(),
            seen: 0,
        };
        this.seen = this.count();
        this
    }

    /// Returns whether the kernel has killed a process since the last call.
    pub(crate) fn has_killed(&mut self) -> bool {
        let count = self.count();
        std::mem::replace(&mut self.seen, count) < count
    }

    fn count(&self) -> u64 {
        let text = self
            .file
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let mut counts = text
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "));
        counts
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    }
}

fn find() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let file = PathBuf::from("/sys/fs/cgroup")
        .join(group)
        .join("memory.events");
    file.exists().then_some(file)
}
