//! A task at an HTTP worker: from the message that a part upstream sends to the result that is routed on.

use bytes::Bytes;
use parking_lot::Mutex;

use super::HttpError;
use super::post::HttpPoster;
use crate::clock;
use crate::executor::log_failure;
use crate::failure::{CallFailure, FailureKind};
use crate::message::proto::Extensions;
use crate::message::{Deadline, Message};
use crate::metrics::PartCounters;
use crate::part::{Envelope, Outlet};

impl HttpPoster {
    /// Posts one message, and routes on its answer or error.
    pub(super) async fn handle(
        &self,
        envelope: Envelope,
        outlet: &Outlet,
        counters: &PartCounters,
    ) {
        let since = clock::now();
        let Envelope {
            message,
            flow,
            feedback,
            ..
        } = envelope;
        let answer = match self.answer(message.clone()).await {
            Ok(answer) => answer,
            Err(failure) => {
                counters.count_error();
                log_failure(&message, &failure);
                Some(message.failed(&self.component, &failure))
            }
        };
        // The call has no result, and its caller does not ask for an end. Dropping `feedback` answers a waiting part.
        let Some(mut answer) = answer else {
            return;
        };
        if let Some(feedback) = feedback {
            let _ = feedback.send(answer.encode());
        }
        let end = end_of(&mut answer);
        outlet.send_in(answer, flow, since).await;
        if let Some(end) = end {
            outlet.send_in(end, flow, since).await;
        }
    }

    /// Returns the message with its result. If the worker has no result, returns the message with an end if the caller
    /// asks for one, and `None` otherwise.
    async fn answer(&self, mut message: Message) -> Result<Option<Message>, CallFailure> {
        let extensions = message.extensions().unwrap_or_default();
        if extensions.error.is_some() || extensions.end.is_some() {
            return Ok(Some(message));
        }
        let topic = message.client_topic();
        if self.state.cancellations.has(&topic) {
            return Err(CallFailure::cancelled());
        }
        let deadline = Deadline::from_extension(extensions.deadline);
        if deadline.is_some_and(|deadline| deadline.has_passed(clock::wall())) {
            return Err(CallFailure::late());
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.left(clock::wall())).await,
                None => std::future::pending().await,
            }
        };
        let frame = message.encode();
        let last_cause = Mutex::new(None);
        let answer = tokio::select! {
            biased;
            answer = self.post_with_retries(&frame, deadline, &last_cause) => {
                answer.map_err(HttpError::into_failure)?
            }
            () = late => return Err(deadline_exceeded(last_cause)),
            () = self.state.cancellations.cancelled(&topic) => return Err(CallFailure::cancelled()),
        };
        let Some(answer) = answer else {
            if !extensions.wants_end && extensions.share.is_none() {
                return Ok(None);
            }
            message.end(0);
            return Ok(Some(message.with_payload(Bytes::new())));
        };
        // Only the payload and the error are copied: a worker must not change the address of its result.
        if let Some(error) = answer.extensions().and_then(|extensions| extensions.error) {
            message.extend(&Extensions {
                error: Some(error),
                ..Extensions::default()
            });
        }
        Ok(Some(message.with_payload(answer.payload().clone())))
    }
}

/// Returns the error of a call whose deadline has passed, with the cause of its last failed attempt.
fn deadline_exceeded(last_cause: Mutex<Option<String>>) -> CallFailure {
    let last_cause = last_cause.into_inner();
    match last_cause {
        Some(cause) => {
            let error = format!("its deadline has passed; the last attempt failed: {cause}");
            CallFailure::new(FailureKind::DeadlineExceeded, error.into())
        }
        None => CallFailure::late(),
    }
}

/// Marks `answer` as the only result of its call if the caller asks for an end. An error is marked itself. For a result,
/// returns the message that follows it. Only this part knows that an HTTP request has a single answer.
fn end_of(answer: &mut Message) -> Option<Message> {
    // In a call with several steps, earlier steps may have returned several results.
    if answer.function().contains(' ') {
        return None;
    }
    if answer.has_error() {
        answer.end_with_error();
        return None;
    }
    let extensions = answer.extensions()?;
    if !extensions.wants_end || extensions.end.is_some() {
        return None;
    }
    let mut end = answer.clone().with_payload(Bytes::new());
    end.end(1);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_late_call_names_the_cause_of_the_last_attempt() {
        let text = |cause: Option<&str>| {
            let failure = deadline_exceeded(Mutex::new(cause.map(str::to_owned)));
            assert_eq!(failure.kind(), FailureKind::DeadlineExceeded);
            failure.chain()
        };
        assert_eq!(text(None), "its deadline has passed");
        assert_eq!(
            text(Some("connection refused")),
            "its deadline has passed; the last attempt failed: connection refused"
        );
    }
}
