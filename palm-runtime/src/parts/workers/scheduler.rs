//! [`TaskScheduler`]: assigns each task to a worker with a link or to a legacy worker.
//!
//! [`TaskScheduler::push_all`] runs until its inlet is empty. Each round receives tasks, and [`TaskScheduler::assign`] then
//! finds a worker for each. A task that no worker has capacity for waits in [`TaskScheduler::wait_for_worker`] until a
//! worker does, the links change, or the deadline of the task passes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::legacy_balance::{LegacyWorkers, MAX_TASKS_PER_LEGACY_WORKER};
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

/// Tasks that are not assigned to a worker yet, each with the flow of its client.
pub(super) type TaskBacklog = VecDeque<(Flow, Batch)>;

/// Assigns tasks to workers.
pub(in crate::parts) struct TaskScheduler<'a> {
    pub(in crate::parts) push: &'a Push,
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
        let mut legacy = LegacyWorkers::default();
        let peers = self.push.peers();
        loop {
            let absent = self.links.is_some_and(LinkServer::has_unassignable);
            for flow in self.links.map_or_else(Vec::new, LinkServer::take_resumed) {
                inlet.set_paused(flow, false);
            }
            let receive = async {
                match legacy.count {
                    0 => inlet.recv_batches(&mut envelopes, BATCH).await,
                    // Tasks that are not assigned at once wait here, without fairness between clients. So only few
                    // are received.
                    _ => {
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
                    self.fail_tasks(&mut tasks, &legacy).await;
                    self.take_legacy_tasks(&mut tasks, &mut legacy).await?;
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
                connected = peers.connected(), if absent && legacy.count == 0 => {
                    connected?;
                    self.take_legacy_tasks(&mut tasks, &mut legacy).await?;
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
                due = self.overdue() => {
                    self.redeliver(due, &mut tasks).await;
                    self.assign(&mut tasks, &mut legacy, inlet).await?;
                    continue;
                }
            };
            if received == 0 {
                break;
            }
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
                    (Some(feedback), Some(replies)) => replies.expect(&message, feedback),
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
                    self.fail_cancelled(flow, &batch, &mut tasks).await;
                } else {
                    // Workers drop further cancelled calls of a batch.
                    tasks.push_back((flow, batch));
                }
            }
            self.counters.count(count, bytes);
            self.assign(&mut tasks, &mut legacy, inlet).await?;
        }
        self.drain_links().await;
        Ok(())
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
        legacy: &mut LegacyWorkers,
        inlet: &mut Inlet,
    ) -> Result<(), SocketClosed> {
        let mut paused = Vec::new();
        while !tasks.is_empty() {
            let linked = self.links.filter(|links| links.workers() > 0);
            if legacy.refresh(self.push).await?
                && let Some(links) = self.links
            {
                tasks.extend(links.set_legacy(legacy.count > 0));
            }
            let mut may_push = true;
            match linked {
                None => {
                    if self.try_push(tasks)? {
                        continue;
                    }
                }
                Some(links) if legacy.count == 0 => {
                    links.submit_all(tasks, &mut paused);
                    for flow in paused.drain(..) {
                        inlet.set_paused(flow, true);
                    }
                    if tasks.is_empty() {
                        break;
                    }
                }
                // Least-loaded scheduling between both kinds of workers, one task at a time.
                Some(links) => {
                    let Some((flow, task)) = self.next(tasks) else {
                        continue;
                    };
                    let reach = links.reach(&task);
                    tasks.push_front((flow, task.into()));
                    may_push = legacy.have_capacity(&self.state.outstanding);
                    let is_pushed = may_push && legacy.take_turn(&self.state.outstanding, reach);
                    if is_pushed && self.try_push_one(tasks)? {
                        continue;
                    }
                    if matches!(reach, WorkerReach::Load(_)) && links.submit(tasks, 0, 1) > 0 {
                        continue;
                    }
                }
            }
            if let Some((flow, task)) = self.next(tasks)
                && let Some(task) = self.wait_for_worker(task, may_push, tasks, legacy).await?
            {
                tasks.push_front((flow, task.into()));
            }
        }
        Ok(())
    }

    /// Takes the tasks back from the dispatch that only legacy workers can run, if there are such workers.
    async fn take_legacy_tasks(
        &self,
        tasks: &mut TaskBacklog,
        legacy: &mut LegacyWorkers,
    ) -> Result<(), SocketClosed> {
        if let Some(links) = self.links {
            legacy.refresh(self.push).await?;
            tasks.extend(links.set_legacy(legacy.count > 0));
        }
        Ok(())
    }

    /// Pushes `task` once the socket has capacity, if `may_push`; returns the task if it was not pushed and a worker may
    /// have capacity now. Answers it with an error if its deadline passes.
    async fn wait_for_worker(
        &self,
        task: Bytes,
        may_push: bool,
        tasks: &mut TaskBacklog,
        legacy: &LegacyWorkers,
    ) -> Result<Option<Bytes>, SocketClosed> {
        let is_alone = legacy.count == 0 && self.links.is_none_or(|links| links.workers() == 0);
        let waiting = tasks.iter().map(|(_, batch)| batch.len()).sum::<usize>();
        let waiting_bytes = tasks.iter().map(|(_, batch)| batch.bytes()).sum::<usize>();
        let _held = self.counters.hold(waiting + 1, waiting_bytes + task.len());
        let _unplaced = is_alone.then(|| self.state.unassigned.hold(waiting + 1));
        let task = if may_push { self.numbered(task) } else { task };
        // Decoding copies nothing.
        let deadline = Message::decode(task.clone()).unwrap_or_default().deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.left(clock::wall())).await,
                None => std::future::pending().await,
            }
        };
        let push = async {
            if may_push {
                let recorded = self.record_push(&task).waiting();
                self.push.send(task.clone()).await?;
                recorded.keep();
                Ok(())
            } else {
                self.state.outstanding.results_arrived().await;
                Ok(())
            }
        };
        tokio::select! {
            biased;
            pushed = push => {
                pushed?;
                Ok((!may_push).then_some(task))
            }
            () = self.links_changed() => {
                self.fail_tasks(tasks, legacy).await;
                Ok(Some(task))
            }
            () = late => {
                self.counters.count_error();
                let failure = if self.state.any_worker()? {
                    CallFailure::late()
                } else {
                    CallFailure::unavailable("no worker is connected".into())
                };
                self.fail(task, &failure).await;
                Ok(None)
            }
        }
    }

    /// Takes the next task; counts malformed frames as errors.
    pub(super) fn next(&self, tasks: &mut TaskBacklog) -> Option<(Flow, Bytes)> {
        next(tasks, |frame| self.is_message(frame))
    }

    fn is_message(&self, frame: &Bytes) -> bool {
        let is_message = Message::read(frame.clone()).is_some();
        if !is_message {
            self.counters.count_error();
        }
        is_message
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
    async fn fail_tasks(&self, tasks: &mut TaskBacklog, legacy: &LegacyWorkers) {
        for FailedTask { frame, failure } in
            self.links.map_or_else(Vec::new, LinkServer::take_failed)
        {
            if failure.kind() == FailureKind::UnknownFunction && legacy.count > 0 {
                tasks.push_back((Flow::new(0), frame.into()));
                continue;
            }
            self.counters.count_error();
            self.fail(frame, &failure).await;
        }
    }

    async fn drain_links(&self) {
        let (mut tasks, legacy) = (VecDeque::new(), LegacyWorkers::default());
        if let Some(links) = self.links {
            links.report_completion();
            while links.outstanding() > 0 {
                links.changed().await;
                self.fail_tasks(&mut tasks, &legacy).await;
            }
        }
        self.fail_tasks(&mut tasks, &legacy).await;
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
    pub(super) async fn fail(&self, task: Bytes, failure: &CallFailure) {
        let Ok(message) = Message::decode(task) else {
            return;
        };
        log_failure(&message, failure);
        self.remember(&message, failure);
        let failed = message.failed(self.name, failure);
        if let Some(replies) = self.replies {
            replies.answer(&failed.encode());
        }
        let flow = flow_of(&failed);
        self.outlet.send_failed(failed, flow, clock::now()).await;
    }
}

/// Takes the next task, also from a batch, and drops malformed frames. Only the first frame of a batch was decoded
/// before.
fn next(tasks: &mut TaskBacklog, is_message: impl Fn(&Bytes) -> bool) -> Option<(Flow, Bytes)> {
    loop {
        let (flow, mut rest) = tasks.pop_front()?;
        if rest.len() == 1 {
            return Some((flow, rest.first()));
        }
        let first = rest.split_to(1).first();
        if rest.len() > 1 || is_message(&rest.first()) {
            tasks.push_front((flow, rest));
        }
        if is_message(&first) {
            return Some((flow, first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::BatchSizes;

    #[test]
    fn next_task_skips_malformed_frames_of_a_batch() {
        let batch = |frame: &'static [u8]| {
            let sizes = BatchSizes::new(vec![1; frame.len()].into());
            Batch::from_sizes(Bytes::from_static(frame), sizes).unwrap()
        };
        for frame in [
            &b"abc"[..],
            b"xabc",
            b"axbxc",
            b"abcx",
            b"xaxbxcx",
            b"xxabxxc",
        ] {
            let flow = Flow::new(0);
            let mut tasks = VecDeque::from([(flow, batch(frame)), (flow, batch(b"d"))]);
            let tasks = std::iter::from_fn(|| next(&mut tasks, |frame| frame != "x"));
            let tasks: Vec<_> = tasks.map(|(_, task)| task).collect();
            assert_eq!(tasks.concat(), b"abcd");
        }
    }
}
