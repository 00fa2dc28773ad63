//! The key-value cache of a component.
//!
//! [`KeyValue`] is the interface of a store. The stores are [`MemoryStore`], which is the default, `FileStore` and
//! `RedisStore`. [`Cache`] is the handle that methods and clients use, for a store in this process or, through
//! `remote`, for one behind the `db_address` of another component. [`ChangeLog`] is the log of changes that each store
//! keeps for watchers.
//!
//! A request of a peer passes through `service` (the verbs of the protocol), `operations` (the operations of the verb
//! `store`, encoded by `wire`), and `ComponentStore`, which overlays the component's own keys on its store.

mod change_log;
mod erased;
mod error;
#[cfg(feature = "file-cache")]
mod file;
mod handle;
mod health;
mod idempotency;
mod memory;
#[cfg(test)]
mod model_test;
mod operations;
mod overlay;
mod page;
#[cfg(feature = "redis")]
mod redis;
mod remote;
pub(crate) mod service;
mod service_error;
mod session;
mod store;
mod streams;
mod wire;

pub use change_log::{Change, ChangeLog};
pub(crate) use erased::ErasedStore;
pub use error::{CacheError, OpenStoreError};
#[cfg(feature = "file-cache")]
pub use file::{FileStore, FileStoreBuilder};
pub use handle::Cache;
pub(crate) use health::CacheHealth;
pub use memory::MemoryStore;
pub(crate) use overlay::ComponentStore;
pub use page::{Entry, Page, PageLimits, Position};
#[cfg(feature = "redis")]
pub use redis::{RedisStore, RedisStoreBuilder};
pub use store::{CacheLimits, KeyValue, Swap};
pub use streams::{Scan, Watch};
