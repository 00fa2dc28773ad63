//! [`TaskScheduler`]: assigns each task to a worker with a link or to a legacy worker.
//!
//! [`TaskScheduler::push_all`] runs until its inlet is empty. Each round receives tasks, and [`TaskScheduler::assign`] then
//! finds a worker for each. A task that no worker has capacity for waits in [`TaskScheduler::wait_for_worker`] until a
//! worker does, the links change, or the deadline of the task passes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use tokio::sync::oneshot;

use super::backlog::{TaskBacklog, next_task};
use super::legacy::{LegacyWorkers, MAX_TASKS_PER_LEGACY_WORKER, redeliver};
use crate::clock;
use crate::component_state::ComponentState;
use crate::executor::log_failure;
use crate::failure::{CallFailure, FailureKind};
use crate::fair_queue::Flow;
use crate::flow::flow_of;
use crate::link::dispatch::{FailedTask, WorkerReach};
use crate::link::server::LinkServer;
use crate::message::{Batch, Message};
use crate::metrics::PartCounters;
use crate::part::{BATCH, Envelope, Inlet, Outlet, Stop};
use crate::parts::pending_replies::PendingReplies;
use crate::report::{RecentCall, Work};
use crate::socket::{Push, SocketClosed};
use crate::trace;

/// Assigns tasks to workers.
pub(in crate::parts) struct TaskScheduler<'a> {
    /// The socket of legacy workers; `None` with links only.
    pub(in crate::parts) push: Option<&'a Push>,
    /// The links to workers, if tasks are also sent over links.
    pub(in crate::parts) links: Option<&'a LinkServer>,
    /// The component's name.
    pub(in crate::parts) name: &'a str,
    pub(in crate::parts) state: &'a ComponentState,
    pub(in crate::parts) counters: &'a PartCounters,
    pub(in crate::parts) outlet: &'a Outlet,
    /// The requests that wait for results; `None` if they are answered by an empty reply at once.
    pub(in crate::parts) replies: Option<&'a PendingReplies>,
}

impl TaskScheduler<'_> {
    /// Assigns tasks until the inlet is closed and empty and all tasks that were sent over links are done.
    ///
    /// A task that waits for a worker until its deadline is answered with an error. Tasks that remain at the drain
    /// limit, or when the component stops without a worker, are sent again by the clients, whose links close without
    /// `finished`.
    pub(in crate::parts) async fn push_all(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let stop = inlet.stop.clone();
        self.state.unassigned.set_upstream(inlet.queue.gauge());
        tokio::select! {
            biased;
            pushed = self.push_until_dry(inlet) => return pushed,
            () = self.all_workers_lost(&stop) => {
                tracing::info!("stopping without a worker: clients send the remaining calls again");
            }
            () = stop.expired() => {}
        }
        stop.set_incomplete();
        Ok(())
    }

    /// Waits until the component stops and no worker has been connected for a while. Cancel safe.
    async fn all_workers_lost(&self, stop: &Stop) {
        /// Time within which a worker must reconnect.
        const WORKER_TIMEOUT: Duration = Duration::from_millis(500);
        const INTERVAL: Duration = Duration::from_millis(50);
        stop.stopped().await;
        let mut since = clock::now();
        while clock::since(since) < WORKER_TIMEOUT {
            if self.state.any_worker().unwrap_or(false) {
                since = clock::now();
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn push_until_dry(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let mut envelopes = Vec::new();
        let mut tasks = VecDeque::new();
        let legacy = |push| LegacyWorkers::new(push, self.state, self.counters);
        let mut legacy = self.push.map(legacy);
        loop {
            let absent = self.links.is_some_and(LinkServer::has_unassignable);
            for flow in self.links.map_or_else(Vec::new, LinkServer::take_resumed) {
                inlet.set_paused(flow, false);
            }
            let has_legacy = legacy.as_ref().is_some_and(|it| it.count() > 0);
            let receive = async {
                match has_legacy {
                    false => inlet.recv_batches(&mut envelopes, BATCH).await,
                    // Tasks that are not assigned at once wait here, without fairness between clients. So only few
                    // are received.
                    true => {
                        inlet
                            .recv_many(&mut envelopes, MAX_TASKS_PER_LEGACY_WORKER as usize)
                            .await
                    }
                }
            };
            let received = tokio::select! {
                biased;
                received = receive => received,
                () = self.links_changed() => {
                    self.fail_tasks(&mut tasks, has_legacy).await;
                    self.retake_legacy_tasks(&mut tasks, &mut legacy)?;
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
                Some(connected) = OptionFuture::from(legacy.as_ref().map(LegacyWorkers::connected)), if absent && !has_legacy => {
                    connected?;
                    self.retake_legacy_tasks(&mut tasks, &mut legacy)?;
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
                Some(due) = OptionFuture::from(legacy.as_ref().map(LegacyWorkers::overdue)) => {
                    for task in redeliver(due, &mut tasks) {
                        self.fail_task(task).await;
                    }
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
            };
            if received == 0 {
                break;
            }
            self.accept(&mut envelopes, &mut tasks).await;
            self.assign(&mut tasks, &mut legacy, inlet).await?;
        }
        self.drain_links().await;
        Ok(())
    }

    /// Adds the tasks among received messages to `tasks`, and forwards the other ones.
    async fn accept(&self, envelopes: &mut Vec<Envelope>, tasks: &mut TaskBacklog) {
        let (mut count, mut bytes) = (0, 0);
        for envelope in envelopes.drain(..) {
            // The messages of a batch are tasks.
            if envelope.batch.is_none() && envelope.message.is_done() {
                self.forward_done(envelope).await;
                continue;
            }
            let Envelope {
                message,
                flow,
                feedback,
                batch,
                ..
            } = envelope;
            match (feedback, self.replies) {
                (Some(feedback), Some(replies)) => {
                    if let Err(feedback) = replies.expect(&message, feedback) {
                        self.reject(message, feedback).await;
                        continue;
                    }
                }
                (Some(feedback), None) => {
                    // The receiver is closed when the component stops.
                    let _ = feedback.send(Bytes::new());
                }
                (None, _) => {}
            }
            let is_cancelled = self.state.cancellations.concern(&message);
            let batch = match batch {
                Some(batch) => *batch,
                None => message.into_frame().into(),
            };
            count += batch.len();
            bytes += batch.bytes();
            if is_cancelled {
                self.fail_cancelled(flow, &batch, tasks).await;
            } else {
                // Workers drop further cancelled calls of a batch.
                tasks.push_back((flow, batch));
            }
        }
        self.counters.count(count, bytes);
    }

    /// Answers a request with an error, because another one with the same message id waits for its result.
    async fn reject(&self, request: Message, feedback: oneshot::Sender<Bytes>) {
        self.counters.count(1, request.payload().len());
        self.counters.count_error();
        let cause = format!(
            "another request with the message id `{}` waits for its result: concurrent requests need different ids",
            request.cache()
        );
        let failed = self.failed(request, &CallFailure::unavailable(cause.into()));
        // The receiver is dropped if the request is abandoned.
        let _ = feedback.send(failed.encode());
        let flow = flow_of(&failed);
        self.outlet.send_failed(failed, flow, clock::now()).await;
    }

    /// Fails the cancelled calls of a batch, and adds the others to `tasks`.
    async fn fail_cancelled(&self, flow: Flow, batch: &Batch, tasks: &mut TaskBacklog) {
        for frame in batch.frames() {
            let message = Message::decode(frame.clone());
            if message.is_ok_and(|message| self.state.cancellations.concern(&message)) {
                self.fail(frame, &CallFailure::cancelled()).await;
            } else {
                tasks.push_back((flow, frame.into()));
            }
        }
    }

    /// Forwards a message that is not a task, such as the error of an earlier step, along the route of results.
    async fn forward_done(&self, envelope: Envelope) {
        let Envelope {
            message,
            flow,
            since,
            feedback,
            gathers,
            ..
        } = envelope;
        self.counters.count(1, message.payload().len());
        if let Some(feedback) = feedback {
            let answer = match self.replies {
                Some(_) => message.encode(),
                None => Bytes::new(),
            };
            // The receiver is closed when the component stops.
            let _ = feedback.send(answer);
        }
        let envelope = Envelope {
            gathers,
            ..Envelope::new(message, flow, since)
        };
        self.outlet.send_done(envelope).await;
    }

    /// Assigns each task to a worker, waiting for capacity.
    async fn assign(
        &self,
        tasks: &mut TaskBacklog,
        legacy: &mut Option<LegacyWorkers<'_>>,
        inlet: &mut Inlet,
    ) -> Result<(), SocketClosed> {
        let mut paused = Vec::new();
        while !tasks.is_empty() {
            let linked = self.links.filter(|links| links.workers() > 0);
            if let Some(legacy) = legacy
                && legacy.refresh()?
            {
                self.take_legacy_tasks(tasks, legacy);
            }
            let mut may_push = true;
            match (linked, &mut *legacy) {
                (None, None) => {}
                (None, Some(legacy)) => {
                    if legacy.try_push_all(tasks)? {
                        continue;
                    }
                }
                // Least-loaded scheduling between both kinds of workers, one task at a time.
                (Some(links), Some(legacy)) if legacy.count() > 0 => {
                    let Some((flow, task)) = next_task(tasks, self.counters) else {
                        continue;
                    };
                    let reach = links.reach(&task);
                    tasks.push_front((flow, task.into()));
                    may_push = legacy.have_capacity();
                    if may_push && legacy.take_turn(reach) && legacy.try_push(tasks)? {
                        continue;
                    }
                    if matches!(reach, WorkerReach::Load(_)) && links.submit(tasks, 0, 1) > 0 {
                        continue;
                    }
                }
                (Some(links), _) => {
                    links.submit_all(tasks, &mut paused);
                    for flow in paused.drain(..) {
                        inlet.set_paused(flow, true);
                    }
                    if tasks.is_empty() {
                        break;
                    }
                }
            }
            if let Some((flow, task)) = next_task(tasks, self.counters)
                && let Some(task) = self
                    .wait_for_worker(task, may_push, tasks, legacy.as_ref())
                    .await?
            {
                tasks.push_front((flow, task.into()));
            }
        }
        Ok(())
    }

    /// Takes the tasks back from the dispatch that only legacy workers can run, if there are such workers.
    fn take_legacy_tasks(&self, tasks: &mut TaskBacklog, legacy: &LegacyWorkers<'_>) {
        if let Some(links) = self.links {
            tasks.extend(links.set_legacy(legacy.count() > 0));
        }
    }

    /// Counts the legacy workers, and [takes their tasks back](Self::take_legacy_tasks).
    fn retake_legacy_tasks(
        &self,
        tasks: &mut TaskBacklog,
        legacy: &mut Option<LegacyWorkers<'_>>,
    ) -> Result<(), SocketClosed> {
        if let Some(legacy) = legacy {
            legacy.refresh()?;
            self.take_legacy_tasks(tasks, legacy);
        }
        Ok(())
    }

    /// Pushes `task` to a legacy worker once the socket has capacity, if `may_push`; returns the task if it was not pushed
    /// and a worker may have capacity now. Answers it with an error if its deadline passes.
    async fn wait_for_worker(
        &self,
        task: Bytes,
        may_push: bool,
        tasks: &mut TaskBacklog,
        legacy: Option<&LegacyWorkers<'_>>,
    ) -> Result<Option<Bytes>, SocketClosed> {
        let has_legacy = legacy.is_some_and(|legacy| legacy.count() > 0);
        let is_alone = !has_legacy && self.links.is_none_or(|links| links.workers() == 0);
        let waiting = tasks.iter().map(|(_, batch)| batch.len()).sum::<usize>();
        let waiting_bytes = tasks.iter().map(|(_, batch)| batch.bytes()).sum::<usize>();
        let _held = self.counters.hold(waiting + 1, waiting_bytes + task.len());
        let _unplaced = is_alone.then(|| self.state.unassigned.hold(waiting + 1));
        let numbered = match legacy {
            Some(legacy) if may_push => legacy.numbered(task.clone()),
            _ => Some(task.clone()),
        };
        let Some(numbered) = numbered else {
            return Ok(None);
        };
        // Decoding copies nothing.
        let deadline = Message::decode(task.clone()).unwrap_or_default().deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.left(clock::wall())).await,
                None => std::future::pending().await,
            }
        };
        let push = async {
            match legacy {
                Some(legacy) if may_push => legacy.push(numbered.clone()).await.map(|()| None),
                Some(legacy) => {
                    legacy.results_arrived().await;
                    Ok(Some(task.clone()))
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            unsent = push => unsent,
            () = self.links_changed() => {
                self.fail_tasks(tasks, has_legacy).await;
                Ok(Some(task))
            }
            () = late => {
                self.counters.count_error();
                let failure = if self.state.any_worker()? {
                    CallFailure::late()
                } else {
                    CallFailure::unavailable("no worker is connected".into())
                };
                self.fail(numbered, &failure).await;
                Ok(None)
            }
        }
    }

    /// Waits for a change of the links. Cancel safe.
    async fn links_changed(&self) {
        match self.links {
            Some(links) => links.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Answers the tasks that no worker with a link can run with an error.
    ///
    /// Legacy workers may have functions that no worker has registered: such tasks are added to `tasks`.
    async fn fail_tasks(&self, tasks: &mut TaskBacklog, has_legacy: bool) {
        for task in self.links.map_or_else(Vec::new, LinkServer::take_failed) {
            if has_legacy && task.failure.kind() == FailureKind::UnknownFunction {
                tasks.push_back((Flow::new(0), task.frame.into()));
            } else {
                self.fail_task(task).await;
            }
        }
    }

    async fn drain_links(&self) {
        let mut tasks = VecDeque::new();
        if let Some(links) = self.links {
            links.report_completion();
            while links.outstanding() > 0 {
                links.changed().await;
                self.fail_tasks(&mut tasks, false).await;
            }
        }
        self.fail_tasks(&mut tasks, false).await;
    }

    async fn fail_task(&self, task: FailedTask) {
        self.counters.count_error();
        self.fail(task.frame, &task.failure).await;
    }

    /// Adds a task that failed to the recent calls of the component.
    fn remember(&self, task: &Message, failure: &CallFailure) {
        let function = trace::called(task);
        let (call, id) = (task.client(), task.cache());
        let mut call = RecentCall::new(Work::Delivery, call, id, &function, task.stage());
        let trace = task.trace().unwrap_or_default();
        call.trace = trace.id().unwrap_or_default().to_owned();
        call.begun_at = clock::wall();
        call.failure = Some(failure.kind());
        self.state.recent.record(call, trace.is_sampled());
    }

    /// Answers a task with an error instead of assigning it.
    async fn fail(&self, task: Bytes, failure: &CallFailure) {
        let Ok(message) = Message::decode(task.clone()) else {
            return;
        };
        if let Some(mut pushed) = self.state.pushed() {
            pushed.fail(&message, &task);
        }
        let failed = self.failed(message, failure);
        if let Some(replies) = self.replies {
            replies.answer(&failed.encode());
        }
        let flow = flow_of(&failed);
        self.outlet.send_failed(failed, flow, clock::now()).await;
    }

    /// Logs and remembers a failure. Returns the answer to its caller.
    fn failed(&self, message: Message, failure: &CallFailure) -> Message {
        log_failure(&message, failure);
        self.remember(&message, failure);
        message.failed(self.name, failure)
    }
}
