//! [`ComponentStore`]: overlays a component's own keys on its store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use super::health::{CacheHealth, StoreOperation};
use super::store::{lifetime, reject_empty};
use super::{
    CacheError, CacheLimits, Change, ChangeLog, ErasedStore, Page, PageLimits, Position, Swap,
};

/// Values that a component computes when they are requested.
pub(crate) trait LiveKeys: Sync {
    /// Returns the value of `key`, computed or stored.
    fn value(
        &self,
        store: &ComponentStore,
        key: &str,
    ) -> impl Future<Output = Result<Option<Bytes>, CacheError>> + Send;
}

/// The store of a component, overlaid by the component's own keys (its configuration).
///
/// The configuration is kept outside of the store, because it ends with the component while a store may be persistent
/// or shared, and because peers that configure themselves from it must be able to rely on it: it is read-only. It
/// hides entries of the store with the same keys. Scans do not return it, and deletion by prefix does not remove it.
///
/// Every operation is observed by [`CacheHealth`].
pub(crate) struct ComponentStore {
    configuration: RwLock<HashMap<String, Bytes>>,
    store: Arc<dyn ErasedStore>,
    limits: CacheLimits,
    health: Arc<CacheHealth>,
}

impl ComponentStore {
    pub(crate) fn new(store: Arc<dyn ErasedStore>, limits: CacheLimits) -> Self {
        Self {
            configuration: RwLock::default(),
            store,
            limits,
            health: Arc::default(),
        }
    }

    /// Returns the health of the store.
    pub(crate) fn health(&self) -> &Arc<CacheHealth> {
        &self.health
    }

    /// Sets keys of the configuration.
    pub(crate) fn configure<V: Into<Bytes>>(&self, keys: impl IntoIterator<Item = (String, V)>) {
        self.configuration
            .write()
            .extend(keys.into_iter().map(|(key, value)| (key, value.into())));
    }

    /// Returns the value of a key of the configuration.
    pub(crate) fn configured(&self, key: &str) -> Option<Bytes> {
        let configuration = self.configuration.read();
        configuration.get(key).cloned()
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        match self.configured(key) {
            Some(value) => Ok(Some(value)),
            None => {
                self.observe(StoreOperation::Read, self.store.get(key))
                    .await
            }
        }
    }

    pub(crate) async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), CacheError> {
        self.check(key, &value)?;
        lifetime(ttl)?;
        let set = self.store.set(key, value, ttl);
        self.observe(StoreOperation::Write, set).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        self.reject_configured(key)?;
        let delete = self.store.delete(key);
        self.observe(StoreOperation::Delete, delete).await
    }

    pub(crate) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        self.check(key, new.as_deref().unwrap_or_default())?;
        lifetime(ttl)?;
        let operation = match new {
            Some(_) => StoreOperation::Write,
            None => StoreOperation::Delete,
        };
        let swap = self.store.compare_and_set(key, expected, new, ttl);
        self.observe(operation, swap).await
    }

    pub(crate) async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        self.check(key, &[])?;
        let add = self.store.add(key, amount);
        self.observe(StoreOperation::Write, add).await
    }

    pub(crate) async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Result<Page, CacheError> {
        let scan = self.store.scan(prefix, after, limits);
        let mut page = self.observe(StoreOperation::Read, scan).await?;
        page.entries
            .retain(|entry| self.configured(&entry.key).is_none());
        Ok(page)
    }

    pub(crate) async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let delete = self.store.delete_prefix(prefix);
        self.observe(StoreOperation::Delete, delete).await
    }

    pub(crate) async fn changes(&self) -> Result<ChangeLog, CacheError> {
        self.observe(StoreOperation::Watch, self.store.changes())
            .await
    }

    async fn observe<T>(
        &self,
        operation: StoreOperation,
        carry_out: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        let result = carry_out.await;
        self.health.observe(operation, result.as_ref().err());
        result
    }

    /// Removes changes of keys that the configuration hides.
    pub(crate) fn retain_visible(&self, changes: &mut Vec<Change>) {
        changes.retain(|change| {
            change
                .key()
                .is_none_or(|key| self.configured(key).is_none())
        });
    }

    fn check(&self, key: &str, value: &[u8]) -> Result<(), CacheError> {
        reject_empty(key)?;
        self.reject_configured(key)?;
        self.limits.check(key, value)
    }

    fn reject_configured(&self, key: &str) -> Result<(), CacheError> {
        match self.configured(key) {
            Some(_) => Err(CacheError::Reserved {
                key: key.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for ComponentStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ComponentStore({:?})", self.configuration)
    }
}
