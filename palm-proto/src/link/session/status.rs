//! Accessors for the state of a session.

use std::time::{Duration, Instant};

use super::inbox::Inbox;
use super::{Session, Side, VERSION};
use crate::report::Durations;

/// Messages share batches and writes while this many or more are unacknowledged.
const MIN_SHARED: usize = 8;

/// The numbers of messages of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    pub sent: u64,
    pub acknowledged: u64,
    pub received: u64,
}

impl Session {
    /// Returns the version that both ends speak: the lowest one until the peer has introduced itself.
    #[inline]
    pub fn version(&self) -> u32 {
        VERSION.min(self.peer_version)
    }

    /// Returns the number that identifies the run of the accepting component; 0 if unknown.
    #[inline]
    pub fn component(&self) -> u64 {
        match self.side {
            Side::Connects { component, .. } | Side::Accepts { component, .. } => component,
        }
    }

    /// Returns the longest silence of this side: its own interval, or less if the peer's idle timeout requires it.
    #[inline]
    pub fn heartbeat(&self) -> Duration {
        self.timers.heartbeat
    }

    /// Returns how many further messages the peer accepts.
    #[inline]
    pub fn credit(&self) -> u64 {
        if self.is_over || self.is_finishing {
            return 0;
        }
        let end = self.outbox.end();
        self.outbox.credit.messages.saturating_sub(end)
    }

    /// Returns the number of messages that are queued or unacknowledged, and their bytes.
    #[inline]
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.outbox.messages, self.outbox.bytes)
    }

    /// Returns whether few messages are unacknowledged, so that a message is best sent at once: hardly any other would
    /// share its batch, or its write.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.outbox.messages < MIN_SHARED
    }

    /// Returns how many messages were submitted in this session, how many of them the peer has acknowledged, and how
    /// many were received.
    pub fn message_counts(&self) -> MessageCounts {
        MessageCounts {
            sent: self.outbox.end(),
            acknowledged: self.outbox.base,
            received: self.inbox.received.messages,
        }
    }

    /// Returns how many received messages were not consumed, and their bytes.
    pub fn unconsumed(&self) -> (u64, u64) {
        let Inbox {
            received, consumed, ..
        } = &self.inbox;
        (
            received.messages.saturating_sub(consumed.messages),
            received.bytes.saturating_sub(consumed.bytes),
        )
    }

    /// Returns when the session began.
    #[inline]
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Returns whether the peer accepts no messages beyond the credit that it has granted.
    #[inline]
    pub fn is_peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// Returns the time from the submission of a message to its acknowledgement, of every 64th message.
    pub fn acknowledgement_times(&self) -> Durations {
        self.times.durations()
    }

    /// Returns whether the peer has acknowledged all messages.
    #[inline]
    pub fn is_acknowledged(&self) -> bool {
        self.outbox.items.is_empty()
    }

    /// Returns when the peer last showed a sign of life.
    #[inline]
    pub fn last_heard(&self) -> Instant {
        self.timers.last_heard
    }

    /// Returns the bytes of the first unacknowledged message, or batch, if it is under way, and otherwise 0.
    #[inline]
    pub fn first_bytes_under_way(&self) -> usize {
        let is_under_way = self.outbox.next.messages > self.outbox.base;
        let first = self.outbox.items.front().filter(|_| is_under_way);
        first.map_or(0, |item| item.batch.bytes())
    }

    /// Returns when the peer last acknowledged a message, or the session began.
    #[inline]
    pub fn acknowledged_at(&self) -> Instant {
        self.timers.acknowledged_at
    }

    /// Returns whether the session has ended.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns how many tasks this worker runs at once, as it has reported in this session; 0 if unknown.
    pub fn concurrency(&self) -> u32 {
        match (&self.side, self.concurrency) {
            (Side::Connects { hello, .. }, 0) => hello.concurrency,
            (_, concurrency) => concurrency,
        }
    }

    /// Returns how many tasks of the peer, a worker, wait for other calls of this component.
    #[inline]
    pub fn peer_lent_slots(&self) -> u32 {
        self.peer_lent_slots
    }

    /// Returns how many tasks the peer, a worker, runs at once; `None` if it is the number of its `hello`.
    #[inline]
    pub fn peer_concurrency(&self) -> Option<u32> {
        (self.peer_concurrency > 0).then_some(self.peer_concurrency)
    }

    /// Returns whether messages were dropped for lack of capacity.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked_bytes.is_some()
    }

    /// Returns how many components followed the peer when it sent its last header.
    pub fn peer_followers(&self) -> u32 {
        self.peer_followers
    }

    /// Returns the number that the next submitted message will have.
    #[inline]
    pub fn next_number(&self) -> u64 {
        self.outbox.end()
    }

    /// Returns whether messages with a lower number are unacknowledged.
    #[inline]
    pub fn has_unacknowledged_below(&self, number: u64) -> bool {
        self.outbox.base < number.min(self.outbox.end())
    }
}
