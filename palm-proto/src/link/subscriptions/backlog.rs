//! The limits on the backlogs of subscribers and clients.

use std::time::Duration;

use crate::link::session::{Session, memory_bytes};

/// The backlog of a subscriber at which the publisher waits for it. A single message of any size is accepted.
pub const SUBSCRIBER_BACKLOG: BacklogSize = BacklogSize {
    messages: 10_000,
    bytes: 64 * 1024 * 1024,
};

/// The backlog of a client at which the publisher waits for it. The client's calls are paused long before, so
/// only the results of calls that already run reach it.
pub(super) const CLIENT_BACKLOG: BacklogSize = BacklogSize {
    messages: 40_000,
    bytes: 256 * 1024 * 1024,
};

/// Time after which a client with a full backlog that reads nothing is disconnected. The publisher waits until then.
///
/// A client acknowledges whole messages, so it has more time while a large one is under way: a second for each
/// [`MIN_CLIENT_RATE`], up to [`MAX_CLIENT_STALL_TIMEOUT`]. Otherwise a client on a slow network would be disconnected
/// at each large result, and run its calls again and again.
pub(super) const CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The limit of [`CLIENT_STALL_TIMEOUT`] for large messages.
const MAX_CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The bytes that a client with a full backlog has to receive in each second.
const MIN_CLIENT_RATE: f64 = 1024.0 * 1024.0;

pub(super) fn client_stall_timeout(session: &Session) -> Duration {
    let seconds = session.first_bytes_under_way() as f64 / MIN_CLIENT_RATE;
    (CLIENT_STALL_TIMEOUT + Duration::from_secs_f64(seconds)).min(MAX_CLIENT_STALL_TIMEOUT)
}

/// The backlog of a client at which its calls are paused: no further ones are accepted.
pub(super) const PAUSE_BACKLOG: BacklogSize = BacklogSize {
    messages: 4096,
    bytes: 16 * 1024 * 1024,
};

/// Backlog that each peer may have even if `LinkOptions::max_backlog_bytes` is used up.
pub(super) const MIN_BACKLOG_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, Default)]
pub struct BacklogSize {
    pub messages: usize,
    pub bytes: usize,
}

impl BacklogSize {
    #[inline]
    pub fn reaches(self, limit: Self) -> bool {
        self.messages >= limit.messages || self.bytes >= limit.bytes
    }

    /// Returns this limit with at most `bytes`.
    #[inline]
    pub fn at_most(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.min(bytes),
            ..self
        }
    }

    /// Estimates the memory that the messages occupy.
    pub fn memory_bytes(self) -> usize {
        memory_bytes(self.messages, self.bytes)
    }

    #[inline]
    pub(super) fn half(self) -> Self {
        Self {
            messages: self.messages / 2,
            bytes: self.bytes / 2,
        }
    }
}
