//! Which worker gets which task, and what becomes of the tasks of a worker that is lost.
//!
//! No I/O and no clock. A task goes to the worker that has the fewest, of those that have room, in turn
//! where several have as few. One whose worker is lost goes to another, before all that have not been
//! tried; the first answer counts, also that of a worker that was only thought to be lost. What has been
//! tried too often, or must not be tried twice, becomes a failure.
//!
//! Tasks that come in a group are given and answered together, and cost about as much as one, as long as nothing
//! else happens to them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::by_number::ByNumber;
use crate::error::CallFailure;
use crate::message::{Deadline, Group, Message};

/// A session with a worker.
pub(crate) type WorkerKey = u64;

/// A task, as master and worker speak of it. Never 0.
pub(crate) type TaskId = u64;

#[derive(Debug, Default)]
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

impl Task {
    fn new(frame: Bytes) -> Self {
        Self {
            frame,
            ..Self::default()
        }
    }

    /// It is given to a worker.
    fn give(&mut self, key: WorkerKey) {
        self.holders.push(Holder {
            key,
            results: 0,
            is_lost: false,
        });
    }
}

/// Tasks with numbers in a row that one worker has, of which each gets one result.
#[derive(Debug)]
struct HeldGroup {
    group: Group,
    key: WorkerKey,
    /// A bit for each: whether it has its result.
    done: SmallVec<[u64; 4]>,
    /// How many have none.
    left: usize,
}

impl HeldGroup {
    fn new(group: Group, key: WorkerKey) -> Self {
        Self {
            done: SmallVec::from_elem(0, group.len().div_ceil(64)),
            left: group.len(),
            group,
            key,
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

/// What waits for a worker.
#[derive(Debug)]
enum Waiting {
    /// It may be done by now.
    One(TaskId),
    /// From this number on. Nobody has had them.
    Group(TaskId, Group),
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
    /// Those that are with a worker together, by the number of the first one.
    together: BTreeMap<TaskId, HeldGroup>,
    waiting: VecDeque<Waiting>,
    /// How many tasks wait, and how many that have no answer are not in `tasks`.
    waiting_tasks: usize,
    in_groups: usize,
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
            together: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_tasks: 0,
            in_groups: 0,
            workers: ByNumber::default(),
            ready: Ready::default(),
            last_task: 0,
            turn: 0,
            max_attempts: max_attempts.max(1),
        }
    }

    /// Tasks that have no answer yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.tasks.len() + self.in_groups
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
        self.waiting_tasks
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

    /// Takes tasks, which then wait for a worker.
    pub(crate) fn submit(&mut self, group: Group) {
        let first = self.last_task + 1;
        self.last_task += group.len() as u64;
        self.waiting_tasks += group.len();
        if group.len() == 1 {
            self.tasks.insert(first, Task::new(group.first()));
            self.waiting.push_back(Waiting::One(first));
        } else {
            self.in_groups += group.len();
            self.waiting.push_back(Waiting::Group(first, group));
        }
    }

    /// The next tasks that go out, with the number of the first one, and to whom.
    pub(crate) fn assign(&mut self) -> Option<(WorkerKey, TaskId, Group)> {
        loop {
            self.ready.first()?;
            match self.waiting.pop_front()? {
                Waiting::One(id) => {
                    self.waiting_tasks -= 1;
                    if let Some(task) = self.tasks.get_mut(&id) {
                        let (.., key) = self.ready.pop_first()?;
                        task.give(key);
                        let group = task.frame.clone().into();
                        self.load(key, 1);
                        return Some((key, id, group));
                    }
                }
                Waiting::Group(first, group) => return self.assign_of(first, group),
            }
        }
    }

    /// Gives as many of a group to the next worker as it has room for, and as are fair.
    fn assign_of(&mut self, first: TaskId, group: Group) -> Option<(WorkerKey, TaskId, Group)> {
        let fair = self.fair_share();
        let (.., key) = self.ready.pop_first()?;
        let room = self.workers.get(&key).map_or(0, |worker| worker.room);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let count = group.len().min(room).min(fair).max(1);
        let mut rest = group;
        let group = if count < rest.len() {
            let front = rest.split_to(count);
            let next = first + count as u64;
            self.waiting.push_front(Waiting::Group(next, rest));
            front
        } else {
            rest
        };
        self.waiting_tasks -= count;
        self.load(key, count);
        if count == 1 {
            self.in_groups -= 1;
            let mut task = Task::new(group.first());
            task.give(key);
            self.tasks.insert(first, task);
        } else {
            let together = HeldGroup::new(group.clone(), key);
            self.together.insert(first, together);
        }
        Some((key, first, group))
    }

    /// How many of the tasks that wait the next worker may have, so that others get as many.
    fn fair_share(&self) -> usize {
        let mut places = self.ready.0.iter().map(|&(load, ..)| load);
        let ahead = match (places.next(), places.next()) {
            (Some(least), Some(next)) => next - least,
            _ => 0,
        };
        let rest = self.waiting_tasks.saturating_sub(ahead);
        ahead + rest.div_ceil(self.ready.0.len().max(1))
    }

    /// A worker, which was taken out of those that are ready, has been given tasks.
    fn load(&mut self, key: WorkerKey, tasks: usize) {
        self.turn += 1;
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.load += tasks;
            worker.room -= tasks as u64;
            worker.turn = self.turn;
            if let Some(place) = worker.place(key) {
                self.ready.insert(place);
            }
        }
    }

    /// A worker has given one result, the last one, for each of some tasks in a row. Tells for how many of them,
    /// from the first one on, that is as simple as it seems: these count, and [`unload`](Self::unload) is to be
    /// called for them. The others are to be told of one by one.
    pub(crate) fn results(&mut self, key: WorkerKey, first: TaskId, tasks: usize) -> usize {
        let mut counted = 0;
        while counted < tasks {
            let id = first + counted as u64;
            let Some((&begin, together)) = self.together.range_mut(..=id).next_back() else {
                break;
            };
            let index = (id - begin) as usize;
            let end = together.group.len().min(index + tasks - counted);
            let is_new = |index: usize| !together.is_done(index);
            if together.key != key || index >= end || !(index..end).all(is_new) {
                break;
            }
            for index in index..end {
                together.finish(index);
            }
            counted += end - index;
            self.in_groups -= end - index;
            if together.left == 0 {
                self.together.remove(&begin);
            }
        }
        counted
    }

    /// Takes the group apart that a task is in, if it is in one.
    fn take_apart(&mut self, id: TaskId) {
        let Some((&first, together)) = self.together.range(..=id).next_back() else {
            return;
        };
        if id - first >= together.group.len() as u64 {
            return;
        }
        let together = self.together.remove(&first).expect("it was just there");
        self.in_groups -= together.left;
        for (index, frame) in together.group.frames().enumerate() {
            if !together.is_done(index) {
                let mut task = Task::new(frame);
                task.give(together.key);
                self.tasks.insert(first + index as u64, task);
            }
        }
    }

    /// A task, taken out of the group that it may be in.
    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        if !self.tasks.contains_key(&id) {
            self.take_apart(id);
        }
        self.tasks.get_mut(&id)
    }

    /// A worker has given a result. Tells whether it is the first of its kind, and goes on.
    pub(crate) fn result(&mut self, key: WorkerKey, id: TaskId) -> bool {
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

    /// A worker has given all results of a task. Tells whether that counts: then it has one less to do, for
    /// which [`unload`](Self::unload) is to be called.
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
        let name = worker.name.clone();
        let once = worker.at_most_once.clone();
        let together = self.together.iter();
        let together = together.filter(|(_, together)| together.key == key);
        for first in together.map(|(&first, _)| first).collect::<Vec<_>>() {
            self.take_apart(first);
        }
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
            task.lost.push(name.clone());
            let message = Message::decode(task.frame.clone()).unwrap_or_default();
            let function = message.step().map_or("", |step| step.function);
            let failure = if once.contains(function) {
                format!(
                    "the worker `{name}` was lost while it had it, and it must not be run twice"
                )
            } else if task.lost.len() >= self.max_attempts as usize {
                let names = task.lost.join("`, `");
                let attempts = task.lost.len();
                format!("{attempts} workers were lost while they had it: `{names}`")
            } else {
                self.waiting.push_front(Waiting::One(id));
                self.waiting_tasks += 1;
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
        let has_passed = |frame: Bytes| {
            let message = Message::decode(frame).unwrap_or_default();
            message.deadline().is_some_and(Deadline::has_passed)
        };
        let there = self.workers.values().any(|worker| worker.is_there);
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Group(first, group) if group.frames().any(has_passed) => {
                    self.in_groups -= group.len();
                    for (id, frame) in (first..).zip(group.frames()) {
                        self.tasks.insert(id, Task::new(frame));
                        self.waiting.push_back(Waiting::One(id));
                    }
                }
                waiting => self.waiting.push_back(waiting),
            }
        }
        let tasks = &mut self.tasks;
        self.waiting.retain(|waiting| {
            let Waiting::One(id) = waiting else {
                return true;
            };
            let task = tasks.get(id);
            let is_late = task.is_some_and(|task| has_passed(task.frame.clone()));
            if task.is_some() && !is_late {
                return true;
            }
            self.waiting_tasks -= 1;
            if let Some(Task { frame, .. }) = tasks.remove(id) {
                let failure = if there {
                    CallFailure::late()
                } else {
                    CallFailure::unavailable("no worker is connected".into())
                };
                failed.push(Failed { frame, failure });
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Sizes;

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
            dispatch.submit(Message::new("master.work", "x").into_frame().into());
        }
    }

    fn submit_group(dispatch: &mut Dispatch, len: usize) {
        let frame = Message::new("master.work", "x").into_frame();
        let sizes = Sizes::new(vec![frame.len() as u32; len].into());
        let group = Group::of(frame.repeat(len).into(), sizes).unwrap();
        dispatch.submit(group);
    }

    /// Who is given how many tasks from which on, until nobody is given any.
    fn assigned_groups(dispatch: &mut Dispatch) -> Vec<(WorkerKey, TaskId, usize)> {
        std::iter::from_fn(|| dispatch.assign())
            .map(|(key, id, group)| (key, id, group.len()))
            .collect()
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
        dispatch.submit(Message::new("master.once", "x").into_frame().into());
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

    #[test]
    fn a_group_is_shared_among_those_that_have_room() {
        let mut dispatch = dispatch(&[100, 100, 3]);
        submit_group(&mut dispatch, 20);
        assert_eq!(
            assigned_groups(&mut dispatch),
            [(0, 1, 7), (1, 8, 5), (2, 13, 3), (1, 16, 4), (0, 20, 1)]
        );
        assert_eq!((dispatch.waiting(), dispatch.outstanding()), (0, 20));
    }

    #[test]
    fn who_has_less_gets_more_of_a_group() {
        let mut dispatch = dispatch(&[100, 0]);
        submit_group(&mut dispatch, 10);
        assert_eq!(assigned_groups(&mut dispatch), [(0, 1, 10)]);
        dispatch.set_room(1, 100);
        submit_group(&mut dispatch, 10);
        assert_eq!(assigned_groups(&mut dispatch), [(1, 11, 10)]);
    }

    #[test]
    fn results_in_a_row_count_together() {
        let mut dispatch = dispatch(&[8, 0]);
        submit_group(&mut dispatch, 4);
        submit_group(&mut dispatch, 4);
        assert_eq!(assigned_groups(&mut dispatch), [(0, 1, 4), (0, 5, 4)]);
        assert_eq!(dispatch.results(1, 1, 4), 0, "another one has them");
        assert_eq!(dispatch.results(0, 1, 2), 2);
        assert_eq!(dispatch.results(0, 2, 2), 0, "the second one is done");
        assert_eq!(dispatch.outstanding(), 6);
        assert_eq!(dispatch.results(0, 3, 4), 4, "of both groups");
        assert_eq!(dispatch.results(0, 7, 9), 2, "there are no more");
        assert_eq!((dispatch.outstanding(), dispatch.together.len()), (0, 0));
    }

    #[test]
    fn what_is_left_of_a_group_of_a_lost_worker_goes_to_another_one() {
        let mut dispatch = dispatch(&[6, 0]);
        submit_group(&mut dispatch, 6);
        assert_eq!(assigned_groups(&mut dispatch), [(0, 1, 6)]);
        assert_eq!(dispatch.results(0, 2, 2), 2);
        assert_eq!(lose(&mut dispatch, 0), [""; 0]);
        dispatch.set_room(1, 9);
        assert_eq!(assigned(&mut dispatch), [(1, 1), (1, 4), (1, 5), (1, 6)]);
        // Who was thought to be lost is first with one.
        assert_eq!(dispatch.results(0, 4, 1), 0);
        assert!(dispatch.result(0, 4));
        finish(&mut dispatch, 0, 4);
        assert!(!dispatch.result(1, 4));
        assert_eq!(dispatch.outstanding(), 3);
    }

    #[test]
    fn one_of_a_group_may_have_several_results() {
        let mut dispatch = dispatch(&[3]);
        submit_group(&mut dispatch, 3);
        assigned(&mut dispatch);
        for _ in 0..2 {
            assert!(dispatch.result(0, 2));
        }
        finish(&mut dispatch, 0, 2);
        assert_eq!(dispatch.results(0, 1, 1), 0);
        assert!(dispatch.result(0, 1));
        finish(&mut dispatch, 0, 1);
        assert_eq!(dispatch.outstanding(), 1);
    }

    #[test]
    fn those_of_a_group_that_wait_for_too_long_fail() {
        let mut dispatch = dispatch(&[0]);
        let mut frames = Vec::new();
        for deadline in [Duration::ZERO, Duration::from_secs(3600)] {
            let deadline = Deadline::after(deadline).encode();
            let frame = Message::new("master.work", "x").into_frame();
            frames.push([&frame[..], &deadline].concat());
        }
        let sizes = Sizes::new([frames[0].len() as u32; 2].into());
        dispatch.submit(Group::of(frames.concat().into(), sizes).unwrap());
        let mut failed = Vec::new();
        dispatch.expire(&mut failed);
        assert_eq!(failed.len(), 1);
        assert_eq!((dispatch.waiting(), dispatch.outstanding()), (1, 1));
        dispatch.set_room(0, 9);
        assert_eq!(assigned(&mut dispatch), [(0, 2)]);
    }
}
