//! A socket of the crate, its messages, and its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use zeromq::{MultiPeerBackend, ZmqMessage};

use crate::socket::Frames;

/// How often to look for what the crate gives no notice of.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How often to look for peers that were introducing themselves when their socket was closed.
const MAX_SHUTDOWN_POLLS: u32 = 50;

/// The last frame of a message in the crate's queue: its permit comes back with its memory.
struct FrameWithPermit {
    frame: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for FrameWithPermit {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

pub(super) fn message(frames: Frames, permit: Option<OwnedSemaphorePermit>) -> ZmqMessage {
    let mut frames = frames.into_iter().rev();
    let frame = frames.next().unwrap_or_default();
    let mut message = ZmqMessage::from(match permit {
        Some(permit) => Bytes::from_owner(FrameWithPermit {
            frame,
            _permit: permit,
        }),
        None => frame,
    });
    for frame in frames {
        message.push_front(frame);
    }
    message
}

pub(super) fn to_io(error: zeromq::ZmqError) -> io::Error {
    match error {
        zeromq::ZmqError::Network(error) => error,
        error => io::Error::other(error),
    }
}

/// A socket of the crate, and its end.
pub(super) struct NativeSocket<S: zeromq::Socket> {
    pub(super) socket: S,
    pub(super) backend: NativeBackend,
}

impl<S: zeromq::Socket> NativeSocket<S> {
    pub(super) fn new() -> Self {
        let socket = S::new();
        let backend = NativeBackend(socket.backend());
        Self { socket, backend }
    }
}

/// Ends the connections of a socket of the crate when it is dropped; by itself, not each does.
pub(super) struct NativeBackend(pub(super) Arc<dyn MultiPeerBackend>);

impl NativeBackend {
    /// Takes no more, and waits until what the crate was given is written. It tells nobody, but each
    /// of its writers is an owner of the backend; `others` are no writers.
    pub(super) async fn flushed(&self, others: usize) {
        self.0.shutdown();
        while Arc::strong_count(&self.0) > others {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for NativeBackend {
    fn drop(&mut self) {
        self.0.shutdown();
        // A peer that is just introducing itself would stay connected to nobody.
        if Arc::strong_count(&self.0) > 1
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let backend = self.0.clone();
            runtime.spawn(async move {
                for _ in 0..MAX_SHUTDOWN_POLLS {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    backend.shutdown();
                    if Arc::strong_count(&backend) == 1 {
                        break;
                    }
                }
            });
        }
    }
}
