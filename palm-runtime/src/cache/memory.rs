//! The store that a component has unless it is given another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::{CacheError, KeyValue};

/// Keeps everything in memory, up to a limit in bytes (1 GiB unless told otherwise), and forgets it
/// when the process ends.
#[derive(Debug)]
pub struct MemoryStore {
    limit_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    values: HashMap<String, Bytes>,
    bytes: usize,
}

/// What an entry costs besides its key and value, so that many empty ones are bounded too.
const ENTRY_BYTES: usize = 96;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_limit(1024 * 1024 * 1024)
    }
}

impl MemoryStore {
    /// A store whose keys and values together have at most `limit_bytes`, some bookkeeping for each
    /// included.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Nothing in here panics between two changes that belong together.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl KeyValue for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        Ok(self.entries().values.get(key).cloned())
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), CacheError> {
        let mut entries = self.entries();
        let before = entries.values.get(key).map_or(0, |old| weight(key, old));
        let bytes = entries.bytes - before + weight(key, &value);
        if bytes > self.limit_bytes {
            return Err(CacheError::Full {
                limit: self.limit_bytes,
            });
        }
        entries.bytes = bytes;
        // A view of a larger frame would keep all of the frame in memory.
        entries
            .values
            .insert(key.to_owned(), Bytes::copy_from_slice(&value));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        let mut entries = self.entries();
        match entries.values.remove(key) {
            Some(old) => {
                entries.bytes -= weight(key, &old);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn absent_and_empty_are_told_apart() {
        let store = MemoryStore::default();
        assert_eq!(store.get("k").await.unwrap(), None);
        store.set("k", Bytes::new()).await.unwrap();
        assert_eq!(store.get("k").await.unwrap(), Some(Bytes::new()));
        assert!(store.delete("k").await.unwrap());
        assert!(!store.delete("k").await.unwrap());
    }

    #[tokio::test]
    async fn what_is_deleted_or_replaced_makes_room() {
        let store = MemoryStore::with_limit(250 + ENTRY_BYTES);
        store.set("k", vec![0; 200].into()).await.unwrap();
        store.set("k", vec![1; 240].into()).await.unwrap();
        let full = store.set("other", vec![0; 100].into()).await.unwrap_err();
        assert!(matches!(full, CacheError::Full { .. }));
        store.delete("k").await.unwrap();
        store.set("other", vec![0; 100].into()).await.unwrap();
    }
}
