//! The sending direction of a session: messages until they are acknowledged, within the peer's credit.

use std::collections::VecDeque;
use std::ops::Range;

use super::inbox::Offset;
use super::tagged_batch::{TaggedBatch, message_count};

/// Limit on the messages of one transmission.
pub(super) const MAX_TRANSMISSION_MESSAGES: usize = 256;
/// Limit on the bytes of one transmission, which its last message may exceed.
pub(super) const MAX_TRANSMISSION_BYTES: usize = 1024 * 1024;

/// The messages to send, until the peer acknowledges them.
///
/// Numbers below `base` are acknowledged; those from `base` to `next` are under way; those from `next` on are to be
/// sent, as far as `credit` admits. A retransmission only moves `next` back.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The unacknowledged messages, the first of which has the number `base`.
    pub(super) items: VecDeque<TaggedBatch>,
    /// Messages and bytes in `items`.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The index in `items` of the batch at `next`.
    pub(super) next_index: usize,
    pub(super) base: u64,
    pub(super) base_bytes: u64,
    /// The position of the next message to send.
    pub(super) next: Offset,
    /// The number that follows the last message that was ever sent.
    pub(super) sent: u64,
    /// The position up to which the peer accepts messages.
    pub(super) credit: Offset,
    /// Whether the last header acknowledged further messages.
    pub(super) has_progressed: bool,
}

impl Outbox {
    #[inline]
    pub(super) fn push(&mut self, item: TaggedBatch) {
        self.messages += item.len();
        self.bytes += item.batch.bytes();
        self.items.push_back(item);
    }

    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.base + self.messages as u64
    }

    pub(super) fn is_transmitted(&self) -> bool {
        self.next.messages == self.end()
    }

    /// Removes the messages below the number `received`. Returns `false` if they were not all sent.
    pub(super) fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.sent {
            return false;
        }
        self.has_progressed = received > self.base;
        while self.base < received {
            let left = (received - self.base) as usize;
            let first = self.items.front_mut();
            let first = first.expect("unacknowledged messages are kept");
            let item = if left < first.len() {
                first.split_to(left)
            } else {
                self.next_index = self.next_index.saturating_sub(1);
                let whole = self.items.pop_front();
                whole.expect("the outbox has a first batch")
            };
            self.messages -= item.len();
            self.bytes -= item.batch.bytes();
            self.base += item.len() as u64;
            self.base_bytes += item.batch.bytes() as u64;
        }
        if self.next.messages < self.base {
            self.rewind();
        }
        true
    }

    /// Removes and returns the messages with this number or a higher one.
    pub(super) fn split_off(&mut self, number: u64) -> VecDeque<TaggedBatch> {
        let mut left = number.saturating_sub(self.base) as usize;
        let mut index = 0;
        while let Some(item) = self.items.get_mut(index)
            && left > 0
        {
            if left < item.len() {
                let front = item.split_to(left);
                self.items.insert(index, front);
            }
            left -= self.items[index].len();
            index += 1;
        }
        let items = self.items.split_off(index);
        self.messages -= message_count(&items);
        self.bytes -= items.iter().map(|item| item.batch.bytes()).sum::<usize>();
        if self.next.messages > self.end() {
            self.rewind();
        }
        items
    }

    pub(super) fn rewind(&mut self) {
        self.next_index = 0;
        self.next = Offset {
            messages: self.base,
            bytes: self.base_bytes,
        };
    }

    /// Moves back to the batch with the number `first`.
    pub(super) fn rewind_to(&mut self, first: u64) {
        self.rewind();
        while let Some(item) = self.items.get(self.next_index)
            && self.next.messages + item.len() as u64 <= first
        {
            self.next.messages += item.len() as u64;
            self.next.bytes += item.batch.bytes() as u64;
            self.next_index += 1;
        }
    }

    /// Advances over the messages of the next transmission, and returns their indices in `items`.
    pub(super) fn next(&mut self) -> Range<usize> {
        let first = self.next_index;
        let (mut count, mut bytes) = (0, 0);
        while let Some(item) = self.items.get_mut(self.next_index) {
            // A batch is split at the limit of the credit or of the transmission.
            let mut fit = 0;
            for size in item.batch.sizes() {
                let has_credit = self.next.messages < self.credit.messages
                    && self.next.bytes < self.credit.bytes;
                if !has_credit
                    || count == MAX_TRANSMISSION_MESSAGES
                    || bytes >= MAX_TRANSMISSION_BYTES
                {
                    break;
                }
                bytes += size;
                self.next.messages += 1;
                self.next.bytes += size as u64;
                count += 1;
                fit += 1;
            }
            if fit == 0 {
                break;
            }
            if fit < item.len() {
                let front = item.split_to(fit);
                self.items.insert(self.next_index, front);
            }
            self.next_index += 1;
        }
        self.sent = self.sent.max(self.next.messages);
        first..self.next_index
    }
}
