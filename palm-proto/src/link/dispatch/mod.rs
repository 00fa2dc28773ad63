//! Assigns tasks to workers by least load, and redelivers the tasks of lost workers.
//!
//! [`Dispatch`] owns every task from its submission until its end. It does no I/O and reads no clock. Tasks are queued
//! by [`submit`](Dispatch::submit) and sent to workers by [`assign`](Dispatch::assign), which keeps them until they
//! end. Results are reported by [`finish_range`](Dispatch::finish_range),
//! [`record_result`](Dispatch::record_result) and [`finish`](Dispatch::finish), returned tasks by
//! [`return_task`](Dispatch::return_task), lost workers by [`lose_worker`](Dispatch::lose_worker), and time by
//! [`expire`](Dispatch::expire). **Invariant:** each task ends exactly once, finished or in a list of [`FailedTask`].
//!
//! **Scheduling.** Functions that the same workers can run share a `TaskPool` of waiting tasks, see `eligibility`. Pools
//! take turns; within a pool clients share the workers fairly ([`FairQueue`](crate::fair_queue::FairQueue)), and the
//! least-loaded worker with credit receives the next task, round-robin on ties. A worker that has finished nothing for
//! `STALL_TIMEOUT` receives no task beyond those it begins at once.
//!
//! **Redelivery.** Tasks of a lost worker are redelivered before untried ones. The first result of a
//! redelivered task counts, even from a worker that was wrongly considered lost.
//!
//! **Poison messages.** A worker begins its tasks in the order in which they were sent, at most `concurrency`
//! at once, so only its oldest `concurrency` unfinished tasks can have caused its loss. These count one failed
//! delivery, the others do not. Redelivered tasks are never prefetched: every redelivered task at a lost worker had
//! begun, even if results of other tasks were lost with the worker. A task with one delivery left is a suspect. It runs
//! exclusively on its worker if one becomes idle within `RESERVATION_TIMEOUT`, so that a poison message does not take
//! other tasks to `max_deliver`.
//!
//! **Batches.** Tasks that arrive as a batch are assigned and answered as one `AssignedBatch`, which costs about
//! as much as one task. A batch is split into single tasks once one of them is lost, returned, or has several results.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::session::memory_bytes;
use crate::failure::CallFailure;
use crate::fair_queue::{Flow, FlowKey, Usage};
use crate::id_map::IdMap;
use crate::message::Batch;
use crate::message::proto::Function;

mod batches;
mod eligibility;
mod expiry;
mod least_loaded;
mod pool;
mod ready;
mod redelivery;
mod results;
mod suspects;
mod task;
#[cfg(test)]
mod tests;

pub use expiry::UNKNOWN_FUNCTION_TIMEOUT;
pub use task::WorkerLoss;

use batches::AssignedBatch;
use eligibility::{FunctionId, FunctionTable, UNKNOWN_FUNCTION};
use pool::{TaskExpiry, TaskPool, UntriedTasks, usage};
use ready::{ReadyWorkers, WorkerChoice, WorkerState};
use task::DispatchedTask;

/// Identifies the session with a worker.
pub type WorkerKey = u64;

/// Identifies a task between master and worker. Never 0.
pub type TaskId = u64;

/// The limit on waiting untried tasks. It is reached only if the idle workers cannot run the tasks that wait.
const MAX_WAITING: Usage = Usage {
    messages: 10_000,
    bytes: 64 * 1024 * 1024,
};

/// The part of [`MAX_WAITING`] that tasks may use which no connected worker can run, while other workers are connected.
/// The rest stays free for tasks of these workers, so that a function without workers does not keep them out.
const MAX_UNASSIGNABLE: Usage = Usage {
    messages: 8000,
    bytes: 48 * 1024 * 1024,
};

/// A task that ends without a result of a worker.
#[derive(Debug)]
pub struct FailedTask {
    pub frame: Bytes,
    pub failure: CallFailure,
}

/// Tasks that were assigned to a worker.
#[derive(Debug)]
pub struct Assignment {
    pub worker: WorkerKey,
    /// The id of the first task. Those of the others follow it.
    pub first: TaskId,
    pub tasks: Batch,
    /// When the tasks were submitted; `None` if the task was assigned before.
    pub submitted: Option<Instant>,
}

/// Whether a task can be assigned to a worker with a link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerReach {
    /// The least-loaded worker that can run the task has this many tasks.
    Load(usize),
    /// The workers that can run the task have no credit.
    NoCredit,
    /// No connected worker can run the task.
    NoWorker,
}

/// All tasks of a master that have not ended: those with workers, and those that wait for one.
#[derive(Debug)]
pub struct Dispatch {
    /// Tasks that were assigned one by one, or redelivered.
    tasks: IdMap<DispatchedTask>,
    /// Tasks that were assigned as batches, by the id of the first one.
    batches: BTreeMap<TaskId, AssignedBatch>,
    /// Number of tasks in `batches` that are not done.
    batched_tasks: usize,
    /// The tasks that were never assigned.
    untried: Usage,
    functions: FunctionTable,
    /// The waiting tasks, by eligibility. Those of the first pool wait until a worker connects that can run them.
    pools: Vec<TaskPool>,
    /// The pool that was served last.
    last_pool: usize,
    workers: IdMap<WorkerState>,
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
    pub fn new(max_deliver: u32) -> Self {
        Self {
            tasks: IdMap::default(),
            batches: BTreeMap::new(),
            batched_tasks: 0,
            untried: Usage::default(),
            functions: FunctionTable::default(),
            pools: vec![TaskPool::default()],
            last_pool: 0,
            workers: IdMap::default(),
            ready: Vec::new(),
            last_task: 0,
            last_sequence: 0,
            max_deliver: max_deliver.max(1) as usize,
            has_legacy: false,
            unknown: HashMap::new(),
        }
    }

    /// Returns the number of tasks that have not ended.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.tasks.len() + self.batched_tasks + self.untried.messages
    }

    /// Returns whether any worker may be assigned a task.
    #[inline]
    pub fn has_credit(&self) -> bool {
        self.ready.iter().any(|ready| ready.first().is_some())
    }

    /// Returns how many tasks wait for credit of connected workers.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.pools[1..].iter().map(|pool| pool.waiting).sum()
    }

    /// Returns how many untried tasks wait, and their bytes.
    #[inline]
    pub fn untried(&self) -> Usage {
        self.untried
    }

    /// Returns how many tasks wait for a worker again, and their bytes. Visits all tasks that were assigned one by one.
    pub fn redelivered(&self) -> Usage {
        let mut usage = Usage::default();
        for task in self.tasks.values().filter(|task| task.is_waiting) {
            usage.messages += 1;
            usage.bytes += task.frame.len();
        }
        usage
    }

    /// Returns how many tasks a worker has; none if it is lost.
    #[inline]
    pub fn load(&self, key: WorkerKey) -> usize {
        self.workers.get(&key).map_or(0, |worker| worker.load)
    }

    /// Returns how many untried tasks of a flow wait, and their bytes.
    pub fn untried_of(&self, flow: FlowKey) -> Usage {
        let mut usage = Usage::default();
        for pool in &self.pools {
            usage.add(pool.untried.usage(flow));
        }
        usage
    }

    /// Returns whether further tasks are accepted: a worker may be assigned one, or fewer than `ahead` wait.
    ///
    /// Tasks that no connected worker can run count up to 8,000 messages and 48 MiB, so that they do not keep out tasks for
    /// connected workers. [`submit`](Self::submit) rejects further ones.
    #[inline]
    pub fn accepts(&self, ahead: usize) -> bool {
        let excess = self.excess();
        let is_full = self.untried.messages - excess.messages >= MAX_WAITING.messages
            || self.untried.bytes - excess.bytes >= MAX_WAITING.bytes;
        !is_full && (self.has_credit() || self.waiting() < ahead)
    }

    /// Returns by how much the tasks that no connected worker can run exceed [`MAX_UNASSIGNABLE`], while other workers
    /// are connected: tasks of a function whose last worker was lost, which were accepted before.
    #[inline]
    fn excess(&self) -> Usage {
        if self.pools.len() == 1 {
            return Usage::default();
        }
        let Usage { messages, bytes } = self.pools[0].untried.total();
        Usage {
            messages: messages.saturating_sub(MAX_UNASSIGNABLE.messages),
            bytes: bytes.saturating_sub(MAX_UNASSIGNABLE.bytes),
        }
    }

    /// Estimates the memory that assigned tasks occupy. Visits all of them.
    pub fn assigned_bytes(&self) -> usize {
        let tasks = self.tasks.values().map(|task| (1, task.frame.len()));
        let batches = self.batches.values().map(|batch| &batch.tasks);
        let batches = batches.map(|tasks| (tasks.len(), tasks.bytes()));
        let sizes = tasks.chain(batches);
        sizes
            .map(|(messages, bytes)| memory_bytes(messages, bytes))
            .sum()
    }

    /// Returns whether a task could be assigned now.
    pub fn reach(&mut self, task: &Bytes) -> WorkerReach {
        let function = self.functions.resolve(task);
        let pool = &self.pools[self.functions.eligibility(function)];
        if pool.eligibility.is_empty() {
            return WorkerReach::NoWorker;
        }
        let first = self.pick(&pool.eligibility, WorkerChoice::Any);
        first.map_or(WorkerReach::NoCredit, |(load, ..)| WorkerReach::Load(load))
    }

    /// Marks a worker as connected. For a worker that reconnects, all arguments but `key` are ignored.
    pub fn connect(
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
            former_concurrency: 0,
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
    pub fn set_legacy(&mut self, has_legacy: bool) {
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
    pub fn set_credit(&mut self, key: WorkerKey, credit: u64) {
        self.change(key, |worker| worker.credit = credit);
    }

    /// Sets the number of tasks of a worker whose methods wait for inner calls.
    pub fn set_lent_slots(&mut self, key: WorkerKey, tasks: u32) {
        let tasks = tasks as usize;
        // Every header carries the number, and it seldom changes.
        let worker = self.workers.get(&key);
        if worker.is_some_and(|worker| worker.lent_slots != tasks) {
            self.change(key, |worker| worker.lent_slots = tasks);
        }
    }

    /// Sets the number of tasks that a worker runs at once, if it is not the number that it connected with any more.
    pub fn set_concurrency(&mut self, key: WorkerKey, tasks: u32) {
        let tasks = tasks as usize;
        let worker = self.workers.get(&key);
        if worker.is_some_and(|worker| worker.concurrency != tasks) {
            self.change(key, |worker| {
                let before = worker.concurrency.max(worker.former_concurrency);
                worker.former_concurrency = before;
                worker.concurrency = tasks;
                worker.end_former_concurrency();
            });
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
                    untried.function = self.functions.resolve(&untried.batch.first());
                }
                let pool = self.functions.eligibility(untried.function);
                self.enqueue(pool, flow, untried);
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

    /// Accepts tasks of a client, which then wait for a worker. Tasks that no connected worker can run are added to
    /// `failed` if too many of them wait.
    pub fn submit(&mut self, batch: Batch, flow: Flow, now: Instant, failed: &mut Vec<FailedTask>) {
        let function = self.functions.resolve(&batch.first());
        let pool = self.functions.eligibility(function);
        if pool == 0 && self.rejects_unassignable() {
            return self.reject(&batch, failed);
        }
        self.untried.messages += batch.len();
        self.untried.bytes += batch.bytes();
        let untried = UntriedTasks {
            function,
            batch,
            expiry: TaskExpiry::Unread,
            submitted: now,
        };
        self.enqueue(pool, flow, untried);
    }

    /// Returns whether the tasks that no connected worker can run use their part of the limit, while other workers are
    /// connected. Without any worker no tasks are kept out.
    fn rejects_unassignable(&self) -> bool {
        let Usage { messages, bytes } = self.pools[0].untried.total();
        let is_full = messages >= MAX_UNASSIGNABLE.messages || bytes >= MAX_UNASSIGNABLE.bytes;
        is_full && self.functions.has_workers()
    }

    /// Fails tasks that no connected worker can run, because too many of them wait.
    fn reject(&self, batch: &Batch, failed: &mut Vec<FailedTask>) {
        let waiting = calls(self.pools[0].waiting);
        failed.extend(batch.frames().map(|frame| {
            let name = eligibility::name(&frame).unwrap_or_default();
            let failure = format!(
                "no worker that has `{name}` is connected, and {waiting} for functions without a worker, which is the \
                 limit: start a worker that has it, and call again"
            );
            FailedTask {
                failure: CallFailure::unavailable(failure.into()),
                frame,
            }
        }));
    }

    /// Fails tasks that no connected worker can run beyond [`MAX_WAITING`]: workers were lost one after the other, each
    /// with many tasks of its own functions.
    fn limit_unassignable(&mut self, failed: &mut Vec<FailedTask>) {
        let is_beyond =
            |usage: Usage| usage.messages > MAX_WAITING.messages || usage.bytes > MAX_WAITING.bytes;
        if !is_beyond(self.pools[0].untried.total()) {
            return;
        }
        let (mut kept, mut rejected) = (Usage::default(), Vec::new());
        self.pools[0].untried.retain(|_, untried, usage| {
            kept.add(*usage);
            let keeps = !is_beyond(kept);
            if !keeps {
                kept.subtract(*usage);
                rejected.push(untried.batch.clone());
            }
            keeps
        });
        for batch in rejected {
            self.reject(&batch, failed);
            self.pools[0].waiting -= batch.len();
            self.untried.subtract(usage(&batch));
        }
    }

    /// Adds tasks to the pool with this index.
    fn enqueue(&mut self, pool: usize, flow: Flow, untried: UntriedTasks) {
        let pool = &mut self.pools[pool];
        pool.waiting += untried.batch.len();
        let usage = usage(&untried.batch);
        pool.untried.push(flow, untried, usage);
    }

    /// Returns whether the worker was connected before.
    pub fn has_worker(&self, key: WorkerKey) -> bool {
        self.workers.contains_key(&key)
    }

    /// Explains why tasks wait that no connected worker can run, if there are any.
    pub fn wait_cause(&self) -> Option<String> {
        let waiting = self.pools[0].waiting;
        if waiting == 0 || self.has_legacy {
            return None;
        }
        if !self.functions.has_workers() {
            return Some(no_worker(waiting));
        }
        let waiting = calls(waiting);
        let first = self.pools[0].untried.iter().next();
        let first = first.map(|untried| untried.batch.first());
        let function = first.as_ref().and_then(|frame| eligibility::name(frame));
        // Only the names of tasks that were never assigned are at hand.
        let example = function.map(|name| format!(", such as `{name}`"));
        let example = example.unwrap_or_default();
        Some(format!(
            "no worker is connected that has the called functions{example} ({waiting})"
        ))
    }

    /// Returns whether tasks wait that no connected worker can run.
    #[inline]
    pub fn has_unassignable(&self) -> bool {
        self.pools[0].waiting > 0
    }

    /// Removes and returns the tasks that no connected worker can run, for legacy workers.
    ///
    /// Tasks that may have caused the loss of a worker stay.
    pub fn take_unassignable(&mut self) -> Vec<(Flow, Batch)> {
        let pool = &mut self.pools[0];
        if pool.waiting == 0 {
            return Vec::new();
        }
        let mut unassignable = Vec::new();
        for queue in [&mut pool.lost, &mut pool.returned] {
            queue.retain(|id| {
                let is_innocent =
                    |task: &DispatchedTask| task.is_waiting && task.failed_deliveries.is_empty();
                if !self.tasks.get(id).is_some_and(is_innocent) {
                    return true;
                }
                let task = self.tasks.remove(id);
                unassignable.extend(task.map(|task| (Flow::new(0), task.frame.into())));
                false
            });
        }
        pool.waiting -= unassignable.len();
        for (flow, UntriedTasks { batch, .. }) in pool.untried.drain() {
            pool.waiting -= batch.len();
            self.untried.messages -= batch.len();
            self.untried.bytes -= batch.bytes();
            unassignable.push((flow, batch));
        }
        unassignable
    }
}

/// Explains why calls wait if no worker is connected.
pub fn no_worker(waiting: usize) -> String {
    format!("no worker is connected ({})", calls(waiting))
}

fn calls(waiting: usize) -> String {
    match waiting {
        1 => "1 call waits".to_owned(),
        count => format!("{count} calls wait"),
    }
}
