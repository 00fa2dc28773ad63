//! The options of sockets of all types.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::network::NetworkTrust;

/// The ZeroMQ crate that a socket runs on. Each is a feature of palm.
///
/// Default: [`Omq`](Self::Omq), or the only one that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// `omq-tokio`, which withstands misbehaving peers. Feature `omq`.
    #[cfg(feature = "omq")]
    #[default]
    Omq,
    /// `zeromq`, which is faster from 4 KB up, for trusted networks: it has no limits on the size of a message and on
    /// the duration of a handshake. Feature `zeromq`.
    #[cfg(feature = "zeromq")]
    #[cfg_attr(not(feature = "omq"), default)]
    Zeromq,
    // Without a backend the build must fail with that error only.
    #[doc(hidden)]
    #[cfg(not(any(feature = "omq", feature = "zeromq")))]
    #[default]
    None,
}

/// The options of a socket, of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// ZeroMQ crate that the socket runs on. Default: [`Backend::Omq`], or the only one that is built.
    pub backend: Backend,
    /// Messages that are queued for each peer and direction before senders wait. Default: 1000.
    pub queue_len: u32,
    /// Largest accepted message. A larger one closes the connection. Default: 256 MiB.
    pub max_message_bytes: usize,
    /// Time within which a peer has to complete its handshake. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Concurrent handshakes. Further connections are rejected. Default: 4096.
    pub max_handshakes: usize,
    /// Connections of a socket that binds. Further ones are closed, and their peers try again. A connection takes about
    /// 140 KiB without any message, most of it for [`queue_len`](Self::queue_len). Default: 16 384.
    pub max_connections: usize,
    /// First and longest delay before a reconnection. The delay doubles in between. Default: 50 ms and 1 s.
    pub reconnect: (Duration, Duration),
    /// Interval of ZMTP heartbeats. Default: none. A peer that computes without running its sockets, as every pylm peer
    /// does, does not answer heartbeats, and the messages that are queued for it are lost with the connection. TCP
    /// keep-alive is always on, and the peer's system answers it.
    pub heartbeat: Option<Duration>,
    /// Time until a publisher disconnects a subscriber that has stopped reading. Other subscribers wait meanwhile,
    /// because a publisher has one queue for all. Default: 10 s.
    pub slow_consumer_timeout: Duration,
    /// Of the component that owns the socket.
    pub(crate) kill: Kill,
    /// The addresses that the component may bind. A socket without a component may bind any.
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

/// An order to a component to end as if its process had crashed.
///
/// From then on its sockets accept no messages, because code that is dropped may still send. A dropped socket discards
/// its queued messages, which it would otherwise send for a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kill {
    order: CancellationToken,
    closing: TaskTracker,
}

/// All values are equal, because they do not affect how a socket behaves.
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

    /// Awaits `future`, or returns `None` once the order was received. Cancel safe if `future` is.
    pub(crate) async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.order.run_until_cancelled(future).await
    }

    /// Runs the closing of a socket that is dropped after the order. [`closed`](Self::closed) waits for it.
    pub(super) fn close<F>(&self, closing: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without a runtime, the task that drives the socket has ended, and has closed it.
        if self.is_ordered() && tokio::runtime::Handle::try_current().is_ok() {
            self.closing.spawn(closing());
        }
    }

    /// Waits until the dropped sockets have released their addresses. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.closing.close();
        self.closing.wait().await;
    }
}
