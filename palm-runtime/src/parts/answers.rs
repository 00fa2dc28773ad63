//! Who waits for the results of tasks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::message::{Group, Message};

/// Inbound parts that are registered with `block`, by the id of their message. There are no more than
/// such parts have requests, and some that were given up.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    waiting: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    /// Whether anybody ever has: then results are looked at.
    any: AtomicBool,
}

/// The number of requests above which abandoned ones are removed.
const SWEEP_THRESHOLD: usize = 4096;

impl PendingReplies {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Bytes>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) fn answer_all<'a>(&self, results: impl Iterator<Item = &'a Group>) {
        if self.any.load(Ordering::Acquire) {
            let frames = results.flat_map(Group::frames);
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
            // The peer may have gone meanwhile.
            let _ = answer.send(frame.clone());
        }
    }
}
