//! The functions that expanded code calls.
//!
//! Each function is one step of an expansion. Its bounds are the rules for the user's types, so that rustc reports a
//! type that breaks them where the user wrote it.

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

/// Checks that a type can be a component.
pub fn component<C: Send + Sync + 'static>() {}

/// An error that a method or a hook can return if it is not an [`Error`](std::error::Error).
#[diagnostic::on_unimplemented(
    message = "a method cannot fail with `{Self}`",
    label = "not an error",
    note = "implement `std::error::Error` or `std::fmt::Display` for the type, or use `String` or `Box<dyn Error + Send + Sync>`"
)]
pub trait Displayable: Display {}

impl<E: Display> Displayable for E {}

/// Selects the conversion of an error by its type.
///
/// The expansion calls `(&ErrorKind::of(&error)).kind()`. Method resolution takes the first match: the inherent method,
/// then [`PalmKind`], then [`DisplayedKind`], which needs one more reference (autoref specialization).
#[derive(Debug)]
pub struct ErrorKind<E>(PhantomData<E>);

impl<E> ErrorKind<E> {
    /// Creates the selector for this error.
    pub fn of(_: &E) -> Self {
        Self(PhantomData)
    }
}

impl<E: Into<BoxError>> ErrorKind<E> {
    /// Selects [`Boxed`]: the error keeps its causes.
    pub fn kind(&self) -> Boxed {
        Boxed
    }
}

/// See [`ErrorKind`].
pub trait PalmKind {
    /// Selects [`Palm`]: the error is converted into [`palm::Error`](crate::error::Error).
    fn kind(&self) -> Palm {
        Palm
    }
}

impl<E: Into<crate::error::Error>> PalmKind for ErrorKind<E> {}

/// See [`ErrorKind`].
pub trait DisplayedKind {
    /// Selects [`Displayed`]: the text of the error is kept.
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
    /// Converts the error into a failure.
    pub fn failure<E: Into<BoxError>>(self, error: E) -> CallFailure {
        CallFailure::failed(error.into())
    }
}

impl Palm {
    /// Converts the error into a failure.
    pub fn failure<E: Into<crate::error::Error>>(self, error: E) -> CallFailure {
        CallFailure::failed(error.into().into())
    }
}

impl Displayed {
    /// Converts the error into a failure.
    pub fn failure<E: Displayable>(self, error: E) -> CallFailure {
        CallFailure::failed(error.to_string().into())
    }
}

/// Converts each result of an iterator into an outcome.
pub fn map_iterator<I, F>(results: I, outcome: F) -> std::iter::Map<I::IntoIter, F>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Outcome,
{
    results.into_iter().map(outcome)
}

/// Converts each result of a stream into an outcome.
pub fn map_stream<S, F>(results: S, outcome: F) -> futures_util::stream::Map<S, F>
where
    S: Stream,
    F: FnMut(S::Item) -> Outcome,
{
    results.map(outcome)
}

/// Decodes the argument of a call.
pub fn argument<T: FromPayload + Send>(call: &mut Call) -> Result<T, Outcome> {
    call.argument()
}

/// Checks that the future of an `async` method is `Send`.
pub fn future<F: Future + Send>(future: F) -> F {
    future
}

/// Sends each result of an iterator.
pub fn emit_iterator<I>(call: &mut Call, results: I) -> impl Future<Output = Outcome> + Send
where
    I: IntoIterator<Item: IntoOutcome + Send, IntoIter: Send>,
{
    // Created outside of the future, so that only the iterator must be `Send`, not the value that it is made from.
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

/// Sends each result of a stream.
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

/// Like [`emit_iterator`], for a thread that may block.
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

/// Yields each message of an iterator.
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

/// Yields each message of a stream.
pub async fn send_stream<S>(emit: &mut Emit<'_>, messages: S)
where
    S: Stream<Item = Message> + Send,
{
    let mut messages = pin!(messages);
    while let Some(message) = messages.next().await {
        emit.send(message).await;
    }
}

/// Decodes the body of a message that bypasses the router.
pub fn body<T: FromPayload + Send>(body: Bytes) -> Result<T, Outcome> {
    Call::new(body, None, None).argument()
}

/// Yields the messages that a hook returns.
pub async fn send_messages(
    emit: &mut Emit<'_>,
    messages: Result<Vec<Message>, CallFailure>,
) -> Result<(), CallFailure> {
    for message in messages? {
        emit.send(message).await;
    }
    Ok(())
}

/// Converts the error of a hook into a failure.
pub fn failure(error: impl Into<BoxError>) -> CallFailure {
    CallFailure::failed(error.into())
}

/// Converts the last outcome of a producer into a result.
pub fn ended(outcome: Outcome) -> Result<(), BoxError> {
    match outcome {
        Outcome::Failed(failure) => Err(failure.into()),
        Outcome::Payload(_) | Outcome::Nothing => Ok(()),
    }
}
