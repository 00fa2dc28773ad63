//! What comes over links beside a PULL.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::intake::Source;
use crate::link::accept::Incoming;
use crate::part::Shared;
use crate::socket::{Pull, SocketClosed};

/// What comes over links, whose places are free as soon as more is asked for.
#[derive(Debug)]
pub(super) struct Linked {
    incoming: Option<mpsc::UnboundedReceiver<Incoming>>,
    received: Vec<Incoming>,
    pub(super) shared: Arc<Shared>,
}

impl Linked {
    fn new(incoming: Option<mpsc::UnboundedReceiver<Incoming>>, shared: Arc<Shared>) -> Self {
        Self {
            incoming,
            received: Vec::new(),
            shared,
        }
    }

    /// Whoever asks for more has passed on what there was.
    fn make_room(&mut self) {
        if !self.received.is_empty() {
            let received = self.received.drain(..);
            let received = received.map(|incoming| (incoming.peer, incoming.frame.len()));
            self.shared.links.passed_on(received);
        }
    }

    /// Waits for messages, up to `max` of them, which [`take`](Self::take) takes. Cancel safe.
    async fn wait(&mut self, max: usize) {
        match &mut self.incoming {
            Some(incoming) => {
                incoming.recv_many(&mut self.received, max).await;
            }
            None => std::future::pending().await,
        }
    }

    fn take(&self, out: &mut Vec<Bytes>) {
        out.extend(self.received.iter().map(|incoming| incoming.frame.clone()));
    }

    /// Takes up to `max` messages that are there.
    fn try_recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) {
        if let Some(incoming) = &mut self.incoming {
            while out.len() < max
                && let Ok(received) = incoming.try_recv()
            {
                out.push(received.frame.clone());
                self.received.push(received);
            }
        }
    }
}

/// A PULL, and beside it what comes over links.
#[derive(Debug)]
pub(super) struct LinkedPull {
    pub(super) pull: Pull,
    pub(super) linked: Linked,
    /// Whether the last messages came over links.
    pub(super) are_linked: bool,
}

impl LinkedPull {
    pub(super) fn new(
        pull: Pull,
        incoming: Option<mpsc::UnboundedReceiver<Incoming>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            pull,
            linked: Linked::new(incoming, shared),
            are_linked: false,
        }
    }
}

impl Source for LinkedPull {
    async fn recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) -> Result<(), SocketClosed> {
        self.linked.make_room();
        tokio::select! {
            received = self.pull.recv_many(out, max) => {
                self.are_linked = false;
                received
            }
            () = self.linked.wait(max) => {
                self.linked.take(out);
                self.are_linked = true;
                Ok(())
            }
        }
    }

    fn try_recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) {
        self.linked.make_room();
        self.linked.try_recv_many(out, max);
        self.are_linked = !out.is_empty();
        if out.is_empty() {
            self.pull.try_recv_many(out, max);
        }
    }

    fn knows_shares(&self) -> bool {
        self.are_linked
    }
}

/// Calls of clients: pushed, or over links.
#[derive(Debug)]
pub(super) struct Calls(pub(super) LinkedPull);

impl Source for Calls {
    async fn recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) -> Result<(), SocketClosed> {
        self.0.recv_many(out, max).await
    }

    fn try_recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) {
        self.0.try_recv_many(out, max);
    }

    fn knows_shares(&self) -> bool {
        self.0.knows_shares()
    }

    async fn drained(&mut self) {
        let links = &self.0.linked.shared.links;
        links.drain_inputs();
        links.inputs_drained().await;
    }
}
