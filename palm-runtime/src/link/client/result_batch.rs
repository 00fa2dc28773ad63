//! Batches of a worker's results: consecutive last results travel to the master as one.

use crate::link::session::{TASK_TAG_STEP, TaggedBatch};
use crate::message::{BatchBuilder, FramePool, Message};

/// Maximum number of results in a batch.
const MAX_BATCH_RESULTS: usize = 256;

/// Groups consecutive results of a worker into batches.
#[derive(Debug, Default)]
pub(crate) struct ResultBatcher {
    builder: BatchBuilder,
    /// The tag of the first result in the builder.
    tag: u64,
    /// Memory for the frames of single results.
    memory: FramePool,
}

impl ResultBatcher {
    /// Adds a result to the batch. A batch that it cannot join is appended to `out`, and so is a result that cannot be
    /// part of a batch.
    pub(super) fn add(
        &mut self,
        (tag, is_last): (u64, bool),
        result: Message,
        out: &mut Vec<TaggedBatch>,
    ) {
        let next = self.tag + TASK_TAG_STEP * self.builder.len() as u64;
        let result = if is_last && tag == next {
            self.join(tag, result)
        } else {
            Err(result)
        };
        let Err(result) = result else {
            return;
        };
        out.extend(self.take());
        let result = if is_last {
            self.join(tag, result)
        } else {
            Err(result)
        };
        if let Err(result) = result {
            let frame = result.into_frame_in(&mut self.memory);
            out.push(TaggedBatch::new(tag, frame));
        }
    }

    fn join(&mut self, tag: u64, result: Message) -> Result<(), Message> {
        let is_first = self.builder.is_empty();
        self.builder.join(result, MAX_BATCH_RESULTS)?;
        if is_first {
            self.tag = tag;
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<TaggedBatch> {
        let batch = self.builder.take()?;
        Some(TaggedBatch::from_batch(self.tag, TASK_TAG_STEP, batch))
    }
}
