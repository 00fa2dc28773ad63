//! What a method may take and give: the conversions between payloads and Rust values.
//!
//! [`plain`] has the types of bytes and text; [`json`], [`message_pack`] and [`protobuf`] wrap any
//! value that such a codec knows.

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

/// A type that a method can take as its argument, and a client as its answer.
///
/// Implemented for [`Bytes`] and [`ByteString`](bytestring::ByteString) (views of the message, nothing
/// is copied), `Vec<u8>`, `String` and `()`, and for what a codec reads: [`Protobuf`], and with the
/// features of the same names `Json` and `MessagePack`. Implement it for your own types:
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
    /// Why bytes are not such a value; it should say where in them it went wrong.
    type Error: Into<BoxError>;

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a value. The call then fails, and the component goes on.
    fn from_payload(payload: Bytes) -> Result<Self, Self::Error>;
}

/// A type that a method can give back, and a client can send.
///
/// Implemented for [`Bytes`] and [`ByteString`](bytestring::ByteString) (nothing is copied),
/// `Vec<u8>`, `String`, borrowed bytes and text (copied, unless static memory is wrapped by
/// [`Bytes::from_static`]), and for what a codec writes: [`Protobuf`], and with the features of the same
/// names `Json` and `MessagePack`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payload that can be sent",
    label = "not a payload",
    note = "send `Bytes`, `Vec<u8>`, `String`, `&str`, `&[u8]`, or `Json<T>` or another codec's type, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoPayload {
    /// Why the value cannot be written.
    type Error: Into<BoxError>;

    /// The value as bytes.
    ///
    /// # Errors
    ///
    /// When the value cannot be written. The call then fails, and nothing is sent.
    fn into_payload(self) -> Result<Bytes, Self::Error>;
}

/// The name of a type as a user would write it: without the paths of modules.
pub(crate) fn type_name<T: ?Sized>() -> String {
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

/// What a codec could not read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {position}")]
pub struct PositionedError {
    /// What is wrong.
    pub problem: String,
    /// Bytes from the payload's begin.
    pub position: usize,
}
