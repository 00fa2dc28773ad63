//! The requests that wait for results of workers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::message::{Batch, Message};

/// The requests of inbound parts with `block` that wait for a result, by message id.
///
/// Their number is bounded by the concurrent requests of these parts. Abandoned ones are removed once there are
/// [`SWEEP_THRESHOLD`].
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    waiting: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    /// Whether there was ever a request. Until then results need not be decoded.
    any: AtomicBool,
}

/// The number of requests above which abandoned ones are removed.
const SWEEP_THRESHOLD: usize = 4096;

impl PendingReplies {
    fn waiting(&self) -> parking_lot::MutexGuard<'_, HashMap<String, oneshot::Sender<Bytes>>> {
        self.waiting.lock()
    }

    pub(super) fn expect(&self, message: &Message, answer: oneshot::Sender<Bytes>) {
        self.any.store(true, Ordering::Release);
        let mut waiting = self.waiting();
        if waiting.len() >= SWEEP_THRESHOLD {
            waiting.retain(|_, answer| !answer.is_closed());
        }
        waiting.insert(message.cache().to_owned(), answer);
    }

    /// Answers the requests that wait for these results.
    pub(super) fn answer_all<'a>(&self, results: impl Iterator<Item = &'a Batch>) {
        if self.any.load(Ordering::Acquire) {
            let frames = results.flat_map(Batch::frames);
            frames.for_each(|frame| self.answer(&frame));
        }
    }

    /// Answers the request that waits for the result in `frame`.
    pub(super) fn answer(&self, frame: &Bytes) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        if let Ok(message) = Message::decode(frame.clone())
            && let Some(answer) = self.waiting().remove(message.cache())
        {
            // The receiver is dropped if the peer has disconnected.
            let _ = answer.send(frame.clone());
        }
    }
}
