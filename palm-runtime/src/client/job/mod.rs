//! [`Job`]: a stream of answers to many calls.
//!
//! A job is a state machine behind [`Stream::poll_next`]; nothing runs while it is not polled. Each poll does this:
//!
//! 1. `poll_check` looks the function up, and the component that answers, before the first message is sent.
//! 2. `poll_fill` encodes arguments while [`SendWindow`] is open, and `poll_send` sends them in batches.
//! 3. `poll_answer` receives what the client's reader has put into the job's queue.
//! 4. If an answer is due and the idle timer fires, incomplete inputs are reported as failed.
//!
//! With links, each input carries a completion weight, and [`CompletionTracker`] decides when all of its results have
//! arrived (Mattern's credit recovery). The job then ends by itself, and the window counts incomplete inputs. Without
//! links, [`Job::expect_answers`] sets the end, and the window counts answers.

mod send;
mod span;
mod timer;
mod window;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::send::Precheck;
use self::span::JobSpan;
use self::timer::LazyTimer;
use self::window::SendWindow;
use crate::call_slots::{self, Deadlock};
use crate::client::completion::CompletionTracker;
use crate::client::in_flight::{CallTopic, JobAnswer, JobDelivery, PendingCall};
use crate::client::{CallError, Client};
use crate::failure::BoxError;
use crate::function::{Argument, IntoSteps, Steps};
use crate::message::{Batch, BatchBuilder, Headers};
use crate::part::BATCH;
use crate::queue::{QueueLimits, Receiver, queue};
use crate::socket::SocketClosed;

/// Many calls and the stream of their answers, in the order in which calls complete. Created by [`Client::job`].
///
/// Arguments are sent while the stream is polled; nothing is sent while it is not. At most
/// [`window`](crate::ClientBuilder::window) messages are in flight.
///
/// # End
///
/// The stream ends when all results of all arguments have arrived, or after
/// [`expect_answers`](Self::expect_answers) answers. Dropping the job cancels it: components discard its queued
/// messages, and drop async methods that run for it.
///
/// # Timeouts
///
/// If an answer is due and none arrives for [`timeout`](Self::timeout), each incomplete input fails with a
/// [`CallError::Timeout`] that has its number, and the job continues. If no input completed since the last such
/// failure, the job ends with that error. The timeout is suspended while no answer is due, for example while the stream
/// of arguments pauses.
///
/// A job whose function does not exist fails once ([`UnknownFunction`](crate::FailureKind::UnknownFunction)) and ends,
/// unless one of its inputs succeeded before.
///
/// # Slow consumers
///
/// Unread answers are buffered in the client, up to 16 windows or 64 MiB. If the buffer is full, the answers to the
/// client's other calls wait as well.
#[must_use = "a job does nothing unless it is polled"]
pub struct Job<'a, Value = Bytes> {
    /// `None` once the job has ended.
    steps: Option<Steps>,
    failed: Option<CallError>,
    /// The id of the next message.
    id: String,
    /// Whether all messages have this id.
    same_id: bool,
    topic: CallTopic,
    /// The number of arguments, if the iterator or stream knows it.
    total: Option<u64>,
    payloads: Option<BoxStream<'a, Result<Bytes, BoxError>>>,
    /// The lookup of the function and of the route to the last step.
    check: Precheck,
    /// Encoded messages of the next batch.
    builder: BatchBuilder,
    batches: Vec<Batch>,
    /// Messages that were in batches so far.
    begun: u64,
    sending: Option<BoxFuture<'static, Result<(), SocketClosed>>>,
    /// Whether everything is sent and its acknowledgement was awaited.
    all_sent: bool,
    /// Completion of the inputs that were sent, if the job tracks it.
    inputs: Arc<Mutex<CompletionTracker>>,
    window: SendWindow,
    answers: AnswerBuffer,
    left: Option<u64>,
    timeout: Duration,
    /// Limit on each call.
    deadline: Option<Duration>,
    headers: Headers,
    /// The headers and the trace, encoded.
    more: Vec<u8>,
    /// The trace, encoded.
    trace: Vec<u8>,
    /// Ends with the job.
    _span: JobSpan,
    idle: LazyTimer,
    /// The number of the input to which the last answer or failure belongs.
    input: Option<u64>,
    /// Inputs that were abandoned and are not reported yet.
    lost: std::vec::IntoIter<u64>,
    /// Inputs that had completed when inputs were last abandoned.
    completed: u64,
    /// Whether something was sent or received since `idle` was set.
    progress: bool,
    /// The concurrency slot of the method that polls this job, if it runs in the component of the first step.
    slot_loan: call_slots::SlotLoan,
    /// Decodes an answer.
    read: fn(Bytes) -> Result<Value, BoxError>,
    /// Must be the last field: cancellations need an open client.
    client: Client,
}

/// Received answers.
struct AnswerBuffer {
    queue: Receiver<JobDelivery>,
    batch: std::vec::IntoIter<JobDelivery>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The number of arguments, if their iterator or stream knows it.
    pub total: Option<u64>,
    /// Arguments that were sent.
    pub sent: u64,
    /// Sent arguments whose results have all arrived. If the job does not track completion
    /// ([`Job::expect_answers`], or a legacy peer in the pipeline), the number of answers.
    pub done: u64,
    /// Arguments, or answers, that failed. Included in `done`.
    pub failed: u64,
}

impl<'a, Value> Job<'a, Value> {
    pub(super) fn new<S: IntoSteps<Input: 'a>>(
        client: Client,
        steps: S,
        arguments: impl Stream<Item: Argument<S::Input>> + Send + 'a,
        read: fn(Bytes) -> Result<Value, BoxError>,
    ) -> Self {
        let window = client.0.window;
        let limits = QueueLimits {
            messages: window.saturating_mul(16),
            ..QueueLimits::default()
        };
        let (sender, answers) = queue(limits);
        let received = Arc::<AtomicU64>::default();
        let inputs = Arc::<Mutex<CompletionTracker>>::default();
        let call = PendingCall::Job(sender, received.clone(), inputs.clone());
        let topic = client.0.answers.register(call);
        let timeout = client.0.timeout;
        let headers = client.0.headers.clone();
        let (steps, failed) = match steps.into_steps() {
            Ok(steps) => (Some(steps), None),
            Err(error) => (None, Some(error.into())),
        };
        let span = JobSpan::begin(steps.as_ref().map_or("", |steps| steps.text()), &topic.text);
        let trace = span.trace();
        let more = [&client.0.encoded_headers[..], &trace].concat();
        Self {
            client,
            steps,
            failed,
            id: topic.text.to_string(),
            same_id: false,
            topic,
            total: match arguments.size_hint() {
                (least, Some(most)) if least == most => Some(least as u64),
                _ => None,
            },
            payloads: Some(arguments.map(Argument::into_argument).boxed()),
            check: Precheck::Due,
            builder: BatchBuilder::default(),
            batches: Vec::new(),
            begun: 0,
            sending: None,
            all_sent: false,
            inputs,
            window: SendWindow {
                len: window as u64,
                sent: 0,
                received,
                taken: 0,
                failed: 0,
                forgiven: 0,
                timer: LazyTimer::default(),
                waiting_at: None,
            },
            answers: AnswerBuffer {
                queue: answers,
                batch: Vec::new().into_iter(),
            },
            left: None,
            timeout,
            deadline: None,
            headers,
            more,
            trace,
            _span: span,
            idle: LazyTimer::default(),
            input: None,
            lost: Vec::new().into_iter(),
            completed: 0,
            progress: true,
            slot_loan: call_slots::SlotLoan::default(),
            read,
        }
    }

    /// Sets the number of answers: the job ends after that many, regardless of their arguments.
    ///
    /// Default: the job ends when all results of all arguments have arrived, however many there are. This is known if
    /// calls and answers travel over links, and all components in between use links. Otherwise the job fails with
    /// [`CallError::Completion`]. It fails before it sends anything if the client has no link, or if the first
    /// component has workers without links that may run the function and no worker has registered it. Otherwise it
    /// fails when an answer of unknown completion arrives.
    ///
    /// Set the number if several components follow the same stream: without it, their answers to the same argument
    /// count as duplicates of one.
    pub fn expect_answers(mut self, answers: u64) -> Self {
        self.left = Some(answers);
        self
    }

    /// Sets how long the job waits for the next answer while one is due. Default: the client's
    /// [`timeout`](crate::ClientBuilder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.progress = true;
        self
    }

    /// Sets the limit on each call, from the moment it is sent. Default: no limit.
    ///
    /// A call that exceeds it is answered by an error of the kind
    /// [`DeadlineExceeded`](crate::FailureKind::DeadlineExceeded), or
    /// [`Unavailable`](crate::FailureKind::Unavailable) if no worker was available.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Some(timeout);
        self
    }

    /// Adds a header to each call. It replaces that of the client, if one is set
    /// ([`ClientBuilder::header`](crate::ClientBuilder::header)).
    pub fn header(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        self.headers.insert(name, value);
        self.more = [self.headers.encode(), self.trace.clone()].concat();
        self
    }

    /// Sets the id of all messages (their field `cache`). Default: each message has its own id.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self.same_id = true;
        self
    }

    /// Returns the number of messages sent so far.
    pub fn sent(&self) -> u64 {
        self.window.sent
    }

    /// Returns the number of the argument that the last answer or failure belongs to, from 0.
    ///
    /// `None` before the first answer and once the job has ended, at an error that ends it, with
    /// [`expect_answers`](Self::expect_answers), and if a legacy component on the way did not pass the number on.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: palm::Client, images: Vec<Vec<u8>>) -> palm::Result<()> {
    /// let mut thumbnails = vec![None; images.len()];
    /// let mut job = client.job("images.thumbnail", images);
    /// while let Some(thumbnail) = job.next().await {
    ///     let thumbnail = thumbnail?;
    ///     if let Some(number) = job.input() {
    ///         thumbnails[number as usize] = Some(thumbnail);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn input(&self) -> Option<u64> {
        self.input
    }

    /// Returns how far the job is.
    pub fn progress(&self) -> Progress {
        let (done, failed) = if self.is_tracked() {
            let inputs = self.inputs.lock();
            (inputs.done, inputs.failed)
        } else {
            (self.window.taken, self.window.failed)
        };
        Progress {
            total: self.total,
            sent: self.window.sent,
            done,
            failed,
        }
    }

    /// Returns whether the job knows which inputs are complete.
    fn is_tracked(&self) -> bool {
        self.left.is_none() && self.client.0.tracks_completion
    }

    /// Returns whether all results have arrived and were yielded.
    fn is_complete(&self) -> bool {
        self.is_tracked() && self.is_sent() && {
            let inputs = self.inputs.lock();
            inputs.under_way() == 0 && inputs.answers == self.window.taken
        }
    }

    fn is_sent(&self) -> bool {
        self.payloads.is_none() && self.sending.is_none() && self.batches.is_empty()
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<JobDelivery>> {
        let mut batch = Vec::new();
        let count = {
            let receive = std::pin::pin!(self.answers.queue.recv_many(&mut batch, BATCH));
            ready!(receive.poll(context))
        };
        if count == 0 {
            return Poll::Ready(None);
        }
        self.answers.batch = batch.into_iter();
        Poll::Ready(self.answers.batch.next())
    }

    fn take(&mut self, answer: JobAnswer) -> Result<Value, CallError> {
        let payload = answer.result;
        self.input = answer.input;
        self.window.taken += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
            self.topic.set_awaited(*left > 0);
        }
        self.progress = true;
        self.window.failed += u64::from(payload.is_err());
        let payload = payload.map_err(|error| {
            let none_succeeded = self.window.failed == self.window.taken;
            if none_succeeded && error.is_unknown_function() {
                // All other inputs would fail in the same way.
                self.topic.cancel();
                self.end();
            }
            *error
        })?;
        (self.read)(payload).map_err(|source| CallError::decode::<Value>(self.called(), source))
    }

    /// Ends the job: all answers have arrived.
    fn finish(&mut self) {
        self.topic.set_awaited(false);
        self.end();
    }

    fn end(&mut self) {
        self.input = None;
        self.steps = None;
        self.payloads = None;
        self.sending = None;
        self.batches.clear();
    }

    /// Returns whether an answer to a sent message is missing, or a message can be sent now.
    fn is_answer_due(&self) -> bool {
        if self.is_sent() || self.sending.is_some() || !self.batches.is_empty() {
            return true;
        }
        match self.is_tracked() {
            true => self.inputs.lock().under_way() > 0,
            false => self.window.sent > self.window.received.load(Ordering::Relaxed),
        }
    }

    /// Gives up the incomplete inputs after a timeout. Returns `false` if no input completed since the last time.
    fn lose_inputs(&mut self) -> bool {
        if !self.is_tracked() {
            return false;
        }
        let mut inputs = self.inputs.lock();
        let completed = inputs.completed();
        if completed == self.completed {
            return false;
        }
        self.completed = completed;
        self.lost = inputs.give_up().into_iter();
        self.lost.len() > 0
    }

    /// Returns a timeout for the next input whose answer is no longer awaited.
    fn next_lost(&mut self) -> Option<CallError> {
        let input = self.lost.next()?;
        self.input = Some(input);
        self.progress = true;
        Some(CallError::Timeout {
            function: self.called(),
            input: Some(input),
            waited: self.timeout,
            cause: self.client.0.wait_cause(),
        })
    }

    fn called(&self) -> String {
        let steps = self.steps.as_ref().map(ToString::to_string);
        steps.unwrap_or_default()
    }
}

impl<Value> Job<'_, Value> {
    /// Receives the next answer, in the order in which calls complete. Returns `None` once the job has ended.
    ///
    /// The job sends its arguments while this is awaited. [`Job`] also implements [`Stream`]; this method needs no
    /// extension trait in scope.
    ///
    /// # Errors
    ///
    /// [`CallError::Remote`], [`CallError::Decode`], and a [`CallError::Timeout`] with the number of an input affect
    /// only one input, and the job continues. Any other error ends the job.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if the future is dropped, no argument and no answer is lost, and the next call
    /// continues the job.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: palm::Client, images: Vec<Vec<u8>>) -> palm::Result<()> {
    /// let mut thumbnails = client.job("images.thumbnail", images);
    /// while let Some(thumbnail) = thumbnails.next().await {
    ///     println!("{} bytes", thumbnail?.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Value, CallError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<Value> Stream for Job<'_, Value> {
    type Item = Result<Value, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let job = self.get_mut();
        let last = job.input.take();
        if let Poll::Ready(answer) = job.poll_answered(context) {
            job.slot_loan.end();
            return Poll::Ready(answer);
        }
        job.input = last;
        let steps = job.steps.as_ref();
        let callee = steps.and_then(|steps| steps.iter().next());
        match job.slot_loan.begin(callee.map_or("", |step| step.server)) {
            Ok(()) => Poll::Pending,
            Err(Deadlock) => {
                let error = CallError::Deadlock {
                    function: job.called(),
                };
                job.end();
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<Value> Job<'_, Value> {
    /// Returns the next answer, and sends further arguments while inputs complete without one. The caller ends the job after an error.
    fn poll_next_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<JobAnswer, CallError>> {
        while let Poll::Ready(answer) = self.poll_answer(context) {
            let Some(answer) = answer else {
                return Poll::Ready(Err(CallError::Closed));
            };
            let answer = answer.or_else(|| self.answers.batch.by_ref().flatten().next());
            if let Some(answer) = answer {
                return Poll::Ready(Ok(answer));
            }
            // An input completed, so further arguments can be sent.
            self.progress = true;
            if let Poll::Ready(Err(error)) = self.poll_send(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }

    fn poll_answered(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Value, CallError>>> {
        let job = self;
        if let Some(error) = job.failed.take() {
            job.end();
            return Poll::Ready(Some(Err(error)));
        }
        if job.steps.is_none() {
            return Poll::Ready(None);
        }
        if let Some(lost) = job.next_lost() {
            return Poll::Ready(Some(Err(lost)));
        }
        if job.left == Some(0) && job.is_sent() {
            job.finish();
            return Poll::Ready(None);
        }
        // Yield buffered answers first, so that many arguments are sent at once after them.
        if job.left != Some(0)
            && let Some(answer) = job.answers.batch.by_ref().flatten().next()
        {
            return Poll::Ready(Some(job.take(answer)));
        }
        if let Poll::Ready(Err(error)) = job.poll_send(context) {
            job.end();
            return Poll::Ready(Some(Err(error)));
        }
        if job.left == Some(0) {
            // All expected answers have arrived. The remaining arguments are sent, and their answers are discarded.
            let batch = &mut job.answers.batch;
            job.window.taken += batch.by_ref().flatten().count() as u64;
            while let Poll::Ready(Some(answer)) = job.poll_answer(context) {
                let more = job.answers.batch.by_ref().flatten().count() as u64;
                job.window.taken += u64::from(answer.is_some()) + more;
            }
            if job.is_sent() {
                job.finish();
                return Poll::Ready(None);
            }
        } else if let Poll::Ready(answer) = job.poll_next_answer(context) {
            if answer.is_err() {
                job.end();
            }
            return Poll::Ready(Some(answer.and_then(|answer| job.take(answer))));
        }
        if job.is_complete() {
            job.finish();
            return Poll::Ready(None);
        }
        if job.is_tracked() && job.inputs.lock().is_unreliable {
            let function = job.called();
            job.end();
            return Poll::Ready(Some(Err(CallError::Completion { function })));
        }
        if !job.is_answer_due() {
            // The stream of arguments and the lookup have no limit here.
            job.progress = true;
            return Poll::Pending;
        }
        if std::mem::take(&mut job.progress) {
            job.idle.set(Instant::now() + job.timeout);
        }
        ready!(job.idle.poll(context));
        if job.lose_inputs()
            && let Some(lost) = job.next_lost()
        {
            return Poll::Ready(Some(Err(lost)));
        }
        let function = job.called();
        let error = CallError::Timeout {
            function,
            input: None,
            waited: job.timeout,
            cause: job.client.0.wait_cause(),
        };
        job.end();
        Poll::Ready(Some(Err(error)))
    }
}

impl<Value> std::fmt::Debug for Job<'_, Value> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Job")
            .field("steps", &self.steps)
            .field("sent", &self.window.sent)
            .field("taken", &self.window.taken)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
