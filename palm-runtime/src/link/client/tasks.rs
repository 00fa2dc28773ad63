//! The tasks of a worker's link: leases, results, and tasks that are returned to the master.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{ClientState, LinkClient, ResultBatcher};
use crate::clock;
use crate::link::header;
use crate::link::session::{RETURNS_VERSION, TaggedBatch};
use crate::message::lease::{Lease, LeaseOutcome, LeaseState, LeasedTasks, Lessor, LinkReceipt};
use crate::message::{Batch, Message};

impl LinkClient {
    /// Leases the tasks of a received batch. Returns each task that is to run here, with its message.
    ///
    /// Tasks whose session is over are left out, as are those that still run for an earlier session. After
    /// [`return_waiting`](Self::return_waiting) all tasks are returned to the master instead.
    pub(crate) fn tasks(
        self: &Arc<Self>,
        received: LinkReceipt,
        batch: &Batch,
    ) -> impl Iterator<Item = (Lease, Bytes)> + use<> {
        let now = clock::now();
        let mut state = self.state();
        let component = state.session.component();
        let tasks = received.each(batch).map(|(task, _)| task);
        let tasks = LeasedTasks::new(self.clone(), component, tasks);
        if received.session != state.session_number || state.session.is_over() {
            for entry in tasks.entries() {
                entry.progress.revoke();
            }
        } else {
            state.register(&tasks, now);
        }
        drop(state);
        let tasks = tasks.tasks().zip(batch.frames());
        tasks.filter(|(task, _)| !task.is_over())
    }

    /// Returns the prefetched tasks to the master, and each task that still arrives. Returns how many were prefetched.
    ///
    /// A master of an earlier protocol version redelivers them when the link closes, unless they are done by then.
    pub(crate) fn return_waiting(&self) -> usize {
        self.return_tasks(LeaseState::revoke_waiting)
    }

    /// Returns all unfinished tasks to the master, prefetched and running. Returns how many they were.
    pub(crate) fn return_all(&self) -> usize {
        self.return_tasks(LeaseState::give_back)
    }

    fn return_tasks(&self, revoke: impl Fn(&LeaseState) -> bool) -> usize {
        let now = clock::now();
        let mut state = self.state();
        if state.session.is_over() || state.session.version() < RETURNS_VERSION {
            return 0;
        }
        state.is_returning = true;
        let revoked = state.tasks.revoke(state.session_number, revoke);
        let count = revoked.len();
        for task in revoked {
            state.return_task(task);
        }
        state.flush(now);
        count
    }

    /// Sends results of tasks to the master. Returns how many bytes they have.
    pub(crate) fn submit(
        &self,
        results: impl Iterator<Item = Message>,
        batcher: &mut ResultBatcher,
    ) -> usize {
        let now = clock::now();
        let mut state = self.state();
        let mut ended = 0;
        let mut returned = Vec::new();
        let mut items = Vec::new();
        for mut result in results {
            let (tag, is_last) = match result.take_task().map(Lease::submit) {
                // The master accepts only results of tasks that it has assigned.
                None => {
                    tracing::error!("bug in palm: a worker's message belongs to no task");
                    continue;
                }
                // The session of the task is over: the master, or its clients, run the task again.
                Some((task, _)) if task.session != state.session_number => continue,
                // The task was returned before.
                Some((_, LeaseOutcome::Over)) => continue,
                Some((task, LeaseOutcome::Open)) => (task.tag, false),
                Some((task, LeaseOutcome::Ended)) => {
                    state.session.consume(1, task.bytes);
                    ended += 1;
                    (task.tag | 1, true)
                }
                Some((task, LeaseOutcome::Returned)) => {
                    returned.push(task);
                    (task.tag, false)
                }
            };
            batcher.add((tag, is_last), result, &mut items);
        }
        items.extend(batcher.take());
        let bytes = items.iter().map(|item| item.batch.bytes()).sum();
        for item in items {
            state.submit(item, now);
        }
        for task in returned {
            state.return_task(task);
        }
        state.finish_tasks(ended, now);
        state.flush(now);
        bytes
    }
}

impl Lessor for LinkClient {
    fn settle(&self, task: LinkReceipt, outcome: LeaseOutcome) {
        let now = clock::now();
        let mut state = self.state();
        if task.session != state.session_number {
            return;
        }
        if outcome == LeaseOutcome::Ended {
            state.session.consume(1, task.bytes);
            let item = TaggedBatch::new(task.tag | 1, Bytes::new());
            state.submit(item, now);
            state.finish_tasks(1, now);
        } else {
            state.return_task(task);
        }
        state.flush(now);
    }
}

impl ClientState {
    /// Registers tasks that have arrived in this session, and revokes those that must not run here.
    fn register(&mut self, tasks: &Arc<LeasedTasks>, now: Instant) {
        for entry in tasks.entries() {
            let task = entry.received();
            if self.tasks.resume(task, tasks.component()) {
                entry.progress.revoke();
                self.session.consume(1, task.bytes);
                self.pace.returned(1);
            } else if self.is_returning {
                entry.progress.revoke();
                self.return_task(task);
            }
        }
        if self.is_returning {
            self.flush(now);
        } else {
            self.tasks.add(tasks);
        }
    }

    /// Returns a task to the master, which redelivers it to another worker.
    fn return_task(&mut self, task: LinkReceipt) {
        if self.session.is_over() {
            return;
        }
        self.pace.returned(1);
        if self.session.version() < RETURNS_VERSION {
            // The end of the session returns all of its tasks. While this side drains, the session ends anyway.
            if !self.is_draining {
                let header = self.session.close();
                self.send(header::encode(&header), Vec::new());
                self.end_session(false, clock::now());
            }
            return;
        }
        self.session.consume(1, task.bytes);
        self.submit(TaggedBatch::new(task.tag & !1, Bytes::new()), clock::now());
    }

    fn finish_tasks(&mut self, tasks: u64, now: Instant) {
        if tasks > 0 {
            self.pace.ended(tasks, now);
            if !self.is_draining {
                self.session.set_window(self.pace.window());
            }
        }
    }

    /// Queues a result of a worker, or the end of a task.
    fn submit(&mut self, item: TaggedBatch, now: Instant) {
        if !self.peer_is_draining && !self.session.is_over() {
            self.session.submit(item, now);
        }
    }
}
