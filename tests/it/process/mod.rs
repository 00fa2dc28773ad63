//! Child processes of tests: components that are killed, stopped or measured, and programs whose terminal is read.
//!
//! A test starts a process with [`Process::run`] (a component in a process of its own, see [`roles`]) or with
//! [`Process::spawn`] (any command, e.g. [`role`] below `ip netns exec`). From then on the process belongs to the
//! [`Process`]: it is killed when that is dropped, and everything that it has printed is shown if the test fails.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use palm::testing;

use super::setup::{SOON, unbound};

pub(crate) mod roles;

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A child process, and the lines that it prints. A wait without a result fails the test.
pub(crate) struct Process {
    process: testing::Process,
    /// The addresses that a component has printed when it was ready.
    pub(crate) addresses: BTreeMap<String, String>,
}

/// The command that runs a role of [`roles`]; `arguments` are values without spaces.
pub(crate) fn role(name: &str, arguments: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    roles::configure(&mut command, name, arguments);
    command
}

/// Returns the result of a wait, and fails the test without one.
#[track_caller]
fn expected<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

impl Process {
    /// Runs a component of [`roles`], and waits until it is ready.
    pub(crate) async fn run(role: &str, arguments: &[(&str, &str)]) -> Self {
        let mut process = Self::spawn(role, self::role(role, arguments));
        process.ready().await;
        process
    }

    /// As [`run`](Self::run), for a component that is restarted at the same addresses.
    pub(crate) async fn run_at_fixed_addresses(role: &str, arguments: &[(&str, &str)]) -> Self {
        let addresses = roles::ADDRESSES.map(|key| (key, unbound()));
        let fixed = addresses.iter().map(|(key, at)| (*key, &**at));
        let all: Vec<_> = fixed.chain(arguments.iter().copied()).collect();
        Self::run(role, &all).await
    }

    /// Starts a command; `name` is for the messages of failed tests.
    pub(crate) fn spawn(name: &str, command: Command) -> Self {
        Self {
            process: expected(testing::Process::start(name, command)),
            addresses: BTreeMap::new(),
        }
    }

    /// Waits for the line that a component prints once it listens, and remembers its addresses.
    pub(crate) async fn ready(&mut self) {
        let line = self.stdout_line_with(roles::READY, SOON).await;
        let (_, addresses) = line.split_once(roles::READY).unwrap();
        self.addresses = roles::parse_arguments(addresses);
    }

    /// Returns the next line of the standard output, without its end.
    pub(crate) async fn stdout_line(&mut self) -> String {
        self.stdout_line_with("", SOON).await
    }

    /// Returns the next line of the standard output that contains `part`.
    pub(crate) async fn stdout_line_with(&mut self, part: &str, limit: Duration) -> String {
        expected(self.process.stdout_line_with(part, limit).await)
    }

    /// Waits until a line contains all of these parts, whether it is printed or logged.
    pub(crate) async fn expect(&mut self, parts: &[&str], limit: Duration) {
        self.line_with(parts, limit).await;
    }

    /// Returns the next line that contains all of these parts, whether it is printed or logged.
    pub(crate) async fn line_with(&mut self, parts: &[&str], limit: Duration) -> String {
        expected(self.process.line_with(parts, limit).await)
    }

    /// Kills the process, and returns its addresses.
    pub(crate) fn kill(mut self) -> BTreeMap<String, String> {
        expected(self.process.kill());
        std::mem::take(&mut self.addresses)
    }

    /// Kills the process, whose output can still be read.
    pub(crate) fn kill_and_keep(&mut self) {
        expected(self.process.kill());
    }

    /// Kills the process, and returns what it had printed on its standard output.
    pub(crate) async fn kill_and_read(mut self) -> String {
        expected(self.process.kill());
        self.output(SOON).await.stdout
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.status().unwrap().is_some()
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        expected(self.process.ended(SOON).await)
    }

    /// Waits until the process has ended by itself, and returns everything that it has printed.
    pub(crate) async fn output(self, limit: Duration) -> Ended {
        let output = expected(self.process.output(limit).await);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Returns how many bytes the process uses: `Rss` with the pages that it shares with others, `Pss` with its part of
    /// them.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, what: &str) -> usize {
        self.proc_kilobytes("smaps_rollup", what)
    }

    /// Returns the most bytes that the process has used so far, with the pages that it shares with others.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak(&self) -> usize {
        self.proc_kilobytes("status", "VmHWM")
    }

    #[cfg(target_os = "linux")]
    fn proc_kilobytes(&self, file: &str, key: &str) -> usize {
        let path = format!("/proc/{}/{file}", self.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.unwrap().trim().parse::<usize>().unwrap() * 1024
    }
}

impl Deref for Process {
    type Target = testing::Process;

    fn deref(&self) -> &testing::Process {
        &self.process
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut testing::Process {
        &mut self.process
    }
}
