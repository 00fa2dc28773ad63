//! [`MessagePack`].

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FromPayload, IntoPayload, PositionedError};

/// A value as MessagePack, structs as maps with names, so that they may grow. Feature `messagepack`.
///
/// A method takes and gives it; a caller may pass the value itself. Arrays and maps are read down to
/// 127 levels, as those of JSON are. See
/// <https://github.com/msgpack/msgpack/blob/master/spec.md>.
///
/// ```
/// use palm_runtime::{FromPayload, IntoPayload, MessagePack};
///
/// let payload = MessagePack(vec![1, 2]).into_payload().unwrap();
/// assert_eq!(payload, &b"\x92\x01\x02"[..]);
/// let MessagePack(numbers) = MessagePack::<Vec<u8>>::from_payload(payload).unwrap();
/// assert_eq!(numbers, [1, 2]);
/// let error = MessagePack::<Vec<u8>>::from_payload("\x02".into()).unwrap_err();
/// assert_eq!(error.position, 1);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePack<T>(
    /// The value.
    pub T,
);

/// As serde_json has it. The crate's own default is more than a thread's stack of 2 MB holds, and a
/// payload must not end the process.
const MAX_DEPTH: usize = 128;

impl<T: DeserializeOwned> FromPayload for MessagePack<T> {
    type Error = PositionedError;

    fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
        let mut rest: &[u8] = &payload;
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        deserializer.set_max_depth(MAX_DEPTH);
        let value = T::deserialize(&mut deserializer);
        let at = |problem: String, rest: &[u8]| PositionedError {
            problem,
            position: payload.len() - rest.len(),
        };
        match value {
            Ok(value) if rest.is_empty() => Ok(Self(value)),
            Ok(_) => Err(at("more bytes than the value has".to_owned(), rest)),
            Err(error) => Err(at(error.to_string(), rest)),
        }
    }
}

impl<T: Serialize> IntoPayload for MessagePack<T> {
    type Error = rmp_serde::encode::Error;

    fn into_payload(self) -> Result<Bytes, Self::Error> {
        Self::write(&self.0)
    }
}

impl<T: Serialize> MessagePack<T> {
    pub(crate) fn write(value: &T) -> Result<Bytes, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(value).map(Bytes::from)
    }
}
