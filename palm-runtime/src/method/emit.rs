//! [`Emit`], into which hooks yield messages, and the traits of what hooks can return.

use bytestring::ByteString;
use futures_core::future::BoxFuture;

use crate::failure::{BoxError, CallFailure};
use crate::message::Message;

/// What a `handle_stream` hook can return: a topic and the message, or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "`handle_stream` cannot return `{Self}`",
    label = "not a topic and a message",
    note = "return `(topic, message)`, the topic as `&'static str` or `String`, or a `Result` of that"
)]
pub trait IntoPublication {
    /// Returns the topic and the message to publish.
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

/// What a hook of a part can return: messages, one, none, or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "a hook cannot return `{Self}`",
    label = "not messages",
    note = "return `Message`, `Vec<Message>`, `Option<Message>`, nothing, an iterator or a stream of `Message`, or a `Result` of these"
)]
pub trait IntoMessages {
    /// Returns the messages.
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

/// Receives the messages that `scatter` and `gather` yield.
pub struct Emit<'a>(&'a mut dyn EmitQueue);

/// A bounded queue: `send` waits for capacity.
pub(crate) trait EmitQueue: Send {
    fn send(&mut self, message: Message) -> BoxFuture<'_, ()>;
}

impl<'a> Emit<'a> {
    pub(crate) fn new(queue: &'a mut dyn EmitQueue) -> Self {
        Self(queue)
    }

    /// Yields one message. Waits for capacity downstream.
    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await;
    }
}

impl std::fmt::Debug for Emit<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Emit")
    }
}
