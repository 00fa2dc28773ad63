//! The leased tasks of a worker: which of them are revoked with a session, and which still run.

use std::sync::{Arc, Weak};

use crate::message::lease::{LeaseState, LeasedTasks, LinkReceipt};

/// The leased tasks of a worker that may have no outcome yet.
#[derive(Debug, Default)]
pub(super) struct OpenTasks {
    /// The tasks that have arrived in all sessions. Some may be dropped by now.
    batches: Vec<Weak<LeasedTasks>>,
    /// The length of `batches` at which dropped ones are removed.
    most: usize,
    /// The run of the master to which `highest` belongs.
    component: u64,
    /// The highest tag that has arrived from that run.
    highest: u64,
}

impl OpenTasks {
    pub(super) fn add(&mut self, batch: &Arc<LeasedTasks>) {
        if self.batches.len() >= self.most {
            self.batches.retain(|batch| batch.strong_count() > 0);
            self.most = 2 * self.batches.len() + 16;
        }
        self.batches.push(Arc::downgrade(batch));
    }

    /// Calls `revoke` for the tasks of a session, and returns the tasks for which it returns `true`.
    pub(super) fn revoke(
        &self,
        session: u64,
        revoke: impl Fn(&LeaseState) -> bool,
    ) -> Vec<LinkReceipt> {
        let mut revoked = Vec::new();
        for batch in self.batches.iter().filter_map(Weak::upgrade) {
            for entry in batch.entries() {
                let received = entry.received();
                if received.session == session && revoke(&entry.progress) {
                    revoked.push(received);
                }
            }
        }
        revoked
    }

    /// Revokes the prefetched tasks of a session that is over. Running tasks go on: the master may send them again.
    pub(super) fn session_is_over(&self, session: u64) {
        self.revoke(session, LeaseState::revoke_waiting);
    }

    /// Moves a redelivered task to the new session, and returns `true`, if this worker has the task already.
    ///
    /// A master that has considered this worker lost may redeliver a task to it. The result then counts in the session
    /// in which the task was sent last. Tags of new tasks grow, so only redelivered tasks are searched.
    pub(super) fn resume(&mut self, task: LinkReceipt, component: u64) -> bool {
        if self.component != component {
            self.component = component;
            self.highest = 0;
        }
        let is_new = task.tag > self.highest;
        self.highest = self.highest.max(task.tag);
        if is_new || component == 0 {
            return false;
        }
        let open = self.batches.iter().filter_map(Weak::upgrade);
        for batch in open.filter(|batch| batch.component() == component) {
            for entry in batch.entries() {
                let is_here = entry.progress.is_begun()
                    || entry.progress.is_waiting() && entry.received().session == task.session;
                if entry.tag() == task.tag && is_here {
                    entry.move_to(task.session);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::client::{LinkClient, LinkSettings};
    use crate::link::session::TASK_TAG_STEP;
    use crate::link::{LinkOptions, Subscription, WORKER};
    use crate::socket::SocketOptions;

    fn worker() -> Arc<LinkClient> {
        let address = "tcp://127.0.0.1:9".parse().expect("it is an address");
        let introduction = LinkSettings::following(WORKER, "worker", Subscription::default());
        let options = LinkOptions::default();
        LinkClient::new(&address, &SocketOptions::default(), introduction, options).0
    }

    fn task(session: u64, tag: u64) -> LinkReceipt {
        LinkReceipt {
            session,
            tag,
            step: TASK_TAG_STEP,
            messages: 1,
            bytes: 3,
        }
    }

    #[test]
    fn redelivered_task_that_still_runs_here_is_not_begun_again() {
        let (master, restarted) = (5, 6);
        let mut open = OpenTasks::default();
        let batch = [task(1, 2), task(1, 4), task(1, 6)];
        let batch = LeasedTasks::new(worker(), master, batch.into_iter());
        for entry in batch.entries() {
            assert!(!open.resume(entry.received(), master));
        }
        open.add(&batch);
        let tasks: Vec<_> = batch.clone().tasks().collect();
        assert!(tasks[0].begin());
        for tag in [2, 4] {
            assert!(open.resume(task(1, tag), master), "the task is here");
        }
        assert!(!open.resume(task(1, 8), master), "the task is new");

        open.session_is_over(1);
        assert!(open.resume(task(2, 2), master));
        assert_eq!(batch.entries()[0].received(), task(2, 2));
        assert!(!open.resume(task(2, 4), master), "the task was not begun");
        assert!(!tasks[1].begin(), "the session of the task is over");
        assert!(!open.resume(task(3, 2), restarted));
        assert!(
            !open.resume(task(3, 2), 0),
            "the run of the master is unknown"
        );
    }

    #[test]
    fn prefetched_tasks_are_revoked_and_running_ones_are_not() {
        let mut open = OpenTasks::default();
        let batch = LeasedTasks::new(worker(), 5, [task(1, 2), task(1, 4)].into_iter());
        open.add(&batch);
        let tasks: Vec<_> = batch.tasks().collect();
        assert!(tasks[0].begin());
        assert_eq!(open.revoke(1, LeaseState::revoke_waiting), [task(1, 4)]);
        assert_eq!(open.revoke(1, LeaseState::revoke_waiting), []);
        assert_eq!(open.revoke(1, LeaseState::revoke), [task(1, 2)]);
        drop(tasks);
        open.most = 0;
        let next = LeasedTasks::new(worker(), 5, [task(1, 6)].into_iter());
        open.add(&next);
        assert_eq!(open.batches.len(), 1, "dropped tasks are removed");
    }
}
