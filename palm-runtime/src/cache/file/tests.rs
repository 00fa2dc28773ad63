//! Tests of [`FileStore`]: persistence, full disks, damaged files and expiry.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _};

use super::FileStore;
use crate::cache::{CacheError, Change, KeyValue as _, PageLimits};
use crate::failure::chain;

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.db");
    (folder, path)
}

#[tokio::test]
async fn entries_survive_closing_and_opening_the_file() {
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

/// A file on a full disk: bytes beyond the limit cannot be written.
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

/// Returns a store on such a disk, and the limit.
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
async fn store_names_a_full_disk_and_recovers_when_there_is_space() {
    let (_folder, path) = file();
    let (store, limit) = small_disk(&path);
    let value = Bytes::from(vec![7; 100_000]);
    store.set("a", "1".into(), None).await.unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    limit.store(size + 1_000_000, Ordering::Relaxed);
    let mut stored = 0;
    let rejected = loop {
        match store.set(&format!("k{stored}"), value.clone(), None).await {
            Ok(()) => stored += 1,
            Err(rejected) => break rejected,
        }
    };
    let expected = format!(
        "the store failed: the cache file `{}` cannot be written (free some space on its disk, the next \
         request tries again): no storage space",
        path.display()
    );
    assert_eq!(chain(&rejected), expected);
    assert!(stored > 0, "some space was left");
    // All acknowledged entries can be read on the full disk.
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    for number in 0..stored {
        let read = store.get(&format!("k{number}")).await.unwrap();
        assert_eq!(read.as_ref(), Some(&value), "k{number}");
    }
    assert_eq!(store.get(&format!("k{stored}")).await.unwrap(), None);
    // A write during the retry delay has the same cause.
    let again = store.set("b", value.clone(), None).await.unwrap_err();
    assert_eq!(chain(&again), expected);
    // Deletions use the pages that the failed commit has not used up.
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
async fn removed_file_is_not_recreated_when_the_store_opens_it_again() {
    let (_folder, path) = file();
    let store = FileStore::open(&path).unwrap();
    store.set("k", "v".into(), None).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let failure = store.0.slot.reopen().unwrap_err();
    let text = chain(&failure);
    assert!(text.contains("cannot be opened"), "{text}");
    assert!(text.contains("No such file or directory"), "{text}");
    for rejected in [
        store.get("k").await.unwrap_err(),
        store.set("k", "v".into(), None).await.unwrap_err(),
    ] {
        let text = chain(&rejected);
        assert!(text.contains("No such file or directory"), "{text}");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn all_requests_of_a_failed_commit_receive_its_cause() {
    let (_folder, path) = file();
    let (store, limit) = small_disk(&path);
    limit.store(0, Ordering::Relaxed);
    let value = Bytes::from(vec![7; 100_000]);
    let sets = (0..50).map(|number| {
        let (store, value) = (store.clone(), value.clone());
        async move { store.set(&format!("k{number}"), value, None).await }
    });
    for rejected in futures_util::future::join_all(sets).await {
        let cause = chain(&rejected.unwrap_err());
        assert!(cause.contains("no storage space"), "{cause}");
    }
}

#[tokio::test]
async fn flipped_bit_in_a_value_is_an_error_that_names_the_key() {
    let (_folder, path) = file();
    let store = FileStore::open(&path).unwrap();
    // A pattern that can be found in the file.
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
    let text = "the stored value of `hit` is damaged, its checksum is wrong: set or delete the key";
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
async fn flipped_bits_in_any_page_never_yield_a_wrong_value() {
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
fn empty_or_foreign_file_is_rejected_and_not_changed() {
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

    std::fs::write(&path, "a text that some program wrote").unwrap();
    let expected = format!(
        "`{shown}` is not a cache file but begins with `a text that some`: give the path of another file"
    );
    assert_eq!(text(&path), expected);
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"a text that some program wrote"
    );

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
fn missing_directory_is_named_with_the_cause() {
    let (_folder, path) = file();
    let missing = FileStore::open(path.join("folder/cache.db")).unwrap_err();
    let text = chain(&missing);
    assert!(text.starts_with("the store at `"), "{text}");
    assert!(text.contains("No such file or directory"), "{text}");
}

#[tokio::test]
async fn file_cannot_be_opened_twice() {
    let (_folder, path) = file();
    let store = FileStore::open(&path).unwrap();
    let again = FileStore::open(&path).unwrap_err();
    let text = format!("the cache file `{}` is already open", path.display());
    assert_eq!(again.to_string(), text);
    drop(store);
    FileStore::open(&path).unwrap();
}

#[tokio::test]
async fn limit_survives_reopening_and_deletions_free_bytes() {
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
async fn expired_entry_is_removed_without_a_request() {
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
