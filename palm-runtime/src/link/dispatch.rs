//! Which worker gets which task, and what becomes of the tasks of a worker that is lost.
//!
//! No I/O and no clock. A task goes to the worker that has the fewest, of those that have room, in turn
//! where several have as few. One whose worker is lost goes to another, before all that have not been
//! tried; the first answer counts, also that of a worker that was only thought to be lost. What has been
//! tried too often, or must not be tried twice, becomes a failure.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::CallFailure;
use crate::message::{Deadline, Message};

/// A session with a worker.
pub(crate) type WorkerKey = u64;

/// A task, as master and worker speak of it. Never 0.
pub(crate) type TaskId = u64;

/// By a number of ours, which nobody chooses in order to do harm.
pub(super) type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Task {
    frame: Bytes,
    /// How many results were passed on.
    passed_on: u64,
    /// Who was given it.
    holders: SmallVec<[Holder; 1]>,
    /// The names of those that were lost with it.
    lost: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Holder {
    key: WorkerKey,
    /// How many results it has given.
    results: u64,
    /// Whether it was lost since.
    is_lost: bool,
}

#[derive(Debug)]
struct Worker {
    name: Arc<str>,
    at_most_once: HashSet<String>,
    /// How many tasks it has.
    load: usize,
    /// How many more it takes.
    room: u64,
    /// When it was last given one.
    turn: u64,
    is_there: bool,
}

impl Worker {
    /// Its place among those that can be given a task.
    fn place(&self, key: WorkerKey) -> Option<Place> {
        let is_ready = self.is_there && self.room > 0;
        is_ready.then_some((self.load, self.turn, key))
    }
}

/// How much a worker has to do, when it was last given something, and who it is.
type Place = (usize, u64, WorkerKey);

/// Workers that can be given a task, the next one in front: sorted, since who is given one usually goes to the
/// end or close to it.
#[derive(Debug, Default)]
struct Ready(VecDeque<Place>);

impl Ready {
    fn first(&self) -> Option<&Place> {
        self.0.front()
    }

    fn pop_first(&mut self) -> Option<Place> {
        self.0.pop_front()
    }

    fn insert(&mut self, place: Place) {
        let index = self.0.partition_point(|other| *other < place);
        self.0.insert(index, place);
    }

    fn remove(&mut self, place: &Place) {
        if let Ok(index) = self.0.binary_search(place) {
            self.0.remove(index);
        }
    }
}

/// A task that nobody will do.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) frame: Bytes,
    pub(crate) failure: CallFailure,
}

/// The tasks that are with workers, or wait for one.
#[derive(Debug)]
pub(crate) struct Dispatch {
    tasks: ByNumber<Task>,
    /// Some of them may be done by now.
    waiting: VecDeque<TaskId>,
    workers: ByNumber<Worker>,
    ready: Ready,
    last_task: TaskId,
    turn: u64,
    max_attempts: u32,
}

impl Dispatch {
    /// `max_attempts`: how many workers may be lost with a task.
    pub(crate) fn new(max_attempts: u32) -> Self {
        Self {
            tasks: ByNumber::default(),
            waiting: VecDeque::new(),
            workers: ByNumber::default(),
            ready: Ready::default(),
            last_task: 0,
            turn: 0,
            max_attempts: max_attempts.max(1),
        }
    }

    /// Tasks that have no answer yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// Whether a task could be given to somebody now.
    pub(crate) fn has_room(&self) -> bool {
        self.ready.first().is_some()
    }

    /// How many tasks the worker has that would be given the next one, if there is one.
    pub(crate) fn least_load(&self) -> Option<usize> {
        self.ready.first().map(|&(load, ..)| load)
    }

    /// How many tasks wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A worker is there. `at_most_once` are the functions that must not be tried twice.
    pub(crate) fn join(&mut self, key: WorkerKey, name: Arc<str>, at_most_once: HashSet<String>) {
        self.workers.entry(key).or_insert_with(|| Worker {
            name,
            at_most_once,
            load: 0,
            room: 0,
            turn: 0,
            is_there: true,
        });
        // One that comes back has the room that it had.
        self.change(key, |worker| worker.is_there = true);
    }

    fn change(&mut self, key: WorkerKey, change: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&key) {
            let before = worker.place(key);
            change(worker);
            let after = worker.place(key);
            if before != after {
                if let Some(place) = before {
                    self.ready.remove(&place);
                }
                if let Some(place) = after {
                    self.ready.insert(place);
                }
            }
        }
    }

    /// How many more tasks a worker takes.
    pub(crate) fn set_room(&mut self, key: WorkerKey, room: u64) {
        self.change(key, |worker| worker.room = room);
    }

    /// Takes a task, which then waits for a worker.
    pub(crate) fn submit(&mut self, frame: Bytes) {
        self.last_task += 1;
        let task = Task {
            frame,
            passed_on: 0,
            holders: SmallVec::new(),
            lost: Vec::new(),
        };
        self.tasks.insert(self.last_task, task);
        self.waiting.push_back(self.last_task);
    }

    /// The next task that goes out, and to whom.
    pub(crate) fn assign(&mut self) -> Option<(WorkerKey, TaskId, Bytes)> {
        self.ready.first()?;
        loop {
            let id = self.waiting.pop_front()?;
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let (.., key) = self.ready.pop_first()?;
            task.holders.push(Holder {
                key,
                results: 0,
                is_lost: false,
            });
            self.turn += 1;
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.load += 1;
                worker.room -= 1;
                worker.turn = self.turn;
                if let Some(place) = worker.place(key) {
                    self.ready.insert(place);
                }
            }
            return Some((key, id, task.frame.clone()));
        }
    }

    /// A worker has given a result. Tells whether it is the first of its kind, and goes on.
    pub(crate) fn result(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else {
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

    /// A worker has given all results of a task. Tells whether that counts: then it has one less to do, for
    /// which [`unload`](Self::unload) is to be called.
    pub(crate) fn finish(&mut self, key: WorkerKey, id: TaskId) -> bool {
        let Entry::Occupied(task) = self.tasks.entry(id) else {
            return false;
        };
        let holders = &task.get().holders;
        let Some(holder) = holders.iter().find(|holder| holder.key == key) else {
            return false;
        };
        let has_load = !holder.is_lost;
        for holder in task.remove().holders {
            if holder.key != key && !holder.is_lost {
                self.unload(holder.key, 1);
            }
        }
        has_load
    }

    /// A worker has so many tasks less.
    pub(crate) fn unload(&mut self, key: WorkerKey, tasks: usize) {
        if tasks > 0 {
            self.change(key, |worker| {
                worker.load = worker.load.saturating_sub(tasks)
            });
        }
    }

    /// A worker is not heard of any more: its tasks go to others. What it answers all the same counts, if
    /// it is the first.
    pub(crate) fn lose(&mut self, key: WorkerKey, failed: &mut Vec<Failed>) {
        self.change(key, |worker| {
            worker.is_there = false;
            worker.load = 0;
        });
        let Some(worker) = self.workers.get(&key) else {
            return;
        };
        // Seldom, so that it is not remembered who has which.
        let mut lost = Vec::new();
        for (&id, task) in &mut self.tasks {
            let mut holders = task.holders.iter_mut();
            if let Some(holder) = holders.find(|holder| holder.key == key && !holder.is_lost) {
                holder.is_lost = true;
                lost.push(id);
            }
        }
        // The oldest is in front afterwards.
        lost.sort_unstable_by_key(|&id| std::cmp::Reverse(id));
        for id in lost {
            let task = self.tasks.get_mut(&id).expect("a worker has it");
            task.lost.push(worker.name.clone());
            let message = Message::decode(task.frame.clone()).unwrap_or_default();
            let function = message.step().map_or("", |step| step.function);
            let failure = if worker.at_most_once.contains(function) {
                let name = &worker.name;
                format!(
                    "the worker `{name}` was lost while it had it, and it must not be run twice"
                )
            } else if task.lost.len() >= self.max_attempts as usize {
                let names = task.lost.join("`, `");
                let attempts = task.lost.len();
                format!("{attempts} workers were lost while they had it: `{names}`")
            } else {
                self.waiting.push_front(id);
                continue;
            };
            let task = self.tasks.remove(&id).expect("it was just there");
            failed.push(Failed {
                frame: task.frame,
                failure: CallFailure::unavailable(failure.into()),
            });
        }
    }

    /// A worker has left, or will not come back.
    pub(crate) fn forget(&mut self, key: WorkerKey, failed: &mut Vec<Failed>) {
        self.lose(key, failed);
        self.workers.remove(&key);
    }

    /// Takes out what waits in vain: tasks whose deadline has passed.
    pub(crate) fn expire(&mut self, failed: &mut Vec<Failed>) {
        let there = self.workers.values().any(|worker| worker.is_there);
        let tasks = &mut self.tasks;
        self.waiting.retain(|id| {
            let Some(task) = tasks.get(id) else {
                return false;
            };
            let deadline = Message::decode(task.frame.clone())
                .unwrap_or_default()
                .deadline();
            if !deadline.is_some_and(Deadline::has_passed) {
                return true;
            }
            let frame = tasks.remove(id).expect("it was just there").frame;
            let failure = if there {
                CallFailure::late()
            } else {
                CallFailure::unavailable("no worker is connected".into())
            };
            failed.push(Failed { frame, failure });
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dispatch with workers `0..`, each with this much room.
    fn dispatch(rooms: &[u64]) -> Dispatch {
        let mut dispatch = Dispatch::new(3);
        for (key, &room) in rooms.iter().enumerate() {
            let once = HashSet::from(["once".to_owned()]);
            dispatch.join(key as u64, format!("w{key}").into(), once);
            dispatch.set_room(key as u64, room);
        }
        dispatch
    }

    fn submit(dispatch: &mut Dispatch, count: usize) {
        for _ in 0..count {
            dispatch.submit(Message::new("master.work", "x").into_frame());
        }
    }

    /// Who is given which task, until nobody is given one.
    fn assigned(dispatch: &mut Dispatch) -> Vec<(WorkerKey, TaskId)> {
        std::iter::from_fn(|| dispatch.assign())
            .map(|(key, id, _)| (key, id))
            .collect()
    }

    fn finish(dispatch: &mut Dispatch, key: WorkerKey, id: TaskId) {
        let finished = dispatch.finish(key, id);
        dispatch.unload(key, usize::from(finished));
    }

    fn lose(dispatch: &mut Dispatch, key: WorkerKey) -> Vec<String> {
        let mut failed = Vec::new();
        dispatch.lose(key, &mut failed);
        failed
            .into_iter()
            .map(|failed| failed.failure.chain())
            .collect()
    }

    #[test]
    fn tasks_go_to_who_has_the_fewest_in_turn() {
        let mut dispatch = dispatch(&[2, 1, 2]);
        submit(&mut dispatch, 6);
        assert_eq!(
            assigned(&mut dispatch),
            [(0, 1), (1, 2), (2, 3), (0, 4), (2, 5)]
        );
        assert!(!dispatch.has_room());
        // Who is done gets the next one.
        assert!(dispatch.result(1, 2));
        finish(&mut dispatch, 1, 2);
        dispatch.set_room(1, 1);
        assert_eq!(assigned(&mut dispatch), [(1, 6)]);
        assert_eq!(dispatch.outstanding(), 5);
    }

    #[test]
    fn what_a_lost_worker_had_goes_first() {
        let mut dispatch = dispatch(&[2, 0]);
        submit(&mut dispatch, 3);
        assert_eq!(assigned(&mut dispatch), [(0, 1), (0, 2)]);
        assert_eq!(lose(&mut dispatch, 0), [""; 0]);
        dispatch.set_room(1, 5);
        assert_eq!(assigned(&mut dispatch), [(1, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn the_first_answer_counts() {
        let mut dispatch = dispatch(&[1, 0]);
        submit(&mut dispatch, 1);
        assert_eq!(assigned(&mut dispatch), [(0, 1)]);
        assert!(dispatch.result(0, 1));
        lose(&mut dispatch, 0);
        dispatch.set_room(1, 1);
        assert_eq!(assigned(&mut dispatch), [(1, 1)]);
        // The result that was passed on is not passed on again; the next one is, whoever gives it.
        assert!(!dispatch.result(1, 1));
        assert!(dispatch.result(0, 1));
        assert!(!dispatch.result(1, 1));
        finish(&mut dispatch, 0, 1);
        assert!(!dispatch.result(1, 1), "it is done");
        finish(&mut dispatch, 1, 1);
        assert_eq!(dispatch.outstanding(), 0);
        // Who was only thought to be lost gets work again.
        dispatch.join(0, "w0".into(), HashSet::new());
        dispatch.set_room(0, 1);
        submit(&mut dispatch, 1);
        assert_eq!(assigned(&mut dispatch).len(), 1);
    }

    #[test]
    fn who_comes_back_with_the_same_room_gets_work_again() {
        let mut dispatch = dispatch(&[1]);
        lose(&mut dispatch, 0);
        submit(&mut dispatch, 1);
        assert_eq!(assigned(&mut dispatch), []);
        dispatch.join(0, "w0".into(), HashSet::new());
        dispatch.set_room(0, 1);
        assert_eq!(assigned(&mut dispatch), [(0, 1)]);
    }

    #[test]
    fn what_waits_again_may_be_answered_meanwhile() {
        let mut dispatch = dispatch(&[1]);
        submit(&mut dispatch, 2);
        assigned(&mut dispatch);
        lose(&mut dispatch, 0);
        assert_eq!(dispatch.waiting(), 2);
        assert!(dispatch.result(0, 1));
        finish(&mut dispatch, 0, 1);
        dispatch.join(0, "w0".into(), HashSet::new());
        dispatch.set_room(0, 2);
        assert_eq!(assigned(&mut dispatch), [(0, 2)]);
    }

    #[test]
    fn what_was_tried_too_often_fails_with_the_names_of_the_workers() {
        let mut dispatch = dispatch(&[1, 1, 1]);
        submit(&mut dispatch, 1);
        for key in [0, 1] {
            assert_eq!(assigned(&mut dispatch), [(key, 1)]);
            assert_eq!(lose(&mut dispatch, key), [""; 0]);
        }
        assert_eq!(assigned(&mut dispatch), [(2, 1)]);
        let expected = "3 workers were lost while they had it: `w0`, `w1`, `w2`";
        assert_eq!(lose(&mut dispatch, 2), [expected]);
        assert_eq!(dispatch.outstanding(), 0);
        // Too late.
        assert!(!dispatch.result(0, 1));
    }

    #[test]
    fn what_must_not_be_run_twice_fails_at_once() {
        let mut dispatch = dispatch(&[1, 1]);
        dispatch.submit(Message::new("master.once", "x").into_frame());
        assigned(&mut dispatch);
        let expected = "the worker `w0` was lost while it had it, and it must not be run twice";
        assert_eq!(lose(&mut dispatch, 0), [expected]);
    }

    #[test]
    fn nobody_answers_for_somebody_else() {
        let mut dispatch = dispatch(&[1, 1]);
        submit(&mut dispatch, 1);
        assert_eq!(assigned(&mut dispatch), [(0, 1)]);
        assert!(!dispatch.result(1, 1));
        finish(&mut dispatch, 1, 1);
        assert_eq!(dispatch.outstanding(), 1);
    }
}
