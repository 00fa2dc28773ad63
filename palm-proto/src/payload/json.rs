//! [`Json`]: payloads as JSON.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CodecError, FromPayload, IntoPayload};

/// A value that is encoded as JSON (RFC 8259). Feature `json`.
///
/// Methods have parameters and results of this type; callers may pass the value itself.
///
/// ```
/// use palm::{FromPayload, IntoPayload, Json};
///
/// let payload = Json(vec![1, 2]).into_payload()?;
/// assert_eq!(payload, "[1,2]");
/// let Json(numbers) = Json::<Vec<u8>>::from_payload(payload)?;
/// assert_eq!(numbers, [1, 2]);
/// let error = Json::<Vec<u8>>::from_payload("[1,\n-2]".into()).unwrap_err();
/// assert!(error.to_string().ends_with("line 2 column 2"));
/// # Ok::<_, palm::CodecError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(
    /// The value.
    pub T,
);

impl<T: DeserializeOwned> FromPayload for Json<T> {
    type Error = CodecError;

    fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
        serde_json::from_slice(&payload)
            .map(Self)
            .map_err(CodecError::new)
    }
}

impl<T: Serialize> IntoPayload for Json<T> {
    type Error = CodecError;

    fn into_payload(self) -> Result<Bytes, Self::Error> {
        Self::write(&self.0)
    }
}

impl<T: Serialize> Json<T> {
    #[doc(hidden)]
    pub fn write(value: &T) -> Result<Bytes, CodecError> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(CodecError::new)
    }
}
