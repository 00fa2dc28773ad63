//! The store that a component has unless it is given another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::page::Filling;
use super::store::{lifetime, sum};
use super::{CacheError, Changes, KeyValue, Page, PageLimits, Position, Swap};

/// Keeps everything in memory, up to a limit in bytes (1 GiB unless told otherwise), and forgets it
/// when the process ends. Clones share their entries.
///
/// What has had its time is removed when it is over, and watchers are told. A scan sees each page at
/// once, in the order of the keys' bytes.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit_bytes: usize,
    entries: Mutex<Entries>,
    changes: Changes,
    /// Tells the sweeper that a key ends sooner than what it waits for.
    sooner: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Entries {
    values: BTreeMap<ByteString, Value>,
    /// The keys that end, by when they do.
    ends: BTreeSet<(Instant, ByteString)>,
    bytes: usize,
    /// There is one while keys end. It runs on the runtime of whoever set the first of them, and is
    /// replaced when that runtime is gone.
    sweeper: Option<AbortOnDropHandle<()>>,
    /// When it wakes up by itself.
    wakes: Option<Instant>,
}

#[derive(Debug)]
struct Value {
    bytes: Bytes,
    end: Option<Instant>,
}

/// What an entry costs besides its key and value, so that many empty ones are bounded too.
const ENTRY_BYTES: usize = 96;

/// How many keys are removed at once while all others wait.
const BATCH: usize = 1000;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_limit(1024 * 1024 * 1024)
    }
}

impl MemoryStore {
    /// A store whose keys and values together have at most `limit_bytes`, some bookkeeping for each
    /// included. A key that has a time to live counts twice.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            limit_bytes,
            entries: Mutex::default(),
            changes: Changes::new(),
            sooner: Arc::default(),
        }))
    }

    fn set_now(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), CacheError> {
        let mut access = self.0.access();
        access.set(key, value, access.end_after(ttl)?)?;
        self.sweep_when_due(&mut access);
        Ok(())
    }

    /// Sees to it that somebody removes what ends.
    fn sweep_when_due(&self, access: &mut Access<'_>) {
        let entries = &mut *access.entries;
        let Some((first, _)) = entries.ends.first() else {
            return;
        };
        if entries.wakes.is_some_and(|wakes| *first < wakes) {
            self.0.sooner.notify_one();
        }
        let sweeper = &mut entries.sweeper;
        if sweeper.as_ref().is_none_or(|sweeper| sweeper.is_finished())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let sweep = sweep(Arc::downgrade(&self.0), self.0.sooner.clone());
            *sweeper = Some(AbortOnDropHandle::new(runtime.spawn(sweep)));
        }
    }
}

/// Removes what ends, as long as something does.
async fn sweep(store: Weak<Inner>, sooner: Arc<Notify>) {
    loop {
        let next = {
            let Some(store) = store.upgrade() else {
                return;
            };
            let mut access = store.access();
            let next = access.entries.ends.first().map(|(end, _)| *end);
            access.entries.wakes = next;
            match next {
                Some(next) => next,
                None => {
                    // Whoever sets the next key that ends begins anew. Dropping the handle aborts this
                    // task, which has nothing more to do.
                    access.entries.sweeper = None;
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

impl Inner {
    /// The entries, without some of those that have ended. What has ended and is still there counts
    /// as absent.
    fn access(&self) -> Access<'_> {
        // Nothing in here panics between two changes that belong together.
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut access = Access {
            store: self,
            entries,
            now: Instant::now(),
        };
        access.remove_ended();
        access
    }
}

/// The entries, for as long as nobody else has them.
struct Access<'a> {
    store: &'a Inner,
    entries: MutexGuard<'a, Entries>,
    now: Instant,
}

impl Access<'_> {
    fn remove_ended(&mut self) {
        for _ in 0..BATCH {
            match self.entries.ends.first() {
                Some((end, key)) if *end <= self.now => {
                    let key = key.clone();
                    self.remove(&key);
                }
                _ => return,
            }
        }
    }

    fn end_after(&self, ttl: Option<Duration>) -> Result<Option<Instant>, CacheError> {
        Ok(lifetime(ttl)?.map(|ttl| self.now + ttl))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.entries
            .values
            .get(key)
            .filter(|value| value.lives(self.now))
    }

    fn bytes(&self, key: &str) -> Option<Bytes> {
        self.get(key).map(|value| value.bytes.clone())
    }

    fn set(&mut self, key: &str, value: &[u8], end: Option<Instant>) -> Result<(), CacheError> {
        let before = self
            .entries
            .values
            .get(key)
            .map_or(0, |old| weight(key, old.bytes.len(), old.end.is_some()));
        let bytes = self.entries.bytes - before + weight(key, value.len(), end.is_some());
        let limit = self.store.limit_bytes;
        if bytes > limit {
            return Err(CacheError::Full { limit });
        }
        let entries = &mut *self.entries;
        entries.bytes = bytes;
        let key = ByteString::from(key);
        // A view of a larger frame would keep all of the frame in memory.
        let value = Bytes::copy_from_slice(value);
        self.store.changes.record(key.clone(), Some(value.clone()));
        if let Some(end) = end {
            entries.ends.insert((end, key.clone()));
        }
        let bytes = value;
        if let Some(Value { end: Some(old), .. }) =
            entries.values.insert(key.clone(), Value { bytes, end })
            && Some(old) != end
        {
            entries.ends.remove(&(old, key));
        }
        Ok(())
    }

    /// Removes the key, and tells whether it was there.
    fn remove(&mut self, key: &str) -> bool {
        let entries = &mut *self.entries;
        let Some((key, value)) = entries.values.remove_entry(key) else {
            return false;
        };
        entries.bytes -= weight(&key, value.bytes.len(), value.end.is_some());
        if let Some(end) = value.end {
            entries.ends.remove(&(end, key.clone()));
        }
        self.store.changes.record(key, None);
        value.lives(self.now)
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limits: PageLimits) -> Filling {
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = Filling::new(limits);
        let range = self
            .entries
            .values
            .range::<str, _>((begin, Bound::Unbounded));
        for (key, value) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if page.is_full() {
                break;
            }
            if value.lives(self.now) {
                page.push(key, value.bytes.clone());
            }
        }
        page
    }

    /// Removes some of the keys behind `after`; how many, and the last of them, if there may be more.
    fn delete_some(&mut self, prefix: &str, after: Option<&str>) -> (u64, Option<String>) {
        let limits = PageLimits {
            entries: BATCH,
            bytes: usize::MAX,
        };
        let page = self.scan(prefix, after, limits).in_order();
        for entry in &page.entries {
            self.remove(&entry.key);
        }
        let next = page.next.map(|next| next.as_str().to_owned());
        (page.entries.len() as u64, next)
    }
}

impl Value {
    fn lives(&self, now: Instant) -> bool {
        self.end.is_none_or(|end| end > now)
    }
}

fn weight(key: &str, value_bytes: usize, ends: bool) -> usize {
    let keys = if ends { 2 } else { 1 };
    keys * key.len() + value_bytes + ENTRY_BYTES
}

impl KeyValue for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        Ok(self.0.access().bytes(key))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), CacheError> {
        self.set_now(key, &value, ttl)
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        Ok(self.0.access().remove(key))
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        let mut access = self.0.access();
        let end = access.end_after(ttl)?;
        let current = access.bytes(key);
        if current != expected {
            return Ok(Swap::Differs { current });
        }
        match new {
            Some(value) => {
                access.set(key, &value, end)?;
                self.sweep_when_due(&mut access);
            }
            None => {
                access.remove(key);
            }
        }
        Ok(Swap::Done)
    }

    async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        let mut access = self.0.access();
        let value = access.get(key);
        let end = value.and_then(|value| value.end);
        let sum = sum(key, value.map(|value| &*value.bytes), amount)?;
        access.set(key, sum.to_string().as_bytes(), end)?;
        Ok(sum)
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Result<Page, CacheError> {
        let after = after.as_ref().map(Position::as_str);
        let page = self.0.access().scan(prefix, after, limits);
        Ok(page.in_order())
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let mut deleted = 0;
        let mut after = None;
        loop {
            let (some, next) = self.0.access().delete_some(prefix, after.as_deref());
            deleted += some;
            if next.is_none() {
                return Ok(deleted);
            }
            after = next;
            // Others get their turn between two batches.
            tokio::task::yield_now().await;
        }
    }

    async fn changes(&self) -> Result<Changes, CacheError> {
        Ok(self.0.changes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn left(store: &MemoryStore) -> (usize, usize, usize) {
        // Not `access`, which removes what has ended.
        let entries = store.0.entries.lock().unwrap();
        (entries.values.len(), entries.ends.len(), entries.bytes)
    }

    #[tokio::test]
    async fn what_is_deleted_or_replaced_makes_room() {
        let store = MemoryStore::with_limit(250 + ENTRY_BYTES);
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
    async fn what_ends_is_removed_though_nobody_asks_for_it() {
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
    async fn what_is_set_again_has_the_new_time() {
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
    fn without_a_runtime_the_next_request_removes_what_has_ended() {
        let store = MemoryStore::default();
        let key = |n: usize| format!("key {n}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            for n in 0..3 {
                let ttl = Some(Duration::from_millis(1));
                store.set(&key(n), "v".into(), ttl).await.unwrap();
            }
        });
        drop(runtime);
        while Instant::now() < store.0.entries.lock().unwrap().ends.last().unwrap().0 {
            std::thread::yield_now();
        }
        assert_eq!(left(&store).0, 3);
        assert!(store.0.access().bytes("another").is_none());
        assert_eq!(left(&store), (0, 0, 0));
    }
}
