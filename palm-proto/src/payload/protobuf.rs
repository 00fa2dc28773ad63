//! [`Protobuf`]: payloads as protobuf messages.

use std::convert::Infallible;

use bytes::{Buf as _, Bytes};

use super::{FromPayload, IntoPayload, PositionedError};

/// A protobuf message of a type that prost 0.14 generates.
///
/// Methods have parameters and results of this type; callers may pass the message itself. Fields of type [`Bytes`] are
/// views of the payload.
///
/// ```
/// use palm::{FromPayload, IntoPayload, Protobuf};
///
/// // prost implements `Message` for `String`, as a message of one string.
/// let payload = Protobuf("hello".to_owned()).into_payload().unwrap();
/// let Protobuf(text) = Protobuf::<String>::from_payload(payload).unwrap();
/// assert_eq!(text, "hello");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protobuf<T>(
    /// The message.
    pub T,
);

impl<T: prost::Message + Default> FromPayload for Protobuf<T> {
    type Error = PositionedError;

    fn from_payload(mut payload: Bytes) -> Result<Self, Self::Error> {
        let len = payload.len();
        T::decode(&mut payload)
            .map(Self)
            .map_err(|error| PositionedError {
                problem: error.to_string(),
                position: len - payload.remaining(),
            })
    }
}

impl<T: prost::Message> IntoPayload for Protobuf<T> {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Self::write(&self.0)
    }
}

impl<T: prost::Message> Protobuf<T> {
    #[doc(hidden)]
    pub fn write(value: &T) -> Result<Bytes, Infallible> {
        Ok(value.encode_to_vec().into())
    }
}
