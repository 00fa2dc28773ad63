//! [`CacheError`]: why a cache request failed. [`OpenStoreError`]: why a store cannot be opened.

use std::time::Duration;

use crate::failure::BoxError;

/// Error of a cache request. A client receives the same error as a method of the component that has the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The key or the value is over its limit, see [`CacheLimits`](crate::CacheLimits).
    #[error("the {what} has {len} bytes, the limit is {limit}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// Its length, in bytes.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The key of a write is empty.
    #[error("the key is empty: a key has at least one character")]
    EmptyKey,
    /// The time to live is zero.
    #[error("the time to live is zero: to remove a key, delete it")]
    ZeroTtl,
    /// The stored value does not match its checksum, because the disk has changed it. Other keys are not affected.
    #[error("the stored value of `{key}` is damaged, its checksum is wrong: set or delete the key")]
    Damaged {
        /// The key.
        key: String,
    },
    /// The store is at its limit.
    #[error("the cache is full: {limit} bytes")]
    Full {
        /// The limit on all keys and values together, in bytes.
        limit: usize,
    },
    /// The key is one of the component's own, which peers may only read.
    #[error("the key `{key}` is reserved for the component")]
    Reserved {
        /// The key.
        key: String,
    },
    /// The value to add to is not a number, see [`KeyValue::add`](crate::KeyValue::add).
    #[error("the value of `{key}` is not an integer")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// The sum does not fit into an `i64`. The value is unchanged.
    #[error("the sum does not fit into 64 bits, the value of `{key}` is unchanged")]
    Overflow {
        /// The key.
        key: String,
    },
    /// The store did not issue the position.
    #[error("`{position}` is not a position of a scan")]
    Position {
        /// The position.
        position: String,
    },
    /// The store or the remote service does not support the operation. The service of pylm supports only get, set and
    /// delete.
    #[error("the cache does not support the operation `{operation}`")]
    Unsupported {
        /// The operation, such as `compare and set`.
        operation: String,
    },
    /// A service of pylm rejected the request. Its reply has no cause, but its log may.
    #[error("the cache service rejected the change of `{key}`")]
    Refused {
        /// The key.
        key: String,
    },
    /// The remote service did not answer in time. The operation may have been performed.
    #[error("no answer from the cache service at `{address}` within {waited:?}")]
    Timeout {
        /// The `db_address` of the service.
        address: String,
        /// The timeout.
        waited: Duration,
    },
    /// The reply of the remote service is malformed.
    #[error("the reply of the cache service at `{address}` is malformed")]
    Answer {
        /// The `db_address` of the service.
        address: String,
    },
    /// The component or the client was shut down.
    #[error("the connection to the cache service is closed")]
    Closed,
    /// The value cannot be encoded.
    #[error("the value cannot be encoded")]
    Encode(#[source] BoxError),
    /// The store failed, for example because its disk is full or its server does not answer.
    #[error("the store failed")]
    Store(#[source] BoxError),
}

/// Error of opening a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Another process, or this one, has the file open. To share a store between components, open it once and clone
    /// it.
    #[error("the cache file `{path}` is already open")]
    #[non_exhaustive]
    InUse {
        /// The file.
        path: String,
    },
    /// The file is empty. A cache file never is, so the file was truncated or is not a cache file.
    #[error(
        "the cache file `{path}` is empty: it was truncated, or another program has created it; remove it to \
         begin with an empty cache"
    )]
    #[non_exhaustive]
    Empty {
        /// The file.
        path: String,
    },
    /// The file is not a cache file. It is not changed.
    #[error("`{path}` is not a cache file but {found}: give the path of another file")]
    #[non_exhaustive]
    Foreign {
        /// The file.
        path: String,
        /// A description of its content.
        found: String,
    },
    /// The server did not accept a connection, or did not answer over it, in time.
    #[error(
        "{place} did not answer within {waited:?}: check that it runs and that the address is right"
    )]
    #[non_exhaustive]
    Timeout {
        /// The server and its address.
        place: String,
        /// The timeout, see `RedisStoreBuilder::connect_timeout`.
        waited: Duration,
    },
    /// The file has a format that this version of palm cannot read.
    #[error("the cache file `{path}` has the format {found}, this version reads {expected}")]
    #[non_exhaustive]
    Format {
        /// The file.
        path: String,
        /// The format of the file.
        found: u64,
        /// The format that this version of palm reads and writes.
        expected: u64,
    },
    /// The file cannot be opened, or the server cannot be reached.
    #[error("the store at `{place}` cannot be opened")]
    #[non_exhaustive]
    Open {
        /// The path of the file, or the address of the server.
        place: String,
        /// The cause that the storage engine or the Redis client reports.
        #[source]
        source: BoxError,
    },
}
