//! Native sockets: creation, messages with permits, and shutdown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use zeromq::{MultiPeerBackend, ZmqMessage};

use crate::socket::Frames;

/// Interval of checks for events that the crate does not report.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Number of checks for peers whose handshakes were in progress when their socket was closed.
const MAX_SHUTDOWN_POLLS: u32 = 50;

/// The last frame of a message in the crate's queue. The permit is released together with the frame.
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

/// A socket of the crate, whose connections are closed when it is dropped.
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

/// The part of a native socket that its connections share. Dropping it closes them, which not every socket of the crate
/// does by itself.
pub(super) struct NativeBackend(pub(super) Arc<dyn MultiPeerBackend>);

impl NativeBackend {
    /// Stops accepting messages, and waits until the accepted ones are written.
    ///
    /// The crate does not report that. Each of its writers owns a reference to the backend until it has finished;
    /// `others` is the number of references that do not belong to writers.
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
        // A peer whose handshake is in progress would stay connected without a reader.
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
