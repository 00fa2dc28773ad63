//! [`FileStore`]: a persistent store in a file.
//!
//! The engine is `redb`: a copy-on-write B-tree with checksums in a single file. After a crash the file has the state
//! of the last commit, without a journal to replay. The crate is pure Rust, depends only on `libc`, and has no threads
//! of its own. A log-structured store such as `fjall` writes large loads faster, but it is a directory of files with
//! compaction threads and a write buffer in memory, and a cache is read more than it is written.
//!
//! `open` validates and opens the file, `table` is the layout of the file and the operations on it, `database` the open
//! database, which is opened again after a failure, and `writer` the thread that commits groups of requests.

mod database;
mod open;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::ReadableDatabase;

use self::database::{DatabaseSlot, EngineError, FileAction};
pub use self::open::FileStoreBuilder;
use self::table::{CacheTables, ReadError, now_ms};
use self::writer::FileWriter;
use super::store::{lifetime, sum};
use super::{CacheError, ChangeLog, KeyValue, OpenStoreError, Page, PageLimits, Position, Swap};

/// Keeps entries in a file. An entry survives a crash of the process or the machine once
/// [`set`](crate::Cache::set) has returned. Clones share the file.
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::{Bind, FileStore, Master};
///
/// let master = Master::new("images").bind("tcp://127.0.0.1:5559");
/// master.cache(FileStore::open("cache.db")?).start().await
/// # }
/// ```
///
/// # Durability
///
/// The file is synced to the disk before a write is acknowledged. Concurrent writes share a sync (group commit), so
/// many of them cost hardly more than one. Sequential writes take one sync each.
///
/// Only one process can open the file. Opening it after a crash reads and repairs the whole file.
///
/// # Expiry
///
/// Times to live use the system's clock, because they continue while the file is closed. Expired entries are removed,
/// and watchers are notified, also for entries that expired while the file was closed. Freed space is reused, but the
/// file does not shrink.
///
/// # Failures
///
/// A write that fails, for example because the disk is full, returns [`CacheError::Store`] with the path and the error
/// of the system. The file is then opened again, so that it can be read, and the next write tries again. Opening reads
/// the whole file, so writes are rejected with the same error for ten times the duration of opening, but at most for a
/// minute. Deletions need some space as well: on a full disk they succeed while the file has freed pages.
///
/// Each value has a checksum that every read verifies. [`CacheError::Damaged`] names a key whose value the disk has
/// changed. Damage elsewhere in the file can hide keys.
#[derive(Clone)]
pub struct FileStore(Arc<FileStoreInner>);

struct FileStoreInner {
    path: PathBuf,
    slot: Arc<DatabaseSlot>,
    writer: FileWriter,
    changes: ChangeLog,
}

impl FileStore {
    /// Opens the file at `path` with the default options, or creates it if it does not exist.
    ///
    /// This blocks the thread, see [`FileStoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// As [`FileStoreBuilder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenStoreError> {
        Self::builder(path).open()
    }

    /// Returns a builder, to set options.
    pub fn builder(path: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder::new(path.into())
    }

    /// Reads on a blocking thread. If the file has failed, opens it again and reads once more.
    async fn read<T: Send + 'static>(
        &self,
        key: &str,
        read: impl Fn(redb::ReadTransaction) -> Result<T, ReadError> + Send + Sync + 'static,
    ) -> Result<T, CacheError> {
        let read = Arc::new(read);
        let attempt = || {
            let (slot, read) = (self.0.slot.clone(), read.clone());
            tokio::task::spawn_blocking(move || {
                slot.with(|database| {
                    let transaction = database.begin_read().map_err(redb::Error::from);
                    match read(transaction?) {
                        Ok(value) => Ok(Ok(value)),
                        Err(ReadError::Damaged(key)) => Ok(Err(CacheError::Damaged { key })),
                        Err(ReadError::Failed(error)) => Err(EngineError::File(error)),
                    }
                })
            })
        };
        let joined = |error: tokio::task::JoinError| CacheError::Store(error.into());
        let broken = match attempt().await.map_err(joined)? {
            Ok(value) => return value,
            Err(broken) => broken,
        };
        match broken {
            EngineError::File(redb::Error::Corrupted(_)) | EngineError::Panicked(_)
                if !key.is_empty() =>
            {
                let key = key.to_owned();
                return Err(CacheError::Damaged { key });
            }
            EngineError::File(redb::Error::Io(_) | redb::Error::PreviousIo)
            | EngineError::Closed => {}
            broken => return Err(self.0.slot.failure(FileAction::Read, broken).into()),
        }
        // An empty write makes the writer open an unusable file again, or returns why it cannot.
        self.write(true, |_| Ok(())).await?;
        match attempt().await.map_err(joined)? {
            Ok(value) => value,
            Err(broken) => Err(self.0.slot.failure(FileAction::Read, broken).into()),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        frees: bool,
        write: impl FnOnce(&mut CacheTables<'_>) -> Result<T, table::WriteError> + Send + 'static,
    ) -> Result<T, CacheError> {
        self.0.writer.write(frees, write).await
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FileStore({})", self.0.path.display())
    }
}

impl KeyValue for FileStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let owned = key.to_owned();
        self.read(key, move |read| table::get(&read, &owned)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), CacheError> {
        let (key, end) = (key.to_owned(), expiry_after(ttl)?);
        self.write(false, move |table| table.set(&key, &value, end))
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        let key = key.to_owned();
        self.write(true, move |table| Ok(table.remove(&key)?)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        let (key, end) = (key.to_owned(), expiry_after(ttl)?);
        self.write(new.is_none(), move |table| {
            let current = table.get(&key)?.map(|(value, _)| value);
            if current != expected {
                return Ok(Swap::Differs { current });
            }
            match new {
                Some(value) => table.set(&key, &value, end)?,
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
        self.write(false, move |table| {
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
        self.read("", move |read| {
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
            let remove = move |table: &mut CacheTables<'_>| {
                Ok(table.remove_batch(&prefix, after.as_deref())?)
            };
            let some = self.write(true, remove);
            let (some, next) = some.await?;
            deleted += some;
            if next.is_none() {
                return Ok(deleted);
            }
            after = next;
        }
    }

    async fn changes(&self) -> Result<ChangeLog, CacheError> {
        Ok(self.0.changes.clone())
    }
}

/// Returns the expiry of an entry that is set now, in milliseconds since 1970.
fn expiry_after(ttl: Option<Duration>) -> Result<Option<u64>, CacheError> {
    let ms = |ttl: Duration| u64::try_from(ttl.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Ok(lifetime(ttl)?.map(|ttl| now_ms().saturating_add(ms(ttl))))
}
