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
    /// A cache request failed.
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

/// A result with [`Error`], unless another error type is specified.
pub type Result<T, E = Error> = std::result::Result<T, E>;
