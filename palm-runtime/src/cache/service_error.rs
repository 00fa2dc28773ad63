//! Errors of requests to the cache service.

use super::CacheError;

/// Error of a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("the request has {0} frames, expected one")]
    Frames(usize),
    #[error("the request is not a message")]
    Decode(#[from] crate::message::DecodeError),
    #[error("expected `<component>.<verb>` as the function, found `{0}`")]
    NoVerb(String),
    #[error("unknown verb `{0}`, expected get, set or delete")]
    UnknownVerb(String),
    #[error("{0}")]
    Malformed(String),
    #[error("the key is not UTF-8")]
    Key(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Control(#[from] crate::failure::BoxError),
    #[error("the store {0}")]
    Panicked(#[source] crate::failure::CallFailure),
}
