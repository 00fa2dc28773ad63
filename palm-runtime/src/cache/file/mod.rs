//! The store in a file, which outlives the process.
//!
//! It is built on `redb`: one file, a B-tree with checksums that is never changed in place, so that
//! after a crash it is what the last commit made it, without a journal to be played back; pure Rust,
//! no dependency but `libc`, and no threads of its own. A log-structured store (`fjall`) writes a
//! large load faster, but is a folder of files with threads that compact it, and keeps in memory what
//! it has not sorted yet; a cache that lasts is read more than it is written.
//!
//! `table` is what the file holds and how one request changes it, `writer` the thread that makes
//! one commit of many requests.

mod table;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase};

use self::table::{Table, now_ms};
use self::writer::Writer;
use super::store::{lifetime, sum};
use super::{CacheError, Changes, KeyValue, OpenStoreError, Page, PageLimits, Position, Swap};

/// Keeps everything in one file: what is set is there after the process or the machine has died, from
/// the moment on that [`set`](crate::Cache::set) returns. Clones share the file.
///
/// ```no_run
/// # async fn example() -> palm_runtime::Result<()> {
/// use palm_runtime::{Bind, FileStore, Master};
///
/// let master = Master::new("images").bind("tcp://127.0.0.1:5559");
/// master.cache(FileStore::open("cache.db")?).start().await
/// # }
/// ```
///
/// Before a request is acknowledged, the file is synced to the disk. Requests that come meanwhile share
/// the next sync, so that many at once cost hardly more than one; one after the other, each takes as
/// long as the disk does.
///
/// Only one process can have the file open. After a crash the file is checked when it is opened, which
/// reads all of it. A time to live goes by the system's clock, since it goes on while nobody runs.
/// Keys that have ended are removed, and watchers are told; also those that ended meanwhile, when the
/// file is opened again. The room that is freed is used again, and the file does not shrink.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    database: Arc<Database>,
    writer: Writer,
    changes: Changes,
}

/// The options of a [`FileStore`].
#[must_use = "nothing is opened until `.open()`"]
#[derive(Debug, Clone)]
pub struct FileStoreBuilder {
    path: PathBuf,
    limit_bytes: u64,
    memory_bytes: usize,
}

impl FileStoreBuilder {
    /// How many bytes keys and values together may have, some bookkeeping for each included. Default:
    /// 64 GiB. The file is larger: up to about twice that, since a commit writes anew what it changes.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// How many bytes of the file are kept in memory. Default: 64 MiB.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Opens the file, and makes it if it is not there. Blocks: after a crash the whole file is read.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`] when somebody has it open, when it is no such file, or when the system does
    /// not allow it.
    pub fn open(self) -> Result<FileStore, OpenStoreError> {
        let place = self.path.display().to_string();
        let failed = |source: redb::Error| OpenStoreError::Open {
            place: place.clone(),
            source: source.into(),
        };
        let opened = Database::builder()
            .set_cache_size(self.memory_bytes)
            .create(&self.path);
        let database = match opened {
            Ok(database) => Arc::new(database),
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(OpenStoreError::InUse { path: place });
            }
            Err(error) => return Err(failed(error.into())),
        };
        sync_folder(&self.path).map_err(|error| failed(redb::Error::Io(error)))?;
        let found = table::prepare(&database).map_err(failed)?;
        if found != table::FORMAT {
            return Err(OpenStoreError::Format {
                path: place,
                found,
                expected: table::FORMAT,
            });
        }
        let changes = Changes::new();
        let writer = Writer::start(database.clone(), changes.clone(), self.limit_bytes)
            .map_err(|error| failed(redb::Error::Io(error)))?;
        Ok(FileStore(Arc::new(Inner {
            path: self.path,
            database,
            writer,
            changes,
        })))
    }
}

/// A file that was just made is there after a crash only if its folder is on the disk too.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl FileStore {
    /// Opens `path`, and makes it if it is not there, with the default options.
    ///
    /// # Errors
    ///
    /// As [`FileStoreBuilder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenStoreError> {
        Self::builder(path).open()
    }

    /// A store with options.
    pub fn builder(path: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder {
            path: path.into(),
            limit_bytes: 64 * 1024 * 1024 * 1024,
            memory_bytes: 64 * 1024 * 1024,
        }
    }

    /// Reads on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, CacheError> {
        let database = self.0.database.clone();
        let read = tokio::task::spawn_blocking(move || read(database.begin_read()?));
        match read.await {
            Ok(read) => read.map_err(|error| CacheError::Store(error.into())),
            Err(panicked) => Err(CacheError::Store(panicked.into())),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Table<'_>) -> Result<T, table::WriteError> + Send + 'static,
    ) -> Result<T, CacheError> {
        self.0.writer.write(write).await
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FileStore({})", self.0.path.display())
    }
}

impl KeyValue for FileStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let key = key.to_owned();
        self.read(move |read| table::get(&read, &key)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), CacheError> {
        let key = key.to_owned();
        self.write(move |table| table.set(&key, &value, end_after(ttl)))
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        let key = key.to_owned();
        self.write(move |table| Ok(table.remove(&key)?)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        let key = key.to_owned();
        self.write(move |table| {
            let current = table.get(&key)?.map(|(value, _)| value);
            if current != expected {
                return Ok(Swap::Differs { current });
            }
            match new {
                Some(value) => table.set(&key, &value, end_after(ttl))?,
                None => {
                    table.remove(&key)?;
                }
            }
            Ok(Swap::Done)
        })
        .await
    }

    async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        let key = key.to_owned();
        self.write(move |table| {
            let current = table.get(&key)?;
            let end = current.as_ref().and_then(|(_, end)| *end);
            let value = current.as_ref().map(|(value, _)| &**value);
            let sum = sum(&key, value, amount)?;
            table.set(&key, sum.to_string().as_bytes(), end)?;
            Ok(sum)
        })
        .await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Result<Page, CacheError> {
        let prefix = prefix.to_owned();
        self.read(move |read| {
            let after = after.as_ref().map(Position::as_str);
            table::scan(&read, &prefix, after, limits)
        })
        .await
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let mut deleted = 0;
        let mut after = None;
        loop {
            let prefix = prefix.to_owned();
            let some = self.write(move |table| Ok(table.remove_some(&prefix, after.as_deref())?));
            let (some, next) = some.await?;
            deleted += some;
            if next.is_none() {
                return Ok(deleted);
            }
            after = next;
        }
    }

    async fn changes(&self) -> Result<Changes, CacheError> {
        Ok(self.0.changes.clone())
    }
}

/// When a key ends that is set now, in milliseconds since 1970.
fn end_after(ttl: Option<Duration>) -> Option<u64> {
    let ms = |ttl: Duration| u64::try_from(ttl.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    ttl.map(|ttl| now_ms().saturating_add(ms(lifetime(ttl))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Change;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        (folder, path)
    }

    #[tokio::test]
    async fn what_was_set_is_there_when_the_file_is_opened_again() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        store.set("k", "v".into(), None).await.unwrap();
        store
            .set("ends", "v".into(), Some(Duration::from_millis(1)))
            .await
            .unwrap();
        store.add("n", 3).await.unwrap();
        drop(store);
        let store = FileStore::open(&path).unwrap();
        assert_eq!(store.get("k").await.unwrap(), Some("v".into()));
        assert_eq!(store.add("n", 4).await.unwrap(), 7);
        let page = store.scan("", None, PageLimits::default()).await.unwrap();
        assert!(page.entries.iter().all(|entry| entry.key != "ends"));
    }

    #[tokio::test]
    async fn a_file_is_opened_once() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        let again = FileStore::open(&path).unwrap_err();
        let text = format!("the cache file `{}` is already open", path.display());
        assert_eq!(again.to_string(), text);
        drop(store);
        FileStore::open(&path).unwrap();
    }

    #[test]
    fn what_is_no_such_file_is_refused_and_left_alone() {
        let (_folder, path) = file();
        std::fs::write(&path, "a text that somebody wrote").unwrap();
        let refused = FileStore::open(&path).unwrap_err();
        assert!(matches!(refused, OpenStoreError::Open { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a text that somebody wrote");
        let missing = FileStore::open(path.join("folder/cache.db"));
        assert!(matches!(missing, Err(OpenStoreError::Open { .. })));
    }

    #[tokio::test]
    async fn the_limit_holds_and_what_goes_makes_room() {
        let (_folder, path) = file();
        let open = || FileStore::builder(&path).limit_bytes(1000).open().unwrap();
        let store = open();
        store.set("k", vec![0; 700].into(), None).await.unwrap();
        store.set("k", vec![0; 800].into(), None).await.unwrap();
        let full = store.set("other", vec![0; 100].into(), None).await;
        assert!(matches!(full, Err(CacheError::Full { limit: 1000 })));
        drop(store);
        let store = open();
        let full = store.set("other", vec![0; 100].into(), None).await;
        assert!(matches!(full, Err(CacheError::Full { limit: 1000 })));
        assert!(store.delete("k").await.unwrap());
        store.set("other", vec![0; 100].into(), None).await.unwrap();
    }

    #[tokio::test]
    async fn what_ends_is_removed_though_nobody_asks_for_it() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        let mut cursor = store.0.changes.now();
        let ttl = Some(Duration::from_millis(50));
        store.set("k", "v".into(), ttl).await.unwrap();
        store.0.changes.next("", &mut cursor).await;
        let removed = store.0.changes.next("", &mut cursor);
        let removed = tokio::time::timeout(Duration::from_secs(15), removed);
        let key = "k".to_owned();
        assert_eq!(removed.await.unwrap(), [Change::Removed { key }]);
        assert_eq!(store.get("k").await.unwrap(), None);
    }
}
