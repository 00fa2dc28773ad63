//! Message sources that receive from links, and from a PULL socket of legacy peers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::receive_loop::{ConsumedMessages, MessageSource, Origin, SourceEvent};
use crate::component_state::ComponentState;
use crate::fair_queue::Flow;
use crate::link::inbound::InboundEvent;
use crate::socket::{Pull, SocketClosed};

/// Which peers send messages over the links of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkPeers {
    /// Clients: all messages of a link belong to the client that opened it.
    Clients,
    /// Workers: a link carries results for several clients.
    Workers,
}

/// Messages that arrive over links.
#[derive(Debug)]
pub(super) struct LinkInbound {
    incoming: Option<mpsc::UnboundedReceiver<InboundEvent>>,
    senders: LinkPeers,
    pub(super) state: Arc<ComponentState>,
}

impl LinkInbound {
    fn arrival(&self, incoming: InboundEvent, out: &mut Vec<SourceEvent>) {
        match incoming {
            InboundEvent::Messages {
                peer,
                weight,
                batches,
            } => {
                let flow = match self.senders {
                    LinkPeers::Clients => Some(Flow { key: peer, weight }),
                    LinkPeers::Workers => None,
                };
                let origin = Origin::Peer(peer);
                out.extend(batches.into_iter().map(|batch| SourceEvent::Messages {
                    batch,
                    flow,
                    origin,
                }));
            }
            InboundEvent::Paused(peer, is_paused) => out.push(SourceEvent::Paused(peer, is_paused)),
        }
    }

    /// Waits for messages, and appends all that have arrived. Cancel safe.
    async fn recv(&mut self, out: &mut Vec<SourceEvent>) {
        let received = match &mut self.incoming {
            Some(incoming) => incoming.recv().await,
            None => None,
        };
        match received {
            Some(incoming) => self.arrival(incoming, out),
            None => std::future::pending().await,
        }
        self.try_recv(out);
    }

    /// Appends all messages that have arrived.
    fn try_recv(&mut self, out: &mut Vec<SourceEvent>) {
        while let Some(Ok(incoming)) = self.incoming.as_mut().map(|it| it.try_recv()) {
            self.arrival(incoming, out);
        }
    }
}

/// Links, and a PULL socket unless the component has links only.
#[derive(Debug)]
pub(super) struct PullAndLinks {
    pub(super) pull: Option<Pull>,
    pub(super) linked: LinkInbound,
}

impl PullAndLinks {
    pub(super) fn new(
        pull: Option<Pull>,
        incoming: Option<mpsc::UnboundedReceiver<InboundEvent>>,
        senders: LinkPeers,
        state: Arc<ComponentState>,
    ) -> Self {
        let linked = LinkInbound {
            incoming,
            senders,
            state,
        };
        Self { pull, linked }
    }

    /// Closes the socket.
    pub(super) async fn close(self) {
        if let Some(pull) = self.pull {
            pull.close().await;
        }
    }
}

impl MessageSource for PullAndLinks {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        let Some(pull) = &mut self.pull else {
            self.linked.recv(out).await;
            return Ok(());
        };
        let mut pulled = Vec::new();
        tokio::select! {
            biased;
            // Takes from the socket as well: many messages over links do not delay its messages.
            () = self.linked.recv(out) => MessageSource::try_recv_many(pull, out, max),
            received = MessageSource::recv_many(pull, &mut pulled, max) => received?,
        }
        out.append(&mut pulled);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        self.linked.try_recv(out);
        if let Some(pull) = &mut self.pull {
            MessageSource::try_recv_many(pull, out, max);
        }
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        if messages.is_empty() {
            return;
        }
        let peers = messages.drain(..).filter_map(|it| match it.origin {
            Origin::Peer(peer) => Some((peer, it.messages, it.bytes)),
            _ => None,
        });
        self.linked.state.links.passed_on(peers);
    }
}

/// The calls of clients, from a PULL socket and over links.
#[derive(Debug)]
pub(super) struct CallSource(pub(super) PullAndLinks);

impl MessageSource for CallSource {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.0.recv_many(out, max).await
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        self.0.try_recv_many(out, max);
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        self.0.return_credit(messages);
    }

    async fn drain_peers(&mut self) {
        let links = &self.0.linked.state.links;
        links.drain_calls();
        links.calls_drained().await;
    }
}
