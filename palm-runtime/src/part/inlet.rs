//! [`Inlet`]: where an outbound part receives its messages, and [`Pace`], which adapts how many.

use std::time::{Duration, Instant};

use super::{BATCH, Envelope};
use crate::fair_queue::FlowKey;
use crate::queue;
use crate::stop::Stop;

/// The receiving end of an outbound part's queue.
#[derive(Debug)]
pub struct Inlet {
    pub(crate) queue: queue::Receiver<Envelope>,
    pub(crate) stop: Stop,
}

impl Inlet {
    /// Waits for messages, appends up to `max` of them to `out`, and returns their number. Clients are served in turn.
    ///
    /// Returns 0 once all parts upstream have ended and the queue is empty. Send messages that
    /// [are done](crate::Message::is_done) on unchanged.
    ///
    /// # Cancel safety
    ///
    /// No message is lost if the future is dropped.
    pub async fn recv_many(&mut self, out: &mut Vec<Envelope>, max: usize) -> usize {
        let before = out.len();
        loop {
            let received = self.queue.recv_many(out, max.max(1)).await;
            if out[before..].iter().any(|it| it.batch.is_some()) {
                for envelope in out.split_off(before) {
                    envelope.split_into(out);
                }
            }
            if received == 0 || out.len() > before {
                return out.len() - before;
            }
        }
    }

    /// Waits for messages and appends up to `max` envelopes to `out`, without splitting batches.
    pub(crate) async fn recv_batches(&mut self, out: &mut Vec<Envelope>, max: usize) -> usize {
        self.queue.recv_values(out, max).await
    }

    /// Pauses or resumes the messages of a flow.
    pub(crate) fn set_paused(&mut self, flow: FlowKey, is_paused: bool) {
        self.queue.set_paused(flow, is_paused);
    }

    /// Puts back the last received messages that were not handled, so that messages of other clients precede them.
    pub(crate) fn restore(&mut self, rest: impl DoubleEndedIterator<Item = Envelope>) {
        self.queue.restore(rest);
    }

    /// Yields to senders that wait for capacity, before user code that may block the thread.
    pub(crate) async fn yield_to_senders(&mut self) {
        if self.queue.freed_capacity() {
            tokio::task::yield_now().await;
        }
    }

    /// Returns how long a closing socket may take to send queued messages.
    pub fn linger(&self) -> Duration {
        self.stop.linger()
    }
}

/// Adapts the number of messages that a part receives at once to what it handles in [`TARGET`](Self::TARGET).
///
/// Further messages stay in the queue, which serves clients in turn; in the part they would be first in, first out.
#[derive(Debug)]
pub(crate) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        // Doubles with each batch that is handled in time.
        Self(1)
    }
}

impl Pace {
    const TARGET: Duration = Duration::from_millis(1);

    /// Returns how many messages to receive.
    pub(crate) fn messages(&self) -> usize {
        self.0
    }

    /// Returns until when a batch may be handled whose first message is handled now. The rest should be put back then.
    pub(crate) fn deadline(now: Instant) -> Instant {
        now + Self::TARGET
    }

    /// Returns whether the rest of a batch should be put back after this time.
    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed > Self::TARGET
    }

    /// Records that `handled` of `taken` messages were handled in `elapsed`.
    pub(crate) fn handled(&mut self, taken: usize, handled: usize, elapsed: Duration) {
        if handled < taken || self.is_over(elapsed) {
            self.0 = handled.max(1);
        } else {
            self.0 = (2 * self.0).min(BATCH);
        }
    }
}
