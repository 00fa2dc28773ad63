//! The runner: the process that a cluster lives in.
//!
//! [`run`] is called in the main thread of a program, which must not end before: processes receive SIGTERM when the
//! thread ends that started them. All decisions are made in one loop, by [`state`](crate::state); the output of
//! processes is read in another thread.

mod clock;
mod ends;
mod events;
mod folders;
mod handover;
mod inputs;
mod leftovers;
mod lock;
mod main_loop;
mod processes;
mod requests;
mod saved;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::Wanted;

pub use events::{ClusterEvent, read_events};
pub use folders::{FolderError, Folders};
pub use saved::saved_notes;

/// What a runner is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The name of the cluster.
    pub cluster: String,
    /// Where its files are.
    pub folders: Folders,
    /// The command `palm`, which has the hidden subcommands `__exec` and `__run`.
    pub executable: PathBuf,
    /// What should run.
    pub wanted: Wanted,
    /// Whether the runner belongs to a terminal, on which it shows the logs.
    pub foreground: bool,
}

/// What a runner reports of its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The previous runner ended without stopping these processes, which are stopping now.
    Leftovers(Vec<String>),
    /// The runner listens to requests, and components start.
    Running,
}

/// A runner cannot begin or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Another runner has this cluster.
    #[error(
        "the cluster `{cluster}` is run by process {pid}: `palm ps` shows it, `palm down` stops it"
    )]
    Locked {
        /// The name of the cluster.
        cluster: String,
        /// The process id of its runner.
        pid: String,
    },
    /// A folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The system refuses something that the runner needs.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs a cluster until it is stopped by a request, SIGTERM or SIGINT. It reports its progress at the start.
///
/// # Errors
///
/// The runner cannot begin. Components that fail are no errors: the runner restarts them.
pub fn run(launch: Launch, progress: impl FnMut(Progress)) -> Result<(), RunError> {
    main_loop::run(launch, progress)
}

/// Continues as the runner of which this process was the previous version: see [`Request::Upgrade`]. It reads the
/// state from standard input. `begin` is called once the state is known.
///
/// # Errors
///
/// The state cannot be read.
///
/// [`Request::Upgrade`]: crate::api::Request::Upgrade
pub fn resume(begin: impl FnOnce(&Launch)) -> Result<(), RunError> {
    let received = handover::receive();
    let (state, descriptors) =
        received.map_err(RunError::io("the state of the previous version"))?;
    begin(&state.launch);
    main_loop::resume(state, descriptors, |_: Progress| {})
}
