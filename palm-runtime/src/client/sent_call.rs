//! [`SentCall`]: a call that waits for its answer.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::CallError;
use super::completion::IncompleteInput;
use super::in_flight::{CallTopic, Delivery, PendingCall};
use super::state::ClientState;
use crate::call_slots::{Deadlock, LendWhilePending, SlotLoan};
use crate::function::Steps;
use crate::link::client::ResendPolicy;

/// A call that is registered, and whose message is to be sent.
pub(super) struct UnsentCall<'a> {
    frame: Bytes,
    resend: ResendPolicy,
    call: SentCall<'a>,
}

impl<'a> UnsentCall<'a> {
    /// Registers a call under `topic`, so that its answer is recognised. `limit`: when the call expires, or `None` if
    /// that cannot be represented, and the time that the error names.
    pub(super) fn register(
        client: &'a ClientState,
        steps: Steps,
        frame: Bytes,
        mut topic: CallTopic,
        (deadline, waited): (Option<Instant>, Duration),
    ) -> Self {
        let (sender, answer) = oneshot::channel();
        let tracks = client.tracks_completion;
        let resend = client.resend(&steps, tracks);
        let input = tracks.then(|| {
            let is_kept = resend == ResendPolicy::BySender;
            IncompleteInput::new(is_kept.then(|| frame.clone()))
        });
        topic.register(PendingCall::Single(sender, input));
        topic.set_awaited(true);
        let call = SentCall {
            client,
            steps,
            answer,
            topic,
            deadline,
            waited,
            timer: None,
            loan: SlotLoan::default(),
        };
        Self {
            frame,
            resend,
            call,
        }
    }

    /// Sends the message if the connection has capacity for it.
    #[expect(
        clippy::result_large_err,
        reason = "both variants are a call, and are moved once"
    )]
    pub(super) fn try_send(mut self) -> Result<SentCall<'a>, Self> {
        let transport = &self.call.client.transport;
        match transport.try_send_call(self.resend, self.call.steps.text(), self.frame) {
            Ok(()) => Ok(self.call),
            Err(frame) => {
                self.frame = frame;
                Err(self)
            }
        }
    }

    /// Sends the message. Waits for capacity until the call expires.
    pub(super) async fn send(self) -> Result<SentCall<'a>, CallError> {
        let Self {
            frame,
            resend,
            call,
        } = self;
        let transport = &call.client.transport;
        let sent = {
            let sent = pin!(transport.send_call(resend, call.steps.text(), frame));
            let sent = LendWhilePending::new(callee(&call.steps), sent);
            match call.deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, sent).await,
                None => Ok(sent.await),
            }
        };
        match sent {
            Ok(Ok(Ok(()))) => Ok(call),
            Ok(Ok(Err(_))) => Err(CallError::Closed),
            Ok(Err(Deadlock)) => Err(CallError::deadlock(&call.steps)),
            Err(_) => Err(call.timeout()),
        }
    }
}

/// The answer to a call whose message was sent: the steps and the payload. Dropping it cancels the call.
pub(super) struct SentCall<'a> {
    client: &'a ClientState,
    steps: Steps,
    answer: oneshot::Receiver<Delivery>,
    topic: CallTopic,
    deadline: Option<Instant>,
    waited: Duration,
    /// Fires at the deadline. Created when the call has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// The slot of the call that waits for this one, if that one runs in the called component.
    loan: SlotLoan,
}

impl SentCall<'_> {
    fn timeout(&self) -> CallError {
        CallError::timeout(&self.steps, self.waited, self.client.wait_cause())
    }

    /// Waits for the deadline.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let new = || Box::pin(tokio::time::sleep_until(deadline));
        self.timer.get_or_insert_with(new).as_mut().poll(context)
    }
}

impl Future for SentCall<'_> {
    type Output = Result<(Steps, Bytes), CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let Poll::Ready(answer) = Pin::new(&mut call.answer).poll(context) else {
            if let Err(Deadlock) = call.loan.begin(callee(&call.steps)) {
                return Poll::Ready(Err(CallError::deadlock(&call.steps)));
            }
            ready!(call.poll_deadline(context));
            return Poll::Ready(Err(call.timeout()));
        };
        call.loan.end();
        let answer = answer.map_err(|_| CallError::Closed)?;
        call.topic.set_answered();
        let none = || CallError::NoAnswer {
            function: call.steps.to_string(),
        };
        let payload = answer.ok_or_else(none)?.map_err(|error| *error)?;
        Poll::Ready(Ok((call.steps.clone(), payload)))
    }
}

/// Returns the name of the called component.
fn callee(steps: &Steps) -> &str {
    steps.iter().next().map_or("", |step| step.server)
}
