//! What gives bytes to a bypass that pushes them.

use bytes::Bytes;

use crate::fair_queue::Usage;
use crate::queue::{Queued, Sender};

impl Queued for Bytes {
    const HAS_FLOWS: bool = false;

    fn usage(&self) -> Usage {
        Usage {
            messages: 1,
            bytes: self.len(),
        }
    }
}

/// Gives bytes to a [`PushBypassConnection`](crate::parts::PushBypassConnection). Clones give to the same.
#[derive(Debug, Clone)]
pub struct BypassSender(pub(crate) Sender<Bytes>);

impl BypassSender {
    /// Sends `body` as one frame; waits while 1000 messages or 64 MiB wait for the peer. Tells whether
    /// the part is still there.
    ///
    /// # Cancel safety
    ///
    /// What is not queued is dropped with the future.
    pub async fn send(&self, body: impl Into<Bytes>) -> bool {
        self.0.send(body.into()).await.is_ok()
    }
}
