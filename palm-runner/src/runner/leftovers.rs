//! Processes of a runner that was killed.

use std::thread;
use std::time::Instant;

use super::ends::{KILL_TIMEOUT, LOOK_INTERVAL};
use super::saved::Saved;
use super::{Folders, Progress};
use crate::process::{Survivor, kill, signal_group, survivors};

/// Waits for processes of a runner that was killed. They have received SIGTERM when it ended, unless they were started
/// by another process of their instance.
pub(super) fn stop_leftovers(folders: &Folders, progress: &mut impl FnMut(Progress)) {
    let find = || survivors(&folders.notify());
    let mut left = find();
    if left.is_empty() {
        return;
    }
    let name = |it: &Survivor| format!("{} ({}, process {})", it.instance, it.name, it.pid);
    progress(Progress::Leftovers(left.iter().map(name).collect()));
    left.iter().for_each(|it| signal_group(it.pid));
    let drain = Saved::read(&folders.saved()).drain;
    let begin = Instant::now();
    while !left.is_empty() && begin.elapsed() < drain + KILL_TIMEOUT {
        if begin.elapsed() >= drain {
            left.iter().for_each(|it| kill(it.pid));
        }
        // They are no children of this process, so that nothing reports their end.
        thread::sleep(LOOK_INTERVAL);
        left = find();
    }
}
