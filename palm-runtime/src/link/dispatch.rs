//! Assigns tasks to workers by least load, and redelivers the tasks of lost workers.
//!
//! [`Dispatch`] owns every task from its submission until its end. It does no I/O and reads no clock. Tasks enter by
//! [`submit`](Dispatch::submit) and leave by [`assign`](Dispatch::assign); results are reported by
//! [`finish_range`](Dispatch::finish_range), [`record_result`](Dispatch::record_result) and
//! [`finish`](Dispatch::finish), returned tasks by [`return_task`](Dispatch::return_task), lost workers by
//! [`lose_worker`](Dispatch::lose_worker), and time by [`expire`](Dispatch::expire). **Invariant:** each task ends
//! exactly once, finished or in a list of [`Failed`].
//!
//! **Scheduling.** Functions that the same workers can run share a [`TaskPool`] of waiting tasks, see
//! [`functions`](super::functions). Pools take turns; within a pool clients share the workers fairly
//! ([`FairQueue`]), and the least-loaded worker with credit receives the next task, round-robin on ties. A
//! worker that has finished nothing for [`STALL_TIMEOUT`] receives no task beyond those it begins at once.
//!
//! **Redelivery.** Tasks of a lost worker are redelivered before untried ones. The first result of a
//! redelivered task counts, even from a worker that was wrongly considered lost.
//!
//! **Poison messages.** A worker begins its tasks in the order in which they were sent, at most `concurrency`
//! at once, so only its oldest `concurrency` unfinished tasks can have caused its death: these count a death,
//! the others do not. Redelivered tasks are never prefetched, so that a lost worker has begun all that it had,
//! whatever results were lost with it. A task with one delivery left is a suspect. It runs exclusively on
//! its worker, so that only a poison message reaches `max_deliver`, and fails.
//!
//! **Batches.** Tasks that arrive as a batch are assigned and answered as one [`AssignedBatch`], which costs about
//! as much as one task. A batch is split into single tasks once one of them is lost, returned, or has several results.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::functions::{self, ClassId, Eligibility, FunctionId, FunctionTable, UNKNOWN_FUNCTION};
use super::reports::{calls, no_worker};
use super::session::memory_bytes;
use crate::by_number::ByNumber;
use crate::failure::CallFailure;
use crate::fair_queue::{FairQueue, Flow, FlowKey, Usage};
use crate::function::nearest;
use crate::message::proto::Function;
use crate::message::{Batch, BatchSizes, Deadline, Message};

#[cfg(test)]
#[path = "dispatch_test.rs"]
mod tests;

/// Identifies the session with a worker.
pub(crate) type WorkerKey = u64;

/// Identifies a task between master and worker. Never 0.
pub(crate) type TaskId = u64;

/// How many tasks of a client are assigned in one batch while tasks of other clients wait.
const MAX_FAIR_BATCH: usize = 16;

/// The limit on waiting untried tasks. It is reached only if the idle workers cannot run the tasks that wait.
const MAX_WAITING: Usage = Usage {
    messages: 10_000,
    bytes: 64 * 1024 * 1024,
};

/// How long a worker may finish no task before it prefetches no more.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a call of a function that no worker has ever registered waits for a worker that does.
pub(super) const UNKNOWN_FUNCTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How many unknown function names are remembered with the start of their wait.
const MAX_UNKNOWN_NAMES: usize = 1000;

/// How long a worker is reserved for a suspect while it still runs other tasks. A suspect whose worker is not idle by
/// then runs alongside these.
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(5);

/// How a worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerLoss {
    /// Its connection was closed, as when its process dies.
    Disconnected,
    /// It showed no sign of life for this long.
    Silent(Duration),
    /// It closed its session.
    Left,
}

impl std::fmt::Display for WorkerLoss {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disconnected => formatter.write_str("connection closed"),
            Self::Silent(time) => write!(formatter, "no sign of life for {time:?}"),
            Self::Left => formatter.write_str("left"),
        }
    }
}

/// The loss of a worker that had begun a task.
#[derive(Debug, Clone)]
struct WorkerDeath {
    worker: Arc<str>,
    loss: WorkerLoss,
}

impl std::fmt::Display for WorkerDeath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` ({})", self.worker, self.loss)
    }
}

/// A task that was assigned at least once, alone or as part of a batch that was split.
#[derive(Debug)]
struct DispatchedTask {
    frame: Bytes,
    function: FunctionId,
    expiry: TaskExpiry,
    /// How many results were passed on to the caller.
    passed_on: u64,
    /// The workers that the task was assigned to.
    holders: SmallVec<[TaskHolder; 1]>,
    /// The workers that were lost after they had begun the task.
    deaths: Vec<WorkerDeath>,
    /// Whether a worker was lost that had the task, begun or prefetched.
    was_lost: bool,
    /// Whether the task waits for a worker again.
    is_waiting: bool,
}

/// A worker that a task was assigned to.
#[derive(Debug)]
struct TaskHolder {
    key: WorkerKey,
    /// The position of the assignment among all assignments.
    sequence: u64,
    /// How many results of the task this worker has sent.
    results: u64,
    /// Whether the worker was lost since.
    is_lost: bool,
}

impl DispatchedTask {
    fn new(frame: Bytes, function: FunctionId) -> Self {
        Self {
            frame,
            function,
            expiry: TaskExpiry::Unread,
            passed_on: 0,
            holders: SmallVec::new(),
            deaths: Vec::new(),
            was_lost: false,
            is_waiting: false,
        }
    }

    /// Returns whether a last result of this worker is the only result of the task, and no other worker has the task.
    fn is_only_result(&self, key: WorkerKey) -> bool {
        let is_only_holder = matches!(&self.holders[..], [holder] if holder.key == key);
        is_only_holder && self.passed_on == 0 && !self.was_lost
    }

    fn assign(&mut self, key: WorkerKey, sequence: u64) {
        self.is_waiting = false;
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.key == key) {
            // The worker had been considered lost, and has returned.
            holder.sequence = sequence;
            holder.is_lost = false;
            return;
        }
        self.holders.push(TaskHolder {
            key,
            sequence,
            results: 0,
            is_lost: false,
        });
    }
}

/// A batch of tasks with consecutive ids at one worker, each of which gets one result.
#[derive(Debug)]
struct AssignedBatch {
    group: Batch,
    function: FunctionId,
    key: WorkerKey,
    sequence: u64,
    /// One bit for each task: whether it is done.
    done: SmallVec<[u64; 4]>,
    /// How many tasks are not done.
    left: usize,
}

impl AssignedBatch {
    fn new(group: Batch, function: FunctionId, key: WorkerKey, sequence: u64) -> Self {
        Self {
            done: SmallVec::from_elem(0, group.len().div_ceil(64)),
            left: group.len(),
            group,
            function,
            key,
            sequence,
        }
    }

    fn is_done(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn finish(&mut self, index: usize) {
        self.done[index / 64] |= 1 << (index % 64);
        self.left -= 1;
    }
}

/// The deadline of a waiting task. It is decoded from the message once, and only if the task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskExpiry {
    Unread,
    Never,
    At(Deadline),
}

impl TaskExpiry {
    fn read(frame: Bytes) -> Self {
        let deadline = Message::decode(frame).unwrap_or_default().deadline();
        deadline.map_or(Self::Never, Self::At)
    }

    /// Returns whether the earliest deadline of the messages has passed.
    fn has_passed(&mut self, now: Deadline, frames: impl Iterator<Item = Bytes>) -> bool {
        if *self == Self::Unread {
            let deadlines = frames.filter_map(|frame| match Self::read(frame) {
                Self::At(deadline) => Some(deadline),
                _ => None,
            });
            *self = deadlines.min().map_or(Self::Never, Self::At);
        }
        matches!(*self, Self::At(deadline) if deadline <= now)
    }
}

/// A batch of tasks that were never assigned.
#[derive(Debug)]
struct UntriedTasks {
    group: Batch,
    function: FunctionId,
    expiry: TaskExpiry,
}

fn usage(group: &Batch) -> Usage {
    Usage {
        messages: group.len(),
        bytes: group.bytes(),
    }
}

/// Waiting tasks that the same workers can run.
#[derive(Debug, Default)]
struct TaskPool {
    eligibility: Eligibility,
    /// How many tasks wait in the pool.
    waiting: usize,
    /// Tasks with one delivery left, which may be poison messages and run exclusively.
    suspects: VecDeque<TaskId>,
    /// Other tasks of lost workers.
    lost: VecDeque<TaskId>,
    /// Tasks that workers have returned.
    returned: VecDeque<TaskId>,
    untried: FairQueue<UntriedTasks>,
    /// The worker that is reserved for the next suspect, and since when.
    reserved: Option<(WorkerKey, Instant)>,
}

impl TaskPool {
    fn shares_workers(&self, other: &Eligibility) -> bool {
        self.eligibility.iter().any(|class| other.contains(class))
    }

    /// Returns the queues of redelivered tasks.
    fn redelivered(&mut self) -> [&mut VecDeque<TaskId>; 3] {
        [&mut self.suspects, &mut self.lost, &mut self.returned]
    }
}

#[derive(Debug)]
struct WorkerState {
    name: Arc<str>,
    class: ClassId,
    /// How many tasks the worker runs at once; 0 if unknown.
    concurrency: usize,
    /// How many of its tasks wait for other calls, so that the worker runs as many more.
    lent_slots: usize,
    /// How many tasks the worker has.
    load: usize,
    /// How many further tasks the worker accepts.
    credit: u64,
    /// The position of its last assignment among all assignments: the round-robin order of workers with equal load.
    last_sequence: u64,
    is_connected: bool,
    /// When the worker last finished a task, or received one while it had none.
    progress: Instant,
    is_stalled: bool,
    /// The suspect that the worker runs. Until it is done, the worker receives no other task.
    exclusive_task: Option<TaskId>,
    /// Whether the worker is reserved for a suspect, and receives no other task.
    is_reserved: bool,
}

impl WorkerState {
    fn can_receive(&self) -> bool {
        self.is_connected && self.credit > 0 && self.exclusive_task.is_none()
    }

    /// Returns how many tasks the worker runs at once now; 0 if unknown.
    fn runs(&self) -> usize {
        match self.concurrency {
            0 => 0,
            concurrency => concurrency + self.lent_slots,
        }
    }

    /// Returns whether the worker begins a further task at once, or its concurrency is unknown.
    fn begins_at_once(&self) -> bool {
        self.concurrency == 0 || self.load < self.runs()
    }

    /// Returns the worker's entry among those that may be assigned a task, or `None`.
    fn ready_entry(&self, key: WorkerKey) -> Option<ReadyEntry> {
        let is_ready =
            self.can_receive() && !self.is_reserved && (!self.is_stalled || self.begins_at_once());
        is_ready.then_some((self.load, self.last_sequence, key))
    }
}

/// A worker's load, the position of its last assignment, and its key.
type ReadyEntry = (usize, u64, WorkerKey);

/// The workers of a class that may be assigned a task, sorted: least loaded first, round-robin on ties.
///
/// A sorted deque, since a worker that receives a task moves to the end or close to it.
#[derive(Debug, Default)]
struct ReadyWorkers {
    entries: VecDeque<ReadyEntry>,
    /// How many workers of the class run a suspect.
    exclusive: usize,
}

impl ReadyWorkers {
    fn first(&self) -> Option<&ReadyEntry> {
        self.entries.front()
    }

    fn insert(&mut self, entry: ReadyEntry) {
        let index = self.entries.partition_point(|other| *other < entry);
        self.entries.insert(index, entry);
    }

    fn remove(&mut self, entry: &ReadyEntry) {
        if let Ok(index) = self.entries.binary_search(entry) {
            self.entries.remove(index);
        }
    }
}

/// Which ready workers a task may be assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerChoice {
    Any,
    /// Workers that begin the task at once.
    BeginsAtOnce,
    /// Workers without any task.
    Idle,
}

/// A task that ends without a result of a worker.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) frame: Bytes,
    pub(crate) failure: CallFailure,
}

/// Whether a task can be assigned to a worker with a link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The least-loaded worker that can run the task has this many tasks.
    Load(usize),
    /// The workers that can run the task have no credit.
    Full,
    /// No connected worker can run the task.
    Nobody,
}

/// All tasks of a master that have not ended: those with workers, and those that wait for one.
#[derive(Debug)]
pub(crate) struct Dispatch {
    /// Tasks that were assigned one by one, or redelivered.
    tasks: ByNumber<DispatchedTask>,
    /// Tasks that were assigned as batches, by the id of the first one.
    batches: BTreeMap<TaskId, AssignedBatch>,
    /// How many tasks of `batches` are not done.
    batched_tasks: usize,
    /// The tasks that were never assigned.
    untried: Usage,
    functions: FunctionTable,
    /// The waiting tasks, by eligibility. Those of the first pool wait until a worker connects that can run them.
    pools: Vec<TaskPool>,
    /// The pool that was served last.
    last_pool: usize,
    workers: ByNumber<WorkerState>,
    /// The workers that may be assigned tasks, by class.
    ready: Vec<ReadyWorkers>,
    last_task: TaskId,
    last_sequence: u64,
    max_deliver: usize,
    /// Whether legacy workers are connected, which run any function.
    has_legacy: bool,
    /// Functions that no worker has ever registered, and when a call of them was first seen.
    unknown: HashMap<Box<str>, Instant>,
}

impl Dispatch {
    /// Creates a dispatch in which a task fails once `max_deliver` workers were lost while they ran it.
    pub(crate) fn new(max_deliver: u32) -> Self {
        Self {
            tasks: ByNumber::default(),
            batches: BTreeMap::new(),
            batched_tasks: 0,
            untried: Usage::default(),
            functions: FunctionTable::default(),
            pools: vec![TaskPool::default()],
            last_pool: 0,
            workers: ByNumber::default(),
            ready: Vec::new(),
            last_task: 0,
            last_sequence: 0,
            max_deliver: max_deliver.max(1) as usize,
            has_legacy: false,
            unknown: HashMap::new(),
        }
    }

    /// Returns the number of tasks that have not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.tasks.len() + self.batched_tasks + self.untried.messages
    }

    /// Returns whether any worker may be assigned a task.
    pub(crate) fn has_credit(&self) -> bool {
        self.ready.iter().any(|ready| ready.first().is_some())
    }

    /// Returns how many tasks wait for credit of connected workers.
    pub(crate) fn waiting(&self) -> usize {
        self.pools[1..].iter().map(|pool| pool.waiting).sum()
    }

    /// Returns how many untried tasks wait, and their bytes.
    pub(crate) fn untried(&self) -> Usage {
        self.untried
    }

    /// Returns how many untried tasks of a flow wait, and their bytes.
    pub(crate) fn untried_of(&self, flow: FlowKey) -> Usage {
        let mut usage = Usage::default();
        for pool in &self.pools {
            usage.add(pool.untried.usage(flow));
        }
        usage
    }

    /// Returns whether further tasks are accepted: a worker may be assigned one, or fewer than `ahead` wait.
    pub(crate) fn accepts(&self, ahead: usize) -> bool {
        let is_full = self.untried.messages >= MAX_WAITING.messages
            || self.untried.bytes >= MAX_WAITING.bytes;
        !is_full && (self.has_credit() || self.waiting() < ahead)
    }

    /// Estimates the memory that assigned tasks occupy. Visits all of them.
    pub(crate) fn held_bytes(&self) -> usize {
        let tasks = self.tasks.values().map(|task| (1, task.frame.len()));
        let groups = self.batches.values().map(|held| &held.group);
        let groups = groups.map(|group| (group.len(), group.bytes()));
        let held = tasks.chain(groups);
        held.map(|(messages, bytes)| memory_bytes(messages, bytes))
            .sum()
    }

    /// Returns whether a task could be assigned now.
    pub(crate) fn reach(&mut self, task: &Bytes) -> Reach {
        let function = self.functions.resolve(task);
        let pool = &self.pools[self.functions.eligibility(function)];
        if pool.eligibility.is_empty() {
            return Reach::Nobody;
        }
        let first = self.pick(&pool.eligibility, WorkerChoice::Any);
        first.map_or(Reach::Full, |(load, ..)| Reach::Load(load))
    }

    /// Adds a worker that has connected, or that has returned, in which case the other arguments are ignored.
    pub(crate) fn connect(
        &mut self,
        key: WorkerKey,
        name: &Arc<str>,
        functions: &[Function],
        concurrency: u32,
        now: Instant,
    ) {
        let table = &mut self.functions;
        let worker = self.workers.entry(key).or_insert_with(|| WorkerState {
            name: name.clone(),
            class: table.add(functions),
            concurrency: concurrency as usize,
            lent_slots: 0,
            load: 0,
            credit: 0,
            last_sequence: 0,
            is_connected: false,
            progress: now,
            is_stalled: false,
            exclusive_task: None,
            is_reserved: false,
        });
        if worker.is_connected {
            return;
        }
        let class = worker.class;
        self.ready
            .resize_with(self.functions.classes(), ReadyWorkers::default);
        // A worker that returns keeps its credit.
        self.change(key, |worker| worker.is_connected = true);
        self.unknown.clear();
        if self.functions.connect(class) {
            self.rebuild_pools();
        }
    }

    /// Sets whether legacy workers are connected, which run any function.
    pub(crate) fn set_legacy(&mut self, has_legacy: bool) {
        self.has_legacy = has_legacy;
    }

    fn change(&mut self, key: WorkerKey, change: impl FnOnce(&mut WorkerState)) {
        if let Some(worker) = self.workers.get_mut(&key) {
            let ready = &mut self.ready[worker.class];
            let before = worker.ready_entry(key);
            ready.exclusive -= usize::from(worker.exclusive_task.is_some());
            change(worker);
            ready.exclusive += usize::from(worker.exclusive_task.is_some());
            let after = worker.ready_entry(key);
            if before != after {
                if let Some(entry) = before {
                    ready.remove(&entry);
                }
                if let Some(entry) = after {
                    ready.insert(entry);
                }
            }
        }
    }

    /// Sets how many further tasks a worker accepts.
    pub(crate) fn set_credit(&mut self, key: WorkerKey, credit: u64) {
        self.change(key, |worker| worker.credit = credit);
    }

    /// Sets how many tasks of a worker wait for other calls.
    pub(crate) fn set_lent_slots(&mut self, key: WorkerKey, tasks: u32) {
        let tasks = tasks as usize;
        // Every header carries the number, and it seldom changes.
        let worker = self.workers.get(&key);
        if worker.is_some_and(|worker| worker.lent_slots != tasks) {
            self.change(key, |worker| worker.lent_slots = tasks);
        }
    }

    /// Sorts the waiting tasks into new pools, after the eligible workers of functions have changed.
    fn rebuild_pools(&mut self) {
        let reserved = self.workers.iter().filter(|(_, worker)| worker.is_reserved);
        for key in reserved.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.change(key, |worker| worker.is_reserved = false);
        }
        let pools = self.functions.rebuild().into_iter();
        let pools = pools.map(|eligibility| TaskPool {
            eligibility,
            ..TaskPool::default()
        });
        let old = std::mem::replace(&mut self.pools, pools.collect());
        self.last_pool = 0;
        for mut pool in old {
            for (flow, mut untried) in pool.untried.drain() {
                if untried.function == UNKNOWN_FUNCTION {
                    untried.function = self.functions.resolve(&untried.group.first());
                }
                self.enqueue(flow, untried);
            }
            for queue in pool.redelivered() {
                for id in std::mem::take(queue) {
                    if let Some(task) = self.tasks.get_mut(&id) {
                        if task.function == UNKNOWN_FUNCTION {
                            task.function = self.functions.resolve(&task.frame);
                        }
                        self.redeliver(id);
                    }
                }
            }
        }
    }

    fn pool(&mut self, function: FunctionId) -> &mut TaskPool {
        &mut self.pools[self.functions.eligibility(function)]
    }

    /// Accepts tasks of a client, which then wait for a worker.
    pub(crate) fn submit(&mut self, group: Batch, flow: Flow) {
        self.untried.messages += group.len();
        self.untried.bytes += group.bytes();
        let untried = UntriedTasks {
            function: self.functions.resolve(&group.first()),
            group,
            expiry: TaskExpiry::Unread,
        };
        self.enqueue(flow, untried);
    }

    fn enqueue(&mut self, flow: Flow, untried: UntriedTasks) {
        let pool = self.pool(untried.function);
        pool.waiting += untried.group.len();
        let usage = usage(&untried.group);
        pool.untried.push(flow, untried, usage);
    }

    /// Queues a task for another worker, ahead of the untried tasks.
    fn redeliver(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.is_waiting = true;
        let deaths = task.deaths.len();
        let is_suspect = deaths > 0 && deaths + 1 >= self.max_deliver;
        let (was_lost, function) = (task.was_lost, task.function);
        let pool = self.pool(function);
        pool.waiting += 1;
        let queue = match (is_suspect, was_lost) {
            (true, _) => &mut pool.suspects,
            (false, true) => &mut pool.lost,
            (false, false) => &mut pool.returned,
        };
        queue.push_back(id);
    }

    /// Assigns the next task or batch. Returns the worker, the id of the first task and the messages.
    pub(crate) fn assign(&mut self, now: Instant) -> Option<(WorkerKey, TaskId, Batch)> {
        let pools = self.pools.len() - 1;
        for offset in 0..pools {
            let index = 1 + (self.last_pool + offset) % pools;
            if self.pools[index].waiting == 0 {
                continue;
            }
            if let Some(assigned) = self.assign_from(index, now) {
                self.last_pool = index;
                return Some(assigned);
            }
        }
        None
    }

    fn assign_from(&mut self, index: usize, now: Instant) -> Option<(WorkerKey, TaskId, Batch)> {
        if let Some(assigned) = self.assign_suspect(index, now) {
            return Some(assigned);
        }
        let eligibility = &self.pools[index].eligibility;
        // A worker that keeps prefetching untried tasks would never have a free slot for redelivered ones.
        let are_lost_first = self
            .pools
            .iter()
            .any(|pool| !pool.lost.is_empty() && pool.shares_workers(eligibility));
        let choice = match are_lost_first {
            true => WorkerChoice::BeginsAtOnce,
            false => WorkerChoice::Any,
        };
        let (.., key) = self.pick(eligibility, choice)?;
        let pool = &mut self.pools[index];
        let again = pool.lost.pop_front();
        if let Some(id) = again.or_else(|| pool.returned.pop_front()) {
            return Some(self.reassign(id, key, now));
        }
        self.assign_untried(index, key, choice, now)
    }

    /// Returns the least-loaded ready worker among those that are eligible.
    fn pick(&self, eligibility: &Eligibility, choice: WorkerChoice) -> Option<ReadyEntry> {
        let first = |&class: &ClassId| {
            let ready = &self.ready[class];
            match choice {
                WorkerChoice::Any => ready.first(),
                WorkerChoice::Idle => ready.first().filter(|(load, ..)| *load == 0),
                WorkerChoice::BeginsAtOnce => ready.entries.iter().find(|(.., key)| {
                    let worker = self.workers.get(key);
                    worker.is_some_and(WorkerState::begins_at_once)
                }),
            }
        };
        eligibility.iter().filter_map(first).min().copied()
    }

    /// Assigns a redelivered task.
    fn reassign(&mut self, id: TaskId, key: WorkerKey, now: Instant) -> (WorkerKey, TaskId, Batch) {
        self.add_load(key, 1, now);
        let task = self.tasks.get_mut(&id).expect("a waiting task exists");
        task.assign(key, self.last_sequence);
        let (function, group) = (task.function, task.frame.clone().into());
        self.pool(function).waiting -= 1;
        (key, id, group)
    }

    /// Assigns a suspect to an idle worker, or reserves a worker for it.
    fn assign_suspect(&mut self, index: usize, now: Instant) -> Option<(WorkerKey, TaskId, Batch)> {
        let pool = &self.pools[index];
        let id = *pool.suspects.front()?;
        let classes = pool.eligibility.iter();
        let exclusive: usize = classes.map(|&class| self.ready[class].exclusive).sum();
        if exclusive >= (self.functions.connected(&pool.eligibility) / 2).max(1) {
            return None;
        }
        let idle = self.pick(&pool.eligibility, WorkerChoice::Idle);
        let waits = pool.reserved.and_then(|(key, since)| {
            let worker = self.workers.get(&key)?;
            let is_due =
                worker.load == 0 || now.saturating_duration_since(since) >= RESERVATION_TIMEOUT;
            (worker.is_reserved && worker.is_connected)
                .then_some((is_due && worker.credit > 0, key))
        });
        let key = match (idle, waits) {
            (Some((.., key)), _) | (None, Some((true, key))) => key,
            (None, Some((false, _))) => return None,
            (None, None) => {
                self.reserve(index, now);
                return None;
            }
        };
        if let Some((key, _)) = self.pools[index].reserved.take() {
            self.change(key, |worker| worker.is_reserved = false);
        }
        self.pools[index].suspects.pop_front();
        self.change(key, |worker| worker.exclusive_task = Some(id));
        Some(self.reassign(id, key, now))
    }

    /// Reserves the least-loaded worker for a suspect, so that it becomes idle.
    fn reserve(&mut self, index: usize, now: Instant) {
        let eligibility = &self.pools[index].eligibility;
        let workers = self.workers.iter().filter(|(_, worker)| {
            let is_free =
                worker.is_connected && worker.exclusive_task.is_none() && !worker.is_reserved;
            is_free && eligibility.contains(&worker.class)
        });
        let least = workers.min_by_key(|(key, worker)| (worker.load, worker.last_sequence, **key));
        if let Some((&key, _)) = least {
            self.change(key, |worker| worker.is_reserved = true);
            self.pools[index].reserved = Some((key, now));
        }
    }

    /// Assigns tasks of the next client: as many as the worker has credit for and as leave fair shares to other
    /// workers and clients.
    fn assign_untried(
        &mut self,
        index: usize,
        key: WorkerKey,
        choice: WorkerChoice,
        now: Instant,
    ) -> Option<(WorkerKey, TaskId, Batch)> {
        let pool = &self.pools[index];
        let fair = self.fair_share(&pool.eligibility, pool.waiting);
        let worker = self.workers.get(&key)?;
        let mut most = usize::try_from(worker.credit)
            .unwrap_or(usize::MAX)
            .min(fair);
        if (choice == WorkerChoice::BeginsAtOnce || worker.is_stalled) && worker.concurrency > 0 {
            most = most.min(worker.runs().saturating_sub(worker.load));
        }
        let pool = &mut self.pools[index];
        let (flow, untried) = pool.untried.pop()?;
        let UntriedTasks {
            mut group,
            function,
            expiry,
        } = untried;
        let rest_of_flow = usize::from(pool.untried.usage(flow.key).messages > 0);
        if pool.untried.busy_flows() > rest_of_flow {
            most = most.min(MAX_FAIR_BATCH);
        }
        let count = group.len().min(most).max(1);
        if count < group.len() {
            let front = group.split_to(count);
            let rest = UntriedTasks {
                group: std::mem::replace(&mut group, front),
                function,
                expiry,
            };
            let usage = usage(&rest.group);
            pool.untried.restore(flow, rest, usage);
        }
        pool.waiting -= count;
        self.untried.messages -= count;
        self.untried.bytes -= group.bytes();
        let id = self.last_task + 1;
        self.last_task += count as u64;
        self.add_load(key, count, now);
        if count == 1 {
            let mut task = DispatchedTask::new(group.first(), function);
            task.assign(key, self.last_sequence);
            self.tasks.insert(id, task);
        } else {
            self.batched_tasks += count;
            let batch = AssignedBatch::new(group.clone(), function, key, self.last_sequence);
            self.batches.insert(id, batch);
        }
        Some((key, id, group))
    }

    /// Returns how many waiting tasks the least-loaded worker may receive, so that the loads become equal.
    fn fair_share(&self, eligibility: &Eligibility, waiting: usize) -> usize {
        let (mut least, mut next, mut workers) = (None, None, 0);
        for &class in eligibility {
            let ready = &self.ready[class].entries;
            workers += ready.len();
            for &(load, ..) in ready.iter().take(2) {
                match least {
                    Some(first) if load >= first => {
                        next = Some(next.map_or(load, |next: usize| next.min(load)));
                    }
                    first => {
                        next = first;
                        least = Some(load);
                    }
                }
            }
        }
        let ahead = match (least, next) {
            (Some(least), Some(next)) => next - least,
            _ => 0,
        };
        let rest = waiting.saturating_sub(ahead);
        ahead + rest.div_ceil(workers.max(1))
    }

    /// Records that a worker was assigned tasks.
    fn add_load(&mut self, key: WorkerKey, tasks: usize, now: Instant) {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.change(key, |worker| {
            if worker.load == 0 {
                worker.progress = now;
            }
            worker.load += tasks;
            worker.credit = worker.credit.saturating_sub(tasks as u64);
            worker.last_sequence = sequence;
        });
    }

    /// Ends several consecutive tasks, for each of which a worker has sent one result, its last.
    ///
    /// Returns how many tasks ended, from the first one on. The caller passes on their results, and calls
    /// [`remove_load`](Self::remove_load) for them. The results of the others need
    /// [`record_result`](Self::record_result) and [`finish`](Self::finish), since another worker or an earlier result
    /// is involved.
    pub(crate) fn finish_range(&mut self, key: WorkerKey, first: TaskId, tasks: usize) -> usize {
        let mut counted = 0;
        while counted < tasks {
            let id = first.wrapping_add(counted as u64);
            let left = tasks - counted;
            let ended = match self.finish_in_batch(key, id, left) {
                0 => usize::from(self.finish_single(key, id)),
                ended => ended,
            };
            if ended == 0 {
                break;
            }
            counted += ended;
        }
        counted
    }

    /// Ends up to `most` tasks of one batch, from this one on. Returns how many: 0 if the batch is with another worker,
    /// or one of them has ended.
    fn finish_in_batch(&mut self, key: WorkerKey, id: TaskId, most: usize) -> usize {
        let Some((&begin, batch)) = self.batches.range_mut(..=id).next_back() else {
            return 0;
        };
        let index = (id - begin) as usize;
        let end = batch.group.len().min(index.saturating_add(most));
        let is_new = |index: usize| !batch.is_done(index);
        if batch.key != key || index >= end || !(index..end).all(is_new) {
            return 0;
        }
        for index in index..end {
            batch.finish(index);
        }
        self.batched_tasks -= end - index;
        if batch.left == 0 {
            self.batches.remove(&begin);
        }
        end - index
    }

    /// Ends a task that was assigned to this worker only and has no earlier result. Returns whether it did.
    fn finish_single(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Entry::Occupied(task) = self.tasks.entry(id) else {
            return false;
        };
        let is_only = task.get().is_only_result(key);
        if is_only {
            task.remove();
        }
        is_only
    }

    /// Splits the batch that contains a task, if there is one, into single tasks.
    fn split_batch(&mut self, id: TaskId) {
        let Some((&first, batch)) = self.batches.range(..=id).next_back() else {
            return;
        };
        if id - first >= batch.group.len() as u64 {
            return;
        }
        let batch = self.batches.remove(&first).expect("the batch was found");
        self.batched_tasks -= batch.left;
        for (index, frame) in batch.group.frames().enumerate() {
            if !batch.is_done(index) {
                let mut task = DispatchedTask::new(frame, batch.function);
                task.assign(batch.key, batch.sequence);
                self.tasks.insert(first + index as u64, task);
            }
        }
    }

    /// Returns a task. Splits its batch if it is part of one.
    fn task(&mut self, id: TaskId) -> Option<&mut DispatchedTask> {
        if !self.tasks.contains_key(&id) {
            self.split_batch(id);
        }
        self.tasks.get_mut(&id)
    }

    /// Returns whether the worker was certainly never assigned this task. Of an ended task only the id is known.
    pub(crate) fn is_stray(&mut self, key: WorkerKey, id: TaskId) -> bool {
        if id == 0 || id > self.last_task {
            return true;
        }
        let is_holder =
            |task: &mut DispatchedTask| task.holders.iter().any(|holder| holder.key == key);
        !self.task(id).is_none_or(is_holder)
    }

    /// Records a result of a worker. Returns whether it counts: no other worker has sent as many results before.
    pub(crate) fn record_result(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Some(task) = self.task(id) else {
            return false;
        };
        let Some(holder) = task.holders.iter_mut().find(|holder| holder.key == key) else {
            return false;
        };
        holder.results += 1;
        let is_new = holder.results > task.passed_on;
        task.passed_on = task.passed_on.max(holder.results);
        is_new
    }

    /// Returns the message of an assigned task that has not ended.
    pub(crate) fn frame(&mut self, id: TaskId) -> Option<&Bytes> {
        self.task(id).map(|task| &task.frame)
    }

    /// Returns the message of a task that has not ended, if none of its results was passed on.
    pub(crate) fn unanswered(&mut self, id: TaskId) -> Option<Bytes> {
        let task = self.task(id).filter(|task| task.passed_on == 0);
        task.map(|task| task.frame.clone())
    }

    /// Ends a task of which a worker has sent all results.
    ///
    /// Returns whether the task counted towards the worker's load: then the caller calls
    /// [`remove_load`](Self::remove_load).
    pub(crate) fn finish(&mut self, key: WorkerKey, id: TaskId) -> bool {
        if self.task(id).is_none() {
            return false;
        }
        let Entry::Occupied(task) = self.tasks.entry(id) else {
            return false;
        };
        let holders = &task.get().holders;
        let Some(holder) = holders.iter().find(|holder| holder.key == key) else {
            return false;
        };
        let has_load = !holder.is_lost;
        let task = task.remove();
        if task.is_waiting {
            let pool = self.pool(task.function);
            pool.waiting -= 1;
            for queue in pool.redelivered() {
                queue.retain(|&waiting| waiting != id);
            }
        }
        for holder in task.holders {
            self.end_exclusive(holder.key, id);
            if holder.key != key && !holder.is_lost {
                self.change(holder.key, |worker| {
                    worker.load = worker.load.saturating_sub(1);
                });
            }
        }
        has_load
    }

    /// Lets a worker receive other tasks again, if it ran this one exclusively.
    fn end_exclusive(&mut self, key: WorkerKey, id: TaskId) {
        self.change(key, |worker| {
            worker.exclusive_task.take_if(|task| *task == id);
        });
    }

    /// Records that a worker has finished tasks.
    pub(crate) fn remove_load(&mut self, key: WorkerKey, tasks: usize, now: Instant) {
        if tasks > 0 {
            self.change(key, |worker| {
                worker.load = worker.load.saturating_sub(tasks);
                worker.progress = now;
                worker.is_stalled = false;
            });
        }
    }

    /// Redelivers a task that a worker returns unfinished, without counting a death.
    ///
    /// Returns whether the worker had the task.
    pub(crate) fn return_task(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Some(task) = self.task(id) else {
            return false;
        };
        let is_holder = |holder: &TaskHolder| holder.key == key;
        let Some(index) = task.holders.iter().position(is_holder) else {
            return false;
        };
        if task.holders.remove(index).is_lost {
            // The task was redelivered when the worker was lost.
            return true;
        }
        self.end_exclusive(key, id);
        self.change(key, |worker| worker.load = worker.load.saturating_sub(1));
        self.redeliver(id);
        true
    }

    /// Redelivers the tasks of a lost worker. Tasks that may not be redelivered are added to `failed`.
    ///
    /// A result that the worker still sends counts if it is the first one.
    pub(crate) fn lose_worker(
        &mut self,
        key: WorkerKey,
        loss: WorkerLoss,
        failed: &mut Vec<Failed>,
    ) {
        let Some(worker) = self.workers.get(&key).filter(|worker| worker.is_connected) else {
            return;
        };
        let (name, class) = (worker.name.clone(), worker.class);
        let (concurrency, exclusive) = (worker.runs(), worker.exclusive_task);
        self.change(key, |worker| {
            worker.is_connected = false;
            worker.lent_slots = 0;
            worker.load = 0;
            worker.exclusive_task = None;
            worker.is_reserved = false;
            worker.is_stalled = false;
        });
        if self.functions.disconnect(class) {
            self.rebuild_pools();
        }
        let batch = self.batches.iter();
        let batch = batch.filter(|(_, batch)| batch.key == key);
        for first in batch.map(|(&first, _)| first).collect::<Vec<_>>() {
            self.split_batch(first);
        }
        // Losses are rare, so tasks are not indexed by worker.
        let mut held = Vec::new();
        for (&id, task) in &mut self.tasks {
            let mut holders = task.holders.iter_mut();
            if let Some(holder) = holders.find(|holder| holder.key == key && !holder.is_lost) {
                holder.is_lost = true;
                held.push((holder.sequence, id));
            }
        }
        held.sort_unstable();
        let begun = match concurrency {
            0 => held.len(),
            concurrency => concurrency,
        };
        for (index, (_, id)) in held.into_iter().enumerate() {
            let is_begun = exclusive.map_or(index < begun, |task| task == id);
            let task = self.tasks.get_mut(&id).expect("the task was found above");
            task.was_lost = true;
            if is_begun {
                let worker = name.clone();
                task.deaths.push(WorkerDeath { worker, loss });
            }
            // A task behind others may have been begun too, if results were lost with the worker. A worker that left
            // has delivered its results.
            let may_have_run = is_begun || loss != WorkerLoss::Left;
            let failure = if may_have_run && self.functions.is_at_most_once(class, task.function) {
                format!("worker `{name}` was lost ({loss}), and the task must not be run twice")
            } else if task.deaths.len() >= self.max_deliver {
                let deaths = task.deaths.iter().map(WorkerDeath::to_string);
                let deaths = deaths.collect::<Vec<_>>().join(", ");
                let attempts = task.deaths.len();
                format!("{attempts} workers were lost while they ran it: {deaths}")
            } else {
                self.redeliver(id);
                continue;
            };
            let task = self.tasks.remove(&id).expect("the task was found above");
            failed.push(Failed {
                frame: task.frame,
                failure: CallFailure::unavailable(failure.into()),
            });
        }
    }

    /// Removes a worker that has left, or whose session has expired.
    pub(crate) fn remove_worker(&mut self, key: WorkerKey, failed: &mut Vec<Failed>) {
        self.lose_worker(key, WorkerLoss::Left, failed);
        if let Some(worker) = self.workers.remove(&key) {
            self.functions.remove(worker.class);
        }
    }

    /// Fails waiting tasks whose deadline has passed and calls of unknown functions, and detects stalled workers.
    ///
    /// The owner calls it in regular intervals.
    pub(crate) fn expire(&mut self, now: Instant, failed: &mut Vec<Failed>) {
        let is_stalled = |worker: &WorkerState| {
            worker.load > 0 && now.saturating_duration_since(worker.progress) >= STALL_TIMEOUT
        };
        let changed = self.workers.iter();
        let changed = changed.filter(|(_, worker)| worker.is_stalled != is_stalled(worker));
        for key in changed.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.change(key, |worker| worker.is_stalled = !worker.is_stalled);
        }
        let today = Deadline::after(Duration::ZERO);
        let mut pools = std::mem::take(&mut self.pools);
        for (index, pool) in pools.iter_mut().enumerate() {
            let is_unassignable = index == 0;
            let mut ended = 0;
            let (tasks, total) = (&mut self.tasks, &mut self.untried);
            let mut late = Vec::new();
            pool.untried.retain(|_, untried| {
                if !untried.expiry.has_passed(today, untried.group.frames()) {
                    return true;
                }
                let (passed, rest) = expired(&untried.group, today);
                ended += passed.len();
                total.messages -= passed.len();
                total.bytes -= passed.iter().map(Bytes::len).sum::<usize>();
                late.extend(passed);
                let Some(rest) = rest else {
                    return false;
                };
                untried.group = rest;
                untried.expiry = TaskExpiry::Unread;
                true
            });
            for queue in pool.redelivered() {
                queue.retain(|id| {
                    let Some(task) = tasks.get_mut(id) else {
                        return false;
                    };
                    let frame = std::iter::once(task.frame.clone());
                    if !task.expiry.has_passed(today, frame) {
                        return true;
                    }
                    late.extend(tasks.remove(id).map(|task| task.frame));
                    ended += 1;
                    false
                });
            }
            pool.waiting -= ended;
            for frame in late {
                let failure = if !is_unassignable {
                    CallFailure::late()
                } else if self.functions.has_workers() {
                    let name = functions::name(&frame).unwrap_or_default();
                    CallFailure::unavailable(
                        format!("no worker that has `{name}` is connected").into(),
                    )
                } else {
                    CallFailure::unavailable("no worker is connected".into())
                };
                failed.push(Failed { frame, failure });
            }
        }
        self.pools = pools;
        self.expire_unknown(now, failed);
    }

    /// Fails the calls of functions that no worker has registered within [`UNKNOWN_FUNCTION_TIMEOUT`].
    fn expire_unknown(&mut self, now: Instant, failed: &mut Vec<Failed>) {
        if self.pools[0].waiting == 0 || self.has_legacy || !self.functions.has_workers() {
            self.unknown.clear();
            return;
        }
        let (unknown, tasks, total) = (&mut self.unknown, &mut self.tasks, &mut self.untried);
        let mut is_due = |frame: &Bytes| {
            let name = functions::name(frame).unwrap_or_default();
            if let Some(since) = unknown.get(name) {
                return now.saturating_duration_since(*since) >= UNKNOWN_FUNCTION_TIMEOUT;
            }
            if unknown.len() >= MAX_UNKNOWN_NAMES {
                unknown.clear();
            }
            unknown.insert(name.into(), now);
            false
        };
        let pool = &mut self.pools[0];
        let mut frames = Vec::new();
        pool.untried.retain(|_, untried| {
            if untried.function != UNKNOWN_FUNCTION || !is_due(&untried.group.first()) {
                return true;
            }
            total.messages -= untried.group.len();
            total.bytes -= untried.group.bytes();
            frames.extend(untried.group.frames());
            false
        });
        for queue in pool.redelivered() {
            queue.retain(|id| {
                let is_unknown = |task: &mut DispatchedTask| {
                    task.function == UNKNOWN_FUNCTION && is_due(&task.frame)
                };
                if !tasks.get_mut(id).is_some_and(is_unknown) {
                    return true;
                }
                frames.extend(tasks.remove(id).map(|task| task.frame));
                false
            });
        }
        pool.waiting -= frames.len();
        for frame in frames {
            let name = functions::name(&frame).unwrap_or_default();
            let hint = nearest(name, &self.functions.names());
            let failure = CallFailure::unknown(format!("no worker has `{name}`; {hint}").into());
            failed.push(Failed { frame, failure });
        }
    }

    /// Returns whether the worker was connected before.
    pub(crate) fn has_worker(&self, key: WorkerKey) -> bool {
        self.workers.contains_key(&key)
    }

    /// Explains why tasks wait that no connected worker can run, if there are any.
    pub(crate) fn wait_cause(&self) -> Option<String> {
        let waiting = self.pools[0].waiting;
        if waiting == 0 || self.has_legacy {
            return None;
        }
        Some(match self.functions.has_workers() {
            true => format!(
                "no worker is connected that has the function ({})",
                calls(waiting)
            ),
            false => no_worker(waiting),
        })
    }

    /// Returns whether tasks wait that no connected worker can run.
    pub(crate) fn has_unassignable(&self) -> bool {
        self.pools[0].waiting > 0
    }

    /// Removes and returns the tasks that no connected worker can run, for legacy workers.
    ///
    /// Tasks that may have caused the loss of a worker stay.
    pub(crate) fn take_unassignable(&mut self) -> Vec<(Flow, Batch)> {
        let pool = &mut self.pools[0];
        if pool.waiting == 0 {
            return Vec::new();
        }
        let mut unassignable = Vec::new();
        for queue in [&mut pool.lost, &mut pool.returned] {
            queue.retain(|id| {
                let is_innocent = |task: &DispatchedTask| task.is_waiting && task.deaths.is_empty();
                if !self.tasks.get(id).is_some_and(is_innocent) {
                    return true;
                }
                let task = self.tasks.remove(id);
                unassignable.extend(task.map(|task| (Flow::new(0), task.frame.into())));
                false
            });
        }
        pool.waiting -= unassignable.len();
        for (flow, UntriedTasks { group, .. }) in pool.untried.drain() {
            pool.waiting -= group.len();
            self.untried.messages -= group.len();
            self.untried.bytes -= group.bytes();
            unassignable.push((flow, group));
        }
        unassignable
    }
}

/// Splits a batch into the messages whose deadline has passed, and the others.
fn expired(group: &Batch, now: Deadline) -> (Vec<Bytes>, Option<Batch>) {
    let has_passed =
        |frame: &Bytes| TaskExpiry::Unread.has_passed(now, std::iter::once(frame.clone()));
    let (passed, rest): (Vec<_>, Vec<_>) = group.frames().partition(has_passed);
    let sizes = rest.iter().map(|frame| frame.len() as u32).collect();
    (
        passed,
        Batch::from_sizes(rest.concat().into(), BatchSizes::new(sizes)),
    )
}
