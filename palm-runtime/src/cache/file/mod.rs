//! The store in a file, which outlives the process.
//!
//! It is built on `redb`: one file, a B-tree with checksums that is never changed in place, so that
//! after a crash it is what the last commit made it, without a journal to be played back; pure Rust,
//! no dependency but `libc`, and no threads of its own. A log-structured store (`fjall`) writes a
//! large load faster, but is a folder of files with threads that compact it, and keeps in memory what
//! it has not sorted yet; a cache that lasts is read more than it is written.
//!
//! `table` is what the file holds and how one request changes it, `slot` the open file, which is opened
//! again after it failed, `writer` the thread that makes one commit of many requests.

mod slot;
mod table;
mod writer;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase};

use self::slot::{Action, Broken, Slot, uncaught};
use self::table::{Found, ReadError, Table, now_ms};
use self::writer::Writer;
use super::store::{lifetime, sum};
use super::{CacheError, Changes, KeyValue, OpenStoreError, Page, PageLimits, Position, Swap};

/// Keeps everything in one file: what is set is there after the process or the machine has died, from
/// the moment on that [`set`](crate::Cache::set) returns. Clones share the file.
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
/// Before a request is acknowledged, the file is synced to the disk. Requests that come meanwhile share
/// the next sync, so that many at once cost hardly more than one; one after the other, each takes as
/// long as the disk does.
///
/// Only one process can have the file open. After a crash the file is checked when it is opened, which
/// reads all of it. A time to live goes by the system's clock, since it goes on while nobody runs.
/// Keys that have ended are removed, and watchers are told; also those that ended meanwhile, when the
/// file is opened again. The room that is freed is used again, and the file does not shrink.
///
/// A request that the disk does not carry out, since it is full, for example, ends with
/// [`CacheError::Store`], whose causes name the file and what the system says. The file is opened again, so
/// that values can be read meanwhile, and the next request tries again. That reads the whole file, as after a
/// crash, so requests that set something are refused with the same error for ten times as long as it took, a
/// minute at most. Deletions need some space as well: on a full disk they succeed as long as the file has
/// pages that were used and freed before.
///
/// Each value has a checksum, which every read verifies: [`CacheError::Damaged`] names a key whose value the
/// disk has changed. What the disk changes elsewhere in the file can hide keys.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    slot: Arc<Slot>,
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
    /// [`OpenStoreError`] when it is open already, when it is empty or not a cache file, which is left as it
    /// is then, or when the system does not allow it.
    pub fn open(self) -> Result<FileStore, OpenStoreError> {
        let is_new = !exists(&self.path)?;
        let (path, memory_bytes) = (self.path.clone(), self.memory_bytes);
        let was_opened = AtomicBool::new(false);
        let open = move || {
            let mut builder = Database::builder();
            builder.set_cache_size(memory_bytes);
            // A file that has been removed when it is opened again is an error: a new one would be an empty
            // cache.
            match was_opened.swap(true, Ordering::Relaxed) {
                false => builder.create(&path),
                true => builder.open(&path),
            }
        };
        let opened = self.open_by(Box::new(open));
        if opened.is_err() && is_new {
            // An empty file, or half of one, would be refused from now on. If it cannot be removed either,
            // the error says why it is refused.
            let path = opened.as_ref().err().and_then(|(_, path)| path.clone());
            if let Some(path) = path {
                let _ = std::fs::remove_file(path);
            }
        }
        opened.map_err(|(error, _)| error)
    }

    /// Opens the file by `open`. An error comes with the path of a file that may be half made.
    fn open_by(
        self,
        open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>,
    ) -> Result<FileStore, (OpenStoreError, Option<PathBuf>)> {
        let place = self.path.display().to_string();
        let half_made = |error| (error, Some(self.path.clone()));
        let failed = |source: redb::Error| {
            let place = place.clone();
            let source = match source {
                redb::Error::Io(error) => error.into(),
                error => error.into(),
            };
            half_made(OpenStoreError::Open { place, source })
        };
        let broken = |broken: Broken| {
            let place = place.clone();
            let source = broken.into();
            (OpenStoreError::Open { place, source }, None)
        };
        let database = match uncaught(&*open).map_err(broken)? {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err((OpenStoreError::InUse { path: place }, None));
            }
            Err(error) => return Err(failed(error.into())),
        };
        sync_folder(&self.path).map_err(|error| failed(redb::Error::Io(error)))?;
        let found = uncaught(|| table::prepare(&database)).map_err(broken)?;
        match found.map_err(failed)? {
            Found::Format(table::FORMAT) => {}
            Found::Format(found) => {
                let expected = table::FORMAT;
                let error = OpenStoreError::Format {
                    path: place,
                    found,
                    expected,
                };
                return Err((error, None));
            }
            Found::Others(table) => {
                let found = format!("a redb database of another program, with the table `{table}`");
                return Err((OpenStoreError::Foreign { path: place, found }, None));
            }
        }
        let changes = Changes::new();
        let slot = Arc::new(Slot::new(database, open, &place));
        let writer = Writer::start(slot.clone(), changes.clone(), self.limit_bytes)
            .map_err(|error| failed(redb::Error::Io(error)))?;
        Ok(FileStore(Arc::new(Inner {
            path: self.path,
            slot,
            writer,
            changes,
        })))
    }
}

/// Whether there is a file. One that is empty, or no database, is refused before the engine sees it: it would
/// make a database of the first one, and does not say what the second one is.
fn exists(path: &Path) -> Result<bool, OpenStoreError> {
    const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
    let place = || path.display().to_string();
    let failed = |error: std::io::Error| OpenStoreError::Open {
        place: place(),
        source: error.into(),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.is_dir() {
        let found = "a directory".to_owned();
        return Err(OpenStoreError::Foreign {
            path: place(),
            found,
        });
    }
    let mut begin = Vec::new();
    let mut head = file.take(32);
    head.read_to_end(&mut begin).map_err(failed)?;
    if begin.is_empty() {
        return Err(OpenStoreError::Empty { path: place() });
    }
    if !begin.starts_with(MAGIC) {
        let found = format!(
            "begins with `{}`",
            begin[..begin.len().min(16)].escape_ascii()
        );
        return Err(OpenStoreError::Foreign {
            path: place(),
            found,
        });
    }
    Ok(true)
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
                        Err(ReadError::Failed(error)) => Err(Broken::File(error)),
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
            Broken::File(redb::Error::Corrupted(_)) | Broken::Panicked(_) if !key.is_empty() => {
                let key = key.to_owned();
                return Err(CacheError::Damaged { key });
            }
            Broken::File(redb::Error::Io(_) | redb::Error::PreviousIo) | Broken::Closed => {}
            broken => return Err(self.0.slot.failure(Action::Read, broken).into()),
        }
        // The writer opens the file again if it is unusable. Why it cannot, it says itself.
        self.write(true, |_| Ok(())).await?;
        match attempt().await.map_err(joined)? {
            Ok(value) => value,
            Err(broken) => Err(self.0.slot.failure(Action::Read, broken).into()),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        frees: bool,
        write: impl FnOnce(&mut Table<'_>) -> Result<T, table::WriteError> + Send + 'static,
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
        let (key, end) = (key.to_owned(), end_after(ttl)?);
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
        let (key, end) = (key.to_owned(), end_after(ttl)?);
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
            let remove =
                move |table: &mut Table<'_>| Ok(table.remove_some(&prefix, after.as_deref())?);
            let some = self.write(true, remove);
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
fn end_after(ttl: Option<Duration>) -> Result<Option<u64>, CacheError> {
    let ms = |ttl: Duration| u64::try_from(ttl.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Ok(lifetime(ttl)?.map(|ttl| now_ms().saturating_add(ms(ttl))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use redb::backends::FileBackend;

    use super::*;
    use crate::cache::Change;
    use crate::failure::chain;

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

    /// A file on a disk that can be full: bytes beyond the limit cannot be written.
    #[derive(Debug)]
    struct SmallDisk {
        file: FileBackend,
        limit: Arc<AtomicU64>,
    }

    impl redb::StorageBackend for SmallDisk {
        fn len(&self) -> std::io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.file.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            match offset + data.len() as u64 > self.limit.load(Ordering::Relaxed) {
                true => Err(std::io::ErrorKind::StorageFull.into()),
                false => self.file.write(offset, data),
            }
        }

        fn close(&self) -> std::io::Result<()> {
            self.file.close()
        }
    }

    /// A store on such a disk, and its limit.
    fn small_disk(path: &Path) -> (FileStore, Arc<AtomicU64>) {
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let open = {
            let (path, limit) = (path.to_owned(), limit.clone());
            move || {
                let mut options = std::fs::OpenOptions::new();
                let options = options.read(true).write(true).create(true).truncate(false);
                let file = FileBackend::new(options.open(&path)?)?;
                let limit = limit.clone();
                Database::builder().create_with_backend(SmallDisk { file, limit })
            }
        };
        let store = FileStore::builder(path).open_by(Box::new(open));
        (store.map_err(|(error, _)| error).unwrap(), limit)
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_the_store_works_again_when_there_is_room() {
        let (_folder, path) = file();
        let (store, limit) = small_disk(&path);
        let value = Bytes::from(vec![7; 100_000]);
        store.set("a", "1".into(), None).await.unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        limit.store(size + 1_000_000, Ordering::Relaxed);
        let mut stored = 0;
        let refused = loop {
            match store.set(&format!("k{stored}"), value.clone(), None).await {
                Ok(()) => stored += 1,
                Err(refused) => break refused,
            }
        };
        let expected = format!(
            "the store failed: the cache file `{}` cannot be written (free some space on its disk, the next \
             request tries again): no storage space",
            path.display()
        );
        assert_eq!(chain(&refused), expected);
        assert!(stored > 0, "some space was left");
        // All that was acknowledged can be read on the full disk.
        assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
        for number in 0..stored {
            let read = store.get(&format!("k{number}")).await.unwrap();
            assert_eq!(read.as_ref(), Some(&value), "k{number}");
        }
        assert_eq!(store.get(&format!("k{stored}")).await.unwrap(), None);
        // What is refused in the pause has the same cause.
        let again = store.set("b", value.clone(), None).await.unwrap_err();
        assert_eq!(chain(&again), expected);
        // Deletions find the pages that the failed commit has not used up.
        assert!(store.delete("k0").await.unwrap());
        assert_eq!(store.get("k0").await.unwrap(), None);

        limit.store(u64::MAX, Ordering::Relaxed);
        let set = async {
            while store.set("b", value.clone(), None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), set)
            .await
            .unwrap();
        assert_eq!(store.get("b").await.unwrap(), Some(value.clone()));
        drop(store);
        let store = FileStore::open(&path).unwrap();
        assert_eq!(store.get("b").await.unwrap(), Some(value));
        assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    }

    #[tokio::test]
    async fn a_file_that_was_removed_is_not_replaced_when_it_is_opened_again() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        store.set("k", "v".into(), None).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let failure = store.0.slot.reopen().unwrap_err();
        let text = chain(&failure);
        assert!(text.contains("cannot be opened"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
        for refused in [
            store.get("k").await.unwrap_err(),
            store.set("k", "v".into(), None).await.unwrap_err(),
        ] {
            let text = chain(&refused);
            assert!(text.contains("No such file or directory"), "{text}");
        }
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn requests_of_one_commit_that_failed_all_have_its_cause() {
        let (_folder, path) = file();
        let (store, limit) = small_disk(&path);
        limit.store(0, Ordering::Relaxed);
        let value = Bytes::from(vec![7; 100_000]);
        let sets = (0..50).map(|number| {
            let (store, value) = (store.clone(), value.clone());
            async move { store.set(&format!("k{number}"), value, None).await }
        });
        for refused in futures_util::future::join_all(sets).await {
            let cause = chain(&refused.unwrap_err());
            assert!(cause.contains("no storage space"), "{cause}");
        }
    }

    #[tokio::test]
    async fn flipped_bits_are_an_error_that_names_the_key() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        // A pattern that is found again in the file.
        let value = Bytes::from(b"0123456789abcdef".repeat(64));
        store.set("good", "v".into(), None).await.unwrap();
        store.set("hit", value.clone(), None).await.unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        let mut hits = 0;
        for at in 0..bytes.len() - 512 {
            if bytes[at..].starts_with(&value[..512]) {
                bytes[at + 100] ^= 1;
                hits += 1;
            }
        }
        assert!(hits > 0);
        std::fs::write(&path, bytes).unwrap();
        let store = FileStore::open(&path).unwrap();
        let text =
            "the stored value of `hit` is damaged, its checksum is wrong: set or delete the key";
        let damaged = [
            store.get("hit").await.unwrap_err(),
            store.add("hit", 1).await.unwrap_err(),
            { store.compare_and_set("hit", None, None, None) }
                .await
                .unwrap_err(),
            { store.scan("", None, PageLimits::default()) }
                .await
                .unwrap_err(),
        ];
        for error in damaged {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(store.get("good").await.unwrap(), Some("v".into()));
        store.set("hit", "new".into(), None).await.unwrap();
        assert_eq!(store.get("hit").await.unwrap(), Some("new".into()));
        assert!(store.delete("hit").await.unwrap());
    }

    #[tokio::test]
    async fn any_flipped_bit_in_any_page_is_an_error_or_a_missing_key_but_no_wrong_value() {
        let (_folder, path) = file();
        let store = FileStore::open(&path).unwrap();
        let value = |number: usize| Bytes::from(format!("value {number} ").repeat(number % 50));
        for number in 0..100 {
            let key = format!("k{number}");
            store.set(&key, value(number), None).await.unwrap();
        }
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let mut noticed = 0;
        for _ in 0..40 {
            let mut bytes = whole.clone();
            for _ in 0..20 {
                bytes[random.usize(4096..whole.len())] ^= 1 << random.u8(0..8);
            }
            std::fs::write(&path, bytes).unwrap();
            let Ok(store) = FileStore::open(&path) else {
                noticed += 1;
                continue;
            };
            for number in 0..100 {
                match store.get(&format!("k{number}")).await {
                    Ok(Some(read)) => assert_eq!(read, value(number), "k{number}"),
                    Ok(None) | Err(_) => noticed += 1,
                }
            }
        }
        assert!(noticed > 0, "no flip hit anything");
    }

    #[test]
    fn an_empty_or_foreign_file_is_refused_and_left_alone() {
        let (folder, path) = file();
        let text = |path: &Path| FileStore::open(path).unwrap_err().to_string();
        let shown = path.display();
        std::fs::write(&path, "").unwrap();
        let expected = format!(
            "the cache file `{shown}` is empty: it was truncated, or another program has created it; remove it \
             to begin with an empty cache"
        );
        assert_eq!(text(&path), expected);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);

        std::fs::write(&path, "a text that somebody wrote").unwrap();
        let expected = format!(
            "`{shown}` is not a cache file but begins with `a text that some`: give the path of another file"
        );
        assert_eq!(text(&path), expected);
        assert_eq!(std::fs::read(&path).unwrap(), b"a text that somebody wrote");

        let expected = format!(
            "`{}` is not a cache file but a directory: give the path of another file",
            folder.path().display()
        );
        assert_eq!(text(folder.path()), expected);

        std::fs::remove_file(&path).unwrap();
        let other = Database::create(&path).unwrap();
        let write = other.begin_write().unwrap();
        let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
        write.open_table(table).unwrap();
        write.commit().unwrap();
        drop(other);
        let expected = format!(
            "`{shown}` is not a cache file but a redb database of another program, with the table `theirs`: give \
             the path of another file"
        );
        assert_eq!(text(&path), expected);
        let other = Database::open(&path).unwrap();
        let tables = other.begin_read().unwrap().list_tables().unwrap().count();
        assert_eq!(tables, 1, "nothing was added");
    }

    #[test]
    fn a_missing_folder_is_named_with_the_cause() {
        let (_folder, path) = file();
        let missing = FileStore::open(path.join("folder/cache.db")).unwrap_err();
        let text = chain(&missing);
        assert!(text.starts_with("the store at `"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
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
