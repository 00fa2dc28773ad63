//! The lease of a task at a worker: from its arrival until it is ended or returned to the master.
//!
//! Each message that is made of a task holds a [`Lease`], a counted reference. A task has one outcome: it is
//! *ended*, by its last result or by [`Lease::finish`] if it has none; or it is *returned*, and the master
//! redelivers it to another worker. Dropping references ends nothing: a task whose last reference is dropped
//! without an end is returned. So a path that drops messages (the drain limit, a failed part, a panic, a runtime
//! that shuts down) cannot report a task as done. The technique is that of tarpc's `ResponseGuard`.
//!
//! [`LeaseState`] decides, without I/O; the [`Lessor`], which is the link, reports to the master.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use smallvec::SmallVec;

use super::Batch;

/// The source of tasks, to which their outcome is reported.
pub trait Lessor: Send + Sync {
    /// Ends or returns a task whose last reference was dropped.
    fn settle(&self, task: LinkReceipt, outcome: LeaseOutcome);
}

/// A counted reference to the task that a worker's message belongs to.
pub struct Lease {
    /// `None` once the reference is released.
    batch: Option<Arc<LeasedTasks>>,
    index: u32,
    kind: LeaseKind,
}

/// The kind of message that holds a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseKind {
    /// The task's own message, or a copy of it.
    Message,
    /// One of several results.
    Result,
    /// The last result: once it is submitted the task is ended.
    LastResult,
}

/// Tasks that arrived as one batch.
pub struct LeasedTasks {
    lessor: Arc<dyn Lessor>,
    /// The run of the master that has sent the tasks.
    component: u64,
    tasks: SmallVec<[LeasedTask; 1]>,
}

/// One task of a batch.
#[derive(Debug)]
pub struct LeasedTask {
    received: LinkReceipt,
    /// The session in which the master expects the result. It changes when the master redelivers a task
    /// that still runs here.
    session: AtomicU64,
    pub progress: LeaseState,
}

/// The origin of received messages: which session they arrived in, and the credit that they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkReceipt {
    /// The number of the link's session.
    pub session: u64,
    /// The tag of the first message.
    pub tag: u64,
    pub step: u64,
    pub messages: u64,
    pub bytes: u64,
}

impl LinkReceipt {
    /// Returns each message of a batch with its own receipt.
    pub fn each(self, batch: &Batch) -> impl Iterator<Item = (Self, Bytes)> + use<> {
        (0..).zip(batch.frames()).map(move |(index, frame)| {
            let one = Self {
                tag: self.tag.wrapping_add(self.step.wrapping_mul(index)),
                messages: 1,
                bytes: frame.len() as u64,
                ..self
            };
            (one, frame)
        })
    }

    /// Returns the receipt of some of the messages.
    pub fn part(self, messages: u64, bytes: u64) -> Self {
        Self {
            messages,
            bytes,
            ..self
        }
    }

    /// Returns whether the message was published under the subscribed topic with this number.
    pub fn is_of_topic(self, number: u64) -> bool {
        self.tag == number + 1
    }
}

/// The phase of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The task is prefetched: no user code has seen it.
    Waiting,
    Begun,
    /// The task is ended or returned, and nothing more is sent for it.
    Over,
}

/// The state of a task after a reference to it was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// Further references exist.
    Open,
    /// The task has ended.
    Ended,
    /// The task was dropped: the master redelivers it to another worker.
    Returned,
    /// The outcome was reported before.
    Over,
}

/// The state machine of one task.
#[derive(Debug)]
pub struct LeaseState {
    phase: AtomicU8,
    references: AtomicU32,
    /// The task has no further result.
    is_done: AtomicBool,
    /// A result was dropped before it was sent to the master.
    has_lost_result: AtomicBool,
    /// The task has begun and no other worker may run it: it is never returned, and ends with the worker's session.
    runs_once: AtomicBool,
}

impl LeaseState {
    /// Creates the state of a task with one reference.
    fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Waiting as u8),
            references: AtomicU32::new(1),
            is_done: AtomicBool::new(false),
            has_lost_result: AtomicBool::new(false),
            runs_once: AtomicBool::new(false),
        }
    }

    /// Forbids that another worker runs the task. Returns `false` if it was returned before, and must not run here.
    fn run_once(&self) -> bool {
        self.runs_once.store(true, Ordering::SeqCst);
        !self.is(Phase::Over)
    }

    /// Revokes the task in any phase. Returns whether it is to be returned to the master.
    pub fn give_back(&self) -> bool {
        self.revoke() && !self.runs_once.load(Ordering::SeqCst)
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    /// Returns whether the task is prefetched.
    pub fn is_waiting(&self) -> bool {
        self.is(Phase::Waiting)
    }

    /// Returns whether the task runs.
    pub fn is_begun(&self) -> bool {
        self.is(Phase::Begun)
    }

    /// Begins the task. Returns `false` if it was revoked before, and must not run.
    fn begin(&self) -> bool {
        self.change(Phase::Waiting, Phase::Begun)
    }

    /// Revokes the task if it is prefetched. Returns whether it was.
    pub fn revoke_waiting(&self) -> bool {
        self.change(Phase::Waiting, Phase::Over)
    }

    /// Revokes the task in any phase. Returns whether it was not over before.
    pub fn revoke(&self) -> bool {
        self.phase.swap(Phase::Over as u8, Ordering::AcqRel) != Phase::Over as u8
    }

    fn change(&self, from: Phase, to: Phase) -> bool {
        let (from, to) = (from as u8, to as u8);
        let changed = self
            .phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok()
    }

    fn add_reference(&self) {
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }

    fn is_last_reference(&self) -> bool {
        self.references.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Releases a reference whose message was dropped.
    fn drop_reference(&self, kind: LeaseKind) -> LeaseOutcome {
        if kind == LeaseKind::Result {
            self.has_lost_result.store(true, Ordering::Relaxed);
        }
        self.release()
    }

    /// Releases a reference whose message is sent to the master. The last result ends the task despite
    /// remaining references, because all earlier results have been sent.
    fn submit(&self, kind: LeaseKind) -> LeaseOutcome {
        if kind != LeaseKind::LastResult {
            return self.release();
        }
        self.is_last_reference();
        match self.revoke() {
            true => LeaseOutcome::Ended,
            false => LeaseOutcome::Over,
        }
    }

    fn release(&self) -> LeaseOutcome {
        if !self.is_last_reference() {
            return match self.is(Phase::Over) {
                true => LeaseOutcome::Over,
                false => LeaseOutcome::Open,
            };
        }
        let is_done = self.is_done.load(Ordering::Relaxed);
        let is_complete = is_done && !self.has_lost_result.load(Ordering::Relaxed);
        match self.revoke() {
            false => LeaseOutcome::Over,
            true if is_complete => LeaseOutcome::Ended,
            true if self.runs_once.load(Ordering::SeqCst) => LeaseOutcome::Over,
            true => LeaseOutcome::Returned,
        }
    }
}

impl LeasedTask {
    /// Returns the receipt of the task, in the session in which its result is expected.
    pub fn received(&self) -> LinkReceipt {
        LinkReceipt {
            session: self.session.load(Ordering::Acquire),
            ..self.received
        }
    }

    pub fn tag(&self) -> u64 {
        self.received.tag
    }

    /// Moves a running task to another session, in which the master has redelivered it.
    pub fn move_to(&self, session: u64) {
        self.session.store(session, Ordering::Release);
    }
}

impl LeasedTasks {
    /// Creates the leases of tasks, without their messages.
    pub fn new(
        lessor: Arc<dyn Lessor>,
        component: u64,
        tasks: impl Iterator<Item = LinkReceipt>,
    ) -> Arc<Self> {
        let entry = |received: LinkReceipt| LeasedTask {
            received,
            session: AtomicU64::new(received.session),
            progress: LeaseState::new(),
        };
        Arc::new(Self {
            lessor,
            component,
            tasks: tasks.map(entry).collect(),
        })
    }

    pub fn component(&self) -> u64 {
        self.component
    }

    pub fn entries(&self) -> &[LeasedTask] {
        &self.tasks
    }

    /// Returns the first reference to each task.
    pub fn tasks(self: Arc<Self>) -> impl Iterator<Item = Lease> {
        (0..self.tasks.len() as u32).map(move |index| Lease {
            batch: Some(self.clone()),
            index,
            kind: LeaseKind::Message,
        })
    }
}

impl Lease {
    fn entry(&self) -> Option<&LeasedTask> {
        let batch = self.batch.as_ref()?;
        batch.tasks.get(self.index as usize)
    }

    /// Returns whether nothing more is sent for the task.
    pub fn is_over(&self) -> bool {
        self.entry()
            .is_some_and(|entry| entry.progress.is(Phase::Over))
    }

    /// Begins the task. Returns `false` if it was returned before, and must not run.
    pub fn begin(&self) -> bool {
        self.entry().is_none_or(|entry| entry.progress.begin())
    }

    /// Forbids that another worker runs the task, which has begun. Returns `false` if it was returned before.
    pub fn run_once(&self) -> bool {
        self.entry().is_none_or(|entry| entry.progress.run_once())
    }

    /// Declares that the task has no further result.
    pub fn finish(&self) {
        if let Some(entry) = self.entry() {
            entry.progress.finish();
        }
    }

    /// Declares that the message of this reference is one of the task's results.
    pub fn set_result(&mut self) {
        self.kind = LeaseKind::Result;
    }

    /// Declares that the message of this reference is the task's last result.
    pub fn set_last_result(&mut self) {
        self.kind = LeaseKind::LastResult;
    }

    /// Releases the reference of a message that is sent to the master. Returns the task and its outcome.
    pub fn submit(mut self) -> (LinkReceipt, LeaseOutcome) {
        let batch = self.batch.take().expect("it is submitted once");
        let entry = &batch.tasks[self.index as usize];
        (entry.received(), entry.progress.submit(self.kind))
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        if let Some(entry) = self.entry() {
            entry.progress.add_reference();
        }
        Self {
            batch: self.batch.clone(),
            index: self.index,
            kind: self.kind,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let entry = &batch.tasks[self.index as usize];
        let outcome = entry.progress.drop_reference(self.kind);
        if matches!(outcome, LeaseOutcome::Ended | LeaseOutcome::Returned) {
            batch.lessor.settle(entry.received(), outcome);
        }
    }
}

impl std::fmt::Debug for LeasedTasks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(&self.tasks).finish()
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entry().map(LeasedTask::received).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_without_a_result_is_returned_when_it_is_dropped() {
        let waiting = LeaseState::new();
        assert_eq!(
            waiting.drop_reference(LeaseKind::Message),
            LeaseOutcome::Returned
        );

        let begun = LeaseState::new();
        assert!(begun.begin());
        begun.add_reference();
        assert_eq!(begun.drop_reference(LeaseKind::Message), LeaseOutcome::Open);
        assert_eq!(
            begun.drop_reference(LeaseKind::Message),
            LeaseOutcome::Returned
        );
    }

    #[test]
    fn begun_task_that_must_not_run_twice_is_never_returned() {
        let running = || {
            let task = LeaseState::new();
            assert!(task.begin() && task.run_once());
            task
        };
        assert!(!running().give_back());
        assert_eq!(
            running().drop_reference(LeaseKind::Message),
            LeaseOutcome::Over
        );
        assert_eq!(running().submit(LeaseKind::LastResult), LeaseOutcome::Ended);
        let returned = LeaseState::new();
        assert!(returned.begin() && returned.give_back());
        assert!(!returned.run_once(), "another worker has it");
    }

    #[test]
    fn last_result_ends_the_task_though_references_remain() {
        let task = LeaseState::new();
        assert!(task.begin());
        task.add_reference();
        assert_eq!(task.submit(LeaseKind::LastResult), LeaseOutcome::Ended);
        // A thread that cannot be stopped continues, and its results are dropped.
        task.add_reference();
        assert_eq!(task.submit(LeaseKind::Result), LeaseOutcome::Over);
        assert_eq!(task.drop_reference(LeaseKind::Message), LeaseOutcome::Over);
    }

    #[test]
    fn last_result_that_is_dropped_returns_the_task() {
        let task = LeaseState::new();
        assert!(task.begin());
        assert_eq!(
            task.drop_reference(LeaseKind::LastResult),
            LeaseOutcome::Returned
        );
    }

    #[test]
    fn task_that_yields_nothing_ends_after_its_results() {
        let nothing = LeaseState::new();
        assert!(nothing.begin());
        nothing.finish();
        assert_eq!(
            nothing.drop_reference(LeaseKind::Message),
            LeaseOutcome::Ended
        );

        let many = LeaseState::new();
        assert!(many.begin());
        many.add_reference();
        many.add_reference();
        many.finish();
        assert_eq!(many.drop_reference(LeaseKind::Message), LeaseOutcome::Open);
        assert_eq!(many.submit(LeaseKind::Result), LeaseOutcome::Open);
        assert_eq!(many.submit(LeaseKind::Result), LeaseOutcome::Ended);
    }

    #[test]
    fn task_with_a_lost_result_is_returned_unless_its_last_one_is_submitted() {
        for (last, outcome) in [(false, LeaseOutcome::Returned), (true, LeaseOutcome::Ended)] {
            let task = LeaseState::new();
            assert!(task.begin());
            task.add_reference();
            assert_eq!(task.drop_reference(LeaseKind::Result), LeaseOutcome::Open);
            let ended = match last {
                true => task.submit(LeaseKind::LastResult),
                false => {
                    task.finish();
                    task.drop_reference(LeaseKind::Message)
                }
            };
            assert_eq!(ended, outcome);
        }
    }

    #[test]
    fn revoked_task_does_not_begin_and_a_begun_one_is_not_prefetched() {
        let waiting = LeaseState::new();
        assert!(waiting.revoke_waiting() && !waiting.revoke_waiting());
        assert!(!waiting.begin());
        assert_eq!(
            waiting.drop_reference(LeaseKind::Message),
            LeaseOutcome::Over
        );

        let begun = LeaseState::new();
        assert!(begun.begin() && begun.is_begun());
        assert!(!begun.revoke_waiting());
        assert!(begun.revoke() && !begun.revoke());
        assert!(!begun.is_begun());
        assert_eq!(begun.submit(LeaseKind::LastResult), LeaseOutcome::Over);
    }
}
