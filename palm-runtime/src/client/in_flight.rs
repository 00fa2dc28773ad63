//! [`InFlightCalls`] matches answers with the calls of a client.
//!
//! Each call registers a [`PendingCall`] under a number and gets a [`CallTopic`], the client's id followed by that
//! number. The client's readers decode what arrives into [`AnswerBatch`]es ([`InFlightCalls::read`]) and pass these to
//! [`InFlightCalls::deliver`], which finds the call by its number and drops duplicates.
//! A call ends when its [`CallTopic`] is dropped; if its answers were still awaited, the topic is queued for
//! cancellation.
//!
//! Invariant: a call is registered before its message is sent, so an answer without a pending call is late or a
//! duplicate, and is dropped.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot, watch};

use super::CallError;
use super::completion::{CompletionTracker, Counted, IncompleteInput, ResultKind};
use crate::discovery::Readiness;
use crate::failure::chain;
use crate::fair_queue::Usage;
use crate::id_map::IdMap;
use crate::message::{self, Answered, Share};
use crate::part::BATCH;
use crate::queue::{self, Queued};
use crate::socket::{Publication, Subscribe};

/// Most answers to single calls that are matched with their calls at once. Tasks that make calls wait meanwhile.
const LOCKED_ANSWERS: usize = 32;

/// The payload of an answer, or its error.
pub(super) type AnswerResult = Result<Bytes, Box<CallError>>;

/// Consecutive answers to the same call.
#[derive(Debug)]
pub(super) struct AnswerBatch {
    /// The number of the call.
    number: u64,
    answers: SmallVec<[IncomingAnswer; 1]>,
}

/// A decoded result, before it is counted.
#[derive(Debug)]
pub(super) struct IncomingAnswer {
    pub(super) result: AnswerResult,
    pub(super) share: Option<Share>,
    /// Whether this is not an answer, but the completion weight that the call's results do not carry.
    pub(super) is_remainder: bool,
}

impl IncomingAnswer {
    /// Decodes a frame. Returns its client and its answer. Logs a warning and returns `None` if the frame is malformed.
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
                tracing::warn!("dropping a malformed answer: {cause}");
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

    /// Counts the result. Returns what a job receives for it, or `None` for a duplicate.
    fn into_job_delivery(self, inputs: &mut CompletionTracker) -> Option<JobDelivery> {
        let kind = self.kind();
        match self.share {
            Some(share) => match inputs.record(share, kind) {
                Counted::First { completes } if completes || !self.is_remainder => {}
                Counted::First { .. } | Counted::Duplicate => return None,
            },
            None if self.is_remainder => return None,
            None => inputs.answers += 1,
        }
        Some((!self.is_remainder).then_some(JobAnswer {
            input: self.share.map(|share| share.input),
            result: self.result,
        }))
    }

    /// Returns what a single call receives, if this result ends the call.
    fn into_single_delivery(self, input: &mut Option<IncompleteInput>) -> Option<Delivery> {
        if self.is_remainder {
            let counted = input.as_mut()?.record(self.share?.value());
            return (counted == Counted::First { completes: true }).then_some(None);
        }
        Some(Some(self.result))
    }
}

/// The answer to a single call, or `None` if it completed without one.
pub(super) type Delivery = Option<AnswerResult>;

/// An answer to an input of a job.
#[derive(Debug)]
pub(super) struct JobAnswer {
    /// The number of the input; `None` if the job does not track its inputs, or a component on the way did not pass the
    /// number on.
    pub(super) input: Option<u64>,
    pub(super) result: AnswerResult,
}

/// An answer, or `None` if an input completed without a further answer.
pub(super) type JobDelivery = Option<JobAnswer>;

/// The receiver of the answers for one topic.
#[derive(Debug)]
pub(super) enum PendingCall {
    /// One call, and its completion if it is tracked.
    Single(oneshot::Sender<Delivery>, Option<IncompleteInput>),
    /// A job: its queue, the number of answers received, and the state of its inputs.
    Job(
        queue::Sender<JobDelivery>,
        Arc<AtomicU64>,
        Arc<Mutex<CompletionTracker>>,
    ),
}

impl Queued for JobDelivery {
    const HAS_FLOWS: bool = false;

    fn usage(&self) -> Usage {
        let bytes = match self.as_ref().map(|answer| &answer.result) {
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

/// The calls of a client that wait for answers.
#[derive(Debug)]
pub(super) struct InFlightCalls {
    /// The client's id, the prefix of all of its topics.
    id: ByteString,
    next: AtomicU64,
    pending: Mutex<IdMap<PendingCall>>,
    /// Receives the topics of cancelled calls. `None` once the client has ended.
    cancellations: Mutex<Option<mpsc::Sender<ByteString>>>,
    closed: AtomicBool,
    /// Counts calls of [`deliver`](Self::deliver).
    delivered: AtomicU64,
}

/// The queue of a job's answers.
struct JobQueue {
    queue: queue::Sender<JobDelivery>,
    received: Arc<AtomicU64>,
}

impl JobQueue {
    /// Queues answers for the job. Waits while its queue is full.
    async fn deliver(&self, deliveries: &mut Vec<JobDelivery>) {
        let count = deliveries.iter().flatten().count() as u64;
        self.received.fetch_add(count, Ordering::Relaxed);
        // A closed queue means that the job has ended.
        let _ = self.queue.send_all(deliveries).await;
        deliveries.clear();
    }
}

/// The registration of one call.
///
/// Dropping it removes the pending call, and cancels the call if its answers are
/// [awaited](Self::set_awaited).
#[derive(Debug)]
pub(super) struct CallTopic {
    awaited: bool,
    /// Whether the call may be pending.
    is_pending: bool,
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
    /// Registers the call of this topic. Does nothing once the client has ended.
    pub(super) fn register(&mut self, call: PendingCall) {
        if !self.answers.is_closed() {
            self.answers.pending.lock().insert(self.number, call);
            self.is_pending = true;
        }
    }

    /// Removes the pending call, and cancels the call if its answers are awaited.
    pub(super) fn cancel(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.answers.pending.lock().remove(&self.number);
        }
        if std::mem::take(&mut self.awaited) {
            self.answers.cancel(std::iter::once(self.text.clone()));
        }
    }

    /// Notes that the answer to a single call was delivered.
    pub(super) fn set_answered(&mut self) {
        self.awaited = false;
        self.is_pending = false;
    }

    /// Sets whether the answer of a sent message is outstanding.
    pub(super) fn set_awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
    }
}

/// Returns the topic of call `number` of the client called `id`.
fn topic_text(id: &str, number: u64) -> ByteString {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    // With its exact length, so that the text is a single allocation.
    let mut text = String::with_capacity(id.len() + 1 + digits);
    write!(text, "{id}/{number}").expect("memory can be written to");
    text.into()
}

impl InFlightCalls {
    /// Returns the id of the client.
    pub(super) fn id(&self) -> &ByteString {
        &self.id
    }

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

    /// Registers a call under a new topic.
    pub(super) fn register(self: &Arc<Self>, call: PendingCall) -> CallTopic {
        let mut topic = self.topic();
        topic.register(call);
        topic
    }

    /// Returns a new topic, under which no call is registered yet.
    pub(super) fn topic(self: &Arc<Self>) -> CallTopic {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        CallTopic {
            awaited: false,
            is_pending: false,
            number,
            text: topic_text(&self.id, number),
            answers: self.clone(),
        }
    }

    fn number(&self, topic: &[u8]) -> Option<u64> {
        let number = topic
            .strip_prefix(&self.id.as_bytes()[..])?
            .strip_prefix(b"/")?;
        let text = std::str::from_utf8(number).ok()?;
        // `07` and `+7` are not topics of this client.
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        text.parse().ok().filter(|_| canonical)
    }

    /// Decodes the frame of an answer and appends it to the last batch, or as a new batch if it is for another call.
    /// Drops answers to other clients' calls. Default of `topic`: the client of the message.
    pub(super) fn read(&self, frame: &Bytes, topic: Option<&[u8]>, out: &mut Vec<AnswerBatch>) {
        let Some((client, answer)) = IncomingAnswer::read(frame) else {
            return;
        };
        let Some(number) = self.number(topic.unwrap_or(client)) else {
            return;
        };
        match out.last_mut() {
            Some(last) if last.number == number => last.answers.push(answer),
            _ => out.push(AnswerBatch {
                number,
                answers: SmallVec::from_buf([answer]),
            }),
        }
    }

    /// Returns the messages of all incomplete calls that are sent again when they are lost.
    pub(super) fn incomplete_frames(&self) -> Vec<Bytes> {
        let pending = self.pending.lock();
        let mut frames = Vec::new();
        for call in pending.values() {
            match call {
                PendingCall::Single(_, input) => {
                    let frame = input.as_ref().and_then(|input| input.frame.clone());
                    frames.extend(frame);
                }
                PendingCall::Job(_, _, inputs) => frames.extend(inputs.lock().frames()),
            }
        }
        frames
    }

    /// Collects the answers to single calls in `ready`, until it has [`LOCKED_ANSWERS`], or an answer is for a job.
    /// Returns that job's queue and the answers that count.
    fn route(
        &self,
        batches: &mut impl Iterator<Item = AnswerBatch>,
        ready: &mut Vec<(oneshot::Sender<Delivery>, Delivery)>,
    ) -> Option<(JobQueue, Vec<JobDelivery>)> {
        let mut pending = self.pending.lock();
        while ready.len() < LOCKED_ANSWERS {
            let AnswerBatch { number, answers } = batches.next()?;
            let mut answers = answers.into_iter();
            match pending.get_mut(&number) {
                Some(PendingCall::Job(queue, received, inputs)) => {
                    let mut inputs = inputs.lock();
                    let deliveries = answers
                        .filter_map(|answer| answer.into_job_delivery(&mut inputs))
                        .collect();
                    let job = JobQueue {
                        queue: queue.clone(),
                        received: received.clone(),
                    };
                    return Some((job, deliveries));
                }
                Some(PendingCall::Single(_, input)) => {
                    let answer = answers.find_map(|answer| answer.into_single_delivery(input));
                    if let Some(answer) = answer
                        && let Some(PendingCall::Single(sender, _)) = pending.remove(&number)
                    {
                        ready.push((sender, answer));
                    }
                }
                // A late answer, an answer to a cancelled call, or a duplicate.
                None => {}
            }
        }
        None
    }

    /// Returns whether a call waits for answers.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.lock().is_empty()
    }

    /// Returns a counter that changes when answers arrive.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Delivers each answer to its call. Waits while the queue of a job is full.
    pub(super) async fn deliver(&self, batches: Vec<AnswerBatch>) {
        if batches.is_empty() {
            return;
        }
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let mut batches = batches.into_iter();
        let mut ready = Vec::new();
        while batches.len() > 0 {
            let job = self.route(&mut batches, &mut ready);
            for (sender, answer) in ready.drain(..) {
                // The receiver is dropped if the call was cancelled meanwhile.
                let _ = sender.send(answer);
            }
            if let Some((job, mut deliveries)) = job {
                job.deliver(&mut deliveries).await;
            }
        }
    }

    /// Queues cancellations. If the queue is full, calls run to their end.
    fn cancel(&self, topics: impl Iterator<Item = ByteString>) {
        let cancellations = self.cancellations.lock();
        if let Some(cancellations) = &*cancellations {
            for topic in topics {
                let _ = cancellations.try_send(topic);
            }
        }
    }

    /// Cancels all pending calls and rejects new ones: the client ends.
    pub(super) fn cancel_all(&self) {
        self.closed.store(true, Ordering::Release);
        let pending = std::mem::take(&mut *self.pending.lock());
        let topics = pending.keys().map(|&number| topic_text(&self.id, number));
        self.cancel(topics);
        self.cancellations.lock().take();
    }

    /// Returns whether no further answer will arrive.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Fails all pending calls with [`CallError::Closed`].
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.pending.lock().clear();
    }
}

/// Reads publications for the client and delivers each answer to its call.
///
/// `ready` receives the publisher's confirmations of subscriptions.
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
                Some(body) => answers.0.read(body, Some(&topic), &mut batches),
                None => {
                    tracing::warn!("dropping an answer that does not have exactly one body frame")
                }
            }
        }
        answers.0.deliver(batches).await;
    }
}

/// Closes the in-flight calls when their reader ends.
#[derive(Debug)]
pub(super) struct CloseOnDrop(pub(super) Arc<InFlightCalls>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cancel_all_cancels_pending_calls_and_rejects_new_ones() {
        let (sender, mut cancellations) = mpsc::channel(10);
        let answers = InFlightCalls::new("id".into(), sender);
        let waiting = || {
            let (sender, answer) = oneshot::channel();
            (PendingCall::Single(sender, None), answer)
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

    #[test]
    fn topics_have_one_allocation() {
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            let text = topic_text("id", number);
            assert_eq!(text, format!("id/{number}"));
        }
    }

    #[tokio::test]
    async fn event_without_answers_does_not_count_as_delivered() {
        let answers = InFlightCalls::new("id".into(), mpsc::channel(1).0);
        let before = answers.delivered();
        answers.deliver(Vec::new()).await;
        assert_eq!(answers.delivered(), before);
    }

    #[tokio::test]
    async fn answers_are_routed_to_their_call_by_topic() {
        let answers = InFlightCalls::new("id".into(), mpsc::channel(1).0);
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let first = answers.register(PendingCall::Single(first, None));
        let second = answers.register(PendingCall::Single(second, None));
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
        let batch = |number, payload| AnswerBatch {
            number,
            answers: SmallVec::from_buf([came(payload)]),
        };
        answers
            .deliver(vec![batch(1, "second"), batch(1, "once more")])
            .await;
        drop(first);
        answers.deliver(vec![batch(0, "abandoned")]).await;
        assert_eq!(second_answer.await.unwrap().unwrap().unwrap(), "second");
        assert!(first_answer.await.is_err());
        assert!(answers.pending.lock().is_empty());
    }
}
