//! A cluster in a folder of its own.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use palm_runner::api::Client;
use palm_runner::runner::Folders;
use palm_runner::state::ClusterStatus;

/// Time within which a test must end.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);

pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// The folder of a cluster. It is stopped at the end.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) folders: Folders,
}

impl Cluster {
    /// Writes the file, in which `PROGRAM` stands for this program.
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let this = Self {
            folders: Folders::new("test", &path),
            folder,
        };
        this.write(text);
        this
    }

    pub(crate) fn write(&self, text: &str) {
        let program = std::env::current_exe().unwrap();
        let text = text.replace("PROGRAM", program.to_str().unwrap());
        let text = format!("name = \"test\"\n{text}");
        std::fs::write(self.folder.path().join("cluster.toml"), text).unwrap();
    }

    /// Runs `palm` in the folder, and returns its exit code, standard output and standard error.
    pub(crate) fn palm(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = palm(self.folder.path()).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// [`palm`](Self::palm) for a command that succeeds; returns its standard output.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.palm(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// [`palm`](Self::palm) for a command that fails; returns its standard error.
    #[track_caller]
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.palm(arguments);
        assert_eq!(code, 1, "{arguments:?}: {stdout}{stderr}");
        stderr
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        let mut client = Client::connect(&self.folders.api()).unwrap();
        client.status().unwrap()
    }

    /// Returns the address of the component with this key.
    pub(crate) fn db(&self, key: &str) -> String {
        format!("ipc://{}/{key}.db", self.folders.runtime().display())
    }

    /// Waits for a state of the cluster.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&ClusterStatus) -> bool) {
        let begin = Instant::now();
        let found = Client::connect(&self.folders.api())
            .unwrap()
            .watch(|status| match status.is_some_and(&wanted) {
                true => Some(true),
                false => (begin.elapsed() > LIMIT).then_some(false),
            });
        assert!(matches!(found, Ok(true)), "{what}: {found:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = palm(self.folder.path()).args(["down", "--kill"]).output();
    }
}

/// The command `palm` in a folder.
pub(crate) fn palm(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palm"));
    command
        .current_dir(folder)
        .env_remove("PALM_CLUSTER_FILE")
        .env_remove("PALM_STATE_DIR")
        .env("NO_COLOR", "1");
    command
}
