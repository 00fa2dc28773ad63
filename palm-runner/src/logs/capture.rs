//! The thread that reads the output of processes and writes it to files.
//!
//! One thread serves all processes, so that neither a slow disk nor a process that floods its output delays their
//! supervision. It reads a bounded piece of one output at a time; a process that writes faster waits in its pipe.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use palm_plan::InstanceId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::LogLimits;
use super::compress::Compressor;
use super::failures::{Failures, LogChange};
use super::output::{OpenOutput, Request, Shared, read};
use super::read::{folder, instances};

/// The handle of the thread. Without it, the thread ends.
#[derive(Debug)]
pub(crate) struct Capture {
    commands: mpsc::UnboundedSender<Command>,
    failures: Failures,
}

enum Command {
    Attach(OpenOutput),
    Finish(InstanceId, String, oneshot::Sender<Vec<String>>),
    Release(oneshot::Sender<Vec<OpenOutput>>),
    SetLimits(LogLimits),
}

impl Capture {
    /// Starts the thread. The folder has one folder for each component.
    pub(crate) fn start(logs: PathBuf, limits: LogLimits) -> io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let failures = Failures::default();
        let compressor = Compressor::start()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared_failures = failures.clone();
        let run = move || {
            let shared = Shared {
                logs,
                limits: Rc::new(Cell::new(limits)),
                compressor,
                failures: shared_failures,
                buffers: Rc::default(),
                stamps: Rc::default(),
                epoch: Instant::now(),
            };
            LocalSet::new().block_on(&runtime, serve(shared, receiver));
        };
        thread::Builder::new()
            .name("palm-logs".to_owned())
            .spawn(run)?;
        Ok(Self { commands, failures })
    }

    /// Reads the output of a run until it is [finished](Self::finish).
    pub(crate) fn attach(&self, output: OpenOutput) {
        // It fails only if the thread has panicked.
        let _ = self.commands.send(Command::Attach(output));
    }

    /// Reads what the processes of a run have left in their pipes, closes its file with a line that says how it ended,
    /// and returns its last lines, those of standard error after those of standard output. The processes have ended.
    pub(crate) async fn finish(&self, id: &InstanceId, end: String) -> Vec<String> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Finish(id.clone(), end, sender));
        receiver.await.unwrap_or_default()
    }

    /// Sets other limits, also for the files that are being written.
    pub(crate) fn set_limits(&self, limits: LogLimits) {
        let _ = self.commands.send(Command::SetLimits(limits));
    }

    /// Ends all reading and returns the outputs, for the next runner.
    pub(crate) async fn release(&self) -> Vec<OpenOutput> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Release(sender));
        receiver.await.unwrap_or_default()
    }

    /// Returns a sentence for each instance whose lines are not written at present.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.sentences()
    }

    /// Returns for which runs writing has stopped or resumed since the last call.
    pub(crate) fn take_changes(&self) -> Vec<LogChange> {
        self.failures.take_changes()
    }
}

/// Time between two looks for files that have become too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Deletes old files of all instances, also of those that do not run any more.
fn sweep(shared: &Shared) {
    for id in instances(&shared.logs) {
        let folder = folder(&shared.logs, &id);
        shared.compressor.delete_old(folder, shared.limits.get());
    }
}

type Runs = HashMap<InstanceId, (mpsc::Sender<Request>, JoinHandle<()>)>;

async fn serve(shared: Shared, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut runs = Runs::new();
    let mut sweeps = interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweeps.tick() => {
                sweep(&shared);
                continue;
            }
        };
        let Some(command) = command else { return };
        match command {
            Command::SetLimits(limits) => {
                shared.limits.set(limits);
                sweep(&shared);
            }
            Command::Attach(output) => {
                let (sender, receiver) = mpsc::channel(1);
                let id = output.id.clone();
                let task = tokio::task::spawn_local(read(shared.clone(), output, receiver));
                runs.insert(id, (sender, task));
            }
            Command::Finish(id, end, reply) => {
                if let Some((sender, _)) = runs.remove(&id) {
                    let _ = sender.send(Request::Finish(end, reply)).await;
                }
            }
            Command::Release(reply) => {
                let mut released = Vec::new();
                for (_, (sender, _)) in runs.drain() {
                    let (one, receiver) = oneshot::channel();
                    let _ = sender.send(Request::Release(one)).await;
                    released.extend(receiver.await);
                }
                let _ = reply.send(released);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{History, Selection};
    use super::*;

    #[test]
    fn output_of_a_process_that_ends_at_once_is_kept() {
        let logs = tempfile::tempdir().unwrap();
        let capture = Capture::start(logs.path().to_owned(), LogLimits::default()).unwrap();
        let id: InstanceId = "a/0".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for run in 1..=100 {
            let (stdout, mut writer) = std::io::pipe().unwrap();
            writeln!(writer, "one\ntwo").unwrap();
            drop(writer);
            capture.attach(OpenOutput {
                id: id.clone(),
                run,
                pipes: [Some(stdout.into()), None],
                pending: Default::default(),
                last_lines: Default::default(),
                lost: None,
            });
            let finished = capture.finish(&id, "exited with 0".to_owned());
            assert_eq!(runtime.block_on(finished), ["one", "two"], "run {run}");
        }
        let lines = History::new(logs.path(), Selection::default());
        assert_eq!(lines.count(), 300);
    }
}
