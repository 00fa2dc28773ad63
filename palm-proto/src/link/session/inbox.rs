//! The receiving direction of a session: what has arrived, and the credit for more.

use crate::message::Batch;

/// A position in the stream of messages of one direction: their number and bytes since the session began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// How much a peer may send ahead of what was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditWindow {
    pub messages: u64,
    pub bytes: u64,
}

/// The positions of the receiving direction: received, consumed, and granted as credit.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) received: Offset,
    pub(super) consumed: Offset,
    pub(super) window: CreditWindow,
    /// The number of messages for which credit is granted in the whole session.
    pub(super) limit: u64,
    /// The credit that the last header advertised.
    pub(super) advertised: Offset,
}

impl Inbox {
    pub(super) fn new(window: CreditWindow) -> Self {
        Self {
            received: Offset::default(),
            consumed: Offset::default(),
            window,
            limit: u64::MAX,
            advertised: Offset::default(),
        }
    }

    /// Returns the credit to advertise: the window beyond the consumed messages, and never less than before.
    pub(super) fn credit(&self) -> Offset {
        let Offset { messages, bytes } = self.consumed;
        Offset {
            messages: self
                .advertised
                .messages
                .max((messages + self.window.messages).min(self.limit)),
            bytes: self.advertised.bytes.max(bytes + self.window.bytes),
        }
    }

    /// Advances over the next messages. Returns `false` if they exceed the advertised credit.
    pub(super) fn take(&mut self, batch: &Batch) -> bool {
        let Offset { messages, bytes } = &mut self.received;
        for size in batch.sizes() {
            if *messages >= self.advertised.messages || *bytes >= self.advertised.bytes {
                return false;
            }
            *messages += 1;
            *bytes += size as u64;
        }
        true
    }

    /// Returns whether credit is to be advertised at once, because the peer has used half of what it could have.
    pub(super) fn is_credit_due(&self) -> bool {
        let credit = self.credit();
        let low = |received: u64, advertised: u64, credit: u64| {
            credit > advertised
                && advertised.saturating_sub(received) <= credit.saturating_sub(received) / 2
        };
        low(
            self.received.messages,
            self.advertised.messages,
            credit.messages,
        ) || low(self.received.bytes, self.advertised.bytes, credit.bytes)
    }
}
