//! Unacknowledged tasks of legacy workers, which are pushed again if no result arrives within `ack_wait`.
//!
//! A state machine without I/O; time is an argument. Each task has a number, which results repeat:
//! [`numbered`](PushedTasks::numbered) sets it, [`push`](PushedTasks::push) records that the task was pushed,
//! [`result`](PushedTasks::result) that a result has arrived, and [`due`](PushedTasks::due) returns the tasks to push again
//! and those that have reached `max_deliver`. The first worker that returns a result of a redelivered task wins; results
//! of the others are dropped.
//!
//! Peers may send tasks that have a number, of another master for example. **Invariant:** a number is of this component
//! only if it was issued for the same frame; any other number is replaced.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::id_map::IdMap;
use crate::message::Message;

/// Maximum number of overdue and answered tasks that are remembered in order to drop later results of other workers.
const MAX_REMEMBERED: usize = 10_000;

/// The unacknowledged tasks, and the redelivered tasks that were answered.
#[derive(Debug)]
pub(crate) struct PushedTasks {
    ack_wait: Duration,
    max_deliver: u32,
    last: u64,
    tasks: IdMap<PushedTask>,
    /// When each task was pushed, the oldest first; may contain tasks that were answered or pushed again.
    ages: VecDeque<(Instant, u64)>,
    /// Tasks that were overdue, the oldest first.
    remembered: VecDeque<u64>,
    hasher: RandomState,
}

#[derive(Debug)]
struct PushedTask {
    state: PushState,
    attempts: u32,
    pushed: Instant,
    /// The hash of the frame if the task was ever overdue: several workers may have it.
    overdue: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum PushState {
    /// A worker has the task.
    Pushed(Bytes),
    /// The task is to be pushed again.
    Overdue,
    /// A worker has answered the task, or it has failed.
    Ended,
}

/// Tasks without a result within `ack_wait`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OverdueTasks {
    /// Tasks to push again.
    pub(crate) redeliver: Vec<Bytes>,
    /// Tasks that were pushed `max_deliver` times.
    pub(crate) failed: Vec<Bytes>,
}

impl PushedTasks {
    /// Returns a state that pushes a task again after `ack_wait`, at most `max_deliver` times in total.
    pub(crate) fn new(ack_wait: Duration, max_deliver: u32) -> Self {
        Self {
            ack_wait,
            max_deliver: max_deliver.max(1),
            // A result for an earlier run has the number of no task of this run.
            last: fastrand::u64(..) >> 1,
            tasks: IdMap::default(),
            ages: VecDeque::new(),
            remembered: VecDeque::new(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the task with a number of this component, which it keeps when it is pushed again. Returns `None` if it was
    /// answered since it was overdue.
    ///
    /// A message with malformed extension fields has no number, and is not redelivered.
    pub(crate) fn numbered(&mut self, task: Bytes) -> Option<Bytes> {
        let Ok(mut message) = Message::decode(task.clone()) else {
            return Some(task);
        };
        if let Some(number) = self.own_number(&message, &task) {
            let has_ended = self.tasks[&number].state == PushState::Ended;
            return (!has_ended).then_some(task);
        }
        self.last += 1;
        message.set_task_number(self.last);
        match message.task_number() == self.last {
            true => Some(message.into_frame()),
            false => Some(task),
        }
    }

    /// Returns the number of a task if this component has issued it for this frame.
    fn own_number(&self, message: &Message, frame: &Bytes) -> Option<u64> {
        let number = message.task_number();
        let task = self.tasks.get(&number)?;
        let is_own = match (&task.state, task.overdue) {
            (PushState::Pushed(pushed), _) => pushed == frame,
            (_, Some(hash)) => hash == self.hasher.hash_one(frame),
            (_, None) => false,
        };
        is_own.then_some(number)
    }

    /// Records that a task was pushed. A task without a number (0) is not redelivered.
    pub(crate) fn push(&mut self, now: Instant, number: u64, frame: Bytes) {
        if number == 0 {
            return;
        }
        let task = self.tasks.entry(number).or_insert(PushedTask {
            state: PushState::Overdue,
            attempts: 0,
            pushed: now,
            overdue: None,
        });
        task.attempts += 1;
        task.pushed = now;
        if task.state != PushState::Ended {
            task.state = PushState::Pushed(frame);
            self.ages.push_back((now, number));
        }
    }

    /// Takes back the last [`push`](Self::push), because the task was not pushed after all.
    pub(crate) fn retract(&mut self, number: u64) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        self.ages.pop_back_if(|last| *last == (task.pushed, number));
        task.attempts -= 1;
        if task.attempts == 0 {
            self.tasks.remove(&number);
        } else if task.state != PushState::Ended {
            task.state = PushState::Overdue;
        }
    }

    /// Records a result. Returns `false` for a duplicate: the task was overdue and has already ended.
    pub(crate) fn result(&mut self, number: u64) -> bool {
        let Some(task) = self.tasks.get_mut(&number) else {
            // A further result of a task that was never overdue.
            return true;
        };
        if task.overdue.is_none() {
            self.tasks.remove(&number);
            return true;
        }
        std::mem::replace(&mut task.state, PushState::Ended) != PushState::Ended
    }

    /// Records that a task was answered with an error. Results of it that still arrive are duplicates if it was overdue.
    pub(crate) fn fail(&mut self, message: &Message, frame: &Bytes) {
        if let Some(number) = self.own_number(message, frame) {
            self.result(number);
        }
    }

    /// Returns when the next task is overdue.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        while let Some(&(pushed, number)) = self.ages.front() {
            let is_out = |task: &PushedTask| {
                matches!(task.state, PushState::Pushed(_)) && task.pushed == pushed
            };
            if self.tasks.get(&number).is_some_and(is_out) {
                return Some(pushed + self.ack_wait);
            }
            self.ages.pop_front();
        }
        None
    }

    /// Returns the tasks that are overdue.
    pub(crate) fn due(&mut self, now: Instant) -> OverdueTasks {
        let mut due = OverdueTasks::default();
        while self.next_due().is_some_and(|at| at <= now)
            && let Some((_, number)) = self.ages.pop_front()
            && let Some(task) = self.tasks.get_mut(&number)
        {
            let (tasks, next) = match task.attempts < self.max_deliver {
                true => (&mut due.redeliver, PushState::Overdue),
                false => (&mut due.failed, PushState::Ended),
            };
            if let PushState::Pushed(frame) = std::mem::replace(&mut task.state, next) {
                let hash = self.hasher.hash_one(&frame);
                tasks.push(frame);
                if task.overdue.replace(hash).is_none() {
                    self.remember(number);
                }
            }
        }
        due
    }

    /// Remembers a task that was overdue, and forgets the oldest one that no worker has.
    fn remember(&mut self, number: u64) {
        self.remembered.push_back(number);
        for _ in MAX_REMEMBERED..self.remembered.len() {
            let Some(oldest) = self.remembered.pop_front() else {
                return;
            };
            match self.tasks.get(&oldest).map(|task| &task.state) {
                Some(PushState::Pushed(_)) => self.remembered.push_back(oldest),
                _ => drop(self.tasks.remove(&oldest)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(10);

    fn due(redeliver: &[&'static str], failed: &[&'static str]) -> OverdueTasks {
        let frames = |frames: &[&'static str]| frames.iter().map(|&it| Bytes::from(it)).collect();
        OverdueTasks {
            redeliver: frames(redeliver),
            failed: frames(failed),
        }
    }

    #[test]
    fn task_without_a_result_within_ack_wait_is_redelivered() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 2);
        let start = Instant::now();
        pushed.push(start, 1, "one".into());
        pushed.push(start + ACK_WAIT / 2, 2, "two".into());
        assert!(pushed.result(2));
        assert!(pushed.result(2), "a task with several results");
        assert_eq!(pushed.next_due(), Some(start + ACK_WAIT));
        assert_eq!(pushed.due(start + ACK_WAIT / 2), due(&[], &[]));
        assert_eq!(pushed.due(start + ACK_WAIT), due(&["one"], &[]));
        assert_eq!(pushed.next_due(), None);

        pushed.push(start + 2 * ACK_WAIT, 1, "one".into());
        assert!(pushed.result(1));
        assert!(!pushed.result(1), "of the other worker");
        assert_eq!(pushed.next_due(), None);
    }

    fn number(frame: &Bytes) -> u64 {
        Message::decode(frame.clone()).unwrap().task_number()
    }

    fn task_with_number(number: u64) -> Bytes {
        let mut message = Message::default();
        message.set_task_number(number);
        message.into_frame()
    }

    #[test]
    fn number_of_another_component_is_replaced_and_an_own_one_kept() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 3);
        let now = Instant::now();
        let first = pushed.numbered(task_with_number(7)).unwrap();
        let own = number(&first);
        assert!(own != 7);
        pushed.push(now, own, first.clone());
        let forged = pushed.numbered(task_with_number(own)).unwrap();
        assert!(number(&forged) != own, "it is another task");

        let due = pushed.due(now + ACK_WAIT).redeliver;
        assert_eq!(due, [&first]);
        assert_eq!(pushed.numbered(first.clone()), Some(first.clone()));
        pushed.push(now + ACK_WAIT, own, first.clone());
        pushed.retract(own);
        assert_eq!(pushed.numbered(first.clone()), Some(first.clone()));
        let forged = pushed.numbered(task_with_number(own)).unwrap();
        assert!(number(&forged) != own);
        let other_run = PushedTasks::new(ACK_WAIT, 3).numbered(Bytes::new());
        assert!(number(&other_run.unwrap()) != own);
    }

    #[test]
    fn task_that_is_answered_before_it_is_pushed_again_is_not_pushed() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 3);
        let now = Instant::now();
        let task = pushed.numbered(Bytes::new()).unwrap();
        pushed.push(now, number(&task), task.clone());
        assert_eq!(pushed.due(now + ACK_WAIT).redeliver, [&task]);
        assert!(pushed.result(number(&task)));
        assert_eq!(pushed.numbered(task.clone()), None);
        // It was numbered before the result arrived.
        pushed.push(now + ACK_WAIT, number(&task), task.clone());
        assert!(!pushed.result(number(&task)));
        assert_eq!(pushed.next_due(), None);
    }

    #[test]
    fn result_of_a_task_that_has_failed_is_a_duplicate() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 1);
        let now = Instant::now();
        let task = pushed.numbered(Bytes::new()).unwrap();
        pushed.push(now, number(&task), task.clone());
        assert_eq!(pushed.due(now + ACK_WAIT).failed, [&task]);
        assert!(!pushed.result(number(&task)));

        let mut pushed = PushedTasks::new(ACK_WAIT, 2);
        let task = pushed.numbered(Bytes::new()).unwrap();
        pushed.push(now, number(&task), task.clone());
        assert_eq!(pushed.due(now + ACK_WAIT).redeliver, [&task]);
        let message = Message::decode(task.clone()).unwrap();
        pushed.fail(&message, &task);
        assert!(!pushed.result(number(&task)), "its deadline has passed");
    }

    #[test]
    fn malformed_extension_fields_disturb_no_other_task() {
        // Field 17 with a wrong type.
        let malformed = Bytes::from_static(b"\x88\x01\x01");
        let mut pushed = PushedTasks::new(ACK_WAIT, 2);
        let now = Instant::now();
        let task = pushed.numbered(malformed.clone()).unwrap();
        assert_eq!(task, malformed);
        for attempt in 0..3 {
            pushed.push(now + attempt * ACK_WAIT, number(&task), task.clone());
            assert_eq!(pushed.due(now + (attempt + 1) * ACK_WAIT), due(&[], &[]));
        }
        pushed.retract(number(&task));
        let next = pushed.numbered(Bytes::new()).unwrap();
        assert!(number(&next) > 0);
    }

    #[test]
    fn remembered_tasks_are_bounded_except_those_that_workers_have() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 9);
        let now = Instant::now();
        let all = MAX_REMEMBERED as u64 + 100;
        for number in 1..=all {
            pushed.push(now, number, "task".into());
        }
        assert_eq!(pushed.due(now + ACK_WAIT).redeliver.len() as u64, all);
        assert_eq!(pushed.tasks.len(), MAX_REMEMBERED);
        // The oldest ones are with workers again when others become overdue.
        let later = now + ACK_WAIT;
        for number in all + 1..=all + 100 {
            pushed.push(later, number, "task".into());
        }
        for number in 101..=200 {
            pushed.push(later + ACK_WAIT / 2, number, "task".into());
        }
        assert_eq!(pushed.due(later + ACK_WAIT).redeliver.len(), 100);
        assert!((101..=200).all(|number| pushed.tasks.contains_key(&number)));
        assert_eq!(pushed.tasks.len(), MAX_REMEMBERED);
    }

    #[test]
    fn task_that_was_not_pushed_after_all_counts_no_delivery() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 2);
        let start = Instant::now();
        pushed.push(start, 1, "one".into());
        pushed.retract(1);
        assert_eq!(pushed.next_due(), None);
        for attempt in 1..3 {
            pushed.push(start + attempt * ACK_WAIT, 1, "one".into());
            pushed.retract(1);
            pushed.push(start + attempt * ACK_WAIT, 1, "one".into());
            let expected = match attempt {
                1 => due(&["one"], &[]),
                _ => due(&[], &["one"]),
            };
            assert_eq!(pushed.due(start + (attempt + 1) * ACK_WAIT), expected);
        }
        pushed.retract(9);
    }

    #[test]
    fn task_fails_after_max_deliver_attempts() {
        let mut pushed = PushedTasks::new(ACK_WAIT, 2);
        let start = Instant::now();
        for attempt in 0..2 {
            assert_eq!(pushed.next_due(), None);
            pushed.push(start + attempt * ACK_WAIT, 1, "one".into());
            let expected = match attempt {
                0 => due(&["one"], &[]),
                _ => due(&[], &["one"]),
            };
            assert_eq!(pushed.due(start + (attempt + 1) * ACK_WAIT), expected);
        }
        assert!(!pushed.result(1), "after the error");
    }
}
