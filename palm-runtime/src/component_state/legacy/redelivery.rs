//! Unacknowledged tasks of legacy workers, which are pushed again if no result arrives within `ack_wait`.
//!
//! A state machine without I/O; time is an argument. Each task has a number, which results repeat:
//! [`push`](PushedTasks::push) records that it was pushed, [`result`](PushedTasks::result) that a result has arrived, and
//! [`due`](PushedTasks::due) returns the tasks to push again and those that have reached `max_deliver`. The first worker
//! that returns a result of a redelivered task wins; results of the others are dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::id_map::IdMap;
use crate::message::Message;

/// Maximum number of answered tasks that are remembered in order to drop later results of other workers.
const MAX_ANSWERED: usize = 10_000;

/// The unacknowledged tasks, and the redelivered tasks that were answered.
#[derive(Debug)]
pub(crate) struct PushedTasks {
    ack_wait: Duration,
    max_deliver: u32,
    last: u64,
    tasks: IdMap<PushedTask>,
    /// When each task was pushed, the oldest first; may contain tasks that were answered or pushed again.
    ages: VecDeque<(Instant, u64)>,
    /// Redelivered tasks that were answered, the oldest first.
    answered: VecDeque<u64>,
}

#[derive(Debug)]
struct PushedTask {
    frame: Bytes,
    attempts: u32,
    pushed: Instant,
    is_answered: bool,
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
            // Numbers of other components, and of earlier runs of this one, are others.
            last: fastrand::u64(..) >> 1,
            tasks: IdMap::default(),
            ages: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    /// Returns the task with a number of this component. A task that is pushed again keeps its number. A number that
    /// another component has set is replaced.
    pub(crate) fn numbered(&mut self, task: Bytes) -> Bytes {
        let Ok(mut message) = Message::decode(task.clone()) else {
            return task;
        };
        let pushed = self.tasks.get(&message.task_number());
        if pushed.is_some_and(|pushed| pushed.is_answered || pushed.frame == task) {
            return task;
        }
        self.last += 1;
        message.set_task_number(self.last);
        message.into_frame()
    }

    /// Records that a task was pushed.
    pub(crate) fn push(&mut self, now: Instant, number: u64, frame: Bytes) {
        let task = self.tasks.entry(number).or_insert(PushedTask {
            frame,
            attempts: 0,
            pushed: now,
            is_answered: false,
        });
        task.attempts += 1;
        task.pushed = now;
        self.ages.push_back((now, number));
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
        }
    }

    /// Records a result. Returns `false` for a duplicate: the task was redelivered and is already answered.
    pub(crate) fn result(&mut self, number: u64) -> bool {
        let Some(task) = self.tasks.get_mut(&number) else {
            // A further result of a task that was pushed once.
            return true;
        };
        if task.attempts == 1 {
            self.tasks.remove(&number);
            return true;
        }
        if std::mem::replace(&mut task.is_answered, true) {
            return false;
        }
        task.frame = Bytes::new();
        self.answered.push_back(number);
        if self.answered.len() > MAX_ANSWERED
            && let Some(oldest) = self.answered.pop_front()
        {
            self.tasks.remove(&oldest);
        }
        true
    }

    /// Returns when the next task is overdue.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        while let Some(&(pushed, number)) = self.ages.front() {
            let is_out = |task: &PushedTask| !task.is_answered && task.pushed == pushed;
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
            && let Some(task) = self.tasks.get(&number)
        {
            if task.attempts < self.max_deliver {
                due.redeliver.push(task.frame.clone());
            } else {
                due.failed.push(task.frame.clone());
                // A later result is a duplicate of the error.
                self.result(number);
            }
        }
        due
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

    #[test]
    fn task_has_a_number_of_this_component_until_it_is_answered() {
        let number = |frame: &Bytes| Message::decode(frame.clone()).unwrap().task_number();
        let mut pushed = PushedTasks::new(ACK_WAIT, 3);
        let now = Instant::now();
        let mut message = Message::default();
        message.set_task_number(7);
        let first = pushed.numbered(message.into_frame());
        assert!(number(&first) != 7, "the number of another component");
        pushed.push(now, number(&first), first.clone());

        let copy = pushed.numbered(first.clone());
        assert_eq!(copy, first, "the task is pushed again");
        pushed.push(now, number(&first), copy.clone());
        assert!(pushed.result(number(&first)));
        let late = pushed.numbered(copy);
        assert!(!pushed.result(number(&late)), "it is answered already");

        let mut other = Message::default();
        other.set_task_number(number(&first) + 1);
        let other = other.into_frame();
        let second = pushed.numbered(other.clone());
        pushed.push(now, number(&second), second.clone());
        let third = pushed.numbered(other);
        assert!(number(&third) != number(&second), "it is another task");
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
