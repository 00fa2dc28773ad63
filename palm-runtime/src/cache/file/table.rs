//! The tables of the cache file, and how a request reads or changes them.
//!
//! - `entries` maps a key to its expiry (milliseconds since 1970, 0: never, in eight bytes), a checksum (XXH3, eight
//!   bytes) of the key, the expiry and the value, and the value.
//! - `ends` is an index of the keys with an expiry, by expiry.
//! - `about` has the format of the file and the number of bytes of all entries.
//!
//! The engine verifies its own checksums only when it repairs the file after a crash, so every read here verifies the
//! checksum of the entry.

use std::ops::Bound;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use bytestring::ByteString;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle, WriteTransaction,
};
use xxhash_rust::xxh3::Xxh3Default;

use crate::cache::page::PageBuilder;
use crate::cache::{CacheError, Page, PageLimits};

/// The format of the file.
pub(super) const FORMAT: u64 = 2;

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ends");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// Bytes that an entry counts besides its key and value, so that the limit in bytes also bounds the number of entries.
const ENTRY_OVERHEAD: u64 = 64;

/// Number of keys that one request removes.
const MAX_BATCH: usize = 1000;

/// Error of a write request.
pub(super) enum WriteError {
    /// The request is rejected. Other requests of its commit are not affected.
    Rejected(CacheError),
    /// The file failed, and all requests of the commit with it.
    Failed(redb::Error),
}

impl From<CacheError> for WriteError {
    fn from(error: CacheError) -> Self {
        Self::Rejected(error)
    }
}

impl From<redb::Error> for WriteError {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<redb::StorageError> for WriteError {
    fn from(error: redb::StorageError) -> Self {
        Self::Failed(error.into())
    }
}

/// Error of a read request.
pub(super) enum ReadError {
    /// The value of this key does not match its checksum.
    Damaged(String),
    /// The file failed.
    Failed(redb::Error),
}

impl From<redb::Error> for ReadError {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<redb::StorageError> for ReadError {
    fn from(error: redb::StorageError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<TableError> for ReadError {
    fn from(error: TableError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(key) => Self::Rejected(CacheError::Damaged { key }),
            ReadError::Failed(error) => Self::Failed(error),
        }
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is wrong anyway.
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// The content of a redb file.
pub(super) enum FileContent {
    /// A cache in this format.
    Cache(u64),
    /// Tables of another program, with the name of one.
    Foreign(String),
}

/// Creates the tables of a new file, or returns the format of an existing one. Does not change a file of another
/// program.
pub(super) fn prepare(database: &Database) -> Result<FileContent, redb::Error> {
    let read = database.begin_read()?;
    match read.open_table(ABOUT) {
        Ok(about) => {
            let format = about.get("format")?;
            return Ok(FileContent::Cache(
                format.map_or(0, |format| format.value()),
            ));
        }
        Err(TableError::TableDoesNotExist(_)) => {
            if let Some(table) = read.list_tables()?.next() {
                return Ok(FileContent::Foreign(table.name().to_owned()));
            }
        }
        Err(TableError::TableTypeMismatch { table, .. }) => return Ok(FileContent::Foreign(table)),
        Err(error) => return Err(error.into()),
    }
    drop(read);
    let write = database.begin_write()?;
    write.open_table(ENTRIES)?;
    write.open_table(ENDS)?;
    {
        let mut about = write.open_table(ABOUT)?;
        about.insert("format", FORMAT)?;
        about.insert("bytes", 0)?;
    }
    write.commit()?;
    Ok(FileContent::Cache(FORMAT))
}

/// Bytes that precede the value of an entry: the expiry and the checksum.
const HEAD_BYTES: usize = 16;

fn checksum(key: &str, end: u64, value: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(&(key.len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update(&end.to_be_bytes());
    hash.update(value);
    hash.digest()
}

/// Splits an entry into its expiry and value, without verifying them. For entries that are overwritten or removed.
fn split(stored: &[u8]) -> (Option<u64>, &[u8]) {
    let Some((head, value)) = stored.split_at_checked(HEAD_BYTES) else {
        return (None, &[]);
    };
    let end = head.first_chunk().map_or(0, |end| u64::from_be_bytes(*end));
    (Some(end).filter(|end| *end > 0), value)
}

/// Splits an entry into its expiry and value, and verifies its checksum.
fn verify<'a>(key: &str, stored: &'a [u8]) -> Result<(Option<u64>, &'a [u8]), ReadError> {
    let (end, value) = split(stored);
    let sum = stored.get(HEAD_BYTES - 8..HEAD_BYTES);
    let expected = checksum(key, end.unwrap_or(0), value).to_be_bytes();
    match sum == Some(&expected[..]) {
        true => Ok((end, value)),
        false => Err(ReadError::Damaged(key.to_owned())),
    }
}

fn is_live(end: Option<u64>, now: u64) -> bool {
    end.is_none_or(|end| end > now)
}

fn weight(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_OVERHEAD
}

pub(super) fn get(read: &ReadTransaction, key: &str) -> Result<Option<Bytes>, ReadError> {
    let entries = read.open_table(ENTRIES)?;
    let Some(stored) = entries.get(key)? else {
        return Ok(None);
    };
    let (end, value) = verify(key, stored.value())?;
    Ok(is_live(end, now_ms()).then(|| Bytes::copy_from_slice(value)))
}

pub(super) fn scan(
    read: &ReadTransaction,
    prefix: &str,
    after: Option<&str>,
    limits: PageLimits,
) -> Result<Page, ReadError> {
    let entries = read.open_table(ENTRIES)?;
    let mut page = PageBuilder::new(limits);
    visit_entries(&entries, prefix, after, |key, stored| {
        let (end, value) = verify(key, stored)?;
        if is_live(end, now_ms()) {
            page.push(key, Bytes::copy_from_slice(value));
        }
        Ok(page.is_full())
    })?;
    Ok(page.in_order())
}

/// Visits the entries with `prefix` after `after`, until `visit` returns `true`.
fn visit_entries(
    entries: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&str, &[u8]) -> Result<bool, ReadError>,
) -> Result<(), ReadError> {
    let begin = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    for entry in entries.range::<&str>((begin, Bound::Unbounded))? {
        let (key, stored) = entry?;
        if !key.value().starts_with(prefix) || visit(key.value(), stored.value())? {
            break;
        }
    }
    Ok(())
}

/// A key and its new value, or `None` if it was removed.
pub(super) type Changed = (ByteString, Option<Bytes>);

/// The open tables of a write transaction.
pub(super) struct CacheTables<'a> {
    entries: redb::Table<'a, &'static str, &'static [u8]>,
    ends: redb::Table<'a, (u64, &'static str), ()>,
    about: redb::Table<'a, &'static str, u64>,
    bytes: u64,
    limit_bytes: u64,
    now: u64,
    /// Changes to record for watchers after the commit.
    changed: Vec<Changed>,
}

impl<'a> CacheTables<'a> {
    pub(super) fn open(write: &'a WriteTransaction, limit_bytes: u64) -> Result<Self, redb::Error> {
        let about = write.open_table(ABOUT)?;
        let bytes = about.get("bytes")?.map_or(0, |bytes| bytes.value());
        Ok(Self {
            entries: write.open_table(ENTRIES)?,
            ends: write.open_table(ENDS)?,
            about,
            bytes,
            limit_bytes,
            now: now_ms(),
            changed: Vec::new(),
        })
    }

    /// Returns the changes of the transaction, and the earliest expiry.
    pub(super) fn finish(mut self) -> Result<(Vec<Changed>, Option<u64>), redb::Error> {
        if !self.changed.is_empty() {
            self.about.insert("bytes", self.bytes)?;
        }
        let next = self.ends.first()?.map(|(end, _)| end.value().0);
        Ok((self.changed, next))
    }

    /// Returns the value and expiry of a key.
    pub(super) fn get(&self, key: &str) -> Result<Option<(Bytes, Option<u64>)>, ReadError> {
        let Some(stored) = self.entries.get(key)? else {
            return Ok(None);
        };
        let (end, value) = verify(key, stored.value())?;
        Ok(is_live(end, self.now).then(|| (Bytes::copy_from_slice(value), end)))
    }

    pub(super) fn set(
        &mut self,
        key: &str,
        value: &[u8],
        end: Option<u64>,
    ) -> Result<(), WriteError> {
        let (old_end, before) = match self.entries.get(key)? {
            Some(stored) => {
                let (end, value) = split(stored.value());
                (end, weight(key, value))
            }
            None => (None, 0),
        };
        let bytes = self.bytes.saturating_sub(before) + weight(key, value);
        if bytes > self.limit_bytes {
            let limit = usize::try_from(self.limit_bytes).unwrap_or(usize::MAX);
            return Err(CacheError::Full { limit }.into());
        }
        self.bytes = bytes;
        {
            let mut stored = self.entries.insert_reserve(key, HEAD_BYTES + value.len())?;
            let ends = end.unwrap_or(0);
            let sum = checksum(key, ends, value);
            let mut rest = stored.as_mut();
            for part in [&ends.to_be_bytes()[..], &sum.to_be_bytes(), value] {
                let (to, behind) = rest.split_at_mut(part.len());
                to.copy_from_slice(part);
                rest = behind;
            }
        }
        if old_end != end {
            if let Some(old) = old_end {
                self.ends.remove((old, key))?;
            }
            if let Some(end) = end {
                self.ends.insert((end, key), ())?;
            }
        }
        let value = Bytes::copy_from_slice(value);
        self.changed.push((key.into(), Some(value)));
        Ok(())
    }

    /// Removes the key, and returns whether it existed.
    pub(super) fn remove(&mut self, key: &str) -> Result<bool, redb::Error> {
        let (end, freed) = match self.entries.remove(key)? {
            Some(stored) => {
                let (end, value) = split(stored.value());
                (end, weight(key, value))
            }
            None => return Ok(false),
        };
        self.bytes = self.bytes.saturating_sub(freed);
        if let Some(end) = end {
            self.ends.remove((end, key))?;
        }
        self.changed.push((key.into(), None));
        Ok(is_live(end, self.now))
    }

    /// Removes up to [`MAX_BATCH`] of the keys after `after`. Returns their number, and the last one if there may be more.
    pub(super) fn remove_batch(
        &mut self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(u64, Option<String>), ReadError> {
        let mut keys = Vec::new();
        visit_entries(&self.entries, prefix, after, |key, _| {
            keys.push(key.to_owned());
            Ok(keys.len() >= MAX_BATCH)
        })?;
        let mut removed = 0;
        for key in &keys {
            removed += u64::from(self.remove(key)?);
        }
        let next = if keys.len() < MAX_BATCH {
            None
        } else {
            keys.pop()
        };
        Ok((removed, next))
    }

    /// Removes expired keys, up to [`MAX_BATCH`].
    pub(super) fn remove_expired(&mut self) -> Result<(), redb::Error> {
        for _ in 0..MAX_BATCH {
            let key = match self.ends.first()? {
                Some((end, _)) if end.value().0 <= self.now => end.value().1.to_owned(),
                _ => break,
            };
            self.remove(&key)?;
        }
        Ok(())
    }
}
