//! The end of processes.

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait,
};

use crate::state::ExitKind;

/// Makes this process the parent of descendants that have lost theirs.
pub(crate) fn adopt_orphans() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Returns a process that has ended, if there is one. It is called until there is none.
pub(crate) fn reap() -> Option<(u32, ExitKind)> {
    loop {
        let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
        let kind = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitKind::Code(code),
            (_, Some(signal)) => ExitKind::Signal(signal),
            _ => continue,
        };
        return Some((pid.as_raw_nonzero().get().unsigned_abs(), kind));
    }
}

/// Sends SIGTERM to a process group. A group that has ended is ignored.
pub(crate) fn signal_group(leader: u32) {
    send(leader, Signal::TERM);
    // A stopped process (SIGSTOP) receives it only once it continues.
    send(leader, Signal::CONT);
}

/// Sends SIGKILL to a process group.
pub(crate) fn kill_group(leader: u32) {
    send(leader, Signal::KILL);
}

fn send(leader: u32, signal: Signal) {
    let pid = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only if the group has ended, or if its processes have become those of another user.
        let _ = kill_process_group(pid, signal);
    }
}
