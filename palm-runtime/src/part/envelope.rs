//! [`Envelope`]: a message on its way between two parts.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

#[cfg(feature = "http")]
use crate::clock;
use crate::fair_queue::{Flow, Usage};
#[cfg(feature = "http")]
use crate::flow::flow_of;
use crate::message::{Batch, Message};
use crate::queue::Queued;

/// A message on its way from one part to the next.
#[derive(Debug)]
pub struct Envelope {
    pub(crate) message: Message,
    /// The client that it counts for in shared queues.
    pub(crate) flow: Flow,
    /// When it was received or created.
    pub(crate) since: Instant,
    pub(crate) feedback: Option<oneshot::Sender<Bytes>>,
    /// Whether it is passed to the hook `gather`: not if `scatter` failed.
    pub(crate) gathers: bool,
    /// The messages that travel as one, if there are several; `message` is the first of them.
    pub(crate) batch: Option<Box<Batch>>,
}

impl Queued for Envelope {
    const HAS_FLOWS: bool = true;

    fn flow(&self) -> Flow {
        self.flow
    }

    fn usage(&self) -> Usage {
        match &self.batch {
            Some(batch) => Usage {
                messages: batch.len(),
                bytes: batch.bytes(),
            },
            None => Usage {
                messages: 1,
                bytes: self.message.weight(),
            },
        }
    }

    fn split_to(&mut self, messages: usize) -> Option<Self> {
        let batch = self.batch.as_mut()?;
        if messages == 0 || messages >= batch.len() {
            return None;
        }
        let front = batch.split_to(messages);
        // Decoding copies nothing. A malformed message is reported when the batch is split.
        let next = Message::decode(batch.first()).unwrap_or_default();
        let first = std::mem::replace(&mut self.message, next);
        Some(Self {
            gathers: self.gathers,
            ..Self::from_batch(first, front, self.flow, self.since)
        })
    }
}

impl Envelope {
    /// Returns an envelope whose answer is not awaited.
    pub(crate) fn new(message: Message, flow: Flow, since: Instant) -> Self {
        Self {
            message,
            flow,
            since,
            feedback: None,
            gathers: true,
            batch: None,
        }
    }

    /// Returns an envelope with several messages for the same route, of which `first` is the first.
    pub(crate) fn from_batch(first: Message, batch: Batch, flow: Flow, since: Instant) -> Self {
        Self {
            batch: Some(Box::new(batch)),
            ..Self::new(first, flow, since)
        }
    }

    /// Appends an envelope for each message to `out`. Drops malformed messages.
    pub(crate) fn split_into(self, out: &mut Vec<Self>) {
        let Some(batch) = self.batch else {
            return out.push(self);
        };
        let messages = batch.frames().filter_map(Message::read);
        out.extend(messages.map(|message| Self::new(message, self.flow, self.since)));
    }

    /// Returns an envelope whose answer is sent to `feedback`. Without an answer, `feedback` is dropped.
    #[cfg(feature = "http")]
    pub(crate) fn answered_by(message: Message, feedback: oneshot::Sender<Bytes>) -> Self {
        let flow = flow_of(&message);
        Self {
            feedback: Some(feedback),
            ..Self::new(message, flow, clock::now())
        }
    }

    /// Returns the message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the message, and sends `answer` to the inbound part if it waits for one.
    pub fn answer(self, answer: Bytes) -> Message {
        if let Some(feedback) = self.feedback {
            // The receiver is gone if the component stops.
            let _ = feedback.send(answer);
        }
        self.message
    }
}
