//! The key-value store behind the cache service: a trait, kept in memory by default.
//!
//! [`KeyValue`] is what a store must do, [`MemoryStore`] the one that a component has unless it is
//! given another, and [`Cache`] the handle that methods and clients use, whether the store is in
//! this process or behind a `db_address`. What goes over the wire is in `service`.

mod component;
mod handle;
mod memory;
pub(crate) mod service;
mod store;

pub(crate) use component::ComponentStore;
pub use handle::Cache;
pub use memory::MemoryStore;
pub(crate) use store::ErasedStore;
pub use store::{CacheError, CacheLimits, KeyValue};
