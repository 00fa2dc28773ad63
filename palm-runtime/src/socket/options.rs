//! The options of sockets of all types.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

use super::ReceiveBudget;
use crate::network::NetworkTrust;
use crate::options::options;

options! {
    /// The options of a socket, of any type.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SocketOptions {
        /// Sets the number of messages that are queued for each peer and direction before senders wait. Default: 1000.
        queue_len: u32 = 1000,
        /// Sets the size of the largest accepted message. A larger one closes the connection. Default: 256 MiB.
        max_message_bytes: usize = 256 * 1024 * 1024,
        /// Sets the limit on memory for messages of more than 16 KiB that all sockets of a component are receiving.
        /// Default: 512 MiB.
        ///
        /// A connection may use at most four times the free memory, so one alone leaves a fifth to others; a message
        /// without memory stays in the system's buffers and at its sender. While no other connection uses any, a
        /// message may be larger than this limit.
        max_receive_bytes: usize = 512 * 1024 * 1024,
        /// Sets the time within which a peer has to send the next 64 KiB of a message while other connections wait for
        /// [memory](Self::max_receive_bytes). Afterwards its connection is closed. Default: 10 s.
        receive_timeout: Duration = Duration::from_secs(10),
        /// Sets the time within which a peer has to complete its handshake. Default: 10 s.
        handshake_timeout: Duration = Duration::from_secs(10),
        /// Sets the limit on concurrent handshakes of a socket that binds. Default: 4096.
        ///
        /// The oldest ends when there are more.
        max_handshakes: usize = 4096,
        /// Sets the limit on connections of a socket that binds. Default: 16 384.
        ///
        /// A PULL or ROUTER that has as many closes one for each new connection: the oldest without a completed
        /// handshake, the oldest that has sent nothing since its handshake, or the one that has been silent for
        /// longest, if that is more than a minute. A PUB closes the oldest that has not subscribed. If there is none,
        /// and at a PUSH, the new connection is closed, and its peer tries again.
        max_connections: usize = 16_384,
        /// Sets the delay before the first attempt to reconnect. It doubles with each further attempt. Default: 50 ms.
        min_reconnect_delay: Duration = Duration::from_millis(50),
        /// Sets the longest delay between two attempts to reconnect. Default: 1 s.
        max_reconnect_delay: Duration = Duration::from_secs(1),
        /// Sets the interval of heartbeats of ZMTP, the protocol below links. `None`: no heartbeats. Default: `None`.
        ///
        /// Links have heartbeats of their own, see [`LinkOptions::heartbeat`](crate::LinkOptions::heartbeat). A peer that
        /// computes without running its sockets, as every pylm peer does, does not answer heartbeats of ZMTP, and the
        /// messages that are queued for it are lost with the connection. TCP keep-alive is always on, and the peer's system
        /// answers it.
        zmtp_heartbeat: Option<Duration> as impl Into<Option<Duration>> = None,
        /// Sets the time until a PUB socket disconnects a legacy subscriber that has stopped reading. Default: 10 s.
        ///
        /// Other legacy subscribers of the same topics wait meanwhile. Subscribers over links have
        /// [`LinkOptions::slow_consumer_timeout`](crate::LinkOptions::slow_consumer_timeout).
        slow_subscriber_timeout: Duration = Duration::from_secs(10),
    }
    internal {
        /// Of the component that owns the socket.
        kill: Kill = Kill::default(),
        /// The addresses that the component may bind. A socket without a component may bind any.
        network: Option<NetworkTrust> = None,
        /// Shared by the sockets of a component, and by those that are opened with clones of these options.
        receive_budget: ReceiveBudget = ReceiveBudget::default(),
    }
}

/// An order to a component to end as if its process had crashed.
///
/// From then on its sockets accept no messages, because code that is dropped may still send, and their tasks end without
/// sending what is queued.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kill {
    order: CancellationToken,
    tasks: TaskTracker,
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

    /// Awaits `future`, or returns `None` once the order was received. Cancel safe if `future` is.
    pub(crate) async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.order.run_until_cancelled(future).await
    }

    /// Returns a token that the order cancels.
    pub(super) fn token(&self) -> CancellationToken {
        self.order.child_token()
    }

    /// Returns the future of a task of a socket, which [`closed`](Self::closed) waits for.
    pub(super) fn track<F: Future>(&self, task: F) -> TrackedFuture<F> {
        self.tasks.track_future(task)
    }

    /// Waits until the tasks of all sockets have ended, so that their addresses are free. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
