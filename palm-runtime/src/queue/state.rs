//! The state of a queue, which its senders and its receiver lock, and the capacity of each flow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::entry::{QueueEntry, TakeUnit};
use super::{QUANTUM, Queued, Shortcut};
use crate::budget;
use crate::fair_queue::{FairQueue, Flow, FlowKey, Usage};

/// A sender that waits for capacity of its flow.
#[derive(Debug)]
pub(super) struct CapacityWaiter {
    pub(super) flow: FlowKey,
    pub(super) usage: Usage,
    pub(super) waker: Waker,
    pub(super) is_woken: bool,
}

pub(super) struct QueueState<T> {
    pub(super) values: FairQueue<QueueEntry<T>>,
    pub(super) limits: Usage,
    /// Senders that wait for capacity, first come, first served among those whose flows have some.
    pub(super) capacity_waiters: BTreeMap<u64, CapacityWaiter>,
    /// Senders that are woken by each receive that removes values. There are few: the parts that receive messages.
    pub(super) release_waiters: Vec<(u64, Waker)>,
    pub(super) last_waiter: u64,
    /// Number of receives that removed values.
    pub(super) releases: u64,
    pub(super) receiver: Option<Waker>,
    pub(super) shortcut: Option<Arc<dyn Shortcut<T>>>,
    pub(super) senders: usize,
    pub(super) is_closed: bool,
}

impl<T> std::fmt::Debug for QueueState<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("QueueState");
        shown.field("usage", &self.values.total());
        shown.finish_non_exhaustive()
    }
}

/// The wakers to wake once the lock is released.
pub(super) type Wakers = SmallVec<[Waker; 2]>;

pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[derive(Debug)]
pub(super) struct SharedQueue<T>(Mutex<QueueState<T>>);

impl<T> SharedQueue<T> {
    pub(super) fn new(limits: Usage) -> Self {
        Self(Mutex::new(QueueState {
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
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
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
pub(super) struct FlowCapacity {
    pub(super) messages: usize,
    bytes: usize,
    /// Whether one value may have more bytes, because the flow holds none.
    admits_any_size: bool,
    /// Whether a value with too many messages is split: there is capacity for several messages, or the flow
    /// holds nothing that could make capacity by leaving.
    admits_parts: bool,
}

impl FlowCapacity {
    pub(super) fn admits(self, usage: Usage, values: usize) -> bool {
        usage.messages <= self.messages
            && (usage.bytes <= self.bytes || values == 1 && self.admits_any_size)
    }

    /// Returns whether the flow has capacity for a value, or for a part of it if parts are admitted.
    pub(super) fn admits_some(self, mut usage: Usage) -> bool {
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
    pub(super) fn wake_for_capacity(&mut self, wakers: &mut Wakers, has_flows: bool) {
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
    pub(super) fn capacity_now(&self, flow: FlowKey) -> FlowCapacity {
        self.capacity(flow, Usage::default(), T::HAS_FLOWS)
    }

    /// Returns the shortcut if no value precedes those that are to be sent: none is queued, and the receiver waits for
    /// the next one.
    pub(super) fn shortcut(&self) -> Option<Arc<dyn Shortcut<T>>> {
        let is_next =
            self.receiver.is_some() && self.values.total().messages == 0 && !self.is_closed;
        let shortcut = self.shortcut.as_ref().filter(|_| is_next)?;
        Some(shortcut.clone())
    }

    pub(super) fn push(&mut self, flow: Flow, entry: QueueEntry<T>, usage: Usage) -> Option<Waker> {
        self.values.push(flow, entry, usage);
        self.receiver.take()
    }

    /// Adds the values for which there is capacity, in the order of each flow, and leaves the others. Returns the waker
    /// of a waiting receiver.
    pub(super) fn send(&mut self, values: &mut Vec<T>) -> Option<Waker> {
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
    pub(super) fn take(&mut self, out: &mut Vec<T>, most: usize, unit: TakeUnit) -> usize {
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
