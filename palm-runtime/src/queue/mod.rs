//! The bounded queue between two parts, which several flows share fairly.
//!
//! A [`Sender`] waits while its flow has no capacity; the [`Receiver`] takes values by fair queueing ([`FairQueue`]).
//! The bound is [`QueueLimits`] in total, and for each flow a dynamic threshold (see [`budget`](crate::budget)): a flow
//! holds at most four times the free capacity. So a single flow uses 80 % of the queue, several flows have equal parts,
//! and a new flow always finds capacity. **Invariant:** senders exceed the limits by at most one value, which alone is
//! larger than they are. [`Receiver::restore`] may exceed them by the values that were received last.
//!
//! While a receiver waits, a [`Shortcut`] passes values on to where the receiver would pass them: on the sender's thread,
//! without the queue, and without waking the receiver's task.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use parking_lot::{Mutex, MutexGuard};
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

/// Passes values on in place of a receiver that waits. Several senders may call it at the same time.
pub(crate) trait Shortcut<T>: Send + Sync {
    /// Returns whether [`pass_on`](Self::pass_on) may be called now. If not, values are queued.
    fn is_open(&self) -> bool;

    /// Passes the values on, in this order.
    fn pass_on(&self, values: &mut dyn Iterator<Item = T>);
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
        release_waiters: Vec::new(),
        last_waiter: 0,
        releases: 0,
        receiver: None,
        shortcut: None,
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

struct QueueState<T> {
    values: FairQueue<QueueEntry<T>>,
    limits: Usage,
    /// Senders that wait for capacity, first come, first served among those whose flows have some.
    capacity_waiters: BTreeMap<u64, CapacityWaiter>,
    /// Senders that are woken by each receive that removes values. There are few: the parts that receive messages.
    release_waiters: Vec<(u64, Waker)>,
    last_waiter: u64,
    /// Number of receives that removed values.
    releases: u64,
    receiver: Option<Waker>,
    shortcut: Option<Arc<dyn Shortcut<T>>>,
    senders: usize,
    is_closed: bool,
}

impl<T> std::fmt::Debug for QueueState<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("QueueState");
        shown.field("usage", &self.values.total());
        shown.finish_non_exhaustive()
    }
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
        self.0.lock()
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

    /// Returns the shortcut if no value precedes those that are to be sent: none is queued, and the receiver waits for
    /// the next one.
    fn shortcut(&self) -> Option<Arc<dyn Shortcut<T>>> {
        let is_next =
            self.receiver.is_some() && self.values.total().messages == 0 && !self.is_closed;
        let shortcut = self.shortcut.as_ref().filter(|_| is_next)?;
        Some(shortcut.clone())
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

    /// Returns the shortcut if values may take it now. It is called without the lock: it may lock what others hold who
    /// look at this queue.
    fn open_shortcut(&self) -> Option<Arc<dyn Shortcut<T>>> {
        let shortcut = self.shared.lock().shortcut();
        shortcut.filter(|shortcut| shortcut.is_open())
    }

    /// Sends a value, or a part of it, if its flow has capacity. Returns the rest.
    fn try_send_one(&self, mut value: T) -> Result<Option<T>, Closed> {
        if let Some(shortcut) = self.open_shortcut() {
            shortcut.pass_on(&mut std::iter::once(value));
            return Ok(None);
        }
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
        if let Some(shortcut) = self.open_shortcut() {
            shortcut.pass_on(&mut values.drain(..));
        }
        let mut state = self.shared.lock();
        if state.is_closed && !values.is_empty() {
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
            let waiters = &mut state.release_waiters;
            match waiters.iter_mut().find(|(known, _)| *known == id) {
                Some((_, waker)) => waker.clone_from(context.waker()),
                None => waiters.push((id, context.waker().clone())),
            }
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
        state.release_waiters.retain(|(known, _)| *known != id);
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
        wakers.extend(state.release_waiters.drain(..).map(|(_, waker)| waker));
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

    /// Sets or removes the shortcut.
    pub(crate) fn set_shortcut(&mut self, shortcut: Option<Arc<dyn Shortcut<T>>>) {
        let former = std::mem::replace(&mut self.shared.lock().shortcut, shortcut);
        // It may own what looks at this queue when it is dropped.
        drop(former);
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
        let shortcut = state.shortcut.take();
        drop(state);
        drop(shortcut);
        wake(capacity_waiters.into_values().map(|waiter| waiter.waker));
        wake(release_waiters.into_iter().map(|(_, waker)| waker));
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
mod tests;
