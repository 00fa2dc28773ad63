//! The cancelled calls that a master reports to a worker: lists with numbers of their own, outside of the stream of
//! messages, so that they overtake tasks and use no credit.
//!
//! As with messages, a header may be lost, repeated or delayed without harm: numbers are absolute, a receiver skips the
//! lists that it has, and a sender keeps a list until it is acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

/// Limit on unacknowledged lists. Further ones are dropped: their calls run to their end.
pub(super) const MAX_LISTS: usize = 1024;

/// Limit on the bytes of the lists in one header, which the last list may exceed.
pub(super) const MAX_HEADER_LIST_BYTES: usize = 256 * 1024;

/// The lists of one direction that the peer has not acknowledged, and the position in the other direction.
#[derive(Debug, Default)]
pub(super) struct CancelledLists {
    /// The unacknowledged lists, the first of which has the number `base`.
    lists: VecDeque<Bytes>,
    base: u64,
    /// The index in `lists` of the next list to send.
    next: usize,
    /// The number of lists that were ever sent.
    sent: u64,
    /// The number of lists that were received.
    pub(super) received: u64,
}

impl CancelledLists {
    /// Adds a list. Returns whether it is kept.
    pub(super) fn push(&mut self, list: Bytes) -> bool {
        let has_capacity = self.lists.len() < MAX_LISTS;
        if has_capacity {
            self.lists.push_back(list);
        }
        has_capacity
    }

    /// Returns whether all lists are acknowledged.
    #[inline]
    pub(super) fn is_acknowledged(&self) -> bool {
        self.lists.is_empty()
    }

    /// Returns whether lists are to be sent.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.next < self.lists.len()
    }

    /// Returns whether lists were sent that are not acknowledged.
    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        self.sent > self.base
    }

    /// Removes the lists below the number `received`. Returns `false` if they were not all sent.
    #[inline]
    pub(super) fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.sent {
            return false;
        }
        if let Some(count) = received.checked_sub(self.base)
            && count > 0
        {
            let count = count as usize;
            self.lists.drain(..count);
            self.base = received;
            self.next = self.next.saturating_sub(count);
        }
        true
    }

    /// All unacknowledged lists are to be sent again.
    #[inline]
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Returns the number of the next list to send, and the lists of the next header.
    #[inline]
    pub(super) fn next(&mut self) -> (u64, Vec<Bytes>) {
        let first = self.base + self.next as u64;
        let (mut lists, mut bytes) = (Vec::new(), 0);
        while let Some(list) = self.lists.get(self.next)
            && bytes < MAX_HEADER_LIST_BYTES
        {
            bytes += list.len();
            lists.push(list.clone());
            self.next += 1;
        }
        self.sent = self.sent.max(first + lists.len() as u64);
        (first, lists)
    }

    /// Returns the number of the next list to send.
    #[inline]
    pub(super) fn next_number(&self) -> u64 {
        self.base + self.next as u64
    }

    /// Skips the lists of a header that were received before, and returns the others. Returns `None` if lists are
    /// missing ahead of them.
    pub(super) fn receive(&mut self, first: u64, lists: &[Bytes]) -> Option<Vec<Bytes>> {
        let seen = usize::try_from(self.received.checked_sub(first)?).unwrap_or(usize::MAX);
        let new = lists.get(seen..).unwrap_or_default();
        self.received += new.len() as u64;
        Some(new.to_vec())
    }
}
