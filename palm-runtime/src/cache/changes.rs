//! The recent changes of a store, for whoever watches it.
//!
//! A store records each change in one ring, which is bounded; a watcher is a place in it. So any
//! number of watchers cost nothing while nothing happens, a slow one holds nobody up, and it is told
//! when the ring has overtaken it. That serves the watchers of this process and those that ask over
//! the network alike.
//!
//! The ring is for all keys, and the changes of other keys must not make a watcher lag. So the ring remembers
//! for each watched prefix the last change of its keys that it has dropped: a watcher has missed something if
//! that one is not before its place. A prefix is watched while a [`Watcher`] has it; those of peers that ask
//! over the network are kept until there are too many of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::watch;

/// What happened to a key that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key was set, or added to.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
    },
    /// The key was deleted, or its time was over.
    Removed {
        /// The key.
        key: String,
    },
    /// Some changes are not told: there were more than the watcher took in time, or the way to the
    /// store was interrupted. Whoever keeps a copy of what is watched has to scan it again; what
    /// happens from now on is told.
    Lagged,
}

impl Change {
    /// The key that changed; none of [`Lagged`](Self::Lagged).
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Set { key, .. } | Self::Removed { key } => Some(key),
            Self::Lagged => None,
        }
    }

    /// The change with another key, as who sees only a part of the keys names it.
    pub(super) fn with_key(self, rename: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Set { key, value } => Self::Set {
                key: rename(key),
                value,
            },
            Self::Removed { key } => Self::Removed { key: rename(key) },
            Self::Lagged => Self::Lagged,
        }
    }
}

/// Where a store records its changes: the last 4096 of them, and of their keys and values at most
/// 8 MiB, the last one aside. Clones are the same record.
#[derive(Debug, Clone)]
pub struct Changes(Arc<Record>);

#[derive(Debug)]
struct Record {
    /// Another one for each record, so that a place in one is not taken for a place in another.
    id: u64,
    ring: Mutex<Ring>,
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the first change in the ring.
    begin: u64,
    changes: VecDeque<(ByteString, Option<Bytes>)>,
    bytes: usize,
    watched: HashMap<ByteString, Watched>,
    /// How many watched prefixes there are of each length, as changes are looked up by these.
    lengths: HashMap<usize, usize>,
    /// How many prefixes only peers watch.
    of_peers: usize,
    /// Counts what peers ask, so that the prefix that none has asked for longest is forgotten first.
    asked: u64,
}

/// A prefix that is watched.
#[derive(Debug)]
struct Watched {
    /// The first change whose dropping is noticed here.
    since: u64,
    /// The last change of its keys that the ring has dropped.
    dropped: Option<u64>,
    /// How many watchers of this process have it.
    watchers: usize,
    /// When a peer last asked for it.
    asked: u64,
}

const LEN: usize = 4096;
const BYTES: usize = 8 * 1024 * 1024;

/// How many prefixes that only peers watch are remembered, and how long they may be. Watchers of others are told
/// that they lag if anything was dropped.
const PREFIXES: usize = 1024;
const PREFIX_BYTES: usize = 1024;

/// How many changes and bytes are read at once.
const READ_LEN: usize = 1000;
const READ_BYTES: usize = 1024 * 1024;

/// A watcher's place: the number of the first change that it has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) record: u64,
    pub(crate) number: u64,
}

impl Default for Changes {
    fn default() -> Self {
        let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self(Arc::new(Record {
            id,
            ring: Mutex::default(),
            end: watch::Sender::new(0),
        }))
    }
}

impl Ring {
    fn end(&self) -> u64 {
        self.begin + self.changes.len() as u64
    }

    /// Drops the oldest change, and notes that for who watches its key.
    fn drop_first(&mut self) {
        let Some((key, value)) = self.changes.pop_front() else {
            return;
        };
        self.bytes -= weight(&key, value.as_ref());
        for len in self.lengths.keys() {
            // No key begins with half a character.
            if let Some(prefix) = key.get(..*len)
                && let Some(watched) = self.watched.get_mut(prefix)
            {
                watched.dropped = Some(self.begin);
            }
        }
        self.begin += 1;
    }

    /// The entry of a prefix; a new one notices what is dropped from now on.
    fn watched(&mut self, prefix: &str) -> &mut Watched {
        if !self.watched.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
            self.of_peers += 1;
        }
        let since = self.begin;
        self.watched
            .entry(prefix.into())
            .or_insert_with(|| Watched {
                since,
                dropped: None,
                watchers: 0,
                asked: 0,
            })
    }

    fn forget(&mut self, prefix: &str) {
        if self.watched.remove(prefix).is_none() {
            return;
        }
        self.of_peers -= 1;
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Remembers that a peer watches the prefix.
    fn asked(&mut self, prefix: &str) {
        if prefix.len() > PREFIX_BYTES {
            return;
        }
        self.asked += 1;
        let asked = self.asked;
        self.watched(prefix).asked = asked;
        while self.of_peers > PREFIXES {
            let of_peers = self.watched.iter().filter(|(_, it)| it.watchers == 0);
            let oldest = of_peers.min_by_key(|(_, it)| it.asked);
            match oldest.map(|(prefix, _)| prefix.clone()) {
                Some(oldest) => self.forget(&oldest),
                None => return,
            }
        }
    }

    /// Whether a watcher at `number`, before the ring, has missed changes of its keys.
    fn has_missed(&self, prefix: &str, number: u64) -> bool {
        let Some(watched) = self.watched.get(prefix) else {
            return true;
        };
        number < watched.since || watched.dropped.is_some_and(|dropped| dropped >= number)
    }
}

fn weight(key: &str, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len)
}

impl Changes {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `key` has the value `value` now, or none. Changes of one key are to be recorded in
    /// their order.
    pub fn record(&self, key: impl Into<ByteString>, value: Option<Bytes>) {
        let key = key.into();
        let mut ring = self.ring();
        ring.bytes += weight(&key, value.as_ref());
        ring.changes.push_back((key, value));
        while ring.changes.len() > LEN || (ring.bytes > BYTES && ring.changes.len() > 1) {
            ring.drop_first();
        }
        self.0.end.send_replace(ring.end());
    }

    /// Records that changes have been missed: every watcher is told [`Change::Lagged`].
    pub fn record_gap(&self) {
        let mut ring = self.ring();
        ring.begin = ring.end() + 1;
        ring.changes.clear();
        ring.bytes = 0;
        let begin = ring.begin;
        for watched in ring.watched.values_mut() {
            watched.since = begin;
        }
        self.0.end.send_replace(ring.end());
    }

    /// Where a watcher begins that wants to know what happens from now on.
    #[cfg(test)]
    pub(crate) fn now(&self) -> Cursor {
        self.at(self.ring().end())
    }

    /// The same for a peer, which asks again with this place.
    pub(crate) fn now_for_peer(&self, prefix: &str) -> Cursor {
        let mut ring = self.ring();
        ring.asked(prefix);
        self.at(ring.end())
    }

    /// Keeps the place of a peer, which asks for it again and again.
    pub(crate) fn asked_by_peer(&self, prefix: &str) {
        self.ring().asked(prefix);
    }

    /// A watcher of this process: it is told what happens from now on.
    pub(crate) fn watch(&self, prefix: &str) -> Watcher {
        let mut ring = self.ring();
        let watched = ring.watched(prefix);
        watched.watchers += 1;
        if watched.watchers == 1 {
            ring.of_peers -= 1;
        }
        Watcher {
            prefix: prefix.to_owned(),
            cursor: self.at(ring.end()),
            changes: self.clone(),
        }
    }

    fn at(&self, number: u64) -> Cursor {
        let record = self.0.id;
        Cursor { record, number }
    }

    /// The changes of keys that begin with `prefix` from `cursor` on, as many as one reads at once, and
    /// moves it behind them.
    pub(crate) fn read(&self, prefix: &str, cursor: &mut Cursor) -> Vec<Change> {
        let ring = self.ring();
        let is_behind = cursor.number < ring.begin;
        if cursor.record != self.0.id
            || cursor.number > ring.end()
            || (is_behind && ring.has_missed(prefix, cursor.number))
        {
            *cursor = self.at(ring.end());
            return vec![Change::Lagged];
        }
        cursor.number = cursor.number.max(ring.begin);
        let mut changes = Vec::new();
        let mut bytes = 0;
        // Within the ring, whose length is a `usize`.
        let skip = (cursor.number - ring.begin) as usize;
        for (key, value) in ring.changes.iter().skip(skip) {
            if changes.len() >= READ_LEN || bytes >= READ_BYTES {
                break;
            }
            cursor.number += 1;
            if key.starts_with(prefix) {
                bytes += weight(key, value.as_ref());
                let key = key.to_string();
                changes.push(match value.clone() {
                    Some(value) => Change::Set { key, value },
                    None => Change::Removed { key },
                });
            }
        }
        changes
    }

    /// The same, as soon as there is one. Cancel safe.
    pub(crate) async fn next(&self, prefix: &str, cursor: &mut Cursor) -> Vec<Change> {
        let mut end = self.0.end.subscribe();
        loop {
            let changes = self.read(prefix, cursor);
            if !changes.is_empty() {
                return changes;
            }
            let seen = cursor.number;
            // The sender is in `self`.
            let _ = end.wait_for(|end| *end != seen).await;
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here panics between two changes that belong together.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher of this process.
#[derive(Debug)]
pub(crate) struct Watcher {
    changes: Changes,
    prefix: String,
    cursor: Cursor,
}

impl Watcher {
    /// The next changes, as soon as there is one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<Change> {
        self.changes.next(&self.prefix, &mut self.cursor).await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut ring = self.changes.ring();
        let Some(watched) = ring.watched.get_mut(&*self.prefix) else {
            return;
        };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            let is_asked_for = watched.asked > 0;
            ring.of_peers += 1;
            if !is_asked_for {
                ring.forget(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_lag_only_by_changes_of_their_own_keys() {
        use futures_util::FutureExt;
        let changes = Changes::new();
        let mut watcher = changes.watch("mine/");
        let mut peer = changes.now_for_peer("mine/k");
        let mut of_other = changes.now_for_peer("other");
        let mut unknown = changes.now();
        changes.record("mine/k", Some("1".into()));
        for number in 0..LEN - 1 {
            changes.record(format!("other/{number}"), None);
        }
        // The first change is still in the ring.
        let key = "mine/k".to_owned();
        let value = Bytes::from("1");
        let set = vec![Change::Set { key, value }];
        assert_eq!(watcher.next().now_or_never(), Some(set.clone()));
        assert_eq!(changes.read("mine/k", &mut peer), set);
        for number in 0..3 * LEN {
            changes.record(format!("other/{number}"), None);
        }
        assert_eq!(watcher.next().now_or_never(), None);
        assert_eq!(changes.read("mine/k", &mut peer.clone()), []);
        assert_eq!(changes.read("other", &mut of_other), [Change::Lagged]);
        assert_eq!(changes.read("unknown", &mut unknown), [Change::Lagged]);
        // A change of its own that is dropped is missed.
        changes.record("mine/k", None);
        for _ in 0..=LEN {
            changes.record("other", None);
        }
        assert_eq!(watcher.next().now_or_never(), Some(vec![Change::Lagged]));
        assert_eq!(changes.read("mine/k", &mut peer), [Change::Lagged]);
        assert_eq!(watcher.next().now_or_never(), None);
        // A gap is one for everybody.
        changes.record_gap();
        assert_eq!(watcher.next().now_or_never(), Some(vec![Change::Lagged]));
    }

    #[test]
    fn prefixes_of_peers_are_bounded_and_those_of_watchers_end_with_them() {
        let changes = Changes::new();
        let watchers: Vec<_> = (0..2 * PREFIXES)
            .map(|number| changes.watch(&format!("w{number}")))
            .collect();
        for number in 0..3 * PREFIXES {
            changes.asked_by_peer(&format!("p{number}"));
        }
        changes.asked_by_peer(&"x".repeat(PREFIX_BYTES + 1));
        assert_eq!(changes.ring().watched.len(), 3 * PREFIXES);
        // The last ones are kept.
        assert!(!changes.ring().watched.contains_key("p0"));
        drop(watchers);
        let ring = changes.ring();
        assert_eq!((ring.watched.len(), ring.of_peers), (PREFIXES, PREFIXES));
        assert_eq!(ring.lengths.values().sum::<usize>(), PREFIXES);
    }

    fn check(changes: &Changes, prefix: &str, cursor: &mut Cursor, expected: &str) {
        let told = changes
            .read(prefix, cursor)
            .into_iter()
            .map(|change| match change {
                Change::Set { key, value } => format!("{key}={}", value.escape_ascii()),
                Change::Removed { key } => format!("-{key}"),
                Change::Lagged => "lagged".to_owned(),
            });
        assert_eq!(told.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_watcher_sees_what_happens_to_its_keys_from_its_beginning_on() {
        let changes = Changes::new();
        changes.record("a/1", Some("before".into()));
        let mut cursor = changes.now();
        check(&changes, "", &mut cursor, "");
        changes.record("a/1", Some("x".into()));
        changes.record("b", Some("y".into()));
        changes.record("a/1", None);
        check(&changes, "a/", &mut cursor.clone(), "a/1=x -a/1");
        check(&changes, "", &mut cursor, "a/1=x b=y -a/1");
        check(&changes, "", &mut cursor, "");
    }

    #[test]
    fn who_is_overtaken_is_told_and_goes_on() {
        let changes = Changes::new();
        let mut slow = changes.now();
        for _ in 0..=LEN {
            changes.record("k", Some("v".into()));
        }
        check(&changes, "other", &mut slow, "lagged");
        changes.record("k", None);
        check(&changes, "", &mut slow, "-k");

        changes.record_gap();
        check(&changes, "", &mut slow, "lagged");
        changes.record("k", None);
        check(&changes, "", &mut slow, "-k");

        let mut of_another = Changes::new().now();
        check(&changes, "", &mut of_another, "lagged");
        let mut ahead = changes.now();
        ahead.number += 1;
        check(&changes, "", &mut ahead, "lagged");
    }

    #[test]
    fn change_has_the_key_that_it_is_of() {
        let key = || "k".to_owned();
        let value = "v".into();
        assert_eq!(Change::Set { key: key(), value }.key(), Some("k"));
        assert_eq!(Change::Removed { key: key() }.key(), Some("k"));
        assert_eq!(Change::Lagged.key(), None);
    }

    fn sized(bytes: usize) -> Option<Bytes> {
        Some(vec![0; bytes].into())
    }

    #[test]
    fn changes_are_kept_up_to_exactly_the_limit_of_bytes() {
        let changes = Changes::new();
        let mut cursor = changes.now();
        // Keys count as well as values.
        changes.record("a", sized(BYTES / 2 - 1));
        changes.record("b", sized(BYTES / 2 - 1));
        changes.record("", sized(0));
        let kept = || {
            let ring = changes.ring();
            (ring.bytes, ring.begin)
        };
        assert_eq!(kept(), (BYTES, 0));
        changes.record("c", None);
        assert_eq!(changes.read("", &mut cursor), [Change::Lagged]);
        assert_eq!(kept(), (BYTES / 2 + 1, 1));
    }

    #[test]
    fn changes_are_kept_up_to_exactly_the_limit_of_their_number() {
        let changes = Changes::new();
        let cursor = changes.now();
        for _ in 0..LEN {
            changes.record("k", None);
        }
        assert_eq!(changes.read("", &mut cursor.clone()).len(), READ_LEN);
        changes.record("k", None);
        assert_eq!(changes.read("", &mut cursor.clone()), [Change::Lagged]);
        assert_eq!(changes.ring().changes.len(), LEN);
        assert_eq!(changes.ring().bytes, LEN);
    }

    #[test]
    fn a_gap_leaves_nothing_behind() {
        let changes = Changes::new();
        changes.record("k", sized(10));
        let mut before = changes.now();
        let mut unread = changes.at(0);
        changes.record_gap();
        assert_eq!(changes.ring().bytes, 0);
        assert_eq!(changes.ring().changes.len(), 0);
        // Who begins after the gap has missed nothing.
        let mut after = changes.now();
        check(&changes, "", &mut after, "");
        check(&changes, "", &mut unread, "lagged");
        check(&changes, "", &mut before, "lagged");
        check(&changes, "", &mut before, "");
        changes.record("k", None);
        check(&changes, "", &mut after, "-k");
        check(&changes, "", &mut before, "-k");
    }

    #[test]
    fn a_watcher_reads_a_bounded_number_at_once_and_goes_on_there() {
        let changes = Changes::new();
        let mut cursor = changes.now();
        for number in 0..READ_LEN + 1 {
            changes.record("other", None);
            changes.record(format!("k{number}"), None);
        }
        // Of other keys there may be any number among them.
        assert_eq!(changes.read("k", &mut cursor).len(), READ_LEN);
        check(&changes, "k", &mut cursor, &format!("-k{READ_LEN}"));
    }

    #[test]
    fn a_watcher_reads_bounded_bytes_at_once_and_goes_on_there() {
        let changes = Changes::new();
        let mut cursor = changes.now();
        for key in ["a", "b", "c", "d"] {
            changes.record(key, sized(READ_BYTES / 2));
        }
        // What is beyond the bound by the last one is read too.
        assert_eq!(changes.read("", &mut cursor).len(), 2);
        assert_eq!(changes.read("c", &mut cursor.clone()).len(), 1);
        assert_eq!(changes.read("", &mut cursor).len(), 2);
        check(&changes, "", &mut cursor, "");
        changes.record("exact", sized(READ_BYTES - "exact".len()));
        changes.record("next", None);
        assert_eq!(changes.read("", &mut cursor).len(), 1);
        check(&changes, "", &mut cursor, "-next");
    }

    #[tokio::test]
    async fn a_watcher_waits_for_a_change_of_its_keys() {
        use futures_util::FutureExt;
        let changes = Changes::new();
        let mut cursor = changes.now();
        let mut next = Box::pin(changes.next("k", &mut cursor));
        assert!(next.as_mut().now_or_never().is_none());
        changes.record("other", None);
        assert!(next.as_mut().now_or_never().is_none());
        changes.record("k", None);
        let key = "k".to_owned();
        assert_eq!(next.await, [Change::Removed { key }]);
    }

    #[test]
    fn large_values_are_bounded_too_but_the_last_one_is_told() {
        let changes = Changes::new();
        let mut cursor = changes.now();
        changes.record("k", Some("v".into()));
        let large = Bytes::from(vec![0; BYTES + 1]);
        let mut late = changes.now();
        changes.record("large", Some(large.clone()));
        assert_eq!(changes.read("", &mut cursor), [Change::Lagged]);
        let (key, value) = ("large".to_owned(), large);
        assert_eq!(changes.read("", &mut late), [Change::Set { key, value }]);
        assert_eq!(changes.ring().changes.len(), 1);
    }
}
