//! What the macros implement on a user's type, and the executor and the parts call.
//!
//! [`Callable`] is a table of functions with a dispatch; [`Shape`] is the hooks that shape a stream
//! (`scatter`, `gather`, `handle_stream`). Both see the user's value through [`State`], which gives
//! `&self` to many calls at once and `&mut self` to one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::context::Context;
use crate::executor::Emitter;
use crate::failure::{BoxError, CallFailure};
use crate::message::Message;
use crate::payload::{FromPayload, IntoPayload, type_name};

/// One function of a component, as it is listed and dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// The name that it is called by.
    pub name: &'static str,
    /// The first line of its documentation; empty where there is none.
    pub doc: &'static str,
    /// The type of its argument, as written; empty where it takes none.
    pub input: &'static str,
    /// The type of its result, as written; `()` where it gives none.
    pub output: &'static str,
    /// Whether it takes `&self` or `&mut self`.
    pub receiver: Receiver,
    /// How many results a call has.
    pub results: Results,
    /// Whether it asks for the [`Context`] of the call.
    pub takes_context: bool,
    /// Whether a call must not be run twice.
    pub at_most_once: bool,
    /// How long a call may run; then it fails, with [`FailureKind::DeadlineExceeded`].
    ///
    /// [`FailureKind::DeadlineExceeded`]: crate::FailureKind::DeadlineExceeded
    pub max_runtime: Option<Duration>,
}

impl FunctionInfo {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        types: (&'static str, &'static str),
        receiver: Receiver,
        results: Results,
        takes_context: bool,
    ) -> Self {
        let (input, output) = types;
        Self {
            name,
            doc,
            input,
            output,
            receiver,
            results,
            takes_context,
            at_most_once: false,
            max_runtime: None,
        }
    }

    /// A call of it may run for so many milliseconds.
    #[doc(hidden)]
    #[must_use]
    pub const fn max_runtime_ms(mut self, milliseconds: u64) -> Self {
        self.max_runtime = Some(Duration::from_millis(milliseconds));
        self
    }

    /// A call of it must not be run twice.
    #[doc(hidden)]
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }
}

/// How a method takes its component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// `&self`: calls run side by side.
    Shared,
    /// `&mut self`: one call at a time.
    Exclusive,
}

/// How many results a call of a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// At most one.
    One,
    /// An iterator or a stream of them.
    Many,
}

/// A type with functions that can be called from afar. Implemented by the macros.
pub trait Callable: Shape {
    /// Every function, in the order of declaration.
    const FUNCTIONS: &'static [FunctionInfo];

    /// The index in [`FUNCTIONS`](Self::FUNCTIONS) of the function called `name`.
    fn find(name: &str) -> Option<usize>;

    /// Calls function number `index`.
    fn call(
        state: Arc<State<Self>>,
        index: usize,
        call: Call,
    ) -> impl Future<Output = Outcome> + Send + 'static;
}

/// Hooks that shape a stream of messages. Implemented by the macros, with an override for each hook
/// that the user wrote.
pub trait Shape: Sized + Send + Sync + 'static {
    /// The name that the component has unless its builder is told another.
    const NAME: &'static str;

    /// Whether a method or a hook takes `&mut self`, so that access needs a lock.
    const EXCLUSIVE: bool;

    /// Whether `scatter` is overridden. Where a hook is not, the default is taken without a call.
    const SCATTERS: bool = false;

    /// Whether `gather` is overridden.
    const GATHERS: bool = false;

    /// Whether `handle_stream` is overridden.
    const HANDLES_STREAM: bool = false;

    /// Turns an inbound message into those that go on to the workers. Default: the message itself.
    fn scatter(
        state: &State<Self>,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send {
        let _ = (state, context);
        async move {
            emit.send(message).await;
            Ok(())
        }
    }

    /// Turns a worker's result into those that go on to be published. Default: the result itself.
    fn gather(
        state: &State<Self>,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send {
        let _ = (state, context);
        async move {
            emit.send(message).await;
            Ok(())
        }
    }

    /// Says under which topic a message is published. Default: the client's, or the component's own
    /// name and the next stage when it is pipelined, which the publisher knows; so this body is
    /// never run.
    fn handle_stream(
        state: &State<Self>,
        message: Message,
        context: Context,
    ) -> impl Future<Output = Result<(ByteString, Message), CallFailure>> + Send {
        let _ = (state, context);
        let topic = message.client_topic();
        async move { Ok((topic, message)) }
    }
}

/// The user's value, shared between the parts of its component.
#[derive(Debug)]
pub struct State<C>(Access<C>);

#[derive(Debug)]
enum Access<C> {
    Shared(C),
    Locked(RwLock<C>),
}

impl<C: Shape> State<C> {
    /// A value whose methods and hooks parts can call.
    pub fn new(value: C) -> Arc<Self> {
        Arc::new(Self(if C::EXCLUSIVE {
            Access::Locked(RwLock::new(value))
        } else {
            Access::Shared(value)
        }))
    }
}

impl<C> State<C> {
    /// The value for a `&self` method: at once, unless a `&mut self` method runs or waits.
    #[doc(hidden)]
    pub async fn shared(&self) -> Shared<'_, C> {
        match &self.0 {
            Access::Shared(value) => Shared(SharedAccess::Plain(value)),
            Access::Locked(lock) => Shared(SharedAccess::Locked(lock.read().await)),
        }
    }

    /// [`shared`](Self::shared) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_shared(&self) -> Shared<'_, C> {
        match &self.0 {
            Access::Shared(value) => Shared(SharedAccess::Plain(value)),
            Access::Locked(lock) => Shared(SharedAccess::Locked(lock.blocking_read())),
        }
    }

    /// The value for a `&mut self` method, in the order of the calls.
    ///
    /// # Panics
    ///
    /// When the macro declared that there is no such method.
    #[doc(hidden)]
    pub async fn exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().write().await
    }

    /// [`exclusive`](Self::exclusive) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().blocking_write()
    }

    fn lock(&self) -> &RwLock<C> {
        match &self.0 {
            Access::Locked(lock) => lock,
            Access::Shared(_) => {
                panic!("`Shape::EXCLUSIVE` is false, yet a method takes `&mut self`")
            }
        }
    }
}

/// Access to the user's value by `&self`.
#[derive(Debug)]
pub struct Shared<'a, C>(SharedAccess<'a, C>);

#[derive(Debug)]
enum SharedAccess<'a, C> {
    Plain(&'a C),
    Locked(RwLockReadGuard<'a, C>),
}

impl<C> std::ops::Deref for Shared<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        match &self.0 {
            SharedAccess::Plain(value) => value,
            SharedAccess::Locked(guard) => guard,
        }
    }
}

/// One call of a function: its payload, and what a method may ask for besides.
#[derive(Debug)]
pub struct Call {
    payload: Bytes,
    /// Present where [`FunctionInfo::takes_context`].
    context: Option<Context>,
    /// Present where [`Results::Many`].
    results: Option<Emitter>,
}

impl Call {
    pub(crate) fn new(payload: Bytes, context: Option<Context>, results: Option<Emitter>) -> Self {
        Self {
            payload,
            context,
            results,
        }
    }

    /// The argument, decoded.
    #[doc(hidden)]
    pub fn argument<T: FromPayload>(&mut self) -> Result<T, Outcome> {
        T::from_payload(std::mem::take(&mut self.payload)).map_err(|error| {
            Outcome::Failed(CallFailure::undecodable(type_name::<T>(), error.into()))
        })
    }

    /// The context, for a method that asks for it.
    #[doc(hidden)]
    pub fn context(&mut self) -> Context {
        self.context
            .take()
            .expect("the executor gives a function with `takes_context` its context, once")
    }

    /// Hands one of many results on, when there is room. Tells whether anybody still wants more.
    #[doc(hidden)]
    pub async fn emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        self.emitter().emit(result.into_outcome()).await
    }

    /// [`emit`](Self::emit) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        let emit = self.emitter().emit(result.into_outcome());
        tokio::runtime::Handle::current().block_on(emit)
    }

    fn emitter(&mut self) -> &mut Emitter {
        self.results
            .as_mut()
            .expect("the executor gives a function of `Results::Many` a place for them")
    }
}

/// Whether a method with many results should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// Go on.
    Wanted,
    /// The component stops: nobody takes further results.
    Unwanted,
}

/// What a call came to.
#[derive(Debug)]
pub enum Outcome {
    /// A result.
    Payload(Bytes),
    /// No result: nothing is sent on. Also the end of many results.
    Nothing,
    /// An error, a panic, or an argument that does not decode.
    Failed(CallFailure),
}

/// What a method may return: a payload, nothing (`()` or `None`), or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "a method cannot return `{Self}`",
    label = "neither a payload nor an `Option` or `Result` of one",
    note = "return `Bytes`, `Vec<u8>`, `String`, `()`, `Option<T>` or `Result<T, E>`, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoOutcome {
    /// The outcome of the call.
    fn into_outcome(self) -> Outcome;
}

impl<T: IntoPayload> IntoOutcome for T {
    fn into_outcome(self) -> Outcome {
        match self.into_payload() {
            Ok(payload) => Outcome::Payload(payload),
            Err(error) => Outcome::Failed(CallFailure::unencodable(type_name::<T>(), error.into())),
        }
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Nothing
    }
}

/// What has been turned into one already.
impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<T: IntoOutcome> IntoOutcome for Option<T> {
    fn into_outcome(self) -> Outcome {
        self.map_or(Outcome::Nothing, T::into_outcome)
    }
}

impl<T: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::Failed(CallFailure::failed(error.into())),
        }
    }
}

/// What a `handle_stream` may return: a topic and the message, or a `Result` of them.
#[diagnostic::on_unimplemented(
    message = "`handle_stream` cannot return `{Self}`",
    label = "not a topic and a message",
    note = "return `(topic, message)`, the topic as `&'static str` or `String`, or a `Result` of that"
)]
pub trait IntoPublication {
    /// The topic and the message to publish.
    ///
    /// # Errors
    ///
    /// The error that the hook returned.
    fn into_publication(self) -> Result<(ByteString, Message), CallFailure>;
}

impl<T: Into<ByteString>> IntoPublication for (T, Message) {
    fn into_publication(self) -> Result<(ByteString, Message), CallFailure> {
        Ok((self.0.into(), self.1))
    }
}

impl<T: Into<ByteString>, E: Into<BoxError>> IntoPublication for Result<(T, Message), E> {
    fn into_publication(self) -> Result<(ByteString, Message), CallFailure> {
        match self {
            Ok((topic, message)) => Ok((topic.into(), message)),
            Err(error) => Err(CallFailure::failed(error.into())),
        }
    }
}

/// What a hook of a part may return: messages, one, none, or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "a hook cannot return `{Self}`",
    label = "not messages",
    note = "return `Message`, `Vec<Message>`, `Option<Message>`, nothing, an iterator or a stream of `Message`, or a `Result` of these"
)]
pub trait IntoMessages {
    /// The messages.
    ///
    /// # Errors
    ///
    /// The error that the hook returned.
    fn into_messages(self) -> Result<Vec<Message>, CallFailure>;
}

impl IntoMessages for () {
    fn into_messages(self) -> Result<Vec<Message>, CallFailure> {
        Ok(Vec::new())
    }
}

impl IntoMessages for Message {
    fn into_messages(self) -> Result<Vec<Message>, CallFailure> {
        Ok(vec![self])
    }
}

impl IntoMessages for Option<Message> {
    fn into_messages(self) -> Result<Vec<Message>, CallFailure> {
        Ok(self.into_iter().collect())
    }
}

impl IntoMessages for Vec<Message> {
    fn into_messages(self) -> Result<Vec<Message>, CallFailure> {
        Ok(self)
    }
}

impl<T: IntoMessages, E: Into<BoxError>> IntoMessages for Result<T, E> {
    fn into_messages(self) -> Result<Vec<Message>, CallFailure> {
        self.map_err(|error| CallFailure::failed(error.into()))?
            .into_messages()
    }
}

/// Where `scatter` and `gather` put the messages that they yield.
pub struct Emit<'a>(&'a mut dyn EmitQueue);

/// A place with a bound: `send` waits for room.
pub(crate) trait EmitQueue: Send {
    fn send(&mut self, message: Message) -> BoxFuture<'_, ()>;
}

impl<'a> Emit<'a> {
    pub(crate) fn new(queue: &'a mut dyn EmitQueue) -> Self {
        Self(queue)
    }

    /// Yields one message; waits while what comes behind is full.
    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await;
    }
}

impl std::fmt::Debug for Emit<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Emit")
    }
}

/// Runs `function` where it may block, on a thread of tokio's blocking pool.
#[doc(hidden)]
pub async fn blocking(function: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    match tokio::task::spawn_blocking(function).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(match error.try_into_panic() {
            Ok(panic) => CallFailure::panicked(&*panic),
            Err(_) => CallFailure::cancelled(),
        }),
    }
}

/// A component without functions and hooks of its own, only with a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Shape for Plain {
    const NAME: &'static str = "";
    const EXCLUSIVE: bool = false;
}
