//! What the system knows about processes.

use std::collections::HashMap;
use std::time::Duration;

/// What a process group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Processor time since its start, of processes that have ended, too, if their parent waited for them.
    pub(crate) cpu: Duration,
    /// Resident memory; memory that processes share counts for each.
    pub(crate) memory_bytes: u64,
}

/// Returns what each process group uses, by its leader.
pub(crate) fn facts() -> HashMap<u32, Facts> {
    let mut groups = HashMap::<u32, Facts>::new();
    let Ok(all) = procfs::process::all_processes() else {
        return groups;
    };
    let ticks = procfs::ticks_per_second().max(1);
    let page = procfs::page_size();
    for stat in all.flatten().filter_map(|process| process.stat().ok()) {
        let facts = groups.entry(stat.pgrp.unsigned_abs()).or_default();
        let children = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        let used = stat.utime + stat.stime + children;
        facts.cpu += Duration::from_millis(used.saturating_mul(1000) / ticks);
        facts.memory_bytes += stat.rss * page;
    }
    groups
}
