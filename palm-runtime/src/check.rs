//! What the expansions call: each function is one step, and its bounds are the rules that a user's
//! types have to keep, so that rustc reports a type that does not at the place where it is written.

use std::pin::pin;

use futures_core::Stream;
use futures_util::StreamExt as _;

use crate::callable::{Call, Emit, Emitted, IntoOutcome, Outcome};
use crate::error::{BoxError, CallFailure};
use crate::message::Message;
use crate::payload::FromPayload;

/// A type that can be a component.
pub fn component<C: Send + Sync + 'static>() {}

/// An error that a method or a hook may return.
#[diagnostic::on_unimplemented(
    message = "a method cannot fail with `{Self}`",
    label = "not an error",
    note = "implement `std::error::Error` for the type, or use `String` or `Box<dyn Error + Send + Sync>`"
)]
pub trait Error: Into<BoxError> {}

impl<E: Into<BoxError>> Error for E {}

/// The failure that an error means.
pub fn failure<E: Error>(error: E) -> CallFailure {
    CallFailure::failed(error.into())
}

/// The outcome of a method that may fail.
pub fn outcome<T: IntoOutcome, E: Error>(result: Result<T, E>) -> Outcome {
    result.into_outcome()
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
