//! What comes over links beside a PULL.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::intake::{Arrival, PassedOn, Receipt, Source};
use crate::component_state::ComponentState;
use crate::fair_queue::Flow;
use crate::link::accept::Incoming;
use crate::socket::{Pull, SocketClosed};

/// Whose messages come over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Senders {
    /// The client's that has the link.
    Clients,
    /// Those of several clients, as the results of a worker.
    Others,
}

/// What comes over links.
#[derive(Debug)]
pub(super) struct Linked {
    incoming: Option<mpsc::UnboundedReceiver<Incoming>>,
    senders: Senders,
    pub(super) shared: Arc<ComponentState>,
}

impl Linked {
    fn arrival(&self, incoming: Incoming, out: &mut Vec<Arrival>) {
        match incoming {
            Incoming::Messages {
                peer,
                weight,
                groups,
            } => {
                let flow = match self.senders {
                    Senders::Clients => Some(Flow { key: peer, weight }),
                    Senders::Others => None,
                };
                let receipt = Receipt::Peer(peer);
                out.extend(groups.into_iter().map(|group| Arrival::Messages {
                    group,
                    flow,
                    receipt,
                }));
            }
            Incoming::Paused(peer, is_paused) => out.push(Arrival::Paused(peer, is_paused)),
        }
    }

    /// Waits until there are messages, and takes them all. Cancel safe.
    async fn recv(&mut self, out: &mut Vec<Arrival>) {
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

    /// Takes all messages that are there.
    fn try_recv(&mut self, out: &mut Vec<Arrival>) {
        while let Some(Ok(incoming)) = self.incoming.as_mut().map(|it| it.try_recv()) {
            self.arrival(incoming, out);
        }
    }
}

/// A PULL, and beside it what comes over links.
#[derive(Debug)]
pub(super) struct LinkedPull {
    pub(super) pull: Pull,
    pub(super) linked: Linked,
}

impl LinkedPull {
    pub(super) fn new(
        pull: Pull,
        incoming: Option<mpsc::UnboundedReceiver<Incoming>>,
        senders: Senders,
        shared: Arc<ComponentState>,
    ) -> Self {
        let linked = Linked {
            incoming,
            senders,
            shared,
        };
        Self { pull, linked }
    }
}

impl Source for LinkedPull {
    async fn recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) -> Result<(), SocketClosed> {
        let mut pulled = Vec::new();
        tokio::select! {
            received = Source::recv_many(&mut self.pull, &mut pulled, max) => received?,
            () = self.linked.recv(out) => {}
        }
        out.append(&mut pulled);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) {
        self.linked.try_recv(out);
        Source::try_recv_many(&mut self.pull, out, max);
    }

    fn passed_on(&mut self, messages: &mut Vec<PassedOn>) {
        if messages.is_empty() {
            return;
        }
        let peers = messages.drain(..).filter_map(|it| match it.receipt {
            Receipt::Peer(peer) => Some((peer, it.messages, it.bytes)),
            _ => None,
        });
        self.linked.shared.links.passed_on(peers);
    }
}

/// Calls of clients: pushed, or over links.
#[derive(Debug)]
pub(super) struct Calls(pub(super) LinkedPull);

impl Source for Calls {
    async fn recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) -> Result<(), SocketClosed> {
        self.0.recv_many(out, max).await
    }

    fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) {
        self.0.try_recv_many(out, max);
    }

    fn passed_on(&mut self, messages: &mut Vec<PassedOn>) {
        self.0.passed_on(messages);
    }

    async fn drained(&mut self) {
        let links = &self.0.linked.shared.links;
        links.drain_inputs();
        links.inputs_drained().await;
    }
}
