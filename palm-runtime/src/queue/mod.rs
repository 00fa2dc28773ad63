//! The bounded queue between two parts, which several flows share fairly.
//!
//! A [`Sender`] waits while its flow has no capacity; the [`Receiver`] takes values by fair queueing
//! ([`FairQueue`](crate::fair_queue::FairQueue)).
//! The bound is [`QueueLimits`] in total, and for each flow a dynamic threshold (see [`budget`](crate::budget)): a flow
//! holds at most four times the free capacity. So a single flow uses 80 % of the queue, several flows have equal parts,
//! and a new flow always finds capacity. **Invariant:** senders exceed the limits by at most one value, which alone is
//! larger than they are. [`Receiver::restore`] may exceed them by the values that were received last.
//!
//! While a receiver waits, a [`Shortcut`] passes values on to where the receiver would pass them: on the sender's thread,
//! without the queue, and without waking the receiver's task.

use std::sync::Arc;

use crate::fair_queue::{Flow, Usage};
use crate::options::options;

mod entry;
mod gauge;
mod receiver;
mod sender;
mod state;

pub(crate) use gauge::QueueGauge;
pub(crate) use receiver::Receiver;
pub(crate) use sender::{Closed, Releases, Sender};

use state::SharedQueue;

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
    let shared = Arc::new(SharedQueue::new(limits));
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

#[cfg(test)]
mod tests;
