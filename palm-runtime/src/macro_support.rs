//! What the expansions call: each function is one step, and its bounds are the rules that a user's
//! types have to keep, so that rustc reports a type that does not at the place where it is written.

use std::fmt::Display;
use std::marker::PhantomData;
use std::pin::pin;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;

use crate::executor::Call;
use crate::failure::{BoxError, CallFailure};
use crate::message::Message;
use crate::method::{Emit, Emitted, IntoOutcome, Outcome};
use crate::payload::FromPayload;

/// A type that can be a component.
pub fn component<C: Send + Sync + 'static>() {}

/// An error that a method or a hook may return, if nothing better is known of it.
#[diagnostic::on_unimplemented(
    message = "a method cannot fail with `{Self}`",
    label = "not an error",
    note = "implement `std::error::Error` or `std::fmt::Display` for the type, or use `String` or `Box<dyn Error + Send + Sync>`"
)]
pub trait Displayable: Display {}

impl<E: Display> Displayable for E {}

/// What is known of the type of an error.
///
/// The expansion calls `(&ErrorKind::of(&error)).kind()`, and method resolution takes the first that
/// fits: the type's own method, then [`PalmKind`], then, which needs one more reference,
/// [`DisplayedKind`].
#[derive(Debug)]
pub struct ErrorKind<E>(PhantomData<E>);

impl<E> ErrorKind<E> {
    /// Of this error.
    pub fn of(_: &E) -> Self {
        Self(PhantomData)
    }
}

impl<E: Into<BoxError>> ErrorKind<E> {
    /// It brings its causes.
    pub fn kind(&self) -> Boxed {
        Boxed
    }
}

/// See [`ErrorKind`].
pub trait PalmKind {
    /// It becomes one of ours.
    fn kind(&self) -> Palm {
        Palm
    }
}

impl<E: Into<crate::error::Error>> PalmKind for ErrorKind<E> {}

/// See [`ErrorKind`].
pub trait DisplayedKind {
    /// It has a text.
    fn kind(&self) -> Displayed {
        Displayed
    }
}

impl<E> DisplayedKind for &ErrorKind<E> {}

/// See [`ErrorKind`].
#[derive(Debug)]
pub struct Boxed;

/// See [`ErrorKind`].
#[derive(Debug)]
pub struct Palm;

/// See [`ErrorKind`].
#[derive(Debug)]
pub struct Displayed;

impl Boxed {
    /// The failure that the error means.
    pub fn failure<E: Into<BoxError>>(self, error: E) -> CallFailure {
        CallFailure::failed(error.into())
    }
}

impl Palm {
    /// The failure that the error means.
    pub fn failure<E: Into<crate::error::Error>>(self, error: E) -> CallFailure {
        CallFailure::failed(error.into().into())
    }
}

impl Displayed {
    /// The failure that the error means.
    pub fn failure<E: Displayable>(self, error: E) -> CallFailure {
        CallFailure::failed(error.to_string().into())
    }
}

/// What a method gives, each turned into an outcome.
pub fn map_iterator<I, F>(results: I, outcome: F) -> std::iter::Map<I::IntoIter, F>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Outcome,
{
    results.into_iter().map(outcome)
}

/// What a method gives, each turned into an outcome.
pub fn map_stream<S, F>(results: S, outcome: F) -> futures_util::stream::Map<S, F>
where
    S: Stream,
    F: FnMut(S::Item) -> Outcome,
{
    results.map(outcome)
}

/// The argument of a call, decoded.
pub fn argument<T: FromPayload + Send>(call: &mut Call) -> Result<T, Outcome> {
    call.argument()
}

/// An `async` method's future.
pub fn future<F: Future + Send>(future: F) -> F {
    future
}

/// Hands on what an iterator yields.
pub fn emit_iterator<I>(call: &mut Call, results: I) -> impl Future<Output = Outcome> + Send
where
    I: IntoIterator<Item: IntoOutcome + Send, IntoIter: Send>,
{
    // Outside of the future, so that only the iterator has to be `Send`, not what it is made from.
    let results = results.into_iter();
    async move {
        for result in results {
            if call.emit(result).await == Emitted::Unwanted {
                break;
            }
        }
        Outcome::Nothing
    }
}

/// Hands on what a stream yields.
pub async fn emit_stream<S>(call: &mut Call, results: S) -> Outcome
where
    S: Stream<Item: IntoOutcome + Send> + Send,
{
    let mut results = pin!(results);
    while let Some(result) = results.next().await {
        if call.emit(result).await == Emitted::Unwanted {
            break;
        }
    }
    Outcome::Nothing
}

/// [`emit_iterator`] for a thread that may block.
pub fn blocking_emit<I>(call: &mut Call, results: I) -> Outcome
where
    I: IntoIterator<Item: IntoOutcome>,
{
    for result in results {
        if call.blocking_emit(result) == Emitted::Unwanted {
            break;
        }
    }
    Outcome::Nothing
}

/// Yields what an iterator yields.
pub fn send_iterator<I>(emit: &mut Emit<'_>, messages: I) -> impl Future<Output = ()> + Send
where
    I: IntoIterator<Item = Message, IntoIter: Send>,
{
    let messages = messages.into_iter();
    async move {
        for message in messages {
            emit.send(message).await;
        }
    }
}

/// Yields what a stream yields.
pub async fn send_stream<S>(emit: &mut Emit<'_>, messages: S)
where
    S: Stream<Item = Message> + Send,
{
    let mut messages = pin!(messages);
    while let Some(message) = messages.next().await {
        emit.send(message).await;
    }
}

/// The body of a message beside the router, read.
pub fn body<T: FromPayload + Send>(body: Bytes) -> Result<T, Outcome> {
    Call::new(body, None, None).argument()
}

/// Yields what a hook returns.
pub async fn send_messages(
    emit: &mut Emit<'_>,
    messages: Result<Vec<Message>, CallFailure>,
) -> Result<(), CallFailure> {
    for message in messages? {
        emit.send(message).await;
    }
    Ok(())
}

/// The failure that a hook's error means.
pub fn failure(error: impl Into<BoxError>) -> CallFailure {
    CallFailure::failed(error.into())
}

/// How a producer ended.
pub fn ended(outcome: Outcome) -> Result<(), BoxError> {
    match outcome {
        Outcome::Failed(failure) => Err(failure.into()),
        Outcome::Payload(_) | Outcome::Nothing => Ok(()),
    }
}
