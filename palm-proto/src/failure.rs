//! Failures of calls, the capture of panics, and the text of an error with its causes.
//!
//! All layers use these. The error of one operation is defined next to the operation.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// Any error that a method can return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The error of a call without a result.
#[derive(Debug)]
pub struct CallFailure {
    kind: FailureKind,
    source: BoxError,
}

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The method, a hook or a layer returned an error, or the result cannot be encoded.
    Failed,
    /// The method panicked.
    Panicked,
    /// The component does not have the function, or the message names none.
    UnknownFunction,
    /// The payload is not of the type that the method takes.
    Undecodable,
    /// The caller cancelled the call, or the component stopped.
    Cancelled,
    /// The deadline passed. If the method had not started, it was not called.
    DeadlineExceeded,
    /// No worker or follower was available, or workers were lost with the call.
    Unavailable,
    /// The caller may not make the call: a layer or the method rejected it.
    PermissionDenied,
    /// The component has reached a limit, such as a rate of calls: a layer or the method rejected the call.
    ResourceExhausted,
}

impl FailureKind {
    #[doc(hidden)]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::UnknownFunction => "cannot be called",
            Self::Undecodable => "received a payload that it cannot decode",
            Self::Cancelled => "was cancelled",
            Self::DeadlineExceeded => "did not finish in time",
            Self::Unavailable => "is not available",
            Self::PermissionDenied => "was denied",
            Self::ResourceExhausted => "was rejected at a limit",
        }
    }
}

impl CallFailure {
    /// Returns a failure of this kind. `source` supplies the text that the caller receives.
    pub fn new(kind: FailureKind, source: BoxError) -> Self {
        Self { kind, source }
    }

    /// Returns the failure of a method, hook or layer that returned `source`: that itself if it is a `CallFailure`.
    #[doc(hidden)]
    pub fn failed(source: BoxError) -> Self {
        match source.downcast::<Self>() {
            Ok(failure) => *failure,
            Err(source) => Self::new(FailureKind::Failed, source),
        }
    }

    #[doc(hidden)]
    pub fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let kind = FailureKind::Panicked;
        let source = panic_text(panic).into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn unknown(source: BoxError) -> Self {
        let kind = FailureKind::UnknownFunction;
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn undecodable(expected: String, source: BoxError) -> Self {
        let kind = FailureKind::Undecodable;
        let source = CodecError::decode(expected, source).into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn unencodable(written: String, source: BoxError) -> Self {
        let kind = FailureKind::Failed;
        let source = CodecError::encode(written, source).into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn stopped() -> Self {
        let kind = FailureKind::Cancelled;
        let source = "the component stopped".into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn cancelled() -> Self {
        let kind = FailureKind::Cancelled;
        let source = "its caller cancelled it".into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn late() -> Self {
        let kind = FailureKind::DeadlineExceeded;
        let source = "its deadline has passed".into();
        Self { kind, source }
    }

    /// The call exceeded its maximum runtime.
    #[doc(hidden)]
    pub fn overrun(max_runtime: Duration) -> Self {
        let kind = FailureKind::DeadlineExceeded;
        let source = format!("it exceeded its maximum runtime of {max_runtime:?}").into();
        Self { kind, source }
    }

    #[doc(hidden)]
    pub fn unavailable(source: BoxError) -> Self {
        let kind = FailureKind::Unavailable;
        Self { kind, source }
    }

    /// Returns how the call failed.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Returns the error and all of its causes in one line, from the outermost to the innermost.
    #[doc(hidden)]
    pub fn chain(&self) -> String {
        // The `Display` of a user's error may panic.
        std::panic::catch_unwind(AssertUnwindSafe(|| chain(&*self.source)))
            .unwrap_or_else(|panic| format!("(its text panicked: {})", panic_text(&*panic)))
    }
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.kind.describe())
    }
}

impl std::error::Error for CallFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// A payload that cannot be decoded, or a value that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct CodecError {
    what: String,
    source: BoxError,
}

impl CodecError {
    fn decode(expected: String, source: BoxError) -> Self {
        let what = format!("the payload is not a `{expected}`");
        Self { what, source }
    }

    fn encode(written: String, source: BoxError) -> Self {
        let what = format!("the result, a `{written}`, cannot be encoded");
        Self { what, source }
    }
}

/// Returns an error and all of its causes in one line, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Awaits a call and turns a panic in it into a failure.
pub async fn catch_panic<T>(
    future: impl Future<Output = T>,
    failed: impl FnOnce(CallFailure) -> T,
) -> T {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => failed(CallFailure::panicked(&*panic)),
    }
}

/// Text of a panic's payload.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text: &dyn Display = if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        &"(a value that is not text)"
    };
    text.to_string()
}
