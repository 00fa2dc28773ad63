//! Which answer belongs to whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot, watch};

use super::CallError;
use super::inputs::{CompletionTracker, Counted, ResultKind};
use super::way::CloseOnDrop;
use crate::discovery::Readiness;
use crate::failure::chain;
use crate::fair_queue::Usage;
use crate::message::{self, Answered, Share};
use crate::part::BATCH;
use crate::queue::{self, Queued};
use crate::socket::{Publication, Subscribe};

/// The payload, or why there is none.
pub(super) type AnswerResult = Result<Bytes, Box<CallError>>;

/// What came under one topic, in a row.
#[derive(Debug)]
pub(super) struct AnswerBatch {
    topic: Bytes,
    answers: Vec<IncomingAnswer>,
}

impl AnswerBatch {
    /// Adds what a frame brings to the last one, or as another one.
    pub(super) fn read(frame: &Bytes, topic: Option<&[u8]>, out: &mut Vec<Self>) {
        let Some((client, answer)) = IncomingAnswer::read(frame) else {
            return;
        };
        let topic = topic.unwrap_or(client);
        match out.last_mut() {
            Some(last) if last.topic == topic => last.answers.push(answer),
            _ => out.push(Self {
                topic: Bytes::copy_from_slice(topic),
                answers: vec![answer],
            }),
        }
    }
}

/// What came for a call, as it came.
#[derive(Debug)]
pub(super) struct IncomingAnswer {
    pub(super) result: AnswerResult,
    pub(super) share: Option<Share>,
    /// Whether it is no answer, and says that there are no more.
    pub(super) is_remainder: bool,
}

impl IncomingAnswer {
    /// What a frame brings, and for whom; `None`, and a warning, where it is no message.
    fn read(frame: &Bytes) -> Option<(&[u8], Self)> {
        match message::answer(frame) {
            Ok(Answered {
                client,
                function,
                stage,
                result,
                share,
                is_rest: is_remainder,
            }) => {
                let result = match result {
                    Ok(payload) if is_remainder => Ok(payload),
                    Ok(payload) => match CallError::unfinished(function, stage) {
                        Some(unfinished) => Err(Box::new(unfinished)),
                        None => Ok(payload),
                    },
                    Err(error) => Err(Box::new((*error).into())),
                };
                let answer = Self {
                    result,
                    share,
                    is_remainder,
                };
                Some((client, answer))
            }
            Err(error) => {
                let cause = chain(&error);
                tracing::warn!("an answer is no message: {cause}");
                None
            }
        }
    }

    fn kind(&self) -> ResultKind {
        match &self.result {
            _ if self.is_remainder => ResultKind::Remainder,
            Ok(_) => ResultKind::Answer,
            Err(_) => ResultKind::Error,
        }
    }

    /// What a job gets of it, if it counts.
    fn into_job_delivery(self, inputs: &mut CompletionTracker) -> Option<Delivery> {
        let kind = self.kind();
        match self.share {
            Some(share) => match inputs.record(share, kind) {
                Counted::First { completes } if completes || !self.is_remainder => {}
                Counted::First { .. } | Counted::Duplicate => return None,
            },
            None if self.is_remainder => return None,
            None => inputs.answers += 1,
        }
        Some((!self.is_remainder).then_some(self.result))
    }

    /// What a single call gets of it, if that ends it.
    fn into_single_delivery(self, inputs: &mut CompletionTracker) -> Option<Delivery> {
        if self.is_remainder {
            let counted = inputs.record(self.share?, ResultKind::Remainder);
            return (counted == Counted::First { completes: true }).then_some(None);
        }
        Some(Some(self.result))
    }
}

/// What a job gets: an answer, or the news that something is complete.
pub(super) type Delivery = Option<AnswerResult>;

/// Who waits for the answers under one topic.
#[derive(Debug)]
pub(super) enum PendingCall {
    /// Gets `None` where there is no answer. The inputs are one.
    Single(oneshot::Sender<Delivery>, CompletionTracker),
    Job(
        queue::Sender<Delivery>,
        Arc<AtomicU64>,
        Arc<Mutex<CompletionTracker>>,
    ),
}

impl Queued for Delivery {
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

pub(super) fn lock(inputs: &Mutex<CompletionTracker>) -> MutexGuard<'_, CompletionTracker> {
    inputs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls of a client that wait for answers.
#[derive(Debug)]
pub(super) struct InFlightCalls {
    /// The client's id: what all of its topics begin with.
    id: ByteString,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, PendingCall>>,
    /// Gets the topics of calls that are given up, until the client ends.
    cancellations: Mutex<Option<mpsc::Sender<ByteString>>>,
    closed: AtomicBool,
    /// How often answers have come.
    delivered: AtomicU64,
}

/// Where the answers to a job go.
struct JobQueue {
    queue: queue::Sender<Delivery>,
    received: Arc<AtomicU64>,
}

impl JobQueue {
    /// Gives the job its answers, and waits for room.
    async fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        let count = deliveries.iter().flatten().count() as u64;
        self.received.fetch_add(count, Ordering::Relaxed);
        // An error means that the job is over.
        let _ = self.queue.send_all(deliveries).await;
        deliveries.clear();
    }
}

/// The topic of one call. Dropping it gives up its answers, and, while they are
/// [`awaited`](Self::set_awaited), the call.
#[derive(Debug)]
pub(super) struct CallTopic {
    awaited: bool,
    number: u64,
    pub(super) text: ByteString,
    answers: Arc<InFlightCalls>,
}

impl Drop for CallTopic {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl CallTopic {
    /// Gives up the answers, and the call if they are awaited.
    pub(super) fn cancel(&mut self) {
        self.answers.lock().remove(&self.number);
        if std::mem::take(&mut self.awaited) {
            self.answers.cancel(std::iter::once(self.text.clone()));
        }
    }

    /// Whether something was sent whose answer is wanted and has not come.
    pub(super) fn set_awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
    }
}

impl InFlightCalls {
    pub(super) fn new(id: ByteString, cancellations: mpsc::Sender<ByteString>) -> Arc<Self> {
        Arc::new(Self {
            id,
            next: AtomicU64::new(0),
            pending: Mutex::default(),
            cancellations: Mutex::new(Some(cancellations)),
            closed: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, PendingCall>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic of its own for a call, whose answers go to `waiting`.
    pub(super) fn register(self: &Arc<Self>, call: PendingCall) -> CallTopic {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if !self.closed.load(Ordering::Acquire) {
            self.lock().insert(number, call);
        }
        CallTopic {
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
    pub(super) fn track(&self, topic: &CallTopic, frame: Option<Bytes>) {
        if let Some(PendingCall::Single(_, inputs)) = self.lock().get_mut(&topic.number) {
            inputs.start(0, frame);
        }
    }

    /// The messages of all calls that are to be sent again where they are lost.
    pub(super) fn incomplete_frames(&self) -> Vec<Bytes> {
        let pending = self.lock();
        let frames = pending.values().map(|call| match call {
            PendingCall::Single(_, inputs) => inputs.frames(),
            PendingCall::Job(_, _, inputs) => lock(inputs).frames(),
        });
        frames.flatten().collect()
    }

    /// Where the answers to a job go, and those that count of what came for it. An answer to a single call is
    /// delivered on the way.
    fn route(
        &self,
        number: u64,
        answers: impl Iterator<Item = IncomingAnswer>,
    ) -> Option<(JobQueue, Vec<Delivery>)> {
        let mut pending = self.lock();
        match pending.get_mut(&number) {
            Some(PendingCall::Job(queue, received, inputs)) => {
                let mut inputs = lock(inputs);
                let deliveries = answers
                    .filter_map(|answer| answer.into_job_delivery(&mut inputs))
                    .collect();
                let job = JobQueue {
                    queue: queue.clone(),
                    received: received.clone(),
                };
                return Some((job, deliveries));
            }
            Some(PendingCall::Single(_, inputs)) => {
                let mut answers = answers;
                let answer = answers.find_map(|answer| answer.into_single_delivery(inputs));
                if let Some(answer) = answer
                    && let Some(PendingCall::Single(sender, _)) = pending.remove(&number)
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
    pub(super) fn has_pending(&self) -> bool {
        !self.lock().is_empty()
    }

    /// A number that changes when answers come.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Gives each to its call.
    pub(super) async fn deliver(&self, batches: Vec<AnswerBatch>) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        for AnswerBatch { topic, answers } in batches {
            if let Some(number) = self.number(&topic)
                && let Some((job, mut deliveries)) = self.route(number, answers.into_iter())
            {
                job.deliver(&mut deliveries).await;
            }
        }
    }

    /// Cancels these calls. Calls beyond the capacity of the queue run to their end.
    fn cancel(&self, topics: impl Iterator<Item = ByteString>) {
        let cancellations = self.cancellations.lock();
        let cancellations = cancellations.unwrap_or_else(PoisonError::into_inner);
        if let Some(cancellations) = &*cancellations {
            for topic in topics {
                let _ = cancellations.try_send(topic);
            }
        }
    }

    /// Gives up all calls that wait, and takes no further ones: the client ends.
    pub(super) fn cancel_all(&self) {
        self.closed.store(true, Ordering::Release);
        let pending = std::mem::take(&mut *self.lock());
        let topics = pending
            .keys()
            .map(|number| format!("{}/{number}", self.id).into());
        self.cancel(topics);
        let cancellations = self.cancellations.lock();
        cancellations.unwrap_or_else(PoisonError::into_inner).take();
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
    answers: Arc<InFlightCalls>,
    ready: watch::Sender<Option<Readiness>>,
) {
    let answers = CloseOnDrop(answers);
    let mut publications = Vec::new();
    while subscribe.recv_many(&mut publications, BATCH).await.is_ok() {
        let mut batches = Vec::new();
        for Publication { topic, body } in publications.drain(..) {
            if let Some(said) = Readiness::from_publication(&topic, body.as_ref()) {
                ready.send_replace(Some(said));
                continue;
            }
            match &body {
                Some(body) => AnswerBatch::read(body, Some(&topic), &mut batches),
                None => tracing::warn!("an answer has no body, or more than one"),
            }
        }
        answers.0.deliver(batches).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_wait_when_the_client_ends_are_given_up() {
        let (sender, mut cancellations) = mpsc::channel(10);
        let answers = InFlightCalls::new("id".into(), sender);
        let waiting = || {
            let (sender, answer) = oneshot::channel();
            (
                PendingCall::Single(sender, CompletionTracker::default()),
                answer,
            )
        };
        let (first, answer) = waiting();
        let mut first = answers.register(first);
        first.set_awaited(true);
        answers.cancel_all();
        assert!(answer.await.is_err());
        drop(first);
        let (late, answer) = waiting();
        let mut late = answers.register(late);
        late.set_awaited(true);
        assert!(answer.await.is_err());
        drop(late);
        assert_eq!(cancellations.recv().await.as_deref(), Some("id/0"));
        assert_eq!(cancellations.recv().await, None);
    }

    #[tokio::test]
    async fn answers_find_their_call_by_the_topic() {
        let answers = InFlightCalls::new("id".into(), mpsc::channel(1).0);
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let first = answers.register(PendingCall::Single(first, CompletionTracker::default()));
        let second = answers.register(PendingCall::Single(second, CompletionTracker::default()));
        let came = |payload: &'static str| IncomingAnswer {
            result: Ok(payload.into()),
            share: None,
            is_remainder: false,
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
                    .route(number, std::iter::once(came(payload)))
                    .is_none()
            );
        }
        drop(first);
        assert!(
            answers
                .route(0, std::iter::once(came("given up")))
                .is_none()
        );
        assert_eq!(second_answer.await.unwrap().unwrap().unwrap(), "second");
        assert!(first_answer.await.is_err());
        assert!(answers.lock().is_empty());
    }
}
