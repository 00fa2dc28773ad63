//! [`MemoryStore`]: the default store, in memory.
//!
//! MemoryEntries are in a `BTreeMap` under one lock, with a second index by expiry. A task, the sweeper, removes expired
//! entries. It exists while any entry has an expiry, and sleeps until the earliest one. LockedEntries to the entries removes
//! some expired ones as well, because the sweeper needs a runtime, which may have shut down.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::page::PageBuilder;
use super::store::{lifetime, sum};
use super::{CacheError, ChangeLog, KeyValue, Page, PageLimits, Position, Swap};
use crate::spawn::spawn_on;

/// Keeps entries in memory, up to a limit in bytes. Default: 1 GiB. Clones share their entries.
///
/// Expired entries are removed when their time has passed, and watchers are notified. A page of a scan is a consistent
/// snapshot, in the byte order of the keys.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<MemoryStoreInner>);

#[derive(Debug)]
struct MemoryStoreInner {
    limit_bytes: usize,
    entries: Mutex<MemoryEntries>,
    changes: ChangeLog,
    /// Wakes the sweeper when an entry expires sooner than the sweeper wakes up.
    sooner: Arc<Notify>,
}

#[derive(Debug, Default)]
struct MemoryEntries {
    values: BTreeMap<ByteString, StoredValue>,
    /// The keys with an expiry, by expiry.
    expiries: BTreeSet<(Instant, ByteString)>,
    bytes: usize,
    /// Exists while keys have an expiry. It runs on the runtime of the caller that set the first of them, and is
    /// replaced when that runtime has ended.
    sweeper: Option<AbortOnDropHandle<()>>,
    /// When the sweeper wakes up by itself.
    sweeper_wakes: Option<Instant>,
}

#[derive(Debug)]
struct StoredValue {
    bytes: Bytes,
    expiry: Option<Instant>,
}

/// Memory of an entry besides its key and value. It bounds the number of empty entries.
const ENTRY_OVERHEAD: usize = 96;

/// Number of keys that are removed at once while the lock is held.
const MAX_BATCH: usize = 1000;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_limit(1024 * 1024 * 1024)
    }
}

impl MemoryStore {
    /// Creates a store whose entries have at most `limit_bytes` together, including about 100 bytes of overhead for each.
    /// The bytes of a key with a time to live count twice.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self(Arc::new(MemoryStoreInner {
            limit_bytes,
            entries: Mutex::default(),
            changes: ChangeLog::new(),
            sooner: Arc::default(),
        }))
    }

    fn set_now(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), CacheError> {
        let mut locked = self.0.lock_entries();
        locked.set(key, value, locked.expiry_after(ttl)?)?;
        self.ensure_sweeper(&mut locked);
        Ok(())
    }

    /// Starts the sweeper, or wakes it up if an entry expires sooner than it expects.
    fn ensure_sweeper(&self, locked: &mut LockedEntries<'_>) {
        let entries = &mut *locked.entries;
        let Some((first, _)) = entries.expiries.first() else {
            return;
        };
        if entries.sweeper_wakes.is_some_and(|wakes| *first < wakes) {
            self.0.sooner.notify_one();
        }
        let sweeper = &mut entries.sweeper;
        if sweeper.as_ref().is_none_or(|sweeper| sweeper.is_finished())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let sweep = sweep(Arc::downgrade(&self.0), self.0.sooner.clone());
            *sweeper = Some(AbortOnDropHandle::new(spawn_on(&runtime, sweep)));
        }
    }
}

/// Removes expired entries, until no entry has an expiry.
async fn sweep(store: Weak<MemoryStoreInner>, sooner: Arc<Notify>) {
    loop {
        let next = {
            let Some(store) = store.upgrade() else {
                return;
            };
            let mut locked = store.lock_entries();
            let next = locked.entries.expiries.first().map(|(end, _)| *end);
            locked.entries.sweeper_wakes = next;
            match next {
                Some(next) => next,
                None => {
                    // The next entry with an expiry starts another sweeper. Dropping the handle aborts this task, which
                    // returns anyway.
                    locked.entries.sweeper = None;
                    return;
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = sooner.notified() => {}
        }
    }
}

impl MemoryStoreInner {
    /// Locks the entries, and removes some of the expired ones. Those that remain count as absent.
    fn lock_entries(&self) -> LockedEntries<'_> {
        let entries = self.entries.lock();
        let mut locked = LockedEntries {
            store: self,
            entries,
            now: Instant::now(),
        };
        locked.remove_expired();
        locked
    }
}

/// The locked entries. `now` is the time at which they were locked, so that an operation sees one time only.
struct LockedEntries<'a> {
    store: &'a MemoryStoreInner,
    entries: MutexGuard<'a, MemoryEntries>,
    now: Instant,
}

impl LockedEntries<'_> {
    fn remove_expired(&mut self) {
        for _ in 0..MAX_BATCH {
            match self.entries.expiries.first() {
                Some((end, key)) if *end <= self.now => {
                    let key = key.clone();
                    self.remove(&key);
                }
                _ => return,
            }
        }
    }

    fn expiry_after(&self, ttl: Option<Duration>) -> Result<Option<Instant>, CacheError> {
        Ok(lifetime(ttl)?.map(|ttl| self.now + ttl))
    }

    fn get(&self, key: &str) -> Option<&StoredValue> {
        self.entries
            .values
            .get(key)
            .filter(|value| value.is_live(self.now))
    }

    fn bytes(&self, key: &str) -> Option<Bytes> {
        self.get(key).map(|value| value.bytes.clone())
    }

    fn set(&mut self, key: &str, value: &[u8], end: Option<Instant>) -> Result<(), CacheError> {
        let before = self
            .entries
            .values
            .get(key)
            .map_or(0, |old| weight(key, old.bytes.len(), old.expiry.is_some()));
        let bytes = self.entries.bytes - before + weight(key, value.len(), end.is_some());
        let limit = self.store.limit_bytes;
        if bytes > limit {
            return Err(CacheError::Full { limit });
        }
        let entries = &mut *self.entries;
        entries.bytes = bytes;
        let key = ByteString::from(key);
        // A slice would keep the whole frame of the request in memory.
        let value = Bytes::copy_from_slice(value);
        self.store.changes.record(key.clone(), Some(value.clone()));
        if let Some(end) = end {
            entries.expiries.insert((end, key.clone()));
        }
        let bytes = value;
        if let Some(StoredValue {
            expiry: Some(old), ..
        }) = entries
            .values
            .insert(key.clone(), StoredValue { bytes, expiry: end })
            && Some(old) != end
        {
            entries.expiries.remove(&(old, key));
        }
        Ok(())
    }

    /// Removes the key, and returns whether it existed.
    fn remove(&mut self, key: &str) -> bool {
        let entries = &mut *self.entries;
        let Some((key, value)) = entries.values.remove_entry(key) else {
            return false;
        };
        entries.bytes -= weight(&key, value.bytes.len(), value.expiry.is_some());
        if let Some(end) = value.expiry {
            entries.expiries.remove(&(end, key.clone()));
        }
        self.store.changes.record(key, None);
        value.is_live(self.now)
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limits: PageLimits) -> PageBuilder {
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = PageBuilder::new(limits);
        let range = self
            .entries
            .values
            .range::<str, _>((begin, Bound::Unbounded));
        for (key, value) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if page.is_full() {
                break;
            }
            if value.is_live(self.now) {
                page.push(key, value.bytes.clone());
            }
        }
        page
    }

    /// Removes up to [`MAX_BATCH`] of the keys after `after`. Returns their number, and the last one if there may be more.
    fn delete_batch(&mut self, prefix: &str, after: Option<&str>) -> (u64, Option<String>) {
        let limits = PageLimits::new()
            .max_entries(MAX_BATCH)
            .max_bytes(usize::MAX);
        let page = self.scan(prefix, after, limits).in_order();
        for entry in &page.entries {
            self.remove(&entry.key);
        }
        let next = page.next.map(|next| next.as_str().to_owned());
        (page.entries.len() as u64, next)
    }
}

impl StoredValue {
    fn is_live(&self, now: Instant) -> bool {
        self.expiry.is_none_or(|end| end > now)
    }
}

fn weight(key: &str, value_bytes: usize, ends: bool) -> usize {
    let keys = if ends { 2 } else { 1 };
    keys * key.len() + value_bytes + ENTRY_OVERHEAD
}

impl KeyValue for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        Ok(self.0.lock_entries().bytes(key))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), CacheError> {
        self.set_now(key, &value, ttl)
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        Ok(self.0.lock_entries().remove(key))
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        let mut locked = self.0.lock_entries();
        let end = locked.expiry_after(ttl)?;
        let current = locked.bytes(key);
        if current != expected {
            return Ok(Swap::Differs { current });
        }
        match new {
            Some(value) => {
                locked.set(key, &value, end)?;
                self.ensure_sweeper(&mut locked);
            }
            None => {
                locked.remove(key);
            }
        }
        Ok(Swap::Done)
    }

    async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        let mut locked = self.0.lock_entries();
        let value = locked.get(key);
        let end = value.and_then(|value| value.expiry);
        let sum = sum(key, value.map(|value| &*value.bytes), amount)?;
        locked.set(key, sum.to_string().as_bytes(), end)?;
        Ok(sum)
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Result<Page, CacheError> {
        let after = after.as_ref().map(Position::as_str);
        let page = self.0.lock_entries().scan(prefix, after, limits);
        Ok(page.in_order())
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let mut deleted = 0;
        let mut after = None;
        loop {
            let (some, next) = self.0.lock_entries().delete_batch(prefix, after.as_deref());
            deleted += some;
            if next.is_none() {
                return Ok(deleted);
            }
            after = next;
            // Lets other tasks run between two batches.
            tokio::task::yield_now().await;
        }
    }

    async fn changes(&self) -> Result<ChangeLog, CacheError> {
        Ok(self.0.changes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn left(store: &MemoryStore) -> (usize, usize, usize) {
        // Not `lock_entries`, which removes expired entries.
        let entries = store.0.entries.lock();
        (entries.values.len(), entries.expiries.len(), entries.bytes)
    }

    #[tokio::test]
    async fn deleting_or_replacing_an_entry_frees_its_bytes() {
        let store = MemoryStore::with_limit(250 + ENTRY_OVERHEAD);
        store.set("k", vec![0; 200].into(), None).await.unwrap();
        store.set("k", vec![1; 240].into(), None).await.unwrap();
        let other = store.set("other", vec![0; 100].into(), None);
        assert!(matches!(other.await, Err(CacheError::Full { .. })));
        let add = store.add("n", 1).await;
        assert!(matches!(add, Err(CacheError::Full { .. })));
        store.delete("k").await.unwrap();
        store.set("other", vec![0; 100].into(), None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn expired_entry_is_removed_without_a_request() {
        let store = MemoryStore::default();
        let mut cursor = store.0.changes.now();
        store
            .set("late", "v".into(), Some(2 * SECOND))
            .await
            .unwrap();
        store.set("soon", "v".into(), Some(SECOND)).await.unwrap();
        store.set("stays", "v".into(), None).await.unwrap();
        let changes = store.0.changes.clone();
        changes.next("", &mut cursor).await;
        for key in ["soon", "late"] {
            let key = key.to_owned();
            assert_eq!(
                changes.next("", &mut cursor).await,
                [super::super::Change::Removed { key }]
            );
        }
        assert_eq!(left(&store), (1, 0, weight("stays", 1, false)));
    }

    #[tokio::test(start_paused = true)]
    async fn setting_an_entry_again_replaces_its_expiry() {
        let store = MemoryStore::default();
        store.set("k", "1".into(), Some(SECOND)).await.unwrap();
        store.set("k", "2".into(), Some(3 * SECOND)).await.unwrap();
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(store.add("k", 1).await.unwrap(), 3);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(store.get("k").await.unwrap(), None);
        store.set("k", "1".into(), Some(SECOND)).await.unwrap();
        store.set("k", "2".into(), None).await.unwrap();
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(store.get("k").await.unwrap(), Some("2".into()));
        assert_eq!(left(&store), (1, 0, weight("k", 1, false)));
    }

    #[test]
    fn next_request_removes_expired_entries_without_a_runtime() {
        let store = MemoryStore::default();
        let key = |n: usize| format!("key {n}");
        // Its clock is paused, so that no entry expires before the last one is set.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            for n in 0..3 {
                let ttl = Some(Duration::from_millis(1));
                store.set(&key(n), "v".into(), ttl).await.unwrap();
            }
        });
        drop(runtime);
        while Instant::now() < store.0.entries.lock().expiries.last().unwrap().0 {
            std::thread::yield_now();
        }
        assert_eq!(left(&store).0, 3);
        assert!(store.0.lock_entries().bytes("another").is_none());
        assert_eq!(left(&store), (0, 0, 0));
    }
}
