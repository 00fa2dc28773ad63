//! The receive loop of inbound parts whose peers do not wait for an answer.
//!
//! [`ReceiveLoop::run`] receives from a [`MessageSource`] (a socket, links, or both), runs the hooks, and sends to the
//! outlet. Messages that cannot be sent at once wait in a [`ReceiveBacklog`], queued per client and served in turn by
//! a [`FairQueue`]: a client that fills its share of the next queue, or that does not read its answers, does not stop
//! other clients. Credit is returned to a link only for messages that were sent on, so the backlog is bounded by the
//! credit of each link; for sockets, which have no credit, it is bounded by [`MAX_SOCKET_BACKLOG`].

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::component_state::ComponentState;
use crate::context::{ComponentContext, Context};
use crate::failure::catch_panic;
use crate::fair_queue::{FairQueue, Flow, FlowKey, Usage};
use crate::flow::FlowCache;
use crate::id_map::IdMap;
use crate::link::PeerKey;
use crate::message::lease::LinkReceipt;
use crate::message::{Batch, Message, Split};
use crate::method::Emit;
use crate::metrics::PartCounters;
use crate::part::{BATCH, EmitToOutlet, Envelope, InboundHooks, Outlet};
use crate::queue::{Queued, Releases};
use crate::socket::{Pull, SocketClosed};

/// The most messages that are still received from a socket's buffers once the component stops.
const MAX_DRAINED_MESSAGES: usize = 10_000;

/// How long peers may take to acknowledge that they stop sending.
const PEER_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The backlog of messages from sockets above which sockets are not read.
const MAX_SOCKET_BACKLOG: Usage = Usage {
    messages: 1024,
    bytes: 16 * 1024 * 1024,
};

/// The most messages of a client that are sent in one turn while other clients wait.
const MAX_TURN_MESSAGES: usize = 16;

/// Where messages came from, and so where their credit is returned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A socket, which has no credit.
    Socket,
    /// A link that a peer opened.
    Peer(PeerKey),
    /// A link that this component opened to a publisher.
    Publisher(LinkReceipt),
}

/// Messages from a source, or a change of one of its clients.
#[derive(Debug)]
pub(super) enum SourceEvent {
    Messages {
        group: Batch,
        /// The flow of the client that owns the link; `None` if the flow is that of each message.
        flow: Option<Flow>,
        origin: Origin,
    },
    /// A client has stopped reading its answers (`true`), or reads again.
    Paused(FlowKey, bool),
}

impl SourceEvent {
    pub(super) fn group(&self) -> Option<&Batch> {
        match self {
            Self::Messages { group, .. } => Some(group),
            Self::Paused(..) => None,
        }
    }

    pub(super) fn from_socket(frame: Bytes) -> Self {
        Self::Messages {
            group: frame.into(),
            flow: None,
            origin: Origin::Socket,
        }
    }
}

/// Messages that were sent on, for which credit is returned to their origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConsumedMessages {
    pub(super) origin: Origin,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A source of messages: a socket, links, or both.
pub(super) trait MessageSource: Send {
    /// Waits for messages and appends them to `out`; may append none.
    ///
    /// Receives at most `max` messages from a socket, and all that have arrived from links. Cancel safe.
    fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> impl Future<Output = Result<(), SocketClosed>> + Send;

    /// Appends messages that have already arrived to `out`.
    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize);

    /// Returns credit for messages that were sent on.
    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        messages.clear();
    }

    /// Asks peers to stop sending, and waits until all messages that they have sent have arrived. Cancel safe.
    fn drain_peers(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl MessageSource for Pull {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        if max == 0 {
            return std::future::pending().await;
        }
        let mut frames = Vec::new();
        self.recv_many(&mut frames, max).await?;
        out.extend(frames.into_iter().map(SourceEvent::from_socket));
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        let mut frames = Vec::new();
        self.try_recv_many(&mut frames, max);
        out.extend(frames.into_iter().map(SourceEvent::from_socket));
    }
}

/// Whether a message with an empty `cache` field is assigned an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageIds {
    Assigned,
    Unchanged,
}

/// The receive loop of an inbound part with the hooks `H`.
pub(super) struct ReceiveLoop<H> {
    hooks: H,
    ids: MessageIds,
    context: Arc<ComponentContext>,
    counters: Arc<PartCounters>,
    outlet: Outlet,
    flows: FlowCache,
    backlog: ReceiveBacklog,
    /// Messages that are about to be sent.
    batch: Vec<Envelope>,
    /// The function registry of workers, if the messages are their results.
    shared: Option<Arc<ComponentState>>,
}

/// Messages for one route from one origin.
#[derive(Debug)]
struct BacklogItem {
    envelope: Envelope,
    origin: Origin,
}

impl BacklogItem {
    fn usage(&self) -> Usage {
        self.envelope.usage()
    }

    /// Splits off the first `most` messages; `None` if there are no more than that.
    fn split_to(&mut self, most: usize) -> Option<Self> {
        let envelope = self.envelope.split_to(most)?;
        let origin = self.origin;
        Some(Self { envelope, origin })
    }
}

/// Messages that cannot be sent yet, by client.
#[derive(Default)]
struct ReceiveBacklog {
    waiting: FairQueue<Option<BacklogItem>>,
    /// The part of the backlog that came from sockets.
    by_sockets: Usage,
    /// Messages that were handled when there was no capacity. They are sent before others of their flows.
    unsent: Vec<Envelope>,
    /// Flows without capacity in the next queue.
    full: HashSet<FlowKey>,
    /// Clients that do not read their answers.
    unread: HashSet<FlowKey>,
    /// The state of the next queue when the first of these flows was added.
    releases: Option<Releases>,
    /// The capacities that [`pop`](Self::pop) has read; kept to reuse the allocation.
    capacities: IdMap<usize>,
    /// Messages for which credit is to be returned.
    consumed: Vec<ConsumedMessages>,
}

impl ReceiveBacklog {
    /// Returns how many messages may be received from a socket: at most `left` in total, and `most` at once.
    fn socket_capacity(&self, left: usize, most: usize) -> usize {
        if self.by_sockets.bytes >= MAX_SOCKET_BACKLOG.bytes {
            return 0;
        }
        let most_waiting = left.min(MAX_SOCKET_BACKLOG.messages.min(4 * most));
        most_waiting
            .saturating_sub(self.by_sockets.messages)
            .min(most)
    }

    fn is_empty(&self) -> bool {
        self.waiting.busy_flows() == 0 && self.full.is_empty() && self.unread.is_empty()
    }

    fn push(&mut self, waiting: BacklogItem) {
        let (flow, usage) = (waiting.envelope.flow, waiting.usage());
        if waiting.origin == Origin::Socket {
            self.by_sockets.add(usage);
        }
        self.waiting.push(flow, Some(waiting), usage);
    }

    fn fill(&mut self, flow: FlowKey, releases: Option<Releases>) {
        // The oldest state is kept, so that a release since then is noticed.
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

    /// Resumes the flows that have capacity again after the next queue has released messages.
    fn released(&mut self, outlet: &Outlet) {
        let mut releases = outlet.try_send_all(&mut self.unsent);
        let unsent: HashSet<_> = self.unsent.iter().map(|it| it.flow.key).collect();
        let mut full = std::mem::take(&mut self.full);
        full.retain(|flow| {
            let (capacity, since) = outlet.capacity(*flow);
            releases = releases.or(since);
            let is_full = unsent.contains(flow) || capacity == 0;
            if !is_full && !self.unread.contains(flow) {
                self.waiting.set_paused(*flow, false);
            }
            is_full
        });
        self.full = full;
        self.releases = releases;
    }

    /// Moves up to `max` messages whose turn it is, and for which there is capacity, to `out`.
    fn pop(
        &mut self,
        outlet: &Outlet,
        max: usize,
        least_capacity: usize,
        out: &mut Vec<BacklogItem>,
    ) {
        let mut capacities = std::mem::take(&mut self.capacities);
        capacities.clear();
        let mut left = max;
        while left > 0
            && let Some(flow) = self.waiting.next_flow()
        {
            let capacity = match capacities.entry(flow) {
                Entry::Occupied(capacity) => capacity.into_mut(),
                Entry::Vacant(entry) => {
                    let (capacity, releases) = outlet.capacity(flow);
                    if capacity < least_capacity {
                        self.fill(flow, releases);
                        continue;
                    }
                    entry.insert(capacity)
                }
            };
            if *capacity == 0 {
                let (_, releases) = outlet.capacity(flow);
                self.fill(flow, releases);
                continue;
            }
            let mut most = left.min(*capacity);
            if self.waiting.busy_flows() > 1 {
                most = most.min(MAX_TURN_MESSAGES);
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
            if part.origin == Origin::Socket {
                self.by_sockets.subtract(usage);
            }
            *capacity = capacity.saturating_sub(usage.messages);
            left = left.saturating_sub(usage.messages);
            out.push(part);
        }
        self.capacities = capacities;
    }

    /// Adds messages for which credit is to be returned.
    fn add_consumed(&mut self, origin: Origin, messages: usize, bytes: usize) {
        if origin == Origin::Socket {
            return;
        }
        let (messages, bytes) = (messages as u64, bytes as u64);
        match self.consumed.last_mut() {
            Some(last) if last.origin == origin => {
                last.messages += messages;
                last.bytes += bytes;
            }
            _ => self.consumed.push(ConsumedMessages {
                origin,
                messages,
                bytes,
            }),
        }
    }
}

impl<H: InboundHooks> ReceiveLoop<H> {
    pub(super) fn new(
        hooks: H,
        ids: MessageIds,
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
            backlog: ReceiveBacklog::default(),
            batch: Vec::new(),
            shared: None,
        }
    }

    /// Returns the loop for results of workers, whose registered functions say how many results a task has.
    pub(super) fn for_results(self, shared: Arc<ComponentState>) -> Self {
        Self {
            shared: Some(shared),
            ..self
        }
    }

    /// Receives messages until the component stops, and then those in the socket's buffers.
    pub(super) async fn run(mut self, source: &mut impl MessageSource) -> Result<(), SocketClosed> {
        // No batch exceeds the next queue, so that a small queue limits what was received.
        let most = BATCH.min(self.outlet.limit());
        let (mut arrivals, mut next) = (Vec::new(), Vec::new());
        loop {
            let max = self.outlet.remaining().min(most);
            if max == 0 {
                // The component has reached its limit of messages; peers send the others again.
                self.outlet.stop.set_incomplete();
                self.outlet.send_all(&mut self.backlog.unsent).await;
                return Ok(());
            }
            if !self.backlog.consumed.is_empty() {
                source.return_credit(&mut self.backlog.consumed);
            }
            let from_socket = self.backlog.socket_capacity(self.outlet.remaining(), most);
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
                let (max, least_capacity) = self.turn(max);
                self.backlog
                    .pop(&self.outlet, max, least_capacity, &mut next);
            }
            self.handle(&mut next).await;
        }
        // A peer that does not acknowledge in time may still have sent messages.
        let limit = PEER_DRAIN_TIMEOUT.min(self.outlet.stop.linger);
        if tokio::time::timeout(limit, source.drain_peers())
            .await
            .is_err()
        {
            self.outlet.stop.set_incomplete();
        }
        let mut last = MAX_DRAINED_MESSAGES;
        loop {
            source.return_credit(&mut self.backlog.consumed);
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
        source.return_credit(&mut self.backlog.consumed);
        Ok(())
    }

    pub(super) fn linger(&self) -> Duration {
        self.outlet.stop.linger
    }

    /// Returns how many messages are handled at once, and the capacity that their flows must have.
    ///
    /// A hook that emits several messages waits for capacity itself, and keeps other clients waiting meanwhile.
    fn turn(&self, max: usize) -> (usize, usize) {
        match self.passes_on() {
            true => (max, 1),
            false => (1, (self.outlet.limit() / 8).clamp(1, 100)),
        }
    }

    /// Sends the whole backlog, waiting for capacity.
    async fn flush(&mut self) {
        self.outlet.send_all(&mut self.backlog.unsent).await;
        let waiting = self.backlog.waiting.drain();
        let mut next = waiting.into_iter().filter_map(|(_, it)| it).collect();
        self.backlog.by_sockets = Usage::default();
        self.handle(&mut next).await;
        self.outlet.send_all(&mut self.backlog.unsent).await;
    }

    /// Returns whether messages are sent unchanged, so that groups need not be split.
    fn passes_on(&self) -> bool {
        passes_on::<H>() && !self.outlet.block
    }

    /// Adds received messages to the backlog, or to `next` if all of them can be sent at once, up to `max` messages.
    fn sort(&mut self, arrivals: &mut Vec<SourceEvent>, max: usize, next: &mut Vec<BacklogItem>) {
        if arrivals.is_empty() {
            return;
        }
        let since = Instant::now();
        let messages = |arrival: &SourceEvent| match arrival {
            SourceEvent::Messages { group, .. } => group.len(),
            SourceEvent::Paused(..) => usize::MAX / 2,
        };
        let messages = arrivals.iter().map(messages);
        let goes_on = self.passes_on()
            && self.backlog.is_empty()
            && messages.fold(0, usize::saturating_add) <= max;
        for arrival in arrivals.drain(..) {
            let (group, flow, origin) = match arrival {
                SourceEvent::Messages {
                    group,
                    flow,
                    origin,
                } => (group, flow, origin),
                SourceEvent::Paused(flow, is_unread) => {
                    self.backlog.set_unread(flow, is_unread);
                    continue;
                }
            };
            let Some(waiting) = self.read(group, flow, origin, since) else {
                continue;
            };
            if goes_on {
                next.push(waiting);
            } else {
                self.backlog.push(waiting);
            }
        }
    }

    /// Decodes the first message of a group and finds its flow. `None` if a single message is malformed.
    fn read(
        &mut self,
        group: Batch,
        flow: Option<Flow>,
        origin: Origin,
        since: Instant,
    ) -> Option<BacklogItem> {
        let first = Message::read(group.first());
        let Some(mut first) = first.or_else(|| (group.len() > 1).then(Message::default)) else {
            self.counters.count_error();
            self.backlog
                .add_consumed(origin, group.len(), group.bytes());
            return None;
        };
        if origin == Origin::Socket && !self.is_only_result(&first) {
            // Legacy peers copy the completion weight, also if they send several results for a task, or none.
            first.doubt_share();
        }
        let flow = flow.unwrap_or_else(|| self.flows.flow_of(&first));
        let envelope = match group.len() {
            1 => Envelope::new(first, flow, since),
            _ => Envelope::from_group(first, group, flow, since),
        };
        Some(BacklogItem { envelope, origin })
    }

    /// Returns whether a message is the only result of a task, according to the function registry.
    fn is_only_result(&self, message: &Message) -> bool {
        self.shared.as_ref().is_some_and(|shared| {
            let function = message.step().map_or("", |step| step.function);
            shared.functions.has_one_result(function)
        })
    }

    async fn handle(&mut self, next: &mut Vec<BacklogItem>) {
        if next.is_empty() {
            return;
        }
        let came: usize = next.iter().map(|it| it.usage().messages).sum();
        let mut left = self.outlet.take_remaining(came);
        self.counters.count_dropped(came - left);
        let (mut count, mut bytes) = (0, 0);
        for mut waiting in next.drain(..) {
            let mut usage = waiting.usage();
            self.backlog
                .add_consumed(waiting.origin, usage.messages, usage.bytes);
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
            self.backlog.unsent.append(&mut self.batch);
        }
    }

    async fn handle_one(&mut self, envelope: Envelope) {
        if envelope.group.is_none() {
            return self.pass_on(envelope).await;
        }
        if self.forwards_group(&envelope) {
            return self.batch.push(envelope);
        }
        let Some(group) = envelope.group else {
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

    /// Returns whether a group can be sent without splitting it.
    fn forwards_group(&self, envelope: &Envelope) -> bool {
        let needs_id = self.ids == MessageIds::Assigned && envelope.message.cache().is_empty();
        let messages = envelope.usage().messages;
        self.passes_on() && self.outlet.can_send_group(messages) && !needs_id
    }

    async fn pass_on(&mut self, envelope: Envelope) {
        let Envelope {
            mut message,
            flow,
            since,
            ..
        } = envelope;
        if self.passes_on() {
            if self.ids == MessageIds::Assigned {
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
            if self.ids == MessageIds::Assigned {
                message.ensure_id();
            }
            self.outlet.send_in(message, flow, since).await
        };
        handle_feedback(&mut self.hooks, &answer);
    }
}

/// Returns whether the hooks leave messages unchanged.
pub(super) const fn passes_on<H: InboundHooks>() -> bool {
    !H::SCATTERS && !H::TAKES_FEEDBACK
}

/// Runs the hook `handle_feedback`, and logs a panic.
pub(super) fn handle_feedback<H: InboundHooks>(hooks: &mut H, feedback: &Bytes) {
    let hook = AssertUnwindSafe(|| hooks.handle_feedback(feedback));
    if std::panic::catch_unwind(hook).is_err() {
        tracing::error!("`handle_feedback` panicked");
    }
}

/// Runs the hook `scatter`, and sends the messages that it emits and then the remaining completion weight.
///
/// Returns the answer to the last of them. A message that is done is sent on without the hook.
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
            tracing::error!(function, "`scatter` {failure}: {cause}");
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

    /// Returns the events that a test has put in.
    #[derive(Clone, Default)]
    struct Script(Arc<(Mutex<Content>, Notify)>);

    #[derive(Default)]
    struct Content {
        arrivals: Vec<SourceEvent>,
        /// The limit for the socket in the last call of `recv_many`.
        max: usize,
        consumed: Vec<ConsumedMessages>,
    }

    impl Script {
        fn content(&self) -> std::sync::MutexGuard<'_, Content> {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn put(&self, arrivals: impl IntoIterator<Item = SourceEvent>) {
            self.content().arrivals.extend(arrivals);
            self.0.1.notify_one();
        }

        fn credit_of(&self, peer: PeerKey) -> u64 {
            let content = self.content();
            let own = |it: &&ConsumedMessages| it.origin == Origin::Peer(peer);
            content
                .consumed
                .iter()
                .filter(own)
                .map(|it| it.messages)
                .sum()
        }
    }

    impl MessageSource for Script {
        async fn recv_many(
            &mut self,
            out: &mut Vec<SourceEvent>,
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

        fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, _: usize) {
            out.append(&mut self.content().arrivals);
        }

        fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
            self.content().consumed.append(messages);
        }
    }

    fn frame(client: &str) -> Bytes {
        let mut message = Message::new("a.b", client.to_owned());
        message.set_client(client.to_owned());
        message.encode()
    }

    /// Calls from the client with this link.
    fn of_peer(peer: PeerKey, count: usize) -> impl Iterator<Item = SourceEvent> {
        (0..count).map(move |_| SourceEvent::Messages {
            group: frame(&peer.to_string()).into(),
            flow: Some(Flow::new(peer)),
            origin: Origin::Peer(peer),
        })
    }

    fn of_socket(client: &str, count: usize) -> impl Iterator<Item = SourceEvent> {
        (0..count).map(move |_| SourceEvent::from_socket(frame(client)))
    }

    struct Running {
        script: Script,
        queue: Receiver<Envelope>,
        stop: CancellationToken,
        receive_loop: futures_core::future::BoxFuture<'static, Result<(), SocketClosed>>,
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
            remaining: None,
            stop,
        };
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let context = ComponentContext {
            name: "a".to_owned(),
            cache: Cache::local(Arc::new(store)),
        };
        let receive_loop = ReceiveLoop::new(
            NoHooks,
            MessageIds::Assigned,
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
            receive_loop: Box::pin(async move { receive_loop.run(&mut source).await }),
        }
    }

    impl Running {
        /// Polls the receive loop until it waits.
        fn settle(&mut self) {
            for _ in 0..100 {
                assert!((&mut self.receive_loop).now_or_never().is_none());
            }
        }

        /// Receives messages, and returns their clients.
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
    async fn receive_loop_serves_others_while_a_client_has_no_capacity() {
        let mut running = intake(10);
        running.script.put(of_peer(1, 100));
        running.settle();
        running.script.put(of_peer(2, 1));
        running.settle();
        let taken = running.take(100);
        assert_eq!((count(&taken, "1"), count(&taken, "2")), (8, 1));
    }

    #[tokio::test]
    async fn receive_loop_serves_clients_in_turn_and_sends_all_messages() {
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
    async fn receive_loop_returns_credit_for_sent_messages() {
        let mut running = intake(10);
        running.script.put(of_peer(1, 100).chain(of_peer(2, 1)));
        running.settle();
        assert!(running.script.credit_of(1) < 20);
        assert_eq!(running.script.credit_of(2), 1);
        while !running.take(5).is_empty() {
            running.settle();
        }
        assert_eq!(running.script.credit_of(1), 100);
    }

    #[tokio::test]
    async fn receive_loop_pauses_a_client_that_does_not_read_answers() {
        let mut running = intake(100);
        running.script.put([SourceEvent::Paused(1, true)]);
        running.script.put(of_peer(1, 5).chain(of_peer(2, 5)));
        running.settle();
        assert_eq!(running.take(100), ["2"; 5]);
        assert_eq!(running.script.credit_of(1), 0);
        running.script.put([SourceEvent::Paused(1, false)]);
        running.settle();
        assert_eq!(running.take(100), ["1"; 5]);
    }

    #[tokio::test]
    async fn receive_loop_stops_reading_sockets_above_their_backlog() {
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
    async fn receive_loop_sends_its_backlog_when_the_component_stops() {
        let mut running = intake(10);
        running.script.put([SourceEvent::Paused(2, true)]);
        running.script.put(of_peer(1, 50).chain(of_peer(2, 50)));
        running.settle();
        running.stop.cancel();
        let mut taken = Vec::new();
        let mut ended = false;
        while !ended {
            ended = (&mut running.receive_loop).now_or_never().is_some();
            taken.extend(running.take(100));
        }
        assert_eq!((count(&taken, "1"), count(&taken, "2")), (50, 50));
    }

    #[tokio::test]
    async fn receive_loop_splits_a_group_and_keeps_its_order() {
        let mut running = intake(20);
        let mut builder = crate::message::BatchBuilder::default();
        for number in 0..90_u8 {
            let mut message = Message::new("a.b", vec![number]);
            message.set_client("1");
            message.ensure_id();
            builder.join(message, 100).unwrap();
        }
        running.script.put([SourceEvent::Messages {
            group: builder.take().unwrap(),
            flow: Some(Flow::new(1)),
            origin: Origin::Peer(1),
        }]);
        let mut numbers = Vec::new();
        while numbers.len() < 90 {
            running.settle();
            let mut out = Vec::new();
            running.queue.recv_many(&mut out, 7).now_or_never();
            for envelope in out {
                let mut each = Vec::new();
                envelope.split_into(&mut each);
                numbers.extend(each.iter().map(|it| it.message.payload()[0]));
            }
        }
        assert!(numbers.into_iter().eq(0..90));
        running.settle();
        assert_eq!(running.script.credit_of(1), 90);
    }
}
