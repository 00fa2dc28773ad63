//! [`Member`]: a component in a process of its own, and a fault proxy in front of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use palm::logging::{FALLBACK_VARIABLE, VARIABLE};
use palm::testing::{FaultProxy, Faults};

use crate::support::{ANY, Process};

/// A component and the fault proxy in front of it, or between a worker and its master.
pub(crate) struct Member {
    pub(crate) role: &'static str,
    /// The address to which it is bound, or to which a worker connects.
    pub(crate) at: String,
    arguments: Vec<String>,
    /// A variable in the environment of its processes.
    variable: Option<(&'static str, PathBuf)>,
    pub(crate) process: Option<Process>,
    pub(crate) proxy: Option<FaultProxy>,
}

impl Member {
    /// Starts a component with the arguments of its role. The first argument of a worker is its master.
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
        let proxy = async |to: &str| faults.proxy(to).await.expect("there is a port");
        let mut member = Self {
            variable,
            role,
            at: ANY.to_owned(),
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
            process: None,
            proxy: None,
        };
        if role.ends_with("worker") {
            // No peer connects to a worker.
            let with = proxy(arguments[0]).await;
            member.arguments.remove(0);
            member.at = with.address().to_owned();
            member.proxy = Some(with);
            member.run();
        } else {
            member.run();
            let process = member.process.as_ref().expect("it runs");
            member.at = process.address(0).to_owned();
            member.proxy = Some(proxy(&member.at).await);
        }
        member
    }

    /// Returns the address to which its peers connect.
    pub(crate) fn address(&self) -> &str {
        self.proxy.as_ref().map_or(&self.at, FaultProxy::address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::memory_kib)
    }

    fn command(&self) -> Command {
        let mut command = Process::command(&["run", self.role, &self.at]);
        command.args(&self.arguments);
        let is_unset = |name: &&str| std::env::var_os(name).is_none();
        if [VARIABLE, FALLBACK_VARIABLE].iter().all(is_unset) {
            // Lost peers and dropped messages, but not each connection.
            command.env(VARIABLE, "warn");
        }
        if let Some((name, value)) = &self.variable {
            command.env(name, value);
        }
        command
    }

    fn run(&mut self) {
        self.process = Some(Process::spawn(self.command()));
    }

    /// Starts the process without waiting until it is ready.
    pub(crate) fn launch(&mut self) {
        self.process = Some(Process::launch(self.command()));
    }

    /// Requests the end of the process, and waits for it.
    ///
    /// # Panics
    ///
    /// If the process does not end, or fails.
    pub(crate) async fn drain(&mut self) {
        if let Some(process) = self.process.take() {
            let status = process.release().await;
            assert!(
                status.success(),
                "`{}` was stopped, and ended with {status}",
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
    /// If the process has ended by itself.
    pub(crate) fn check_alive(&mut self) {
        let (role, at) = (self.role, &self.at);
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            panic!("`{role}` at {at} ended by itself with {status}");
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(signal: &str, id: u32) {
    // The standard library can send SIGKILL only.
    let id = id.to_string();
    let status = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(status.expect("there is a `kill`").success());
}
