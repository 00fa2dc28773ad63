//! The receive loop of inbound parts whose peers do not wait for an answer.
//!
//! [`ReceiveLoop::run`] receives from a [`MessageSource`] (a socket, links, or both), runs the hooks, and sends to the
//! outlet. Messages that cannot be sent at once wait in a [`ReceiveBacklog`], queued per client and served in turn by
//! a [`FairQueue`]: a client that fills its share of the next queue, or that does not read its answers, does not stop
//! other clients. Credit is returned to a link only for messages that were sent on, so the backlog is bounded by the
//! credit of each link; for sockets, which have no credit, it is bounded by `MAX_SOCKET_BACKLOG`.

mod backlog;
mod source;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backlog::{BacklogItem, ReceiveBacklog};
use bytes::Bytes;

use super::context::PartContext;
use crate::clock;
use crate::component_state::ComponentState;
use crate::context::{ComponentContext, Context};
use crate::failure::catch_panic;
use crate::fair_queue::{Flow, Usage};
use crate::flow::FlowCache;
use crate::message::{Batch, Message, Split};
use crate::method::Emit;
use crate::metrics::PartCounters;
use crate::part::{AnyInboundHooks, BATCH, EmitToOutlet, Envelope, Outlet};
use crate::queue::Queued;
use crate::socket::SocketClosed;

pub(super) use source::{ConsumedMessages, MessageSource, Origin, SourceEvent};

/// Maximum number of messages that are received from a socket's buffers after the stop of the component.
const MAX_DRAINED_MESSAGES: usize = 10_000;

/// Time within which peers must acknowledge that they stop sending.
const PEER_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a message with an empty `cache` field is assigned an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts) enum MessageIds {
    Assigned,
    Unchanged,
}

/// The receive loop of an inbound part.
pub(in crate::parts) struct ReceiveLoop {
    hooks: AnyInboundHooks,
    ids: MessageIds,
    context: Arc<ComponentContext>,
    counters: Arc<PartCounters>,
    outlet: Outlet,
    flows: FlowCache,
    backlog: ReceiveBacklog,
    /// Messages that are about to be sent.
    envelopes: Vec<Envelope>,
    /// The function registry of workers, if the messages are their results.
    state: Option<Arc<ComponentState>>,
}

impl ReceiveLoop {
    pub(in crate::parts) fn new(
        opened: PartContext,
        hooks: AnyInboundHooks,
        ids: MessageIds,
        outlet: Outlet,
    ) -> Self {
        Self {
            hooks,
            ids,
            context: opened.context,
            counters: opened.counters,
            outlet,
            flows: FlowCache::default(),
            backlog: ReceiveBacklog::default(),
            envelopes: Vec::new(),
            state: None,
        }
    }

    /// Returns the loop for results of workers, whose registered functions say how many results a task has.
    pub(in crate::parts) fn for_results(self, state: Arc<ComponentState>) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// Receives messages until the component stops, and then those in the socket's buffers.
    pub(in crate::parts) async fn run(
        mut self,
        source: &mut impl MessageSource,
    ) -> Result<(), SocketClosed> {
        // No batch exceeds the next queue, so that a small queue limits what was received.
        let most = BATCH.min(self.outlet.limit());
        let (mut arrivals, mut next) = (Vec::new(), Vec::new());
        // Lives as long as the part, so that a message does not register it again.
        let stop = self.outlet.stop.clone();
        let mut stopped = pin!(stop.stopped());
        loop {
            let max = self.outlet.remaining().min(most);
            if max == 0 {
                // The component has reached its limit of messages; peers send the others again.
                self.outlet.stop.set_incomplete();
                self.outlet.send_all(&mut self.backlog.unsent).await;
                return Ok(());
            }
            let held = self.backlog.held();
            self.counters.set_held(held.messages, held.bytes);
            if !self.backlog.consumed.is_empty() {
                source.return_credit(&mut self.backlog.consumed);
            }
            let from_socket = self.backlog.socket_capacity(self.outlet.remaining(), most);
            tokio::select! {
                biased;
                () = &mut stopped => break,
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
        let limit = PEER_DRAIN_TIMEOUT.min(self.outlet.stop.linger());
        if tokio::time::timeout(limit, source.drain_peers())
            .await
            .is_err()
        {
            self.outlet.stop.set_incomplete();
        }
        let mut last = MAX_DRAINED_MESSAGES;
        loop {
            // Sent before the source is read again: while this waits for capacity, links acknowledge messages that
            // still arrive. After the last look at the source nothing waits, so none is acknowledged and dropped.
            self.flush().await;
            if last == 0 {
                self.outlet.stop.set_incomplete();
                break;
            }
            source.return_credit(&mut self.backlog.consumed);
            source.try_recv_many(&mut arrivals, last.min(BATCH));
            if arrivals.is_empty() {
                break;
            }
            last = last.saturating_sub(arrivals.len());
            self.sort(&mut arrivals, 0, &mut next);
        }
        source.return_credit(&mut self.backlog.consumed);
        Ok(())
    }

    pub(in crate::parts) fn linger(&self) -> Duration {
        self.outlet.stop.linger()
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

    /// Returns whether messages are sent unchanged, so that batches need not be split.
    fn passes_on(&self) -> bool {
        self.hooks.pass_on() && !self.outlet.block
    }

    /// Adds received messages to the backlog, or to `next` if all of them can be sent at once, up to `max` messages.
    fn sort(&mut self, arrivals: &mut Vec<SourceEvent>, max: usize, next: &mut Vec<BacklogItem>) {
        if arrivals.is_empty() {
            return;
        }
        let since = clock::now();
        let messages = |arrival: &SourceEvent| match arrival {
            SourceEvent::Messages { batch, .. } => batch.len(),
            SourceEvent::Paused(..) => usize::MAX / 2,
        };
        let messages = arrivals.iter().map(messages);
        let goes_on = self.passes_on()
            && self.backlog.is_empty()
            && messages.fold(0, usize::saturating_add) <= max;
        for arrival in arrivals.drain(..) {
            let (batch, flow, origin) = match arrival {
                SourceEvent::Messages {
                    batch,
                    flow,
                    origin,
                } => (batch, flow, origin),
                SourceEvent::Paused(flow, is_unread) => {
                    self.backlog.set_unread(flow, is_unread);
                    continue;
                }
            };
            let Some(waiting) = self.read(batch, flow, origin, since) else {
                continue;
            };
            if goes_on {
                next.push(waiting);
            } else {
                self.backlog.push(waiting);
            }
        }
    }

    /// Decodes the first message of a batch and finds its flow. `None` if a single message is malformed.
    fn read(
        &mut self,
        batch: Batch,
        flow: Option<Flow>,
        origin: Origin,
        since: Instant,
    ) -> Option<BacklogItem> {
        let first = Message::read(batch.first());
        let Some(mut first) = first.or_else(|| (batch.len() > 1).then(Message::default)) else {
            self.counters.count_error();
            self.backlog
                .add_consumed(origin, batch.len(), batch.bytes());
            return None;
        };
        if origin == Origin::Socket && !self.is_only_result(&first) {
            // Legacy peers copy the completion weight, also if they send several results for a task, or none.
            first.mark_share_incomplete();
        }
        let flow = flow.unwrap_or_else(|| self.flows.flow_of(&first));
        let envelope = match batch.len() {
            1 => Envelope::new(first, flow, since),
            _ => Envelope::from_batch(first, batch, flow, since),
        };
        Some(BacklogItem { envelope, origin })
    }

    /// Returns whether a message is the only result of a task, according to the function registry.
    fn is_only_result(&self, message: &Message) -> bool {
        self.state.as_ref().is_some_and(|state| {
            let function = message.step().map_or("", |step| step.function);
            state.functions.has_one_result(function)
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
        if self.envelopes.is_empty() {
            return;
        }
        self.outlet.log_all(&self.envelopes);
        let releases = self.outlet.try_send_all(&mut self.envelopes);
        if !self.envelopes.is_empty() {
            for envelope in &self.envelopes {
                self.backlog.fill(envelope.flow.key, releases);
            }
            self.backlog.unsent.append(&mut self.envelopes);
        }
    }

    async fn handle_one(&mut self, envelope: Envelope) {
        if envelope.batch.is_none() {
            return self.pass_on(envelope).await;
        }
        if self.forwards_batch(&envelope) {
            return self.envelopes.push(envelope);
        }
        let Some(batch) = envelope.batch else {
            return;
        };
        for frame in batch.frames() {
            match Message::read(frame) {
                Some(message) => {
                    let envelope = Envelope::new(message, envelope.flow, envelope.since);
                    self.pass_on(envelope).await;
                }
                None => self.counters.count_error(),
            }
        }
    }

    /// Returns whether a batch can be sent without splitting it.
    fn forwards_batch(&self, envelope: &Envelope) -> bool {
        let needs_id = self.ids == MessageIds::Assigned && envelope.message.cache().is_empty();
        let messages = envelope.usage().messages;
        self.passes_on() && self.outlet.can_send_batch(messages) && !needs_id
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
            return self.envelopes.push(Envelope::new(message, flow, since));
        }
        let answer = if self.hooks.scatters() {
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

/// Runs the hook `handle_feedback`, and logs a panic.
pub(in crate::parts) fn handle_feedback(hooks: &mut AnyInboundHooks, feedback: &Bytes) {
    let hook = AssertUnwindSafe(|| hooks.handle_feedback(feedback));
    if std::panic::catch_unwind(hook).is_err() {
        tracing::error!("`handle_feedback` panicked");
    }
}

/// Runs the hook `scatter`, and sends the messages that it emits and then the remaining completion weight.
///
/// Returns the answer to the last of them. A message that is done is sent on without the hook.
pub(in crate::parts) async fn scatter(
    hooks: &mut AnyInboundHooks,
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
    use futures_util::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
    use crate::link::LinkOptions;
    use crate::link::PeerKey;
    use crate::part::Stop;
    use crate::queue::{QueueLimits, Receiver, queue};
    use crate::socket::SocketOptions;

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
        fn content(&self) -> parking_lot::MutexGuard<'_, Content> {
            self.0.0.lock()
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
    fn from_peer(peer: PeerKey, count: usize) -> impl Iterator<Item = SourceEvent> {
        (0..count).map(move |_| SourceEvent::Messages {
            batch: frame(&peer.to_string()).into(),
            flow: Some(Flow::new(peer)),
            origin: Origin::Peer(peer),
        })
    }

    fn from_socket(client: &str, count: usize) -> impl Iterator<Item = SourceEvent> {
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
            cancellations: Arc::default(),
        };
        let opened = PartContext {
            options: SocketOptions::default(),
            context: Arc::new(context),
            state: Arc::new(ComponentState::new(LinkOptions::default())),
            counters: Arc::default(),
        };
        let hooks = AnyInboundHooks::default();
        let receive_loop = ReceiveLoop::new(opened, hooks, MessageIds::Assigned, outlet);
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

        /// Receives messages until the receive loop ends, and returns how many are from the clients 1 and 2.
        fn end(&mut self) -> [usize; 2] {
            let mut taken = Vec::new();
            let mut ended = false;
            while !ended {
                ended = (&mut self.receive_loop).now_or_never().is_some();
                taken.extend(self.take(100));
            }
            ["1", "2"].map(|client| count(&taken, client))
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
        running.script.put(from_peer(1, 100));
        running.settle();
        running.script.put(from_peer(2, 1));
        running.settle();
        let taken = running.take(100);
        assert_eq!((count(&taken, "1"), count(&taken, "2")), (8, 1));
    }

    #[tokio::test]
    async fn receive_loop_serves_clients_in_turn_and_sends_all_messages() {
        let mut running = intake(20);
        running.script.put(from_peer(1, 300));
        running.settle();
        running.script.put(from_peer(2, 60).chain(from_peer(3, 60)));
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
        running.script.put(from_peer(1, 100).chain(from_peer(2, 1)));
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
        running.script.put(from_peer(1, 5).chain(from_peer(2, 5)));
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
        running.script.put(from_socket("flood", 900));
        running.settle();
        assert!(running.script.content().max < 100);
        running.script.put(from_socket("other", 1));
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
        running.script.put(from_peer(1, 50).chain(from_peer(2, 50)));
        running.settle();
        running.stop.cancel();
        assert_eq!(running.end(), [50, 50]);
    }

    #[tokio::test]
    async fn receive_loop_sends_messages_that_arrive_while_its_last_backlog_waits_for_capacity() {
        let mut running = intake(10);
        running.script.put(from_peer(1, 20));
        running.settle();
        running.stop.cancel();
        running.settle();
        // Acknowledged by a link, although the component has begun to stop.
        running.script.put(from_peer(2, 1));
        assert_eq!(running.end(), [20, 1]);
    }

    #[tokio::test]
    async fn receive_loop_splits_a_batch_and_keeps_its_order() {
        let mut running = intake(20);
        let mut builder = crate::message::BatchBuilder::default();
        for number in 0..90_u8 {
            let mut message = Message::new("a.b", vec![number]);
            message.set_client("1");
            message.ensure_id();
            builder.join(message, 100).unwrap();
        }
        running.script.put([SourceEvent::Messages {
            batch: builder.take().unwrap(),
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
