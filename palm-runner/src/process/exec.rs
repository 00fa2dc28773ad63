//! The first moments of a child.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand of `palm` that calls [`exec`].
pub const EXEC_ARGUMENT: &str = "__exec";

/// Makes this process receive SIGTERM when its parent dies, and replaces it by a program. The arguments are the
/// process id of the parent, the program and its arguments. Returns only if that fails.
///
/// The standard library can do this only before `exec` in a forked process, which is unsafe code. A process of its own
/// costs about a millisecond.
pub fn exec(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let parent = arguments.next().and_then(|text| text.into_string().ok());
    let Some(program) = arguments.next() else {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            "`palm __exec` is for palm alone",
        );
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // A parent that died before is not noticed otherwise.
    let actual = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if actual != parent {
        return io::Error::other("the runner has ended");
    }
    Command::new(program).args(arguments).exec()
}
