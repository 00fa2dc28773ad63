//! Why a cache request was not carried out, or a store cannot be opened.

use std::time::Duration;

use crate::failure::BoxError;

/// Why a cache request was not carried out. Over the network it is the same error as it is in the
/// component that has the store.
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
    /// A key that is to be set, or added to, is empty.
    #[error("the key is empty: a key has at least one character")]
    EmptyKey,
    /// A time to live of zero.
    #[error("the time to live is zero: to remove a key, delete it")]
    ZeroTtl,
    /// The stored value does not have the checksum that was stored with it: the disk has changed it. The
    /// other keys are not affected.
    #[error("the stored value of `{key}` is damaged, its checksum is wrong: set or delete the key")]
    Damaged {
        /// The key.
        key: String,
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
    /// What was to be added to is no number, see [`KeyValue::add`](crate::KeyValue::add).
    #[error("the value of `{key}` is no whole number")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// The sum does not fit into an `i64`. The value is as it was.
    #[error("the sum is no 64-bit number: `{key}`")]
    Overflow {
        /// The key.
        key: String,
    },
    /// The position is none that the store has given.
    #[error("a scan cannot go on at `{position}`")]
    Position {
        /// The position.
        position: String,
    },
    /// The store, or the service at the other end, cannot do that: a service of pylm, for example,
    /// can get, set and delete.
    #[error("the cache cannot {operation}")]
    Unsupported {
        /// What it was asked for, e.g. `compare and set`.
        operation: String,
    },
    /// The service at the other end refused and does not say why; its log does.
    #[error("the cache service refused to set `{key}`")]
    Refused {
        /// The key.
        key: String,
    },
    /// The service at the other end did not answer in time. The request may have been carried out.
    #[error("no answer from the cache service at `{address}` within {waited:?}")]
    Timeout {
        /// Its `db_address`.
        address: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The service at the other end answered what cannot be read.
    #[error("the answer of the cache service at `{address}` makes no sense")]
    Answer {
        /// Its `db_address`.
        address: String,
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

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Somebody has the file open: another process, or this one. A store that several components
    /// share is opened once and cloned.
    #[error("the cache file `{path}` is already open")]
    InUse {
        /// The file.
        path: String,
    },
    /// The file exists and is empty. A cache file never is, so it was truncated or is not one.
    #[error(
        "the cache file `{path}` is empty: it was truncated, or another program has created it; remove it to \
         begin with an empty cache"
    )]
    Empty {
        /// The file.
        path: String,
    },
    /// The file is not a cache file. It is left as it is.
    #[error("`{path}` is not a cache file but {found}: give the path of another file")]
    Foreign {
        /// The file.
        path: String,
        /// What it is, as far as can be seen.
        found: String,
    },
    /// A server accepted the connection, or did not even do that, and did not answer.
    #[error(
        "{place} did not answer within {waited:?}: check that it runs and that the address is right"
    )]
    Timeout {
        /// The server and its address.
        place: String,
        /// The limit, see `RedisStoreBuilder::connect_timeout`.
        waited: Duration,
    },
    /// The file is none that this version reads.
    #[error("the cache file `{path}` has the format {found}, this version reads {expected}")]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The format that this version reads and writes.
        expected: u64,
    },
    /// The file cannot be opened, or the server not be reached.
    #[error("the store at `{place}` cannot be opened")]
    Open {
        /// The file or the server's address.
        place: String,
        /// What the crate that does it reported.
        #[source]
        source: BoxError,
    },
}
