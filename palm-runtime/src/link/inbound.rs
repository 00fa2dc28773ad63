//! Messages and events that links deliver to the parts that handle calls and results.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::PeerKey;
use crate::message::Batch;

/// Stands for no session: messages that were created here use no peer's credit.
pub(super) const NO_PEER: PeerKey = 0;

/// A message or event that links deliver to the part that handles it.
#[derive(Debug)]
pub(crate) enum InboundEvent {
    /// The messages and batches that followed one header. The part returns credit for them by
    /// [`LinkServer::passed_on`](super::server::LinkServer::passed_on).
    Messages {
        peer: PeerKey,
        /// The client's weight, see [`Flow`](crate::fair_queue::Flow).
        weight: u32,
        batches: Vec<Batch>,
    },
    /// The calls of a client are paused (`true`) because it does not read its answers, or resumed.
    Paused(PeerKey, bool),
}

/// The channel from links to the one part that handles calls, or results.
#[derive(Debug)]
pub(super) struct InboundChannel {
    sender: mpsc::UnboundedSender<InboundEvent>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<InboundEvent>>>,
}

impl Default for InboundChannel {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl InboundChannel {
    pub(super) fn take_receiver(&self) -> Option<mpsc::UnboundedReceiver<InboundEvent>> {
        self.receiver.lock().take()
    }

    /// Delivers messages of a peer. Without a receiver the component has stopped.
    pub(super) fn send(&self, peer: PeerKey, weight: u32, batches: Vec<Batch>) {
        if !batches.is_empty() {
            let _ = self.sender.send(InboundEvent::Messages {
                peer,
                weight,
                batches,
            });
        }
    }

    /// Pauses or resumes the calls of a peer.
    pub(super) fn pause(&self, peer: PeerKey, is_paused: bool) {
        let _ = self.sender.send(InboundEvent::Paused(peer, is_paused));
    }

    pub(super) fn is_taken(&self) -> bool {
        self.receiver.lock().is_none()
    }
}
