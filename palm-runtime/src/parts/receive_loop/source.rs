//! [`MessageSource`]: where a receive loop receives messages from, and returns credit to.

use bytes::Bytes;

use crate::fair_queue::{Flow, FlowKey};
use crate::link::PeerKey;
use crate::message::Batch;
use crate::message::lease::LinkReceipt;
use crate::socket::{Pull, SocketClosed};

/// The source of messages, to which their credit is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts) enum Origin {
    /// A socket, which has no credit.
    Socket,
    /// A link that a peer opened.
    Peer(PeerKey),
    /// A link that this component opened to a publisher.
    Publisher(LinkReceipt),
}

/// Messages from a source, or a change of one of its clients.
#[derive(Debug)]
pub(in crate::parts) enum SourceEvent {
    Messages {
        batch: Batch,
        /// The flow of the client that owns the link; `None` if the flow is that of each message.
        flow: Option<Flow>,
        origin: Origin,
    },
    /// A client has stopped reading its answers (`true`), or reads again.
    Paused(FlowKey, bool),
}

impl SourceEvent {
    pub(in crate::parts) fn batch(&self) -> Option<&Batch> {
        match self {
            Self::Messages { batch, .. } => Some(batch),
            Self::Paused(..) => None,
        }
    }

    pub(in crate::parts) fn from_socket(frame: Bytes) -> Self {
        Self::Messages {
            batch: frame.into(),
            flow: None,
            origin: Origin::Socket,
        }
    }
}

/// Messages that were sent on, for which credit is returned to their origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts) struct ConsumedMessages {
    pub(in crate::parts) origin: Origin,
    pub(in crate::parts) messages: u64,
    pub(in crate::parts) bytes: u64,
}

/// A source of messages: a socket, links, or both.
pub(in crate::parts) trait MessageSource: Send {
    /// Waits for messages and appends them to `out`; may append none.
    ///
    /// Receives at most `max` messages from a socket, and all that have arrived from links. Cancel safe.
    fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> impl Future<Output = Result<(), SocketClosed>> + Send;

    /// Appends messages that have already arrived to `out`.
    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize);

    /// Returns credit for messages that were sent on.
    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        messages.clear();
    }

    /// Asks peers to stop sending, and waits until all messages that they have sent have arrived. Cancel safe.
    fn drain_peers(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl MessageSource for Pull {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        if max == 0 {
            return std::future::pending().await;
        }
        let mut frames = Vec::new();
        self.recv_many(&mut frames, max).await?;
        out.extend(frames.into_iter().map(SourceEvent::from_socket));
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        let mut frames = Vec::new();
        self.try_recv_many(&mut frames, max);
        out.extend(frames.into_iter().map(SourceEvent::from_socket));
    }
}
