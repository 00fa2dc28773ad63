//! What a component gives to the workers that have links with it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::accept::{Links, Peer, PeerKey, State};
use super::dispatch::{Dispatch, Failed, Reach};
use super::session::{Item, RETURNS_VERSION, TASK_STEP};
use crate::fair_queue::{Flow, FlowKey};
use crate::message::Group;

/// How many tasks of a client may wait for workers here, besides a group. Its further ones wait in the queue of
/// the part that submits tasks.
const AHEAD: usize = 256;

/// How many clients with so many are looked at, at a time, to find those with fewer.
const LOOKED_AT: usize = 16;

/// Clients of which no further tasks are accepted for now.
#[derive(Debug, Default)]
pub(super) struct Held {
    flows: VecDeque<FlowKey>,
    /// Those that were among them.
    resumed: Vec<FlowKey>,
}

impl Held {
    /// Finds clients of which further tasks are accepted. Returns whether there are any.
    pub(super) fn resume(&mut self, dispatch: &Dispatch) -> bool {
        if dispatch.untried() < AHEAD / 2 {
            self.resumed.extend(self.flows.drain(..));
        }
        for _ in 0..self.flows.len().min(LOOKED_AT) {
            let flow = self.flows.pop_front().expect("there are some");
            match dispatch.untried_of(flow) < AHEAD / 2 {
                true => self.resumed.push(flow),
                false => self.flows.push_back(flow),
            }
        }
        !self.resumed.is_empty()
    }
}

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

    /// What the workers can do for a task. If they have no room for it, one of the
    /// [`changed`](Self::changed)s reports when they may have.
    pub(crate) fn reach(&self, task: &Bytes) -> Reach {
        let mut state = self.state();
        let reach = state.dispatch.reach(task);
        if reach == Reach::Full {
            state.blocked = Some(0);
        }
        reach
    }

    /// Whether tasks wait that only workers without links could run.
    pub(crate) fn have_absent(&self) -> bool {
        self.state().dispatch.has_absent()
    }

    /// Workers without links are connected, or not any more. Returns the tasks that only they can run.
    pub(crate) fn set_legacy(&self, has_legacy: bool) -> Vec<(Flow, Group)> {
        let mut state = self.state();
        state.dispatch.set_legacy(has_legacy);
        if !has_legacy {
            return Vec::new();
        }
        state.dispatch.take_absent()
    }

    /// How many results were dropped since they belong to no task of their worker, since this was last called.
    pub(crate) fn take_strays(&self) -> usize {
        self.strays.swap(0, Ordering::Relaxed)
    }

    /// Takes tasks, as far as not too many wait; the rest stays. Clients of which enough wait are added to `held`,
    /// until they are among [`take_resumed`](Self::take_resumed) after one of the [`changed`](Self::changed)s.
    pub(crate) fn submit_all(&self, tasks: &mut VecDeque<(Flow, Group)>, held: &mut Vec<FlowKey>) {
        let now = self.now();
        let mut state = self.state();
        while let Some((flow, group)) = tasks.pop_front() {
            if !state.dispatch.accepts(usize::MAX) {
                state.blocked = Some(usize::MAX);
                tasks.push_front((flow, group));
                break;
            }
            state.dispatch.submit(group, flow);
            state.assign(now);
            if state.dispatch.untried_of(flow.key) >= AHEAD && !state.held.flows.contains(&flow.key)
            {
                state.held.resumed.retain(|resumed| *resumed != flow.key);
                state.held.flows.push_back(flow.key);
                held.push(flow.key);
            }
        }
        self.flush(&mut state, now);
    }

    /// Clients that were held, and of which further tasks are accepted.
    pub(crate) fn take_resumed(&self) -> Vec<FlowKey> {
        std::mem::take(&mut self.state().held.resumed)
    }

    /// Takes up to `most` groups of tasks, while workers have room for them, and tasks until `ahead` wait; the
    /// rest stays. Returns how many groups it took.
    pub(crate) fn submit(
        &self,
        tasks: &mut VecDeque<(Flow, Group)>,
        ahead: usize,
        most: usize,
    ) -> usize {
        let now = self.now();
        let mut state = self.state();
        let mut taken = 0;
        while taken < most
            && let Some((flow, group)) = tasks.pop_front()
        {
            if !state.dispatch.accepts(ahead) {
                state.blocked = Some(ahead);
                tasks.push_front((flow, group));
                break;
            }
            state.dispatch.submit(group, flow);
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

/// What came of results.
#[derive(Debug, Default)]
pub(super) struct Worked {
    /// How many tasks of the worker are done by them.
    pub(super) finished: usize,
    /// How many were dropped since they belong to no task of the worker.
    pub(super) strays: usize,
}

impl State {
    /// Gives tasks that wait to workers that have room.
    pub(super) fn assign(&mut self, now: Instant) {
        while let Some((key, first, group)) = self.dispatch.assign(now) {
            if let Some(peer) = self.peers.get_mut(&key) {
                let item = Item::of(TASK_STEP * first, TASK_STEP, group);
                peer.session.submit(item, now);
                peer.stir(&mut self.stirred);
            }
        }
    }

    /// A worker has sent results. Those that count are added to `groups`.
    pub(super) fn results(&mut self, key: PeerKey, item: Item, groups: &mut Vec<Group>) -> Worked {
        let Item {
            mut tag,
            step,
            mut group,
        } = item;
        let mut worked = Worked::default();
        let is_last = |tag: u64| tag & 1 == 1;
        let returns_tasks = |peer: &Peer| peer.session.version() >= RETURNS_VERSION;
        let returns_tasks = self.peers.get(&key).is_some_and(returns_tasks);
        if group.len() > 1 && step == TASK_STEP && is_last(tag) && group.sizes().all(|it| it > 0) {
            let finished = self.dispatch.results(key, tag / TASK_STEP, group.len());
            worked.finished = finished;
            if finished == group.len() {
                groups.push(group);
                return worked;
            }
            if finished > 0 {
                groups.push(group.split_to(finished));
                tag += step * finished as u64;
            }
        }
        for frame in group.frames() {
            let task = tag / TASK_STEP;
            let len = frame.len() as u64;
            let is_stray = self.dispatch.is_stray(key, task);
            if !is_stray && !frame.is_empty() && self.dispatch.result(key, task) {
                groups.push(frame.clone().into());
            } else if let Some(peer) = self.peers.get_mut(&key) {
                peer.session.consume(1, len);
            }
            if is_stray {
                worked.strays += 1;
            } else if is_last(tag) {
                worked.finished += usize::from(self.dispatch.finish(key, task));
            } else if frame.is_empty() && returns_tasks {
                self.dispatch.give_back(key, task);
            }
            tag = tag.wrapping_add(step);
        }
        self.warn_of_strays(key, worked.strays);
        worked
    }

    /// Warns once in a session of results that belong to no task of their worker.
    fn warn_of_strays(&mut self, key: PeerKey, new: usize) {
        if new > 0
            && let Some(peer) = self.peers.get_mut(&key)
            && let Some(strays) = peer.strays()
            && std::mem::replace(strays, *strays + new as u64) == 0
        {
            tracing::warn!(
                worker = %peer.name,
                results = new,
                "dropping results for tasks that the worker does not have"
            );
        }
    }
}
