//! What the loop waits for.

use palm_plan::InstanceId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::RunError;
use crate::api::Task;
use crate::process::Report;

/// The result of a probe: the process, and whether it accepts connections.
pub(super) type ProbeResult = (InstanceId, u32, Result<(), String>);

/// What the loop waits for.
pub(super) struct Inputs {
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) probes: mpsc::Receiver<ProbeResult>,
    pub(super) tasks: mpsc::Receiver<Task>,
    pub(super) child: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    /// `None` if it is ignored, as `nohup` asks for.
    pub(super) hangup: Option<Signal>,
}

impl Inputs {
    pub(super) fn new(
        reports: mpsc::Receiver<Report>,
        probes: mpsc::Receiver<ProbeResult>,
        tasks: mpsc::Receiver<Task>,
    ) -> Result<Self, RunError> {
        let listen =
            |kind| signal(kind).map_err(RunError::io("the runner cannot wait for signals"));
        Ok(Self {
            reports,
            probes,
            tasks,
            child: listen(SignalKind::child())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: match ignores_hangup() {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
        })
    }
}

/// Waits for a signal, if the runner listens to it.
pub(super) async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns whether the program that started this one has made it ignore SIGHUP.
fn ignores_hangup() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & 1 != 0)
}
