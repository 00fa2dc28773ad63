//! [`Outcome`]: what a call returned, and the trait of what methods can return.

use bytes::Bytes;

use crate::failure::{BoxError, CallFailure};
use crate::payload::{IntoPayload, type_name};

/// Whether a method with several results should continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// Continue.
    Wanted,
    /// Stop: the component stops, or the results are rejected.
    Unwanted,
}

/// The outcome of a call.
#[derive(Debug)]
pub enum Outcome {
    /// A result.
    Payload(Bytes),
    /// No result, so nothing is sent. Also ends a sequence of results.
    Nothing,
    /// An error, a panic, or an argument that cannot be decoded.
    Failed(CallFailure),
}

/// What a method can return: a payload, nothing (`()` or `None`), or a `Result` of these.
#[diagnostic::on_unimplemented(
    message = "a method cannot return `{Self}`",
    label = "neither a payload nor an `Option` or `Result` of one",
    note = "return `Bytes`, `Vec<u8>`, `String`, `()`, `Option<T>` or `Result<T, E>`, or implement `palm::IntoPayload` for the type"
)]
pub trait IntoOutcome {
    /// Converts the value into the outcome of the call.
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

/// The identity, for values that were converted before.
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
