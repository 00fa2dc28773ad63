//! How a link introduces itself, and what happens to its messages when the peer has forgotten them.

use std::sync::Arc;

use crate::call_slots::Prefetch;
use crate::cancellation::Cancellations;
use crate::link::Subscription;
use crate::message::proto::Function;

/// How a peer introduces itself, and how much it accepts ahead.
#[derive(Debug)]
pub(crate) struct LinkSettings {
    pub(crate) role: &'static str,
    pub(crate) name: String,
    /// The functions that a worker can run.
    pub(crate) functions: Vec<Function>,
    pub(crate) following: Subscription,
    /// The `db_address` of the component; empty if it has none.
    pub(crate) db_address: String,
    /// The weight of a client in fair queues.
    pub(crate) weight: u32,
    /// Number of messages that are handled at once.
    pub(crate) concurrency: usize,
    pub(crate) prefetch: Prefetch,
    /// The cancelled calls of a worker, to which those of its master are added.
    pub(crate) cancellations: Option<Arc<Cancellations>>,
}

impl LinkSettings {
    /// Returns the settings of a peer that only receives what it subscribes to.
    pub(crate) fn following(role: &'static str, name: &str, following: Subscription) -> Self {
        Self {
            role,
            name: name.to_owned(),
            functions: Vec::new(),
            following,
            db_address: String::new(),
            weight: 0,
            concurrency: 1,
            prefetch: Prefetch::Fixed(4095),
            cancellations: None,
        }
    }
}

/// Handling of a client's unacknowledged messages when the peer no longer has the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResendPolicy {
    /// The link sends the messages again.
    ByLink,
    /// The sender of the messages is notified by [`LinkArrival::Renewed`](super::LinkArrival::Renewed), and sends again what has no answer.
    BySender,
    /// The link sends only messages that were never transmitted, since the call must not run twice.
    IfUntransmitted,
}

impl ResendPolicy {
    /// Returns the tag that marks messages of this policy.
    pub(super) fn tag(self) -> u64 {
        match self {
            Self::ByLink => 0,
            Self::BySender => 1,
            Self::IfUntransmitted => u64::MAX,
        }
    }
}
