//! The one loop by which inbound parts take messages from a socket that expects no answer.
//!
//! Messages that cannot go on yet wait here, each client's on their own, and go on in turns
//! ([`FairQueue`]): a client whose messages fill its part of the next queue, or that does not read its answers,
//! does not stop others. Pending messages are bounded by the windows of links, and by [`STASH`] for sockets.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::by_number::ByNumber;
use crate::component_state::ComponentState;
use crate::context::{ComponentContext, Context};
use crate::failure::catch_panic;
use crate::fair_queue::{FairQueue, Flow, FlowKey, Usage};
use crate::flow::FlowCache;
use crate::link::accept::PeerKey;
use crate::message::lease::Received;
use crate::message::{Group, Message, Split};
use crate::method::Emit;
use crate::metrics::PartCounters;
use crate::part::{BATCH, EmitToOutlet, Envelope, InboundHooks, Outlet};
use crate::queue::{Queued, Releases};
use crate::socket::{Pull, SocketClosed};

/// Messages that are still taken from a socket's memory once the component stops.
const LAST: usize = 10_000;

/// How long peers may take to say that they send no more.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How much waits here that came by a socket, until no more is taken from that.
const STASH: Usage = Usage {
    messages: 1024,
    bytes: 16 * 1024 * 1024,
};

/// Messages of a client that go on in its turn while others have some.
const QUANTUM: usize = 16;

/// What is returned to where messages came from, once they have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// A socket, which wants nothing.
    Socket,
    /// A link that was accepted.
    Peer(PeerKey),
    /// A link to a publisher.
    Publisher(Received),
}

/// Messages, or news of those who send them.
#[derive(Debug)]
pub(super) enum Arrival {
    Messages {
        group: Group,
        /// The client's whose link it is; otherwise that of the message.
        flow: Option<Flow>,
        receipt: Receipt,
    },
    /// A client does not read its answers, or reads again.
    Paused(FlowKey, bool),
}

impl Arrival {
    pub(super) fn group(&self) -> Option<&Group> {
        match self {
            Self::Messages { group, .. } => Some(group),
            Self::Paused(..) => None,
        }
    }

    pub(super) fn of_socket(frame: Bytes) -> Self {
        Self::Messages {
            group: frame.into(),
            flow: None,
            receipt: Receipt::Socket,
        }
    }
}

/// Messages that have gone on, and where they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassedOn {
    pub(super) receipt: Receipt,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Where messages come from.
pub(super) trait Source: Send {
    /// Waits for messages; may add none. `max`: how many to take from a socket; from links it takes all that
    /// there are. Cancel safe.
    fn recv_many(
        &mut self,
        out: &mut Vec<Arrival>,
        max: usize,
    ) -> impl Future<Output = Result<(), SocketClosed>> + Send;

    /// Takes what is there.
    fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize);

    /// Returns credit for messages that have gone on.
    fn passed_on(&mut self, messages: &mut Vec<PassedOn>) {
        messages.clear();
    }

    /// Tells peers to send no more, and waits until what they have sent is here. Cancel safe.
    fn drained(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl Source for Pull {
    async fn recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) -> Result<(), SocketClosed> {
        if max == 0 {
            return std::future::pending().await;
        }
        let mut frames = Vec::new();
        self.recv_many(&mut frames, max).await?;
        out.extend(frames.into_iter().map(Arrival::of_socket));
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) {
        let mut frames = Vec::new();
        self.try_recv_many(&mut frames, max);
        out.extend(frames.into_iter().map(Arrival::of_socket));
    }
}

/// Whether messages get an id of their own in `cache` where it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    Given,
    LeftAlone,
}

/// What an intake needs besides its socket.
pub(super) struct Intake<H> {
    hooks: H,
    ids: Ids,
    context: Arc<ComponentContext>,
    counters: Arc<PartCounters>,
    outlet: Outlet,
    flows: FlowCache,
    backlog: Backlog,
    /// Messages that go on at once.
    batch: Vec<Envelope>,
    /// Where workers register their functions, if their results arrive.
    shared: Option<Arc<ComponentState>>,
}

/// A message, or several that go the same way, and where they came from.
#[derive(Debug)]
struct Waiting {
    envelope: Envelope,
    receipt: Receipt,
}

impl Waiting {
    fn usage(&self) -> Usage {
        self.envelope.usage()
    }

    /// Takes up to `most` messages of it, which is never none.
    fn split_to(&mut self, most: usize) -> Option<Self> {
        let envelope = self.envelope.split_to(most)?;
        let receipt = self.receipt;
        Some(Self { envelope, receipt })
    }
}

/// Messages that cannot go on yet.
#[derive(Default)]
struct Backlog {
    waiting: FairQueue<Option<Waiting>>,
    /// How much of it came by sockets.
    by_sockets: Usage,
    /// Messages that had their turn when there was no capacity for them. They go on before others of
    /// their flows.
    stash: Vec<Envelope>,
    /// Flows for which there was no capacity.
    full: HashSet<FlowKey>,
    /// Clients that do not read their answers.
    unread: HashSet<FlowKey>,
    /// When there was no capacity for the last time.
    releases: Option<Releases>,
    /// Memory of [`pop`](Self::pop).
    rooms: ByNumber<usize>,
    /// For which credit is to be returned.
    passed_on: Vec<PassedOn>,
}

impl Backlog {
    /// How many messages may be taken from a socket, of which `left` are to be taken in all, `most` at once.
    fn socket_room(&self, left: usize, most: usize) -> usize {
        if self.by_sockets.bytes >= STASH.bytes {
            return 0;
        }
        let most_waiting = left.min(STASH.messages.min(4 * most));
        most_waiting
            .saturating_sub(self.by_sockets.messages)
            .min(most)
    }

    fn is_empty(&self) -> bool {
        self.waiting.busy_flows() == 0 && self.full.is_empty() && self.unread.is_empty()
    }

    fn push(&mut self, waiting: Waiting) {
        let (flow, usage) = (waiting.envelope.flow, waiting.usage());
        if waiting.receipt == Receipt::Socket {
            self.by_sockets.add(usage);
        }
        self.waiting.push(flow, Some(waiting), usage);
    }

    fn fill(&mut self, flow: FlowKey, releases: Option<Releases>) {
        // The oldest counts: what was released since is noticed.
        if self.full.is_empty() {
            self.releases = releases;
        }
        self.full.insert(flow);
        self.waiting.set_paused(flow, true);
    }

    fn set_unread(&mut self, flow: FlowKey, is_unread: bool) {
        match is_unread {
            true => self.unread.insert(flow),
            false => self.unread.remove(&flow),
        };
        let is_paused = is_unread || self.full.contains(&flow);
        self.waiting.set_paused(flow, is_paused);
    }

    /// Messages have gone on: finds the flows that have capacity again.
    fn released(&mut self, outlet: &Outlet) {
        let mut releases = outlet.try_send_all(&mut self.stash);
        let stashed: HashSet<_> = self.stash.iter().map(|it| it.flow.key).collect();
        let mut full = std::mem::take(&mut self.full);
        full.retain(|flow| {
            let (room, since) = outlet.room(*flow);
            releases = releases.or(since);
            let is_full = stashed.contains(flow) || room == 0;
            if !is_full && !self.unread.contains(flow) {
                self.waiting.set_paused(*flow, false);
            }
            is_full
        });
        self.full = full;
        self.releases = releases;
    }

    /// Takes up to `max` messages whose turn it is and for which there is capacity.
    fn pop(&mut self, outlet: &Outlet, max: usize, least_room: usize, out: &mut Vec<Waiting>) {
        let mut rooms = std::mem::take(&mut self.rooms);
        rooms.clear();
        let mut left = max;
        while left > 0
            && let Some(flow) = self.waiting.next_flow()
        {
            let room = match rooms.entry(flow) {
                Entry::Occupied(room) => room.into_mut(),
                Entry::Vacant(entry) => {
                    let (room, releases) = outlet.room(flow);
                    if room < least_room {
                        self.fill(flow, releases);
                        continue;
                    }
                    entry.insert(room)
                }
            };
            if *room == 0 {
                let (_, releases) = outlet.room(flow);
                self.fill(flow, releases);
                continue;
            }
            let mut most = left.min(*room);
            if self.waiting.busy_flows() > 1 {
                most = most.min(QUANTUM);
            }
            let taken = self.waiting.pop_part(|waiting, usage| {
                let part = match waiting {
                    Some(it) if usage.messages > most => it.split_to(most),
                    _ => None,
                };
                match part.or_else(|| waiting.take()) {
                    Some(part) => {
                        let usage = part.usage();
                        (Some(part), usage)
                    }
                    None => (None, usage),
                }
            });
            let Some((_, Some(part))) = taken else {
                break;
            };
            let usage = part.usage();
            if part.receipt == Receipt::Socket {
                self.by_sockets.subtract(usage);
            }
            *room = room.saturating_sub(usage.messages);
            left = left.saturating_sub(usage.messages);
            out.push(part);
        }
        self.rooms = rooms;
    }

    /// Credit is to be returned for messages.
    fn settle(&mut self, receipt: Receipt, messages: usize, bytes: usize) {
        if receipt == Receipt::Socket {
            return;
        }
        let (messages, bytes) = (messages as u64, bytes as u64);
        match self.passed_on.last_mut() {
            Some(last) if last.receipt == receipt => {
                last.messages += messages;
                last.bytes += bytes;
            }
            _ => self.passed_on.push(PassedOn {
                receipt,
                messages,
                bytes,
            }),
        }
    }
}

impl<H: InboundHooks> Intake<H> {
    pub(super) fn new(
        hooks: H,
        ids: Ids,
        context: Arc<ComponentContext>,
        counters: Arc<PartCounters>,
        outlet: Outlet,
    ) -> Self {
        Self {
            hooks,
            ids,
            context,
            counters,
            outlet,
            flows: FlowCache::default(),
            backlog: Backlog::default(),
            batch: Vec::new(),
            shared: None,
        }
    }

    /// What arrives are results of workers, which may have registered how many results a function has.
    pub(super) fn of_workers(self, shared: Arc<ComponentState>) -> Self {
        Self {
            shared: Some(shared),
            ..self
        }
    }

    /// Takes messages until the component stops, and then what is in the socket's memory.
    pub(super) async fn run(mut self, source: &mut impl Source) -> Result<(), SocketClosed> {
        // A small queue is to hold back as much as it says.
        let most = BATCH.min(self.outlet.limit());
        let (mut arrivals, mut next) = (Vec::new(), Vec::new());
        loop {
            let max = self.outlet.left().min(most);
            if max == 0 {
                // The last message was taken; what else has arrived is for another component.
                self.outlet.stop.set_incomplete();
                self.outlet.send_all(&mut self.backlog.stash).await;
                return Ok(());
            }
            if !self.backlog.passed_on.is_empty() {
                source.passed_on(&mut self.backlog.passed_on);
            }
            let from_socket = self.backlog.socket_room(self.outlet.left(), most);
            tokio::select! {
                biased;
                () = self.outlet.stopped() => break,
                () = self.outlet.released(self.backlog.releases), if !self.backlog.full.is_empty() => {
                    self.backlog.released(&self.outlet);
                }
                received = source.recv_many(&mut arrivals, from_socket) => received?,
                () = tokio::task::coop::consume_budget(), if self.backlog.waiting.is_ready() => {}
            }
            self.sort(&mut arrivals, max, &mut next);
            if next.is_empty() && self.backlog.waiting.is_ready() {
                let (max, least_room) = self.turn(max);
                self.backlog.pop(&self.outlet, max, least_room, &mut next);
            }
            self.handle(&mut next).await;
        }
        // A peer that does not say in time that it has finished is not waited for.
        let limit = LAST_WAIT.min(self.outlet.stop.linger);
        if tokio::time::timeout(limit, source.drained()).await.is_err() {
            self.outlet.stop.set_incomplete();
        }
        let mut last = LAST;
        loop {
            source.passed_on(&mut self.backlog.passed_on);
            source.try_recv_many(&mut arrivals, last.min(BATCH));
            let came = arrivals.len();
            last -= came.min(last);
            self.sort(&mut arrivals, 0, &mut next);
            self.flush().await;
            if came == 0 {
                break;
            }
            if last == 0 {
                self.outlet.stop.set_incomplete();
                break;
            }
        }
        source.passed_on(&mut self.backlog.passed_on);
        Ok(())
    }

    pub(super) fn linger(&self) -> Duration {
        self.outlet.stop.linger
    }

    /// How many messages go on at once, and the capacity that their flows must have for that. A hook that makes
    /// several messages of one waits for capacity itself, and keeps others waiting.
    fn turn(&self, max: usize) -> (usize, usize) {
        match self.passes_on() {
            true => (max, 1),
            false => (1, (self.outlet.limit() / 8).clamp(1, 100)),
        }
    }

    /// Sends all that waits, and waits for capacity.
    async fn flush(&mut self) {
        self.outlet.send_all(&mut self.backlog.stash).await;
        let waiting = self.backlog.waiting.drain();
        let mut next = waiting.into_iter().filter_map(|(_, it)| it).collect();
        self.backlog.by_sockets = Usage::default();
        self.handle(&mut next).await;
        self.outlet.send_all(&mut self.backlog.stash).await;
    }

    /// Whether messages can go on together: nothing is to be done with each but to pass it on.
    fn passes_on(&self) -> bool {
        passes_on::<H>() && !self.outlet.block
    }

    /// Sorts what came by clients. Adds it to `next` if it can go on at once, up to `max` messages.
    fn sort(&mut self, arrivals: &mut Vec<Arrival>, max: usize, next: &mut Vec<Waiting>) {
        if arrivals.is_empty() {
            return;
        }
        let since = Instant::now();
        let messages = |arrival: &Arrival| match arrival {
            Arrival::Messages { group, .. } => group.len(),
            Arrival::Paused(..) => usize::MAX / 2,
        };
        let messages = arrivals.iter().map(messages);
        let goes_on = self.passes_on()
            && self.backlog.is_empty()
            && messages.fold(0, usize::saturating_add) <= max;
        for arrival in arrivals.drain(..) {
            let (group, flow, receipt) = match arrival {
                Arrival::Messages {
                    group,
                    flow,
                    receipt,
                } => (group, flow, receipt),
                Arrival::Paused(flow, is_unread) => {
                    self.backlog.set_unread(flow, is_unread);
                    continue;
                }
            };
            let Some(waiting) = self.read(group, flow, receipt, since) else {
                continue;
            };
            if goes_on {
                next.push(waiting);
            } else {
                self.backlog.push(waiting);
            }
        }
    }

    /// Reads the first message.
    fn read(
        &mut self,
        group: Group,
        flow: Option<Flow>,
        receipt: Receipt,
        since: Instant,
    ) -> Option<Waiting> {
        let first = Message::read(group.first());
        let Some(mut first) = first.or_else(|| (group.len() > 1).then(Message::default)) else {
            self.counters.count_error();
            self.backlog.settle(receipt, group.len(), group.bytes());
            return None;
        };
        if receipt == Receipt::Socket && !self.is_only_result(&first) {
            // Such peers keep the share as it is, also if they make several messages of one, or none.
            first.doubt_share();
        }
        let flow = flow.unwrap_or_else(|| self.flows.flow_of(&first));
        let envelope = match group.len() {
            1 => Envelope::new(first, flow, since),
            _ => Envelope::together(first, group, flow, since),
        };
        Some(Waiting { envelope, receipt })
    }

    /// Whether a message is a worker's result, and the only one of its task, as the function is registered.
    fn is_only_result(&self, message: &Message) -> bool {
        self.shared.as_ref().is_some_and(|shared| {
            let function = message.step().map_or("", |step| step.function);
            shared.functions.has_one_result(function)
        })
    }

    async fn handle(&mut self, next: &mut Vec<Waiting>) {
        if next.is_empty() {
            return;
        }
        let came: usize = next.iter().map(|it| it.usage().messages).sum();
        let mut left = self.outlet.take(came);
        self.counters.count_dropped(came - left);
        let (mut count, mut bytes) = (0, 0);
        for mut waiting in next.drain(..) {
            let mut usage = waiting.usage();
            self.backlog
                .settle(waiting.receipt, usage.messages, usage.bytes);
            if usage.messages > left {
                let Some(front) = (left > 0).then(|| waiting.split_to(left)).flatten() else {
                    continue;
                };
                waiting = front;
                usage = waiting.usage();
            }
            left -= usage.messages;
            count += usage.messages;
            bytes += usage.bytes;
            self.handle_one(waiting.envelope).await;
        }
        self.counters.count(count, bytes);
        if self.batch.is_empty() {
            return;
        }
        self.outlet.log_all(&self.batch);
        let releases = self.outlet.try_send_all(&mut self.batch);
        if !self.batch.is_empty() {
            for envelope in &self.batch {
                self.backlog.fill(envelope.flow.key, releases);
            }
            self.backlog.stash.append(&mut self.batch);
        }
    }

    async fn handle_one(&mut self, envelope: Envelope) {
        if envelope.together.is_none() {
            return self.pass_on(envelope).await;
        }
        if self.goes_together(&envelope) {
            return self.batch.push(envelope);
        }
        let Some(group) = envelope.together else {
            return;
        };
        for frame in group.frames() {
            match Message::read(frame) {
                Some(message) => {
                    let envelope = Envelope::new(message, envelope.flow, envelope.since);
                    self.pass_on(envelope).await;
                }
                None => self.counters.count_error(),
            }
        }
    }

    /// Whether nothing is to be done with any of several messages.
    fn goes_together(&self, envelope: &Envelope) -> bool {
        let needs_id = self.ids == Ids::Given && envelope.message.cache().is_empty();
        let messages = envelope.usage().messages;
        self.passes_on() && self.outlet.takes_together(messages) && !needs_id
    }

    async fn pass_on(&mut self, envelope: Envelope) {
        let Envelope {
            mut message,
            flow,
            since,
            ..
        } = envelope;
        if self.passes_on() {
            if self.ids == Ids::Given {
                message.ensure_id();
            }
            return self.batch.push(Envelope::new(message, flow, since));
        }
        let answer = if H::SCATTERS {
            let hooks = &mut self.hooks;
            match scatter(hooks, &self.context, message, flow, &self.outlet, since).await {
                Ok(answer) => answer,
                Err(()) => {
                    self.counters.count_error();
                    return;
                }
            }
        } else {
            if self.ids == Ids::Given {
                message.ensure_id();
            }
            self.outlet.send_in(message, flow, since).await
        };
        handle_feedback(&mut self.hooks, &answer);
    }
}

/// Whether nothing is to be done with a message but to pass it on.
pub(super) const fn passes_on<H: InboundHooks>() -> bool {
    !H::SCATTERS && !H::TAKES_FEEDBACK
}

/// Runs a hook of the user's, whatever it does.
pub(super) fn handle_feedback<H: InboundHooks>(hooks: &mut H, feedback: &Bytes) {
    let hook = AssertUnwindSafe(|| hooks.handle_feedback(feedback));
    if std::panic::catch_unwind(hook).is_err() {
        tracing::error!("handle_feedback panicked");
    }
}

/// Sends on the messages that the hook yields, and behind them the rest of the completion weight. Returns the
/// answer to the last of them. A message that is done is not shown to the hook.
pub(super) async fn scatter<H: InboundHooks>(
    hooks: &mut H,
    context: &Arc<ComponentContext>,
    mut message: Message,
    flow: Flow,
    outlet: &Outlet,
    since: Instant,
) -> Result<Bytes, ()> {
    if message.is_done() {
        message.ensure_id();
        return Ok(outlet.send_in(message, flow, since).await);
    }
    let mut queue = EmitToOutlet {
        outlet,
        flow,
        since,
        answer: Bytes::new(),
        share: message
            .share()
            .map(|share| (Split::new(share), message.client_topic())),
    };
    let context = Context::new(context.clone(), message.clone());
    let mut emit = Emit::new(&mut queue);
    match catch_panic(hooks.scatter(message, context.clone(), &mut emit), Err).await {
        Ok(()) => {
            queue.finish(|| context.message().clone()).await;
            Ok(queue.answer)
        }
        Err(failure) => {
            let function = context.message().function();
            let cause = failure.chain();
            tracing::error!(function, "scatter {failure}: {cause}");
            let mut failed = context.message().clone().failed(context.name(), &failure);
            if let Some((split, _)) = queue.share {
                failed.set_share(Some(split.rest()));
            }
            outlet.send_failed(failed, flow, since).await;
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use futures_util::FutureExt;
    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
    use crate::part::{NoHooks, Stop};
    use crate::queue::{QueueLimits, Receiver, queue};

    /// Gives what a test has put in.
    #[derive(Clone, Default)]
    struct Script(Arc<(Mutex<Content>, Notify)>);

    #[derive(Default)]
    struct Content {
        arrivals: Vec<Arrival>,
        /// How much may be taken from the socket, as asked for last.
        max: usize,
        passed_on: Vec<PassedOn>,
    }

    impl Script {
        fn content(&self) -> std::sync::MutexGuard<'_, Content> {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn put(&self, arrivals: impl IntoIterator<Item = Arrival>) {
            self.content().arrivals.extend(arrivals);
            self.0.1.notify_one();
        }

        fn passed_on(&self, peer: PeerKey) -> u64 {
            let content = self.content();
            let own = |it: &&PassedOn| it.receipt == Receipt::Peer(peer);
            content
                .passed_on
                .iter()
                .filter(own)
                .map(|it| it.messages)
                .sum()
        }
    }

    impl Source for Script {
        async fn recv_many(
            &mut self,
            out: &mut Vec<Arrival>,
            max: usize,
        ) -> Result<(), SocketClosed> {
            loop {
                {
                    let mut content = self.content();
                    content.max = max;
                    out.append(&mut content.arrivals);
                }
                if !out.is_empty() {
                    return Ok(());
                }
                self.0.1.notified().await;
            }
        }

        fn try_recv_many(&mut self, out: &mut Vec<Arrival>, _: usize) {
            out.append(&mut self.content().arrivals);
        }

        fn passed_on(&mut self, messages: &mut Vec<PassedOn>) {
            self.content().passed_on.append(messages);
        }
    }

    fn frame(client: &str) -> Bytes {
        let mut message = Message::new("a.b", client.to_owned());
        message.set_client(client.to_owned());
        message.encode()
    }

    /// Calls of the client with this link.
    fn of_peer(peer: PeerKey, count: usize) -> impl Iterator<Item = Arrival> {
        (0..count).map(move |_| Arrival::Messages {
            group: frame(&peer.to_string()).into(),
            flow: Some(Flow::new(peer)),
            receipt: Receipt::Peer(peer),
        })
    }

    fn of_socket(client: &str, count: usize) -> impl Iterator<Item = Arrival> {
        (0..count).map(move |_| Arrival::of_socket(frame(client)))
    }

    struct Running {
        script: Script,
        queue: Receiver<Envelope>,
        stop: CancellationToken,
        intake: futures_core::future::BoxFuture<'static, Result<(), SocketClosed>>,
    }

    fn intake(messages: usize) -> Running {
        let (sender, queue) = queue(QueueLimits {
            messages,
            bytes: 1_000_000,
        });
        let stop = Stop::new(Duration::from_secs(1));
        let token = stop.token.clone();
        let outlet = Outlet {
            route: Some(sender),
            failures: None,
            block: false,
            log: false,
            part: "Pull".into(),
            left: None,
            stop,
        };
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let context = ComponentContext {
            name: "a".to_owned(),
            cache: Cache::here(Arc::new(store)),
        };
        let intake = Intake::new(
            NoHooks,
            Ids::Given,
            Arc::new(context),
            Arc::default(),
            outlet,
        );
        let script = Script::default();
        let mut source = script.clone();
        Running {
            script,
            queue,
            stop: token,
            intake: Box::pin(async move { intake.run(&mut source).await }),
        }
    }

    impl Running {
        /// Lets the intake do what it can.
        fn settle(&mut self) {
            for _ in 0..100 {
                assert!((&mut self.intake).now_or_never().is_none());
            }
        }

        /// Takes messages; returns their clients.
        fn take(&mut self, max: usize) -> Vec<String> {
            let mut out = Vec::new();
            self.queue.recv_many(&mut out, max).now_or_never();
            out.iter()
                .map(|it| it.message.client().to_owned())
                .collect()
        }
    }

    fn count(clients: &[String], client: &str) -> usize {
        clients.iter().filter(|it| *it == client).count()
    }

    #[tokio::test]
    async fn client_without_capacity_does_not_hold_back_others() {
        let mut running = intake(10);
        running.script.put(of_peer(1, 100));
        running.settle();
        running.script.put(of_peer(2, 1));
        running.settle();
        let taken = running.take(100);
        assert_eq!((count(&taken, "1"), count(&taken, "2")), (8, 1));
    }

    #[tokio::test]
    async fn clients_go_on_in_turns_and_all_messages_do() {
        let mut running = intake(20);
        running.script.put(of_peer(1, 300));
        running.settle();
        running.script.put(of_peer(2, 60).chain(of_peer(3, 60)));
        let mut taken = Vec::new();
        while taken.len() < 420 {
            running.settle();
            let more = running.take(4);
            assert!(!more.is_empty(), "after {}", taken.len());
            taken.extend(more);
        }
        let early = &taken[..150];
        for client in ["1", "2", "3"] {
            let share = count(early, client);
            assert!((40..=70).contains(&share), "{client}: {share}");
        }
        assert_eq!(count(&taken, "1"), 300);
    }

    #[tokio::test]
    async fn credit_is_returned_for_what_has_gone_on() {
        let mut running = intake(10);
        running.script.put(of_peer(1, 100).chain(of_peer(2, 1)));
        running.settle();
        assert!(running.script.passed_on(1) < 20);
        assert_eq!(running.script.passed_on(2), 1);
        while !running.take(5).is_empty() {
            running.settle();
        }
        assert_eq!(running.script.passed_on(1), 100);
    }

    #[tokio::test]
    async fn client_that_does_not_read_waits_until_it_reads() {
        let mut running = intake(100);
        running.script.put([Arrival::Paused(1, true)]);
        running.script.put(of_peer(1, 5).chain(of_peer(2, 5)));
        running.settle();
        assert_eq!(running.take(100), ["2"; 5]);
        assert_eq!(running.script.passed_on(1), 0);
        running.script.put([Arrival::Paused(1, false)]);
        running.settle();
        assert_eq!(running.take(100), ["1"; 5]);
    }

    #[tokio::test]
    async fn sockets_are_not_read_while_much_of_them_waits() {
        let mut running = intake(100);
        running.script.put(of_socket("flood", 900));
        running.settle();
        assert!(running.script.content().max < 100);
        running.script.put(of_socket("other", 1));
        running.settle();
        let taken = running.take(100);
        assert_eq!((count(&taken, "flood"), count(&taken, "other")), (80, 1));
        running.settle();
        while !running.take(100).is_empty() {
            running.settle();
        }
        assert_eq!(running.script.content().max, 100);
    }

    #[tokio::test]
    async fn all_that_waits_goes_on_when_the_component_stops() {
        let mut running = intake(10);
        running.script.put([Arrival::Paused(2, true)]);
        running.script.put(of_peer(1, 50).chain(of_peer(2, 50)));
        running.settle();
        running.stop.cancel();
        let mut taken = Vec::new();
        let mut ended = false;
        while !ended {
            ended = (&mut running.intake).now_or_never().is_some();
            taken.extend(running.take(100));
        }
        assert_eq!((count(&taken, "1"), count(&taken, "2")), (50, 50));
    }

    #[tokio::test]
    async fn group_goes_on_in_parts_and_stays_in_order() {
        let mut running = intake(20);
        let mut builder = crate::message::GroupBuilder::default();
        for number in 0..90_u8 {
            let mut message = Message::new("a.b", vec![number]);
            message.set_client("1");
            message.ensure_id();
            builder.join(message, 100).unwrap();
        }
        running.script.put([Arrival::Messages {
            group: builder.take().unwrap(),
            flow: Some(Flow::new(1)),
            receipt: Receipt::Peer(1),
        }]);
        let mut numbers = Vec::new();
        while numbers.len() < 90 {
            running.settle();
            let mut out = Vec::new();
            running.queue.recv_many(&mut out, 7).now_or_never();
            for envelope in out {
                let mut each = Vec::new();
                envelope.each(&mut each);
                numbers.extend(each.iter().map(|it| it.message.payload()[0]));
            }
        }
        assert!(numbers.into_iter().eq(0..90));
        running.settle();
        assert_eq!(running.script.passed_on(1), 90);
    }
}
