//! A component's keys: its configuration, which peers read, in front of the store.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::{CacheError, CacheLimits, ErasedStore};

/// The configuration of a component and its store.
///
/// The configuration is not in the store: it ends with the component, while a store may last, and
/// nobody can overwrite what clients and workers configure themselves from.
pub(crate) struct ComponentStore {
    configuration: RwLock<BTreeMap<String, Bytes>>,
    store: Arc<dyn ErasedStore>,
    limits: CacheLimits,
}

impl ComponentStore {
    pub(crate) fn new(store: Arc<dyn ErasedStore>, limits: CacheLimits) -> Self {
        Self {
            configuration: RwLock::default(),
            store,
            limits,
        }
    }

    /// Sets what peers are to find.
    pub(crate) fn configure<V: Into<Bytes>>(&self, keys: impl IntoIterator<Item = (String, V)>) {
        let configuration = self.configuration.write();
        configuration
            .unwrap_or_else(PoisonError::into_inner)
            .extend(keys.into_iter().map(|(key, value)| (key, value.into())));
    }

    fn configured(&self, key: &str) -> Option<Bytes> {
        let configuration = self.configuration.read();
        let configuration = configuration.unwrap_or_else(PoisonError::into_inner);
        configuration.get(key).cloned()
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        match self.configured(key) {
            Some(value) => Ok(Some(value)),
            None => self.store.get(key).await,
        }
    }

    pub(crate) async fn set(&self, key: &str, value: Bytes) -> Result<(), CacheError> {
        self.refuse_configured(key)?;
        self.limits.check(key, &value)?;
        self.store.set(key, value).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.refuse_configured(key)?;
        self.store.delete(key).await.map(drop)
    }

    fn refuse_configured(&self, key: &str) -> Result<(), CacheError> {
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
