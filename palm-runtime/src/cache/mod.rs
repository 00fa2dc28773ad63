//! The key-value store behind the cache service: a trait, kept in memory by default.
//!
//! [`KeyValue`] is what a store must do, [`MemoryStore`] the one that a component has unless it is
//! given another, and [`Cache`] the handle that methods and clients use, whether the store is in
//! this process or behind a `db_address` (`remote`). [`Changes`] is where every store records what
//! happens to its keys, for watchers. What goes over the wire is in `service`, which has the verbs,
//! and `wire`, what the verb `store` says.

mod changes;
mod component;
mod erased;
mod error;
#[cfg(feature = "file-cache")]
mod file;
mod handle;
mod health;
mod memory;
#[cfg(test)]
mod model_test;
mod operations;
mod page;
#[cfg(feature = "redis")]
mod redis;
mod remote;
mod repeated;
pub(crate) mod service;
mod session;
mod store;
mod streams;
mod wire;

pub use changes::{Change, Changes};
pub(crate) use component::ComponentStore;
pub(crate) use erased::ErasedStore;
pub use error::{CacheError, OpenStoreError};
#[cfg(feature = "file-cache")]
pub use file::{FileStore, FileStoreBuilder};
pub use handle::Cache;
pub(crate) use health::CacheHealth;
pub use memory::MemoryStore;
pub use page::{Entry, Page, PageLimits, Position};
#[cfg(feature = "redis")]
pub use redis::{RedisStore, RedisStoreBuilder};
pub use store::{CacheLimits, KeyValue, Swap};
pub use streams::{Scan, Watch};
