//! Processes: their start, their end, and what is known about them.
//!
//! A process begins as `palm __exec` ([`exec`]), which makes it end with the runner, and then becomes the program. The
//! runner is the subreaper of all descendants, so that none can leave its sight: those that outlive the process of
//! their instance are found by their environment and killed.

mod exec;
mod facts;
mod memory;
mod notify;
mod port;
mod probe;
mod reap;
mod spawn;
mod survivors;

pub use exec::{EXEC_ARGUMENT, exec};
pub(crate) use facts::facts;
pub(crate) use memory::OutOfMemory;
pub(crate) use notify::{Notification, NotifySocket, Report};
pub(crate) use port::occupied;
pub(crate) use probe::probe;
pub(crate) use reap::{adopt_orphans, kill_group, reap, signal_group};
pub(crate) use spawn::{Environment, spawn};
pub(crate) use survivors::{Survivor, descendants, kill, survivors};
