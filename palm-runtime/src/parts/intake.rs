//! The one loop by which inbound parts take messages from a socket that expects no answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::callable::{Emit, catch_panic};
use crate::context::{ComponentContext, Context};
use crate::message::{Group, Message, Split};
use crate::metrics::PartCounters;
use crate::part::{BATCH, EmitToOutlet, Envelope, InboundHooks, Outlet};
use crate::socket::{Pull, SocketClosed};

/// Messages that are still taken from a socket's memory once the component stops.
const LAST: usize = 10_000;

/// How long peers may take to say that they send no more.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A socket that gives messages.
pub(super) trait Source: Send {
    /// Waits for up to `max` messages; may add none. Cancel safe.
    fn recv_many(
        &mut self,
        out: &mut Vec<Group>,
        max: usize,
    ) -> impl Future<Output = Result<(), SocketClosed>> + Send;

    /// Takes what is there.
    fn try_recv_many(&mut self, out: &mut Vec<Group>, max: usize);

    /// Whether the last messages came by a peer that keeps shares together, see
    /// [`Share`](crate::message::Share).
    fn knows_shares(&self) -> bool {
        false
    }

    /// Tells peers to send no more, and waits until what they have sent is here. Cancel safe.
    fn drained(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl Source for Pull {
    async fn recv_many(&mut self, out: &mut Vec<Group>, max: usize) -> Result<(), SocketClosed> {
        let mut frames = Vec::new();
        self.recv_many(&mut frames, max).await?;
        out.extend(frames.into_iter().map(Group::from));
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<Group>, max: usize) {
        let mut frames = Vec::new();
        self.try_recv_many(&mut frames, max);
        out.extend(frames.into_iter().map(Group::from));
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
    pub(super) hooks: H,
    pub(super) ids: Ids,
    pub(super) context: Arc<ComponentContext>,
    pub(super) counters: Arc<PartCounters>,
    pub(super) outlet: Outlet,
    /// Messages that go on together.
    pub(super) batch: Vec<Envelope>,
}

impl<H: InboundHooks> Intake<H> {
    /// Takes messages until the component stops, and then what is in the socket's memory.
    pub(super) async fn run(mut self, source: &mut impl Source) -> Result<(), SocketClosed> {
        let mut groups = Vec::new();
        loop {
            let max = self.outlet.left().min(BATCH);
            if max == 0 {
                // The last message was taken.
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.outlet.stopped() => break,
                received = source.recv_many(&mut groups, max) => received?,
            }
            self.handle(&mut groups, source.knows_shares()).await;
        }
        // What peers do not say in time, nobody waits for.
        let limit = LAST_WAIT.min(self.outlet.stop.linger);
        let _ = tokio::time::timeout(limit, source.drained()).await;
        for _ in 0..LAST / BATCH {
            source.try_recv_many(&mut groups, self.outlet.left().min(BATCH));
            if groups.is_empty() {
                break;
            }
            self.handle(&mut groups, source.knows_shares()).await;
        }
        Ok(())
    }

    /// Whether messages can go on together: nothing is to be done with each but to pass it on.
    fn passes_on(&self) -> bool {
        passes_on::<H>() && !self.outlet.block
    }

    async fn handle(&mut self, groups: &mut Vec<Group>, knows_shares: bool) {
        let since = Instant::now();
        let came = groups.iter().map(Group::len).sum();
        let taken = self.outlet.take(came);
        self.counters.count_dropped(came - taken);
        truncate(groups, taken);
        let bytes = groups.iter().map(Group::bytes).sum();
        self.counters.count(taken, bytes);
        for group in groups.drain(..) {
            if knows_shares && self.pass_on_together(&group, since) {
                continue;
            }
            for frame in group.frames() {
                let Some(mut message) = Message::read(frame) else {
                    self.counters.count_error();
                    continue;
                };
                if !knows_shares {
                    message.doubt_share();
                }
                if !self.passes_on() {
                    self.pass_on(message, since).await;
                    continue;
                }
                if self.ids == Ids::Given {
                    message.ensure_id();
                }
                self.batch.push(Envelope::new(message, since));
            }
        }
        self.outlet.send_all(&mut self.batch).await;
    }

    /// Passes several messages on together, if nothing is to be done with any of them.
    fn pass_on_together(&mut self, group: &Group, since: Instant) -> bool {
        if group.len() == 1 || !self.passes_on() || !self.outlet.takes_together(group.len()) {
            return false;
        }
        let Ok(first) = Message::decode(group.first()) else {
            return false;
        };
        if self.ids == Ids::Given && first.cache().is_empty() {
            return false;
        }
        let envelope = Envelope::together(first, group.clone(), since);
        self.batch.push(envelope);
        true
    }

    async fn pass_on(&mut self, mut message: Message, since: Instant) {
        let answer = if H::SCATTERS {
            match scatter(&mut self.hooks, &self.context, message, &self.outlet, since).await {
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
            self.outlet.send_since(message, since).await
        };
        handle_feedback(&mut self.hooks, &answer);
    }
}

/// Leaves the first `messages` of them.
fn truncate(groups: &mut Vec<Group>, messages: usize) {
    let mut left = messages;
    groups.retain_mut(|group| {
        if group.len() > left && left > 0 {
            *group = group.split_to(left);
        }
        let stays = left > 0;
        left = left.saturating_sub(group.len());
        stays
    });
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
    outlet: &Outlet,
    since: Instant,
) -> Result<Bytes, ()> {
    if message.is_done() {
        message.ensure_id();
        return Ok(outlet.send_since(message, since).await);
    }
    let mut queue = EmitToOutlet {
        outlet,
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
            outlet.send_failed(failed, since).await;
            Err(())
        }
    }
}
