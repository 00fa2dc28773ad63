//! The output of one run: what was read of it, and the file that it is written to.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use palm_plan::InstanceId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::LogLimits;
use super::compress::Compressor;
use super::failures::Failures;
use super::file::RunLog;
use super::format::{Line, MAX_LINE_BYTES, Stream};
use super::lines::LineWriter;
use super::pipe::OutputPipe;
use super::stamp::Stamps;

/// Bytes that are read from one output before others have their turn. A pipe of Linux has as many.
const READ_BYTES: usize = 64 * 1024;
/// Time after which the begin of a line is written without its end.
const PARTIAL_DELAY: Duration = Duration::from_secs(1);
/// Reads after the end of a process. A pipe has at most 1 MiB by default, unless another process still writes.
const MAX_DRAIN_READS: u32 = 32;

/// The output of a run, from one runner to the next.
#[derive(Debug)]
pub(crate) struct OpenOutput {
    pub(crate) id: InstanceId,
    pub(crate) run: u32,
    /// Standard output and standard error, unless the process has closed them.
    pub(crate) pipes: [Option<OwnedFd>; 2],
    /// What was read of incomplete lines.
    pub(crate) pending: [Vec<u8>; 2],
    pub(crate) last_lines: [VecDeque<String>; 2],
    /// How many lines could not be written until now, and why, if they cannot at present.
    pub(crate) lost: Option<(u64, String)>,
}

/// What the tasks of the thread share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) logs: PathBuf,
    pub(super) limits: Rc<Cell<LogLimits>>,
    pub(super) compressor: Compressor,
    pub(super) failures: Failures,
    pub(super) buffers: Rc<RefCell<Buffers>>,
    pub(super) stamps: Rc<Stamps>,
    /// Begin of the intervals of all outputs.
    pub(super) epoch: Instant,
}

/// Memory that each read uses for a moment.
pub(super) struct Buffers {
    bytes: Vec<u8>,
    text: String,
    lines: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            bytes: vec![0; READ_BYTES],
            text: String::new(),
            lines: Vec::new(),
        }
    }
}

/// A request to the task of a run.
pub(super) enum Request {
    Finish(String, oneshot::Sender<Vec<String>>),
    Release(oneshot::Sender<OpenOutput>),
}

/// Reads the output of one run.
pub(super) async fn read(
    shared: Shared,
    output: OpenOutput,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut run = Run::new(&shared, output);
    let request = loop {
        let deadline = run.deadline();
        tokio::select! {
            biased;
            request = requests.recv() => break request,
            () = poll_fn(|context| run.poll_read(context)) => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                run.flush_partial(Instant::now());
                run.retry();
            }
        }
    };
    match request {
        Some(Request::Finish(end, reply)) => {
            run.drain();
            run.write_note(&end);
            run.end();
            let _ = reply.send(run.last_lines.into_iter().flatten().collect());
        }
        Some(Request::Release(reply)) => {
            let _ = reply.send(run.release());
        }
        // The runner ends.
        None => {
            run.drain();
            run.end();
        }
    }
}

struct Run {
    shared: Shared,
    id: InstanceId,
    number: u32,
    log: RunLog,
    sources: [Source; 2],
    /// The output that is read next if both have something to read.
    turn: usize,
    last_lines: [VecDeque<String>; 2],
}

/// One output of a process.
struct Source {
    stream: Stream,
    /// `None` after its end.
    pipe: Option<OutputPipe>,
    /// The begin of a line.
    pending: Vec<u8>,
    /// When the line began.
    began_at: Option<Instant>,
}

impl Source {
    fn new(stream: Stream, pipe: Option<OwnedFd>, pending: Vec<u8>, epoch: Instant) -> Self {
        Self {
            stream,
            pipe: pipe.and_then(|pipe| OutputPipe::new(pipe, epoch).ok()),
            began_at: (!pending.is_empty()).then(Instant::now),
            pending,
        }
    }

    /// Writes at most `length` bytes of the line that is incomplete.
    fn write_begin(&mut self, length: usize, writer: &mut LineWriter<'_>) {
        let written = writer.write_begin(self.stream, &self.pending, length);
        self.pending.drain(..written);
    }
}

impl Run {
    fn new(shared: &Shared, output: OpenOutput) -> Self {
        let OpenOutput {
            id,
            run,
            pipes: [stdout, stderr],
            pending: [stdout_pending, stderr_pending],
            last_lines,
            lost,
        } = output;
        let folder = shared.logs.join(&id.component).join(id.index.to_string());
        let mut log = RunLog::open(&folder, run, shared.limits.get(), shared.compressor.clone());
        if let Some((lines, error)) = lost {
            log.continue_failure(lines, error);
        }
        let this = Self {
            log,
            shared: shared.clone(),
            id,
            number: run,
            sources: [
                Source::new(Stream::Stdout, stdout, stdout_pending, shared.epoch),
                Source::new(Stream::Stderr, stderr, stderr_pending, shared.epoch),
            ],
            turn: 0,
            last_lines,
        };
        this.note_failure();
        this
    }

    /// Reads once from an output that has something to read, or has ended. The outputs take turns.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for index in [self.turn, 1 - self.turn] {
            let was_open = self.sources[index].pipe.is_some();
            let has_read =
                self.read_by(index, |pipe, bytes| match pipe.poll_read(context, bytes) {
                    Poll::Ready(read) => read,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                });
            let has_ended = was_open && self.sources[index].pipe.is_none();
            if has_read || has_ended {
                self.turn = 1 - index;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads once from an output, whatever is known of it: right after the start of a process, nothing.
    fn read_at_once(&mut self, index: usize) -> bool {
        self.read_by(index, OutputPipe::read_at_once)
    }

    /// Returns whether there was something to read.
    fn read_by(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut OutputPipe, &mut [u8]) -> io::Result<usize>,
    ) -> bool {
        let buffers = self.shared.buffers.clone();
        let mut buffers = buffers.borrow_mut();
        let source = &mut self.sources[index];
        let Some(pipe) = &mut source.pipe else {
            return false;
        };
        let length = match read(pipe, &mut buffers.bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Ok(0) | Err(_) => {
                source.pipe = None;
                self.end_line(index, &mut buffers);
                return false;
            }
            Ok(length) => length,
        };
        let Buffers { bytes, text, lines } = &mut *buffers;
        let mut writer = LineWriter::new(self.shared.stamps.now(), text, lines);
        let mut rest = &bytes[..length];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = &rest[..end];
            if !source.pending.is_empty() {
                source.pending.extend_from_slice(line);
                line = &source.pending;
            }
            writer.write_line(source.stream, line, &mut self.last_lines[index]);
            source.pending.clear();
            source.began_at = None;
            rest = &rest[end + 1..];
        }
        source.pending.extend_from_slice(rest);
        if source.pending.is_empty() {
            source.began_at = None;
        } else {
            source.began_at.get_or_insert_with(Instant::now);
        }
        while source.pending.len() >= MAX_LINE_BYTES {
            source.write_begin(MAX_LINE_BYTES, &mut writer);
        }
        self.append(&buffers.lines);
        true
    }

    /// Writes the begin of a line whose end is late.
    fn flush_partial(&mut self, now: Instant) {
        let buffers = self.shared.buffers.clone();
        let mut buffers = buffers.borrow_mut();
        let Buffers { text, lines, .. } = &mut *buffers;
        let mut writer = LineWriter::new(self.shared.stamps.now(), text, lines);
        for source in &mut self.sources {
            let began = source.began_at;
            if began.is_some_and(|began| began + PARTIAL_DELAY <= now) {
                source.write_begin(usize::MAX, &mut writer);
                source.began_at = None;
            }
        }
        self.append(&buffers.lines);
    }

    /// Returns when there is something to do although there is nothing to read.
    fn deadline(&self) -> Option<Instant> {
        let began = self.sources.iter().filter_map(|source| source.began_at);
        let partial = began.map(|began| began + PARTIAL_DELAY);
        let retry = self.log.retry_at().map(Instant::from_std);
        partial.chain(retry).min()
    }

    /// Tries again to write, if that has failed.
    fn retry(&mut self) {
        if self.log.failure().is_some() {
            self.log.retry();
            self.note_failure();
        }
    }

    /// Nothing more is written. It is the last chance to write how many lines were lost.
    fn end(&mut self) {
        if self.log.failure().is_some() {
            self.log.retry_at_once();
            self.note_failure();
        }
        self.shared.failures.end(&self.id, self.number);
    }

    /// Writes the last line of an output, which has no line break.
    fn end_line(&mut self, index: usize, buffers: &mut Buffers) {
        let source = &mut self.sources[index];
        source.began_at = None;
        if source.pending.is_empty() {
            return;
        }
        let line = std::mem::take(&mut source.pending);
        let Buffers { text, lines, .. } = buffers;
        let time = self.shared.stamps.now();
        LineWriter::new(time, text, lines).write_line(
            source.stream,
            &line,
            &mut self.last_lines[index],
        );
        self.append(lines);
    }

    /// Reads what is left. The processes have ended, so that this is at most the capacity of their pipes.
    fn drain(&mut self) {
        for index in [0, 1] {
            let mut reads = 0;
            while reads < MAX_DRAIN_READS && self.read_at_once(index) {
                reads += 1;
            }
            let buffers = self.shared.buffers.clone();
            self.end_line(index, &mut buffers.borrow_mut());
            self.sources[index].pipe = None;
        }
    }

    /// Writes a line of the runner.
    fn write_note(&mut self, note: &str) {
        let text = format!("palm: run {} of {} {note}", self.number, self.id);
        let line = Line {
            time: &self.shared.stamps.now(),
            stream: Stream::Stderr,
            is_partial: false,
            text: &text,
        };
        let mut lines = Vec::new();
        line.write(&mut lines);
        self.append(&lines);
    }

    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        self.log.set_limits(self.shared.limits.get());
        let had_failed = self.log.failure().is_some();
        self.log.append(lines);
        if had_failed || self.log.failure().is_some() {
            self.note_failure();
        }
    }

    fn note_failure(&self) {
        let failures = &self.shared.failures;
        failures.update(&self.id, self.number, self.log.failure());
    }

    fn release(self) -> OpenOutput {
        let failure = self.log.failure();
        let lost = failure.map(|it| (it.lost_lines, it.error.clone()));
        let [stdout, stderr] = self.sources;
        let pipe = |source: Option<OutputPipe>| source?.into_fd().ok();
        OpenOutput {
            id: self.id,
            run: self.number,
            pipes: [pipe(stdout.pipe), pipe(stderr.pipe)],
            pending: [stdout.pending, stderr.pending],
            last_lines: self.last_lines,
            lost,
        }
    }
}
