//! [`Member`]: a component as a process, and a line in front of it that fails when it is told to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use palm::testing::{FaultProxy, Faults};

use crate::support::{ANY, Process};

/// A component, and a line in front of it; of a worker, between it and its master.
pub(crate) struct Member {
    pub(crate) role: &'static str,
    /// Where it is bound; of a worker, where it connects to.
    pub(crate) at: String,
    arguments: Vec<String>,
    /// A variable of its environment.
    variable: Option<(&'static str, PathBuf)>,
    pub(crate) process: Option<Process>,
    pub(crate) line: Option<FaultProxy>,
}

impl Member {
    /// Starts a component; `arguments` are those of its role. The first of a worker's is its master.
    pub(crate) async fn start(role: &'static str, arguments: &[&str], faults: &Faults) -> Self {
        Self::start_in(role, arguments, faults, None).await
    }

    /// [`start`](Self::start), with a variable in the environment of its processes.
    pub(crate) async fn start_with(
        role: &'static str,
        arguments: &[&str],
        faults: &Faults,
        (name, value): (&'static str, &Path),
    ) -> Self {
        Self::start_in(role, arguments, faults, Some((name, value.to_owned()))).await
    }

    async fn start_in(
        role: &'static str,
        arguments: &[&str],
        faults: &Faults,
        variable: Option<(&'static str, PathBuf)>,
    ) -> Self {
        let line = async |to: &str| faults.proxy(to).await.expect("there is a port");
        let mut member = Self {
            variable,
            role,
            at: ANY.to_owned(),
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
            process: None,
            line: None,
        };
        if role.ends_with("worker") {
            // It has no address that others connect to.
            let with = line(arguments[0]).await;
            member.arguments.remove(0);
            member.at = with.address().to_owned();
            member.line = Some(with);
            member.run();
        } else {
            member.run();
            let process = member.process.as_ref().expect("it runs");
            member.at = process.address(0).to_owned();
            member.line = Some(line(&member.at).await);
        }
        member
    }

    /// Where others connect to.
    pub(crate) fn address(&self) -> &str {
        self.line.as_ref().map_or(&self.at, FaultProxy::address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::memory_kib)
    }

    fn command(&self) -> Command {
        let mut command = Process::command(&["run", self.role, &self.at]);
        command.args(&self.arguments);
        if let Some((name, value)) = &self.variable {
            command.env(name, value);
        }
        command
    }

    fn run(&mut self) {
        self.process = Some(Process::spawn(self.command()));
    }

    /// Starts it without waiting until it is ready.
    pub(crate) fn launch(&mut self) {
        self.process = Some(Process::launch(self.command()));
    }

    /// Tells it to stop, and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not end, or not with success.
    pub(crate) async fn drain(&mut self) {
        if let Some(process) = self.process.take() {
            let status = process.release().await;
            assert!(
                status.success(),
                "`{}` was told to stop, and ended with {status}",
                self.role
            );
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.drain().await;
        self.run();
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
        self.run();
    }

    pub(crate) async fn stop_for(&self, time: Duration) {
        signal("STOP", self.id());
        tokio::time::sleep(time).await;
        signal("CONT", self.id());
    }

    /// # Panics
    ///
    /// When the process has ended by itself.
    pub(crate) fn check_alive(&mut self) {
        let (role, at) = (self.role, &self.at);
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            panic!("`{role}` at {at} ended by itself with {status}");
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(signal: &str, id: u32) {
    // Nothing that is safe and at hand sends one but this.
    let id = id.to_string();
    let status = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(status.expect("there is a `kill`").success());
}
