//! Payloads of bytes and text.

use std::convert::Infallible;

use bytes::Bytes;
use bytestring::ByteString;

use super::{FromPayload, IntoPayload};

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

/// Ignores the payload.
impl FromPayload for () {
    type Error = Infallible;

    fn from_payload(_: Bytes) -> Result<Self, Infallible> {
        Ok(())
    }
}

impl IntoPayload for Bytes {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(self)
    }
}

impl IntoPayload for ByteString {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(self.into_bytes())
    }
}

impl IntoPayload for Vec<u8> {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(self.into())
    }
}

impl IntoPayload for String {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(self.into())
    }
}

impl IntoPayload for &str {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }
}

impl IntoPayload for &[u8] {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(Bytes::copy_from_slice(self))
    }
}

impl<const N: usize> IntoPayload for &[u8; N] {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(Bytes::copy_from_slice(self))
    }
}
