//! How a socket behaves; one struct for all kinds.

use std::time::Duration;

/// How a socket behaves towards its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Messages held per peer and direction before senders have to wait. Default: 1000.
    pub queue_len: u32,
    /// Largest message that is taken from a peer; a larger one ends its connection. Default: 256 MiB.
    pub max_message_bytes: usize,
    /// How long a peer may take to introduce itself. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Peers that may be introducing themselves at once; further ones are turned away. Default: 4096.
    pub max_handshakes: usize,
    /// First and longest wait before connecting anew; between, it doubles. Default: 50 ms and 1 s.
    pub reconnect: (Duration, Duration),
    /// Interval of ZMTP heartbeats. Default: none. A peer that computes without letting its sockets
    /// run (in pylm: any peer) does not answer them, and what was queued to it is lost when it is
    /// given up; TCP keep-alive, which is always on, is answered by the peer's system.
    pub heartbeat: Option<Duration>,
    /// How long a publisher waits for a subscriber that stopped reading before it drops it.
    /// Meanwhile its other subscribers wait too, as ZeroMQ has one queue for all. Default: 10 s.
    pub subscriber_patience: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            queue_len: 1000,
            max_message_bytes: 256 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 4096,
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            heartbeat: None,
            subscriber_patience: Duration::from_secs(10),
        }
    }
}
