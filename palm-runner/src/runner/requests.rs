//! The answers of the runner's loop to requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::ends::End;
use super::events::ClusterEvent;
use super::handover::{self, Descriptors, Output, State};
use super::inputs::Inputs;
use super::main_loop::{ANSWER_TIMEOUT, Runner, version};
use crate::api::{Answer, Request, Task, Wanted};
use crate::process::facts;
use crate::state::{ClusterStatus, Stopped};

/// Shortest time between two states that are passed to clients.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

impl Runner {
    pub(super) async fn task(&mut self, task: Task, inputs: &mut Inputs) {
        let Task {
            request,
            answer,
            written,
        } = task;
        if let Request::Upgrade { executable } = request {
            return match executable.is_file() {
                true => {
                    // The client has left: it does not matter.
                    let _ = answer.send(Answer::Done);
                    let _ = timeout(ANSWER_TIMEOUT, written).await;
                    self.upgrade(executable, inputs).await;
                }
                false => {
                    let reason = format!("`{}` does not exist", executable.display());
                    let _ = answer.send(Answer::Refused(reason));
                }
            };
        }
        let _ = answer.send(self.answer(request));
    }

    pub(super) fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(self.status_with_facts()),
            Request::Wanted => Answer::Wanted(self.launch.wanted.clone()),
            Request::Down { kill } => {
                if !self.is_stopping || kill {
                    self.stop("`palm down`");
                }
                if kill {
                    let now = self.clock.now();
                    self.supervisor.kill_all(now);
                }
                Answer::Done
            }
            Request::Watch => {
                // The client sees no state from before its earlier requests.
                self.publish_now();
                Answer::Done
            }
            _ if self.is_stopping => Answer::Refused(
                "the cluster is stopping: `palm up` starts it again afterwards".to_owned(),
            ),
            Request::Apply(wanted) => self.change(wanted, Stopped::Start),
            Request::Scale(wanted) => self.change(wanted, Stopped::Remain),
            Request::Restart { ids, rolling } => {
                let now = self.clock.now();
                self.supervisor.restart(&ids, rolling, now);
                Answer::Done
            }
            Request::Stop { ids } => {
                self.supervisor.stop(&ids);
                Answer::Done
            }
            Request::Upgrade { .. } => {
                Answer::Refused("the request is answered elsewhere".to_owned())
            }
        }
    }

    fn change(&mut self, mut wanted: Wanted, stopped: Stopped) -> Answer {
        if wanted.revision != self.launch.wanted.revision {
            let reason = "the cluster was changed by another command: try again";
            return Answer::Refused(reason.to_owned());
        }
        wanted.revision += 1;
        let why = format!("{} instances are wanted", wanted.instances.len());
        self.events.append([ClusterEvent::new("change", why)]);
        self.apply(wanted, stopped);
        Answer::Done
    }

    /// Replaces this process by another version. Returns only if that fails.
    async fn upgrade(&mut self, executable: PathBuf, inputs: &mut Inputs) {
        while let Ok(report) = inputs.reports.try_recv() {
            self.report(report);
        }
        let outputs = self.capture.release().await;
        self.record();
        let (outputs, pipes): (Vec<_>, Vec<_>) = outputs.into_iter().map(Output::split).unzip();
        let mut launch = self.launch.clone();
        launch.executable = executable.clone();
        let ends = self.ends.iter().map(|end| {
            let End {
                id, run, pid, kind, ..
            } = end.clone();
            (id, run, pid, kind)
        });
        let state = State {
            supervisor: self.supervisor.clone(),
            now: self.clock.now(),
            is_stopping: self.is_stopping,
            upgrades: self.upgrades + 1,
            sockets: self
                .sockets
                .iter()
                .map(|(id, (run, _))| (id.clone(), *run))
                .collect(),
            outputs,
            ends: ends.collect(),
            events: self.events.unwritten(),
            launch,
        };
        let sockets = self
            .sockets
            .values()
            .map(|(_, socket)| socket.socket().try_clone());
        let descriptors = (|| {
            Ok(Descriptors {
                lock: self.lock.try_clone()?.into(),
                api: self.server.socket().try_clone()?,
                sockets: sockets.collect::<Result<_, _>>()?,
                pipes: pipes.into_iter().flatten().collect(),
            })
        })();
        let error = match descriptors {
            Ok(descriptors) => {
                let error = handover::execute(&executable, &state, &descriptors);
                let mut pipes = descriptors.pipes.into_iter();
                for output in state.outputs {
                    self.capture.attach(output.join(&mut pipes));
                }
                error
            }
            Err(error) => error,
        };
        let why = format!(
            "`{}` could not replace the runner: {error}",
            executable.display()
        );
        self.events.append([ClusterEvent::new("upgrade", why)]);
    }

    fn status(&self) -> ClusterStatus {
        let mut problems = self.capture.failures();
        problems.extend(self.events.failure().cloned());
        problems.extend(self.save_failure.clone());
        ClusterStatus {
            cluster: self.launch.cluster.clone(),
            runner_pid: std::process::id(),
            runner_version: version().to_owned(),
            upgrades: self.upgrades,
            stopping: self.is_stopping,
            instances: self.supervisor.statuses(self.clock.now()),
            rolling: self.supervisor.rolling_status(),
            problems,
        }
    }

    fn status_with_facts(&self) -> ClusterStatus {
        let mut status = self.status();
        let facts = facts();
        for instance in &mut status.instances {
            if let Some(facts) = instance.pid.and_then(|pid| facts.get(&pid)) {
                instance.cpu_ms = Some(u64::try_from(facts.cpu.as_millis()).unwrap_or(u64::MAX));
                instance.memory_bytes = Some(facts.memory_bytes);
            }
        }
        status
    }

    /// Passes the state to clients that watch it. Returns the time after which that is due.
    pub(super) fn publish(&mut self) -> Option<Duration> {
        // One receiver is that of the server.
        if self.status.receiver_count() <= 1 && self.published_at.is_some() {
            return None;
        }
        let elapsed = self.published_at.map(|at| at.elapsed());
        if let Some(rest) = elapsed.and_then(|elapsed| PUBLISH_INTERVAL.checked_sub(elapsed)) {
            return Some(rest);
        }
        self.publish_now();
        None
    }

    fn publish_now(&mut self) {
        self.published_at = Some(Instant::now());
        let status = Arc::new(self.status());
        self.status.send_replace(status);
    }
}
