//! What a scan gives: entries, page by page.

use bytes::Bytes;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
}

/// Some of the entries that a scan finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<Position>,
}

/// Where the next page of a scan begins. What the text is, only the store knows that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    /// A position of a store's own.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text that it was made of.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How much a page may hold. It ends with the entry that reaches one of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Most entries. Default: 1000; 0 counts as 1.
    pub entries: usize,
    /// Most bytes of keys and values, the last entry aside. Default: 1 MiB.
    pub bytes: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self {
            entries: 1000,
            bytes: 1024 * 1024,
        }
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    entries: Vec<Entry>,
    limits: PageLimits,
    bytes: usize,
}

impl Filling {
    pub(super) fn new(limits: PageLimits) -> Self {
        Self {
            entries: Vec::new(),
            limits,
            bytes: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.limits.entries.max(1)
            || (self.bytes >= self.limits.bytes && !self.entries.is_empty())
    }

    pub(super) fn push(&mut self, key: &str, value: Bytes) {
        self.bytes += key.len() + value.len();
        let key = key.to_owned();
        self.entries.push(Entry { key, value });
    }

    /// The page of a store that keeps its keys in order: the next one begins behind its last key, if
    /// it is full.
    pub(super) fn in_order(self) -> Page {
        let last = self.entries.last().filter(|_| self.is_full());
        let next = last.map(|entry| Position::new(&entry.key));
        let entries = self.entries;
        Page { entries, next }
    }

    /// The page of a store that has positions of its own.
    #[cfg(feature = "redis")]
    pub(super) fn up_to(self, next: Option<Position>) -> Page {
        let entries = self.entries;
        Page { entries, next }
    }
}
