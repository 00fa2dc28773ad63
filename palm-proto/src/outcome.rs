//! What methods return, and what becomes of it.

use bytes::Bytes;

use crate::failure::{BoxError, CallFailure};
use crate::payload::{IntoPayload, type_name};

/// Whether a method with many results should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// Go on.
    Wanted,
    /// The component stops: nobody takes further results.
    Unwanted,
}

/// What a call came to.
#[derive(Debug)]
pub enum Outcome {
    /// A result.
    Payload(Bytes),
    /// No result: nothing is sent on. Also the end of many results.
    Nothing,
    /// An error, a panic, or an argument that does not decode.
    Failed(CallFailure),
}

/// What a method may return: a payload, nothing (`()` or `None`), or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "a method cannot return `{Self}`",
    label = "neither a payload nor an `Option` or `Result` of one",
    note = "return `Bytes`, `Vec<u8>`, `String`, `()`, `Option<T>` or `Result<T, E>`, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoOutcome {
    /// The outcome of the call.
    fn into_outcome(self) -> Outcome;
}

impl<T: IntoPayload> IntoOutcome for T {
    fn into_outcome(self) -> Outcome {
        match self.into_payload() {
            Ok(payload) => Outcome::Payload(payload),
            Err(error) => Outcome::Failed(CallFailure::unencodable(type_name::<T>(), error.into())),
        }
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Nothing
    }
}

/// What has been turned into one already.
impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<T: IntoOutcome> IntoOutcome for Option<T> {
    fn into_outcome(self) -> Outcome {
        self.map_or(Outcome::Nothing, T::into_outcome)
    }
}

impl<T: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::Failed(CallFailure::failed(error.into())),
        }
    }
}
