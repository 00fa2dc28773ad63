//! [`LinkQueue`]: what a publisher sends over links at the end of its turn.

use std::sync::Arc;

use bytestring::ByteString;

use crate::link::LinkPublication;
use crate::message::{Batch, BatchBuilder, Message};
use crate::metrics::PartCounters;
use crate::part::BATCH;

/// The publications of the current turn over links, in their order.
///
/// Consecutive small messages with one route become one batch. Its topic is found once, for its first message.
#[derive(Debug)]
pub(super) struct LinkQueue {
    publications: Vec<LinkPublication>,
    /// The messages of the batch that is not in `publications` yet.
    batch: BatchBuilder,
    /// The topic of that batch.
    topic: ByteString,
    /// How many steps its messages advance.
    advance: i64,
    counters: Arc<PartCounters>,
}

impl LinkQueue {
    pub(super) fn new(counters: Arc<PartCounters>) -> Self {
        Self {
            publications: Vec::new(),
            batch: BatchBuilder::default(),
            topic: ByteString::new(),
            advance: 0,
            counters,
        }
    }

    /// Adds a publication that is already counted.
    pub(super) fn push(&mut self, topic: ByteString, batch: Batch) {
        self.end_batch();
        self.publications.push(LinkPublication { topic, batch });
    }

    /// Begins a batch of messages that advance by `advance` steps. Returns the message if it cannot be in a batch.
    pub(super) fn begin_batch(
        &mut self,
        topic: ByteString,
        advance: i64,
        message: Message,
    ) -> Result<(), Message> {
        self.end_batch();
        (self.topic, self.advance) = (topic, advance);
        self.join(message)
    }

    /// Adds a message to the batch that was begun last. Returns the message if there is none, or it has another route.
    pub(super) fn continue_batch(&mut self, message: Message) -> Result<(), Message> {
        match self.batch.is_empty() {
            true => Err(message),
            false => self.join(message),
        }
    }

    fn join(&mut self, message: Message) -> Result<(), Message> {
        let stage = message.stage().saturating_add(self.advance);
        self.batch.join_at(stage, message, BATCH)
    }

    fn end_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.counters.count(batch.len(), batch.bytes());
            let topic = std::mem::take(&mut self.topic);
            self.publications.push(LinkPublication { topic, batch });
        }
    }

    /// Returns how many publications are to be sent.
    pub(super) fn len(&self) -> usize {
        self.publications.len() + usize::from(!self.batch.is_empty())
    }

    /// Returns all publications, to be sent and removed.
    pub(super) fn publications(&mut self) -> &mut Vec<LinkPublication> {
        self.end_batch();
        &mut self.publications
    }
}
