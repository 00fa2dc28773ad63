//! Where the files of a cluster are.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use palm_plan::InstanceId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Paths of Unix sockets have at most 107 bytes.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Where the files of a cluster are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    /// What remains: logs, events and the state, by cluster.
    state: PathBuf,
    /// What exists while the cluster runs: sockets.
    runtime: PathBuf,
    cluster: String,
}

/// A folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It cannot be created or read.
    #[error("the folder `{}` cannot be created", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could replace sockets in it.
    #[error("the folder `{}` belongs to another user, or others can write to it: remove it, or set XDG_RUNTIME_DIR", .0.display())]
    Unsafe(PathBuf),
    /// Sockets in it would have paths that are too long.
    #[error("the path `{}` is too long for a socket: set XDG_RUNTIME_DIR to a shorter folder", .0.display())]
    TooLong(PathBuf),
}

impl Folders {
    /// Returns the folders of a cluster whose file is in `file_dir`. `PALM_STATE_DIR` replaces `.palm` in that folder.
    /// Two files with clusters of one name have folders of their own.
    pub fn new(cluster: &str, file_dir: &Path) -> Self {
        let state = match std::env::var_os("PALM_STATE_DIR").filter(|it| !it.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => file_dir.join(".palm"),
        };
        let runtime = match std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()) {
            Some(folder) => PathBuf::from(folder).join("palm"),
            None => {
                let user = rustix::process::getuid().as_raw();
                PathBuf::from(format!("/tmp/palm-{user}"))
            }
        };
        let hash = xxh3_64(state.as_os_str().as_bytes());
        Self {
            runtime: runtime.join(format!("{cluster}-{:08x}", hash & 0xffff_ffff)),
            state,
            cluster: cluster.to_owned(),
        }
    }

    /// Creates the folders, those of sockets for this user alone.
    pub(super) fn create(&self) -> Result<(), FolderError> {
        let create = |path: &Path, mode| {
            let created = fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path);
            created.map_err(|source| FolderError::Io {
                path: path.to_owned(),
                source,
            })
        };
        create(&self.logs(), 0o755)?;
        create(&self.cluster_state(), 0o755)?;
        create(&self.notify(), 0o700)?;
        for folder in [self.runtime.parent(), Some(&self.runtime)]
            .into_iter()
            .flatten()
        {
            let metadata = fs::symlink_metadata(folder).map_err(|source| FolderError::Io {
                path: folder.to_owned(),
                source,
            })?;
            let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
            if !metadata.is_dir() || !is_own || metadata.mode() & 0o022 != 0 {
                return Err(FolderError::Unsafe(folder.to_owned()));
            }
        }
        let longest = self.notify().join("00000000.4294967295");
        match longest.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            true => Err(FolderError::TooLong(longest)),
            false => Ok(()),
        }
    }

    /// The folder of sockets: `ipc://` addresses are below it. It exists while the cluster runs.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The socket of the runner's interface.
    pub fn api(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// The folder of sockets on which processes report.
    pub(super) fn notify(&self) -> PathBuf {
        self.runtime.join("n")
    }

    pub(super) fn notify_socket(&self, id: &InstanceId) -> PathBuf {
        // A hash: the name of a component may be as long as a path of a socket.
        let hash = xxh3_64(id.component.as_bytes()) & 0xffff_ffff;
        self.notify().join(format!("{hash:08x}.{}", id.index))
    }

    /// The folder with a folder for the logs of each component.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs").join(&self.cluster)
    }

    fn cluster_state(&self) -> PathBuf {
        self.state.join(&self.cluster)
    }

    /// The file of events.
    pub fn events(&self) -> PathBuf {
        self.cluster_state().join("events.jsonl")
    }

    /// The file of messages of a runner without a terminal.
    pub fn runner_log(&self) -> PathBuf {
        self.cluster_state().join("runner.log")
    }

    pub(super) fn saved(&self) -> PathBuf {
        self.cluster_state().join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders {
            state: folder.path().join("state"),
            runtime: folder.path().join("runtime/a-1"),
            cluster: "a".to_owned(),
        };
        folders.create().unwrap();
        let mode = fs::metadata(folders.runtime()).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700);
        let parent = folder.path().join("runtime");
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(folders.create(), Err(FolderError::Unsafe(path)) if path == parent));
        let long = Folders {
            runtime: folder.path().join("x".repeat(120)),
            ..folders
        };
        assert!(matches!(long.create(), Err(FolderError::TooLong(_))));
    }
}
