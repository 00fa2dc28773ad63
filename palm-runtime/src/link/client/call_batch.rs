//! Batches of calls: calls of one function that a client makes at about the same time travel as one message.

use bytes::Bytes;

use super::settings::ResendPolicy;
use crate::link::session::TaggedBatch;
use crate::message::BatchBuilder;

/// Maximum number of calls in a batch.
const MAX_BATCH_CALLS: usize = 256;

/// Groups consecutive calls of a client into batches.
#[derive(Debug, Default)]
pub(super) struct CallBatcher {
    builder: BatchBuilder,
    /// The steps of the calls in the builder.
    function: String,
    resend: Option<ResendPolicy>,
}

impl CallBatcher {
    pub(super) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Adds the message of a call, whose steps are `function`. Returns whether it could join the batch.
    pub(super) fn add(&mut self, resend: ResendPolicy, function: &str, frame: &Bytes) -> bool {
        if !self.builder.has_capacity(frame.len(), MAX_BATCH_CALLS) {
            return false;
        }
        if self.builder.is_empty() {
            self.function.clear();
            self.function.push_str(function);
            self.resend = Some(resend);
        } else if self.function != function || self.resend != Some(resend) {
            return false;
        }
        self.builder.push_frame(frame);
        true
    }

    /// Removes and returns the batch.
    pub(super) fn take(&mut self) -> Option<TaggedBatch> {
        let batch = self.builder.take()?;
        let tag = self.resend.take().map_or(0, ResendPolicy::tag);
        Some(TaggedBatch::from_batch(tag, 0, batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MAX_BATCH_BYTES, MAX_SMALL_BYTES};

    #[test]
    fn consecutive_calls_of_one_function_share_a_batch() {
        let mut calls = CallBatcher::default();
        assert!(calls.is_empty() && calls.take().is_none());
        let frame = Bytes::from_static(b"call");
        for _ in 0..3 {
            assert!(calls.add(ResendPolicy::BySender, "a.b", &frame));
        }
        assert!(!calls.add(ResendPolicy::BySender, "a.c", &frame));
        assert!(!calls.add(ResendPolicy::IfUntransmitted, "a.b", &frame));
        let item = calls.take().unwrap();
        assert_eq!((item.tag, item.step), (ResendPolicy::BySender.tag(), 0));
        assert_eq!(item.batch.frames().collect::<Vec<_>>(), [&b"call"[..]; 3]);
        assert!(calls.is_empty());
        assert!(calls.add(ResendPolicy::IfUntransmitted, "a.c", &frame));
        assert_eq!(calls.take().unwrap().tag, u64::MAX);
    }

    #[test]
    fn batch_of_calls_is_limited() {
        let mut calls = CallBatcher::default();
        let large = Bytes::from(vec![0; MAX_SMALL_BYTES + 1]);
        assert!(!calls.add(ResendPolicy::ByLink, "a.b", &large) && calls.is_empty());
        let small = Bytes::from(vec![0; MAX_SMALL_BYTES]);
        for _ in 0..MAX_BATCH_BYTES / MAX_SMALL_BYTES {
            assert!(calls.add(ResendPolicy::ByLink, "a.b", &small));
        }
        assert!(!calls.add(ResendPolicy::ByLink, "a.b", &small));
        calls.take().unwrap();
        for _ in 0..MAX_BATCH_CALLS {
            assert!(calls.add(ResendPolicy::ByLink, "a.b", &Bytes::new()));
        }
        assert!(!calls.add(ResendPolicy::ByLink, "a.b", &Bytes::new()));
    }
}
