//! Marker traits that decide which values can be sent to a function, which answers can be decoded, and which steps can
//! follow each other. The compile errors of callers come from here.

use bytes::Bytes;
use bytestring::ByteString;

use crate::failure::BoxError;
#[cfg(feature = "json")]
use crate::payload::Json;
#[cfg(feature = "messagepack")]
use crate::payload::MessagePack;
use crate::payload::{FromPayload, IntoPayload, Protobuf};

/// The input type of a function whose types are unknown. It accepts any payload.
#[derive(Debug)]
pub enum Untyped {}

/// The output type of a function that returns nothing.
///
/// Such a function does not answer, so it cannot be awaited. Call it with `Client::send`.
#[derive(Debug)]
pub enum NoAnswer {}

/// A value that can be sent to a function whose argument is an `Input`.
///
/// It is implemented for:
///
/// - `Input` itself;
/// - any payload, if `Input` is [`Untyped`];
/// - types with the same bytes, such as `&str` for `String`;
/// - the value inside a codec's type, owned or borrowed, such as `T` for `Json<T>`.
#[diagnostic::on_unimplemented(
    message = "the function takes `{Input}`, and this is `{Self}`",
    label = "not what the function takes",
    note = "pass the type that the method takes, or the inner type of a codec: `T` for `Json<T>`"
)]
pub trait Argument<Input> {
    /// Encodes the value.
    ///
    /// # Errors
    ///
    /// The codec's error if the value cannot be encoded.
    fn into_argument(self) -> Result<Bytes, BoxError>;
}

/// The output type of a function, as its caller receives it.
#[diagnostic::on_unimplemented(
    message = "an answer of type `{Self}` cannot be decoded",
    label = "this answer cannot be decoded",
    note = "a function that returns nothing has no answer to wait for: call it with `client.send(..)`",
    note = "for a type of your own, implement `palm::FromPayload`, or return `Json<T>` or another codec's type"
)]
pub trait Answer {
    /// The type that the caller receives. Borrowed text and bytes become owned.
    type Value;

    /// Decodes the answer.
    ///
    /// # Errors
    ///
    /// The codec's error if the payload is not such a value.
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

/// A macro cannot see a `Result` behind a type alias.
impl<T: Answer, E> Answer for Result<T, E> {
    type Value = T::Value;

    fn read(payload: Bytes) -> Result<T::Value, BoxError> {
        T::read(payload)
    }
}

/// A macro cannot see an `Option` behind a type alias.
impl<T: Answer> Answer for Option<T> {
    type Value = T::Value;

    fn read(payload: Bytes) -> Result<T::Value, BoxError> {
        T::read(payload)
    }
}

/// The output type of a step, if the next step accepts it as `Input`.
#[diagnostic::on_unimplemented(
    message = "these steps do not match: the first returns `{Self}`, and the next one takes `{Input}`",
    label = "this step takes `{Input}`, but the step before it returns `{Self}`",
    note = "make the method take the type that the other one returns, or insert a step that converts it"
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

/// The argument of a method without parameters.
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

/// Not used by any step. With a single implementation, rustc would report a type mismatch in place of the message
/// above.
#[diagnostic::do_not_recommend]
impl Feeds<std::convert::Infallible> for NoAnswer {}

impl<T: IntoPayload> Feeds<Untyped> for T {}

/// A method without parameters ignores its payload.
impl<T: IntoPayload> Feeds<()> for T {}

/// `From => To`: each encoding of a `From` is an encoding of a `To`.
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

/// Accepts the inner value as argument for the codec's type, and the codec's type as bytes.
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
