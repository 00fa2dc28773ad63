//! [`Page`]: the result of a scan, and its position and limits.

use bytes::Bytes;

use crate::options::options;

/// An entry of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
}

impl Entry {
    /// Creates an entry. For implementations of [`KeyValue`](crate::KeyValue).
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A part of the entries that a scan finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The entries of the page.
    pub entries: Vec<Entry>,
    /// The position of the next page, or `None` if this is the last page.
    pub next: Option<Position>,
}

impl Page {
    /// Creates a page. For implementations of [`KeyValue`](crate::KeyValue).
    pub fn new(entries: Vec<Entry>, next: Option<Position>) -> Self {
        Self { entries, next }
    }
}

/// The position at which a scan continues. Its text is opaque to everything but the store that issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    /// Creates a position. For implementations of [`KeyValue`](crate::KeyValue).
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text of the position.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

options! {
    /// Limits on the size of a page. The entry that reaches a limit is the last one of the page.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PageLimits {
        /// Sets the largest number of entries. Default: 1000. 0 counts as 1.
        max_entries: usize = 1000,
        /// Sets the bytes of keys and values at which the page ends. Default: 1 MiB.
        max_bytes: usize = 1024 * 1024,
    }
}

impl PageLimits {
    /// Returns whether a page with these entries is complete. For implementations of [`KeyValue`](crate::KeyValue).
    pub fn are_reached(&self, entries: usize, bytes: usize) -> bool {
        entries >= self.max_entries.max(1) || (bytes >= self.max_bytes && entries > 0)
    }
}

/// Builds a page up to its limits.
#[derive(Debug)]
pub(super) struct PageBuilder {
    entries: Vec<Entry>,
    limits: PageLimits,
    bytes: usize,
}

impl PageBuilder {
    pub(super) fn new(limits: PageLimits) -> Self {
        Self {
            entries: Vec::new(),
            limits,
            bytes: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.limits.are_reached(self.entries.len(), self.bytes)
    }

    pub(super) fn push(&mut self, key: &str, value: Bytes) {
        self.bytes += key.len() + value.len();
        let key = key.to_owned();
        self.entries.push(Entry { key, value });
    }

    /// Returns the page of an ordered store. If the page is full, the next one begins after its last key.
    pub(super) fn in_order(self) -> Page {
        let last = self.entries.last().filter(|_| self.is_full());
        let next = last.map(|entry| Position::new(&entry.key));
        let entries = self.entries;
        Page { entries, next }
    }

    /// Returns the page of a store that has its own kind of positions.
    #[cfg(feature = "redis")]
    pub(super) fn up_to(self, next: Option<Position>) -> Page {
        let entries = self.entries;
        Page { entries, next }
    }
}
