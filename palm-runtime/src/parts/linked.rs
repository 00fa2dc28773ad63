//! What comes over links beside a PULL.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::intake::Source;
use crate::link::accept::{Incoming, PeerKey};
use crate::message::Group;
use crate::part::Shared;
use crate::socket::{Pull, SocketClosed};

/// What comes over links, whose places are free as soon as more is asked for.
#[derive(Debug)]
pub(super) struct Linked {
    incoming: Option<mpsc::UnboundedReceiver<Incoming>>,
    /// What is left of what came last, and who has sent it.
    rest: (PeerKey, VecDeque<Group>),
    /// Whose messages were taken last, how many, and their bytes.
    taken: Vec<(PeerKey, u64, u64)>,
    pub(super) shared: Arc<Shared>,
}

impl Linked {
    fn new(incoming: Option<mpsc::UnboundedReceiver<Incoming>>, shared: Arc<Shared>) -> Self {
        Self {
            incoming,
            rest: (0, VecDeque::new()),
            taken: Vec::new(),
            shared,
        }
    }

    /// Whoever asks for more has passed on what there was.
    fn make_room(&mut self) {
        if !self.taken.is_empty() {
            self.shared.links.passed_on(self.taken.drain(..));
        }
    }

    /// Waits until there are messages for [`take`](Self::take). Cancel safe.
    async fn wait(&mut self) {
        if !self.rest.1.is_empty() {
            return;
        }
        let received = match &mut self.incoming {
            Some(incoming) => incoming.recv().await,
            None => None,
        };
        match received {
            Some(Incoming { peer, groups }) => self.rest = (peer, groups.into()),
            None => std::future::pending().await,
        }
    }

    /// Takes up to `max` messages that are there.
    fn take(&mut self, out: &mut Vec<Group>, max: usize) {
        let mut left = max;
        while left > 0 {
            let (peer, rest) = &mut self.rest;
            let (before, mut bytes) = (left, 0);
            while left > 0
                && let Some(mut group) = rest.pop_front()
            {
                if group.len() > left {
                    let front = group.split_to(left);
                    rest.push_front(std::mem::replace(&mut group, front));
                }
                left -= group.len();
                bytes += group.bytes() as u64;
                out.push(group);
            }
            if left < before {
                self.taken.push((*peer, (before - left) as u64, bytes));
                continue;
            }
            let Some(Ok(next)) = self.incoming.as_mut().map(|it| it.try_recv()) else {
                return;
            };
            self.rest = (next.peer, next.groups.into());
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
    async fn recv_many(&mut self, out: &mut Vec<Group>, max: usize) -> Result<(), SocketClosed> {
        self.linked.make_room();
        tokio::select! {
            received = Source::recv_many(&mut self.pull, out, max) => {
                self.are_linked = false;
                received
            }
            () = self.linked.wait() => {
                self.linked.take(out, max);
                self.are_linked = true;
                Ok(())
            }
        }
    }

    fn try_recv_many(&mut self, out: &mut Vec<Group>, max: usize) {
        self.linked.make_room();
        self.linked.take(out, max);
        self.are_linked = !out.is_empty();
        if out.is_empty() {
            Source::try_recv_many(&mut self.pull, out, max);
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
    async fn recv_many(&mut self, out: &mut Vec<Group>, max: usize) -> Result<(), SocketClosed> {
        self.0.recv_many(out, max).await
    }

    fn try_recv_many(&mut self, out: &mut Vec<Group>, max: usize) {
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
