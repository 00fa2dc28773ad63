//! How the error of a layer becomes the failure of a call.

use std::error::Error;
use std::time::Duration;

use bytestring::ByteString;
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;

use crate::failure::{BoxError, CallFailure, FailureKind};

/// The error of a service of calls: [`CallFailure`] at a component, [`CallError`](crate::CallError) at a client.
pub trait CallServiceError: Error + Send + Sync + Sized + 'static {
    #[doc(hidden)]
    fn from_layer(failure: LayerFailure) -> Self;
}

/// The error that the outermost layer returned.
#[doc(hidden)]
#[derive(Debug)]
pub struct LayerFailure {
    pub(crate) function: ByteString,
    /// Time since the call began.
    pub(crate) waited: Duration,
    pub(crate) error: BoxError,
}

impl CallServiceError for CallFailure {
    fn from_layer(failure: LayerFailure) -> Self {
        match failure.error.downcast::<Self>() {
            Ok(failure) => *failure,
            Err(error) => Self::new(failure_kind(&*error), error),
        }
    }
}

/// Returns the kind that an error or one of its causes has: a [`CallFailure`], or an error of tower's layers.
pub(crate) fn failure_kind(error: &(dyn Error + 'static)) -> FailureKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref::<CallFailure>() {
            return failure.kind();
        } else if error.is::<Elapsed>() {
            return FailureKind::DeadlineExceeded;
        } else if error.is::<Overloaded>() {
            return FailureKind::ResourceExhausted;
        }
        next = error.source();
    }
    FailureKind::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] BoxError);

    fn check(error: impl Into<BoxError>, expected: FailureKind) {
        let failure = |error| LayerFailure {
            function: "a.b".into(),
            waited: Duration::ZERO,
            error,
        };
        let wrapped = Wrapped(error.into());
        assert_eq!(failure_kind(&wrapped), expected);
        let failure = CallFailure::from_layer(failure(wrapped.0));
        assert_eq!(failure.kind(), expected);
    }

    #[test]
    fn failure_has_the_kind_of_its_error_or_of_a_cause() {
        check("text", FailureKind::Failed);
        check(Elapsed::new(), FailureKind::DeadlineExceeded);
        check(Overloaded::new(), FailureKind::ResourceExhausted);
        let denied = CallFailure::new(FailureKind::PermissionDenied, "no token".into());
        check(denied, FailureKind::PermissionDenied);
    }
}
