//! The messages that the connections of a socket have received, until its user receives them.
//!
//! Each connection has a queue, and the queues take turns; one task receives. A connection whose messages do not fit is
//! not read. Messages that hold a [`Reservation`] are counted there; the others share a limit in bytes, of which a
//! connection may have a dynamic threshold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use palm_proto::budget::capacity_left;
use palm_proto::id_map::IdMap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::super::receive_budget::Reservation;
use crate::socket::{Frames, SocketClosed};

/// Limit of the messages without a reservation, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a message counts besides its bytes.
const MESSAGE_COST: usize = 128;

/// Messages that one connection delivers before it is the next one's turn.
const TURN: usize = 16;

/// A message that was received.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) frames: Frames,
    pub(super) bytes: usize,
    pub(super) reservation: Option<Reservation>,
}

impl Received {
    fn cost(&self) -> usize {
        match self.reservation {
            Some(_) => MESSAGE_COST,
            None => self.bytes + MESSAGE_COST,
        }
    }
}

#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    queue_len: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct InboxState {
    queues: IdMap<ReceiveQueue>,
    /// The connections that have messages. The first one is next.
    turns: VecDeque<u64>,
    bytes: usize,
    /// Connections whose messages did not fit into the limit in bytes.
    short_of_bytes: Vec<(u64, Arc<Notify>)>,
    /// The task that waits for a message, or has stopped waiting since the last one.
    receiver: Option<Waker>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct ReceiveQueue {
    messages: VecDeque<Received>,
    bytes: usize,
    /// Set while the connection waits for capacity of this queue.
    waiting: Option<Arc<Notify>>,
    is_short_of_bytes: bool,
    has_ended: bool,
}

impl Inbox {
    pub(super) fn new(queue_len: usize) -> Self {
        Self {
            state: Mutex::default(),
            queue_len,
            max_bytes: MAX_BYTES,
        }
    }

    /// Moves messages of a connection here while they fit. `wake` is notified once more of them may fit.
    ///
    /// The queue may have `unsent` messages fewer than otherwise.
    pub(super) fn push(
        &self,
        connection: u64,
        wake: &Arc<Notify>,
        messages: &mut VecDeque<Received>,
        unsent: usize,
    ) {
        let queue_len = self.queue_len.saturating_sub(unsent);
        let mut state = self.state.lock();
        let InboxState {
            queues,
            turns,
            bytes,
            short_of_bytes,
            ..
        } = &mut *state;
        let queue = queues.entry(connection).or_default();
        let had_none = queue.messages.is_empty();
        while let Some(message) = messages.front() {
            if queue.messages.len() >= queue_len {
                queue.waiting = Some(wake.clone());
                break;
            }
            let cost = message.cost();
            if *bytes > 0 && cost > capacity_left(self.max_bytes, *bytes, queue.bytes) {
                if !std::mem::replace(&mut queue.is_short_of_bytes, true) {
                    short_of_bytes.push((connection, wake.clone()));
                }
                break;
            }
            *bytes += cost;
            queue.bytes += cost;
            queue.messages.extend(messages.pop_front());
        }
        if had_none && !queue.messages.is_empty() {
            turns.push_back(connection);
            let receiver = state.receiver.take();
            drop(state);
            if let Some(receiver) = receiver {
                receiver.wake();
            }
        }
    }

    /// Takes up to `max` messages, or waits for one. Returns their number.
    pub(super) fn poll_take(
        &self,
        context: &Context<'_>,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Poll<Result<usize, SocketClosed>> {
        let mut state = self.state.lock();
        if !state.turns.is_empty() {
            return Poll::Ready(Ok(self.take_from(state, out, max)));
        }
        if state.is_closed {
            return Poll::Ready(Err(SocketClosed));
        }
        let waker = context.waker();
        let is_known = state
            .receiver
            .as_ref()
            .is_some_and(|it| it.will_wake(waker));
        if !is_known {
            let former = state.receiver.replace(waker.clone());
            drop(state);
            drop(former);
        }
        Poll::Pending
    }

    /// Takes up to `max` messages. Returns their number.
    pub(super) fn take(&self, out: &mut Vec<Frames>, max: usize) -> usize {
        self.take_from(self.state.lock(), out, max)
    }

    fn take_from(
        &self,
        mut state: MutexGuard<'_, InboxState>,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> usize {
        let mut released = Vec::new();
        let mut count = 0;
        while count < max
            && let Some(connection) = state.turns.pop_front()
        {
            let InboxState {
                queues,
                turns,
                bytes,
                ..
            } = &mut *state;
            let Some(queue) = queues.get_mut(&connection) else {
                continue;
            };
            for received in queue
                .messages
                .drain(..queue.messages.len().min(TURN).min(max - count))
            {
                let cost = received.cost();
                *bytes -= cost;
                queue.bytes -= cost;
                released.extend(received.reservation);
                out.push(received.frames);
                count += 1;
            }
            if queue.messages.len() <= self.queue_len / 2
                && let Some(wake) = queue.waiting.take()
            {
                wake.notify_one();
            }
            if !queue.messages.is_empty() {
                turns.push_back(connection);
            } else if queue.has_ended {
                queues.remove(&connection);
            } else if queue.messages.capacity() > 4 * TURN {
                // Idle connections keep no buffer.
                queue.messages = VecDeque::new();
            }
        }
        if state.bytes <= self.max_bytes / 2 && !state.short_of_bytes.is_empty() {
            for (connection, wake) in std::mem::take(&mut state.short_of_bytes) {
                if let Some(queue) = state.queues.get_mut(&connection) {
                    queue.is_short_of_bytes = false;
                }
                wake.notify_one();
            }
        }
        // Reservations are released without the lock.
        drop(state);
        count
    }

    /// Ends the wait for messages, once those that have arrived are taken.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Removes the queue of a connection once its messages are taken.
    pub(super) fn end(&self, connection: u64) {
        let mut state = self.state.lock();
        if let Some(queue) = state.queues.get_mut(&connection) {
            if queue.messages.is_empty() {
                state.queues.remove(&connection);
            } else {
                queue.has_ended = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use super::*;

    fn messages(sizes: &[usize]) -> VecDeque<Received> {
        let received = |bytes: &usize| Received {
            frames: std::iter::once(Bytes::from(vec![0; *bytes])).collect(),
            bytes: *bytes,
            reservation: None,
        };
        sizes.iter().map(received).collect()
    }

    fn lens(inbox: &Inbox, max: usize) -> Vec<usize> {
        let mut out = Vec::new();
        inbox.take(&mut out, max);
        out.iter().map(|frames| frames[0].len()).collect()
    }

    fn is_notified(wake: &Notify) -> bool {
        poll_once(wake.notified()).is_some()
    }

    /// Polls a future once.
    fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn connections_take_turns() {
        let inbox = Inbox::new(1000);
        let wake = Arc::default();
        inbox.push(1, &wake, &mut messages(&[1; 40]), 0);
        inbox.push(2, &wake, &mut messages(&[2; 3]), 0);
        let taken = lens(&inbox, 30);
        assert_eq!(taken[..20], [[1; 16].as_slice(), &[2; 3], &[1]].concat());
        assert_eq!(lens(&inbox, 1000), [1; 13]);
        assert_eq!(lens(&inbox, 1000), [0; 0]);
    }

    #[tokio::test]
    async fn receiver_waits_for_a_message_and_for_the_close() {
        let inbox = Inbox::new(10);
        let wake = Arc::default();
        let receive = || poll_fn(|context| inbox.poll_take(context, &mut Vec::new(), 10));
        let (received, ()) = tokio::join!(receive(), async {
            inbox.push(1, &wake, &mut messages(&[1]), 0);
        });
        assert!(matches!(received, Ok(1)));
        let (received, ()) = tokio::join!(receive(), async { inbox.close() });
        assert!(received.is_err());

        // The close does not discard what has arrived.
        inbox.push(1, &wake, &mut messages(&[1; 2]), 0);
        assert!(matches!(receive().await, Ok(2)));
        assert!(receive().await.is_err());
    }

    #[tokio::test]
    async fn receiver_that_stopped_waiting_is_replaced() {
        let inbox = Inbox::new(10);
        let wake = Arc::default();
        let receive = || poll_fn(|context| inbox.poll_take(context, &mut Vec::new(), 10));
        assert!(poll_once(receive()).is_none());
        let (received, ()) = tokio::join!(receive(), async {
            inbox.push(1, &wake, &mut messages(&[1]), 0);
        });
        assert!(matches!(received, Ok(1)));
    }

    #[test]
    fn full_queue_wakes_its_connection_when_half_is_taken() {
        let inbox = Inbox::new(10);
        let wake = Arc::default();
        let mut more = messages(&[1; 15]);
        inbox.push(1, &wake, &mut more, 0);
        assert_eq!(more.len(), 5);
        lens(&inbox, 4);
        assert!(!is_notified(&wake));
        lens(&inbox, 1);
        assert!(is_notified(&wake));
        inbox.push(1, &wake, &mut more, 0);
        assert!(more.is_empty());
        inbox.end(1);
        assert_eq!(lens(&inbox, 100), [1; 10]);
        assert!(inbox.state.lock().queues.is_empty());
    }

    #[test]
    fn bytes_are_bounded_for_one_connection_and_in_total() {
        let mut inbox = Inbox::new(1000);
        inbox.max_bytes = 100_000;
        let (first, second) = (Arc::default(), Arc::default());
        let mut more = messages(&[1000; 100]);
        inbox.push(1, &first, &mut more, 0);
        let used = 100 - more.len();
        assert!((65..=80).contains(&used), "{used}");
        let mut other = messages(&[1000; 100]);
        inbox.push(2, &second, &mut other, 0);
        assert!((80..=90).contains(&other.len()), "{}", other.len());
        lens(&inbox, 10);
        assert!(!is_notified(&second));
        lens(&inbox, 50);
        assert!(is_notified(&first) && is_notified(&second));
        assert_eq!(
            lens(&inbox, 1000).len(),
            200 - 60 - more.len() - other.len()
        );
        assert_eq!(inbox.state.lock().bytes, 0);
    }
}
