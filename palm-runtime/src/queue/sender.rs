//! The sending end of a queue.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::entry::QueueEntry;
use super::gauge::QueueGauge;
use super::state::{CapacityWaiter, QueueState, SharedQueue, Wakers, wake};
use super::{Queued, Shortcut};
use crate::fair_queue::{FlowKey, Usage};

#[derive(Debug)]
pub(crate) struct Sender<T> {
    pub(super) shared: Arc<SharedQueue<T>>,
    pub(super) limit: usize,
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
        QueueGauge::new(self.shared.clone())
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
