//! Processes that the benchmarks start.
//!
//! A [`Process`] is this program with other arguments. It prints one line when it is ready, and ends when its stdin is
//! closed. A component that calls [`serve_reports`] also answers each line that it reads.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::process::{Command, ExitStatus};
use std::time::Duration;

use palm::testing;

/// An address with a free port that the system picks.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

/// Time within which a process must start, and answer a line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Time within which a process must end after its stdin was closed: somewhat longer than the drain limit.
const END_TIMEOUT: Duration = Duration::from_secs(45);

/// Returns the arguments of this program, without the one that cargo adds.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect()
}

/// A child process, which is killed when this is dropped.
pub(crate) struct Process {
    process: testing::Process,
    /// The words of the first line that the process printed.
    words: Vec<String>,
}

impl Process {
    /// Starts this program with other arguments, and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(Self::command(arguments))
    }

    /// Starts a program without waiting for its first line, see [`ready`](Self::ready).
    pub(crate) fn launch(command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let process = testing::Process::start_showing_stderr(name, command);
        Self {
            process: process.expect("the process starts"),
            words: Vec::new(),
        }
    }

    /// Starts any program, and waits for its first line.
    pub(crate) fn spawn(command: Command) -> Self {
        let mut process = Self::launch(command);
        let line = process.process.blocking_stdout_line(ANSWER_TIMEOUT);
        process.words = words(&line.expect("the process prints a line"));
        process
    }

    /// Returns the command that runs this program with other arguments.
    pub(crate) fn command(arguments: &[&str]) -> Command {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }

    /// Waits until a launched process is ready. Returns `false` if it ended, or was not ready in time.
    pub(crate) async fn ready(&mut self) -> bool {
        if self.words.is_empty() {
            self.words = words(&self.line().await.unwrap_or_default());
        }
        !self.words.is_empty()
    }

    /// Returns word number `number` of the first line, usually an address.
    pub(crate) fn address(&self, number: usize) -> &str {
        let word = self.words.get(number);
        word.expect("the process printed an address when it started")
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the exit status of the process, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.status().expect("it is a child of this one")
    }

    /// Sends a line, and returns the answer; `None` if the process ended, or did not answer in time.
    pub(crate) async fn request(&mut self, line: &str) -> Option<String> {
        self.process.write_line(line).ok()?;
        self.line().await
    }

    async fn line(&mut self) -> Option<String> {
        let line = self.process.stdout_line_with("", ANSWER_TIMEOUT).await;
        Some(line.ok()?.trim_end().to_owned())
    }

    /// Returns the resident memory in KiB where Linux provides it (`proc(5)`), otherwise 0.
    pub(crate) fn memory_kib(&self) -> u64 {
        memory_kib(&self.id().to_string())
    }

    /// Returns the processor time that all threads of the process have used, where Linux provides it (`proc(5)`), otherwise
    /// zero. Includes threads that have ended, and counts ticks of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.id())
    }

    /// Closes the stdin of the process, waits until it has ended, and returns its exit status.
    ///
    /// # Panics
    ///
    /// If the process does not end.
    pub(crate) async fn release(mut self) -> ExitStatus {
        self.process.close_stdin();
        let status = self.process.ended(END_TIMEOUT).await;
        status.unwrap_or_else(|error| panic!("after its stdin was closed, {error}"))
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Returns the resident memory of a process in KiB, without pages of files: the system may drop and read those at any
/// time. `process` is its id, or `self`.
pub(crate) fn memory_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Returns the processor time of a process, see [`Process::processor_time`].
pub(crate) fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program stands in parentheses, and may contain spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<u64>().unwrap_or_default());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Waits until the parent process has ended, or has closed stdin.
pub(crate) async fn until_orphaned() {
    serve_reports(String::new).await;
}

/// Answers each line of stdin with a line, until stdin is closed.
#[expect(
    clippy::print_stdout,
    reason = "the process that started this one reads it"
)]
pub(crate) async fn serve_reports(mut report: impl FnMut() -> String) {
    let (sender, mut requested) = tokio::sync::mpsc::channel(1);
    // Reading stdin cannot be cancelled, so a blocking task would keep the runtime from ending.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || sender.blocking_send(()).is_err() {
                return;
            }
        }
    });
    while let Some(()) = requested.recv().await {
        println!("{}", report());
    }
}
