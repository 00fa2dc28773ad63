//! The error of a program that uses palm.

use crate::cache::{CacheError, OpenStoreError};
use crate::client::{CallError, ConnectError};
use crate::component_error::{RunError, StartError};
use crate::failure::chain;

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
