//! Conversions between payloads and the parameters and results of methods.
//!
//! `plain` implements [`FromPayload`] and [`IntoPayload`] for bytes and text. `json`, `message_pack` and
//! `protobuf` have a wrapper for the values of one codec each.

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "messagepack")]
mod message_pack;
mod plain;
mod protobuf;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::failure::BoxError;

#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "messagepack")]
pub use message_pack::MessagePack;
pub use protobuf::Protobuf;

/// A type that a payload converts into: the parameter of a method, or the result that a client receives.
///
/// Implemented for [`Bytes`] and [`ByteString`](bytestring::ByteString) (views of the message, without a copy),
/// `Vec<u8>`, `String` and `()`, and for the codecs [`Protobuf`], `Json` (feature `json`) and `MessagePack` (feature
/// `messagepack`). Implement it for your own types:
///
/// ```
/// use bytes::Bytes;
/// use palm::FromPayload;
///
/// struct Celsius(f64);
///
/// impl FromPayload for Celsius {
///     type Error = Box<dyn std::error::Error + Send + Sync>;
///
///     fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
///         Ok(Self(std::str::from_utf8(&payload)?.trim().parse()?))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payload that can be read",
    label = "not a payload",
    note = "take `Bytes`, `Vec<u8>`, `String`, `()`, or `Json<T>` or another codec's type, or implement `palm::FromPayload` for the type"
)]
pub trait FromPayload: Sized {
    /// The error of a payload that is not a value of this type. Its text should contain the position.
    type Error: Into<BoxError>;

    /// Decodes a payload.
    ///
    /// # Errors
    ///
    /// Fails if the payload is not a value of this type. The call fails, and the component continues.
    fn from_payload(payload: Bytes) -> Result<Self, Self::Error>;
}

/// A type that converts into a payload: the result of a method, or the argument that a client sends.
///
/// Implemented for [`Bytes`] and [`ByteString`](bytestring::ByteString) (without a copy), `Vec<u8>`, `String`,
/// borrowed bytes and text (copied; [`Bytes::from_static`] avoids that for static memory), and for the codecs
/// [`Protobuf`], `Json` (feature `json`) and `MessagePack` (feature `messagepack`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payload that can be sent",
    label = "not a payload",
    note = "send `Bytes`, `Vec<u8>`, `String`, `&str`, `&[u8]`, or `Json<T>` or another codec's type, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoPayload {
    /// The error of a value that cannot be encoded.
    type Error: Into<BoxError>;

    /// Encodes the value.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be encoded. The call fails, and nothing is sent.
    fn into_payload(self) -> Result<Bytes, Self::Error>;
}

/// Returns the name of a type without the paths of modules, as a user writes it.
pub fn type_name<T: ?Sized>() -> String {
    without_paths(std::any::type_name::<T>())
}

fn without_paths(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let (path, others) = rest.split_at(end);
        short.push_str(path.rsplit("::").next().unwrap_or(path));
        let next = others.chars().next();
        short.extend(next);
        rest = &others[next.map_or(0, char::len_utf8)..];
    }
    short
}

/// The error of a codec, such as that of JSON, which its text describes.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CodecError(BoxError);

#[cfg(any(feature = "json", feature = "messagepack"))]
impl CodecError {
    fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

/// The error of a codec that rejects a payload, with the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{problem} at byte {position}")]
pub struct PositionedError {
    /// The codec's error.
    pub problem: String,
    /// In bytes from the start of the payload.
    pub position: usize,
}
