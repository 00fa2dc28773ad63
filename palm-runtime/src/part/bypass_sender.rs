//! [`BypassSender`]: sends bodies to a bypass that pushes them.

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

/// Sends bodies to a [`PushBypassConnection`](crate::parts::PushBypassConnection). Clones send to the same one.
#[derive(Debug, Clone)]
pub struct BypassSender(pub(crate) Sender<Bytes>);

impl BypassSender {
    /// Queues `body`, which is sent as one frame. Waits while 1000 bodies or 64 MiB are queued.
    ///
    /// Returns `false` if the part has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, `body` is not sent.
    pub async fn send(&self, body: impl Into<Bytes>) -> bool {
        self.0.send(body.into()).await.is_ok()
    }
}
