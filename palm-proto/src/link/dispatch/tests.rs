//! Tests of scheduling and redelivery: at the bounds, and against models with random workers and faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::expiry::{MAX_UNKNOWN_NAMES, STALL_TIMEOUT, UNKNOWN_FUNCTION_TIMEOUT};
use super::least_loaded::MAX_FAIR_BATCH;
use super::suspects::RESERVATION_TIMEOUT;
use super::task::LostDelivery;
use super::*;
use crate::failure::FailureKind;
use crate::message::{BatchSizes, Deadline, Message};

const MAX_DELIVER: u32 = 3;

fn functions(names: &[&str]) -> Vec<Function> {
    let function = |name: &&str| Function {
        name: (*name).to_owned(),
        at_most_once: name.starts_with("once"),
        ..Function::default()
    };
    names.iter().map(function).collect()
}

/// A dispatch and its clock.
struct Rig {
    dispatch: Dispatch,
    now: Instant,
}

impl std::ops::Deref for Rig {
    type Target = Dispatch;

    fn deref(&self) -> &Dispatch {
        &self.dispatch
    }
}

impl std::ops::DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Dispatch {
        &mut self.dispatch
    }
}

impl Rig {
    fn empty() -> Self {
        Self {
            dispatch: Dispatch::new(MAX_DELIVER),
            now: Instant::now(),
        }
    }

    /// Workers `0..` with this credit each, whose concurrency is unknown.
    fn new(credits: &[u64]) -> Self {
        let mut rig = Self::empty();
        for (key, &credit) in credits.iter().enumerate() {
            rig.connect(key as u64, &["work", "once"], 0, credit);
        }
        rig
    }

    fn connect(&mut self, key: WorkerKey, names: &[&str], concurrency: u32, credit: u64) {
        let (name, now) = (format!("w{key}").into(), self.now);
        let functions = functions(names);
        self.dispatch
            .connect(key, &name, &functions, concurrency, now);
        self.dispatch.set_credit(key, credit);
    }

    fn reconnect(&mut self, key: WorkerKey, credit: u64) {
        self.connect(key, &["ignored"], 0, credit);
    }

    fn call(&mut self, function: &str, count: usize) {
        for _ in 0..count {
            self.call_of(1, function, "x");
        }
    }

    fn call_of(&mut self, client: u64, function: &str, payload: &str) {
        let message = Message::new(format!("master.{function}"), payload.to_owned());
        let batch = message.into_frame().into();
        self.submit(batch, Flow::new(client));
    }

    /// Submits tasks, which must not be rejected.
    fn submit(&mut self, batch: Batch, flow: Flow) {
        let mut failed = Vec::new();
        let now = self.now;
        self.dispatch.submit(batch, flow, now, &mut failed);
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn batch(&mut self, client: u64, len: usize) {
        let frame = Message::new("master.work", "x").into_frame();
        let sizes = BatchSizes::new(vec![frame.len() as u32; len].into());
        let batch = Batch::from_sizes(frame.repeat(len).into(), sizes).unwrap();
        self.submit(batch, Flow::new(client));
    }

    /// Assigns all batches. Returns for each the worker, the id of the first task, and the number of tasks.
    fn assigned_batches(&mut self) -> Vec<(WorkerKey, TaskId, usize)> {
        let now = self.now;
        std::iter::from_fn(|| self.dispatch.assign(now))
            .map(|it| (it.worker, it.first, it.tasks.len()))
            .collect()
    }

    /// Assigns all tasks. Returns for each batch the worker and the id of the first task.
    fn assigned(&mut self) -> Vec<(WorkerKey, TaskId)> {
        let batches = self.assigned_batches().into_iter();
        batches.map(|(key, id, _)| (key, id)).collect()
    }

    fn done(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let finished = self.dispatch.finish(key, id);
        let now = self.now;
        self.dispatch.remove_load(key, usize::from(finished), now);
        finished
    }

    fn lost(&mut self, key: WorkerKey) -> Vec<String> {
        self.lost_by(key, WorkerLoss::Disconnected)
    }

    fn lost_by(&mut self, key: WorkerKey, loss: WorkerLoss) -> Vec<String> {
        let mut failed = Vec::new();
        self.dispatch.lose_worker(key, loss, &mut failed);
        texts(failed)
    }

    fn passed(&mut self, time: Duration) -> Vec<(FailureKind, String)> {
        self.now += time;
        let (now, mut failed) = (self.now, Vec::new());
        self.dispatch.expire(now, SystemTime::now(), &mut failed);
        let failed = failed.into_iter().map(|failed| failed.failure);
        failed
            .map(|failure| (failure.kind(), failure.chain()))
            .collect()
    }
}

fn texts(failed: Vec<FailedTask>) -> Vec<String> {
    let failed = failed.into_iter();
    failed.map(|failed| failed.failure.chain()).collect()
}

fn with_deadline(function: &'static str, deadline: Duration) -> Bytes {
    let frame = Message::new(function, "x").into_frame();
    [
        &frame[..],
        &Deadline::after(deadline, SystemTime::now()).encode(),
    ]
    .concat()
    .into()
}

#[test]
fn dispatch_assigns_tasks_to_the_least_loaded_worker_round_robin_on_ties() {
    let mut rig = Rig::new(&[2, 1, 2]);
    rig.call("work", 6);
    assert_eq!(rig.assigned(), [(0, 1), (1, 2), (2, 3), (0, 4), (2, 5)]);
    assert!(!rig.has_credit());
    // The worker that has finished its task receives the next one.
    assert!(rig.record_result(1, 2));
    assert!(rig.done(1, 2));
    rig.set_credit(1, 1);
    assert_eq!(rig.assigned(), [(1, 6)]);
    assert_eq!(rig.outstanding(), 5);
}

#[test]
fn dispatch_redelivers_tasks_of_a_lost_worker_before_untried_ones() {
    let mut rig = Rig::new(&[2, 0]);
    rig.call("work", 3);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2)]);
    assert_eq!(rig.lost(0), [""; 0]);
    assert_eq!((rig.waiting(), rig.outstanding()), (3, 3));
    rig.set_credit(1, 5);
    assert_eq!(rig.assigned(), [(1, 1), (1, 2), (1, 3)]);
    assert_eq!((rig.waiting(), rig.outstanding()), (0, 3));
}

#[test]
fn first_result_of_a_redelivered_task_counts() {
    let mut rig = Rig::new(&[1, 0]);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    assert!(rig.record_result(0, 1));
    rig.lost(0);
    rig.set_credit(1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
    // A first result counts once; the next second result counts too, whichever worker sends it.
    assert!(!rig.record_result(1, 1));
    assert!(rig.record_result(0, 1));
    assert!(!rig.record_result(1, 1));
    assert!(
        !rig.done(0, 1),
        "the task of a lost worker counts for no load"
    );
    assert!(!rig.record_result(1, 1), "the task has ended");
    assert!(!rig.done(1, 1));
    assert_eq!(rig.outstanding(), 0);
    // A worker that was wrongly considered lost receives tasks again, and so does the other one.
    rig.reconnect(0, 1);
    rig.set_credit(1, 1);
    rig.call("work", 2);
    assert_eq!(rig.assigned().len(), 2);
}

#[test]
fn worker_that_returns_keeps_its_credit_and_receives_tasks_again() {
    let mut rig = Rig::new(&[1]);
    rig.lost(0);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), []);
    rig.reconnect(0, 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
}

#[test]
fn result_of_a_lost_worker_ends_a_waiting_task() {
    let mut rig = Rig::new(&[1, 0]);
    rig.call("work", 2);
    rig.assigned();
    rig.lost(0);
    assert_eq!(rig.waiting(), 2);
    assert!(rig.record_result(0, 1));
    rig.done(0, 1);
    assert_eq!((rig.waiting(), rig.outstanding()), (1, 1));
    rig.set_credit(1, 2);
    assert_eq!(rig.assigned(), [(1, 2)]);
}

#[test]
fn failure_after_max_deliver_names_the_lost_workers_and_causes() {
    let mut rig = Rig::new(&[1, 1, 1]);
    rig.call("work", 1);
    let losses = [
        WorkerLoss::Disconnected,
        WorkerLoss::Silent(Duration::from_secs(15)),
        WorkerLoss::Left,
    ];
    for (key, loss) in [(0, losses[0]), (1, losses[1])] {
        assert_eq!(rig.assigned(), [(key, 1)]);
        assert_eq!(rig.lost_by(key, loss), [""; 0]);
    }
    assert_eq!(rig.assigned(), [(2, 1)]);
    let expected = "3 workers were lost while they ran it: `w0` (connection closed), \
                    `w1` (no sign of life for 15s), `w2` (left)";
    assert_eq!(rig.lost_by(2, losses[2]), [expected]);
    assert_eq!(rig.outstanding(), 0);
    assert!(!rig.record_result(0, 1), "the task has failed");
}

#[test]
fn at_most_once_task_fails_unless_its_worker_left_before_it_began() {
    let mut rig = Rig::empty();
    rig.connect(0, &["once"], 1, 2);
    rig.call("once", 2);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2)]);
    let expected = "worker `w0` was lost (connection closed), and the task must not be run twice";
    assert_eq!(rig.lost(0), [expected; 2], "results may have been lost");

    rig.connect(1, &["once"], 1, 2);
    rig.call("once", 2);
    assert_eq!(rig.assigned(), [(1, 3), (1, 4)]);
    let mut failed = Vec::new();
    rig.remove_worker(1, &mut failed);
    let expected = "worker `w1` was lost (left), and the task must not be run twice";
    assert_eq!(texts(failed), [expected]);
    rig.connect(2, &["once"], 1, 2);
    assert_eq!(rig.assigned(), [(2, 4)]);
}

#[test]
fn results_of_tasks_that_a_worker_does_not_have_do_not_count() {
    let mut rig = Rig::new(&[1, 1]);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    assert!(!rig.record_result(1, 1));
    assert!(!rig.done(1, 1));
    assert!(!rig.return_task(1, 1));
    assert_eq!(rig.outstanding(), 1);
    let strays = [(1, 1), (0, 0), (0, 2), (0, 1)].map(|(key, id)| rig.is_stray(key, id));
    assert_eq!(strays, [true, true, true, false]);
    rig.done(0, 1);
    assert!(!rig.is_stray(0, 1), "of an ended task only the id is known");
}

#[test]
fn batch_is_shared_among_workers_with_credit() {
    let mut rig = Rig::new(&[100, 100, 3]);
    rig.batch(1, 20);
    assert_eq!(
        rig.assigned_batches(),
        [(0, 1, 7), (1, 8, 5), (2, 13, 3), (1, 16, 4), (0, 20, 1)]
    );
    assert_eq!((rig.waiting(), rig.outstanding()), (0, 20));
}

#[test]
fn batch_is_shared_among_eligible_workers_of_different_classes() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 0, 100);
    rig.connect(1, &["work", "other"], 0, 100);
    rig.connect(2, &["other"], 0, 100);
    rig.batch(1, 10);
    assert_eq!(rig.assigned_batches(), [(0, 1, 5), (1, 6, 5)]);
    rig.call("other", 6);
    rig.assigned_batches();
    // The worker with fewer tasks receives as many as the other one has more, and half of the rest.
    rig.connect(3, &["work"], 0, 100);
    rig.batch(1, 12);
    assert_eq!(rig.assigned_batches()[0], (3, 17, 8));
}

#[test]
fn least_loaded_worker_receives_more_of_a_batch() {
    let mut rig = Rig::new(&[100, 0]);
    rig.batch(1, 10);
    assert_eq!(rig.assigned_batches(), [(0, 1, 10)]);
    rig.set_credit(1, 100);
    rig.batch(1, 10);
    assert_eq!(rig.assigned_batches(), [(1, 11, 10)]);
}

#[test]
fn results_of_consecutive_tasks_end_their_batches() {
    let mut rig = Rig::new(&[8, 0]);
    rig.batch(1, 4);
    rig.batch(1, 4);
    assert_eq!(rig.assigned_batches(), [(0, 1, 4), (0, 5, 4)]);
    assert_eq!(rig.finish_range(1, 1, 4), 0, "another worker has the tasks");
    assert_eq!(rig.finish_range(0, 1, 2), 2);
    assert_eq!(rig.finish_range(0, 2, 2), 0, "the second task has ended");
    assert_eq!(rig.outstanding(), 6);
    assert_eq!(rig.finish_range(0, 3, 4), 4, "of both batches");
    assert_eq!(rig.finish_range(0, 7, 9), 2, "only two tasks are left");
    assert_eq!((rig.outstanding(), rig.batches.len()), (0, 0));
}

#[test]
fn unfinished_part_of_a_batch_of_a_lost_worker_is_redelivered() {
    let mut rig = Rig::new(&[6, 0]);
    rig.batch(1, 6);
    assert_eq!(rig.assigned_batches(), [(0, 1, 6)]);
    assert_eq!(rig.finish_range(0, 2, 2), 2);
    assert_eq!(rig.lost(0), [""; 0]);
    rig.set_credit(1, 9);
    assert_eq!(rig.assigned(), [(1, 1), (1, 4), (1, 5), (1, 6)]);
    // The worker that was considered lost sends a result first.
    assert_eq!(rig.finish_range(0, 4, 1), 0);
    assert!(rig.record_result(0, 4));
    rig.done(0, 4);
    assert!(!rig.record_result(1, 4));
    assert_eq!(rig.outstanding(), 3);
    assert_eq!(rig.workers[&1].load, 3);
}

#[test]
fn task_of_a_batch_may_have_several_results() {
    let mut rig = Rig::new(&[3]);
    rig.batch(1, 3);
    rig.assigned();
    for _ in 0..2 {
        assert!(rig.record_result(0, 2));
    }
    assert!(rig.done(0, 2));
    assert_eq!(rig.finish_range(0, 1, 1), 1);
    assert_eq!(rig.finish_range(0, 1, 1), 0);
    assert_eq!(rig.outstanding(), 1);
}

#[test]
fn finish_range_stops_at_tasks_with_other_workers_or_earlier_results() {
    let mut rig = Rig::new(&[4, 0]);
    rig.call("work", 4);
    rig.assigned();
    assert_eq!(rig.finish_range(1, 1, 1), 0, "another worker has the task");
    assert_eq!(rig.finish_range(0, 0, 1), 0, "no task has this id");
    assert_eq!(rig.finish_range(0, u64::MAX, 2), 0);
    assert!(rig.record_result(0, 2));
    assert_eq!(
        rig.finish_range(0, 1, 4),
        1,
        "the second task has an earlier result"
    );
    assert_eq!(rig.finish_range(0, 1, 1), 0, "it has ended");
    rig.return_task(0, 3);
    assert_eq!(rig.finish_range(0, 3, 1), 0, "the task was returned");
    rig.lost(0);
    assert_eq!(
        rig.finish_range(0, 4, 1),
        0,
        "the task waits for another worker"
    );
    assert_eq!(rig.outstanding(), 3);
}

#[test]
fn waiting_tasks_fail_at_their_deadline() {
    let mut rig = Rig::new(&[0]);
    let hour = Duration::from_secs(3600);
    let frames = [Duration::ZERO, hour].map(|it| with_deadline("master.work", it));
    let sizes = BatchSizes::new([frames[0].len() as u32; 2].into());
    let batch = Batch::from_sizes(frames.concat().into(), sizes).unwrap();
    rig.submit(batch, Flow::new(1));
    let late = with_deadline("master.work", Duration::ZERO);
    rig.submit(late.clone().into(), Flow::new(2));
    let expected = (
        FailureKind::DeadlineExceeded,
        "its deadline has passed".to_owned(),
    );
    assert_eq!(rig.passed(Duration::ZERO), vec![expected.clone(); 2]);
    assert_eq!((rig.waiting(), rig.outstanding()), (1, 1));
    assert_eq!(rig.untried.bytes, frames[1].len());
    rig.set_credit(0, 9);
    assert_eq!(rig.assigned(), [(0, 1)]);
    assert_eq!(rig.untried, Usage::default());

    // A redelivered task fails at its deadline too, but no task that is with a worker.
    rig.submit(late.into(), Flow::new(1));
    assert_eq!(rig.assigned(), [(0, 2)]);
    assert_eq!(rig.passed(Duration::ZERO), []);
    rig.connect(1, &["work"], 0, 0);
    rig.lost(0);
    assert_eq!(rig.passed(Duration::ZERO), [expected]);
    assert_eq!((rig.waiting(), rig.outstanding()), (1, 1));
}

#[test]
fn failure_at_the_deadline_names_the_missing_workers() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 0, 1);
    rig.connect(1, &["other"], 0, 1);
    rig.lost(0);
    let late = with_deadline("master.work", Duration::ZERO);
    rig.submit(late.clone().into(), Flow::new(1));
    let expected = "no worker that has `work` is connected";
    let failed = rig.passed(Duration::ZERO);
    assert_eq!(failed, [(FailureKind::Unavailable, expected.to_owned())]);
    rig.lost(1);
    rig.submit(late.into(), Flow::new(1));
    let expected = "no worker is connected";
    let failed = rig.passed(Duration::ZERO);
    assert_eq!(failed, [(FailureKind::Unavailable, expected.to_owned())]);
    assert_eq!(rig.outstanding(), 0);
}

#[test]
fn dispatch_assigns_a_task_only_to_workers_that_have_its_function() {
    let mut rig = Rig::empty();
    rig.connect(0, &["render"], 0, 9);
    rig.connect(1, &["parse"], 0, 9);
    rig.call("render", 3);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2), (0, 3)]);
    rig.call("parse", 2);
    assert_eq!(rig.assigned(), [(1, 4), (1, 5)]);
    // Every worker can run `echo`.
    rig.call("echo", 2);
    assert_eq!(rig.assigned(), [(1, 6), (0, 7)]);
    // A worker that lists no functions runs any.
    rig.connect(2, &[], 0, 2);
    rig.call("render", 1);
    rig.call("whatever", 1);
    assert_eq!(rig.assigned(), [(2, 8), (2, 9)]);
}

#[test]
fn tasks_of_one_function_do_not_wait_behind_those_of_another() {
    let mut rig = Rig::empty();
    rig.connect(0, &["render"], 0, 1);
    rig.connect(1, &["parse"], 0, 1);
    rig.call("render", 300);
    rig.assigned();
    assert!(
        rig.has_credit() && rig.accepts(0),
        "workers of the other function have credit"
    );
    rig.call("parse", 1);
    assert_eq!(rig.assigned(), [(1, 2)]);
    assert_eq!(rig.waiting(), 299);
    assert!(!rig.accepts(299) && rig.accepts(300));
}

#[test]
fn waiting_tasks_of_busy_workers_are_bounded_though_others_are_idle() {
    let mut rig = Rig::empty();
    rig.connect(0, &["render"], 0, 0);
    rig.connect(1, &["parse"], 0, 1);
    rig.call("render", MAX_WAITING.messages - 1);
    assert!(rig.accepts(0));
    rig.call("render", 1);
    assert!(!rig.accepts(usize::MAX));

    let busy = || {
        let mut rig = Rig::empty();
        rig.connect(0, &["render"], 0, 0);
        rig.connect(1, &["parse"], 0, 1);
        rig
    };
    let mut rig = busy();
    let large = "x".repeat(MAX_WAITING.bytes / 2 - 20);
    rig.call_of(1, "render", &large);
    rig.call_of(1, "render", &large[1..]);
    assert_eq!(rig.untried.bytes, MAX_WAITING.bytes - 1);
    assert!(rig.accepts(1));
    let mut rig = busy();
    rig.call_of(1, "render", &large);
    rig.call_of(1, "render", &large);
    assert!(!rig.accepts(1));
}

/// Submits a call that is rejected, and returns its error.
fn rejected(rig: &mut Rig, function: &str) -> String {
    let frame = Message::new(format!("master.{function}"), "x").into_frame();
    let mut failed = Vec::new();
    let now = rig.now;
    rig.dispatch
        .submit(frame.into(), Flow::new(1), now, &mut failed);
    let [failed] = &failed[..] else {
        panic!("one call is rejected: {failed:?}");
    };
    assert_eq!(failed.failure.kind(), FailureKind::Unavailable);
    failed.failure.chain()
}

#[test]
fn calls_of_functions_without_a_worker_leave_capacity_to_others() {
    let mut rig = Rig::empty();
    rig.connect(0, &["render"], 0, 0);
    rig.connect(1, &["parse"], 0, 0);
    assert!(rig.lost(0).is_empty());
    rig.call("render", MAX_UNASSIGNABLE.messages);
    let cause =
        "no worker is connected that has the called functions, such as `render` (8000 calls wait)";
    assert_eq!(rig.wait_cause().unwrap(), cause);
    let error = rejected(&mut rig, "render");
    let expected = "no worker that has `render` is connected, and 8000 calls wait";
    assert!(error.contains(expected), "{error}");
    // The busy worker of the other function has the rest of the limit.
    rig.call(
        "parse",
        MAX_WAITING.messages - MAX_UNASSIGNABLE.messages - 1,
    );
    assert!(rig.accepts(usize::MAX));
    rig.call("parse", 1);
    assert!(!rig.accepts(usize::MAX));
    rig.set_credit(1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
    assert!(rig.accepts(usize::MAX));
    // A worker that has the function takes its calls.
    rig.connect(2, &["render"], 0, 1);
    assert_eq!(rig.assigned(), [(2, 2)]);
    rig.call("render", 1);

    let mut rig = Rig::empty();
    rig.connect(0, &["parse"], 0, 0);
    let large = "x".repeat(MAX_UNASSIGNABLE.bytes);
    rig.call_of(1, "render", &large);
    rejected(&mut rig, "render");
    rig.call("parse", 1);
}

#[test]
fn calls_wait_without_a_limit_of_their_function_while_no_worker_is_connected() {
    let mut rig = Rig::empty();
    rig.call("render", MAX_WAITING.messages - 1);
    assert!(rig.accepts(usize::MAX));
    rig.call("render", 1);
    assert!(!rig.accepts(usize::MAX));
    // Calls that were accepted stay when a worker connects that cannot run them, and do not keep out calls that it can
    // run.
    rig.connect(0, &["parse"], 0, 0);
    assert_eq!(rig.outstanding(), MAX_WAITING.messages);
    assert!(rig.accepts(usize::MAX));
    rejected(&mut rig, "render");
    rig.call("parse", 1);
}

#[test]
fn calls_of_workers_that_are_lost_in_turn_are_bounded() {
    let mut rig = Rig::empty();
    rig.connect(0, &["parse"], 0, 0);
    for (key, function) in [(1, "a"), (2, "b")] {
        rig.connect(key, &[function], 0, 0);
        rig.call(function, MAX_WAITING.messages / 2 + 1);
    }
    assert!(rig.lost(1).is_empty());
    let errors = rig.lost(2);
    assert_eq!(errors.len(), 2);
    assert_eq!(rig.outstanding(), MAX_WAITING.messages);
    assert_eq!(rig.untried(), rig.pools[0].untried.total());
    assert_eq!(rig.pools[0].waiting, MAX_WAITING.messages);
}

#[test]
fn pools_of_different_functions_take_turns() {
    let mut rig = Rig::empty();
    rig.connect(0, &["a", "b"], 0, 0);
    rig.connect(1, &["b"], 0, 0);
    rig.call("a", 3);
    rig.call("b", 3);
    rig.set_credit(0, 6);
    let now = rig.now;
    let names = std::iter::from_fn(|| rig.assign(now))
        .map(|it| eligibility::name(&it.tasks.first()).unwrap().to_owned());
    let names: Vec<_> = names.collect();
    assert_ne!(names[0], names[1]);
    assert_eq!((&names[0], &names[1]), (&names[2], &names[3]));
}

#[test]
fn waiting_tasks_are_assigned_to_workers_that_connect_later() {
    let mut rig = Rig::empty();
    rig.call("render", 1);
    rig.connect(0, &["parse"], 0, 9);
    rig.call("render", 1);
    assert_eq!(rig.assigned(), []);
    assert!(rig.has_unassignable() && rig.waiting() == 0);
    rig.connect(1, &["render"], 0, 9);
    assert_eq!(rig.assigned(), [(1, 1), (1, 2)]);
    assert!(!rig.has_unassignable());
    // After the loss of the last worker with a function, its tasks wait for the next one.
    rig.lost(1);
    assert_eq!((rig.assigned(), rig.waiting()), (vec![], 0));
    assert_eq!(
        rig.passed(10 * UNKNOWN_FUNCTION_TIMEOUT),
        [],
        "a worker has had the function"
    );
    rig.connect(2, &["render", "more"], 0, 9);
    assert_eq!(rig.assigned(), [(2, 1), (2, 2)]);
}

#[test]
fn call_of_an_unknown_function_fails_after_its_timeout() {
    let mut rig = Rig::empty();
    rig.call("rendr", 2);
    for _ in 0..2 {
        let failed = rig.passed(10 * UNKNOWN_FUNCTION_TIMEOUT);
        assert_eq!(failed, [], "no worker is connected");
    }
    rig.connect(0, &["render"], 0, 9);
    assert_eq!(rig.passed(Duration::ZERO), []);
    assert_eq!(
        rig.passed(UNKNOWN_FUNCTION_TIMEOUT - Duration::from_millis(1)),
        []
    );
    let expected = "no worker has `rendr`; did you mean `render`?".to_owned();
    let expected = (FailureKind::UnknownFunction, expected);
    let failed = rig.passed(Duration::from_millis(1));
    assert_eq!(failed, vec![expected.clone(); 2]);
    assert_eq!((rig.outstanding(), rig.has_unassignable()), (0, false));
    assert_eq!(rig.untried, Usage::default());
    // Further calls fail at once.
    rig.call("rendr", 1);
    assert_eq!(rig.passed(Duration::ZERO), vec![expected]);
    // The name is forgotten once no call of it waits.
    rig.call("colour", 1);
    rig.passed(Duration::ZERO);
    assert_eq!(rig.passed(UNKNOWN_FUNCTION_TIMEOUT).len(), 1);
    rig.passed(Duration::ZERO);
    rig.call("rendr", 1);
    assert_eq!(rig.passed(Duration::ZERO), []);

    // A legacy worker may have the function.
    rig.set_legacy(true);
    assert_eq!(rig.passed(10 * UNKNOWN_FUNCTION_TIMEOUT), []);
    let unassignable: Vec<_> = rig
        .take_unassignable()
        .into_iter()
        .map(|(flow, _)| flow)
        .collect();
    assert_eq!(unassignable, [Flow::new(1)]);
    assert_eq!((rig.outstanding(), rig.has_unassignable()), (0, false));
    assert_eq!(rig.untried, Usage::default());
}

#[test]
fn wait_for_an_unknown_function_restarts_when_a_worker_connects() {
    let mut rig = Rig::empty();
    rig.connect(0, &["a"], 0, 9);
    rig.call("b", 1);
    rig.passed(Duration::ZERO);
    rig.connect(1, &["c"], 0, 9);
    assert_eq!(rig.passed(UNKNOWN_FUNCTION_TIMEOUT), []);
    assert_eq!(rig.passed(UNKNOWN_FUNCTION_TIMEOUT).len(), 1);

    // The task of a lost worker without a list, whose function no other worker has.
    rig.connect(2, &[], 0, 9);
    rig.call("b", 1);
    assert_eq!(rig.assigned(), [(2, 1)]);
    rig.lost(2);
    assert_eq!(rig.passed(UNKNOWN_FUNCTION_TIMEOUT), []);
    assert_eq!(rig.passed(UNKNOWN_FUNCTION_TIMEOUT).len(), 1);
    assert_eq!((rig.outstanding(), rig.has_unassignable()), (0, false));
}

#[test]
fn remembered_names_of_unknown_functions_are_bounded() {
    let mut rig = Rig::empty();
    rig.connect(0, &["a"], 0, 9);
    for number in 0..MAX_UNKNOWN_NAMES + 1 {
        rig.call(&format!("f{number}"), 1);
    }
    rig.passed(Duration::ZERO);
    assert!((1..=MAX_UNKNOWN_NAMES).contains(&rig.unknown.len()));
}

#[test]
fn unassignable_tasks_are_taken_for_legacy_workers_unless_they_are_suspects() {
    let mut rig = Rig::empty();
    rig.connect(0, &["a"], 1, 9);
    rig.connect(1, &["b"], 1, 9);
    rig.call("a", 2);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2)]);
    rig.call("b", 1);
    assert_eq!(rig.assigned(), [(1, 3)]);
    rig.lost(0);
    rig.call("a", 1);
    assert_eq!(
        rig.take_unassignable().len(),
        2,
        "not the one that had begun"
    );
    assert!(rig.has_unassignable());
    assert_eq!(rig.outstanding(), 2);
    assert_eq!(rig.untried, Usage::default());
}

#[test]
fn reach_reports_load_missing_credit_and_missing_workers() {
    let mut rig = Rig::empty();
    let frame = |name| Message::new(name, "x").into_frame();
    assert_eq!(rig.reach(&frame("m.a")), WorkerReach::NoWorker);
    rig.connect(0, &["a"], 0, 2);
    assert_eq!(rig.reach(&frame("m.a")), WorkerReach::Load(0));
    assert_eq!(rig.reach(&frame("m.b")), WorkerReach::NoWorker);
    rig.call("a", 2);
    rig.assigned();
    assert_eq!(rig.reach(&frame("m.a")), WorkerReach::NoCredit);
    rig.set_credit(0, 1);
    assert_eq!(rig.reach(&frame("m.a")), WorkerReach::Load(2));
}

#[test]
fn dispatch_serves_clients_fairly() {
    let mut rig = Rig::new(&[1]);
    rig.batch(1, 100);
    for _ in 0..3 {
        rig.call_of(2, "work", "y");
    }
    let mut served = Vec::new();
    let now = rig.now;
    while served.len() < 8 {
        let assigned = rig.assign(now).unwrap();
        let message = Message::decode(assigned.tasks.first()).unwrap();
        served.push(message.payload()[0]);
        rig.done(assigned.worker, assigned.first);
        rig.set_credit(0, 1);
    }
    assert_eq!(&served[..7], b"xyxyxyx");
}

#[test]
fn batch_is_assigned_in_small_parts_while_other_clients_wait() {
    let mut rig = Rig::new(&[0]);
    rig.batch(1, 100);
    rig.batch(2, 100);
    rig.set_credit(0, 200);
    let sizes: Vec<_> = rig.assigned_batches();
    let sizes = sizes.into_iter().map(|(_, _, count)| count);
    let sizes: Vec<_> = sizes.collect();
    assert_eq!(sizes[..12], [MAX_FAIR_BATCH; 12]);
    assert_eq!(sizes.iter().sum::<usize>(), 200);
    // A single client uses all workers.
    rig.batch(3, 100);
    rig.batch(3, 100);
    rig.set_credit(0, 200);
    assert_eq!(rig.assigned_batches().len(), 2);
}

#[test]
fn returned_task_is_redelivered_first_and_counts_no_failed_delivery() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 4);
    for _ in 0..MAX_DELIVER + 1 {
        rig.batch(1, 4);
        let first = rig.assigned_batches()[0].1;
        rig.connect(1, &["work"], 1, 0);
        assert_eq!(rig.finish_range(0, first, 1), 1);
        rig.remove_load(0, 1, Instant::now());
        for id in first + 1..first + 4 {
            assert!(rig.return_task(0, id));
        }
        assert!(
            !rig.return_task(0, first + 1),
            "the task was returned before"
        );
        assert_eq!(rig.workers[&0].load, 0);
        assert_eq!((rig.waiting(), rig.outstanding()), (3, 3));
        rig.set_credit(0, 0);
        rig.set_credit(1, 4);
        rig.call("work", 1);
        let assigned = rig.assigned();
        let expected: Vec<_> = (first + 1..first + 5).map(|id| (1, id)).collect();
        assert_eq!(assigned, expected);
        for (key, id) in assigned {
            rig.done(key, id);
        }
        rig.set_credit(0, 4);
        rig.set_credit(1, 0);
    }
    assert_eq!(rig.outstanding(), 0);
}

#[test]
fn return_by_a_lost_worker_does_not_redeliver_a_task_again() {
    let mut rig = Rig::new(&[1, 0]);
    rig.call("work", 1);
    rig.assigned();
    rig.lost(0);
    assert!(
        rig.return_task(0, 1),
        "by a worker that was thought to be lost"
    );
    assert_eq!((rig.waiting(), rig.outstanding()), (1, 1));
    rig.set_credit(1, 2);
    assert_eq!(rig.assigned(), [(1, 1)]);
    assert_eq!(rig.waiting(), 0);
}

#[test]
fn result_of_a_delivery_before_a_loss_counts_after_the_return_of_a_later_one() {
    let mut rig = Rig::new(&[1, 0]);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.lost(0);
    rig.reconnect(0, 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    assert!(rig.return_task(0, 1));
    assert_eq!((rig.waiting(), rig.workers[&0].load), (1, 0));
    assert!(!rig.is_stray(0, 1), "the worker runs its first delivery");
    assert!(rig.record_result(0, 1));
    assert!(!rig.done(0, 1), "it does not count towards the load");
    assert_eq!((rig.waiting(), rig.outstanding()), (0, 0));
}

#[test]
fn assignment_has_the_time_of_submission_unless_the_task_is_redelivered() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    let submitted = rig.now;
    rig.batch(1, 2);
    rig.passed(Duration::from_secs(1));
    let now = rig.now;
    assert_eq!(rig.assign(now).unwrap().submitted, Some(submitted));
    rig.set_credit(0, 1);
    let rest = rig.assign(now).unwrap();
    assert_eq!((rest.first, rest.submitted), (2, Some(submitted)));
    rig.lost(0);
    rig.reconnect(0, 2);
    let again = rig.assign(now).unwrap();
    assert_eq!((again.first, again.submitted), (1, None));
    assert_eq!(rig.deliveries(1), 2, "both to the same worker");
    rig.return_task(0, 1);
    assert_eq!(rig.deliveries(1), 1);
}

#[test]
fn only_begun_tasks_count_a_failed_delivery() {
    let mut rig = Rig::empty();
    for key in 0..10 {
        rig.connect(key, &["work"], 2, 6);
        if key == 0 {
            rig.batch(1, 6);
        }
        // Redelivered tasks are not prefetched, so only the first two are lost each time.
        let ids: Vec<_> = rig.assigned_batches();
        match key {
            0 => assert_eq!(ids, [(0, 1, 6)]),
            1 => assert_eq!(ids, [(1, 1, 1), (1, 2, 1)]),
            // These have one delivery left, and run one by one.
            2 => assert_eq!(ids, [(2, 1, 1)]),
            3 => assert_eq!(ids, [(3, 2, 1)]),
            4 => assert_eq!(ids, [(4, 3, 1), (4, 4, 1)]),
            _ => {}
        }
        let failed = rig.lost(key);
        assert_eq!(failed.len(), usize::from(key == 2 || key == 3), "{key}");
        if let Some(text) = failed.first() {
            let others = "`w0` (connection closed), `w1` (connection closed)";
            assert!(text.contains(others), "{text}");
        }
        if key == 4 {
            break;
        }
    }
    let failed_deliveries = [3, 4, 5, 6].map(|id| rig.tasks[&id].failed_deliveries.len());
    assert_eq!(failed_deliveries, [1, 1, 0, 0]);
}

#[test]
fn dispatch_never_prefetches_redelivered_tasks() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.connect(1, &["work"], 1, 0);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.set_credit(1, 5);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(1, 2), (1, 3)]);
    rig.lost(0);
    rig.call("work", 1);
    assert_eq!(
        rig.assigned(),
        [],
        "nor are untried tasks prefetched ahead of it"
    );
    rig.done(1, 2);
    assert_eq!(rig.assigned(), []);
    rig.done(1, 3);
    assert_eq!(rig.assigned(), [(1, 1), (1, 4)]);
}

/// Two workers of concurrency 2, and a waiting suspect with the id 1.
fn with_suspect() -> Rig {
    let mut rig = Rig::empty();
    for key in [8, 9] {
        rig.connect(key, &["work"], 1, 1);
        if key == 8 {
            rig.call("work", 1);
        }
        assert_eq!(rig.assigned(), [(key, 1)]);
        rig.lost(key);
    }
    for key in [0, 1] {
        rig.connect(key, &["work"], 2, 0);
    }
    rig
}

#[test]
fn suspect_runs_exclusively_on_an_idle_worker() {
    let mut rig = with_suspect();
    rig.call("work", 6);
    rig.set_credit(0, 4);
    assert_eq!(rig.assigned(), [(0, 1)], "and nothing else");
    rig.set_credit(1, 2);
    assert_eq!(rig.assigned(), [(1, 2), (1, 3)]);
    assert!(rig.done(0, 1));
    assert_eq!(rig.assigned(), [(0, 4), (0, 5), (0, 6)]);
}

#[test]
fn worker_is_reserved_for_a_suspect_if_none_is_idle() {
    let mut rig = with_suspect();
    // The suspect waits, since no worker has credit. Both workers receive tasks of an earlier batch.
    rig.tasks.get_mut(&1).unwrap().failed_deliveries.clear();
    let failed_deliveries = vec![
        LostDelivery {
            worker: "w8".into(),
            loss: WorkerLoss::Left
        };
        2
    ];
    rig.pools[1].suspects.clear();
    rig.call("work", 3);
    rig.set_credit(0, 1);
    rig.set_credit(1, 2);
    assert_eq!(rig.assigned(), [(0, 2), (1, 3), (1, 4)]);
    rig.tasks.get_mut(&1).unwrap().failed_deliveries = failed_deliveries;
    rig.pools[1].suspects.push_back(1);

    rig.call("work", 4);
    rig.set_credit(0, 4);
    assert_eq!(rig.assigned(), [], "the other worker has no credit");
    rig.set_credit(1, 1);
    assert_eq!(rig.assigned(), [(1, 5)], "the first worker is reserved");
    // Another worker becomes idle first, and the reservation ends.
    rig.done(1, 3);
    rig.done(1, 4);
    rig.done(1, 5);
    rig.set_credit(1, 4);
    assert_eq!(rig.assigned(), [(1, 1), (0, 6), (0, 7), (0, 8)]);
}

#[test]
fn reserved_worker_runs_the_suspect_once_it_is_idle() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.call("work", 1);
    rig.assigned();
    rig.lost(0);
    rig.connect(1, &["work"], 1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
    // The suspect's worker is lost while the next one is busy.
    rig.connect(2, &["work"], 4, 2);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(2, 2), (2, 3)]);
    rig.lost(1);
    rig.set_credit(2, 8);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), []);
    rig.done(2, 2);
    assert_eq!(rig.assigned(), []);
    rig.done(2, 3);
    assert_eq!(rig.assigned(), [(2, 1)]);
    rig.done(2, 1);
    assert_eq!(rig.assigned(), [(2, 4)]);
}

#[test]
fn suspect_runs_alongside_other_tasks_if_no_worker_becomes_idle() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.call("work", 1);
    rig.assigned();
    rig.lost(0);
    rig.connect(1, &["work"], 1, 1);
    rig.assigned();
    rig.connect(2, &["work"], 4, 1);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(2, 2)]);
    rig.lost(1);
    rig.set_credit(2, 8);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), []);
    rig.passed(RESERVATION_TIMEOUT - Duration::from_millis(1));
    assert_eq!(rig.assigned(), []);
    rig.passed(Duration::from_millis(1));
    assert_eq!(rig.assigned(), [(2, 1)]);
    // It is the only suspect.
    assert_eq!(rig.lost(2).len(), 1);
    assert!(rig.tasks[&2].failed_deliveries.is_empty());
    rig.connect(3, &["work"], 4, 8);
    assert_eq!(rig.assigned(), [(3, 2), (3, 3)]);
}

#[test]
fn suspects_leave_half_of_the_workers_to_others() {
    let mut rig = Rig::empty();
    for key in [0, 1] {
        rig.connect(key, &["work"], 3, 3);
        rig.batch(1, if key == 0 { 3 } else { 0 }.max(1));
        rig.assigned();
        rig.lost(key);
    }
    let suspects = rig.pools[0].suspects.len();
    assert_eq!(suspects, 3);
    for key in 2..6 {
        rig.connect(key, &["work"], 3, 3);
    }
    let exclusive = rig.assigned();
    let exclusive = exclusive
        .iter()
        .filter(|(key, _)| rig.workers[key].exclusive_task.is_some());
    assert_eq!(exclusive.count(), 2, "of four workers");
}

#[test]
fn single_worker_runs_several_suspects_one_by_one() {
    let mut rig = Rig::empty();
    for key in [0, 1] {
        rig.connect(key, &["work"], 2, 2);
        if key == 0 {
            rig.batch(1, 2);
        }
        rig.assigned();
        rig.lost(key);
    }
    rig.connect(2, &["work"], 2, 9);
    rig.call("work", 1);
    for id in [1, 2] {
        assert_eq!(rig.assigned(), [(2, id)]);
        assert!(rig.done(2, id));
    }
    assert_eq!(rig.assigned(), [(2, 3)]);
    // A returned suspect stays a suspect.
    rig.done(2, 3);
    assert_eq!(rig.outstanding(), 0);
}

#[test]
fn returned_suspect_stays_a_suspect_and_frees_its_worker() {
    let mut rig = with_suspect();
    rig.set_credit(0, 4);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.return_task(0, 1);
    rig.call("work", 2);
    let assigned = rig.assigned();
    assert_eq!(assigned, [(0, 1)], "exclusively again");
    rig.return_task(0, 1);
    rig.set_credit(0, 0);
    rig.set_credit(1, 2);
    assert_eq!(rig.assigned(), [(1, 1)]);
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned(), [(0, 2)]);
}

#[test]
fn reservation_ends_with_its_worker() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.call("work", 1);
    rig.assigned();
    rig.lost(0);
    rig.connect(1, &["work"], 1, 1);
    rig.assigned();
    rig.connect(2, &["work"], 1, 1);
    rig.connect(3, &["work"], 1, 1);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(2, 2), (3, 3)]);
    rig.lost(1);
    assert_eq!(rig.assigned(), []);
    assert!(rig.workers[&2].is_reserved);
    rig.lost(2);
    assert_eq!(rig.assigned(), []);
    assert!(rig.workers[&3].is_reserved && !rig.workers[&2].is_reserved);
    // The workers change, so that the pools are rebuilt.
    rig.connect(4, &["other"], 1, 1);
    assert!(!rig.workers[&3].is_reserved);
    rig.done(3, 3);
    rig.set_credit(3, 1);
    assert_eq!(rig.assigned(), [(3, 1)]);
}

#[test]
fn reservation_ends_when_the_suspect_is_answered_by_a_lost_worker() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.call("work", 1);
    rig.assigned();
    rig.lost(0);
    rig.connect(1, &["work"], 1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
    rig.connect(2, &["work"], 1, 1);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(2, 2)]);
    rig.lost(1);
    assert_eq!(rig.assigned(), []);
    assert!(rig.workers[&2].is_reserved);
    rig.done(1, 1);
    rig.done(2, 2);
    rig.set_credit(2, 1);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(2, 3)]);
}

#[test]
fn worker_with_lent_slots_begins_as_many_further_tasks() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 2, 9);
    rig.call("work", 2);
    assert_eq!(rig.assigned().len(), 2);
    rig.passed(STALL_TIMEOUT);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [], "the worker has stalled");
    rig.set_lent_slots(0, 1);
    assert_eq!(rig.assigned(), [(0, 3)]);
    assert_eq!(rig.assigned(), []);
    rig.set_lent_slots(0, u32::MAX);
    assert_eq!(rig.assigned(), [(0, 4)]);
    rig.set_lent_slots(0, 0);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), []);
}

#[test]
fn worker_with_another_concurrency_begins_as_many_tasks() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 9);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.passed(STALL_TIMEOUT);
    rig.call("work", 3);
    assert_eq!(rig.assigned(), [], "the worker has stalled");
    rig.set_concurrency(0, 3);
    assert_eq!(rig.assigned(), [(0, 2), (0, 3)]);
    rig.set_concurrency(0, 1);
    assert_eq!(rig.assigned(), []);
}

/// A worker with four tasks, whose concurrency was lowered from three to one.
fn with_lowered_concurrency(credit: u64) -> Rig {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 3, credit);
    rig.call("work", 4);
    assert_eq!(rig.assigned().len(), 4);
    rig.set_concurrency(0, 1);
    rig
}

#[test]
fn tasks_begun_before_the_concurrency_was_lowered_count_the_loss_of_their_worker() {
    let mut rig = with_lowered_concurrency(9);
    rig.lost(0);
    let failed = |rig: &Rig, id| rig.tasks[&id].failed_deliveries.len();
    assert_eq!([1, 2, 3, 4].map(|id| failed(&rig, id)), [1, 1, 1, 0]);
    // A worker that has no more tasks than its concurrency began the others since.
    let mut rig = with_lowered_concurrency(9);
    for id in 1..=3 {
        assert!(rig.done(0, id));
    }
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 5)]);
    rig.lost(0);
    assert_eq!([4, 5].map(|id| failed(&rig, id)), [1, 0]);
    // It may also return them.
    let mut rig = with_lowered_concurrency(4);
    for id in 1..=3 {
        assert!(rig.return_task(0, id));
    }
    rig.connect(1, &["work"], 9, 3);
    assert_eq!(rig.assigned(), [(1, 1), (1, 2), (1, 3)]);
    rig.set_credit(0, 1);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 5)]);
    rig.lost(0);
    assert_eq!([4, 5].map(|id| failed(&rig, id)), [1, 0]);
    // A worker that is lost has no tasks.
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 3, 9);
    rig.lost(0);
    rig.set_concurrency(0, 1);
    rig.reconnect(0, 9);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2)]);
    rig.lost(0);
    assert_eq!([1, 2].map(|id| failed(&rig, id)), [1, 0]);
}

#[test]
fn stalled_worker_prefetches_no_tasks() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 2, 4);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.passed(STALL_TIMEOUT - Duration::from_millis(1));
    assert!(!rig.workers[&0].is_stalled);
    rig.passed(Duration::from_millis(1));
    rig.batch(1, 9);
    assert_eq!(
        rig.assigned_batches(),
        [(0, 2, 1)],
        "the tasks that it begins at once"
    );
    rig.done(0, 1);
    rig.set_credit(0, 3);
    assert_eq!(rig.assigned_batches(), [(0, 3, 3)]);
    // An idle worker never stalls.
    for id in 2..6 {
        rig.done(0, id);
    }
    rig.passed(100 * STALL_TIMEOUT);
    rig.set_credit(0, 4);
    assert_eq!(rig.assigned_batches(), [(0, 6, 4)]);
    rig.passed(STALL_TIMEOUT / 2);
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned_batches(), [(0, 10, 1)]);
    // A worker of unknown concurrency may begin its next task at any time.
    rig.connect(1, &["work"], 0, 2);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(1, 11)]);
    rig.passed(STALL_TIMEOUT);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(1, 12)]);
}

#[test]
fn batch_is_limited_to_free_slots_while_redelivered_tasks_wait() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 1);
    rig.connect(1, &["work", "other"], 4, 1);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(0, 1), (1, 2)]);
    rig.lost(0);
    // A redelivered task waits for credit, so workers that it shares with other tasks prefetch none of these.
    rig.connect(2, &["other"], 2, 9);
    let frame = Message::new("master.other", "x").into_frame();
    let sizes = BatchSizes::new(vec![frame.len() as u32; 8].into());
    let batch = Batch::from_sizes(frame.repeat(8).into(), sizes).unwrap();
    rig.submit(batch, Flow::new(1));
    assert_eq!(rig.assigned_batches(), [(2, 3, 2)]);
    rig.set_credit(1, 9);
    assert_eq!(rig.assigned_batches()[0], (1, 1, 1));
}

#[test]
fn rest_of_a_batch_fails_at_its_own_deadline() {
    let mut rig = Rig::new(&[0]);
    let deadlines = [Duration::ZERO, Duration::from_millis(20)];
    let frames = deadlines.map(|it| with_deadline("master.work", it));
    let sizes = BatchSizes::new([frames[0].len() as u32; 2].into());
    let batch = Batch::from_sizes(frames.concat().into(), sizes).unwrap();
    rig.submit(batch, Flow::new(1));
    let mut failed = rig.passed(Duration::ZERO).len();
    let since = Instant::now();
    while failed < 2 {
        assert!(since.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
        failed += rig.passed(Duration::ZERO).len();
    }
    assert_eq!(rig.outstanding(), 0);
}

#[test]
fn worker_that_is_assigned_tasks_and_finishes_none_stalls() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 2, 9);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.passed(STALL_TIMEOUT / 2);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(0, 2), (0, 3)]);
    rig.passed(STALL_TIMEOUT / 2);
    assert!(rig.workers[&0].is_stalled);
    // A worker that keeps finishing tasks does not stall.
    rig.done(0, 1);
    assert!(!rig.workers[&0].is_stalled);
    for id in [2, 3] {
        rig.call("work", 1);
        rig.assigned();
        rig.passed(STALL_TIMEOUT / 2);
        assert!(!rig.workers[&0].is_stalled);
        rig.done(0, id);
    }
    rig.passed(STALL_TIMEOUT / 2);
    assert!(!rig.workers[&0].is_stalled);
}

#[test]
fn redelivered_task_of_an_unknown_function_is_assigned_to_a_worker_that_registers_it() {
    let mut rig = Rig::empty();
    rig.connect(0, &[], 1, 1);
    rig.call("late", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.lost(0);
    rig.connect(1, &["late"], 1, 1);
    rig.connect(2, &["other"], 1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
}

#[test]
fn max_deliver_of_1_fails_lost_tasks_and_has_no_suspects() {
    let mut rig = Rig::empty();
    rig.dispatch = Dispatch::new(1);
    rig.connect(0, &["work"], 2, 2);
    rig.call("work", 2);
    assert_eq!(rig.assigned(), [(0, 1), (0, 2)]);
    rig.return_task(0, 1);
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned(), [(0, 1)], "alongside the other task");
    assert_eq!(rig.lost(0).len(), 2);
    assert_eq!(rig.outstanding(), 0);
}

#[test]
fn redelivered_tasks_of_other_workers_do_not_stop_prefetching() {
    let mut rig = Rig::empty();
    rig.connect(0, &["a"], 1, 1);
    rig.connect(1, &["a"], 1, 0);
    rig.connect(2, &["b"], 1, 9);
    rig.call("a", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.lost(0);
    rig.call("b", 3);
    assert_eq!(rig.assigned(), [(2, 2), (2, 3), (2, 4)]);
}

#[test]
fn reassigned_task_is_newer_than_tasks_assigned_before() {
    let mut rig = Rig::empty();
    rig.connect(0, &["work"], 1, 2);
    rig.call("work", 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.lost(0);
    rig.call("work", 1);
    rig.reconnect(0, 0);
    // The task is returned and assigned again, so it counts as younger than an earlier one.
    rig.connect(1, &["work"], 1, 1);
    assert_eq!(rig.assigned(), [(1, 1)]);
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned(), [(0, 2)]);
    rig.return_task(1, 1);
    rig.done(0, 2);
    rig.call("work", 1);
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned(), [(0, 1)]);
    rig.set_credit(0, 1);
    let sequences: Vec<_> = rig.tasks[&1].holders.iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, [rig.last_sequence]);
}

#[test]
fn worker_with_a_suspect_or_a_reservation_is_not_reserved_again() {
    let mut rig = Rig::empty();
    // Two suspects of one function and one of another.
    for key in [8, 9] {
        rig.connect(key, &["a", "b"], 3, 3);
        if key == 8 {
            rig.call("a", 2);
            rig.call("b", 1);
        }
        assert_eq!(rig.assigned().len(), 3);
        rig.lost(key);
    }
    // The first suspect has an idle worker; the other workers have tasks.
    for key in 0..6 {
        let names: &[_] = if key < 5 {
            &["a", "b", "c"]
        } else {
            &["b", "c"]
        };
        rig.connect(key, names, 9, 0);
    }
    rig.connect(7, &["d"], 1, 0);
    for key in 1..6 {
        let now = rig.now;
        rig.dispatch.add_load(key, 2, now);
    }
    rig.set_credit(0, 1);
    assert_eq!(rig.assigned().len(), 1);
    assert!(rig.workers[&0].exclusive_task.is_some());
    for key in 1..6 {
        rig.set_credit(key, 9);
    }
    assert_eq!(rig.assigned(), []);
    let reserved: BTreeSet<_> = rig.pools.iter().filter_map(|it| it.reserved).collect();
    let keys: BTreeSet<_> = reserved.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys.len(), 2, "one worker for each function");
    assert!(!keys.contains(&0));
    assert_eq!(rig.workers.values().filter(|it| it.is_reserved).count(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Submit {
        function: usize,
        client: u64,
        len: usize,
    },
    Connect {
        list: usize,
        concurrency: u32,
        credit: u64,
    },
    /// The worker finishes one of its tasks.
    Finish {
        worker: usize,
        task: usize,
    },
    /// The worker finishes its oldest tasks in one batch.
    FinishRun {
        worker: usize,
    },
    Return {
        worker: usize,
        task: usize,
    },
    Lose {
        worker: usize,
        loss: usize,
    },
    Rejoin {
        worker: usize,
    },
    /// The worker runs another number of tasks at once from now on.
    Resize {
        worker: usize,
        concurrency: u32,
    },
    Forget {
        worker: usize,
    },
    /// A lost worker still sends a result.
    Late {
        worker: usize,
        task: usize,
    },
    /// A worker returns a task with which it was lost.
    LateReturn {
        worker: usize,
        task: usize,
    },
    Tick {
        milliseconds: u64,
    },
}

const NAMES: [&str; 4] = ["a", "b", "once", "echo"];
const LISTS: [&[&str]; 5] = [
    &["a", "b", "once"],
    &["a"],
    &["b", "once"],
    &["a", "b"],
    &[],
];

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..6_usize;
    let task = 0..8_usize;
    prop_oneof![
        4 => (0..NAMES.len(), 0..3_u64, 1..10_usize)
            .prop_map(|(function, client, len)| Step::Submit { function, client, len }),
        2 => (0..LISTS.len(), 0..4_u32, 0..12_u64)
            .prop_map(|(list, concurrency, credit)| Step::Connect { list, concurrency, credit }),
        6 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Step::Finish { worker, task }),
        2 => worker.clone().prop_map(|worker| Step::FinishRun { worker }),
        1 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Step::Return { worker, task }),
        3 => (worker.clone(), 0..3_usize).prop_map(|(worker, loss)| Step::Lose { worker, loss }),
        1 => worker.clone().prop_map(|worker| Step::Rejoin { worker }),
        1 => (worker.clone(), 1..5_u32)
            .prop_map(|(worker, concurrency)| Step::Resize { worker, concurrency }),
        1 => worker.clone().prop_map(|worker| Step::Forget { worker }),
        1 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Step::Late { worker, task }),
        1 => (worker, task).prop_map(|(worker, task)| Step::LateReturn { worker, task }),
        1 => (0..6000_u64).prop_map(|milliseconds| Step::Tick { milliseconds }),
    ]
}

#[derive(Debug, Clone)]
struct ModelTask {
    function: &'static str,
    failed_deliveries: usize,
    has_ended: bool,
}

#[derive(Debug)]
struct ModelWorker {
    key: WorkerKey,
    list: &'static [&'static str],
    concurrency: usize,
    /// The largest concurrency since the worker last had no more tasks than it runs at once.
    former_concurrency: usize,
    credit: u64,
    is_connected: bool,
    /// The worker's tasks, in the order of their assignment.
    assigned: Vec<TaskId>,
    /// The tasks that the worker had when it was lost, once for each loss.
    before: Vec<TaskId>,
    exclusive_task: Option<TaskId>,
}

/// A model of the expected state, alongside the dispatch.
struct Model {
    rig: Rig,
    workers: Vec<ModelWorker>,
    /// The tasks, by the number in their payload.
    tasks: Vec<ModelTask>,
    /// The number of each task id.
    numbers: BTreeMap<TaskId, usize>,
    last_key: WorkerKey,
    /// An upper bound of the time for which a suspect has waited.
    ticked: Duration,
}

fn number_of(frame: &Bytes) -> usize {
    let message = Message::decode(frame.clone()).unwrap();
    str::from_utf8(message.payload()).unwrap().parse().unwrap()
}

impl Model {
    fn new() -> Self {
        Self {
            rig: Rig::empty(),
            workers: Vec::new(),
            tasks: Vec::new(),
            numbers: BTreeMap::new(),
            last_key: 0,
            ticked: Duration::ZERO,
        }
    }

    fn submit(&mut self, function: &'static str, client: u64, len: usize) {
        let frames = (self.tasks.len()..self.tasks.len() + len).map(|number| {
            let message = Message::new(format!("m.{function}"), format!("{number:05}"));
            message.into_frame()
        });
        let frames: Vec<_> = frames.collect();
        let sizes = frames.iter().map(|frame| frame.len() as u32).collect();
        let batch = Batch::from_sizes(frames.concat().into(), BatchSizes::new(sizes)).unwrap();
        self.rig.submit(batch, Flow::new(client));
        let task = ModelTask {
            function,
            failed_deliveries: 0,
            has_ended: false,
        };
        self.tasks.extend(vec![task; len]);
    }

    fn connect(&mut self, list: &'static [&'static str], concurrency: u32, credit: u64) {
        self.last_key += 1;
        self.rig.connect(self.last_key, list, concurrency, credit);
        self.workers.push(ModelWorker {
            key: self.last_key,
            list,
            concurrency: concurrency as usize,
            former_concurrency: 0,
            credit,
            is_connected: true,
            assigned: Vec::new(),
            before: Vec::new(),
            exclusive_task: None,
        });
    }

    fn assign(&mut self) {
        for worker in &mut self.workers {
            if worker.assigned.len() <= worker.concurrency {
                worker.former_concurrency = 0;
            }
        }
        let now = self.rig.now;
        while let Some(assigned) = self.rig.assign(now) {
            let (key, first, batch) = (assigned.worker, assigned.first, assigned.tasks);
            let worker = self.workers.iter_mut().find(|it| it.key == key).unwrap();
            assert!(worker.is_connected, "a lost worker receives no task");
            assert!(worker.credit >= batch.len() as u64, "it has no credit");
            assert_eq!(
                worker.exclusive_task, None,
                "a worker with a suspect receives no task"
            );
            worker.credit -= batch.len() as u64;
            for (id, frame) in (first..).zip(batch.frames()) {
                let number = number_of(&frame);
                let task = &self.tasks[number];
                assert!(!task.has_ended, "it has ended");
                assert!(
                    self.numbers
                        .insert(id, number)
                        .is_none_or(|it| it == number)
                );
                let can_run = worker.list.is_empty() || task.function == "echo";
                assert!(can_run || worker.list.contains(&task.function), "{task:?}");
                if task.failed_deliveries > 0 && task.failed_deliveries + 1 >= MAX_DELIVER as usize
                {
                    worker.exclusive_task = Some(id);
                    let is_idle = worker.assigned.is_empty();
                    assert!(
                        is_idle || self.ticked >= RESERVATION_TIMEOUT,
                        "a suspect runs exclusively"
                    );
                } else if task.failed_deliveries > 0 && worker.concurrency > 0 {
                    assert!(
                        worker.assigned.len() < worker.concurrency,
                        "redelivered tasks are not prefetched"
                    );
                }
                worker.assigned.push(id);
            }
        }
        let assigned: BTreeSet<_> = self.workers.iter().flat_map(|it| &it.assigned).collect();
        assert_eq!(
            assigned.len(),
            self.workers
                .iter()
                .map(|it| it.assigned.len())
                .sum::<usize>()
        );
        let open = self.tasks.iter().filter(|task| !task.has_ended).count();
        assert_eq!(self.rig.outstanding(), open);
        let waiting: usize = self.rig.pools.iter().map(|pool| pool.waiting).sum();
        assert_eq!(waiting, open - assigned.len());
        for worker in self.workers.iter().filter(|worker| worker.is_connected) {
            assert_eq!(self.rig.workers[&worker.key].load, worker.assigned.len());
        }
    }

    fn end(&mut self, number: usize) {
        let has_ended = std::mem::replace(&mut self.tasks[number].has_ended, true);
        assert!(!has_ended, "the task ends twice");
        for worker in &mut self.workers {
            worker.assigned.retain(|id| self.numbers[id] != number);
            let ends = |id: &mut TaskId| self.numbers[id] == number;
            worker.exclusive_task.take_if(ends);
        }
    }

    fn finish(&mut self, index: usize, id: TaskId) {
        let (key, number) = (self.workers[index].key, self.numbers[&id]);
        let is_new = !self.tasks[number].has_ended;
        assert_eq!(self.rig.record_result(key, id), is_new);
        let has_task = self.workers[index].assigned.contains(&id);
        assert_eq!(self.rig.done(key, id), is_new && has_task);
        if is_new {
            self.end(number);
        }
    }

    fn lose(&mut self, index: usize, loss: WorkerLoss, failed: Vec<FailedTask>) {
        let worker = &mut self.workers[index];
        worker.is_connected = false;
        let assigned = std::mem::take(&mut worker.assigned);
        let exclusive = worker.exclusive_task.take();
        worker.before.extend(&assigned);
        let begun = match worker.concurrency {
            0 => assigned.len(),
            concurrency => concurrency.max(worker.former_concurrency),
        };
        worker.former_concurrency = 0;
        let mut failures = BTreeSet::new();
        for (position, id) in assigned.iter().enumerate() {
            let number = self.numbers[id];
            let is_begun = exclusive.map_or(position < begun, |task| task == *id);
            let task = &mut self.tasks[number];
            task.failed_deliveries += usize::from(is_begun);
            let once = task.function == "once" && worker.list.contains(&"once");
            if once && (is_begun || loss != WorkerLoss::Left)
                || task.failed_deliveries >= MAX_DELIVER as usize
            {
                failures.insert(number);
            }
        }
        let numbers: BTreeSet<_> = failed.iter().map(|it| number_of(&it.frame)).collect();
        assert_eq!(numbers.len(), failed.len());
        assert_eq!(numbers, failures);
        for number in numbers {
            self.end(number);
        }
    }

    fn step(&mut self, step: Step) {
        let workers = self.workers.len();
        let at = |worker: usize| (workers > 0).then(|| worker % workers);
        match step {
            Step::Submit {
                function,
                client,
                len,
            } => self.submit(NAMES[function], client, len),
            Step::Connect {
                list,
                concurrency,
                credit,
            } if workers < 6 => {
                self.connect(LISTS[list], concurrency, credit);
            }
            Step::Finish { worker, task } => {
                if let Some(index) = at(worker)
                    && let Some(&id) = self.workers[index].assigned.get(task)
                {
                    self.finish(index, id);
                    self.workers[index].credit += 1;
                    let (key, credit) = (self.workers[index].key, self.workers[index].credit);
                    self.rig.set_credit(key, credit);
                }
            }
            Step::FinishRun { worker } => {
                let Some(index) = at(worker) else { return };
                let assigned = self.workers[index].assigned.clone();
                let Some(&first) = assigned.first() else {
                    return;
                };
                let run = assigned
                    .iter()
                    .zip(first..)
                    .take_while(|(id, at)| **id == *at)
                    .count();
                let key = self.workers[index].key;
                let counted = self.rig.finish_range(key, first, run);
                let now = self.rig.now;
                self.rig.remove_load(key, counted, now);
                for id in &assigned[..counted] {
                    self.end(self.numbers[id]);
                }
                if counted == 0 {
                    self.finish(index, first);
                }
            }
            Step::Return { worker, task } => {
                if let Some(index) = at(worker)
                    && let Some(&id) = self.workers[index].assigned.get(task)
                {
                    let worker = &mut self.workers[index];
                    assert!(self.rig.return_task(worker.key, id));
                    worker.assigned.retain(|it| *it != id);
                    worker.exclusive_task.take_if(|task| *task == id);
                }
            }
            Step::Lose { worker, loss } => {
                let Some(index) = at(worker) else { return };
                let losses = [
                    WorkerLoss::Disconnected,
                    WorkerLoss::Silent(Duration::ZERO),
                    WorkerLoss::Left,
                ];
                let mut failed = Vec::new();
                self.rig
                    .lose_worker(self.workers[index].key, losses[loss], &mut failed);
                self.lose(index, losses[loss], failed);
            }
            Step::Rejoin { worker } => {
                let Some(index) = at(worker) else { return };
                self.workers[index].is_connected = true;
                let worker = &self.workers[index];
                self.rig.connect(worker.key, worker.list, 0, worker.credit);
            }
            Step::Resize {
                worker,
                concurrency,
            } => {
                let Some(index) = at(worker) else { return };
                let worker = &mut self.workers[index];
                if worker.concurrency > 0 {
                    self.rig.set_concurrency(worker.key, concurrency);
                    let before = worker.concurrency.max(worker.former_concurrency);
                    worker.former_concurrency = before;
                    worker.concurrency = concurrency as usize;
                }
            }
            Step::Forget { worker } => {
                let Some(index) = at(worker) else { return };
                let mut failed = Vec::new();
                self.rig.remove_worker(self.workers[index].key, &mut failed);
                self.lose(index, WorkerLoss::Left, failed);
                self.workers.remove(index);
            }
            Step::Late { worker, task } => {
                if let Some(index) = at(worker)
                    && let Some(&id) = self.workers[index].before.get(task)
                    && !self.workers[index].assigned.contains(&id)
                {
                    self.finish(index, id);
                    self.workers[index].before.remove(task);
                }
            }
            Step::LateReturn { worker, task } => {
                if let Some(index) = at(worker)
                    && let Some(&id) = self.workers[index].before.get(task)
                    && !self.workers[index].assigned.contains(&id)
                {
                    let worker = &mut self.workers[index];
                    let has_ended = self.tasks[self.numbers[&id]].has_ended;
                    assert_eq!(self.rig.return_task(worker.key, id), !has_ended);
                    worker.before.remove(task);
                }
            }
            Step::Tick { milliseconds } => {
                self.ticked += Duration::from_millis(milliseconds);
                // No task has a deadline; unknown functions are those that only removed workers have listed.
                let failed = self.rig.passed(Duration::from_millis(milliseconds));
                self.assert_none_failed(failed.len());
            }
            Step::Connect { .. } => {}
        }
    }

    fn assert_none_failed(&self, failed: usize) {
        assert_eq!(failed, 0);
    }
}

/// The key of a worker, its unfinished tasks, its finished tasks whose result is not sent, and its credit.
type RunningWorker = (WorkerKey, VecDeque<(TaskId, usize)>, Vec<TaskId>, u64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Each task ends exactly once, is only assigned to workers with its function and with credit, counts a failed
    /// delivery only if it was begun, and runs exclusively for its last delivery.
    #[test]
    fn dispatch_ends_each_task_once_whatever_happens_to_workers(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut model = Model::new();
        // All functions are registered.
        model.connect(LISTS[0], 1, 0);
        for step in steps {
            model.step(step);
            model.assign();
        }
        // In the end workers that run any function finish all tasks.
        for _ in 0..2 {
            model.connect(&[], 2, 1_000_000);
        }
        for _ in 0..3 * model.tasks.len() + 10 {
            model.assign();
            for index in 0..model.workers.len() {
                for id in model.workers[index].assigned.clone() {
                    if !model.tasks[model.numbers[&id]].has_ended {
                        model.finish(index, id);
                    }
                }
            }
        }
        model.assign();
        prop_assert_eq!(model.rig.outstanding(), 0);
        prop_assert!(model.tasks.iter().all(|task| task.has_ended));
    }

    /// Poison messages kill workers, together with their unsent results, and the workers restart: no other
    /// task fails.
    #[test]
    fn only_poison_messages_fail(
        poison in prop::collection::btree_set(0..60_usize, 1..4),
        (workers, concurrency, prefetch) in (1..4_usize, 1..5_u32, 0..20_u64),
        choices in prop::collection::vec((any::<u8>(), any::<u8>()), 1..50),
    ) {
        let mut rig = Rig::empty();
        let mut last_key = 0;
        let credit = u64::from(concurrency) + prefetch;
        // The running workers: see [`RunningWorker`].
        let mut running: Vec<RunningWorker> = Vec::new();
        for number in 0..60 {
            rig.call_of(number % 3, "work", &number.to_string());
        }
        let mut failed = Vec::new();
        for (worker, event) in choices.iter().cycle().take(10_000) {
            while running.len() < workers {
                last_key += 1;
                rig.connect(last_key, &["work"], concurrency, credit);
                running.push((last_key, VecDeque::new(), Vec::new(), credit));
            }
            let now = rig.now;
            while let Some(assigned) = rig.assign(now) {
                let (key, first, batch) = (assigned.worker, assigned.first, assigned.tasks);
                let worker = running.iter_mut().find(|it| it.0 == key).unwrap();
                let frames = batch.frames().map(|frame| number_of(&frame));
                worker.1.extend((first..).zip(frames));
                worker.3 -= batch.len() as u64;
            }
            let index = usize::from(*worker) % running.len();
            let (key, queue, unsaid, left) = &mut running[index];
            let begun = queue.len().min(concurrency as usize);
            let deadly = queue.iter().take(begun).any(|(_, number)| poison.contains(number));
            match event % 4 {
                0 if deadly => {
                    rig.lose_worker(*key, WorkerLoss::Disconnected, &mut failed);
                    running.remove(index);
                }
                1 => {
                    for id in std::mem::take(unsaid) {
                        prop_assert!(rig.record_result(*key, id));
                        prop_assert!(rig.done(*key, id));
                        *left += 1;
                    }
                    let (key, left) = (*key, *left);
                    rig.set_credit(key, left);
                }
                _ => {
                    let at = usize::from(*event) % begun.max(1);
                    if queue.get(at).is_some_and(|(_, number)| !poison.contains(number)) {
                        unsaid.extend(queue.remove(at).map(|(id, _)| id));
                    }
                }
            }
            if rig.outstanding() == 0 {
                break;
            }
        }
        let failed: BTreeSet<_> = failed.iter().map(|it| number_of(&it.frame)).collect();
        prop_assert!(failed.is_subset(&poison), "{failed:?}");
        // Some random choices never let a worker die, or never let it send a result.
        let kinds: BTreeSet<_> = choices.iter().map(|(_, event)| event % 4).collect();
        if kinds.len() == 4 && workers == 1 {
            prop_assert_eq!(failed, poison);
            prop_assert_eq!(rig.outstanding(), 0);
        }
    }
}
