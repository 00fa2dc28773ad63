//! A publisher written by hand, and messages of any frames.

use palm::socket::Address;

use super::raw::{MORE, RawListener, RawPeer, frame};
use super::setup::{ANY, address, soon};

/// Encodes the frames of a message.
pub(crate) fn message<B: AsRef<[u8]>>(frames: &[B]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, body) in frames.iter().enumerate() {
        let more = if number + 1 < frames.len() { MORE } else { 0 };
        bytes.extend(frame(more, body.as_ref()));
    }
    bytes
}

/// A PUB socket by hand, which publishes regardless of subscriptions.
pub(crate) struct RawPublisher {
    listener: RawListener,
    pub(crate) address: Address,
    peer: Option<RawPeer>,
}

impl RawPublisher {
    pub(crate) fn bind() -> Self {
        let (listener, address) = RawListener::bind(&address(ANY));
        Self {
            listener,
            address,
            peer: None,
        }
    }

    /// Accepts the next connection, before the handshake.
    pub(crate) async fn accept(&self) -> RawPeer {
        self.listener.accept().await
    }

    /// Returns the connection to the subscriber, once it has subscribed.
    pub(crate) async fn subscriber(&mut self) -> &mut RawPeer {
        if self.peer.is_none() {
            let subscribed = async {
                loop {
                    let mut peer = self.accept().await;
                    // A connection that was closed meanwhile sends nothing.
                    if peer.introduce("PUB", b"").await.is_ok() && peer.frame().await.is_ok() {
                        return peer;
                    }
                }
            };
            self.peer = Some(soon("a subscription", subscribed).await);
        }
        self.peer.as_mut().unwrap()
    }

    /// Publishes a message of these frames.
    pub(crate) async fn publish<B: AsRef<[u8]>>(&mut self, frames: &[B]) {
        let bytes = message(frames);
        self.subscriber().await.write(&bytes).await.unwrap();
    }

    /// Closes the connection. The next use waits for a new one.
    pub(crate) fn hang_up(&mut self) {
        self.peer = None;
    }
}
