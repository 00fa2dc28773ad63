//! How a socket behaves; one struct for all kinds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Backend;
use crate::network::NetworkTrust;

/// How a socket behaves towards its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// ZeroMQ crate that the socket runs on. Default: [`Backend::Omq`], or the only one that is built.
    pub backend: Backend,
    /// Messages held per peer and direction before senders have to wait. Default: 1000.
    pub queue_len: u32,
    /// Largest message that is taken from a peer; a larger one ends its connection. Default: 256 MiB.
    pub max_message_bytes: usize,
    /// How long a peer may take to introduce itself. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Peers that may be introducing themselves at once; further ones are turned away. Default: 4096.
    pub max_handshakes: usize,
    /// Connections that a socket that binds has at most; further ones are closed, and their peers try again. Each
    /// takes about 140 KiB without any message, most of it for [`queue_len`](Self::queue_len). Default: 16 384.
    pub max_connections: usize,
    /// First and longest wait before connecting anew; between, it doubles. Default: 50 ms and 1 s.
    pub reconnect: (Duration, Duration),
    /// Interval of ZMTP heartbeats. Default: none. A peer that computes without letting its sockets
    /// run (in pylm: any peer) does not answer them, and what was queued to it is lost when it is
    /// given up; TCP keep-alive, which is always on, is answered by the peer's system.
    pub heartbeat: Option<Duration>,
    /// How long a publisher waits for a subscriber that stopped reading before it drops it.
    /// Meanwhile its other subscribers wait too, as ZeroMQ has one queue for all. Default: 10 s.
    pub slow_consumer_timeout: Duration,
    /// Of the component whose sockets these are.
    pub(crate) kill: Kill,
    /// Which addresses that component may bind. A socket of no component may bind any.
    pub(crate) network: Option<NetworkTrust>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            queue_len: 1000,
            max_message_bytes: 256 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 4096,
            max_connections: 16_384,
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            heartbeat: None,
            slow_consumer_timeout: Duration::from_secs(10),
            kill: Kill::default(),
            network: None,
        }
    }
}

/// The order to a component to end as if its process had died. From then on its sockets take nothing,
/// since what is dropped while it ends may have a last word; and a socket that is dropped sends nothing of
/// what it has queued, as it does at other times, for a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kill {
    order: CancellationToken,
    closing: TaskTracker,
}

/// It says nothing of how a socket behaves.
impl PartialEq for Kill {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kill {}

impl Kill {
    pub(crate) fn order(&self) {
        self.order.cancel();
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.order.is_cancelled()
    }

    /// What `future` gives, unless the order comes first. Cancel safe if that is.
    pub(crate) async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.order.run_until_cancelled(future).await
    }

    /// Lets a socket that is dropped after the order close: [`closed`](Self::closed) waits for it.
    pub(super) fn close<F>(&self, closing: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without a runtime its driver is gone, and the socket with it.
        if self.is_ordered() && tokio::runtime::Handle::try_current().is_ok() {
            self.closing.spawn(closing());
        }
    }

    /// Waits until the sockets that were dropped have given up their addresses. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.closing.close();
        self.closing.wait().await;
    }
}
