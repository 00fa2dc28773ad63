//! [`LinkArrival`]: messages and events that a link delivers to the part or client that uses it.

use tokio::sync::mpsc;

use crate::message::Batch;
use crate::message::lease::LinkReceipt;

/// A delivery or event of a link.
#[derive(Debug)]
pub(crate) enum LinkArrival {
    /// One message or a batch; for a subscriber always one.
    Messages(LinkReceipt, Batch),
    /// The peer has established its own subscriptions.
    SubscriptionsReady,
    /// The peer has lost the state of the earlier session, and a new one has begun. Calls without an answer must be
    /// sent again.
    Renewed,
}

/// Receives what a link delivers, in the batches in which it arrived.
#[derive(Debug)]
pub(crate) struct LinkArrivals {
    batches: mpsc::UnboundedReceiver<Vec<LinkArrival>>,
    rest: std::vec::IntoIter<LinkArrival>,
}

impl LinkArrivals {
    pub(super) fn new(batches: mpsc::UnboundedReceiver<Vec<LinkArrival>>) -> Self {
        Self {
            batches,
            rest: Vec::new().into_iter(),
        }
    }

    /// Waits for arrivals, appends up to `max` of them, and returns how many; 0 if the link is closed. Cancel safe.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<LinkArrival>, max: usize) -> usize {
        let before = out.len();
        if self.rest.len() == 0 {
            self.rest = self.batches.recv().await.unwrap_or_default().into_iter();
        }
        self.try_recv_many(out, max);
        out.len() - before
    }

    /// Appends up to `max` arrivals without waiting.
    pub(crate) fn try_recv_many(&mut self, out: &mut Vec<LinkArrival>, max: usize) {
        let most = out.len().saturating_add(max);
        loop {
            out.extend(self.rest.by_ref().take(most - out.len()));
            if out.len() == most {
                return;
            }
            let Ok(batch) = self.batches.try_recv() else {
                return;
            };
            self.rest = batch.into_iter();
        }
    }
}
