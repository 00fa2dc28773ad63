//! [`Outbox`]: the messages that are queued for a peer.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::clock;
use crate::socket::Frames;

/// Messages for which an idle connection keeps a buffer.
pub(super) const MAX_IDLE_CAPACITY: usize = 16;

/// Messages to a peer that are not encoded.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) messages: VecDeque<Frames>,
    /// The time at which a message has found no capacity, or the last one at which some of the output was written since.
    pub(super) full_since: Option<Instant>,
    pub(super) is_closing: bool,
}

/// The state of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutboxState {
    HasMessages,
    Empty,
    /// Empty, and the socket is closing.
    Finished,
}

impl Outbox {
    /// Adds a message. Returns whether it is the first one. Its sender then wakes the task or writes all messages, so
    /// that the senders of others need not.
    pub(super) fn push(&mut self, frames: Frames) -> bool {
        self.messages.push_back(frames);
        self.messages.len() == 1
    }

    /// Moves messages to `batch`, up to one after the first `bytes`. Returns whether a message has waited for capacity.
    pub(super) fn take(&mut self, batch: &mut Vec<Frames>, bytes: usize) -> bool {
        let mut taken = 0;
        while taken <= bytes
            && let Some(frames) = self.messages.pop_front()
        {
            taken += frames.iter().map(Bytes::len).sum::<usize>();
            batch.push(frames);
        }
        if self.messages.capacity() > MAX_IDLE_CAPACITY && self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        !batch.is_empty() && self.full_since.take().is_some()
    }

    pub(super) fn state(&self) -> OutboxState {
        match self.messages.is_empty() {
            false => OutboxState::HasMessages,
            true if self.is_closing => OutboxState::Finished,
            true => OutboxState::Empty,
        }
    }

    /// Returns whether another message may be queued, and notes the time if not.
    pub(super) fn has_capacity(&mut self, queue_len: usize) -> bool {
        let has_capacity = self.messages.len() < queue_len;
        if !has_capacity {
            self.full_since.get_or_insert_with(clock::now);
        }
        has_capacity
    }
}
