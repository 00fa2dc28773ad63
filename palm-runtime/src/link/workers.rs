//! What a component gives to the workers that have links with it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::accept::{Links, PeerKey, State};
use super::dispatch::Failed;
use super::session::{Item, TASK_STEP};
use crate::message::Group;

impl Links {
    /// There is a part that gives tasks. Of several the first one does; tells whether this is it.
    pub(crate) fn give_tasks(&self) -> bool {
        !std::mem::replace(&mut self.state().gives_tasks, true)
    }

    /// How many workers are there.
    pub(crate) fn workers(&self) -> usize {
        self.workers.borrow().count
    }

    /// A number that changes with each worker that comes or goes.
    #[cfg(feature = "http")]
    pub(crate) fn generation(&self) -> u64 {
        self.workers.borrow().generation
    }

    /// Waits until a worker is there. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn connected(&self) {
        let mut workers = self.workers.subscribe();
        // An error would mean that `self` is gone.
        let _ = workers.wait_for(|workers| workers.count > 0).await;
    }

    /// How many tasks have no answer yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until there may be room, a worker has come or gone, or the last task is done. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many tasks the worker has that would be given the next one, if there is one.
    pub(crate) fn least_load(&self) -> Option<usize> {
        self.state().dispatch.least_load()
    }

    /// Takes up to `most` groups of tasks, as far as workers have room for them, and `ahead` more; the rest
    /// stays. Tells how many groups it took.
    pub(crate) fn submit(&self, tasks: &mut VecDeque<Group>, ahead: usize, most: usize) -> usize {
        let now = self.now();
        let mut state = self.state();
        let mut taken = 0;
        while !tasks.is_empty() && taken < most {
            let dispatch = &mut state.dispatch;
            if !dispatch.has_room() && dispatch.waiting() >= ahead {
                state.blocked = Some(ahead);
                break;
            }
            dispatch.submit(tasks.pop_front().expect("there is one"));
            state.assign(now);
            taken += 1;
        }
        self.flush(&mut state, now);
        taken
    }

    /// From now on the end of the last task is one of the [`changed`](Self::changed)s.
    pub(crate) fn tell_of_the_end(&self) {
        self.state().tells_of_the_end = true;
    }

    /// Takes what will come to nothing. There is more after some of the [`changed`](Self::changed)s.
    pub(crate) fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut self.state().failed)
    }
}

impl State {
    /// Gives tasks that wait to workers that have room.
    pub(super) fn assign(&mut self, now: Instant) {
        while let Some((key, first, group)) = self.dispatch.assign() {
            if let Some(peer) = self.peers.get_mut(&key) {
                let item = Item::of(TASK_STEP * first, TASK_STEP, group);
                peer.session.submit(item, now);
                peer.stir(&mut self.stirred);
            }
        }
    }

    /// A worker has given results. Those that count are added to `groups`; tells how many of its tasks are
    /// done by them.
    pub(super) fn results(&mut self, key: PeerKey, item: Item, groups: &mut Vec<Group>) -> usize {
        let Item {
            mut tag,
            step,
            mut group,
        } = item;
        let mut finished = 0;
        let is_last = |tag: u64| tag & 1 == 1;
        if group.len() > 1 && step == TASK_STEP && is_last(tag) && group.sizes().all(|it| it > 0) {
            finished = self.dispatch.results(key, tag / TASK_STEP, group.len());
            if finished == group.len() {
                groups.push(group);
                return finished;
            }
            if finished > 0 {
                groups.push(group.split_to(finished));
                tag += step * finished as u64;
            }
        }
        for frame in group.frames() {
            let task = tag / TASK_STEP;
            let len = frame.len() as u64;
            // What belongs to no task goes on as it is.
            if !frame.is_empty() && (task == 0 || self.dispatch.result(key, task)) {
                groups.push(frame.into());
            } else if let Some(peer) = self.peers.get_mut(&key) {
                peer.session.consume(1, len);
            }
            finished += usize::from(is_last(tag) && self.dispatch.finish(key, task));
            tag = tag.wrapping_add(step);
        }
        finished
    }
}
