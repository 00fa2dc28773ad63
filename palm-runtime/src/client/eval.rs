//! [`Eval`]: one call.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::encode::extensions;
use super::in_flight::{CallTopic, PendingCall};
use super::{CallError, Client};
use crate::call_slots::{Deadlock, LendWhilePending};
use crate::clock;
use crate::failure::BoxError;
use crate::function::{Argument, IntoSteps, StepError, Steps};
use crate::link::client::ResendPolicy;
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
    Running(BoxFuture<'a, Result<(Steps, Bytes), CallError>>),
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
        let mut call = match std::mem::replace(&mut self.state, EvalState::Finished) {
            EvalState::Prepared(call) => Box::pin(call.run()) as BoxFuture<'a, _>,
            EvalState::Running(call) => call,
            EvalState::Finished => panic!("`Eval` was polled after it had returned its answer"),
        };
        let Poll::Ready(result) = call.as_mut().poll(context) else {
            self.state = EvalState::Running(call);
            return Poll::Pending;
        };
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

    /// Makes the call, through the layers of the client if it has any. Returns the steps and the payload of the answer.
    async fn run(self) -> Result<(Steps, Bytes), CallError> {
        match &self.client.0.layers {
            None => self.exchange().await,
            // Boxed, so that calls of clients without layers need no memory for it.
            Some(layers) => Box::pin(self.run_layered(layers)).await,
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
        // Boxed, so that calls that are not traced need no memory for it.
        let exchange = Box::pin(self.exchange_in(&span)).instrument(span.clone());
        let exchanged = exchange.await;
        let end = SpanEnd {
            worked: clock::since(begun),
            failure: exchanged.as_ref().err(),
        };
        trace::finish(&span, end);
        exchanged
    }

    async fn exchange_in(self, span: &Span) -> Result<(Steps, Bytes), CallError> {
        let (sender, answer) = oneshot::channel();
        // Register the call before sending: the answer can arrive before `send` returns.
        let call = PendingCall::Single(sender, None);
        let mut topic = self.client.0.answers.register(call);
        span.record("call", &*topic.text);
        let waited = self.timeout;
        let timeout = self.timeout;
        let client = &self.client.0;
        let begun = Instant::now();
        self.check().await?;
        self.find_route().await?;
        let timeout = timeout.saturating_sub(begun.elapsed());
        let share = client.tracks_completion.then(|| Share::from_input(0));
        let (steps, frame) = self.frame(
            &topic,
            Some(Deadline::after(timeout, clock::wall())),
            share,
            span,
        )?;
        topic.set_awaited(true);
        let resend = client.resend(&steps, share.is_some());
        let is_tracked = resend == ResendPolicy::BySender;
        if share.is_some() {
            client
                .answers
                .track(&topic, is_tracked.then(|| frame.clone()));
        }
        let exchange = async {
            let sent = client
                .transport
                .send_call(resend, steps.text(), frame)
                .await;
            sent.map_err(|_| CallError::Closed)?;
            let answer = answer.await.map_err(|_| CallError::Closed)?;
            topic.set_answered();
            let none = || CallError::NoAnswer {
                function: steps.to_string(),
            };
            answer.ok_or_else(none)?.map_err(|error| *error)
        };
        let callee = steps.iter().next().map_or("", |step| step.server);
        // The exchange borrows the steps, so it ends before they are returned.
        let result = {
            let exchange = pin!(exchange);
            tokio::time::timeout(timeout, LendWhilePending::new(callee, exchange)).await
        };
        match result {
            Ok(Ok(Ok(payload))) => Ok((steps, payload)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(Deadlock)) => Err(CallError::deadlock(&steps)),
            Err(_) => Err(CallError::timeout(&steps, waited, client.wait_cause())),
        }
    }

    /// Sends the message without waiting for an answer.
    pub(super) async fn send(self) -> Result<(), CallError> {
        let (ignored, _) = oneshot::channel();
        let call = PendingCall::Single(ignored, None);
        let topic = self.client.0.answers.register(call);
        let timeout = self.timeout;
        self.check().await?;
        let transport = &self.client.0.transport;
        // No caller waits, so the message has no deadline.
        let client = &self.client.0;
        let (steps, frame) = self.frame(&topic, None, None, &Span::none())?;
        let resend = client.resend(&steps, false);
        let sent = transport.send_call(resend, steps.text(), frame);
        match tokio::time::timeout(timeout, sent).await {
            Ok(sent) => sent.map_err(|_| CallError::Closed),
            Err(_) => Err(CallError::timeout(&steps, timeout, client.wait_cause())),
        }
    }

    /// Finds the component that runs the last step, unless it is known. Spends at most three quarters of the call's
    /// timeout, and allocates only if a search is needed.
    async fn find_route(&self) -> Result<(), CallError> {
        let routes = &self.client.0.routes;
        match &self.steps {
            Ok(steps) if routes.needs_search(steps) => {
                Box::pin(routes.ensure(steps, self.timeout / 4 * 3)).await
            }
            _ => Ok(()),
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
