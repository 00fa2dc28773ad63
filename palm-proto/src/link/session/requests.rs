//! The requests of operators that a master passes on to a worker, one at a time, outside of the stream of messages.
//!
//! A request is repeated until its reply arrives or the owner withdraws it. Numbers only grow, so a header may be lost,
//! repeated or delayed without harm: a worker handles each number once and repeats its last reply, and a master skips
//! replies to other requests than the one under way.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::timers::RETRY_INTERVAL;
use crate::message::proto::{LinkReply, LinkRequest};

/// Limit on requests without a reply.
pub(super) const MAX_REQUESTS: usize = 16;

/// The requests to a worker that have no reply.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    /// The first one is under way.
    requests: VecDeque<LinkRequest>,
    /// The number of the last request.
    last_number: u64,
    /// When the first request was last sent; `None` if it is due.
    sent_at: Option<Instant>,
}

impl RequestQueue {
    /// Adds a request and returns its number; `None` if too many have no reply.
    pub(super) fn push(&mut self, verb: &str, payload: Bytes) -> Option<u64> {
        if self.requests.len() >= MAX_REQUESTS {
            return None;
        }
        self.last_number += 1;
        self.requests.push_back(LinkRequest {
            number: self.last_number,
            verb: verb.to_owned(),
            payload,
        });
        Some(self.last_number)
    }

    /// Removes a request. Its reply is ignored.
    pub(super) fn withdraw(&mut self, number: u64) {
        let first = self.requests.front().map(|request| request.number);
        self.requests.retain(|request| request.number != number);
        if first == Some(number) {
            self.sent_at = None;
        }
    }

    /// Returns the payload of the reply, if it is the one that is awaited.
    pub(super) fn receive(&mut self, reply: &LinkReply) -> Option<Bytes> {
        let first = self.requests.front()?;
        if first.number != reply.number {
            return None;
        }
        self.requests.pop_front();
        self.sent_at = None;
        Some(reply.payload.clone())
    }

    /// The request under way is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent_at = None;
    }

    /// Returns when the request under way is to be sent again; `None` if it is due, or there is none.
    pub(super) fn repeated_at(&self) -> Option<Instant> {
        let sent_at = self.sent_at?;
        (!self.requests.is_empty()).then(|| sent_at + RETRY_INTERVAL)
    }

    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.requests.is_empty() && self.repeated_at().is_none_or(|at| at <= now)
    }

    /// Returns the request to send, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<LinkRequest> {
        if !self.is_due(now) {
            return None;
        }
        self.sent_at = Some(now);
        self.requests.front().cloned()
    }
}

/// The last request that this worker has handled.
#[derive(Debug, Default)]
pub(super) struct HandledRequest {
    reply: LinkReply,
    is_due: bool,
}

impl HandledRequest {
    /// Receives a request. Returns whether the owner is to handle it; otherwise it has been handled before.
    pub(super) fn receive(&mut self, number: u64) -> bool {
        self.is_due |= number == self.reply.number && number > 0;
        number > self.reply.number
    }

    /// Sets the reply to the request with this number.
    pub(super) fn reply(&mut self, number: u64, payload: Bytes) {
        self.reply = LinkReply { number, payload };
        self.is_due = true;
    }

    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Returns the reply to send, if one is due.
    pub(super) fn next(&mut self) -> Option<LinkReply> {
        std::mem::take(&mut self.is_due).then(|| self.reply.clone())
    }
}
