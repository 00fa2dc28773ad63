//! Child processes of tests: components that are killed, stopped or measured, and programs whose terminal is read.
//!
//! A test starts a process with [`Process::run`] (a component in a process of its own, see [`roles`]) or with
//! [`Process::spawn`] (any command, e.g. [`role`] below `ip netns exec`). From then on the process belongs to the
//! [`Process`]: it is killed when that is dropped, and everything that it has printed is shown if the test fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::setup::{SOON, eventually, unbound};

pub(crate) mod roles;

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stream {
    Stdout,
    Stderr,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A child process, and the lines that it prints.
pub(crate) struct Process {
    name: String,
    child: Child,
    unread: UnboundedReceiver<(Stream, String)>,
    read: Vec<(Stream, String)>,
    /// The addresses that a component has printed when it was ready.
    pub(crate) addresses: BTreeMap<String, String>,
}

/// The command that runs a role of [`roles`]; `arguments` are values without spaces.
pub(crate) fn role(name: &str, arguments: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    roles::configure(&mut command, name, arguments);
    command
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
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("`{name}` does not start: {error}: {command:?}"));
        let (sender, unread) = unbounded_channel();
        read_lines(child.stdout.take().unwrap(), Stream::Stdout, sender.clone());
        read_lines(child.stderr.take().unwrap(), Stream::Stderr, sender);
        Self {
            name: name.to_owned(),
            child,
            unread,
            read: Vec::new(),
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
        let matches = |stream, line: &str| stream == Stream::Stdout && line.contains(part);
        match self.next_matching(matches, limit).await {
            Some(line) => line,
            None => panic!("`{}` printed no line with {part:?}", self.name),
        }
    }

    /// Waits until a line contains all of these parts, whether it is printed or logged.
    pub(crate) async fn expect(&mut self, parts: &[&str], limit: Duration) {
        self.line_with(parts, limit).await;
    }

    /// Returns the next line that contains all of these parts, whether it is printed or logged.
    pub(crate) async fn line_with(&mut self, parts: &[&str], limit: Duration) -> String {
        let matches = |_, line: &str| parts.iter().all(|part| line.contains(part));
        match self.next_matching(matches, limit).await {
            Some(line) => line,
            None => {
                let name = &self.name;
                panic!("`{name}` printed no line with {parts:?} within {limit:?}");
            }
        }
    }

    /// Returns the first matching line; `None` if there is none until the limit or the end of the process.
    async fn next_matching(
        &mut self,
        matches: impl Fn(Stream, &str) -> bool,
        limit: Duration,
    ) -> Option<String> {
        let until = Instant::now() + limit;
        loop {
            let received = tokio::time::timeout_at(until, self.unread.recv()).await;
            let (stream, line) = received.ok().flatten()?;
            self.read.push((stream, line.clone()));
            if matches(stream, &line) {
                return Some(line);
            }
        }
    }

    /// Returns how many of the lines that were read so far contain all of these parts.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        let lines = self.read.iter().map(|(_, line)| line);
        lines
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .count()
    }

    /// Kills the process, and returns its addresses.
    pub(crate) fn kill(mut self) -> BTreeMap<String, String> {
        self.kill_and_keep();
        std::mem::take(&mut self.addresses)
    }

    /// Kills the process, and returns what it had printed on its standard output.
    pub(crate) async fn kill_and_read(mut self) -> String {
        self.kill_and_keep();
        self.read_to_end().await;
        self.text_of(Stream::Stdout)
    }

    /// Kills the process, whose output can still be read.
    pub(crate) fn kill_and_keep(&mut self) {
        // It fails if the process has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, with the program `kill`: the standard library can send SIGKILL only.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let what = format!("the end of `{}`", self.name);
        let child = &mut self.child;
        eventually(&what, || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Waits until the process has ended by itself, and returns everything that it has printed.
    pub(crate) async fn output(mut self, limit: Duration) -> Ended {
        if tokio::time::timeout(limit, self.read_to_end())
            .await
            .is_err()
        {
            panic!("`{}` has not ended within {limit:?}", self.name);
        }
        Ended {
            status: self.ended().await,
            stdout: self.text_of(Stream::Stdout),
            stderr: self.text_of(Stream::Stderr),
        }
    }

    async fn read_to_end(&mut self) {
        while let Some(line) = self.unread.recv().await {
            self.read.push(line);
        }
    }

    fn text_of(&self, stream: Stream) -> String {
        let lines = self.read.iter().filter(|(it, _)| *it == stream);
        lines.map(|(_, line)| format!("{line}\n")).collect()
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
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.unwrap().trim().parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            while let Ok(line) = self.unread.try_recv() {
                self.read.push(line);
            }
            for (_, line) in &self.read {
                eprintln!("{}: {line}", self.name);
            }
        }
    }
}

/// Sends each line until the process closes the stream. A line that a kill cut short has no end, and is left out.
fn read_lines(
    stream: impl Read + Send + 'static,
    which: Stream,
    lines: UnboundedSender<(Stream, String)>,
) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok() && line.ends_with('\n') {
            let text = line.trim_end_matches(['\n', '\r']).to_owned();
            if lines.send((which, text)).is_err() {
                return;
            }
            line.clear();
        }
    });
}
