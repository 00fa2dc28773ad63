//! Which answer belongs to whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot, watch};

use super::CallError;
use super::inputs::{Counted, Inputs, Part};
use super::way::CloseOnDrop;
use crate::discovery::Readiness;
use crate::failure::chain;
use crate::fair_queue::Usage;
use crate::message::{self, Answered, Share};
use crate::part::BATCH;
use crate::queue::{self, Queued};
use crate::socket::{Publication, Subscribe};

/// The payload, or why there is none.
pub(super) type Received = Result<Bytes, Box<CallError>>;

/// What came under one topic, in a row.
#[derive(Debug)]
pub(super) struct CameTogether {
    topic: Bytes,
    came: Vec<Came>,
}

impl CameTogether {
    /// Adds what a frame brings to the last one, or as another one.
    pub(super) fn read(frame: &Bytes, topic: Option<&[u8]>, out: &mut Vec<Self>) {
        let Some((client, came)) = Came::read(frame) else {
            return;
        };
        let topic = topic.unwrap_or(client);
        match out.last_mut() {
            Some(last) if last.topic == topic => last.came.push(came),
            _ => out.push(Self {
                topic: Bytes::copy_from_slice(topic),
                came: vec![came],
            }),
        }
    }
}

/// What came for a call, as it came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) result: Received,
    pub(super) share: Option<Share>,
    /// Whether it is no answer, and says that there are no more.
    pub(super) is_rest: bool,
}

impl Came {
    /// What a frame brings, and for whom; `None`, and a warning, where it is no message.
    fn read(frame: &Bytes) -> Option<(&[u8], Self)> {
        match message::answer(frame) {
            Ok(Answered {
                client,
                function,
                stage,
                result,
                share,
                is_rest,
            }) => {
                let result = match result {
                    Ok(payload) if is_rest => Ok(payload),
                    Ok(payload) => match CallError::unfinished(function, stage) {
                        Some(unfinished) => Err(Box::new(unfinished)),
                        None => Ok(payload),
                    },
                    Err(error) => Err(Box::new((*error).into())),
                };
                let came = Self {
                    result,
                    share,
                    is_rest,
                };
                Some((client, came))
            }
            Err(error) => {
                let cause = chain(&error);
                tracing::warn!("an answer is no message: {cause}");
                None
            }
        }
    }

    fn part(&self) -> Part {
        match &self.result {
            _ if self.is_rest => Part::Rest,
            Ok(_) => Part::Answer,
            Err(_) => Part::Error,
        }
    }

    /// What a job gets of it, if it counts.
    fn count(self, inputs: &mut Inputs) -> Option<Given> {
        let part = self.part();
        match self.share {
            Some(share) => match inputs.take(share, part) {
                Counted::New { completes } if completes || !self.is_rest => {}
                Counted::New { .. } | Counted::Again => return None,
            },
            None if self.is_rest => return None,
            None => inputs.answers += 1,
        }
        Some((!self.is_rest).then_some(self.result))
    }

    /// What a single call gets of it, if that ends it.
    fn answers(self, inputs: &mut Inputs) -> Option<Given> {
        if self.is_rest {
            let counted = inputs.take(self.share?, Part::Rest);
            return (counted == Counted::New { completes: true }).then_some(None);
        }
        Some(Some(self.result))
    }
}

/// What a job gets: an answer, or the news that something is complete.
pub(super) type Given = Option<Received>;

/// Who waits for the answers under one topic.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Gets `None` where there is no answer. The inputs are one.
    One(oneshot::Sender<Given>, Inputs),
    Many(queue::Sender<Given>, Arc<AtomicU64>, Arc<Mutex<Inputs>>),
}

impl Queued for Given {
    const HAS_FLOWS: bool = false;

    fn usage(&self) -> Usage {
        let bytes = match self {
            Some(Ok(payload)) => payload.len(),
            Some(Err(error)) => match &**error {
                CallError::Remote(error) => error.message.len(),
                _ => 0,
            },
            None => 0,
        };
        Usage { messages: 1, bytes }
    }
}

pub(super) fn lock(inputs: &Mutex<Inputs>) -> MutexGuard<'_, Inputs> {
    inputs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls of a client that wait for answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// The client's id: what all of its topics begin with.
    id: ByteString,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Gets the topics of calls that are given up, until the client ends.
    given_up: Mutex<Option<mpsc::Sender<ByteString>>>,
    closed: AtomicBool,
    /// How often answers have come.
    delivered: AtomicU64,
}

/// Where the answers to a job go.
struct JobAnswers {
    queue: queue::Sender<Given>,
    received: Arc<AtomicU64>,
}

impl JobAnswers {
    /// Gives the job its answers, and waits for room.
    async fn deliver(&self, answers: &mut Vec<Given>) {
        let count = answers.iter().flatten().count() as u64;
        self.received.fetch_add(count, Ordering::Relaxed);
        // An error means that the job is over.
        let _ = self.queue.send_all(answers).await;
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
        self.give_up();
    }
}

impl Topic {
    /// Gives up the answers, and the call if they are awaited.
    pub(super) fn give_up(&mut self) {
        self.answers.lock().remove(&self.number);
        if std::mem::take(&mut self.awaited) {
            self.answers.give_up(std::iter::once(self.text.clone()));
        }
    }

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
            given_up: Mutex::new(Some(given_up)),
            closed: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
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

    /// A single call sends a message, of which all parts are to come; `frame` is sent again if it is lost.
    pub(super) fn track(&self, topic: &Topic, frame: Option<Bytes>) {
        if let Some(Waiting::One(_, inputs)) = self.lock().get_mut(&topic.number) {
            inputs.begin(0, frame);
        }
    }

    /// The messages of all calls that are to be sent again where they are lost.
    pub(super) fn tracked(&self) -> Vec<Bytes> {
        let waiting = self.lock();
        let frames = waiting.values().map(|waiting| match waiting {
            Waiting::One(_, inputs) => inputs.frames(),
            Waiting::Many(_, _, inputs) => lock(inputs).frames(),
        });
        frames.flatten().collect()
    }

    /// Where the answers to a job go, and those that count of what came for it. An answer to a single call is
    /// delivered on the way.
    fn find(
        &self,
        number: u64,
        came: impl Iterator<Item = Came>,
    ) -> Option<(JobAnswers, Vec<Given>)> {
        let mut waiting = self.lock();
        match waiting.get_mut(&number) {
            Some(Waiting::Many(queue, received, inputs)) => {
                let mut inputs = lock(inputs);
                let given = came.filter_map(|came| came.count(&mut inputs)).collect();
                let job = JobAnswers {
                    queue: queue.clone(),
                    received: received.clone(),
                };
                return Some((job, given));
            }
            Some(Waiting::One(_, inputs)) => {
                let mut came = came;
                let answer = came.find_map(|came| came.answers(inputs));
                if let Some(answer) = answer
                    && let Some(Waiting::One(sender, _)) = waiting.remove(&number)
                {
                    // An error means that it was given up in this very moment.
                    let _ = sender.send(answer);
                }
            }
            // Late, given up, or one more than was asked for.
            None => {}
        }
        None
    }

    /// Whether calls wait for answers.
    pub(super) fn is_awaited(&self) -> bool {
        !self.lock().is_empty()
    }

    /// A number that changes when answers come.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Gives each to its call.
    pub(super) async fn deliver(&self, came: Vec<CameTogether>) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        for CameTogether { topic, came } in came {
            if let Some(number) = self.number(&topic)
                && let Some((job, mut given)) = self.find(number, came.into_iter())
            {
                job.deliver(&mut given).await;
            }
        }
    }

    /// Cancels these calls. Calls beyond the capacity of the queue run to their end.
    fn give_up(&self, topics: impl Iterator<Item = ByteString>) {
        let given_up = self.given_up.lock();
        let given_up = given_up.unwrap_or_else(PoisonError::into_inner);
        if let Some(given_up) = &*given_up {
            for topic in topics {
                let _ = given_up.try_send(topic);
            }
        }
    }

    /// Gives up all calls that wait, and takes no further ones: the client ends.
    pub(super) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.lock());
        let topics = waiting
            .keys()
            .map(|number| format!("{}/{number}", self.id).into());
        self.give_up(topics);
        let given_up = self.given_up.lock();
        given_up.unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether no answer will come any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets everybody who waits know that nothing will come.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().clear();
    }
}

/// Reads what is published for the client, and gives each answer to its call. `ready` gets what
/// the publisher says of the subscriptions.
pub(super) async fn read(
    mut subscribe: Subscribe,
    answers: Arc<Answers>,
    ready: watch::Sender<Option<Readiness>>,
) {
    let answers = CloseOnDrop(answers);
    let mut publications = Vec::new();
    while subscribe.recv_many(&mut publications, BATCH).await.is_ok() {
        let mut came = Vec::new();
        for Publication { topic, body } in publications.drain(..) {
            if let Some(said) = Readiness::from_publication(&topic, body.as_ref()) {
                ready.send_replace(Some(said));
                continue;
            }
            match &body {
                Some(body) => CameTogether::read(body, Some(&topic), &mut came),
                None => tracing::warn!("an answer has no body, or more than one"),
            }
        }
        answers.0.deliver(came).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_wait_when_the_client_ends_are_given_up() {
        let (sender, mut given_up) = mpsc::channel(10);
        let answers = Answers::new("id".into(), sender);
        let waiting = || {
            let (sender, answer) = oneshot::channel();
            (Waiting::One(sender, Inputs::default()), answer)
        };
        let (first, answer) = waiting();
        let mut first = answers.topic(first);
        first.awaited(true);
        answers.end();
        assert!(answer.await.is_err());
        drop(first);
        let (late, answer) = waiting();
        let mut late = answers.topic(late);
        late.awaited(true);
        assert!(answer.await.is_err());
        drop(late);
        assert_eq!(given_up.recv().await.as_deref(), Some("id/0"));
        assert_eq!(given_up.recv().await, None);
    }

    #[tokio::test]
    async fn answers_find_their_call_by_the_topic() {
        let answers = Answers::new("id".into(), mpsc::channel(1).0);
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let first = answers.topic(Waiting::One(first, Inputs::default()));
        let second = answers.topic(Waiting::One(second, Inputs::default()));
        let came = |payload: &'static str| Came {
            result: Ok(payload.into()),
            share: None,
            is_rest: false,
        };
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
            assert!(
                answers
                    .find(number, std::iter::once(came(payload)))
                    .is_none()
            );
        }
        drop(first);
        assert!(answers.find(0, std::iter::once(came("given up"))).is_none());
        assert_eq!(second_answer.await.unwrap().unwrap().unwrap(), "second");
        assert!(first_answer.await.is_err());
        assert!(answers.lock().is_empty());
    }
}
