//! What the runner does with processes, and what it learns from them.

use std::time::{Duration, Instant};

use palm_plan::InstanceId;
use palm_plan::instance::Readiness;
use tokio::time::timeout;

use super::ends::End;
use super::inputs::ProbeResult;
use super::main_loop::Runner;
use crate::logs::OpenOutput;
use crate::process::{
    Environment, Notification, NotifySocket, Report, kill_group, occupied, probe, signal_group,
    spawn,
};
use crate::state::{Action, Exit, ExitKind, Phase};

/// Time in which the last lines of an ended process are read. A disk can be slow.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

impl Runner {
    pub(super) async fn ended(&mut self, end: End) {
        let End {
            id, run, pid, kind, ..
        } = end;
        let was_asked = matches!(self.supervisor.phase(&id), Some(Phase::Draining(_)));
        let is_killed = kind == ExitKind::Signal(9);
        let kind = match is_killed && self.out_of_memory.explains_end(Instant::now()) {
            true if !was_asked => ExitKind::OutOfMemory,
            _ => kind,
        };
        if self
            .sockets
            .get(&id)
            .is_some_and(|(of_run, _)| *of_run == run)
        {
            self.sockets.remove(&id);
        }
        let end = self.supervisor.end_of(&id, &kind);
        let lines = self.capture.finish(&id, end);
        let exit = Exit {
            last_lines: timeout(LAST_LINES_TIMEOUT, lines).await.unwrap_or_default(),
            kind,
            cause: None,
        };
        self.supervisor.exited(&id, pid, exit, self.clock.now());
    }

    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Start { id, run } => {
                if let Err(reason) = self.start(&id, run) {
                    self.sockets.remove(&id);
                    self.supervisor.start_failed(&id, reason, self.clock.now());
                }
            }
            Action::Terminate { pid, .. } => signal_group(pid),
            Action::Kill { pid, .. } => kill_group(pid),
            Action::Forget { id } => drop(self.sockets.remove(&id)),
        }
    }

    fn start(&mut self, id: &InstanceId, run: u32) -> Result<(), String> {
        let instance = self.supervisor.instance(id).ok_or("it was removed")?;
        if let Some(reason) = occupied(instance) {
            return Err(reason);
        }
        let path = self.launch.folders.notify_socket(id);
        let sender = self.report_sender.clone();
        let socket = NotifySocket::bind(&path, id.clone(), run, sender);
        let socket = socket.map_err(|error| format!("the socket `{}`: {error}", path.display()))?;
        self.sockets.insert(id.clone(), (run, socket));
        let environment = Environment {
            executable: &self.launch.executable,
            cluster: &self.launch.cluster,
            notify_socket: &path,
            run,
        };
        let spawned = spawn(instance, &environment)?;
        self.processes.insert(spawned.pid, id.clone());
        self.capture.attach(OpenOutput {
            id: id.clone(),
            run,
            pipes: [Some(spawned.stdout), Some(spawned.stderr)],
            pending: Default::default(),
            last_lines: Default::default(),
            lost: None,
        });
        self.start_probe(id, spawned.pid);
        let now = self.clock.now();
        self.supervisor.started(id, spawned.pid, now);
        Ok(())
    }

    pub(super) fn start_probe(&mut self, id: &InstanceId, pid: u32) {
        let instance = self.supervisor.instance(id);
        if let Some(Readiness::Address(address)) = instance.map(|it| &it.readiness) {
            let sender = self.probe_sender.clone();
            let probe = tokio::spawn(probe(id.clone(), pid, address.clone(), sender));
            self.probes.insert(id.clone(), probe);
        }
    }

    pub(super) fn report(&mut self, (id, run, notification): Report) {
        if self.supervisor.run(&id) != run {
            return;
        }
        let now = self.clock.now();
        let instance = self.supervisor.instance(&id);
        let is_notified = instance.is_some_and(|it| it.readiness == Readiness::Notify);
        match notification {
            Notification::Ready if is_notified => self.supervisor.ready(&id, now),
            Notification::Reloading if is_notified => {
                let why = "has reported RELOADING=1".to_owned();
                self.supervisor.not_ready(&id, why, now);
            }
            Notification::Stopping if is_notified => {
                let why = "has reported STOPPING=1".to_owned();
                self.supervisor.not_ready(&id, why, now);
            }
            Notification::Status(text) => self.supervisor.status_text(&id, text),
            Notification::Watchdog => self.supervisor.heard(&id, now),
            Notification::Ready | Notification::Reloading | Notification::Stopping => {}
        }
    }

    pub(super) fn probed(&mut self, (id, pid, result): ProbeResult) {
        if self.supervisor.pid(&id) == Some(pid) {
            let now = self.clock.now();
            match result {
                Ok(()) => self.supervisor.ready(&id, now),
                Err(why) => self.supervisor.not_ready(&id, why, now),
            }
        }
    }
}
