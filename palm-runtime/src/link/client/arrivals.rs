//! [`LinkArrival`]: messages and events that a link delivers to the part or client that uses it.
//!
//! [`LinkClient::drive_with`](super::LinkClient::drive_with) drives a link and runs the future that receives its
//! arrivals in one task. [`ArrivalQueue`] wakes no task then: a task that wakes itself is queued again, and a second
//! thread of the runtime is woken for it, for each message.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use crate::message::Batch;
use crate::message::lease::LinkReceipt;

/// A delivery or event of a link.
#[derive(Debug)]
pub(crate) enum LinkArrival {
    /// One message or a batch; for a subscriber always one.
    Messages(LinkReceipt, Batch),
    /// The peer has established its own subscriptions.
    SubscriptionsReady,
    /// The peer has lost the state of the earlier session, and a new one has begun. Calls without an answer must be
    /// sent again.
    Renewed,
}

/// The arrivals that were not received yet. Bounded by the credit of the session.
#[derive(Debug, Default)]
pub(super) struct ArrivalQueue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    batches: VecDeque<Vec<LinkArrival>>,
    /// Wakes the receiver.
    receiver: Option<Waker>,
    /// Whether the receiver is polled next, so that it need not be woken.
    is_polled_next: bool,
    /// Whether the receiver is dropped.
    is_closed: bool,
}

impl ArrivalQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock()
    }

    /// Appends arrivals. Drops them if nothing receives them any more.
    pub(super) fn push(&self, arrivals: Vec<LinkArrival>) {
        let mut state = self.state();
        if state.is_closed || arrivals.is_empty() {
            return;
        }
        state.batches.push_back(arrivals);
        if !state.is_polled_next
            && let Some(receiver) = state.receiver.take()
        {
            drop(state);
            receiver.wake();
        }
    }

    /// Sets whether the receiver is polled next, on this thread.
    pub(super) fn set_polled_next(&self, is_polled_next: bool) {
        self.state().is_polled_next = is_polled_next;
    }
}

/// Receives what a link delivers, in the batches in which it arrived.
#[derive(Debug)]
pub(crate) struct LinkArrivals {
    queue: Arc<ArrivalQueue>,
    rest: std::vec::IntoIter<LinkArrival>,
}

impl LinkArrivals {
    pub(super) fn new(queue: Arc<ArrivalQueue>) -> Self {
        Self {
            queue,
            rest: Vec::new().into_iter(),
        }
    }

    /// Waits for arrivals, and appends up to `max` of them. Cancel safe.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<LinkArrival>, max: usize) {
        if self.rest.len() == 0 {
            let queue = &self.queue;
            let next = poll_fn(|context| {
                let mut state = queue.state();
                if let Some(batch) = state.batches.pop_front() {
                    return Poll::Ready(batch);
                }
                match &mut state.receiver {
                    Some(receiver) => receiver.clone_from(context.waker()),
                    None => state.receiver = Some(context.waker().clone()),
                }
                Poll::Pending
            });
            self.rest = next.await.into_iter();
        }
        self.try_recv_many(out, max);
    }

    /// Appends up to `max` arrivals without waiting.
    pub(crate) fn try_recv_many(&mut self, out: &mut Vec<LinkArrival>, max: usize) {
        let most = out.len().saturating_add(max);
        loop {
            out.extend(self.rest.by_ref().take(most - out.len()));
            if out.len() == most {
                return;
            }
            let Some(batch) = self.queue.state().batches.pop_front() else {
                return;
            };
            self.rest = batch.into_iter();
        }
    }
}

impl Drop for LinkArrivals {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.is_closed = true;
        state.receiver = None;
        state.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn receiver_is_woken_unless_it_is_polled_next() {
        let wakes = Arc::<WakeCount>::default();
        let woken = || wakes.0.load(Ordering::Relaxed);
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);
        let queue = Arc::<ArrivalQueue>::default();
        let mut arrivals = LinkArrivals::new(queue.clone());
        let mut out = Vec::new();
        for (is_polled_next, expected) in [(true, 0), (false, 1), (true, 1)] {
            let mut receive = Box::pin(arrivals.recv_many(&mut out, 10));
            assert!(receive.as_mut().poll(&mut context).is_pending());
            queue.set_polled_next(is_polled_next);
            queue.push(vec![LinkArrival::Renewed]);
            assert_eq!(woken(), expected);
            assert!(receive.as_mut().poll(&mut context).is_ready());
        }
        drop(arrivals);
        queue.push(vec![LinkArrival::Renewed]);
        assert!(queue.state().batches.is_empty());
        assert_eq!((out.len(), woken()), (3, 1));
    }
}
