//! A task at a worker, from when it comes in until nothing of it is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::connection::Link;
use crate::message::Group;

/// What a message of a worker belongs to: its clones, and the messages that are made of it, share it. The
/// task is done when the last of them is gone, whatever has become of them.
pub(crate) struct Task {
    /// `None` once it is given up.
    held: Option<Arc<Held>>,
    /// Which of those it is.
    index: usize,
}

/// Tasks that came in together.
struct Held {
    link: Arc<Link>,
    tasks: SmallVec<[One; 1]>,
}

struct One {
    task: Received,
    /// How many messages belong to it.
    messages: AtomicU32,
}

/// A task, or messages that go the same way, as they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which of the link's sessions it came in.
    pub(super) session: u64,
    /// Of the first one.
    pub(super) tag: u64,
    pub(super) step: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Received {
    /// Each of the messages.
    pub(crate) fn each(self, group: &Group) -> impl Iterator<Item = (Self, Bytes)> + use<> {
        (0..).zip(group.frames()).map(move |(index, frame)| {
            let one = Self {
                tag: self.tag.wrapping_add(self.step.wrapping_mul(index)),
                messages: 1,
                bytes: frame.len() as u64,
                ..self
            };
            (one, frame)
        })
    }

    /// So many of the messages.
    pub(crate) fn part(self, messages: u64, bytes: u64) -> Self {
        Self {
            messages,
            bytes,
            ..self
        }
    }

    /// Whether it was published under the topic with this number, of those that are followed.
    pub(crate) fn is_of_topic(self, number: u64) -> bool {
        self.tag == number + 1
    }
}

impl Task {
    /// Each of some tasks, and its message.
    pub(super) fn each(
        link: Arc<Link>,
        received: Received,
        group: &Group,
    ) -> impl Iterator<Item = (Self, Bytes)> + use<> {
        let tasks = received.each(group).map(|(task, _)| One {
            task,
            messages: AtomicU32::new(1),
        });
        let tasks = tasks.collect();
        let held = Arc::new(Held { link, tasks });
        group.frames().enumerate().map(move |(index, frame)| {
            let held = Some(held.clone());
            (Self { held, index }, frame)
        })
    }

    /// Gives the reference up, without ending the task; tells what it is, and whether this was the last.
    pub(super) fn give_up(mut self) -> (Received, bool) {
        let held = self.held.take().expect("it is given up once");
        held.give_up(self.index)
    }
}

impl Held {
    fn give_up(&self, index: usize) -> (Received, bool) {
        let one = &self.tasks[index];
        (one.task, one.messages.fetch_sub(1, Ordering::AcqRel) == 1)
    }
}

impl Clone for Task {
    fn clone(&self) -> Self {
        if let Some(held) = &self.held {
            held.tasks[self.index]
                .messages
                .fetch_add(1, Ordering::Relaxed);
        }
        Self {
            held: self.held.clone(),
            index: self.index,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(held) = &self.held
            && let (task, true) = held.give_up(self.index)
        {
            held.link.end(task, Instant::now());
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held = self.held.as_ref();
        held.map(|held| held.tasks[self.index].task).fmt(formatter)
    }
}
