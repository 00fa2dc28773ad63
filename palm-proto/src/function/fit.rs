//! Which values can be sent to a function, which answers can be read, and which steps fit each other.

use bytes::Bytes;
use bytestring::ByteString;

use crate::failure::BoxError;
#[cfg(feature = "json")]
use crate::payload::Json;
#[cfg(feature = "messagepack")]
use crate::payload::MessagePack;
use crate::payload::{FromPayload, IntoPayload, Protobuf};

/// What a function takes of which nothing is known but its name: any payload.
#[derive(Debug)]
pub enum Untyped {}

/// What a function gives that returns nothing: no answer comes, so it cannot be waited for.
/// `Client::send` calls such a function.
#[derive(Debug)]
pub enum NoAnswer {}

/// A value that can be sent to a function that takes `Input`.
///
/// That is an `Input`, any payload for [`Untyped`], what has the same bytes (`&str` for a `String`),
/// and the value itself, owned or borrowed, for a codec's type (`T` for `Json<T>`).
#[diagnostic::on_unimplemented(
    message = "the function takes `{Input}`, and this is `{Self}`",
    label = "not what the function takes",
    note = "pass the type that the method takes, or what a codec's type wraps: `T` for `Json<T>`"
)]
pub trait Argument<Input> {
    /// The value as bytes.
    ///
    /// # Errors
    ///
    /// When the value cannot be written.
    fn into_argument(self) -> Result<Bytes, BoxError>;
}

/// What a function gives, as the type that its caller gets.
#[diagnostic::on_unimplemented(
    message = "an answer of the type `{Self}` cannot be read",
    label = "this answer cannot be read",
    note = "a function that returns nothing has no answer to wait for: call it with `client.send(..)`",
    note = "for a type of your own, implement `palm::FromPayload`, or return `Json<T>` or another codec's type"
)]
pub trait Answer {
    /// What the caller gets. For borrowed text and bytes, these owned.
    type Value;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a value.
    fn read(payload: Bytes) -> Result<Self::Value, BoxError>;
}

impl<T: FromPayload> Answer for T {
    type Value = T;

    fn read(payload: Bytes) -> Result<T, BoxError> {
        T::from_payload(payload).map_err(Into::into)
    }
}

impl Answer for &'static str {
    type Value = String;

    fn read(payload: Bytes) -> Result<String, BoxError> {
        String::read(payload)
    }
}

impl Answer for &'static [u8] {
    type Value = Bytes;

    fn read(payload: Bytes) -> Result<Bytes, BoxError> {
        Ok(payload)
    }
}

impl<const N: usize> Answer for &'static [u8; N] {
    type Value = Bytes;

    fn read(payload: Bytes) -> Result<Bytes, BoxError> {
        Ok(payload)
    }
}

/// A `Result` behind an alias, where a macro does not see it.
impl<T: Answer, E> Answer for Result<T, E> {
    type Value = T::Value;

    fn read(payload: Bytes) -> Result<T::Value, BoxError> {
        T::read(payload)
    }
}

/// An `Option` behind an alias, where a macro does not see it.
impl<T: Answer> Answer for Option<T> {
    type Value = T::Value;

    fn read(payload: Bytes) -> Result<T::Value, BoxError> {
        T::read(payload)
    }
}

/// What a step gives that the next one, which takes `Input`, can be given.
#[diagnostic::on_unimplemented(
    message = "these two steps do not fit: the first gives `{Self}`, and the next one takes `{Input}`",
    label = "the step in the brackets takes `{Input}`, the one before gives `{Self}`",
    note = "let one method take exactly what the other gives, or put a step between that turns the one into the other"
)]
pub trait Feeds<Input> {}

impl<T: IntoPayload> Argument<T> for T {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        self.into_payload().map_err(Into::into)
    }
}

impl<T: IntoPayload> Argument<Untyped> for T {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        self.into_payload().map_err(Into::into)
    }
}

/// Nothing, for a method that takes nothing.
#[diagnostic::do_not_recommend]
impl Argument<()> for () {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        Ok(Bytes::new())
    }
}

#[diagnostic::do_not_recommend]
impl Argument<Untyped> for () {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        Ok(Bytes::new())
    }
}

impl<T> Feeds<T> for T {}

/// Nobody takes it. If there were only the implementation above, rustc would report two types that
/// differ in the place of what is wrong.
#[diagnostic::do_not_recommend]
impl Feeds<std::convert::Infallible> for NoAnswer {}

impl<T: IntoPayload> Feeds<Untyped> for T {}

/// A method that takes nothing looks at no payload.
impl<T: IntoPayload> Feeds<()> for T {}

/// `From => To`: the bytes of one are always those of the other.
macro_rules! same_bytes {
    ($($from:ty => $($to:ty),+;)+) => {$($(
        #[diagnostic::do_not_recommend]
        impl Argument<$to> for $from {
            fn into_argument(self) -> Result<Bytes, BoxError> {
                self.into_payload().map_err(Into::into)
            }
        }

        #[diagnostic::do_not_recommend]
        impl Feeds<$to> for $from {}
    )+)+};
}

same_bytes! {
    Bytes => Vec<u8>;
    ByteString => Bytes, Vec<u8>, String;
    Vec<u8> => Bytes;
    String => Bytes, Vec<u8>, ByteString;
    &str => Bytes, Vec<u8>, String, ByteString;
    &[u8] => Bytes, Vec<u8>;
}

#[diagnostic::do_not_recommend]
impl<const N: usize> Argument<Bytes> for &[u8; N] {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        self.into_payload().map_err(Into::into)
    }
}

#[diagnostic::do_not_recommend]
impl<const N: usize> Argument<Vec<u8>> for &[u8; N] {
    fn into_argument(self) -> Result<Bytes, BoxError> {
        self.into_payload().map_err(Into::into)
    }
}

/// The value itself in the place of the codec's type, and a codec's type as bytes.
macro_rules! codec {
    ($codec:ident, $bound:path) => {
        #[diagnostic::do_not_recommend]
        impl<T: $bound> Argument<$codec<T>> for T {
            fn into_argument(self) -> Result<Bytes, BoxError> {
                $codec::write(&self).map_err(Into::into)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<T: $bound> Argument<$codec<T>> for &T {
            fn into_argument(self) -> Result<Bytes, BoxError> {
                $codec::write(self).map_err(Into::into)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<T> Feeds<Bytes> for $codec<T> {}
        #[diagnostic::do_not_recommend]
        impl<T> Feeds<Vec<u8>> for $codec<T> {}
    };
}

codec!(Protobuf, prost::Message);
#[cfg(feature = "json")]
codec!(Json, serde::Serialize);
#[cfg(feature = "messagepack")]
codec!(MessagePack, serde::Serialize);
