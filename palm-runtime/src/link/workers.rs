//! What a component gives to the workers that have links with it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::accept::{LinkPeer, Links, PeerKey, ServerState};
#[cfg(feature = "http")]
use super::dispatch::UNKNOWN_FUNCTION_TIMEOUT;
use super::dispatch::{Dispatch, Failed, Reach};
use super::session::{RETURNS_VERSION, TASK_TAG_STEP, TaggedBatch, memory_bytes};
use crate::fair_queue::{Flow, FlowKey, Usage};
use crate::message::{Batch, Message};

/// How many tasks of a client may wait for workers here, besides those that are submitted at once. Its further
/// ones wait in the queue of the part that submits tasks.
const MAX_WAITING_PER_CLIENT: Usage = Usage {
    messages: 256,
    bytes: 8 * 1024 * 1024,
};

/// How many clients with so many are looked at, at a time, to find those with fewer.
const MAX_CHECKED_FLOWS: usize = 16;

/// Clients from which no further tasks are accepted until workers have finished some.
#[derive(Debug, Default)]
pub(super) struct PausedFlows {
    flows: VecDeque<FlowKey>,
    /// Clients from which tasks are accepted again, until they are reported.
    resumed: Vec<FlowKey>,
}

impl PausedFlows {
    /// Finds clients of which further tasks are accepted. Returns whether there are any.
    pub(super) fn resume(&mut self, dispatch: &Dispatch) -> bool {
        let is_low = |usage: Usage| {
            usage.messages < MAX_WAITING_PER_CLIENT.messages / 2
                && usage.bytes < MAX_WAITING_PER_CLIENT.bytes / 2
        };
        if is_low(dispatch.untried()) {
            self.resumed.extend(self.flows.drain(..));
        }
        for _ in 0..self.flows.len().min(MAX_CHECKED_FLOWS) {
            let flow = self.flows.pop_front().expect("there are some");
            match is_low(dispatch.untried_of(flow)) {
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
        !std::mem::replace(&mut self.state().has_task_source, true)
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

    /// Returns whether a connected worker can run the function of `task`, or no worker is connected. Further workers
    /// may be about to connect, so a function counts as unknown only when none has connected for a while. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn may_run(&self, task: &Bytes) -> bool {
        let mut workers = self.workers.subscribe();
        loop {
            let seen = *workers.borrow_and_update();
            if seen.count == 0 || self.state().dispatch.reach(task) != Reach::Nobody {
                return true;
            }
            let since = seen.since.unwrap_or_else(|| self.now());
            let left = (since + UNKNOWN_FUNCTION_TIMEOUT).saturating_duration_since(self.now());
            if left.is_zero() {
                return false;
            }
            let _ = tokio::time::timeout(left, workers.changed()).await;
        }
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
            state.blocked_beyond = Some(0);
        }
        reach
    }

    /// Whether tasks wait that only workers without links could run.
    pub(crate) fn have_absent(&self) -> bool {
        self.state().dispatch.has_unassignable()
    }

    /// Workers without links are connected, or not any more. Returns the tasks that only they can run.
    pub(crate) fn set_legacy(&self, has_legacy: bool) -> Vec<(Flow, Batch)> {
        let mut state = self.state();
        state.dispatch.set_legacy(has_legacy);
        if !has_legacy {
            return Vec::new();
        }
        state.dispatch.take_unassignable()
    }

    /// How many results were dropped since they belong to no task of their worker, since this was last called.
    pub(crate) fn take_strays(&self) -> usize {
        self.strays.swap(0, Ordering::Relaxed)
    }

    /// Takes tasks, as far as not too many wait; the rest stays. Clients of which enough wait are added to `held`,
    /// until they are among [`take_resumed`](Self::take_resumed) after one of the [`changed`](Self::changed)s.
    pub(crate) fn submit_all(&self, tasks: &mut VecDeque<(Flow, Batch)>, held: &mut Vec<FlowKey>) {
        let now = self.now();
        let mut state = self.state();
        while let Some((flow, group)) = tasks.pop_front() {
            if !state.dispatch.accepts(usize::MAX) {
                state.blocked_beyond = Some(usize::MAX);
                tasks.push_front((flow, group));
                break;
            }
            state.dispatch.submit(group, flow);
            state.assign(now);
            let ahead = state.dispatch.untried_of(flow.key);
            let is_ahead = ahead.messages >= MAX_WAITING_PER_CLIENT.messages
                || ahead.bytes >= MAX_WAITING_PER_CLIENT.bytes;
            if is_ahead && !state.paused_flows.flows.contains(&flow.key) {
                state
                    .paused_flows
                    .resumed
                    .retain(|resumed| *resumed != flow.key);
                state.paused_flows.flows.push_back(flow.key);
                held.push(flow.key);
            }
        }
        self.flush(&mut state, now);
    }

    /// Clients that were held, and of which further tasks are accepted.
    pub(crate) fn take_resumed(&self) -> Vec<FlowKey> {
        std::mem::take(&mut self.state().paused_flows.resumed)
    }

    /// Takes up to `most` groups of tasks, while workers have room for them, and tasks until `ahead` wait; the
    /// rest stays. Returns how many groups it took.
    pub(crate) fn submit(
        &self,
        tasks: &mut VecDeque<(Flow, Batch)>,
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
                state.blocked_beyond = Some(ahead);
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
        self.state().reports_completion = true;
    }

    /// Takes what will come to nothing. There is more after some of the [`changed`](Self::changed)s.
    pub(crate) fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut self.state().failed)
    }
}

/// What came of results.
#[derive(Debug, Default)]
pub(super) struct ResultsOutcome {
    /// How many tasks of the worker are done by them.
    pub(super) finished: usize,
    /// How many were dropped since they belong to no task of the worker.
    pub(super) strays: usize,
    /// Messages that were made or changed here, which take no credit of the worker's.
    pub(super) created: Vec<Batch>,
}

/// What tells the caller that its task is done, if no result of it has come.
fn end_without_result(task: Bytes) -> Option<Batch> {
    let message = Message::decode(task).ok()?;
    let share = message.share()?;
    Some(message.into_rest(share).into_frame().into())
}

/// A result that is not the last one of its task and has the share of all of it: then its worker does not
/// split shares, and the caller must not rely on them.
fn with_doubtful_share(result: &Bytes, task: &Bytes) -> Option<Batch> {
    let mut result = Message::decode(result.clone()).ok()?;
    let share = result.share()?;
    if Message::decode(task.clone()).ok()?.share() != Some(share) {
        return None;
    }
    result.doubt_share();
    Some(result.into_frame().into())
}

impl ServerState {
    /// Assigns tasks that wait to workers with credit, while not too many bytes of tasks are with workers.
    pub(super) fn assign(&mut self, now: Instant) {
        while self.admits_tasks()
            && let Some((key, first, group)) = self.dispatch.assign(now)
        {
            self.tasks_held += memory_bytes(group.len(), group.bytes());
            if let Some(peer) = self.peers.get_mut(&key) {
                let item = TaggedBatch::of(TASK_TAG_STEP * first, TASK_TAG_STEP, group);
                peer.session.submit(item, now);
                peer.schedule(&mut self.scheduled);
            }
        }
    }

    /// Whether workers may be assigned further tasks. Tasks that have ended are still counted until the limit is
    /// reached; then all are counted again, at most once in a tick.
    fn admits_tasks(&mut self) -> bool {
        if self.tasks_held >= self.max_task_bytes && std::mem::take(&mut self.may_recount_tasks) {
            self.tasks_held = self.dispatch.held_bytes();
        }
        self.tasks_held < self.max_task_bytes
    }

    /// A worker has sent results. Those that count are added to `groups`.
    pub(super) fn results(
        &mut self,
        key: PeerKey,
        item: TaggedBatch,
        groups: &mut Vec<Batch>,
    ) -> ResultsOutcome {
        let TaggedBatch {
            mut tag,
            step,
            mut group,
        } = item;
        let mut outcome = ResultsOutcome::default();
        let is_last = |tag: u64| tag & 1 == 1;
        let are_last = is_last(tag) && (step == TASK_TAG_STEP || group.len() == 1);
        if are_last && group.sizes().all(|it| it > 0) {
            let finished = self
                .dispatch
                .finish_range(key, tag / TASK_TAG_STEP, group.len());
            outcome.finished = finished;
            if finished == group.len() {
                groups.push(group);
                return outcome;
            }
            if finished > 0 {
                groups.push(group.split_to(finished));
                tag += step * finished as u64;
            }
        }
        let returns_tasks = |peer: &LinkPeer| peer.session.version() >= RETURNS_VERSION;
        let returns_tasks = self.peers.get(&key).is_some_and(returns_tasks);
        for frame in group.frames() {
            let task = tag / TASK_TAG_STEP;
            let len = frame.len() as u64;
            let is_empty = frame.is_empty();
            let is_stray = self.dispatch.is_stray(key, task);
            let has_result = !is_stray && !is_empty && self.dispatch.record_result(key, task);
            let created = if has_result && !is_last(tag) && !returns_tasks {
                let begun = self.dispatch.frame(task);
                begun.and_then(|task| with_doubtful_share(&frame, task))
            } else if !is_stray && is_empty && is_last(tag) {
                self.dispatch.unanswered(task).and_then(end_without_result)
            } else {
                None
            };
            if has_result && created.is_none() {
                groups.push(frame.into());
            } else if let Some(peer) = self.peers.get_mut(&key) {
                peer.session.consume(1, len);
            }
            outcome.created.extend(created);
            if is_stray {
                outcome.strays += 1;
            } else if is_last(tag) {
                outcome.finished += usize::from(self.dispatch.finish(key, task));
            } else if is_empty && returns_tasks {
                self.dispatch.return_task(key, task);
            }
            tag = tag.wrapping_add(step);
        }
        self.warn_of_strays(key, outcome.strays);
        outcome
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::super::accept::{Incoming, ServerOutput};
    use super::super::session::{CreditWindow, Session, SessionEvent, VERSION};
    use super::super::{LinkOptions, WORKER, header};
    use super::*;
    use crate::message::Share;
    use crate::message::proto::{Function, LinkHello};
    use crate::socket::Frames;

    /// A worker's side of a link, without a socket.
    struct Remote {
        route: Bytes,
        session: Session,
        tasks: Vec<TaggedBatch>,
    }

    impl Remote {
        fn new(name: &'static str, version: u32) -> Self {
            let functions = ["work", "other"].map(|name| Function {
                name: name.to_owned(),
                ..Function::default()
            });
            let hello = LinkHello {
                version,
                role: WORKER.to_owned(),
                name: name.to_owned(),
                functions: functions.into(),
                ..LinkHello::default()
            };
            let window = CreditWindow {
                messages: 100,
                bytes: 1_000_000,
            };
            let id = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            let (heartbeat, now) = (Duration::from_secs(5), Instant::now());
            Self {
                route: name.into(),
                session: Session::connect(id, hello, window, heartbeat, now),
                tasks: Vec::new(),
            }
        }

        fn send(&mut self, tag: u64, frame: impl Into<Bytes>) {
            let item = TaggedBatch::new(tag, frame.into());
            self.session.submit(item, Instant::now());
        }
    }

    struct Rig {
        links: Links,
        results: mpsc::UnboundedReceiver<Incoming>,
        workers: Vec<Remote>,
    }

    impl Rig {
        fn new(versions: &[u32]) -> Self {
            Self::with_options(versions, LinkOptions::default())
        }

        fn with_options(versions: &[u32], options: LinkOptions) -> Self {
            let links = Links::new(options);
            links.state().output = ServerOutput::Recorded(VecDeque::new());
            assert!(links.give_tasks());
            let results = links.take_results().unwrap();
            let names = ["first", "second", "third"].into_iter();
            let workers = names.zip(versions).map(|(name, &it)| Remote::new(name, it));
            let workers = workers.collect();
            let mut rig = Self {
                links,
                results,
                workers,
            };
            rig.exchange();
            assert_eq!(rig.links.workers(), versions.len());
            rig
        }

        /// Lets all headers arrive.
        fn exchange(&mut self) {
            for _ in 0..5 {
                let now = Instant::now();
                for worker in &mut self.workers {
                    while let Some(sent) = worker.session.transmit(now) {
                        let head = [worker.route.clone(), header::encode(&sent.header)];
                        let frames = head.into_iter().chain(sent.frames).collect();
                        self.links.receive(std::iter::once(frames));
                    }
                }
                let mut state = self.links.state();
                let ServerOutput::Recorded(sent) = &mut state.output else {
                    panic!("it is recorded");
                };
                let sent: Vec<Frames> = std::mem::take(sent).into();
                drop(state);
                for mut frames in sent {
                    let mut frames = frames.drain(..);
                    let route = frames.next().unwrap();
                    let header = header::decode(frames.next().unwrap()).unwrap();
                    let to = |worker: &&mut Remote| worker.route == route;
                    let worker = self.workers.iter_mut().find(to).unwrap();
                    let mut events = Vec::new();
                    worker.session.receive(now, &header, frames, &mut events);
                    for event in events {
                        if let SessionEvent::Messages(item) = event {
                            worker.tasks.push(item);
                        }
                    }
                }
            }
        }

        fn task(&mut self, share: Option<Share>) {
            let mut message = Message::new("master.work", "x");
            message.set_share(share);
            let group = message.into_frame().into();
            let mut tasks = VecDeque::from([(Flow::new(1), group)]);
            assert_eq!(self.links.submit(&mut tasks, 1, 1), 1);
            self.exchange();
        }

        /// The results that were passed on, and whether they take credit of a worker's.
        fn results(&mut self) -> Vec<(bool, Message)> {
            self.exchange();
            let mut results = Vec::new();
            while let Ok(Incoming::Messages { peer, groups, .. }) = self.results.try_recv() {
                for frame in groups.iter().flat_map(Batch::frames) {
                    results.push((peer != 0, Message::decode(frame).unwrap()));
                }
            }
            results
        }

        fn tags(&self) -> Vec<Vec<u64>> {
            let tags = |worker: &Remote| worker.tasks.iter().map(|it| it.tag).collect();
            self.workers.iter().map(tags).collect()
        }
    }

    fn result(payload: &'static str) -> Bytes {
        Message::new("master.work", payload).into_frame()
    }

    #[test]
    fn result_counts_only_for_a_task_that_its_worker_has() {
        let mut rig = Rig::new(&[VERSION, VERSION]);
        rig.task(None);
        assert_eq!(rig.tags(), [vec![2], vec![]]);
        for tag in [0, 1, 2, 3, 4, 5, u64::MAX] {
            rig.workers[1].send(tag, result("forged"));
        }
        rig.workers[1].send(3, "");
        assert_eq!(rig.results(), []);
        assert_eq!((rig.links.take_strays(), rig.links.take_strays()), (8, 0));
        rig.workers[0].send(3, result("true"));
        assert_eq!(rig.results(), [(true, Message::new("master.work", "true"))]);
        assert_eq!((rig.links.outstanding(), rig.links.take_strays()), (0, 0));
    }

    #[test]
    fn returned_task_is_for_another_worker_from_version_3_on() {
        for version in [VERSION, RETURNS_VERSION - 1] {
            let mut rig = Rig::new(&[version, VERSION]);
            rig.task(None);
            assert_eq!(rig.tags(), [vec![2], vec![]]);
            rig.workers[0].send(2, "");
            assert_eq!(rig.results(), []);
            let expected: &[u64] = match version {
                VERSION => &[2],
                _ => &[],
            };
            assert_eq!(rig.tags()[1], expected);
            assert_eq!((rig.links.outstanding(), rig.links.take_strays()), (1, 0));
        }
    }

    #[test]
    fn task_that_ends_without_a_result_completes_its_input() {
        let mut rig = Rig::new(&[1]);
        let share = Share::of_input(7);
        rig.task(Some(share));
        rig.task(None);
        for tag in [3, 5] {
            rig.workers[0].send(tag, "");
        }
        let results = rig.results();
        assert_eq!(results.len(), 1, "nobody waits for the other one's end");
        let (takes_credit, rest) = &results[0];
        assert_eq!((rest.is_rest(), rest.share()), (true, Some(share)));
        assert!(!takes_credit);
        assert_eq!(rig.links.outstanding(), 0);
        // After a result, an end is nothing but that.
        rig.task(Some(share));
        rig.workers[0].send(6, result("one"));
        rig.workers[0].send(7, "");
        assert_eq!(rig.results().len(), 1);
        assert_eq!(rig.links.outstanding(), 0);
    }

    #[test]
    fn share_of_a_foreign_worker_is_doubted_if_a_task_has_several_results() {
        let share = Share::of_input(7);
        let answer = |share: Share| {
            let mut message = Message::new("master.work", "y");
            message.set_share(Some(share));
            message.into_frame()
        };
        let doubts = |version: u32, results: &[(u64, Share)]| {
            let mut rig = Rig::new(&[version]);
            rig.task(Some(share));
            for &(tag, share) in results {
                rig.workers[0].send(tag, answer(share));
            }
            let results = rig.results().into_iter();
            let results = results.map(|(_, result)| result.share().unwrap().incomplete);
            results.collect::<Vec<_>>()
        };
        assert_eq!(doubts(2, &[(3, share)]), [false]);
        assert_eq!(doubts(2, &[(2, share), (3, share)]), [true, false]);
        assert_eq!(
            doubts(2, &[(2, share.piece(0)), (3, share)]),
            [false, false]
        );
        assert_eq!(doubts(VERSION, &[(2, share), (3, share)]), [false, false]);
    }

    #[test]
    fn tasks_with_workers_are_bounded_in_bytes() {
        let options = LinkOptions {
            max_task_bytes: 500_000,
            ..LinkOptions::default()
        };
        let mut rig = Rig::with_options(&[VERSION], options);
        let message = || Message::new("master.work", vec![0; 100_000]).into_frame();
        let mut tasks: VecDeque<_> = (0..9).map(|_| (Flow::new(1), message().into())).collect();
        assert_eq!(rig.links.submit(&mut tasks, usize::MAX, usize::MAX), 9);
        rig.exchange();
        let tags: Vec<_> = rig.workers[0].tasks.iter().map(|task| task.tag).collect();
        assert_eq!(tags.len(), 5);
        for tag in &tags[..3] {
            rig.workers[0].send(tag | 1, "result");
        }
        rig.exchange();
        rig.links.tick();
        rig.exchange();
        assert_eq!(rig.workers[0].tasks.len(), 8);
    }
}
