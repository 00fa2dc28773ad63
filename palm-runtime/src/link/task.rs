//! A task at a worker, from when it comes in until nothing of it is left.

use std::sync::Arc;
use std::time::Instant;

use super::connection::Link;

/// What a message of a worker belongs to: its clones, and the messages that are made of it, share it. The
/// task is done when the last of them is gone, whatever has become of them.
#[derive(Clone)]
pub(crate) struct Task(Arc<Held>);

struct Held {
    link: Arc<Link>,
    task: Received,
}

/// A task as it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which of the link's sessions it came in.
    pub(super) session: u64,
    pub(super) tag: u64,
    pub(super) bytes: u64,
}

impl Received {
    /// Whether it was published under the topic with this number, of those that are followed.
    pub(crate) fn is_of_topic(self, number: u64) -> bool {
        self.tag == number + 1
    }
}

impl Task {
    pub(super) fn new(link: Arc<Link>, task: Received) -> Self {
        Self(Arc::new(Held { link, task }))
    }

    /// Gives the reference up, without ending the task; tells what it is, and whether this was the last.
    pub(super) fn give_up(self) -> (Received, bool) {
        let task = self.0.task;
        match Arc::into_inner(self.0) {
            Some(held) => {
                held.defuse();
                (task, true)
            }
            None => (task, false),
        }
    }
}

impl Held {
    /// Drops it without telling the link.
    fn defuse(self) {
        let mut this = self;
        this.task.tag = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.task.tag != 0 {
            self.link.end(self.task, Instant::now());
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.task.fmt(formatter)
    }
}
