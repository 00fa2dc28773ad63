//! The one loop by which inbound parts take requests whose peers wait for an answer.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::context::PartContext;
use super::intake::{handle_feedback, scatter};
use crate::failure::chain;
use crate::flow::flow_of;
use crate::message::Message;
use crate::part::{InboundHooks, Outlet};
use crate::socket::{Frames, SocketClosed};

/// The most requests that wait for an answer at once. Further ones wait in the socket.
const MAX_REQUESTS: usize = 1000;

/// How long an answer may take where nothing else is said.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a request without a result.
const NO_ANSWER: Bytes = Bytes::from_static(b"0");

/// A source of requests.
pub(super) trait RequestSource: Send {
    type Responder: Respond + Send;

    /// Waits for the next one. Cancel safe.
    fn recv(
        &mut self,
    ) -> impl Future<Output = Result<(Frames, Self::Responder), SocketClosed>> + Send;
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Answered,
    /// It is no message.
    Malformed,
    /// A hook failed on it.
    Failed,
    /// No answer within the timeout.
    TimedOut,
    /// The peer has disconnected.
    Abandoned,
}

/// Where the answer to one request goes.
pub(super) trait Respond {
    /// Sends the answer. Returns `false` if the peer does not read its answers.
    fn respond(self, answer: Bytes, handled: RequestOutcome) -> bool;

    /// Waits until the peer is gone, if that can be known. Cancel safe.
    fn gone(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// The request loop of an inbound part with the hooks `H`.
pub(super) struct RequestLoop<H> {
    pub(super) hooks: H,
    /// How long a request may take once it has been taken.
    pub(super) answer_timeout: Duration,
    pub(super) opened: PartContext,
    pub(super) outlet: Outlet,
}

impl<H: InboundHooks> RequestLoop<H> {
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
            let since = Instant::now();
            let mut message = match decode_request(&frames) {
                Ok(message) => message,
                Err(cause) => {
                    self.opened.counters.count_error();
                    tracing::warn!("a peer sent a malformed request: {cause}");
                    self.answer(NO_ANSWER, RequestOutcome::Malformed, responder);
                    continue;
                }
            };
            if H::SCATTERS {
                let context = &self.opened.context;
                let flow = flow_of(&message);
                let answer = scatter(&mut self.hooks, context, message, flow, &outlet, since);
                let (answer, handled) = match timeout(self.answer_timeout, answer).await {
                    Ok(Ok(answer)) => (answer, RequestOutcome::Answered),
                    Ok(Err(())) => (NO_ANSWER, RequestOutcome::Failed),
                    Err(_) => (NO_ANSWER, RequestOutcome::TimedOut),
                };
                self.answer(answer, handled, responder);
            } else {
                message.ensure_id();
                // A worker that is killed answers nothing, and would otherwise keep its place for ever.
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
        handle_feedback(&mut self.hooks, &feedback);
        let hook = AssertUnwindSafe(|| self.hooks.reply_feedback(feedback));
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
