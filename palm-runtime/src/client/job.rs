//! [`Job`]: many calls, whose answers are a stream.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until};

use super::answers::{AnswerResult, CallTopic, Delivery, PendingCall, lock};
use super::connect::extensions;
use super::inputs::CompletionTracker;
use super::{CallError, Client};
use crate::failure::BoxError;
use crate::function::{Answer, Argument, IntoSteps, Steps};
use crate::link::connection::Resend;
use crate::message::{Deadline, Group, GroupBuilder, Share};
use crate::part::BATCH;
use crate::places::{self, Deadlock};
use crate::queue::{QueueLimits, Receiver, queue};
use crate::socket::SocketClosed;

/// Many calls, made by [`Client::job`]: a stream of answers, in the order in which they are done.
///
/// Payloads are sent while the stream is polled, and answers are taken at the same time. At most
/// [`window`](crate::ClientBuilder::window) messages are under way, a function that answers only some
/// messages aside: where no answer comes for 200 ms, what is under way counts as answered. While nobody
/// polls the stream nothing is sent. It ends when all that was made of its payloads has come back, or after
/// [`expect_answers`](Self::expect_answers) answers, or by being dropped: then components are told, do not begin what is
/// queued of it, and drop methods that await.
///
/// If an answer is due and none came for [`timeout`](Self::timeout), each input that is not complete fails by a
/// [`CallError::Timeout`] with its number, and the others go on; if no input was completed since the last such
/// failure, the job ends with that error. The time does not run while nothing that was sent lacks its answer, as
/// in the pauses of a stream of payloads. A job whose functions do not exist fails once
/// ([`UnknownFunction`](crate::FailureKind::UnknownFunction)) and ends, unless another input of it succeeded.
///
/// Answers that are not taken wait in the client, up to 16 windows or 64 MiB; beyond that, the
/// answers of the client's other calls wait too.
#[must_use = "a job does nothing unless it is polled"]
pub struct Job<'a, Output = Bytes> {
    /// `None` once it is over.
    steps: Option<Steps>,
    failed: Option<CallError>,
    /// The id of the next message.
    id: String,
    /// Whether it is that of all messages.
    same_id: bool,
    topic: CallTopic,
    /// How many payloads there are, where that is known.
    total: Option<u64>,
    payloads: Option<BoxStream<'a, Result<Bytes, BoxError>>>,
    /// Whether there is such a function, and a route to the last step.
    check: Precheck,
    /// The messages that are made, until they go out together.
    builder: GroupBuilder,
    groups: Vec<Group>,
    /// How many messages were in groups until now.
    begun: u64,
    sending: Option<BoxFuture<'static, Result<(), SocketClosed>>>,
    /// Whether all is sent, and it was asked for whether it has arrived.
    all_sent: bool,
    /// What has become of those that were sent, where that is told.
    inputs: Arc<Mutex<CompletionTracker>>,
    window: SendWindow,
    answers: AnswerBuffer,
    left: Option<u64>,
    timeout: Duration,
    /// How long each call may take.
    deadline: Option<Duration>,
    idle: Timer,
    /// Inputs that were given up, and are still to be reported.
    lost: std::vec::IntoIter<u64>,
    /// How many inputs were completed when inputs were given up.
    completed: u64,
    /// Whether something was sent or taken since `idle` was set.
    progress: bool,
    /// The place of the call that polls it, if that runs where the first step does.
    waiting: places::Waiting,
    output: PhantomData<fn() -> Output>,
    /// The last field: its calls are given up before the client may end with it.
    client: Client,
}

/// How many more messages may be sent before answers have to come.
///
/// A function that answers only some messages would use it up for ever: where no answer comes for a
/// while, what is under way counts as answered.
struct SendWindow {
    len: u64,
    sent: u64,
    /// Counted by the client's reader.
    received: Arc<AtomicU64>,
    taken: u64,
    /// Of those that are taken.
    failed: u64,
    forgiven: u64,
    timer: Timer,
    /// What was received when `timer` was set.
    waiting_at: Option<u64>,
}

const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// A timer that needs a runtime only once it is set.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn set(&mut self, at: Instant) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.0 = Some(Box::pin(sleep_until(at))),
        }
    }

    /// `Ready` when the time is over that was set.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

/// What is asked before the first message is sent.
enum Precheck {
    Due,
    Asking(BoxFuture<'static, Result<(), CallError>>),
    Done,
}

impl SendWindow {
    /// Whether one more message may be sent. `open`: how many are not complete, where that is known.
    fn poll_open(&mut self, open: Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        let received = self.received.load(Ordering::Relaxed);
        if let Some(open) = open {
            let untaken = received.saturating_sub(self.taken);
            // There is an answer to come, or to be taken, and with that it goes on.
            return match open + untaken < self.len {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        let under_way = self.sent.saturating_sub(received + self.forgiven);
        // What is received and not taken is under way too, or a slow consumer would be flooded.
        let untaken = received.saturating_sub(self.taken);
        if under_way + untaken < self.len {
            self.waiting_at = None;
            return Poll::Ready(());
        }
        if self.waiting_at != Some(received) {
            self.waiting_at = Some(received);
            self.timer.set(Instant::now() + ANSWER_TIMEOUT);
        }
        ready!(self.timer.poll(context));
        self.waiting_at = None;
        self.forgiven += under_way;
        if untaken < self.len {
            return Poll::Ready(());
        }
        // There are answers to be taken, and whoever polls takes them.
        Poll::Pending
    }
}

/// The answers that have come.
struct AnswerBuffer {
    queue: Receiver<Delivery>,
    batch: std::vec::IntoIter<Delivery>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many arguments there are, where their iterator or stream tells.
    pub total: Option<u64>,
    /// Arguments that were sent.
    pub sent: u64,
    /// Of those, the ones of which nothing more comes. Where that is not known ([`Job::expect_answers`], or a
    /// component of old on the way), the answers that came.
    pub done: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
}

impl<'a, Output> Job<'a, Output> {
    pub(super) fn new<S: IntoSteps<Input: 'a, Output = Output>>(
        client: Client,
        steps: S,
        arguments: impl Stream<Item: Argument<S::Input>> + Send + 'a,
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
        let (steps, failed) = match steps.into_steps() {
            Ok(steps) => (Some(steps), None),
            Err(error) => (None, Some(error.into())),
        };
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
            builder: GroupBuilder::default(),
            groups: Vec::new(),
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
                timer: Timer::default(),
                waiting_at: None,
            },
            answers: AnswerBuffer {
                queue: answers,
                batch: Vec::new().into_iter(),
            },
            left: None,
            timeout,
            deadline: None,
            idle: Timer::default(),
            lost: Vec::new().into_iter(),
            completed: 0,
            progress: true,
            waiting: places::Waiting::default(),
            output: PhantomData,
        }
    }

    /// How many answers there will be: the job ends after them, whatever they are answers to. Default:
    /// the job ends when all that was made of its arguments has come back, however many answers that is.
    /// That is known if calls and answers go over links ([`ClientBuilder`](crate::ClientBuilder)), and all
    /// components in between have links. A job that cannot know it fails with [`CallError::Completion`]: before it
    /// sends anything, if the client has no link or the first component has workers without one that run a
    /// function which no worker has registered; otherwise when such an answer arrives.
    ///
    /// Say it where several components follow the same stream: their answers to the same argument would
    /// count as one that came twice.
    pub fn expect_answers(mut self, answers: u64) -> Self {
        self.left = Some(answers);
        self
    }

    /// How long to wait for the next answer, while one is due. Default: the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.progress = true;
        self
    }

    /// How long each call may take, from when it is sent. One that takes longer is answered by an error
    /// of the kind [`DeadlineExceeded`](crate::FailureKind::DeadlineExceeded), or
    /// [`Unavailable`](crate::FailureKind::Unavailable) where nobody was there to do it. Default: no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The id of each message, in its field `cache`. Default: each has one of its own.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self.same_id = true;
        self
    }

    /// Messages that were sent until now.
    pub fn sent(&self) -> u64 {
        self.window.sent
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let (done, failed) = if self.is_tracked() {
            let inputs = lock(&self.inputs);
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

    /// Whether it knows what is complete.
    fn is_tracked(&self) -> bool {
        self.left.is_none() && self.client.0.tracks_completion
    }

    /// Whether all has come, and was taken.
    fn is_complete(&self) -> bool {
        self.is_tracked() && self.is_sent() && {
            let inputs = lock(&self.inputs);
            inputs.under_way() == 0 && inputs.answers == self.window.taken
        }
    }

    fn is_sent(&self) -> bool {
        self.payloads.is_none() && self.sending.is_none() && self.groups.is_empty()
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
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

    /// Sends what can be sent now. `Ready` when all payloads are sent, or with an error.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if self.steps.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_check(context))?;
        ready!(self.poll_sending(context))?;
        let steps = self.steps.as_ref();
        let completes = self.is_tracked();
        let resend = steps.map_or(Resend::ByLink, |it| self.client.0.resend(it, completes));
        let repeats = resend == Resend::BySender;
        let filled = self.poll_fill(repeats, context);
        self.close_group(repeats);
        if !self.groups.is_empty() {
            let transport = &self.client.0.transport;
            let sent = transport.try_send(resend, &mut self.groups);
            sent.map_err(|_| CallError::Closed)?;
            if !self.groups.is_empty() {
                let (transport, groups) = (transport.clone(), std::mem::take(&mut self.groups));
                self.sending = Some(Box::pin(async move {
                    for group in groups {
                        transport.send(resend, group).await?;
                    }
                    Ok(())
                }));
                ready!(self.poll_sending(context))?;
            }
        }
        ready!(filled)?;
        let is_unanswered = self.left == Some(0) && self.window.taken == 0;
        if is_unanswered && !std::mem::replace(&mut self.all_sent, true) {
            // No answer will tell that the messages have arrived, and its client may be gone as soon as it ends.
            let transport = self.client.0.transport.clone();
            self.sending = Some(Box::pin(async move {
                transport.delivered().await;
                Ok(())
            }));
            ready!(self.poll_sending(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Looks up the functions, and the components that serve them, unless they are known.
    fn poll_check(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let (Precheck::Due, Some(steps)) = (&self.check, &self.steps) {
            let connection = &self.client.0;
            if self.left.is_none() && !connection.tracks_completion {
                let function = self.called();
                self.check = Precheck::Done;
                return Poll::Ready(Err(CallError::Completion { function }));
            }
            let may_not_complete = self.is_tracked() && connection.known.may_run_unlisted(steps);
            let is_known = connection.known.has(steps) && !connection.routes.needs_search(steps);
            self.check = if is_known && !may_not_complete {
                Precheck::Done
            } else {
                let limit = self.timeout / 4 * 3;
                let (client, steps) = (self.client.clone(), steps.clone());
                let ask = async move {
                    client.0.known.check(&steps).await?;
                    if may_not_complete {
                        client.0.known.check_completion(&steps).await?;
                    }
                    client.0.routes.ensure(&steps, limit).await
                };
                Precheck::Asking(ask.boxed())
            };
        }
        if let Precheck::Asking(asking) = &mut self.check {
            let asked = ready!(asking.as_mut().poll(context));
            self.check = Precheck::Done;
            // What it waited for is not counted as idle time.
            self.progress = true;
            asked?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sending(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(context));
            self.sending = None;
            sent.map_err(|_| CallError::Closed)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Makes the next messages; `repeats`: they are sent again if they are lost. `Ready` when there are no
    /// further ones, or with an error.
    fn poll_fill(
        &mut self,
        repeats: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), CallError>> {
        let is_tracked = self.is_tracked();
        let under_way = |job: &Self| lock(&job.inputs).under_way() + job.builder.len() as u64;
        let mut open = is_tracked.then(|| under_way(self));
        for _ in 0..BATCH {
            if open.is_some_and(|open| open >= self.window.len) {
                // Some may be complete by now.
                open = Some(under_way(self));
            }
            let (Some(payloads), Some(steps)) = (&mut self.payloads, &self.steps) else {
                return Poll::Ready(Ok(()));
            };
            ready!(self.window.poll_open(open, context));
            let Some(payload) = ready!(payloads.poll_next_unpin(context)) else {
                self.payloads = None;
                return Poll::Ready(Ok(()));
            };
            let number = self.window.sent;
            if !self.same_id {
                self.id.truncate(self.topic.text.len());
                let _ = write!(self.id, "/{number}");
            }
            let payload = payload.map_err(|source| CallError::encode(steps, source))?;
            let deadline = self.deadline.map(Deadline::after);
            let share = is_tracked.then(|| Share::of_input(number));
            let mut memory = [0; 40];
            let extensions = extensions(deadline, share, &mut memory);
            let (topic, id) = (&self.topic.text, &self.id);
            let (content, len) = self
                .client
                .content(steps, topic, id, extensions, &payload)?;
            // Those of a group have an id.
            let most = if id.is_empty() { 0 } else { BATCH };
            if self.builder.has_room(len, most) {
                self.builder.push(content, len);
            } else {
                let frame = self.client.frame(content);
                self.close_group(repeats);
                self.push_group(frame.into(), repeats);
            }
            self.window.sent += 1;
            open = open.map(|open| open + 1);
            self.topic.set_awaited(true);
            // As long as payloads are sent the job is not idle.
            self.progress = true;
        }
        // Others get their turn, then it goes on.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The messages that were made together go out together.
    fn close_group(&mut self, repeats: bool) {
        if let Some(group) = self.builder.take() {
            self.push_group(group, repeats);
        }
    }

    fn push_group(&mut self, group: Group, repeats: bool) {
        if self.is_tracked() {
            let mut inputs = lock(&self.inputs);
            for (input, frame) in (self.begun..).zip(group.frames()) {
                inputs.start(input, repeats.then_some(frame));
            }
        }
        self.begun += group.len() as u64;
        self.groups.push(group);
    }

    fn take(&mut self, payload: AnswerResult) -> Result<Output::Value, CallError>
    where
        Output: Answer,
    {
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
                // All others would fail in the same way.
                self.topic.cancel();
                self.end();
            }
            *error
        })?;
        CallError::answer::<Output>(payload, || {
            let steps = self.steps.as_ref();
            steps.map(ToString::to_string).unwrap_or_default()
        })
    }

    /// All answers that are wanted are there.
    fn finish(&mut self) {
        self.topic.set_awaited(false);
        self.end();
    }

    fn end(&mut self) {
        self.steps = None;
        self.payloads = None;
        self.sending = None;
        self.groups.clear();
    }

    /// Whether something was sent, or is to be sent now, that has no answer yet.
    fn is_answer_due(&self) -> bool {
        if self.is_sent() || self.sending.is_some() || !self.groups.is_empty() {
            return true;
        }
        match self.is_tracked() {
            true => lock(&self.inputs).under_way() > 0,
            false => self.window.sent > self.window.received.load(Ordering::Relaxed),
        }
    }

    /// No answer came in time: gives the inputs up that lack one, if others were answered meanwhile.
    fn lose_inputs(&mut self) -> bool {
        if !self.is_tracked() {
            return false;
        }
        let mut inputs = lock(&self.inputs);
        let completed = inputs.completed();
        if completed == self.completed {
            return false;
        }
        self.completed = completed;
        self.lost = inputs.give_up().into_iter();
        self.lost.len() > 0
    }

    /// The failure of the next input that was given up.
    fn next_lost(&mut self) -> Option<CallError> {
        let input = self.lost.next()?;
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

impl<Output: Answer> Job<'_, Output> {
    /// Receives the next answer, in the order in which calls are done; `None` when the job is over.
    ///
    /// The job sends its arguments while this is awaited. A job is a [`Stream`] too; no crate has to be in scope
    /// for this method.
    ///
    /// # Errors
    ///
    /// [`CallError::Remote`], [`CallError::Decode`] and a [`CallError::Timeout`] with the number of its input
    /// concern one input, and the job goes on. After any other error it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no argument and no answer is lost if the future is dropped, and the next call goes on with the
    /// job.
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
    pub async fn next(&mut self) -> Option<Result<Output::Value, CallError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<Output: Answer> Stream for Job<'_, Output> {
    type Item = Result<Output::Value, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let job = self.get_mut();
        if let Poll::Ready(answer) = job.poll_answered(context) {
            job.waiting.end();
            return Poll::Ready(answer);
        }
        let steps = job.steps.as_ref();
        let callee = steps.and_then(|steps| steps.iter().next());
        match job.waiting.begin(callee.map_or("", |step| step.server)) {
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

impl<Output: Answer> Job<'_, Output> {
    fn poll_answered(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Output::Value, CallError>>> {
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
        // Answers that are here come first, so that many payloads are sent at once behind them.
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
            // All answers that were asked for are there; payloads are left, whose answers nobody wants.
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
        } else {
            while let Poll::Ready(answer) = job.poll_answer(context) {
                let Some(given) = answer else {
                    job.end();
                    return Poll::Ready(Some(Err(CallError::Closed)));
                };
                let given = given.or_else(|| job.answers.batch.by_ref().flatten().next());
                if let Some(answer) = given {
                    return Poll::Ready(Some(job.take(answer)));
                }
                // Something is complete, so that further payloads can be sent.
                job.progress = true;
                if let Poll::Ready(Err(error)) = job.poll_send(context) {
                    job.end();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        if job.is_complete() {
            job.finish();
            return Poll::Ready(None);
        }
        if job.is_tracked() && lock(&job.inputs).is_unreliable {
            let function = job.called();
            job.end();
            return Poll::Ready(Some(Err(CallError::Completion { function })));
        }
        if !job.is_answer_due() {
            // The payloads, or what is asked before they are sent, have their own time.
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

impl<Output> std::fmt::Debug for Job<'_, Output> {
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
