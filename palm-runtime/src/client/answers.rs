//! Which answer belongs to whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::chain;
use crate::message::{self, RemoteError};
use crate::part::BATCH;
use crate::parts::Ready;
use crate::queue;
use crate::socket::{Publication, Subscribe};

/// The payload, or why there is none.
pub(super) type Received = Result<Bytes, RemoteError>;

/// Who waits for the answers under one topic.
#[derive(Debug)]
pub(super) enum Waiting {
    One(oneshot::Sender<Received>),
    Many(queue::Sender<Received>, Arc<AtomicU64>),
}

fn weigh(answer: &Received) -> usize {
    match answer {
        Ok(payload) => payload.len(),
        Err(error) => error.message.len(),
    }
}

/// The calls of a client that wait for answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// The client's id: what all of its topics begin with.
    id: ByteString,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Gets the topics of calls that are given up.
    given_up: mpsc::Sender<ByteString>,
    closed: AtomicBool,
}

/// Where the answers to a job go.
struct JobAnswers {
    number: u64,
    queue: queue::Sender<Received>,
    received: Arc<AtomicU64>,
}

impl JobAnswers {
    /// Gives the job its answers, and waits for room.
    async fn deliver(&self, answers: &mut Vec<Received>) {
        let count = answers.len() as u64;
        self.received.fetch_add(count, Ordering::Relaxed);
        // An error means that the job is over.
        let _ = self.queue.send_all(answers, weigh).await;
        answers.clear();
    }
}

/// The topic of one call. Dropping it gives up its answers, and, while they are
/// [`awaited`](Self::awaited), the call.
#[derive(Debug)]
pub(super) struct Topic {
    awaited: bool,
    number: u64,
    pub(super) text: ByteString,
    answers: Arc<Answers>,
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.number);
        if self.awaited {
            // Where there is no room for it, the call runs to its end.
            let _ = self
                .answers
                .given_up
                .try_send(std::mem::take(&mut self.text));
        }
    }
}

impl Topic {
    /// Whether something was sent whose answer is wanted and has not come.
    pub(super) fn awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
    }
}

impl Answers {
    pub(super) fn new(id: ByteString, given_up: mpsc::Sender<ByteString>) -> Arc<Self> {
        Arc::new(Self {
            id,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            given_up,
            closed: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic of its own for a call, whose answers go to `waiting`.
    pub(super) fn topic(self: &Arc<Self>, waiting: Waiting) -> Topic {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if !self.closed.load(Ordering::Acquire) {
            self.lock().insert(number, waiting);
        }
        Topic {
            awaited: false,
            number,
            text: format!("{}/{number}", self.id).into(),
            answers: self.clone(),
        }
    }

    fn number(&self, topic: &[u8]) -> Option<u64> {
        let number = topic
            .strip_prefix(&self.id.as_bytes()[..])?
            .strip_prefix(b"/")?;
        let text = std::str::from_utf8(number).ok()?;
        // Only as we write it: `07` and `+7` are somebody else's.
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        text.parse().ok().filter(|_| canonical)
    }

    /// Where the answers to a job go. An answer to a single call is delivered on the way.
    fn find(&self, number: u64, answer: Received) -> Option<(JobAnswers, Received)> {
        let mut waiting = self.lock();
        match waiting.get(&number) {
            Some(Waiting::Many(queue, received)) => {
                let job = JobAnswers {
                    number,
                    queue: queue.clone(),
                    received: received.clone(),
                };
                Some((job, answer))
            }
            Some(Waiting::One(_)) => {
                if let Some(Waiting::One(sender)) = waiting.remove(&number) {
                    // An error means that it was given up in this very moment.
                    let _ = sender.send(answer);
                }
                None
            }
            // Late, given up, or one more than was asked for.
            None => None,
        }
    }

    /// Lets everybody who waits know that nothing will come.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().clear();
    }
}

/// Reads what is published for the client, and gives each answer to its call. `ready` gets what
/// the publisher says of the subscriptions.
pub(super) async fn read(
    mut subscribe: Subscribe,
    answers: Arc<Answers>,
    ready: watch::Sender<Option<Ready>>,
) {
    let mut publications = Vec::new();
    while subscribe.recv_many(&mut publications, BATCH).await.is_ok() {
        // Most answers of a batch are usually for the same job.
        let mut job: Option<JobAnswers> = None;
        let mut batch = Vec::new();
        for Publication { topic, body } in publications.drain(..) {
            if let Some(said) = Ready::of(&topic, body.as_ref()) {
                ready.send_replace(Some(said));
                continue;
            }
            let Some(number) = answers.number(&topic) else {
                continue;
            };
            let answer = match body.as_ref().map(message::answer) {
                Some(Ok(answer)) => answer,
                Some(Err(error)) => {
                    let cause = chain(&error);
                    tracing::warn!("an answer is no message: {cause}");
                    continue;
                }
                None => {
                    tracing::warn!("an answer has no body, or more than one");
                    continue;
                }
            };
            match &job {
                Some(job) if job.number == number => batch.push(answer),
                _ => {
                    if let Some((found, answer)) = answers.find(number, answer) {
                        if let Some(before) = job.replace(found) {
                            before.deliver(&mut batch).await;
                        }
                        batch.push(answer);
                    }
                }
            }
        }
        if let Some(job) = job {
            job.deliver(&mut batch).await;
        }
    }
    answers.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_find_their_call_by_the_topic() {
        let answers = Answers::new("id".into(), mpsc::channel(1).0);
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let first = answers.topic(Waiting::One(first));
        let second = answers.topic(Waiting::One(second));
        assert_eq!((&*first.text, &*second.text), ("id/0", "id/1"));
        assert_eq!(answers.number(b"id/1"), Some(1));
        for topic in [
            &b"id"[..],
            b"id/",
            b"id/x",
            b"id2/1",
            b"other/1",
            b"id/01",
            b"id/+1",
            b"id/99999999999999999999",
        ] {
            assert_eq!(answers.number(topic), None);
        }
        for (number, payload) in [(1, "second"), (1, "once more")] {
            assert!(answers.find(number, Ok(payload.into())).is_none());
        }
        drop(first);
        assert!(answers.find(0, Ok("given up".into())).is_none());
        assert_eq!(second_answer.await.unwrap().unwrap(), "second");
        assert!(first_answer.await.is_err());
        assert!(answers.lock().is_empty());
    }
}
