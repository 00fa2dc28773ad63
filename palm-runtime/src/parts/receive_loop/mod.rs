//! The receive loop of inbound parts whose peers do not wait for an answer.
//!
//! [`ReceiveLoop::run`] receives from a [`MessageSource`] (a socket, links, or both), runs the hooks, and sends to the
//! outlet. Messages that cannot be sent at once wait in a [`ReceiveBacklog`], queued per client and served in turn by
//! a [`FairQueue`](crate::fair_queue::FairQueue): a client that fills its share of the next queue, or that does not read its answers, does not stop
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
mod tests;
