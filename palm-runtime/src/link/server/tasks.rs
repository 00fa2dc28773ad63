//! Tasks of a link server: how they reach the dispatch, and what their results do.
//!
//! The part that submits tasks claims them by [`LinkServer::claim_tasks`], and calls
//! [`submit`](LinkServer::submit) or [`submit_all`](LinkServer::submit_all) until they accept no more; then it waits
//! for [`changed`](LinkServer::changed). Results of workers are checked against the dispatch before they are passed on.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::deliveries::DeliveryEnd;
use super::{LinkPeer, LinkServer, PeerKey, ServerState};
use crate::fair_queue::{Flow, FlowKey, Usage};
#[cfg(feature = "http")]
use crate::link::dispatch::UNKNOWN_FUNCTION_TIMEOUT;
use crate::link::dispatch::{Dispatch, FailedTask, WorkerReach};
use crate::link::session::{RETURNS_VERSION, TASK_TAG_STEP, TaggedBatch, memory_bytes};
use crate::message::{Batch, Message};

/// How many tasks of a client may wait in the dispatch before the client is paused. Its further tasks wait in the
/// queue of the part that submits them.
const MAX_WAITING_PER_CLIENT: Usage = Usage {
    messages: 256,
    bytes: 8 * 1024 * 1024,
};

/// Maximum number of paused clients that are checked at a time.
const MAX_CHECKED_FLOWS: usize = 16;

/// Clients from which no further tasks are accepted until workers have finished some.
#[derive(Debug, Default)]
pub(super) struct PausedFlows {
    flows: VecDeque<FlowKey>,
    /// Clients from which tasks are accepted again, and that were not reported yet.
    resumed: Vec<FlowKey>,
}

impl PausedFlows {
    /// Resumes clients with few waiting tasks. Returns whether any are to be reported.
    pub(super) fn resume(&mut self, dispatch: &Dispatch) -> bool {
        let is_low = |usage: Usage| {
            usage.messages < MAX_WAITING_PER_CLIENT.messages / 2
                && usage.bytes < MAX_WAITING_PER_CLIENT.bytes / 2
        };
        if is_low(dispatch.untried()) {
            self.resumed.extend(self.flows.drain(..));
        }
        for _ in 0..self.flows.len().min(MAX_CHECKED_FLOWS) {
            let flow = self.flows.pop_front().expect("the loop is bounded");
            match is_low(dispatch.untried_of(flow)) {
                true => self.resumed.push(flow),
                false => self.flows.push_back(flow),
            }
        }
        !self.resumed.is_empty()
    }
}

impl LinkServer {
    /// Registers the part that submits tasks. Returns `false` if another part is registered.
    pub(crate) fn claim_tasks(&self) -> bool {
        !std::mem::replace(&mut self.state().has_task_source, true)
    }

    /// Returns the number of connected workers.
    pub(crate) fn workers(&self) -> usize {
        self.workers.borrow().count
    }

    /// Returns a number that changes whenever a worker connects or is lost.
    #[cfg(feature = "http")]
    pub(crate) fn generation(&self) -> u64 {
        self.workers.borrow().generation
    }

    /// Waits until a worker is connected. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn connected(&self) {
        let mut workers = self.workers.subscribe();
        // The sender is owned by `self`, so this does not fail.
        let _ = workers.wait_for(|workers| workers.count > 0).await;
    }

    /// Returns whether a connected worker can run the function of `task`, or no worker is connected. Further workers
    /// may be about to connect, so a function counts as unknown only when none has connected for a while. Cancel safe.
    #[cfg(feature = "http")]
    pub(crate) async fn may_run(&self, task: &Bytes) -> bool {
        let mut workers = self.workers.subscribe();
        loop {
            let seen = *workers.borrow_and_update();
            if seen.count == 0 || self.state().dispatch.reach(task) != WorkerReach::NoWorker {
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

    /// Returns the number of tasks that have not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until workers may have credit, their number has changed, or the last task has ended. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns whether a task could be assigned now. If workers have no credit for it, a later
    /// [`changed`](Self::changed) reports when they may have.
    pub(crate) fn reach(&self, task: &Bytes) -> WorkerReach {
        let mut state = self.state();
        let reach = state.dispatch.reach(task);
        if reach == WorkerReach::NoCredit {
            state.blocked_beyond = Some(0);
        }
        reach
    }

    /// Returns whether tasks wait that only legacy workers could run.
    pub(crate) fn has_unassignable(&self) -> bool {
        self.state().dispatch.has_unassignable()
    }

    /// Sets whether legacy workers are connected. Returns the tasks that only they can run.
    pub(crate) fn set_legacy(&self, has_legacy: bool) -> Vec<(Flow, Batch)> {
        let mut state = self.state();
        state.dispatch.set_legacy(has_legacy);
        if !has_legacy {
            return Vec::new();
        }
        state.dispatch.take_unassignable()
    }

    /// Returns how many results of tasks that their worker does not have were dropped since the last call.
    pub(crate) fn take_strays(&self) -> usize {
        self.strays.swap(0, Ordering::Relaxed)
    }

    /// Accepts tasks while not too many wait, and leaves the others in `tasks`.
    ///
    /// Clients with enough waiting tasks are added to `paused`. After a later [`changed`](Self::changed) they are among
    /// [`take_resumed`](Self::take_resumed).
    pub(crate) fn submit_all(
        &self,
        tasks: &mut VecDeque<(Flow, Batch)>,
        paused: &mut Vec<FlowKey>,
    ) {
        let now = self.now();
        let mut state = self.state();
        while let Some((flow, batch)) = tasks.pop_front() {
            if !state.dispatch.accepts(usize::MAX) {
                state.blocked_beyond = Some(usize::MAX);
                tasks.push_front((flow, batch));
                break;
            }
            state.submit(batch, flow, now);
            let ahead = state.dispatch.untried_of(flow.key);
            let is_ahead = ahead.messages >= MAX_WAITING_PER_CLIENT.messages
                || ahead.bytes >= MAX_WAITING_PER_CLIENT.bytes;
            if is_ahead && !state.paused_flows.flows.contains(&flow.key) {
                state
                    .paused_flows
                    .resumed
                    .retain(|resumed| *resumed != flow.key);
                state.paused_flows.flows.push_back(flow.key);
                paused.push(flow.key);
            }
        }
        self.flush(&mut state, now);
    }

    /// Returns the paused clients from which tasks are accepted again.
    pub(crate) fn take_resumed(&self) -> Vec<FlowKey> {
        std::mem::take(&mut self.state().paused_flows.resumed)
    }

    /// Accepts up to `most` batches while workers have credit or fewer than `ahead` tasks wait, and leaves the others
    /// in `tasks`. Returns the number of accepted batches.
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
            && let Some((flow, batch)) = tasks.pop_front()
        {
            if !state.dispatch.accepts(ahead) {
                state.blocked_beyond = Some(ahead);
                tasks.push_front((flow, batch));
                break;
            }
            state.submit(batch, flow, now);
            taken += 1;
        }
        self.flush(&mut state, now);
        taken
    }

    /// From now on [`changed`](Self::changed) also reports the end of the last task.
    pub(crate) fn report_completion(&self) {
        self.state().reports_completion = true;
    }

    /// Removes and returns the tasks that have failed. [`changed`](Self::changed) reports later failures.
    pub(crate) fn take_failed(&self) -> Vec<FailedTask> {
        std::mem::take(&mut self.state().failed)
    }
}

/// The outcome of results that a worker has sent.
#[derive(Debug, Default)]
pub(super) struct ResultsOutcome {
    /// Number of tasks of the worker that have ended.
    pub(super) finished: usize,
    /// Number of results that were dropped because the worker does not have their task.
    pub(super) strays: usize,
    /// Messages that were created or changed here, which use no credit of the worker.
    pub(super) created: Vec<Batch>,
}

/// Returns the message that reports to the caller that its task ended without any result.
fn end_without_result(task: Bytes) -> Option<Batch> {
    let message = Message::decode(task).ok()?;
    let share = message.share()?;
    Some(message.into_rest(share).into_frame().into())
}

/// Returns a result with a share that the caller must not rely on, if it is not the last result of its task, but has
/// the share of the whole task: its worker does not split shares.
fn with_incomplete_share(result: &Bytes, task: &Bytes) -> Option<Batch> {
    let mut result = Message::decode(result.clone()).ok()?;
    let share = result.share()?;
    if Message::decode(task.clone()).ok()?.share() != Some(share) {
        return None;
    }
    result.mark_share_incomplete();
    Some(result.into_frame().into())
}

impl ServerState {
    /// Queues tasks, and assigns as many as workers have credit for.
    fn submit(&mut self, batch: Batch, flow: Flow, now: Instant) {
        self.dispatch.submit(batch, flow, now, &mut self.failed);
        self.assign(now);
    }

    /// Assigns waiting tasks to workers with credit, within the limit on the bytes of assigned tasks.
    pub(super) fn assign(&mut self, now: Instant) {
        while self.admits_tasks()
            && let Some(assigned) = self.dispatch.assign(now)
        {
            let (tasks, first) = (&assigned.tasks, assigned.first);
            self.assigned_task_bytes += memory_bytes(tasks.len(), tasks.bytes());
            if let Some(peer) = self.peers.get_mut(&assigned.worker) {
                let delivery = self.dispatch.deliveries(first);
                let batch = self.deliveries.begin(assigned, &peer.name, delivery, now);
                let item = TaggedBatch::from_batch(TASK_TAG_STEP * first, TASK_TAG_STEP, batch);
                peer.session.submit(item, now);
                peer.schedule(&mut self.scheduled);
            }
        }
    }

    /// Returns whether the limit on the bytes of assigned tasks admits further ones. Tasks that have ended are counted
    /// until the limit is reached; then all are recounted, at most once in a tick.
    fn admits_tasks(&mut self) -> bool {
        if self.assigned_task_bytes >= self.max_task_bytes
            && std::mem::take(&mut self.may_recount_tasks)
        {
            self.assigned_task_bytes = self.dispatch.assigned_bytes();
        }
        self.assigned_task_bytes < self.max_task_bytes
    }

    /// Handles results of a worker, and adds those that count to `batches`.
    pub(super) fn results(
        &mut self,
        key: PeerKey,
        item: TaggedBatch,
        batches: &mut Vec<Batch>,
        now: Instant,
    ) -> ResultsOutcome {
        let TaggedBatch {
            mut tag,
            step,
            mut batch,
        } = item;
        let mut outcome = ResultsOutcome::default();
        let is_last = |tag: u64| tag & 1 == 1;
        let are_last = is_last(tag) && (step == TASK_TAG_STEP || batch.len() == 1);
        if are_last && batch.sizes().all(|it| it > 0) {
            let first = tag / TASK_TAG_STEP;
            let finished = self.dispatch.finish_range(key, first, batch.len());
            self.deliveries
                .end(first, finished, DeliveryEnd::Completed, now);
            outcome.finished = finished;
            if finished == batch.len() {
                batches.push(batch);
                return outcome;
            }
            if finished > 0 {
                batches.push(batch.split_to(finished));
                tag += step * finished as u64;
            }
        }
        let returns_tasks = |peer: &LinkPeer| peer.session.version() >= RETURNS_VERSION;
        let returns_tasks = self.peers.get(&key).is_some_and(returns_tasks);
        for frame in batch.frames() {
            let task = tag / TASK_TAG_STEP;
            let len = frame.len() as u64;
            let is_empty = frame.is_empty();
            let is_stray = self.dispatch.is_stray(key, task);
            let has_result = !is_stray && !is_empty && self.dispatch.record_result(key, task);
            let created = if has_result && !is_last(tag) && !returns_tasks {
                let begun = self.dispatch.frame(task);
                begun.and_then(|task| with_incomplete_share(&frame, task))
            } else if !is_stray && is_empty && is_last(tag) {
                self.dispatch.unanswered(task).and_then(end_without_result)
            } else {
                None
            };
            if has_result && created.is_none() {
                batches.push(frame.into());
            } else if let Some(peer) = self.peers.get_mut(&key) {
                peer.session.consume(1, len);
            }
            outcome.created.extend(created);
            if is_stray {
                outcome.strays += 1;
            } else if is_last(tag) {
                outcome.finished += usize::from(self.dispatch.finish(key, task));
                self.deliveries.end(task, 1, DeliveryEnd::Completed, now);
            } else if is_empty && returns_tasks {
                self.dispatch.return_task(key, task);
                self.deliveries.end_returned(key, task, now);
            }
            tag = tag.wrapping_add(step);
        }
        self.warn_of_strays(key, outcome.strays);
        outcome
    }

    /// Logs once per session that a worker has sent results of tasks that it does not have.
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

    use super::super::{InboundEvent, ServerOutput};
    use super::*;
    use crate::budget::IdLedger;
    use crate::link::session::{CreditWindow, Session, SessionEvent, VERSION};
    use crate::link::{LinkOptions, WORKER, header};
    use crate::message::Share;
    use crate::message::proto::{Function, LinkHello};
    use crate::report::WorkerState;
    use crate::socket::Frames;

    /// A worker's end of a link, without a socket.
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
        links: LinkServer,
        results: mpsc::UnboundedReceiver<InboundEvent>,
        workers: Vec<Remote>,
    }

    impl Rig {
        fn new(versions: &[u32]) -> Self {
            Self::with_options(versions, LinkOptions::default())
        }

        fn with_options(versions: &[u32], options: LinkOptions) -> Self {
            let links = LinkServer::new(options);
            links.state().output = ServerOutput::Recorded(VecDeque::new());
            assert!(links.claim_tasks());
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

        /// Delivers all headers.
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
                    panic!("the output is recorded");
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
            let batch = message.into_frame().into();
            let mut tasks = VecDeque::from([(Flow::new(1), batch)]);
            assert_eq!(self.links.submit(&mut tasks, 1, 1), 1);
            self.exchange();
        }

        /// Returns the results that were passed on, each with whether it uses a worker's credit.
        fn results(&mut self) -> Vec<(bool, Message)> {
            self.exchange();
            let mut results = Vec::new();
            while let Ok(InboundEvent::Messages { peer, batches, .. }) = self.results.try_recv() {
                for frame in batches.iter().flat_map(Batch::frames) {
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
    fn reports_of_workers_are_kept_within_their_memory_while_the_master_is_observed() {
        let mut rig = Rig::new(&[VERSION; 3]);
        let functions = |name: String| {
            let mut function = crate::report::Function::default();
            function.name = name;
            vec![function]
        };
        let report = |name: &str| {
            let worker = crate::report::Worker::new(1);
            WorkerState::new(worker, functions(name.to_owned())).encode()
        };
        let reported = |rig: &mut Rig, reports: [Bytes; 3]| {
            for (worker, report) in rig.workers.iter_mut().zip(reports) {
                worker.session.send_report(report);
            }
            rig.exchange();
            let edges = rig.links.report().edges;
            edges.iter().filter(|it| it.worker.is_some()).count()
        };
        let small = || [report("a"), report("b"), report("c")];
        assert_eq!(reported(&mut rig, small()), 0, "they were not requested");
        rig.links.state().inspection.observed_until =
            Some(Instant::now() + Duration::from_secs(30));
        assert_eq!(reported(&mut rig, small()), 3);
        let malformed = || Bytes::from_static(&[0xff; 9]);
        assert_eq!(
            reported(&mut rig, [report("a"), malformed(), report("c")]),
            2
        );
        // Each has a report of half a megabyte, and there is memory for one of them.
        rig.links.state().inspection.memory = IdLedger::new(600_000);
        let large = "n".repeat(60_000);
        let large = || report(&large);
        assert_eq!(reported(&mut rig, [large(), large(), large()]), 1);

        let later = Instant::now() + Duration::from_secs(31);
        *rig.links.time.lock() = Some(later);
        rig.links.tick();
        assert_eq!(reported(&mut rig, small()), 0, "the observation has ended");
    }

    #[test]
    fn result_of_a_task_that_its_worker_does_not_have_is_dropped() {
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
    fn task_returned_by_a_worker_of_version_3_is_redelivered() {
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
        let share = Share::from_input(7);
        rig.task(Some(share));
        rig.task(None);
        for tag in [3, 5] {
            rig.workers[0].send(tag, "");
        }
        let results = rig.results();
        assert_eq!(
            results.len(),
            1,
            "the other task has no share, so its end is not reported"
        );
        let (takes_credit, rest) = &results[0];
        assert_eq!((rest.is_rest(), rest.share()), (true, Some(share)));
        assert!(!takes_credit);
        assert_eq!(rig.links.outstanding(), 0);
        // An end that follows a result is not reported.
        rig.task(Some(share));
        rig.workers[0].send(6, result("one"));
        rig.workers[0].send(7, "");
        assert_eq!(rig.results().len(), 1);
        assert_eq!(rig.links.outstanding(), 0);
    }

    #[test]
    fn unsplit_share_of_a_worker_of_version_2_is_marked_as_incomplete() {
        let share = Share::from_input(7);
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
    fn assigned_tasks_are_limited_in_bytes() {
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
