//! The commands that run the cluster of a file. They block; the runner has its own loop in the main thread.

pub mod arguments;
mod change;
mod console;
mod failure;
mod file;
mod hidden;
mod logs;
pub(super) mod plan;
mod processes;
mod ps;
mod up;
mod wait;

pub use arguments::Command;
pub use failure::ClusterFailure;
pub use hidden::hidden;
pub(super) use processes::Runner;

use std::path::Path;

use palm::socket::Address;

use super::{Failure, write};
use file::File;

/// Returns the address of the component with this name in the cluster of a file, or of its only component that binds
/// one.
///
/// # Errors
///
/// The file has mistakes, the cluster does not run, or the component is not one of it.
pub(super) fn address(path: Option<&Path>, name: Option<&str>) -> Result<Address, ClusterFailure> {
    File::open(path)?.address(name)
}

/// Runs a command.
///
/// # Errors
///
/// [`Failure`] says why it failed, and what to do.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(up) => up::up(&up),
        Command::Ps(ps) => ps::ps(&ps),
        Command::Status(status) => ps::status(&status),
        Command::Logs(logs) => logs::logs(&logs),
        Command::Scale(scale) => change::scale(&scale),
        Command::Restart(restart) => change::restart(&restart),
        Command::Stop(stop) => change::stop(&stop, change::Shown::End),
        Command::Drain(drain) => change::stop(&drain.stop, change::Shown::Progress),
        Command::Events(events) => logs::events(&events),
        Command::Down(down) => change::down(&down),
        Command::Upgrade { file } => change::upgrade(&file),
    }
}
