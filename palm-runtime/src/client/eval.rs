//! [`Eval`]: one call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::encode::extensions;
use super::in_flight::CallTopic;
use super::sent_call::{SentCall, UnsentCall};
use super::{CallError, Client};
use crate::clock;
use crate::failure::BoxError;
use crate::function::{Argument, IntoSteps, StepError, Steps};
use crate::message::{Deadline, Headers, Share};
use crate::trace::{self, SpanEnd};

/// One call, created by [`Client::eval`]. Await it to make the call and receive the answer.
#[must_use = "a call is not made until it is awaited"]
pub struct Eval<'a, Value = Bytes> {
    state: EvalState<'a>,
    /// Decodes the answer. It stands for a bound of the `Future`, which rustc would report a second time at `.await`.
    read: fn(Bytes) -> Result<Value, BoxError>,
}

enum EvalState<'a> {
    Prepared(PreparedCall<'a>),
    /// The message could be sent at once, as it nearly always can.
    Sent(SentCall<'a>),
    /// The call waits for something before its message is sent, passes layers, or is traced.
    Boxed(BoxFuture<'a, Result<(Steps, Bytes), CallError>>),
    Finished,
}

impl<'a, Value> Eval<'a, Value> {
    pub(super) fn new(call: PreparedCall<'a>, read: fn(Bytes) -> Result<Value, BoxError>) -> Self {
        Self {
            state: EvalState::Prepared(call),
            read,
        }
    }

    /// Sets how long to wait for the answer. Default: the client's [`timeout`](crate::ClientBuilder::timeout).
    ///
    /// The deadline travels with the message: a component that receives it later does not run the function, and an
    /// async method that still runs when it passes is dropped. The clocks of the hosts have to agree approximately.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let EvalState::Prepared(call) = &mut self.state {
            call.timeout = timeout;
        }
        self
    }

    /// Adds a header to the call. It replaces that of the client, if one is set
    /// ([`ClientBuilder::header`](crate::ClientBuilder::header)).
    pub fn header(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        if let EvalState::Prepared(call) = &mut self.state {
            call.headers.insert(name, value);
        }
        self
    }

    /// Sets the id of the message (its field `cache`). Default, also for an empty one: a generated id.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        if let EvalState::Prepared(call) = &mut self.state {
            call.id = Some(id.into().into());
        }
        self
    }
}

impl<'a, Value> Future for Eval<'a, Value> {
    type Output = Result<Value, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let EvalState::Prepared(_) = &self.state
            && let EvalState::Prepared(call) =
                std::mem::replace(&mut self.state, EvalState::Finished)
        {
            self.state = call.start()?;
        }
        let result = match &mut self.state {
            EvalState::Sent(call) => Pin::new(call).poll(context),
            EvalState::Boxed(call) => call.as_mut().poll(context),
            EvalState::Prepared(_) | EvalState::Finished => {
                panic!("`Eval` was polled after it had returned its answer")
            }
        };
        let Poll::Ready(result) = result else {
            return Poll::Pending;
        };
        self.state = EvalState::Finished;
        let (steps, payload) = result?;
        let answer = (self.read)(payload);
        Poll::Ready(answer.map_err(|source| CallError::decode::<Value>(steps.to_string(), source)))
    }
}

impl<Value> fmt::Debug for Eval<'_, Value> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Eval");
        if let EvalState::Prepared(call) = &self.state {
            debug.field("call", call);
        }
        debug.finish_non_exhaustive()
    }
}

/// Mirrors methods of `Result`, so that a missing `.await` is a compile error that says so.
#[doc(hidden)]
impl<Value> Eval<'_, Value> {
    pub fn unwrap(self) -> Value
    where
        Self: Awaited,
    {
        unreachable!("`Eval` is never `Awaited`")
    }

    pub fn expect(self, _: &str) -> Value
    where
        Self: Awaited,
    {
        unreachable!("`Eval` is never `Awaited`")
    }
}

/// A call that was awaited. No type implements it.
#[diagnostic::on_unimplemented(
    message = "the call is not awaited",
    label = "this is a call, not its result",
    note = "await the call first: `client.eval(..).await`"
)]
pub trait Awaited {}

/// A call before it is made.
#[derive(Debug)]
pub(super) struct PreparedCall<'a> {
    pub(super) client: &'a Client,
    pub(super) steps: Result<Steps, StepError>,
    pub(super) payload: Result<Bytes, BoxError>,
    pub(super) id: Option<ByteString>,
    pub(super) headers: Headers,
    pub(super) timeout: Duration,
}

impl<'a> PreparedCall<'a> {
    pub(super) fn new<S: IntoSteps>(
        client: &'a Client,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Self {
        Self {
            client,
            steps: steps.into_steps(),
            payload: argument.into_argument(),
            id: None,
            headers: client.0.headers.clone(),
            timeout: client.0.timeout,
        }
    }

    /// Sends the message if nothing has to be waited for. Otherwise it is sent by the future that is returned.
    fn start(self) -> Result<EvalState<'a>, CallError> {
        if !self.can_start() {
            return Ok(EvalState::Boxed(Box::pin(self.run())));
        }
        let (timeout, none) = (self.timeout, Span::none());
        let deadline = Instant::now().checked_add(timeout);
        let call = self.encode(deadline, timeout, &none)?;
        Ok(match call.try_send() {
            Ok(sent) => EvalState::Sent(sent),
            Err(unsent) => EvalState::Boxed(Box::pin(async { unsent.send().await?.await })),
        })
    }

    /// Returns whether nothing has to be done before the message is encoded, and the call is not traced.
    fn can_start(&self) -> bool {
        let client = &self.client.0;
        client.layers.is_none()
            && !trace::is_enabled()
            && !client.answers.is_closed()
            && self
                .steps
                .as_ref()
                .is_ok_and(|steps| client.known.has(steps) && !client.routes.needs_search(steps))
    }

    /// Makes the call, through the layers of the client if it has any. Returns the steps and the payload of the answer.
    async fn run(self) -> Result<(Steps, Bytes), CallError> {
        match &self.client.0.layers {
            None => self.exchange().await,
            Some(layers) => self.run_layered(layers).await,
        }
    }

    /// Sends the message, and receives the answer, within a span if a subscriber listens.
    pub(super) async fn exchange(self) -> Result<(Steps, Bytes), CallError> {
        if !trace::is_enabled() {
            return self.exchange_in(&Span::none()).await;
        }
        let steps = self.steps.as_ref();
        let span = trace::call_span(steps.map_or("", |steps| steps.text()));
        let begun = clock::now();
        let exchanged = self.exchange_in(&span).instrument(span.clone()).await;
        let end = SpanEnd {
            worked: clock::since(begun),
            failure: exchanged.as_ref().err(),
        };
        trace::finish(&span, end);
        exchanged
    }

    async fn exchange_in(self, span: &Span) -> Result<(Steps, Bytes), CallError> {
        let begun = Instant::now();
        self.check().await?;
        self.find_route().await?;
        let left = self.timeout.saturating_sub(begun.elapsed());
        let deadline = begun.checked_add(self.timeout);
        self.encode(deadline, left, span)?.send().await?.await
    }

    /// Sends the message without waiting for an answer.
    pub(super) async fn send(self) -> Result<(), CallError> {
        let timeout = self.timeout;
        self.check().await?;
        // No caller waits, so the message has no deadline.
        let client = &self.client.0;
        let topic = client.answers.topic();
        let (steps, frame) = self.frame(&topic, None, None, &Span::none())?;
        let resend = client.resend(&steps, false);
        let sent = client.transport.send_call(resend, steps.text(), frame);
        match tokio::time::timeout(timeout, sent).await {
            Ok(sent) => sent.map_err(|_| CallError::Closed),
            Err(_) => Err(CallError::timeout(&steps, timeout, client.wait_cause())),
        }
    }

    /// Finds the component that runs the last step, unless it is known. Spends at most three quarters of the call's
    /// timeout.
    async fn find_route(&self) -> Result<(), CallError> {
        let routes = &self.client.0.routes;
        match &self.steps {
            Ok(steps) => routes.ensure(steps, self.timeout / 4 * 3).await,
            // `frame` reports malformed steps.
            Err(_) => Ok(()),
        }
    }

    /// Fails if the first component does not have the function, or the client is closed.
    async fn check(&self) -> Result<(), CallError> {
        if self.client.0.answers.is_closed() {
            return Err(CallError::Closed);
        }
        match &self.steps {
            Ok(steps) => {
                let check = self.client.0.known.check(steps);
                let checked = tokio::time::timeout(self.timeout, check).await;
                checked.unwrap_or_else(|_| {
                    let cause = self.client.0.wait_cause();
                    Err(CallError::timeout(steps, self.timeout, cause))
                })
            }
            // `frame` reports malformed steps.
            Err(_) => Ok(()),
        }
    }

    /// Encodes the message, as part of the trace of `span`, and registers the call. `left`: the time until `deadline`,
    /// which is `None` if it is too far away to be represented.
    fn encode(
        self,
        deadline: Option<Instant>,
        left: Duration,
        span: &Span,
    ) -> Result<UnsentCall<'a>, CallError> {
        let client = &*self.client.0;
        let waited = self.timeout;
        let topic = client.answers.topic();
        span.record("call", &*topic.text);
        let share = client.tracks_completion.then(|| Share::from_input(0));
        let expires = Deadline::after(left, clock::wall());
        let (steps, frame) = self.frame(&topic, Some(expires), share, span)?;
        let limit = (deadline, waited);
        Ok(UnsentCall::register(client, steps, frame, topic, limit))
    }

    /// Encodes the message, as part of the trace of `span`. Returns the steps and the frame.
    fn frame(
        self,
        topic: &CallTopic,
        deadline: Option<Deadline>,
        share: Option<Share>,
        span: &Span,
    ) -> Result<(Steps, Bytes), CallError> {
        let steps = self.steps?;
        let payload = self
            .payload
            .map_err(|source| CallError::encode(&steps, source))?;
        let id = self.id.as_ref().filter(|id| !id.is_empty());
        let id = id.unwrap_or(&topic.text);
        let mut more = match self.headers.is_empty() {
            true => Vec::new(),
            false => self.headers.encode(),
        };
        if let Some(trace) = trace::outgoing(span) {
            more.extend(trace.encode(0));
        }
        let mut memory = [0; 40];
        let extensions = extensions(deadline, share, &more, &mut memory);
        let (content, _) = self
            .client
            .content(&steps, &topic.text, id, &extensions, &payload)?;
        let frame = self.client.frame(content);
        Ok((steps, frame))
    }
}
