//! The requests that wait for results of workers.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::message::{Batch, Message};

/// The requests of inbound parts with `block` that wait for a result, by message id.
///
/// A peer that has received no answer may send its request again, with the same id and on another socket. So equal requests
/// may share an id: the first result answers all of them. Their number is bounded by the concurrent requests of these parts.
/// Abandoned ones are removed once there are [`SWEEP_THRESHOLD`] ids.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    waiting: Mutex<HashMap<String, EqualRequests>>,
    hasher: RandomState,
    /// Whether there was ever a request. Until then results need not be decoded.
    any: AtomicBool,
}

/// Requests with the same message id and content.
#[derive(Debug, Default)]
struct EqualRequests {
    /// The hash of the content; `None` if that is larger than [`MAX_COMPARED`].
    content: Option<u64>,
    answers: SmallVec<[oneshot::Sender<Bytes>; 1]>,
}

/// The number of ids above which abandoned requests are removed.
const SWEEP_THRESHOLD: usize = 4096;

/// The largest payload of requests that may be sent again while they wait. Larger ones are not hashed.
const MAX_COMPARED: usize = 64 * 1024;

impl PendingReplies {
    fn waiting(&self) -> parking_lot::MutexGuard<'_, HashMap<String, EqualRequests>> {
        self.waiting.lock()
    }

    fn content(&self, message: &Message) -> Option<u64> {
        let (payload, function) = (message.payload(), message.function());
        let content = (message.client(), function, message.stage(), payload);
        (payload.len() <= MAX_COMPARED).then(|| self.hasher.hash_one(content))
    }

    /// Adds a request.
    ///
    /// # Errors
    ///
    /// Another request with the same id and other content waits: their results could not be told apart. The error is
    /// `answer`.
    pub(super) fn expect(
        &self,
        message: &Message,
        answer: oneshot::Sender<Bytes>,
    ) -> Result<(), oneshot::Sender<Bytes>> {
        self.any.store(true, Ordering::Release);
        let content = self.content(message);
        let mut waiting = self.waiting();
        if waiting.len() >= SWEEP_THRESHOLD {
            waiting.retain(|_, equal| equal.answers.iter().any(|it| !it.is_closed()));
        }
        let equal = waiting.entry(message.cache().to_owned()).or_default();
        equal.answers.retain(|it| !it.is_closed());
        if equal.answers.is_empty() {
            equal.content = content;
        } else if content.is_none() || equal.content != content {
            return Err(answer);
        }
        equal.answers.push(answer);
        Ok(())
    }

    /// Answers the requests that wait for these results.
    pub(super) fn answer_all<'a>(&self, results: impl Iterator<Item = &'a Batch>) {
        if self.any.load(Ordering::Acquire) {
            let frames = results.flat_map(Batch::frames);
            frames.for_each(|frame| self.answer(&frame));
        }
    }

    /// Answers the requests that wait for the result in `frame`.
    pub(super) fn answer(&self, frame: &Bytes) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        if let Ok(message) = Message::decode(frame.clone())
            && let Some(equal) = self.waiting().remove(message.cache())
        {
            for answer in equal.answers {
                // The receiver is dropped if the request is abandoned.
                let _ = answer.send(frame.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, payload: &'static str) -> Message {
        let mut message = Message::new("server.work", payload);
        message.set_cache(id.to_owned());
        message
    }

    #[test]
    fn other_request_with_the_id_of_a_waiting_one_is_rejected() {
        let replies = PendingReplies::default();
        let (first, mut answer) = oneshot::channel();
        replies.expect(&message("a", "1"), first).unwrap();
        let (second, _) = oneshot::channel();
        replies.expect(&message("a", "2"), second).unwrap_err();
        let result = message("a", "one").into_frame();
        replies.answer(&result);
        assert_eq!(answer.try_recv(), Ok(result));
    }

    #[test]
    fn request_that_is_sent_again_has_the_answer_of_the_first_one() {
        let replies = PendingReplies::default();
        let mut answers = [(); 2].map(|()| {
            let (sender, answer) = oneshot::channel();
            replies.expect(&message("a", "1"), sender).unwrap();
            answer
        });
        let result = message("a", "one").into_frame();
        replies.answer(&result);
        for answer in &mut answers {
            assert_eq!(answer.try_recv(), Ok(result.clone()));
        }
        let large = Message::new("server.work", vec![0; MAX_COMPARED + 1]);
        let (first, _answer) = oneshot::channel();
        replies.expect(&large, first).unwrap();
        let (second, _) = oneshot::channel();
        replies.expect(&large, second).unwrap_err();
    }

    #[test]
    fn id_is_free_again_once_its_request_is_answered_or_abandoned() {
        let replies = PendingReplies::default();
        for is_answered in [true, false, true] {
            let (sender, answer) = oneshot::channel();
            replies.expect(&message("a", ""), sender).unwrap();
            if is_answered {
                replies.answer(&message("a", "").into_frame());
            }
            drop(answer);
        }
    }
}
