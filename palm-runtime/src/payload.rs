//! What a method may take and give: the conversions between payloads and Rust values.

use std::convert::Infallible;

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::BoxError;

/// A type that a method can take as its argument.
///
/// Implemented for [`Bytes`] and [`ByteString`] (views of the message, nothing is copied),
/// `Vec<u8>`, `String` and `()`. Implement it for your own types:
///
/// ```
/// use bytes::Bytes;
/// use palm_runtime::FromPayload;
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
    message = "`{Self}` is not a payload that a method can take",
    label = "not a payload",
    note = "take `Bytes`, `Vec<u8>`, `String` or `()`, or implement `palm::FromPayload` for the type"
)]
pub trait FromPayload: Sized {
    /// Why bytes are not such a value.
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
/// Implemented for [`Bytes`] and [`ByteString`] (nothing is copied), `Vec<u8>`, `String`, and
/// borrowed bytes and text (copied, unless static memory is wrapped by [`Bytes::from_static`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payload that can be sent",
    label = "not a payload",
    note = "send `Bytes`, `Vec<u8>`, `String`, `&str` or `&[u8]`, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoPayload {
    /// The value as bytes.
    fn into_payload(self) -> Bytes;
}

impl FromPayload for Bytes {
    type Error = Infallible;

    fn from_payload(payload: Bytes) -> Result<Self, Infallible> {
        Ok(payload)
    }
}

impl FromPayload for Vec<u8> {
    type Error = Infallible;

    fn from_payload(payload: Bytes) -> Result<Self, Infallible> {
        Ok(payload.into())
    }
}

impl FromPayload for String {
    type Error = std::string::FromUtf8Error;

    fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
        String::from_utf8(payload.into())
    }
}

impl FromPayload for ByteString {
    type Error = std::str::Utf8Error;

    fn from_payload(payload: Bytes) -> Result<Self, Self::Error> {
        ByteString::try_from(payload)
    }
}

/// Takes any payload and looks at none of it.
impl FromPayload for () {
    type Error = Infallible;

    fn from_payload(_: Bytes) -> Result<Self, Infallible> {
        Ok(())
    }
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Bytes {
        self
    }
}

impl IntoPayload for ByteString {
    fn into_payload(self) -> Bytes {
        self.into_bytes()
    }
}

impl IntoPayload for Vec<u8> {
    fn into_payload(self) -> Bytes {
        self.into()
    }
}

impl IntoPayload for String {
    fn into_payload(self) -> Bytes {
        self.into()
    }
}

impl IntoPayload for &str {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoPayload for &[u8] {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoPayload for &[u8; N] {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}
