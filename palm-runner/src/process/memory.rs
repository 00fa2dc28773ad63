//! Whether the kernel has killed processes because the memory was exhausted.
//!
//! A process that the kernel kills for its memory ends by SIGKILL, as one does that a person kills; only a counter of
//! the kernel tells them apart. The counter does not say which process was killed, so a process counts as killed for
//! its memory if it ended by a SIGKILL that is not the runner's, and the counter has just grown.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time from the kill of a process to its end: the kernel frees its memory first.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Kills that are remembered until the end of a process is found that they explain.
const MAX_RECENT: usize = 1000;

/// The counter of kills.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    /// A file with a line `oom_kill COUNT`. `None` if the kernel has no such counter.
    counter: Option<PathBuf>,
    seen: u64,
    /// When kills were noticed that explain no end of a process yet.
    recent: VecDeque<Instant>,
}

impl OutOfMemory {
    pub(crate) fn new() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut candidates = counters(&groups).into_iter();
        Self::with_counter(candidates.find(|path| read(path).is_some()))
    }

    fn with_counter(counter: Option<PathBuf>) -> Self {
        Self {
            seen: counter.as_deref().and_then(read).unwrap_or(0),
            counter,
            recent: VecDeque::new(),
        }
    }

    /// Notices kills. It is called regularly, so that the kill of a descendant, which ends no process of an instance,
    /// does not explain the end of another process much later.
    pub(crate) fn look(&mut self, now: Instant) {
        let Some(count) = self.counter.as_deref().and_then(read) else {
            return;
        };
        let kills = count.saturating_sub(self.seen);
        self.seen = count;
        for _ in 0..kills.min(MAX_RECENT as u64) {
            self.recent.push_back(now);
        }
        let is_old = |at: &Instant| now.duration_since(*at) > MAX_DELAY;
        while self.recent.len() > MAX_RECENT || self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
    }

    /// Returns whether a kill explains that a process has ended now. Each kill explains one end.
    pub(crate) fn explains_end(&mut self, now: Instant) -> bool {
        self.look(now);
        self.recent.pop_front().is_some()
    }
}

/// Returns the files that may have the counter, the best first: of the control group of the runner, which components
/// are in, too, by version 2 (which counts groups below it) or 1; and else of the machine, where other programs are
/// killed as well.
fn counters(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            let root = Path::new("/sys/fs/cgroup");
            files.push(root.join(group).join("memory.events"));
        } else if controllers.split(',').any(|it| it == "memory") {
            let root = Path::new("/sys/fs/cgroup/memory");
            files.push(root.join(group).join("memory.oom_control"));
            // A container sees its own group as the root, under another name.
            files.push(root.join("memory.oom_control"));
        }
    }
    files.push(PathBuf::from("/proc/vmstat"));
    files
}

fn read(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut counts = text.lines().filter_map(|it| it.strip_prefix("oom_kill "));
    counts.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_explains_one_end_that_follows_soon() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        let count = |kills: u32| {
            let text = format!("low 0\noom 9\noom_kill {kills}\noom_group_kill 7\n");
            fs::write(&file, text).unwrap();
        };
        count(3);
        let mut memory = OutOfMemory::with_counter(Some(file.clone()));
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!memory.explains_end(at(0)));
        count(5);
        assert!(memory.explains_end(at(1)));
        // The second one was noticed then, and explains nothing that ends much later.
        assert!(memory.explains_end(at(2)));
        assert!(!memory.explains_end(at(2)));
        count(6);
        memory.look(at(3));
        assert!(!memory.explains_end(at(100)));
        fs::remove_file(&file).unwrap();
        assert!(!memory.explains_end(at(101)));
    }

    #[test]
    fn counter_of_the_control_group_precedes_that_of_the_machine() {
        let expected = ["/sys/fs/cgroup/user.slice/memory.events", "/proc/vmstat"];
        assert_eq!(counters("0::/user.slice\n"), expected.map(Path::new));
        let both = "5:devices:/\n4:cpu,memory:/docker/1\n0::/\n";
        let expected = [
            "/sys/fs/cgroup/memory/docker/1/memory.oom_control",
            "/sys/fs/cgroup/memory/memory.oom_control",
            "/sys/fs/cgroup/memory.events",
            "/proc/vmstat",
        ];
        assert_eq!(counters(both), expected.map(Path::new));
    }
}
