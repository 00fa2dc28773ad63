//! The receiving end of a queue.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::task::coop;

use super::entry::{QueueEntry, TakeUnit};
use super::gauge::QueueGauge;
use super::state::{QueueState, SharedQueue, Wakers, wake};
use super::{Queued, Shortcut};
use crate::fair_queue::FlowKey;

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
    pub(super) shared: Arc<SharedQueue<T>>,
    /// Whether a sender has waited for capacity that was freed.
    pub(super) freed_capacity: bool,
}

impl<T: Send + 'static> Receiver<T> {
    pub(crate) fn gauge(&self) -> QueueGauge {
        QueueGauge::new(self.shared.clone())
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
