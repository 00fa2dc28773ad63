//! Processes that outlive the one that their instance was started with.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process that carries the marks of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survivor {
    pub(crate) pid: u32,
    /// `worker/2`.
    pub(crate) instance: String,
    pub(crate) run: u32,
    /// The name of its program.
    pub(crate) name: String,
}

/// Returns all processes of this cluster: those whose `NOTIFY_SOCKET` is in `notify_dir`. Ended ones that were not
/// reaped have no environment, and are not among them.
pub(crate) fn survivors(notify_dir: &Path) -> Vec<Survivor> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| survivor(pid, notify_dir))
        .collect()
}

fn survivor(pid: u32, notify_dir: &Path) -> Option<Survivor> {
    // It fails for processes of other users.
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let mut socket = None;
    let mut instance = None;
    let mut run = None;
    for variable in &mut variables {
        if let Some(value) = variable.strip_prefix(b"NOTIFY_SOCKET=") {
            socket = Some(value);
        } else if let Some(value) = variable.strip_prefix(b"PALM_INSTANCE=") {
            instance = Some(value);
        } else if let Some(value) = variable.strip_prefix(b"PALM_RUN=") {
            run = Some(value);
        }
    }
    let socket = Path::new(std::ffi::OsStr::from_bytes(socket?));
    if socket.parent() != Some(notify_dir) {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    Some(Survivor {
        pid,
        instance: String::from_utf8_lossy(instance?).into_owned(),
        run: std::str::from_utf8(run?).ok()?.parse().ok()?,
        name: name.unwrap_or_default().trim().to_owned(),
    })
}

/// Returns the processes below this one, whatever their environment.
pub(crate) fn descendants() -> Vec<u32> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let stats: Vec<_> = all
        .flatten()
        .filter_map(|process| process.stat().ok())
        .collect();
    let mut found = vec![i32::try_from(std::process::id()).unwrap_or_default()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        // A zombie has ended; it is reaped later.
        let children = stats
            .iter()
            .filter(|stat| stat.ppid == parent && stat.state != 'Z');
        found.extend(children.map(|stat| stat.pid));
    }
    found.drain(1..).map(i32::unsigned_abs).collect()
}

/// Sends SIGKILL to a process.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It has ended, or became one of another user.
        let _ = kill_process(pid, Signal::KILL);
    }
}
