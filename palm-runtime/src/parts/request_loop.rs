//! The request loop of inbound parts whose peers wait for an answer.
//!
//! [`RequestLoop::run`] receives requests from a [`RequestSource`], sends them to the outlet, and answers each exactly
//! once through its [`Respond`]er: with the router's answer, or with `0` if there is none within the timeout.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::context::PartContext;
use super::receive_loop::{handle_feedback, scatter};
use crate::clock;
use crate::failure::chain;
use crate::flow::flow_of;
use crate::message::Message;
use crate::part::{AnyInboundHooks, Outlet};
use crate::socket::{Frames, SocketClosed};

/// Maximum number of requests that wait for an answer at once. Further requests wait in the socket.
const MAX_REQUESTS: usize = 1000;

/// The default timeout of an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a request without a result.
const NO_ANSWER: Bytes = Bytes::from_static(b"0");

/// A source of requests.
pub(super) trait RequestSource: Send {
    type Responder: Respond + Send;

    /// Waits for the next request. Cancel safe.
    fn recv(
        &mut self,
    ) -> impl Future<Output = Result<(Frames, Self::Responder), SocketClosed>> + Send;
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Answered,
    /// The request is not a message.
    Malformed,
    /// A hook failed.
    Failed,
    /// No answer within the timeout.
    TimedOut,
    /// The peer has disconnected.
    Abandoned,
}

/// Sends the answer to one request.
pub(super) trait Respond {
    /// Sends the answer. Returns `false` if the peer does not read its answers.
    fn respond(self, answer: Bytes, handled: RequestOutcome) -> bool;

    /// Waits until the peer has disconnected, if that is known. Cancel safe.
    fn gone(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// The request loop of an inbound part.
pub(super) struct RequestLoop {
    pub(super) hooks: AnyInboundHooks,
    /// Limit on the time that a request waits for its answer after it was received.
    pub(super) answer_timeout: Duration,
    pub(super) opened: PartContext,
    pub(super) outlet: Outlet,
}

impl RequestLoop {
    /// Receives requests until the component stops, and waits for the answers to those that it has.
    pub(super) async fn run<R: RequestSource>(
        mut self,
        requests: &mut R,
    ) -> Result<(), SocketClosed> {
        let outlet = self.outlet.clone();
        let mut waiting = FuturesUnordered::new();
        while outlet.remaining() > 0 {
            let (frames, responder) = tokio::select! {
                biased;
                () = outlet.stopped() => break,
                Some((answer, handled, responder)) = waiting.next() => {
                    self.answer(answer, handled, responder);
                    continue;
                }
                request = requests.recv(), if waiting.len() < MAX_REQUESTS => request?,
            };
            let mut responder = responder;
            outlet.take_remaining(1);
            let bytes = frames.iter().map(Bytes::len).sum();
            self.opened.counters.count(1, bytes);
            let since = clock::now();
            let mut message = match decode_request(&frames) {
                Ok(message) => message,
                Err(cause) => {
                    self.opened.counters.count_error();
                    tracing::warn!("a peer sent a malformed request: {cause}");
                    self.answer(NO_ANSWER, RequestOutcome::Malformed, responder);
                    continue;
                }
            };
            if self.hooks.scatters() {
                let context = &self.opened.context;
                let flow = flow_of(&message);
                let hooks = &mut self.hooks;
                let answer = scatter(hooks, context, message, flow, &outlet, since);
                let (answer, handled) = match timeout(self.answer_timeout, answer).await {
                    Ok(Ok(answer)) => (answer, RequestOutcome::Answered),
                    Ok(Err(())) => (NO_ANSWER, RequestOutcome::Failed),
                    Err(_) => (NO_ANSWER, RequestOutcome::TimedOut),
                };
                self.answer(answer, handled, responder);
            } else {
                message.ensure_id();
                // A killed worker never answers, so without the timeout its requests would fill `MAX_REQUESTS`.
                let answer = timeout(self.answer_timeout, outlet.send_since(message, since));
                waiting.push(async move {
                    let (answer, handled) = tokio::select! {
                        biased;
                        answer = answer => match answer {
                            Ok(answer) => (answer, RequestOutcome::Answered),
                            Err(_) => (NO_ANSWER, RequestOutcome::TimedOut),
                        },
                        // Dropping the answer's receiver cancels the call.
                        () = responder.gone() => (NO_ANSWER, RequestOutcome::Abandoned),
                    };
                    (answer, handled, responder)
                });
            }
        }
        while let Some((answer, handled, responder)) = waiting.next().await {
            self.answer(answer, handled, responder);
        }
        Ok(())
    }

    fn answer(&mut self, feedback: Bytes, handled: RequestOutcome, responder: impl Respond) {
        if handled == RequestOutcome::TimedOut {
            self.opened.counters.count_error();
            let waited = self.answer_timeout;
            tracing::warn!("answering a request with `0`: no result within {waited:?}");
        }
        if handled == RequestOutcome::Abandoned {
            return;
        }
        let hooks = &mut self.hooks;
        handle_feedback(hooks, &feedback);
        let hook = AssertUnwindSafe(|| hooks.reply_feedback(feedback));
        let (answer, handled) = match std::panic::catch_unwind(hook) {
            Ok(answer) => (answer, handled),
            Err(_) => {
                tracing::error!("`reply_feedback` panicked");
                (NO_ANSWER, RequestOutcome::Failed)
            }
        };
        if !responder.respond(answer, handled) {
            self.opened.counters.count_dropped(1);
            tracing::warn!("dropping a reply: the peer does not read its replies");
        }
    }
}

fn decode_request(frames: &[Bytes]) -> Result<Message, String> {
    match frames {
        [frame] => Message::decode(frame.clone()).map_err(|error| chain(&error)),
        frames => Err(format!("it has {} frames instead of one", frames.len())),
    }
}
