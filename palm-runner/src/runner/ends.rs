//! Runs that have ended, until nothing of them is left.

use std::path::Path;
use std::time::{Duration, Instant};

use palm_plan::InstanceId;

use crate::process::{Survivor, kill, kill_group, survivors};
use crate::state::ExitKind;

/// Time after which a process that SIGKILL does not end is given up: it hangs in the kernel.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Time from SIGKILL of the last processes until the runner does not wait for them any more.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks for processes that are still there.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A run whose process has ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) id: InstanceId,
    pub(super) run: u32,
    pub(super) pid: u32,
    pub(super) kind: ExitKind,
    since: Instant,
}

/// Runs whose descendants are being killed.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<End>);

impl Ends {
    pub(super) fn push(&mut self, id: InstanceId, run: u32, pid: u32, kind: ExitKind) {
        // First those that remained in its group, as most do.
        kill_group(pid);
        self.0.push(End {
            id,
            run,
            pid,
            kind,
            since: Instant::now(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &End> {
        self.0.iter()
    }

    /// Kills the descendants of ended runs, and returns the runs that have none any more.
    pub(super) fn finished(&mut self, notify_dir: &Path) -> Vec<End> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let survivors = survivors(notify_dir);
        let has_survivor = |end: &mut End| {
            let name = end.id.to_string();
            let is_of_run = |it: &&Survivor| it.run == end.run && it.instance == name;
            let mut found = survivors.iter().filter(is_of_run).peekable();
            let is_left = found.peek().is_some();
            found.for_each(|it| kill(it.pid));
            is_left && end.since.elapsed() < GIVE_UP_AFTER
        };
        self.0.extract_if(.., |end| !has_survivor(end)).collect()
    }
}
