//! The unit of a session: one message or a batch, with a tag for each message.

use bytes::Bytes;

use crate::message::Batch;

/// The distance between the tags of consecutive tasks: the lowest bit marks the last result, see `proto/README.md`.
pub const TASK_TAG_STEP: u64 = 2;

/// One message or several that travel as one, each with a number and a tag of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedBatch {
    /// The tag of the first message: what the message belongs to. The session only carries it for its owner.
    pub tag: u64,
    /// The distance between the tags of consecutive messages.
    pub step: u64,
    pub batch: Batch,
}

impl TaggedBatch {
    /// Creates a batch of one message.
    #[inline]
    pub fn new(tag: u64, frame: Bytes) -> Self {
        Self::from_batch(tag, 0, frame.into())
    }

    /// Creates a batch. All batches that are submitted to a session have the same step.
    #[inline]
    pub fn from_batch(tag: u64, step: u64, batch: Batch) -> Self {
        Self { tag, step, batch }
    }

    /// Returns the number of messages.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = u64> + use<> {
        let (tag, step) = (self.tag, self.step);
        (0..self.len() as u64).map(move |index| tag.wrapping_add(step.wrapping_mul(index)))
    }

    /// Splits off the first `count` messages. The batch must have more.
    pub(super) fn split_to(&mut self, count: usize) -> Self {
        let front = Self {
            batch: self.batch.split_to(count),
            ..*self
        };
        self.tag = self.tag.wrapping_add(self.step.wrapping_mul(count as u64));
        front
    }
}

/// Returns the tags of a header and the distance between those of consecutive messages of a batch.
///
/// There is one tag for each batch if the header lists the lengths of batches, and otherwise one for each message.
/// There are none if all of them are 0.
pub(super) fn header_tags<'a>(
    items: impl Iterator<Item = &'a TaggedBatch> + Clone,
    batch_lengths: &[u64],
) -> (Vec<u64>, u64) {
    let mut tags = Vec::new();
    let mut tag_step = 0;
    if batch_lengths.is_empty() {
        tags.extend(items.flat_map(TaggedBatch::tags));
    } else {
        tag_step = items
            .clone()
            .map(|item| item.step)
            .max()
            .unwrap_or_default();
        tags.extend(items.map(|item| item.tag));
    }
    if tags.iter().all(|tag| *tag == 0) {
        tags.clear();
    }
    (tags, tag_step)
}

/// Estimated memory of a message in addition to its bytes.
const MESSAGE_OVERHEAD: usize = 256;

/// Estimates the memory that messages occupy, from their number and the sum of their bytes.
#[inline]
pub fn memory_bytes(messages: usize, bytes: usize) -> usize {
    bytes.saturating_add(messages.saturating_mul(MESSAGE_OVERHEAD))
}

/// Counts the messages of several batches.
pub fn message_count<'a>(items: impl IntoIterator<Item = &'a TaggedBatch>) -> usize {
    items.into_iter().map(TaggedBatch::len).sum()
}
