//! Errors that several layers share. Those of one operation stand beside it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crate::cache::{CacheError, OpenStoreError};
use crate::callable::panic_text;
use crate::client::{CallError, ConnectError};
use crate::component::{RunError, StartError};

/// Any error, as methods may return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a program that starts components or calls them can run into; each operation has its own
/// error, and all of them become this one by `?`.
///
/// `Debug` prints the error and its causes as a user wants to read them, since that is what `main`
/// prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A component could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A component stopped before it was told to.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A client could not connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call has no result.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A cache request was not carried out.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A store cannot be opened.
    #[error(transparent)]
    OpenStore(#[from] OpenStoreError),
}

impl std::fmt::Debug for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&chain(self))
    }
}

/// A result whose error is [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of a method came to no result.
#[derive(Debug)]
pub struct CallFailure {
    kind: FailureKind,
    source: BoxError,
}

/// In which way a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The method returned an error.
    Failed,
    /// The method panicked.
    Panicked,
    /// There is no such function here, or the message names none.
    UnknownFunction,
    /// The payload is not what the method takes.
    Undecodable,
    /// The caller gave up before the call was done, or the component stopped.
    Cancelled,
    /// The deadline passed before the call was done; a method that was not begun was not called.
    DeadlineExceeded,
    /// Nobody was there to do it until the deadline: a master had no worker.
    Unavailable,
}

impl FailureKind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::UnknownFunction => "cannot be called",
            Self::Undecodable => "got a payload that it cannot read",
            Self::Cancelled => "was cancelled",
            Self::DeadlineExceeded => "was not done in time",
            Self::Unavailable => "is not available",
        }
    }
}

impl CallFailure {
    #[cfg(feature = "http")]
    pub(crate) fn of(kind: FailureKind, source: BoxError) -> Self {
        Self { kind, source }
    }

    pub(crate) fn failed(source: BoxError) -> Self {
        let kind = FailureKind::Failed;
        Self { kind, source }
    }

    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let kind = FailureKind::Panicked;
        let source = panic_text(panic).into();
        Self { kind, source }
    }

    pub(crate) fn unknown(source: BoxError) -> Self {
        let kind = FailureKind::UnknownFunction;
        Self { kind, source }
    }

    pub(crate) fn undecodable(expected: String, source: BoxError) -> Self {
        let kind = FailureKind::Undecodable;
        let source = CodecError::decode(expected, source).into();
        Self { kind, source }
    }

    pub(crate) fn unencodable(written: String, source: BoxError) -> Self {
        let kind = FailureKind::Failed;
        let source = CodecError::encode(written, source).into();
        Self { kind, source }
    }

    pub(crate) fn cancelled() -> Self {
        let kind = FailureKind::Cancelled;
        let source = "the component stopped".into();
        Self { kind, source }
    }

    pub(crate) fn given_up() -> Self {
        let kind = FailureKind::Cancelled;
        let source = "its caller has given up".into();
        Self { kind, source }
    }

    pub(crate) fn late() -> Self {
        let kind = FailureKind::DeadlineExceeded;
        let source = "its deadline has passed".into();
        Self { kind, source }
    }

    /// It has run for as long as it may.
    pub(crate) fn overrun(max_runtime: Duration) -> Self {
        let kind = FailureKind::DeadlineExceeded;
        let source = format!("it ran for longer than the {max_runtime:?} that it may").into();
        Self { kind, source }
    }

    pub(crate) fn unavailable(source: BoxError) -> Self {
        let kind = FailureKind::Unavailable;
        Self { kind, source }
    }

    /// In which way it failed.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The error and all of its causes, from the outermost on, in one line.
    pub(crate) fn chain(&self) -> String {
        // The error is the user's, and its `Display` may do anything.
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

/// Bytes that are no such value, or a value that cannot be bytes.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct CodecError {
    what: String,
    source: BoxError,
}

impl CodecError {
    fn decode(expected: String, source: BoxError) -> Self {
        let what = format!("the payload is no `{expected}`");
        Self { what, source }
    }

    fn encode(written: String, source: BoxError) -> Self {
        let what = format!("the result, a `{written}`, cannot be written");
        Self { what, source }
    }
}

/// An error and all of its causes in one line, as logs want them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
