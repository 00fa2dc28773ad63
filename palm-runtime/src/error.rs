//! [`Error`], the error of a program that uses palm.

use crate::cache::{CacheError, OpenStoreError};
use crate::client::{CallError, ConnectError};
use crate::component_error::{RunError, StartError};
use crate::failure::chain;

/// The errors of starting components and calling them.
///
/// Each operation has its own error type; `?` converts it into this one.
///
/// `Debug` prints the error and its causes in one line, since that is what an error returned from `main` prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A component could not start.
    #[error(transparent)]
    Start(StartError),
    /// A part of a component failed, or the component did not drain in time.
    #[error(transparent)]
    Run(RunError),
    /// A client could not connect.
    #[error(transparent)]
    Connect(ConnectError),
    /// A call has no result.
    #[error(transparent)]
    Call(CallError),
    /// A cache request failed.
    #[error(transparent)]
    Cache(CacheError),
    /// A store cannot be opened.
    #[error(transparent)]
    OpenStore(OpenStoreError),
}

/// An error of an operation of palm, which has a variant in [`Error`].
///
/// It exists so that the compiler explains a `?` on any other error.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not convert to `palm::Error`, which holds only errors of palm",
    label = "not an error of palm; to return any error, use `Result<_, palm::BoxError>`"
)]
pub trait PalmError {
    fn into_error(self) -> Error;
}

impl<E: PalmError> From<E> for Error {
    fn from(error: E) -> Self {
        error.into_error()
    }
}

macro_rules! palm_errors {
    ($($variant:ident($error:ty);)*) => {
        $(
            impl PalmError for $error {
                fn into_error(self) -> Error {
                    Error::$variant(self)
                }
            }
        )*
    };
}

palm_errors! {
    Start(StartError);
    Run(RunError);
    Connect(ConnectError);
    Call(CallError);
    Cache(CacheError);
    OpenStore(OpenStoreError);
}

impl std::fmt::Debug for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&chain(self))
    }
}

/// A result with [`Error`], unless another error type is specified.
pub type Result<T, E = Error> = std::result::Result<T, E>;
