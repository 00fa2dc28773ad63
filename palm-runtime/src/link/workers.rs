//! What a component gives to the workers that have links with it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::accept::{Links, State};
use super::dispatch::Failed;
use super::session::Item;

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

    /// Takes up to `most` tasks, as far as workers have room for them, and `ahead` more; the rest stays.
    /// Tells how many it took.
    pub(crate) fn submit(&self, tasks: &mut VecDeque<Bytes>, ahead: usize, most: usize) -> usize {
        let now = Instant::now();
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
        while let Some((key, task, frame)) = self.dispatch.assign() {
            if let Some(peer) = self.peers.get_mut(&key) {
                let tag = task << 1;
                peer.session.submit(Item { tag, frame }, now);
                peer.stir(&mut self.stirred);
            }
        }
    }
}
