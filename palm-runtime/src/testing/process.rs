//! [`Process`]: a program in a process of its own.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Output that is kept, in bytes. Older lines are dropped.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Interval between checks whether a process that has closed its output has ended.
const END_INTERVAL: Duration = Duration::from_millis(5);

/// A program in a process of its own: a component that a test kills for real, or stops by a signal, and the lines that
/// it prints.
///
/// The process is killed when this is dropped. If a test fails by then, which is to say that its thread panics, all that
/// the process has printed is printed to the standard error.
///
/// The last 16 MiB of its output are kept. They are read at once, so that the process never waits for the test.
///
/// [`Restartable`](super::Restartable) kills a component within the process of the test, which is faster, but leaves
/// open what only the system closes.
///
/// # Example
///
/// ```no_run
/// use std::process::Command;
/// use std::time::Duration;
///
/// use palm::testing::{Process, ProcessError, unused_address};
///
/// # async fn example() -> Result<(), ProcessError> {
/// // In an integration test, cargo says where the program is: `env!("CARGO_BIN_EXE_images")`.
/// const IMAGES: &str = "target/debug/images";
/// let limit = Duration::from_secs(15);
/// let at = unused_address()?;
/// let start = |role: &str, option: &str| {
///     let mut command = Command::new(IMAGES);
///     command.args([role, "images", option, &at]);
///     Process::start(role, command)
/// };
///
/// let mut master = start("master", "--bind")?;
/// master.line_with(&["images is ready"], limit).await?;
/// let mut worker = start("worker", "--connect")?;
/// master.line_with(&["worker connected"], limit).await?;
/// worker.kill()?;
/// master.line_with(&["worker lost"], limit).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    printed: Arc<Printed>,
}

/// A process does not do what a test waits for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The process runs, and has not printed the line in time.
    #[error("`{process}` has printed no line with {wanted:?} within {limit:?}")]
    #[non_exhaustive]
    NoLine {
        /// The name of the process.
        process: String,
        /// What the line had to contain.
        wanted: Vec<String>,
        /// The time that it had.
        limit: Duration,
    },
    /// The process has closed its output without printing the line.
    #[error("`{process}` has ended without a line with {wanted:?}")]
    #[non_exhaustive]
    Ended {
        /// The name of the process.
        process: String,
        /// What the line had to contain.
        wanted: Vec<String>,
    },
    /// The process, or one that has its output, has not ended in time.
    #[error("`{process}` has not ended within {limit:?}")]
    #[non_exhaustive]
    Runs {
        /// The name of the process.
        process: String,
        /// The time that it had.
        limit: Duration,
    },
    /// An error of the system, when it starts the process, sends a signal to it, or looks whether it has ended.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// What a process has printed.
#[derive(Debug, Default)]
struct Printed {
    state: Mutex<PrintedLines>,
    /// Notified of each line, and of the end of a stream: for those that wait in a task.
    changed: Notify,
    /// The same, for those that block their thread.
    changed_blocking: Condvar,
}

#[derive(Debug, Default)]
struct PrintedLines {
    lines: VecDeque<(Stream, String)>,
    /// How many of the lines were returned, or passed over.
    read: usize,
    bytes: usize,
    open_streams: usize,
}

/// Which line a test waits for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    parts: &'a [&'a str],
    stdout_only: bool,
}

impl Process {
    /// Starts a program; `name` is for errors. Its standard input stays open until
    /// [`close_stdin`](Self::close_stdin), or until this is dropped.
    ///
    /// # Errors
    ///
    /// The error of the system if it cannot execute the program.
    pub fn start(name: impl Into<String>, command: Command) -> io::Result<Self> {
        Self::start_in(name.into(), command, Stdio::piped())
    }

    /// As [`start`](Self::start), for programs outside of tests: what the process prints to its standard error appears at
    /// once, and is not kept.
    ///
    /// # Errors
    ///
    /// The error of the system if it cannot execute the program.
    pub fn start_showing_stderr(name: impl Into<String>, command: Command) -> io::Result<Self> {
        Self::start_in(name.into(), command, Stdio::inherit())
    }

    fn start_in(name: String, mut command: Command, stderr: Stdio) -> io::Result<Self> {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = streams.stderr(stderr).spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            io::Error::new(error.kind(), format!("cannot start `{program}`: {error}"))
        })?;
        let printed = Arc::<Printed>::default();
        if let Some(stdout) = child.stdout.take() {
            printed.read_all(Stream::Stdout, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            printed.read_all(Stream::Stderr, stderr);
        }
        Ok(Self {
            name,
            stdin: child.stdin.take(),
            child,
            printed,
        })
    }

    /// Returns the id that the system has given to the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that contains all of these parts, printed to the standard output or to the standard error,
    /// and returns it without its end. Lines before it are passed over.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoLine`] and [`ProcessError::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Lines that do not match are passed over.
    pub async fn line_with(
        &mut self,
        parts: &[&str],
        limit: Duration,
    ) -> Result<String, ProcessError> {
        let wanted = Wanted {
            parts,
            stdout_only: false,
        };
        self.line(wanted, limit).await
    }

    /// Waits for the next line of the standard output that contains `part`, as [`line_with`](Self::line_with).
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoLine`] and [`ProcessError::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Lines that do not match are passed over.
    pub async fn stdout_line_with(
        &mut self,
        part: &str,
        limit: Duration,
    ) -> Result<String, ProcessError> {
        let wanted = Wanted {
            parts: &[part],
            stdout_only: true,
        };
        self.line(wanted, limit).await
    }

    async fn line(&mut self, wanted: Wanted<'_>, limit: Duration) -> Result<String, ProcessError> {
        let until = tokio::time::Instant::now() + limit;
        let printed = self.printed.clone();
        loop {
            let mut changed = std::pin::pin!(printed.changed.notified());
            // Enabled before the check, so that no line is missed.
            changed.as_mut().enable();
            if let Some(line) = printed.state.lock().next(wanted) {
                return line.ok_or_else(|| self.ended_without(wanted));
            }
            let is_late = tokio::time::timeout_at(until, changed).await.is_err();
            if is_late {
                return Err(self.no_line(wanted, limit));
            }
        }
    }

    /// Waits for the next line of the standard output, blocking the thread.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoLine`] and [`ProcessError::Ended`].
    pub fn blocking_stdout_line(&mut self, limit: Duration) -> Result<String, ProcessError> {
        let until = Instant::now() + limit;
        let wanted = Wanted {
            parts: &[],
            stdout_only: true,
        };
        let mut state = self.printed.state.lock();
        loop {
            if let Some(line) = state.next(wanted) {
                return line.ok_or_else(|| self.ended_without(wanted));
            }
            let waited = &self.printed.changed_blocking;
            if waited.wait_until(&mut state, until).timed_out() {
                return Err(self.no_line(wanted, limit));
            }
        }
    }

    fn no_line(&self, wanted: Wanted<'_>, limit: Duration) -> ProcessError {
        ProcessError::NoLine {
            process: self.name.clone(),
            wanted: wanted.texts(),
            limit,
        }
    }

    fn ended_without(&self, wanted: Wanted<'_>) -> ProcessError {
        ProcessError::Ended {
            process: self.name.clone(),
            wanted: wanted.texts(),
        }
    }

    fn still_runs(&self, limit: Duration) -> ProcessError {
        ProcessError::Runs {
            process: self.name.clone(),
            limit,
        }
    }

    /// Returns how many of the lines that were returned or passed over contain all of these parts.
    pub fn count(&self, parts: &[&str]) -> usize {
        let wanted = Wanted {
            parts,
            stdout_only: false,
        };
        let state = self.printed.state.lock();
        let read = state.lines.iter().take(state.read);
        read.filter(|(stream, line)| wanted.matches(*stream, line))
            .count()
    }

    /// Writes a line to the standard input of the process.
    ///
    /// # Errors
    ///
    /// The error of the system if the process has closed its standard input, or [`close_stdin`](Self::close_stdin) has.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{line}")?;
        stdin.flush()
    }

    /// Closes the standard input of the process.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills the process (SIGKILL), and waits until it has ended. What it had printed can still be read.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // It fails if the process has ended already.
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Asks the process to stop: SIGTERM.
    ///
    /// # Errors
    ///
    /// The error of the system, for example if the process has ended.
    #[cfg(unix)]
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(rustix::process::Signal::TERM)
    }

    /// Asks the process to stop as Ctrl+C does: SIGINT.
    ///
    /// # Errors
    ///
    /// The error of the system, for example if the process has ended.
    #[cfg(unix)]
    pub fn interrupt(&self) -> io::Result<()> {
        self.signal(rustix::process::Signal::INT)
    }

    /// Stops the threads of the process until [`resume`](Self::resume): SIGSTOP. Its peers see a process that hangs.
    ///
    /// # Errors
    ///
    /// The error of the system, for example if the process has ended.
    #[cfg(unix)]
    pub fn pause(&self) -> io::Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// Continues the threads of the process: SIGCONT.
    ///
    /// # Errors
    ///
    /// The error of the system, for example if the process has ended.
    #[cfg(unix)]
    pub fn resume(&self) -> io::Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Returns the exit status of the process if it has ended.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Runs`] and [`ProcessError::Io`].
    ///
    /// # Cancel safety
    ///
    /// The wait can be repeated.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let ended = tokio::time::timeout(limit, async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(END_INTERVAL).await;
            }
        });
        let ended = ended.await;
        ended.unwrap_or_else(|_| Err(self.still_runs(limit)))
    }

    /// Waits until the process has ended by itself, and returns all that it has printed.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Runs`] and [`ProcessError::Io`].
    ///
    /// # Cancel safety
    ///
    /// The process is killed.
    pub async fn output(mut self, limit: Duration) -> Result<Output, ProcessError> {
        let until = tokio::time::Instant::now() + limit;
        let status = self.ended(limit).await?;
        // Programs that the process has started may keep its output open.
        let end = tokio::time::timeout_at(until, self.printed.end()).await;
        end.map_err(|_| self.still_runs(limit))?;
        let printed = self.printed.state.lock();
        Ok(Output {
            status,
            stdout: printed.text_of(Stream::Stdout),
            stderr: printed.text_of(Stream::Stderr),
        })
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "it is shown if a test fails")]
    fn drop(&mut self) {
        let _ = self.kill();
        if std::thread::panicking() {
            for (_, line) in &self.printed.state.lock().lines {
                eprintln!("{}: {line}", self.name);
            }
        }
    }
}

impl Wanted<'_> {
    fn texts(self) -> Vec<String> {
        self.parts.iter().map(|&part| part.to_owned()).collect()
    }

    fn matches(self, stream: Stream, line: &str) -> bool {
        !(self.stdout_only && stream == Stream::Stderr)
            && self.parts.iter().all(|part| line.contains(part))
    }
}

impl Printed {
    /// Keeps the lines of a stream until the process closes it. A line that a kill cut short has no end, and is left out.
    fn read_all(self: &Arc<Self>, stream: Stream, from: impl Read + Send + 'static) {
        self.state.lock().open_streams += 1;
        let printed = self.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                printed.change(|state| state.push(stream, text));
                line.clear();
            }
            printed.change(|state| state.open_streams -= 1);
        });
    }

    fn change(&self, change: impl FnOnce(&mut PrintedLines)) {
        change(&mut self.state.lock());
        self.changed.notify_waiters();
        self.changed_blocking.notify_all();
    }

    /// Waits until the process has closed its output.
    async fn end(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state.lock().open_streams == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl PrintedLines {
    fn push(&mut self, stream: Stream, line: String) {
        self.bytes += line.len();
        self.lines.push_back((stream, line));
        while self.bytes > MAX_OUTPUT_BYTES
            && let Some((_, oldest)) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.read = self.read.saturating_sub(1);
        }
    }

    /// Returns the next line that matches, `Some(None)` if no further lines will come, and `None` if they may.
    fn next(&mut self, wanted: Wanted<'_>) -> Option<Option<String>> {
        while let Some((stream, line)) = self.lines.get(self.read) {
            self.read += 1;
            if wanted.matches(*stream, line) {
                return Some(Some(line.clone()));
            }
        }
        (self.open_streams == 0).then_some(None)
    }

    fn text_of(&self, stream: Stream) -> Vec<u8> {
        let lines = self.lines.iter().filter(|(it, _)| *it == stream);
        let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
        text.into_bytes()
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("shell", command).unwrap()
    }

    #[tokio::test]
    async fn lines_are_awaited_in_their_order_and_counted() {
        let script = "echo one; read line; echo two >&2; read line; echo \"got $line\"; exit 3";
        let mut process = shell(script);
        assert_eq!(process.line_with(&["o"], LIMIT).await.unwrap(), "one");
        process.write_line("").unwrap();
        assert_eq!(process.line_with(&["t", "w"], LIMIT).await.unwrap(), "two");
        process.write_line("three").unwrap();
        let line = process.stdout_line_with("got", LIMIT).await.unwrap();
        assert_eq!(line, "got three");
        assert_eq!((process.count(&["o"]), process.count(&["got"])), (3, 1));
        let gone = process.line_with(&["more"], LIMIT).await.unwrap_err();
        assert_eq!(
            gone.to_string(),
            "`shell` has ended without a line with [\"more\"]"
        );
        assert_eq!(process.ended(LIMIT).await.unwrap().code(), Some(3));
        let output = process.output(LIMIT).await.unwrap();
        assert_eq!(output.stdout, b"one\ngot three\n");
        assert_eq!(output.stderr, b"two\n");
    }

    #[tokio::test]
    async fn process_is_terminated_paused_and_killed() {
        use std::os::unix::process::ExitStatusExt as _;
        let mut process = shell(
            "trap 'echo bye; kill $!; exit 0' TERM; sleep 60 >/dev/null 2>&1 & echo ready; wait",
        );
        let first = process.blocking_stdout_line(LIMIT).unwrap();
        assert_eq!(first, "ready");
        process.pause().unwrap();
        process.terminate().unwrap();
        assert_eq!(process.status().unwrap(), None);
        let short = Duration::from_millis(1);
        let waits = process.line_with(&["bye"], short).await.unwrap_err();
        assert!(matches!(waits, ProcessError::NoLine { .. }), "{waits}");
        let runs = process.ended(short).await.unwrap_err();
        assert_eq!(runs.to_string(), "`shell` has not ended within 1ms");
        process.resume().unwrap();
        process.line_with(&["bye"], LIMIT).await.unwrap();
        assert!(process.ended(LIMIT).await.unwrap().success());

        let mut process = shell("echo ready; printf 'cut short'; read line");
        process.blocking_stdout_line(LIMIT).unwrap();
        assert_eq!(process.kill().unwrap().signal(), Some(9));
        let end = process.blocking_stdout_line(LIMIT).unwrap_err();
        assert!(matches!(end, ProcessError::Ended { .. }), "{end}");
    }

    #[test]
    fn program_that_is_missing_is_named() {
        let missing = Process::start("master", Command::new("no/such/program"));
        let error = missing.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start `no/such/program`: "),
            "{error}"
        );
    }

    #[test]
    fn kept_output_is_bounded() {
        let mut lines = PrintedLines::default();
        let wanted = Wanted {
            parts: &[],
            stdout_only: false,
        };
        for number in 0..40 {
            lines.push(Stream::Stdout, format!("{number} {}", "x".repeat(1 << 20)));
            if number == 0 {
                lines.next(wanted);
            }
        }
        assert!(lines.bytes <= MAX_OUTPUT_BYTES, "{}", lines.bytes);
        assert_eq!((lines.lines.len(), lines.read), (15, 0));
        assert!(lines.lines[0].1.starts_with("25 "));
    }
}
