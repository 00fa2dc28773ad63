//! The bounded queue between two parts, which several flows share fairly.
//!
//! A [`Sender`] waits while its flow has no capacity; the [`Receiver`] takes values by fair queueing ([`FairQueue`]).
//! The bound is [`QueueLimits`] in total, and for each flow a dynamic threshold (see [`budget`](crate::budget)): a flow
//! holds at most four times the free capacity. So a single flow uses 80 % of the queue, several flows have equal parts,
//! and a new flow always finds capacity. **Invariant:** senders exceed the limits by at most one value, which alone is
//! larger than they are. [`Receiver::restore`] may exceed them by the values that were received last.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker, ready};

use smallvec::SmallVec;
use tokio::task::coop;

use crate::budget;
use crate::fair_queue::{FairQueue, Flow, FlowKey, Usage};
use crate::options::options;
use crate::report::Backlog;

options! {
    /// How much a queue holds before senders wait.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct QueueLimits {
        /// Sets the number of messages. One client alone uses up to 80 % of them, so that others find capacity.
        /// Default: 1000.
        messages: usize = 1000,
        /// Sets the bytes of payloads and headers. One message of a client is accepted however large it is, unless the
        /// limit is already reached. Default: 64 MiB.
        bytes: usize = 64 * 1024 * 1024,
    }
}

/// Maximum number of messages of a flow that are received at once while other flows have messages.
const QUANTUM: usize = 16;

/// A value that a queue can hold.
pub(crate) trait Queued: Sized {
    /// Whether values belong to several flows. A single flow may fill the queue.
    const HAS_FLOWS: bool;

    /// The flow that the value belongs to.
    fn flow(&self) -> Flow {
        Flow::new(0)
    }

    /// The capacity that the value occupies; at least one message.
    fn usage(&self) -> Usage;

    /// Splits off the first `messages` of a value that has more, if it can be split.
    fn split_to(&mut self, messages: usize) -> Option<Self> {
        let _ = messages;
        None
    }
}

pub(crate) fn queue<T: Queued>(limits: QueueLimits) -> (Sender<T>, Receiver<T>) {
    let limits = Usage {
        messages: limits.messages.max(1),
        bytes: limits.bytes.max(1),
    };
    let state = QueueState {
        values: FairQueue::default(),
        limits,
        capacity_waiters: BTreeMap::new(),
        release_waiters: BTreeMap::new(),
        last_waiter: 0,
        releases: 0,
        receiver: None,
        senders: 1,
        is_closed: false,
    };
    let shared = Arc::new(SharedQueue(Mutex::new(state)));
    let receiver = Receiver {
        shared: shared.clone(),
        freed_capacity: false,
    };
    let sender = Sender {
        shared,
        limit: limits.messages,
    };
    (sender, receiver)
}

/// The values of one flow that were sent at once.
#[derive(Debug)]
struct QueueEntry<T> {
    /// The first value, so that a value that was sent alone needs no allocation.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> QueueEntry<T> {
    fn one(value: T) -> Self {
        Self {
            first: Some(value),
            rest: VecDeque::new(),
        }
    }

    fn many(rest: VecDeque<T>) -> Self {
        Self { first: None, rest }
    }

    fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut().or_else(|| self.rest.front_mut())
    }

    fn pop_front(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn drain(&mut self) -> impl Iterator<Item = T> {
        self.first.take().into_iter().chain(self.rest.drain(..))
    }
}

/// The unit in which a receiver counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakeUnit {
    /// Values with several messages are split.
    Messages,
    Values,
}

impl<T: Queued> QueueEntry<T> {
    /// Removes up to `most` messages of a batch with the usage `whole`; returns the count in `unit`s, and their usage.
    fn take(
        &mut self,
        out: &mut Vec<T>,
        most: usize,
        whole: Usage,
        unit: TakeUnit,
    ) -> (usize, Usage) {
        if whole.messages <= most {
            let before = out.len();
            out.extend(self.drain());
            let count = match unit {
                TakeUnit::Messages => whole.messages,
                TakeUnit::Values => out.len() - before,
            };
            return (count, whole);
        }
        let (mut count, mut taken) = (0, Usage::default());
        while count < most
            && let Some(value) = self.front_mut()
        {
            let usage = value.usage();
            if unit == TakeUnit::Messages && count + usage.messages > most {
                if let Some(part) = value.split_to(most - count) {
                    taken.add(part.usage());
                    count = most;
                    out.push(part);
                    break;
                }
                if count > 0 {
                    break;
                }
            }
            taken.add(usage);
            count += match unit {
                TakeUnit::Messages => usage.messages,
                TakeUnit::Values => 1,
            };
            out.extend(self.pop_front());
        }
        (count, taken)
    }
}

/// A sender that waits for capacity of its flow.
#[derive(Debug)]
struct CapacityWaiter {
    flow: FlowKey,
    usage: Usage,
    waker: Waker,
    is_woken: bool,
}

#[derive(Debug)]
struct QueueState<T> {
    values: FairQueue<QueueEntry<T>>,
    limits: Usage,
    /// Senders that wait for capacity, first come, first served among those whose flows have some.
    capacity_waiters: BTreeMap<u64, CapacityWaiter>,
    /// Senders that are woken by each receive that removes values.
    release_waiters: BTreeMap<u64, Waker>,
    last_waiter: u64,
    /// Number of receives that removed values.
    releases: u64,
    receiver: Option<Waker>,
    senders: usize,
    is_closed: bool,
}

/// The wakers to wake once the lock is released.
type Wakers = SmallVec<[Waker; 2]>;

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[derive(Debug)]
struct SharedQueue<T>(Mutex<QueueState<T>>);

impl<T> SharedQueue<T> {
    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how much a flow that holds `own` may add, if all flows hold `total` of `limit`.
fn capacity_left(limit: usize, total: usize, own: usize, has_flows: bool) -> usize {
    match has_flows {
        true => budget::capacity_left(limit, total, own),
        false => limit.saturating_sub(total),
    }
}

/// How much a flow may add.
#[derive(Debug, Clone, Copy)]
struct FlowCapacity {
    messages: usize,
    bytes: usize,
    /// Whether one value may have more bytes, because the flow holds none.
    admits_any_size: bool,
    /// Whether a value with too many messages is split: there is capacity for several messages, or the flow
    /// holds nothing that could make capacity by leaving.
    admits_parts: bool,
}

impl FlowCapacity {
    fn admits(self, usage: Usage, values: usize) -> bool {
        usage.messages <= self.messages
            && (usage.bytes <= self.bytes || values == 1 && self.admits_any_size)
    }

    /// Returns whether the flow has capacity for a value, or for a part of it if parts are admitted.
    fn admits_some(self, mut usage: Usage) -> bool {
        if self.admits_parts {
            usage.messages = usage.messages.min(self.messages.max(1));
        }
        self.admits(usage, 1)
    }
}

impl<T> QueueState<T> {
    /// Returns how much a flow may add after `extra` was added.
    fn capacity(&self, flow: FlowKey, extra: Usage, has_flows: bool) -> FlowCapacity {
        let (limits, mut total, own) = (self.limits, self.values.total(), self.values.usage(flow));
        total.add(extra);
        let left = |limit, total, own| capacity_left(limit, total, own, has_flows);
        let messages = left(limits.messages, total.messages, own.messages);
        let has_any = total.messages < limits.messages && total.bytes < limits.bytes;
        FlowCapacity {
            messages: match has_any {
                true => messages.max(usize::from(own.messages == 0)),
                false => 0,
            },
            bytes: left(limits.bytes, total.bytes, own.bytes),
            admits_any_size: own.bytes == 0,
            admits_parts: own.messages == 0 || messages >= (limits.messages / 8).max(1),
        }
    }

    /// Wakes senders whose flows have capacity, while it suffices for all that are woken.
    fn wake_for_capacity(&mut self, wakers: &mut Wakers, has_flows: bool) {
        if self.capacity_waiters.is_empty() {
            return;
        }
        let mut waiters = std::mem::take(&mut self.capacity_waiters);
        // The usage that the woken senders will add.
        let mut extra = Usage::default();
        for waiter in waiters.values_mut() {
            if self.values.total().messages + extra.messages >= self.limits.messages {
                break;
            }
            let capacity = self.capacity(waiter.flow, extra, has_flows);
            if waiter.is_woken || capacity.admits_some(waiter.usage) {
                extra.add(waiter.usage);
                if !std::mem::replace(&mut waiter.is_woken, true) {
                    wakers.push(waiter.waker.clone());
                }
            }
        }
        self.capacity_waiters = waiters;
    }
}

impl<T: Queued> QueueState<T> {
    fn capacity_now(&self, flow: FlowKey) -> FlowCapacity {
        self.capacity(flow, Usage::default(), T::HAS_FLOWS)
    }

    fn push(&mut self, flow: Flow, entry: QueueEntry<T>, usage: Usage) -> Option<Waker> {
        self.values.push(flow, entry, usage);
        self.receiver.take()
    }

    /// Adds the values for which there is capacity, in the order of each flow, and leaves the others. Returns the waker
    /// of a waiting receiver.
    fn send(&mut self, values: &mut Vec<T>) -> Option<Waker> {
        let flow = values.first()?.flow();
        let (run, count, usage) = self.fitting(flow.key, values.iter());
        if run < values.len() || count < run {
            let is_stuck = run == values.len() && count == 0;
            let capacity = self.capacity_now(flow.key);
            if is_stuck && !(capacity.admits_parts && capacity.messages > 0) {
                return None;
            }
            return self.send_some(values);
        }
        if count == 1 {
            let value = values.pop()?;
            return self.push(flow, QueueEntry::one(value), usage);
        }
        // The next batch of values is likely to be as large.
        let values = std::mem::replace(values, Vec::with_capacity(count));
        self.push(flow, QueueEntry::many(values.into()), usage)
    }

    fn send_some(&mut self, values: &mut Vec<T>) -> Option<Waker> {
        let mut left = VecDeque::from(std::mem::take(values));
        let mut full: SmallVec<[FlowKey; 4]> = SmallVec::new();
        let mut receiver = None;
        while let Some(first) = left.front() {
            let flow = first.flow();
            if full.contains(&flow.key) {
                values.extend(left.pop_front());
                continue;
            }
            let (run, count, usage) = self.fitting(flow.key, left.iter());
            let entry = match count {
                0 => None,
                1 => left.pop_front().map(QueueEntry::one),
                _ => Some(QueueEntry::many(left.drain(..count).collect())),
            };
            if let Some(entry) = entry {
                receiver = receiver.or(self.push(flow, entry, usage));
            }
            if count < run {
                full.push(flow.key);
                if count == 0 {
                    receiver = receiver.or(self.send_part(flow, &mut left));
                }
            }
        }
        receiver
    }

    /// Adds a part of the first value, if the value has more messages than its flow may hold.
    fn send_part(&mut self, flow: Flow, values: &mut VecDeque<T>) -> Option<Waker> {
        let capacity = self.capacity_now(flow.key);
        let first = values.front_mut()?;
        if capacity.messages == 0 || !capacity.admits_some(first.usage()) {
            return None;
        }
        let part = match first.split_to(capacity.messages) {
            Some(part) => part,
            None => values.pop_front()?,
        };
        let usage = part.usage();
        self.push(flow, QueueEntry::one(part), usage)
    }

    /// Returns how many of the first values belong to the flow, for how many of these there is capacity, and the usage
    /// of the latter.
    fn fitting<'a>(
        &self,
        flow: FlowKey,
        values: impl Iterator<Item = &'a T>,
    ) -> (usize, usize, Usage)
    where
        T: 'a,
    {
        let capacity = self.capacity_now(flow);
        let (mut run, mut count, mut usage) = (0, 0, Usage::default());
        for value in values.take_while(|value| value.flow().key == flow) {
            if run == count {
                let mut more = usage;
                more.add(value.usage());
                if capacity.admits(more, count + 1) {
                    count += 1;
                    usage = more;
                }
            }
            run += 1;
        }
        (run, count, usage)
    }

    /// Takes up to `most` messages or values, of each flow in turn.
    fn take(&mut self, out: &mut Vec<T>, most: usize, unit: TakeUnit) -> usize {
        let before = out.len();
        let mut left = most;
        while left > 0 {
            let quantum = match self.values.busy_flows() {
                0 | 1 => left,
                _ => left.min(QUANTUM),
            };
            let take = |entry: &mut QueueEntry<T>, usage| entry.take(out, quantum, usage, unit);
            let Some((_, count)) = self.values.pop_part(take) else {
                break;
            };
            left = left.saturating_sub(count);
        }
        out.len() - before
    }
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<SharedQueue<T>>,
    limit: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self {
            shared: self.shared.clone(),
            limit: self.limit,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        let receiver = match state.senders {
            0 => state.receiver.take(),
            _ => None,
        };
        drop(state);
        wake(receiver);
    }
}

/// The error of a sender whose receiver was dropped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A snapshot of the number of receives that removed values from a queue; see [`Sender::released`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Releases(u64);

impl<T: Queued> Sender<T> {
    /// Sends a value once its flow has capacity.
    ///
    /// # Cancel safety
    ///
    /// A value that is not in the queue yet is dropped with the future.
    pub(crate) async fn send(&self, value: T) -> Result<(), Closed> {
        let flow = value.flow().key;
        let mut next = self.try_send_one(value)?;
        let mut waiter = SendWaiter::new(&self.shared);
        while let Some(value) = next {
            waiter.for_capacity(flow, value.usage()).await;
            next = self.try_send_one(value)?;
        }
        Ok(())
    }

    /// Sends a value, or a part of it, if its flow has capacity. Returns the rest.
    fn try_send_one(&self, mut value: T) -> Result<Option<T>, Closed> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(Closed);
        }
        let (flow, usage) = (value.flow(), value.usage());
        let capacity = state.capacity_now(flow.key);
        let (part, rest) = if capacity.admits(usage, 1) {
            (value, None)
        } else if capacity.messages > 0 && capacity.admits_some(usage) {
            match value.split_to(capacity.messages) {
                Some(part) => (part, Some(value)),
                None => (value, None),
            }
        } else {
            return Ok(Some(value));
        };
        let usage = part.usage();
        let receiver = state.push(flow, QueueEntry::one(part), usage);
        drop(state);
        wake(receiver);
        Ok(rest)
    }

    /// Sends all values in the order of each flow, and waits for capacity.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: values that are not in the queue are still in `values`.
    pub(crate) async fn send_all(&self, values: &mut Vec<T>) -> Result<(), Closed> {
        loop {
            let releases = self.try_send(values)?;
            if values.is_empty() {
                return Ok(());
            }
            self.released(releases).await;
        }
    }

    /// Sends the values for which there is capacity, in the order of each flow, and leaves the others.
    pub(crate) fn try_send(&self, values: &mut Vec<T>) -> Result<Releases, Closed> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(Closed);
        }
        let receiver = state.send(values);
        let releases = Releases(state.releases);
        drop(state);
        wake(receiver);
        Ok(releases)
    }

    /// Returns how many messages of a flow may be sent now, unless other senders are first.
    pub(crate) fn free_capacity(&self, flow: FlowKey) -> (usize, Releases) {
        let state = self.shared.lock();
        let capacity = match state.is_closed {
            // Sending fails at once.
            true => usize::MAX,
            false => state.capacity_now(flow).messages,
        };
        (capacity, Releases(state.releases))
    }

    /// Waits until values are received after the snapshot, or the receiver is dropped. Cancel safe.
    pub(crate) async fn released(&self, since: Releases) {
        SendWaiter::new(&self.shared).for_release(since).await;
    }
}

impl<T> Sender<T> {
    /// Returns how many messages the queue holds at most.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether the receiver was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }
}

impl<T: Send + 'static> Sender<T> {
    pub(crate) fn gauge(&self) -> QueueGauge {
        QueueGauge(self.shared.clone())
    }
}

/// The registration of a waiting sender, which ends when it is dropped.
struct SendWaiter<'a, T: Queued> {
    shared: &'a SharedQueue<T>,
    id: Option<u64>,
}

impl<'a, T: Queued> SendWaiter<'a, T> {
    fn new(shared: &'a SharedQueue<T>) -> Self {
        Self { shared, id: None }
    }

    fn id(&mut self, state: &mut QueueState<T>) -> u64 {
        *self.id.get_or_insert_with(|| {
            state.last_waiter += 1;
            state.last_waiter
        })
    }

    /// Waits until a flow may have capacity for a value, or the receiver is dropped.
    async fn for_capacity(&mut self, flow: FlowKey, usage: Usage) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if state.is_closed || state.capacity_now(flow).admits_some(usage) {
                return Poll::Ready(());
            }
            let id = self.id(&mut state);
            let waiter = CapacityWaiter {
                flow,
                usage,
                waker: context.waker().clone(),
                is_woken: false,
            };
            state.capacity_waiters.insert(id, waiter);
            Poll::Pending
        })
        .await;
    }

    async fn for_release(&mut self, since: Releases) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if state.is_closed || state.releases != since.0 {
                return Poll::Ready(());
            }
            let id = self.id(&mut state);
            state.release_waiters.insert(id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl<T: Queued> Drop for SendWaiter<'_, T> {
    fn drop(&mut self) {
        let Some(id) = self.id else {
            return;
        };
        let mut state = self.shared.lock();
        state.release_waiters.remove(&id);
        let mut wakers = Wakers::new();
        if state
            .capacity_waiters
            .remove(&id)
            .is_some_and(|it| it.is_woken)
        {
            // This sender does not use the capacity that it was woken for, so wake others.
            state.wake_for_capacity(&mut wakers, T::HAS_FLOWS);
        }
        drop(state);
        wake(wakers);
    }
}

/// Records that values were received, and returns the wakers of the senders that may continue.
fn note_release<T: Queued>(
    state: &mut QueueState<T>,
    count: usize,
    freed_capacity: &mut bool,
) -> Wakers {
    let mut wakers = Wakers::new();
    if count > 0 {
        state.releases += 1;
        *freed_capacity |= !state.capacity_waiters.is_empty() || !state.release_waiters.is_empty();
        wakers.extend(std::mem::take(&mut state.release_waiters).into_values());
        state.wake_for_capacity(&mut wakers, T::HAS_FLOWS);
    }
    wakers
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<SharedQueue<T>>,
    /// Whether a sender has waited for capacity that was freed.
    freed_capacity: bool,
}

impl<T: Send + 'static> Receiver<T> {
    pub(crate) fn gauge(&self) -> QueueGauge {
        QueueGauge(self.shared.clone())
    }
}

impl<T: Queued> Receiver<T> {
    /// Waits for values, and appends up to `max` messages of them, of each flow in turn. Returns 0 if the queue is empty
    /// and all senders were dropped. A value that cannot be split may exceed `max`.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no value is lost.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        self.recv(out, max, TakeUnit::Messages).await
    }

    /// Receives as [`recv_many`](Self::recv_many), but up to `max` values, which are not split.
    pub(crate) async fn recv_values(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        self.recv(out, max, TakeUnit::Values).await
    }

    async fn recv(&mut self, out: &mut Vec<T>, max: usize, unit: TakeUnit) -> usize {
        poll_fn(|context| {
            let coop = ready!(coop::poll_proceed(context));
            let mut state = self.shared.lock();
            let count = state.take(out, max, unit);
            // Values of paused flows count, since the receiver itself resumes them.
            let may_come = state.senders > 0 || state.values.total().messages > 0;
            if count == 0 && may_come {
                let waker = context.waker();
                match &mut state.receiver {
                    Some(receiver) => receiver.clone_from(waker),
                    receiver => *receiver = Some(waker.clone()),
                }
                return Poll::Pending;
            }
            coop.made_progress();
            let wakers = note_release(&mut state, count, &mut self.freed_capacity);
            drop(state);
            wake(wakers);
            Poll::Ready(count)
        })
        .await
    }

    /// Receives all values without waiting.
    pub(crate) fn try_recv_all(&mut self, out: &mut Vec<T>) {
        let mut state = self.shared.lock();
        let count = state.take(out, usize::MAX, TakeUnit::Values);
        let wakers = note_release(&mut state, count, &mut self.freed_capacity);
        drop(state);
        wake(wakers);
    }

    /// Returns the values that were received last to the front of their flows, even beyond the limits.
    pub(crate) fn restore(&mut self, values: impl DoubleEndedIterator<Item = T>) {
        let mut state = self.shared.lock();
        for value in values.rev() {
            let (flow, usage) = (value.flow(), value.usage());
            state.values.restore(flow, QueueEntry::one(value), usage);
        }
    }

    /// Pauses or resumes a flow. No values of a paused flow are received.
    pub(crate) fn set_paused(&mut self, flow: FlowKey, is_paused: bool) {
        self.shared.lock().values.set_paused(flow, is_paused);
    }

    /// Returns whether a sender has waited for capacity that was freed since the last call.
    pub(crate) fn freed_capacity(&mut self) -> bool {
        std::mem::take(&mut self.freed_capacity)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Waiting senders return an error.
        let mut state = self.shared.lock();
        state.is_closed = true;
        let values = std::mem::take(&mut state.values);
        let capacity_waiters = std::mem::take(&mut state.capacity_waiters);
        let release_waiters = std::mem::take(&mut state.release_waiters);
        drop(state);
        wake(capacity_waiters.into_values().map(|waiter| waiter.waker));
        wake(release_waiters.into_values());
        drop(values);
    }
}

trait Gauge: Send + Sync {
    fn usage(&self) -> Usage;

    fn limits(&self) -> Usage;
}

impl<T: Send> Gauge for SharedQueue<T> {
    fn usage(&self) -> Usage {
        self.lock().values.total()
    }

    fn limits(&self) -> Usage {
        self.lock().limits
    }
}

/// Reports how full a queue is.
pub(crate) struct QueueGauge(Arc<dyn Gauge>);

impl std::fmt::Debug for QueueGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QueueGauge").field(&self.0.usage()).finish()
    }
}

impl QueueGauge {
    pub(crate) fn messages(&self) -> usize {
        self.0.usage().messages
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.0.usage().bytes
    }

    /// Returns what waits in the queue, and its limits.
    pub(crate) fn backlog(&self) -> Backlog {
        let (usage, limits) = (self.0.usage(), self.0.limits());
        Backlog::new(usage.messages as u64, usage.bytes as u64)
            .with_limits(limits.messages as u64, limits.bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// Numbered messages of a flow, each with this many bytes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Value {
        flow: FlowKey,
        first: usize,
        messages: usize,
        bytes: usize,
    }

    impl Queued for Value {
        const HAS_FLOWS: bool = true;

        fn flow(&self) -> Flow {
            Flow::new(self.flow)
        }

        fn usage(&self) -> Usage {
            Usage {
                messages: self.messages,
                bytes: self.messages * self.bytes,
            }
        }

        fn split_to(&mut self, messages: usize) -> Option<Self> {
            assert!((1..self.messages).contains(&messages));
            let front = Self {
                messages,
                ..self.clone()
            };
            self.first += messages;
            self.messages -= messages;
            Some(front)
        }
    }

    fn value(flow: FlowKey, first: usize) -> Value {
        sized(flow, first, 1, 1)
    }

    fn sized(flow: FlowKey, first: usize, messages: usize, bytes: usize) -> Value {
        Value {
            flow,
            first,
            messages,
            bytes,
        }
    }

    fn limits(messages: usize, bytes: usize) -> QueueLimits {
        QueueLimits { messages, bytes }
    }

    /// Sends the values for which there is capacity, and returns how many messages were sent.
    fn send(sender: &Sender<Value>, values: impl IntoIterator<Item = Value>) -> usize {
        let mut values: Vec<_> = values.into_iter().collect();
        let count = |values: &[Value]| values.iter().map(|it| it.messages).sum::<usize>();
        let before = count(&values);
        sender.try_send(&mut values).unwrap();
        before - count(&values)
    }

    fn take(receiver: &mut Receiver<Value>, max: usize) -> Vec<(FlowKey, usize)> {
        let mut out = Vec::new();
        receiver.recv_many(&mut out, max).now_or_never();
        let each = |value: &Value| (0..value.messages).collect::<Vec<_>>();
        out.iter()
            .flat_map(|it| each(it).into_iter().map(|n| (it.flow, it.first + n)))
            .collect()
    }

    #[test]
    fn one_flow_uses_four_fifths_of_the_queue_and_others_find_capacity() {
        let (sender, _receiver) = queue(limits(10, 1000));
        let gauge = sender.gauge();
        assert_eq!(send(&sender, (0..20).map(|n| value(1, n))), 8);
        assert_eq!(gauge.messages(), 8);
        assert_eq!(send(&sender, [value(2, 0)]), 1);
        assert_eq!(
            send(&sender, [value(3, 0)]),
            1,
            "the 10th message is accepted"
        );
        assert_eq!(send(&sender, [value(4, 0)]), 0, "the 11th message waits");
        assert_eq!((gauge.messages(), gauge.bytes()), (10, 10));
    }

    #[test]
    fn limit_of_one_message_admits_one() {
        let (sender, mut receiver) = queue(limits(1, 1));
        assert_eq!(send(&sender, [value(1, 0), value(2, 0)]), 1);
        assert_eq!(take(&mut receiver, 9), [(1, 0)]);
        assert_eq!(send(&sender, [value(2, 0)]), 1);
    }

    #[test]
    fn bytes_are_bounded_but_one_message_of_any_size_is_admitted() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        assert_eq!(send(&sender, [sized(1, 0, 1, 5000)]), 1);
        assert_eq!(send(&sender, [value(1, 1), value(2, 0)]), 0);
        assert_eq!(sender.gauge().bytes(), 5000);
        assert_eq!(take(&mut receiver, 9).len(), 1);
        let large = (0..9).map(|n| sized(1, n, 1, 300));
        assert_eq!(send(&sender, large), 2, "800 bytes, of which 600 are taken");
        assert_eq!(send(&sender, [sized(2, 0, 1, 5000)]), 1);
        assert_eq!(send(&sender, [sized(3, 0, 1, 1)]), 0);
    }

    #[test]
    fn queue_with_exactly_its_limit_of_bytes_admits_nothing() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        assert_eq!(sender.limit(), 100);
        assert_eq!(send(&sender, [sized(1, 0, 1, 1000)]), 1);
        assert_eq!(send(&sender, [sized(2, 0, 1, 0)]), 0);
        take(&mut receiver, 1);
        assert_eq!(send(&sender, [sized(1, 1, 1, 999), sized(2, 0, 1, 0)]), 2);
    }

    #[test]
    fn value_is_split_only_if_an_eighth_of_the_queue_is_left_for_its_flow() {
        let large = |flow, first| sized(flow, first, 100, 1);
        let filled = |count| {
            let (sender, receiver) = queue(limits(80, 100_000));
            assert_eq!(send(&sender, (0..count).map(|n| value(1, n))), count);
            (sender, receiver)
        };
        let (sender, _receiver) = filled(55);
        assert_eq!(send(&sender, [large(1, 55)]), 0);
        assert!(sender.send(large(1, 55)).now_or_never().is_none());
        assert_eq!(sender.gauge().messages(), 55);
        let (sender, _receiver) = filled(54);
        assert_eq!(send(&sender, [large(1, 54)]), 10);
        assert_eq!(send(&sender, [large(2, 0)]), 12);
        // A flow that holds nothing may use all of the rest.
        assert_eq!(send(&sender, [large(3, 0)]), 3);
        assert_eq!(send(&sender, [large(3, 3)]), 0);
    }

    #[test]
    fn values_that_fit_are_sent_and_other_flows_overtake() {
        let (sender, _receiver) = queue(limits(80, 100_000));
        assert_eq!(send(&sender, (0..60).map(|n| value(1, n))), 60);
        assert_eq!(send(&sender, (60..70).map(|n| value(1, n))), 4);
        let mut values = vec![value(1, 64), value(2, 0), value(1, 65)];
        sender.try_send(&mut values).unwrap();
        assert_eq!(values, [value(1, 64), value(1, 65)]);
    }

    #[test]
    fn try_recv_all_receives_all_values_without_waiting() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        let mut out = Vec::new();
        receiver.try_recv_all(&mut out);
        assert_eq!(out, []);
        assert_eq!(send(&sender, [sized(1, 0, 40, 1), value(2, 0)]), 41);
        receiver.try_recv_all(&mut out);
        out.sort_by_key(|value| value.flow);
        assert_eq!(out, [sized(1, 0, 40, 1), value(2, 0)]);
        assert_eq!(sender.gauge().messages(), 0);
    }

    #[test]
    fn values_of_alternating_flows_are_all_sent_at_once() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        let mut values: Vec<_> = (0..8).map(|n| value(n as u64 % 2, n)).collect();
        sender.try_send(&mut values).unwrap();
        assert_eq!(values, []);
        assert_eq!(take(&mut receiver, 99).len(), 8);
    }

    #[test]
    fn value_larger_than_the_queue_is_sent_in_parts() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        let mut values = vec![sized(1, 0, 25, 1)];
        let mut taken = Vec::new();
        for _ in 0..4 {
            sender.try_send(&mut values).unwrap();
            taken.extend(take(&mut receiver, 100));
        }
        assert_eq!(values, []);
        assert_eq!(taken, (0..25).map(|n| (1, n)).collect::<Vec<_>>());
        let mut send = std::pin::pin!(sender.send(sized(1, 0, 25, 1)));
        for _ in 0..3 {
            assert!(send.as_mut().now_or_never().is_none());
            assert_eq!(take(&mut receiver, 100).len(), 8);
        }
        assert!(send.now_or_never().is_some());
        assert_eq!(take(&mut receiver, 100), [(1, 24)]);
    }

    #[test]
    fn receiver_takes_up_to_max_messages_of_each_flow_in_turn() {
        let (sender, mut receiver) = queue(limits(1000, 1_000_000));
        assert_eq!(send(&sender, [sized(1, 0, 300, 1)]), 300);
        assert_eq!(
            take(&mut receiver, 7),
            (0..7).map(|n| (1, n)).collect::<Vec<_>>()
        );
        assert_eq!(send(&sender, (0..3).map(|n| value(2, n))), 3);
        let taken = take(&mut receiver, 64);
        assert_eq!(taken.len(), 64);
        let position = taken.iter().position(|it| *it == (2, 2)).unwrap();
        assert!(position < 2 * QUANTUM + 3, "{position}");
        assert_eq!(sender.gauge().messages(), 303 - 7 - 64);
    }

    #[test]
    fn recv_values_splits_no_value() {
        let (sender, mut receiver) = queue(limits(1000, 1_000_000));
        send(
            &sender,
            [sized(1, 0, 300, 1), sized(1, 300, 5, 1), value(1, 305)],
        );
        let mut out = Vec::new();
        assert_eq!(receiver.recv_values(&mut out, 2).now_or_never(), Some(2));
        assert_eq!(out, [sized(1, 0, 300, 1), sized(1, 300, 5, 1)]);
    }

    #[test]
    fn batch_of_several_values_is_split_at_max_messages() {
        let (sender, mut receiver) = queue(limits(1000, 1_000_000));
        send(&sender, (0..4).map(|n| sized(1, 5 * n, 5, 1)));
        for (max, expected) in [(7, 0..7), (3, 7..10), (4, 10..14), (99, 14..20)] {
            let expected: Vec<_> = expected.map(|n| (1, n)).collect();
            assert_eq!(take(&mut receiver, max), expected);
        }
    }

    #[test]
    fn recv_values_applies_max_to_received_values_not_to_the_buffer() {
        let (sender, mut receiver) = queue(limits(1000, 1_000_000));
        for flow in 1..4 {
            send(&sender, [value(flow, 0), value(flow, 1)]);
        }
        let mut out = vec![value(9, 0); 5];
        assert_eq!(receiver.recv_values(&mut out, 4).now_or_never(), Some(4));
        assert_eq!(out.len(), 9);
        assert_eq!(receiver.recv_values(&mut out, 4).now_or_never(), Some(2));
    }

    /// A value of several messages that cannot be split.
    #[derive(Debug, PartialEq, Eq)]
    struct Whole(usize);

    impl Queued for Whole {
        const HAS_FLOWS: bool = false;

        fn usage(&self) -> Usage {
            Usage {
                messages: self.0,
                bytes: 0,
            }
        }
    }

    #[test]
    fn value_that_cannot_be_split_is_received_though_it_is_too_large() {
        let (sender, mut receiver) = queue(limits(1000, 1000));
        let mut values = vec![Whole(300), Whole(10), Whole(10)];
        sender.try_send(&mut values).unwrap();
        assert_eq!(values, []);
        let mut recv = || {
            let mut out = Vec::new();
            receiver.recv_many(&mut out, 64).now_or_never();
            out.iter().map(|whole: &Whole| whole.0).collect::<Vec<_>>()
        };
        assert_eq!([recv(), recv()], [vec![300], vec![10, 10]]);
    }

    #[test]
    fn queue_without_flows_is_filled_completely() {
        let (sender, _receiver) = queue(limits(10, 1000));
        let mut values: Vec<_> = (0..12).map(|_| Whole(1)).collect();
        sender.try_send(&mut values).unwrap();
        assert_eq!((values.len(), sender.gauge().messages()), (2, 10));
    }

    #[test]
    fn default_limits_are_1000_messages_and_64_mib() {
        assert_eq!(QueueLimits::default(), limits(1000, 67_108_864));
    }

    #[test]
    fn gauge_prints_its_usage() {
        let (sender, _receiver) = queue(limits(10, 1000));
        send(&sender, [sized(1, 0, 2, 3)]);
        let printed = format!("{:?}", sender.gauge());
        assert_eq!(printed, "QueueGauge(Usage { messages: 2, bytes: 6 })");
    }

    #[test]
    fn sender_capacity_is_that_of_its_flow_and_unlimited_without_a_receiver() {
        let (sender, receiver) = queue(limits(10, 1000));
        assert_eq!(sender.free_capacity(1).0, 8);
        send(&sender, (0..5).map(|n| value(1, n)));
        assert_eq!(
            (sender.free_capacity(1).0, sender.free_capacity(2).0),
            (3, 4)
        );
        drop(receiver);
        assert_eq!(sender.free_capacity(1).0, usize::MAX);
    }

    #[test]
    fn only_a_receive_of_values_counts_as_a_release() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        let (_, before) = sender.free_capacity(1);
        receiver.try_recv_all(&mut Vec::new());
        assert_eq!(sender.free_capacity(1).1, before);
        send(&sender, [value(1, 0)]);
        assert_eq!(sender.free_capacity(1).1, before);
        take(&mut receiver, 1);
        assert_ne!(sender.free_capacity(1).1, before);
    }

    #[test]
    fn receiver_reports_once_that_a_sender_has_waited() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        send(&sender, (0..8).map(|n| value(1, n)));
        let mut one = task(sender.clone(), sized(1, 8, 8, 1));
        assert!(!one.poll());
        for _ in 0..2 {
            take(&mut receiver, 1);
        }
        assert!(receiver.freed_capacity());
        assert!(!receiver.freed_capacity());
    }

    #[test]
    fn restored_values_are_first_of_their_flow_and_delay_no_other_flow() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        send(&sender, (0..50).map(|n| value(1, n)));
        let mut out = Vec::new();
        receiver.recv_many(&mut out, 40).now_or_never();
        receiver.restore(out.drain(1..));
        send(&sender, [value(2, 0)]);
        assert_eq!(sender.gauge().messages(), 50);
        let next = take(&mut receiver, 2);
        assert!(next.contains(&(2, 0)) && next.contains(&(1, 1)), "{next:?}");
    }

    #[test]
    fn paused_flow_stays_in_the_queue() {
        let (sender, mut receiver) = queue(limits(100, 1000));
        send(&sender, [value(1, 0), value(2, 0)]);
        receiver.set_paused(1, true);
        assert_eq!(take(&mut receiver, 9), [(2, 0)]);
        drop(sender);
        let mut out = Vec::new();
        let received = receiver.recv_many(&mut out, 9).now_or_never();
        assert_eq!(received, None, "the queue has not ended");
        receiver.set_paused(1, false);
        assert_eq!(take(&mut receiver, 9), [(1, 0)]);
    }

    #[tokio::test]
    async fn sender_waits_for_its_own_flow_only() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        send(&sender, (0..8).map(|n| value(1, n)));
        let mut first = std::pin::pin!(sender.send(value(1, 8)));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(sender.send(value(2, 0)).now_or_never().is_some());
        assert!(!receiver.freed_capacity());
        take(&mut receiver, 4);
        assert!(receiver.freed_capacity() && !receiver.freed_capacity());
        first.await.unwrap();
        take(&mut receiver, 1);
        assert!(!receiver.freed_capacity());
    }

    #[tokio::test]
    async fn senders_are_woken_in_order_and_as_many_as_there_is_capacity_for() {
        let (sender, mut receiver) = queue(limits(2, 1000));
        assert_eq!(send(&sender, [value(1, 0), value(2, 0)]), 2);
        let mut waiting: Vec<_> = (3..9)
            .map(|flow| task(sender.clone(), value(flow, 0)))
            .collect();
        for task in &mut waiting {
            assert!(!task.poll());
        }
        take(&mut receiver, 1);
        let woken = waiting.iter().filter(|it| it.is_woken()).count();
        assert_eq!(woken, 1);
        assert!(waiting[0].is_woken());
        // A sender that is dropped leaves its capacity to the next one.
        drop(waiting.remove(0));
        assert!(waiting[0].is_woken() && !waiting[1].is_woken());
        assert!(waiting[0].poll());
    }

    #[tokio::test]
    async fn all_senders_for_which_there_is_capacity_are_woken_at_once() {
        let (sender, mut receiver) = queue(limits(3, 1000));
        assert_eq!(send(&sender, [value(1, 0), value(2, 0), value(3, 0)]), 3);
        let mut waiting: Vec<_> = (4..9)
            .map(|flow| task(sender.clone(), value(flow, 0)))
            .collect();
        for task in &mut waiting {
            assert!(!task.poll());
        }
        take(&mut receiver, 3);
        let woken: Vec<_> = waiting.iter().map(Task::is_woken).collect();
        assert_eq!(woken, [true, true, true, false, false]);
        assert!(waiting[..3].iter_mut().all(Task::poll));
    }

    struct Task {
        future: futures_core::future::BoxFuture<'static, Result<(), Closed>>,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn task(sender: Sender<Value>, value: Value) -> Task {
        Task::new(async move { sender.send(value).await })
    }

    impl Woken {
        /// Returns whether the task was woken since the last call.
        fn take(&self) -> bool {
            self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl Task {
        fn new(future: impl Future<Output = Result<(), Closed>> + Send + 'static) -> Self {
            Self {
                future: Box::pin(future),
                woken: Arc::default(),
            }
        }

        fn poll(&mut self) -> bool {
            let waker = self.woken.clone().into();
            let mut context = std::task::Context::from_waker(&waker);
            self.future.as_mut().poll(&mut context).is_ready()
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn senders_fail_after_the_receiver_is_dropped() {
        let (sender, receiver) = queue(limits(1, 1));
        send(&sender, [value(1, 0)]);
        let mut waits = std::pin::pin!(sender.send(value(1, 1)));
        assert!(waits.as_mut().now_or_never().is_none());
        let mut values = vec![value(1, 2)];
        {
            let mut all = std::pin::pin!(sender.send_all(&mut values));
            assert!(all.as_mut().now_or_never().is_none());
            drop(receiver);
            assert_eq!(all.await, Err(Closed));
        }
        assert_eq!(waits.await, Err(Closed));
        assert_eq!(values, [value(1, 2)]);
        assert!(sender.is_closed());
    }

    #[test]
    fn senders_that_wait_for_a_full_queue_are_woken_when_its_receiver_is_dropped() {
        let (sender, receiver) = queue(limits(1, 1000));
        assert_eq!((sender.limit(), sender.is_closed()), (1, false));
        assert_eq!(send(&sender, [value(1, 0)]), 1);
        let mut one = task(sender.clone(), value(1, 1));
        let mut many = Task::new(async move {
            let mut values = vec![value(1, 2), value(1, 3)];
            sender.send_all(&mut values).await
        });
        assert!(!one.poll() && !many.poll());
        assert!(!one.is_woken() && !many.is_woken());
        drop(receiver);
        assert!(one.is_woken() && many.is_woken());
        assert!(one.poll() && many.poll());
    }

    #[test]
    fn waiting_receiver_is_woken_by_a_value_and_by_the_drop_of_the_last_sender() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        let other = sender.clone();
        let mut recv = Task::new(async move {
            let mut out = Vec::new();
            while receiver.recv_many(&mut out, 1).await > 0 {}
            match out.len() {
                1 => Ok(()),
                _ => Err(Closed),
            }
        });
        assert!(!recv.poll() && !recv.is_woken());
        assert_eq!(send(&sender, [value(1, 0)]), 1);
        assert!(recv.woken.take());
        assert!(!recv.poll());
        drop(sender);
        assert!(!recv.is_woken(), "there is another sender");
        drop(other);
        assert!(recv.is_woken() && recv.poll());
    }

    #[tokio::test]
    async fn receiver_ends_after_the_last_sender_is_dropped() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        let other = sender.clone();
        send(&sender, [value(1, 0)]);
        drop(sender);
        let mut out = Vec::new();
        assert_eq!(receiver.recv_many(&mut out, 9).await, 1);
        let mut recv = std::pin::pin!(receiver.recv_many(&mut out, 9));
        assert!(recv.as_mut().now_or_never().is_none());
        drop(other);
        assert_eq!(recv.await, 0);
    }

    #[tokio::test]
    async fn many_values_are_sent_in_the_order_of_each_flow() {
        let (sender, mut receiver) = queue(limits(10, 1000));
        let mut values: Vec<_> = (0..200).map(|n| value(n as u64 % 3, n)).collect();
        let receive = async {
            let mut taken = Vec::new();
            while taken.len() < 200 {
                receiver.recv_many(&mut taken, 5).await;
            }
            taken
        };
        let (sent, taken) = tokio::join!(sender.send_all(&mut values), receive);
        sent.unwrap();
        for flow in 0..3 {
            let own = taken.iter().filter(|it| it.flow == flow).map(|it| it.first);
            assert!(own.eq((0..200).filter(|n| *n as u64 % 3 == flow)));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send {
            flow: FlowKey,
            messages: usize,
            bytes: usize,
        },
        Receive {
            max: usize,
        },
        ReceiveAndRestore {
            max: usize,
        },
        Pause {
            flow: FlowKey,
            is_paused: bool,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4_u64, 1..9_usize, 0..40_usize)
                .prop_map(|(flow, messages, bytes)| Step::Send { flow, messages, bytes }),
            3 => (1..30_usize).prop_map(|max| Step::Receive { max }),
            1 => (1..30_usize).prop_map(|max| Step::ReceiveAndRestore { max }),
            1 => (0..4_u64, any::<bool>())
                .prop_map(|(flow, is_paused)| Step::Pause { flow, is_paused }),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// No value is lost, duplicated or reordered within its flow; the limits hold, except for one value.
        #[test]
        fn queue_keeps_the_order_of_flows_and_its_limits(
            steps in steps(),
            most in 1..20_usize,
        ) {
            let (sender, mut receiver) = queue(limits(most, 200));
            let gauge = sender.gauge();
            let (mut sent, mut taken) = ([0; 4], [0; 4]);
            for step in steps {
                match step {
                    Step::Send { flow, messages, bytes } => {
                        let first = sent[flow as usize];
                        sent[flow as usize] += send(&sender, [sized(flow, first, messages, bytes)]);
                    }
                    Step::Receive { max } => {
                        let values = take(&mut receiver, max);
                        prop_assert!(values.len() <= max);
                        for (flow, number) in values {
                            prop_assert_eq!(number, taken[flow as usize]);
                            taken[flow as usize] += 1;
                        }
                    }
                    Step::ReceiveAndRestore { max } => {
                        let mut out = Vec::new();
                        receiver.recv_many(&mut out, max).now_or_never();
                        receiver.restore(out.into_iter());
                    }
                    Step::Pause { flow, is_paused } => receiver.set_paused(flow, is_paused),
                }
                prop_assert!(gauge.messages() <= most);
                prop_assert!(gauge.bytes() <= 200 + 8 * 40);
                let left: usize = sent.iter().sum::<usize>() - taken.iter().sum::<usize>();
                prop_assert_eq!(gauge.messages(), left);
            }
            (0..4).for_each(|flow| receiver.set_paused(flow, false));
            for (flow, number) in take(&mut receiver, usize::MAX) {
                prop_assert_eq!(number, taken[flow as usize]);
                taken[flow as usize] += 1;
            }
            prop_assert_eq!(sent, taken);
        }
    }
}
