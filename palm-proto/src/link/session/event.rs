//! The events and transmissions that a session returns to its owner.

use bytes::Bytes;

use super::TaggedBatch;
use crate::message::proto::{LinkHeader, LinkRefusal, LinkRequest};

/// An event that a session reports to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer has introduced itself, for the first time or on a new connection.
    Opened,
    /// The next messages in order have arrived.
    Messages(TaggedBatch),
    /// The peer drains: it accepts no messages beyond its credit.
    Draining,
    /// A list of cancelled calls has arrived.
    Cancelled(Bytes),
    /// The last message that the peer will send has arrived.
    Finished,
    /// The peer does not know this session any more, which is over.
    Forgotten,
    /// The peer has established its own subscriptions.
    SubscriptionsReady,
    /// The peer has closed the session, which is over.
    Closed {
        /// Whether the peer has handled all messages that it acknowledged, and all of its own have arrived.
        is_settled: bool,
    },
    /// The peer, a master, asks for a report: see [`Session::send_report`](super::Session::send_report).
    ReportWanted {
        /// Whether the report is to contain recent calls.
        calls: bool,
    },
    /// The peer, a worker, has sent its encoded report.
    Report(Bytes),
    /// The peer, a master, passes on a request of an operator: see [`Session::reply`](super::Session::reply).
    Request(LinkRequest),
    /// The peer, a worker, has replied to the request with this number. The payload is empty if it does not know the verb.
    Reply { number: u64, payload: Bytes },
    /// The peer or this side has refused to continue the session, which is over.
    Refused(LinkRefusal),
}

/// A header and the frames of the messages that follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transmission {
    pub header: LinkHeader,
    pub frames: Vec<Bytes>,
}
