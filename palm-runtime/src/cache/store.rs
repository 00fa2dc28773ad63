//! What a key-value store must do.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use crate::error::BoxError;

/// A key-value store that a component can put behind its cache service.
///
/// Every method may wait and may fail, so that a store can be a file or a server. Keys and values
/// are within the component's [`CacheLimits`] when they come here.
pub trait KeyValue: Send + Sync + 'static {
    /// The value of `key`; `None` when there is none. An empty value is a value.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, CacheError>> + Send;

    /// Sets `key` to `value`, whether it was there or not.
    fn set(&self, key: &str, value: Bytes) -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Removes `key`, and tells whether it was there.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool, CacheError>> + Send;
}

/// How large what is stored may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Longest key. Default: 1 KiB.
    pub key_bytes: usize,
    /// Largest value. Default: 128 MiB.
    pub value_bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            key_bytes: 1024,
            value_bytes: 128 * 1024 * 1024,
        }
    }
}

impl CacheLimits {
    pub(crate) fn check(&self, key: &str, value: &[u8]) -> Result<(), CacheError> {
        for (what, len, limit) in [
            ("key", key.len(), self.key_bytes),
            ("value", value.len(), self.value_bytes),
        ] {
            if len > limit {
                return Err(CacheError::TooLarge { what, len, limit });
            }
        }
        Ok(())
    }
}

/// Why a cache request was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The key or the value is over the limit.
    #[error("the {what} has {len} bytes, the limit is {limit}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// What it has, in bytes.
        len: usize,
        /// What it may have, in bytes.
        limit: usize,
    },
    /// The store has no room left.
    #[error("the cache is full: {limit} bytes")]
    Full {
        /// What all keys and values together may have, in bytes.
        limit: usize,
    },
    /// The key belongs to the component's own configuration, which peers read and may not change.
    #[error("the key `{key}` is the component's own")]
    Reserved {
        /// The key.
        key: String,
    },
    /// The service at the other end refused; its log says why.
    #[error("the cache service refused to set `{key}`")]
    Refused {
        /// The key.
        key: String,
    },
    /// The service at the other end did not answer in time.
    #[error("no answer from the cache service at `{address}` within {waited:?}")]
    Timeout {
        /// Its `db_address`.
        address: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The component or the client is shut down.
    #[error("the connection to the cache service is closed")]
    Closed,
    /// The value cannot be written.
    #[error("the value cannot be written")]
    Encode(#[source] BoxError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] BoxError),
}

/// [`KeyValue`] behind a pointer.
pub(crate) trait ErasedStore: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>>;
    fn set<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<(), CacheError>>;
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, CacheError>>;
}

impl<S: KeyValue> ErasedStore for S {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        KeyValue::get(self, key).boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<(), CacheError>> {
        KeyValue::set(self, key, value).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, CacheError>> {
        KeyValue::delete(self, key).boxed()
    }
}
