//! The parts of a master that exchange tasks and results with workers.
//!
//! [`WorkerPushService`] assigns tasks to workers, [`WorkerPullService`] receives their results. Workers with a link
//! receive tasks from `link::dispatch`, which schedules them by load and redelivers the tasks of lost workers. Legacy
//! workers share one PUSH socket, which knows neither their load nor what became of their tasks, so this module
//!
//! - counts their tasks in [`InFlightTasks`], so that a component that stops can wait for their results;
//! - splits tasks between both kinds of workers in [`LegacyWorkers`]: least-loaded, with at most
//!   [`MAX_TASKS_PER_LEGACY_WORKER`] tasks for each legacy worker while others have links;
//! - pushes a task again if it has no result within `ack_wait` (`pushed`), where that is set.
//!
//! [`TaskPusher::push_all`] runs until its inlet is empty. Each round receives tasks, and [`TaskPusher::assign`] then
//! finds a worker for each; a task that no worker has capacity for waits in
//! [`TaskPusher::wait_for_worker`] until a worker does, the links change, or the task's deadline passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::component_state::ComponentState;
use crate::component_state::{InFlightTasks, OverdueTasks};
use crate::discovery::IntoAddress;
use crate::executor::log_failure;
use crate::failure::{BoxError, CallFailure, FailureKind};
use crate::fair_queue::Flow;
use crate::flow::flow_of;
use crate::link::dispatch::{FailedTask, WorkerReach};
use crate::link::inbound::InboundEvent;
use crate::link::server::LinkServer;
use crate::message::{Batch, Message};
use crate::metrics::PartCounters;
use crate::part::{
    BATCH, Binding, Envelope, Inbound, Inlet, LegacyAddress, NoHooks, OpenError, Outbound, Outlet,
    Setup, Stop,
};
use crate::parts::context::PartContext;
use crate::parts::link_source::{LinkPeers, PullAndLinks};
use crate::parts::pending_replies::PendingReplies;
use crate::parts::receive_loop::{
    ConsumedMessages, MessageIds, MessageSource, Origin, ReceiveLoop, SourceEvent,
};
use crate::socket::{Pull, Push, SocketClosed, TrySendError};

/// An outbound part that assigns each task to a worker. Announced as `worker_push_address`.
///
/// Workers with a link receive their tasks over it, see [`LinkOptions`](crate::LinkOptions): the least-loaded worker
/// that has the function receives the next task, and the tasks of a lost worker are redelivered. Legacy workers
/// connect to the PUSH socket. The component also needs a [`WorkerPullService`] and a
/// [`CacheService`](crate::parts::CacheService).
///
/// A message that is not a task, such as the error of an earlier step or a remaining completion weight, is sent where
/// results are sent: along the part's route, or if it has none the route of the component's [`WorkerPullService`].
/// Tasks that no worker can run are sent there with an error, unless the part has a route for failures.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut master = ServerTemplate::new("master");
/// master.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("WorkerPush");
/// master.register_outbound(WorkerPushService::bind("tcp://127.0.0.1:0"), "WorkerPush").failures("Pub");
/// master.register_inbound(WorkerPullService::bind("tcp://127.0.0.1:0"), "WorkerPull").route("Pub");
/// master.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// master.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let master = master.spawn().await?;
/// println!("workers connect to {}", master.db_address());
/// master.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkerPushService {
    address: LegacyAddress,
    opened: Option<OpenWorkerPush>,
}

impl WorkerPushService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::at(LegacyAddress::given(address.into_address()))
    }

    pub(crate) fn at(address: LegacyAddress) -> Self {
        Self {
            address,
            opened: None,
        }
    }
}

impl Outbound for WorkerPushService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy(
            "worker_push_address",
            &self.address.address,
        )]
    }

    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let push = Push::idle(setup.options);
        setup
            .bind_legacy("worker_push_address", &self.address, push.peers())
            .await?;
        setup.shared.outstanding.open();
        // The first of several such parts counts.
        let _ = setup.shared.workers.set(push.peers());
        self.opened = Some(OpenWorkerPush {
            is_linked: setup.shared.links.claim_tasks(),
            push,
            name: setup.context.name.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let OpenWorkerPush {
            push,
            is_linked,
            name,
            shared,
            counters,
        } = self.opened.expect("a part is opened before it runs");
        let tasks = TaskPusher {
            links: is_linked.then_some(&shared.links),
            push: &push,
            name: &name,
            shared: &shared,
            counters: &counters,
            outlet: &outlet,
            replies: None,
        };
        let result = tasks.push_all(&mut inlet).await;
        shared.outstanding.close();
        result?;
        push.close(inlet.linger()).await;
        Ok(())
    }
}

#[derive(Debug)]
pub(in crate::parts) struct OpenWorkerPush {
    push: Push,
    /// Whether tasks are also sent over links.
    is_linked: bool,
    /// The component's name.
    name: String,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

/// The most tasks per legacy worker while other workers have links. Legacy workers report no capacity.
const MAX_TASKS_PER_LEGACY_WORKER: u64 = 16;

/// Tasks that are not assigned to a worker yet, each with the flow of its client.
type TaskBacklog = VecDeque<(Flow, Batch)>;

/// Assigns tasks to workers.
pub(in crate::parts) struct TaskPusher<'a> {
    pub(in crate::parts) push: &'a Push,
    /// The links to workers, if tasks are also sent over links.
    pub(in crate::parts) links: Option<&'a LinkServer>,
    /// The component's name.
    pub(in crate::parts) name: &'a str,
    pub(in crate::parts) shared: &'a ComponentState,
    pub(in crate::parts) counters: &'a PartCounters,
    pub(in crate::parts) outlet: &'a Outlet,
    /// The requests that wait for results; `None` if they are answered by an empty reply at once.
    pub(in crate::parts) replies: Option<&'a PendingReplies>,
}

impl TaskPusher<'_> {
    /// Assigns tasks until the inlet is closed and empty and all tasks that were sent over links are done.
    ///
    /// A task that waits for a worker until its deadline is answered with an error. Tasks that remain at the drain
    /// limit, or when the component stops without a worker, are sent again by the clients, whose links close without
    /// `finished`.
    pub(in crate::parts) async fn push_all(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let stop = inlet.stop.clone();
        self.shared.unassigned.set_upstream(inlet.queue.gauge());
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
        /// How long a worker may take to reconnect.
        const WORKER_TIMEOUT: Duration = Duration::from_millis(500);
        const INTERVAL: Duration = Duration::from_millis(50);
        stop.stopped().await;
        let mut since = Instant::now();
        while since.elapsed() < WORKER_TIMEOUT {
            if self.shared.any_worker().await.unwrap_or(false) {
                since = Instant::now();
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn push_until_dry(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let mut batch = Vec::new();
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
                    0 => inlet.recv_groups(&mut batch, BATCH).await,
                    // Tasks that are not assigned at once wait here, without fairness between clients. So only few
                    // are received.
                    _ => {
                        inlet
                            .recv_many(&mut batch, MAX_TASKS_PER_LEGACY_WORKER as usize)
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
            for envelope in batch.drain(..) {
                // The messages of a group are tasks.
                if envelope.group.is_none() && envelope.message.is_done() {
                    self.forward_done(envelope).await;
                    continue;
                }
                let Envelope {
                    message,
                    flow,
                    feedback,
                    group,
                    ..
                } = envelope;
                match (feedback, self.replies) {
                    (Some(feedback), Some(replies)) => replies.expect(&message, feedback),
                    (Some(feedback), None) => {
                        // The receiver is gone if the component stops.
                        let _ = feedback.send(Bytes::new());
                    }
                    (None, _) => {}
                }
                let is_cancelled = self.shared.cancellations.concern(&message);
                let group = match group {
                    Some(group) => *group,
                    None => message.into_frame().into(),
                };
                if is_cancelled {
                    for frame in group.frames() {
                        self.fail(frame, &CallFailure::given_up()).await;
                    }
                    continue;
                }
                count += group.len();
                bytes += group.bytes();
                tasks.push_back((flow, group));
            }
            self.counters.count(count, bytes);
            self.assign(&mut tasks, &mut legacy, inlet).await?;
        }
        self.drain_links().await;
        Ok(())
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
            // The receiver is gone if the component stops.
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
                    may_push = legacy.have_capacity(&self.shared.outstanding);
                    let is_pushed = may_push && legacy.take_turn(&self.shared.outstanding, reach);
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

    /// Pushes as many tasks as the socket has capacity for. Returns whether all were pushed.
    fn try_push(&self, tasks: &mut TaskBacklog) -> Result<bool, SocketClosed> {
        while !tasks.is_empty() {
            if !self.try_push_one(tasks)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pushes the first task. Returns whether the socket had capacity.
    fn try_push_one(&self, tasks: &mut TaskBacklog) -> Result<bool, SocketClosed> {
        let Some((flow, task)) = self.next(tasks) else {
            return Ok(false);
        };
        let task = self.numbered(task);
        match self.push.try_send(task.clone()) {
            Ok(()) => {
                self.record_push(task);
                Ok(true)
            }
            Err(TrySendError::Full(task)) => {
                tasks.push_front((flow, task.into()));
                Ok(false)
            }
            Err(TrySendError::Closed(_)) => Err(SocketClosed),
        }
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
        let waiting = tasks.iter().map(|(_, group)| group.len()).sum::<usize>();
        let _unplaced = is_alone.then(|| self.shared.unassigned.hold(waiting + 1));
        let task = if may_push { self.numbered(task) } else { task };
        // Decoding copies nothing.
        let deadline = Message::decode(task.clone()).unwrap_or_default().deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.left()).await,
                None => std::future::pending().await,
            }
        };
        let push = async {
            if may_push {
                self.push.send(task.clone()).await
            } else {
                self.shared.outstanding.results_arrived().await;
                Ok(())
            }
        };
        tokio::select! {
            biased;
            pushed = push => {
                pushed?;
                if !may_push {
                    return Ok(Some(task));
                }
                self.record_push(task);
                Ok(None)
            }
            () = self.links_changed() => {
                self.fail_tasks(tasks, legacy).await;
                Ok(Some(task))
            }
            () = late => {
                self.counters.count_error();
                let failure = if self.shared.any_worker().await? {
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
    fn next(&self, tasks: &mut TaskBacklog) -> Option<(Flow, Bytes)> {
        next(tasks, |frame| self.is_message(frame))
    }

    fn is_message(&self, frame: &Bytes) -> bool {
        let is_message = Message::read(frame.clone()).is_some();
        if !is_message {
            self.counters.count_error();
        }
        is_message
    }

    /// Numbers a task if unacknowledged tasks are redelivered.
    fn numbered(&self, task: Bytes) -> Bytes {
        let Some(mut pushed) = self.shared.pushed() else {
            return task;
        };
        match Message::decode(task.clone()) {
            Ok(mut message) if message.task_number() == 0 => {
                message.set_task_number(pushed.number());
                message.into_frame()
            }
            _ => task,
        }
    }

    /// Records that a task was pushed.
    fn record_push(&self, task: Bytes) {
        self.shared.outstanding.add();
        if let Some(mut pushed) = self.shared.pushed()
            && let Ok(message) = Message::decode(task.clone())
        {
            pushed.push(Instant::now(), message.task_number(), task);
        }
    }

    /// Waits for tasks without a result within `ack_wait`. Cancel safe.
    async fn overdue(&self) -> OverdueTasks {
        /// How soon a task that was pushed meanwhile is considered.
        const POLL_INTERVAL: Duration = Duration::from_millis(100);
        loop {
            let Some(next) = self.shared.pushed().map(|mut pushed| pushed.next_due()) else {
                return std::future::pending().await;
            };
            let look = Instant::now() + POLL_INTERVAL;
            let at = next.map_or(look, |at| at.min(look));
            tokio::time::sleep_until(at.into()).await;
            let due = self
                .shared
                .pushed()
                .map(|mut pushed| pushed.due(Instant::now()));
            if let Some(due) = due
                && due != OverdueTasks::default()
            {
                return due;
            }
        }
    }

    async fn redeliver(&self, due: OverdueTasks, tasks: &mut TaskBacklog) {
        let count = due.redeliver.len();
        if count > 0 {
            tracing::warn!(
                tasks = count,
                "redelivering tasks that have no result within `ack_wait`"
            );
        }
        let redelivered = due.redeliver.into_iter();
        tasks.extend(redelivered.map(|task| (Flow::new(0), Batch::from(task))));
        for frame in due.failed {
            self.counters.count_error();
            let failure = "no worker returned a result in time";
            let failure = CallFailure::unavailable(failure.into());
            self.fail(frame, &failure).await;
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

    /// Answers a task with an error instead of assigning it.
    async fn fail(&self, task: Bytes, failure: &CallFailure) {
        let Ok(message) = Message::decode(task) else {
            return;
        };
        log_failure(&message, failure);
        let failed = message.failed(self.name, failure);
        if let Some(replies) = self.replies {
            replies.answer(&failed.encode());
        }
        let flow = flow_of(&failed);
        self.outlet.send_failed(failed, flow, Instant::now()).await;
    }
}

/// Takes the next task, also from a group, and drops malformed frames. Only the first frame of a group was decoded
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

/// The legacy workers, for scheduling between them and workers with links.
#[derive(Debug, Default)]
struct LegacyWorkers {
    /// The generation of the socket's peers when they were counted.
    seen: Option<u64>,
    count: u64,
    turn: u64,
}

impl LegacyWorkers {
    /// Counts the legacy workers if any has connected or disconnected. Returns whether that is so.
    async fn refresh(&mut self, push: &Push) -> Result<bool, SocketClosed> {
        let peers = push.peers();
        let generation = peers.generation();
        let is_new = self.seen != Some(generation);
        if is_new {
            self.count = peers.count().await? as u64;
            self.seen = Some(generation);
        }
        Ok(is_new)
    }

    fn have_capacity(&self, outstanding: &InFlightTasks) -> bool {
        outstanding.tasks() < MAX_TASKS_PER_LEGACY_WORKER * self.count
    }

    /// Returns whether a legacy worker receives the next task, and not a worker with a link: the least loaded does, and
    /// ties are broken in turn.
    fn take_turn(&mut self, outstanding: &InFlightTasks, reach: WorkerReach) -> bool {
        let WorkerReach::Load(load) = reach else {
            return true;
        };
        self.turn = self.turn.wrapping_add(1);
        match (outstanding.tasks() / self.count).cmp(&(load as u64)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.turn.is_multiple_of(2),
            std::cmp::Ordering::Greater => false,
        }
    }
}

/// An inbound part that receives the results of workers over links, and of legacy workers at a PULL socket.
/// Announced as `worker_pull_address`.
///
/// An example is at [`WorkerPushService`].
#[derive(Debug)]
pub struct WorkerPullService {
    address: LegacyAddress,
    opened: Option<(
        Pull,
        Option<mpsc::UnboundedReceiver<InboundEvent>>,
        PartContext,
    )>,
}

impl WorkerPullService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::at(LegacyAddress::given(address.into_address()))
    }

    pub(crate) fn at(address: LegacyAddress) -> Self {
        Self {
            address,
            opened: None,
        }
    }
}

impl Inbound for WorkerPullService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy(
            "worker_pull_address",
            &self.address.address,
        )]
    }

    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let pull = Pull::idle(setup.options);
        setup
            .bind_legacy("worker_pull_address", &self.address, pull.peers())
            .await?;
        let linked = setup.shared.links.take_results();
        self.opened = Some((pull, linked, PartContext::new(setup)));
        Ok(())
    }

    async fn run(self, outlet: Outlet) -> Result<(), BoxError> {
        let (pull, linked, opened) = self.opened.expect("a part is opened before it runs");
        receive_results(pull, opened, None, linked, outlet).await
    }
}

/// Receives results and sends them on, until the component stops and the results of all tasks have arrived.
pub(in crate::parts) async fn receive_results(
    pull: Pull,
    opened: PartContext,
    replies: Option<&PendingReplies>,
    linked: Option<mpsc::UnboundedReceiver<InboundEvent>>,
    mut outlet: Outlet,
) -> Result<(), BoxError> {
    // The limit of messages counts calls, not results.
    outlet.remaining = None;
    let component = outlet.stop.clone();
    let token = CancellationToken::new();
    outlet.stop = component.with_token(token.clone());
    let mut source = ResultSource {
        counters: opened.counters.clone(),
        source: PullAndLinks::new(pull, linked, LinkPeers::Workers, opened.shared.clone()),
        replies,
    };
    let receive_loop = ReceiveLoop::new(
        NoHooks,
        MessageIds::Unchanged,
        opened.context,
        opened.counters,
        outlet,
    )
    .for_results(opened.shared.clone());
    let stopping = async {
        component.stopped().await;
        opened.shared.outstanding.done(&component).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(receive_loop.run(&mut source), stopping);
    result?;
    source.source.pull.close().await;
    Ok(())
}

/// The source of results. Counts those that arrive at the socket; links count theirs.
struct ResultSource<'a> {
    source: PullAndLinks,
    counters: Arc<PartCounters>,
    replies: Option<&'a PendingReplies>,
}

impl ResultSource<'_> {
    /// Counts the results from the socket, drops duplicates of redelivered tasks, and answers waiting requests.
    fn count(&self, results: &mut Vec<SourceEvent>) {
        let shared = &self.source.linked.shared;
        self.counters.count_dropped(shared.links.take_strays());
        let mut pushed = shared.pushed();
        // Frames from sockets are not grouped.
        let frame = |result: &SourceEvent| match result {
            SourceEvent::Messages {
                group,
                origin: Origin::Socket,
                ..
            } => Some(group.first()),
            _ => None,
        };
        let mut came = 0;
        results.retain(|result| {
            let Some(frame) = frame(result) else {
                return true;
            };
            came += 1;
            let Some(pushed) = &mut pushed else {
                return true;
            };
            match Message::decode(frame).map_or(0, |message| message.task_number()) {
                0 => true,
                number => pushed.result(number),
            }
        });
        drop(pushed);
        if let Some(replies) = self.replies {
            replies.answer_all(results.iter().filter_map(SourceEvent::group));
        }
        if came > 0 {
            shared.outstanding.subtract(came);
        }
    }
}

impl MessageSource for ResultSource<'_> {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.source.recv_many(out, max).await?;
        self.count(out);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        self.source.try_recv_many(out, max);
        self.count(out);
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        self.source.return_credit(messages);
    }
}

#[cfg(test)]
mod tests {
    use crate::message::BatchSizes;
    use super::*;

    #[test]
    fn next_task_skips_malformed_frames_of_a_group() {
        let group = |frame: &'static [u8]| {
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
            let mut tasks = VecDeque::from([(flow, group(frame)), (flow, group(b"d"))]);
            let tasks = std::iter::from_fn(|| next(&mut tasks, |frame| frame != "x"));
            let tasks: Vec<_> = tasks.map(|(_, task)| task).collect();
            assert_eq!(tasks.concat(), b"abcd");
        }
    }
}
