//! [`MessagePack`]: payloads as MessagePack.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CodecError, FromPayload, IntoPayload, PositionedError};

/// A value that is encoded as MessagePack. Feature `messagepack`.
///
/// Methods have parameters and results of this type; callers may pass the value itself. Structs are maps of field
/// names, so that fields can be added. Arrays and maps have up to 127 levels, as in JSON. See
/// <https://github.com/msgpack/msgpack/blob/master/spec.md>.
///
/// ```
/// use palm::{FromPayload, IntoPayload, MessagePack};
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

/// Levels of arrays and maps, as in serde_json. Deserialization recurses, so a deeper payload could overflow the stack
/// and abort the process. The crate's own limit is higher and does not count variants of enums.
const MAX_DEPTH: usize = 127;

/// Rejects payloads with too many levels. Malformed payloads pass, because deserialization rejects them.
fn check_depth(payload: &[u8]) -> Result<(), PositionedError> {
    // Each level takes a byte.
    if payload.len() <= MAX_DEPTH {
        return Ok(());
    }
    // The number of values that are left on each level.
    let mut levels = vec![1_u64];
    let mut rest = payload;
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        *left -= 1;
        let Some((bytes, values)) = head(&mut rest) else {
            return Ok(());
        };
        let Some(after) = usize::try_from(bytes).ok().and_then(|len| rest.get(len..)) else {
            return Ok(());
        };
        rest = after;
        if values > 0 {
            if levels.len() > MAX_DEPTH {
                return Err(PositionedError {
                    problem: format!("more than {MAX_DEPTH} levels"),
                    position: payload.len() - rest.len(),
                });
            }
            levels.push(values);
        }
    }
    Ok(())
}

/// Reads the marker and the length of a value. Returns how many bytes and how many values follow.
fn head(rest: &mut &[u8]) -> Option<(u64, u64)> {
    let (&marker, after) = rest.split_first()?;
    *rest = after;
    let mut length = |bytes: usize| {
        let (length, after) = rest.split_at_checked(bytes)?;
        *rest = after;
        let digits = length.iter();
        Some(digits.fold(0, |length, &byte| length << 8 | u64::from(byte)))
    };
    Some(match marker {
        0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
        0xc4 | 0xd9 => (length(1)?, 0),
        0xc5 | 0xda => (length(2)?, 0),
        0xc6 | 0xdb => (length(4)?, 0),
        // The type of an extension follows the length.
        0xc7 => (length(1)? + 1, 0),
        0xc8 => (length(2)? + 1, 0),
        0xc9 => (length(4)? + 1, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4..=0xd8 => ((1 << (marker - 0xd4)) + 1, 0),
        0xdc => (0, length(2)?),
        0xdd => (0, length(4)?),
        0xde => (0, 2 * length(2)?),
        0xdf => (0, 2 * length(4)?),
        // Small integers, nil, booleans, and the unused marker.
        _ => (0, 0),
    })
}

impl<T: DeserializeOwned> FromPayload for MessagePack<T> {
    type Error = PositionedError;

    fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
        check_depth(&payload)?;
        let mut rest: &[u8] = &payload;
        let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
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
    type Error = CodecError;

    fn into_payload(self) -> Result<Bytes, Self::Error> {
        Self::write(&self.0)
    }
}

impl<T: Serialize> MessagePack<T> {
    #[doc(hidden)]
    pub fn write(value: &T) -> Result<Bytes, CodecError> {
        rmp_serde::to_vec_named(value)
            .map(Bytes::from)
            .map_err(CodecError::new)
    }
}
