//! The supervisor: owns the tasks of a component, stops them in order, and waits for them.
//!
//! [`supervise`] runs until a stop of the component is requested, or a part fails, and then drains it. Routed parts end
//! by themselves, from upstream to downstream; bypasses are stopped once all of these have ended. At the drain limit,
//! [`Stop::expire`] makes the remaining parts return their work, and [`FLUSH_TIMEOUT`] later they are aborted.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::component_error::RunError;
use crate::failure::BoxError;
use crate::failure::catch_panic;
use crate::part::RunningPart;
use crate::socket::Kill;
use crate::stop::{FLUSH_TIMEOUT, Stop};
use crate::task_group::TaskGroup;

/// A part that has ended.
struct EndedPart {
    part: String,
    is_bypass: bool,
    result: Result<(), BoxError>,
}

/// The tasks of a component's parts.
pub(super) struct PartTasks {
    component: String,
    stop: Stop,
    bypass_stop: CancellationToken,
    tasks: JoinSet<()>,
    /// The futures of parts that will share a task.
    shared: Vec<BoxFuture<'static, ()>>,
    ended: mpsc::UnboundedReceiver<EndedPart>,
    ends: mpsc::UnboundedSender<EndedPart>,
    /// The names of the running inbound and outbound parts, and of the running bypasses.
    routed: Vec<String>,
    bypasses: Vec<String>,
}

impl PartTasks {
    pub(super) fn new(component: String, stop: Stop) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        Self {
            component,
            stop,
            bypass_stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            shared: Vec::new(),
            ended,
            ends,
            routed: Vec::new(),
            bypasses: Vec::new(),
        }
    }

    pub(super) fn bypass_stop(&self) -> Stop {
        self.stop.with_token(self.bypass_stop.clone())
    }

    /// Starts an inbound or outbound part, in a task of its own or in the shared one.
    pub(super) fn run(&mut self, name: &str, shares_task: bool, part: RunningPart) {
        self.routed.push(name.to_owned());
        self.add(name, false, shares_task, part);
    }

    pub(super) fn run_bypass(&mut self, name: &str, shares_task: bool, part: RunningPart) {
        self.bypasses.push(name.to_owned());
        self.add(name, true, shares_task, part);
    }

    fn add(&mut self, name: &str, is_bypass: bool, shares_task: bool, part: RunningPart) {
        let (part_name, ends) = (name.to_owned(), self.ends.clone());
        let part = catch_panic(part, |panic| Err(panic.into()));
        let part = async move {
            let ended = EndedPart {
                result: part.await,
                part: part_name,
                is_bypass,
            };
            // The receiver is closed if the supervisor was dropped.
            let _ = ends.send(ended);
        };
        if shares_task {
            self.shared.push(part.boxed());
            if self.shared.len() == TaskGroup::MAX_MEMBERS {
                self.spawn_shared();
            }
        } else {
            self.tasks.spawn(part.in_current_span().boxed());
        }
    }

    /// Spawns the parts that were collected to share a task.
    pub(super) fn spawn_shared(&mut self) {
        if !self.shared.is_empty() {
            let group = TaskGroup::new(self.shared.drain(..));
            self.tasks.spawn(group.in_current_span().boxed());
        }
    }

    /// Waits for the next part to end; `None` if all have ended.
    async fn next(&mut self) -> Option<Result<(), RunError>> {
        if self.routed.is_empty() && self.bypasses.is_empty() {
            return None;
        }
        let EndedPart {
            part,
            is_bypass,
            result,
        } = self.ended.recv().await?;
        let running = match is_bypass {
            true => &mut self.bypasses,
            false => &mut self.routed,
        };
        running.retain(|name| *name != part);
        if result.is_err() {
            // The messages of a failed part are dropped.
            self.stop.set_incomplete();
        }
        Some(result.map_err(|source| RunError::Part {
            component: self.component.clone(),
            part,
            source,
        }))
    }

    /// Waits for all parts to end within the drain limit, after their stop was requested.
    ///
    /// Parts that still run then have [`FLUSH_TIMEOUT`] to return their work and close their links, and are aborted.
    pub(super) async fn drain(&mut self) -> Result<(), RunError> {
        let limit = self.stop.linger();
        let mut failures = Vec::new();
        let drained = tokio::time::timeout(limit, self.all_ended(&mut failures));
        if drained.await.is_err() {
            let parts = [&self.routed[..], &self.bypasses].concat();
            // Bypasses are stopped after the routed parts, so they are named only if no routed part is left.
            let parts = match self.routed.is_empty() {
                true => parts,
                false => self.routed.clone(),
            };
            self.stop.expire();
            let ended = tokio::time::timeout(FLUSH_TIMEOUT, self.all_ended(&mut failures));
            if ended.await.is_err() {
                // Bypasses close the links although routed parts are still running.
                self.bypass_stop.cancel();
                let ended = self.all_ended(&mut failures);
                let _ = tokio::time::timeout(FLUSH_TIMEOUT, ended).await;
            }
            failures.push(RunError::Drain {
                component: self.component.clone(),
                limit,
                parts: parts.join(", "),
            });
        }
        // A method that blocks its thread cannot be aborted, so this wait is bounded.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.tasks.shutdown()).await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Waits until all parts have ended. Stops the bypasses once the routed parts have ended. Cancel safe.
    async fn all_ended(&mut self, failures: &mut Vec<RunError>) {
        loop {
            if self.routed.is_empty() {
                self.bypass_stop.cancel();
            }
            match self.next().await {
                Some(ended) => failures.extend(ended.err()),
                None => return,
            }
        }
    }

    /// Aborts all parts and closes their sockets. Waits for methods that do not await, up to the drain limit.
    async fn kill(&mut self, kill: &Kill) {
        self.bypass_stop.cancel();
        let ended = async {
            self.tasks.shutdown().await;
            kill.closed().await;
        };
        let _ = tokio::time::timeout(self.stop.linger(), ended).await;
        tracing::info!("{} was killed", self.component);
    }
}

/// Runs a component until it has stopped or is killed.
pub(super) async fn supervise(mut parts: PartTasks, kill: Kill) -> Result<(), RunError> {
    if let Some(outcome) = kill.or(run(&mut parts)).await {
        return outcome;
    }
    parts.kill(&kill).await;
    Ok(())
}

/// Waits until a stop of the component is requested, or a part fails, and then drains it.
async fn run(parts: &mut PartTasks) -> Result<(), RunError> {
    let mut outcome = Ok(());
    let stop = parts.stop.clone();
    loop {
        outcome = tokio::select! {
            () = stop.stopped() => break,
            Some(ended) = parts.next() => ended,
            else => break,
        };
        // A component stops once its last routed part has ended.
        if outcome.is_err() || parts.routed.is_empty() {
            break;
        }
    }
    parts.stop.token.cancel();
    match &outcome {
        Ok(()) => tracing::info!("draining"),
        Err(error) => tracing::error!("{}", crate::failure::chain(error)),
    }
    let outcome = outcome.and(parts.drain().await);
    tracing::info!("{} stopped", parts.component);
    outcome
}
