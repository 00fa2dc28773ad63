//! A master's two sides towards its workers: tasks go out, results come in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::context::PartContext;
use super::intake::{Arrival, Ids, Intake, PassedOn, Receipt, Source};
use super::linked::{LinkedPull, Senders};
use crate::component_state::ComponentState;
use crate::component_state::{InFlightTasks, OverdueTasks};
use crate::discovery::IntoAddress;
use crate::executor::log_failure;
use crate::failure::{BoxError, CallFailure, FailureKind};
use crate::fair_queue::Flow;
use crate::flow::flow_of;
use crate::link::accept::{Incoming, Links};
use crate::link::dispatch::{Failed, Reach};
use crate::message::{Group, Message};
use crate::metrics::PartCounters;
use crate::part::{
    BATCH, Binding, Envelope, Inbound, Inlet, LegacyAddress, NoHooks, OpenError, Outbound, Outlet,
    Setup, Stop,
};
use crate::socket::{Pull, Push, SocketClosed, TrySendError};

/// Gives each task to one of the workers that connect to it, in turn. Announced as
/// `worker_push_address`.
///
/// Workers that have a link with the component get their tasks over that, see
/// [`LinkOptions`](crate::LinkOptions): the least-loaded one that has the function receives the next task, and
/// the tasks of one that is lost are redelivered. It needs a [`WorkerPullService`] and a
/// [`CacheService`](crate::parts::CacheService) beside it.
///
/// A message that is not a task goes on to where results go: the error of an earlier step, or the rest of a
/// completion weight. That is the part's route, or if it has none the route of the component's
/// [`WorkerPullService`]. Tasks that no worker can do go there as well, with an error, unless there is a route
/// for failures.
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
    opened: Option<Opened>,
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
    fn only_passes_on(&self) -> bool {
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
        // Of several such parts the first one counts.
        let _ = setup.shared.workers.set(push.peers());
        self.opened = Some(Opened {
            is_linked: setup.shared.links.give_tasks(),
            push,
            name: setup.context.name.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let Opened {
            push,
            is_linked,
            name,
            shared,
            counters,
        } = self.opened.expect("a part is opened before it runs");
        let tasks = Tasks {
            links: is_linked.then_some(&shared.links),
            push: &push,
            name: &name,
            shared: &shared,
            counters: &counters,
            outlet: &outlet,
            answers: None,
        };
        let result = tasks.push_all(&mut inlet).await;
        shared.outstanding.close();
        result?;
        push.close(inlet.linger()).await;
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Opened {
    push: Push,
    /// Whether tasks go over links as well.
    is_linked: bool,
    /// The component's.
    name: String,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

/// How many tasks may be with each worker that has no link, where others have one: it says nothing of what
/// it has room for.
const PUSHED: u64 = 16;

/// Tasks that no worker has received yet, each with its client.
type Waiting = VecDeque<(Flow, Group)>;

/// What gives tasks to workers.
pub(super) struct Tasks<'a> {
    pub(super) push: &'a Push,
    /// Links with workers, where tasks go over those as well.
    pub(super) links: Option<&'a Links>,
    /// The component's.
    pub(super) name: &'a str,
    pub(super) shared: &'a ComponentState,
    pub(super) counters: &'a PartCounters,
    pub(super) outlet: &'a Outlet,
    /// Where results are awaited; otherwise who waits for an answer has an empty one at once.
    pub(super) answers: Option<&'a Answers>,
}

impl Tasks<'_> {
    /// Gives tasks until the inlet has run dry, and those that went over links are done. What waits for a
    /// worker until its deadline is answered with an error.
    ///
    /// What is left at the drain limit, or when the component stops without a worker, is left to the clients,
    /// which are told when their links close, and send it again.
    pub(super) async fn push_all(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let stop = inlet.stop.clone();
        self.shared.unassigned.set_upstream(inlet.queue.gauge());
        tokio::select! {
            biased;
            pushed = self.push_until_dry(inlet) => return pushed,
            () = self.no_worker_is_left(&stop) => {
                tracing::info!("no worker is connected: clients send the rest again");
            }
            () = stop.expired() => {}
        }
        stop.set_incomplete();
        Ok(())
    }

    /// Waits until the component stops, and no worker has been connected for a while. Cancel safe.
    async fn no_worker_is_left(&self, stop: &Stop) {
        /// How long a worker that reconnects may be away.
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
        let mut others = Others::default();
        let peers = self.push.peers();
        loop {
            let absent = self.links.is_some_and(Links::have_absent);
            for flow in self.links.map_or_else(Vec::new, Links::take_resumed) {
                inlet.set_paused(flow, false);
            }
            let receive = async {
                match others.count {
                    0 => inlet.recv_together(&mut batch, BATCH).await,
                    // Tasks that are not assigned at once wait here, first in, first out between clients.
                    _ => inlet.recv_many(&mut batch, PUSHED as usize).await,
                }
            };
            let received = tokio::select! {
                biased;
                received = receive => received,
                () = self.links_changed() => {
                    self.fail_lost(&mut tasks, &others).await;
                    self.take_absent(&mut tasks, &mut others).await?;
                    self.place(&mut tasks, &mut others, inlet).await?;
                    continue;
                }
                connected = peers.connected(), if absent && others.count == 0 => {
                    connected?;
                    self.take_absent(&mut tasks, &mut others).await?;
                    self.place(&mut tasks, &mut others, inlet).await?;
                    continue;
                }
                due = self.due() => {
                    self.push_again(due, &mut tasks).await;
                    self.place(&mut tasks, &mut others, inlet).await?;
                    continue;
                }
            };
            if received == 0 {
                break;
            }
            let (mut count, mut bytes) = (0, 0);
            for envelope in batch.drain(..) {
                // Those of a group are not.
                if envelope.together.is_none() && envelope.message.is_done() {
                    self.pass_on_done(envelope).await;
                    continue;
                }
                let Envelope {
                    message,
                    flow,
                    feedback,
                    together,
                    ..
                } = envelope;
                match (feedback, self.answers) {
                    (Some(feedback), Some(answers)) => answers.expect(&message, feedback),
                    (Some(feedback), None) => {
                        // Nobody waits any more: the component stops.
                        let _ = feedback.send(Bytes::new());
                    }
                    (None, _) => {}
                }
                let is_cancelled = self.shared.cancellations.concern(&message);
                let group = match together {
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
            self.place(&mut tasks, &mut others, inlet).await?;
        }
        self.linked_are_done().await;
        Ok(())
    }

    /// Sends a message that is not a task on to the part that receives results: an error of an earlier step, or
    /// the rest of a completion weight.
    async fn pass_on_done(&self, envelope: Envelope) {
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
            let answer = match self.answers {
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

    /// Finds a worker for each task.
    async fn place(
        &self,
        tasks: &mut Waiting,
        others: &mut Others,
        inlet: &mut Inlet,
    ) -> Result<(), SocketClosed> {
        let mut held = Vec::new();
        while !tasks.is_empty() {
            let linked = self.links.filter(|links| links.workers() > 0);
            if others.look(self.push).await?
                && let Some(links) = self.links
            {
                tasks.extend(links.set_legacy(others.count > 0));
            }
            let mut may_push = true;
            match linked {
                None => {
                    if self.try_push(tasks)? {
                        continue;
                    }
                }
                Some(links) if others.count == 0 => {
                    links.submit_all(tasks, &mut held);
                    for flow in held.drain(..) {
                        inlet.set_paused(flow, true);
                    }
                    if tasks.is_empty() {
                        break;
                    }
                }
                // Each task goes to whom it suits best, and what waits here to whoever is first.
                Some(links) => {
                    let Some((flow, task)) = self.next(tasks) else {
                        continue;
                    };
                    let reach = links.reach(&task);
                    tasks.push_front((flow, task.into()));
                    may_push = others.have_room(&self.shared.outstanding);
                    let is_pushed = may_push && others.are_next(&self.shared.outstanding, reach);
                    if is_pushed && self.try_push_one(tasks)? {
                        continue;
                    }
                    if matches!(reach, Reach::Load(_)) && links.submit(tasks, 0, 1) > 0 {
                        continue;
                    }
                }
            }
            if let Some((flow, task)) = self.next(tasks)
                && let Some(task) = self.wait_with(task, may_push, tasks, others).await?
            {
                tasks.push_front((flow, task.into()));
            }
        }
        Ok(())
    }

    /// Takes back the tasks that only workers without links can run, if there are any.
    async fn take_absent(
        &self,
        tasks: &mut Waiting,
        others: &mut Others,
    ) -> Result<(), SocketClosed> {
        if let Some(links) = self.links {
            others.look(self.push).await?;
            tasks.extend(links.set_legacy(others.count > 0));
        }
        Ok(())
    }

    /// Pushes as many as there is room for; tells whether that was all.
    fn try_push(&self, tasks: &mut Waiting) -> Result<bool, SocketClosed> {
        while !tasks.is_empty() {
            if !self.try_push_one(tasks)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pushes the first one; tells whether there was room.
    fn try_push_one(&self, tasks: &mut Waiting) -> Result<bool, SocketClosed> {
        let Some((flow, task)) = self.next(tasks) else {
            return Ok(false);
        };
        let task = self.numbered(task);
        match self.push.try_send(task.clone()) {
            Ok(()) => {
                self.pushed(task);
                Ok(true)
            }
            Err(TrySendError::Full(task)) => {
                tasks.push_front((flow, task.into()));
                Ok(false)
            }
            Err(TrySendError::Closed(_)) => Err(SocketClosed),
        }
    }

    /// Waits until somebody may have room for a task; gives it back if nobody has got it by then.
    async fn wait_with(
        &self,
        task: Bytes,
        may_push: bool,
        tasks: &mut Waiting,
        others: &Others,
    ) -> Result<Option<Bytes>, SocketClosed> {
        let is_alone = others.count == 0 && self.links.is_none_or(|links| links.workers() == 0);
        let waiting = tasks.iter().map(|(_, group)| group.len()).sum::<usize>();
        let _unplaced = is_alone.then(|| self.shared.unassigned.hold(waiting + 1));
        let task = if may_push { self.numbered(task) } else { task };
        // Views of the same memory.
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
                self.shared.outstanding.fewer().await;
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
                self.pushed(task);
                Ok(None)
            }
            () = self.links_changed() => {
                self.fail_lost(tasks, others).await;
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

    /// Takes the next task.
    fn next(&self, tasks: &mut Waiting) -> Option<(Flow, Bytes)> {
        next(tasks, |frame| self.is_message(frame))
    }

    fn is_message(&self, frame: &Bytes) -> bool {
        let is_message = Message::read(frame.clone()).is_some();
        if !is_message {
            self.counters.count_error();
        }
        is_message
    }

    /// A task with a number, where one that has no result for too long is pushed again.
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

    /// A task was pushed.
    fn pushed(&self, task: Bytes) {
        self.shared.outstanding.went_out();
        if let Some(mut pushed) = self.shared.pushed()
            && let Ok(message) = Message::decode(task.clone())
        {
            pushed.push(Instant::now(), message.task_number(), task);
        }
    }

    /// Waits for tasks that have had no result for too long. Cancel safe.
    async fn due(&self) -> OverdueTasks {
        /// How soon a task that was pushed meanwhile is thought of.
        const LOOK: Duration = Duration::from_millis(100);
        loop {
            let Some(next) = self.shared.pushed().map(|mut pushed| pushed.next_due()) else {
                return std::future::pending().await;
            };
            let look = Instant::now() + LOOK;
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

    async fn push_again(&self, due: OverdueTasks, tasks: &mut Waiting) {
        let count = due.again.len();
        if count > 0 {
            tracing::warn!(
                tasks = count,
                "redelivering tasks without a result for too long"
            );
        }
        let again = due.again.into_iter();
        tasks.extend(again.map(|task| (Flow::new(0), Group::from(task))));
        for frame in due.failed {
            self.counters.count_error();
            let failure = "the workers that had it gave no result in time";
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

    /// Answers the tasks that no worker with a link runs. Of these, other workers may have the functions that
    /// no worker has listed: such tasks are added to `tasks`.
    async fn fail_lost(&self, tasks: &mut Waiting, others: &Others) {
        for Failed { frame, failure } in self.links.map_or_else(Vec::new, Links::take_failed) {
            if failure.kind() == FailureKind::UnknownFunction && others.count > 0 {
                tasks.push_back((Flow::new(0), frame.into()));
                continue;
            }
            self.counters.count_error();
            self.fail(frame, &failure).await;
        }
    }

    async fn linked_are_done(&self) {
        let (mut tasks, others) = (VecDeque::new(), Others::default());
        if let Some(links) = self.links {
            links.tell_of_the_end();
            while links.outstanding() > 0 {
                links.changed().await;
                self.fail_lost(&mut tasks, &others).await;
            }
        }
        self.fail_lost(&mut tasks, &others).await;
    }

    /// Answers a task that no worker gets.
    async fn fail(&self, task: Bytes, failure: &CallFailure) {
        let Ok(message) = Message::decode(task) else {
            return;
        };
        log_failure(&message, failure);
        let failed = message.failed(self.name, failure);
        if let Some(answers) = self.answers {
            answers.answer(&failed.encode());
        }
        let flow = flow_of(&failed);
        self.outlet.send_failed(failed, flow, Instant::now()).await;
    }
}

/// Takes the next task, also out of a group, of which nobody has looked at any but the first one; what is no
/// message is left out.
fn next(tasks: &mut Waiting, is_message: impl Fn(&Bytes) -> bool) -> Option<(Flow, Bytes)> {
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

/// Workers that have no link, beside such as have one.
#[derive(Debug, Default)]
struct Others {
    seen: Option<u64>,
    count: u64,
    turn: u64,
}

impl Others {
    /// Counts them, if they may have changed. Returns whether that is so.
    async fn look(&mut self, push: &Push) -> Result<bool, SocketClosed> {
        let peers = push.peers();
        let generation = peers.generation();
        let is_new = self.seen != Some(generation);
        if is_new {
            self.count = peers.count().await? as u64;
            self.seen = Some(generation);
        }
        Ok(is_new)
    }

    fn have_room(&self, outstanding: &InFlightTasks) -> bool {
        outstanding.tasks() < PUSHED * self.count
    }

    /// Whether one of them should receive the next task, and not a worker with a link: the one with the fewest
    /// tasks does, in turn on ties.
    fn are_next(&mut self, outstanding: &InFlightTasks, reach: Reach) -> bool {
        let Reach::Load(load) = reach else {
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

/// Takes the results of workers, which connect to it and push. Announced as `worker_pull_address`.
///
/// An example is at [`WorkerPushService`].
#[derive(Debug)]
pub struct WorkerPullService {
    address: LegacyAddress,
    opened: Option<(Pull, Option<mpsc::UnboundedReceiver<Incoming>>, PartContext)>,
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
    fn only_passes_on(&self) -> bool {
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
        take_results(pull, opened, None, linked, outlet).await
    }
}

/// Takes results and sends them on, until the component stops and all tasks that are out have come back.
pub(super) async fn take_results(
    pull: Pull,
    opened: PartContext,
    answers: Option<&Answers>,
    linked: Option<mpsc::UnboundedReceiver<Incoming>>,
    mut outlet: Outlet,
) -> Result<(), BoxError> {
    // The limit on messages is for what comes in, not for what comes back.
    outlet.left = None;
    let component = outlet.stop.clone();
    let token = CancellationToken::new();
    outlet.stop = component.by(token.clone());
    let mut source = Results {
        counters: opened.counters.clone(),
        source: LinkedPull::new(pull, linked, Senders::Others, opened.shared.clone()),
        answers,
    };
    let intake = Intake::new(
        NoHooks,
        Ids::LeftAlone,
        opened.context,
        opened.counters,
        outlet,
    )
    .of_workers(opened.shared.clone());
    let stopping = async {
        component.stopped().await;
        opened.shared.outstanding.done(&component).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(intake.run(&mut source), stopping);
    result?;
    source.source.pull.close().await;
    Ok(())
}

/// Counts what comes back by the socket: links do that themselves.
struct Results<'a> {
    source: LinkedPull,
    counters: Arc<PartCounters>,
    answers: Option<&'a Answers>,
}

impl Results<'_> {
    /// Counts the results that came by the socket, removes those that do not count, and answers the requests that
    /// wait for one.
    fn count(&self, results: &mut Vec<Arrival>) {
        let shared = &self.source.linked.shared;
        self.counters.count_dropped(shared.links.take_strays());
        let mut pushed = shared.pushed();
        // What comes over sockets is in no group.
        let frame = |result: &Arrival| match result {
            Arrival::Messages {
                group,
                receipt: Receipt::Socket,
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
        if let Some(answers) = self.answers {
            answers.answer_all(results.iter().filter_map(Arrival::group));
        }
        if came > 0 {
            shared.outstanding.came_back(came);
        }
    }
}

impl Source for Results<'_> {
    async fn recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) -> Result<(), SocketClosed> {
        self.source.recv_many(out, max).await?;
        self.count(out);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) {
        self.source.try_recv_many(out, max);
        self.count(out);
    }

    fn passed_on(&mut self, messages: &mut Vec<PassedOn>) {
        self.source.passed_on(messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Sizes;

    #[test]
    fn what_is_no_message_does_not_come_out_of_a_group() {
        let group = |frame: &'static [u8]| {
            let sizes = Sizes::new(vec![1; frame.len()].into());
            Group::of(Bytes::from_static(frame), sizes).unwrap()
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
