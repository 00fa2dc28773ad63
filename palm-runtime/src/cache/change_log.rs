//! The change log of a store, which watchers read.
//!
//! A store records each change in a bounded ring buffer, and a watcher is a cursor into it, as in a broadcast channel.
//! Idle watchers cost nothing, a slow watcher blocks neither the store nor other watchers, and a watcher that the
//! ring has overtaken receives [`Change::Lagged`]. Watchers of this process and watchers that poll over the network
//! use the same log.
//!
//! The ring has the changes of all keys, but a watcher must lag only by changes of its own keys. So the log keeps, for
//! each watched prefix, the number of the last dropped change of its keys: a watcher has missed a change if that number
//! is not below its cursor. A prefix is watched while a [`ChangeWatcher`] exists for it. The prefixes of peers, which only
//! poll, are kept until there are more than [`MAX_PEER_PREFIXES`], and then the one polled least recently is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// A change of a watched key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The key was set or added to.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
    },
    /// The key was deleted or has expired.
    Removed {
        /// The key.
        key: String,
    },
    /// The watcher has missed changes, because it read too slowly or its connection to the store was interrupted. To
    /// update a copy of the watched keys, scan them again. Later changes are reported.
    Lagged,
}

impl Change {
    /// Returns the key that changed, or `None` for [`Lagged`](Self::Lagged).
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Set { key, .. } | Self::Removed { key } => Some(key),
            Self::Lagged => None,
        }
    }

    /// Replaces the key, to add or remove the prefix of a session.
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

/// The log of a store's changes, for watchers. It keeps the last 4096 changes, up to 8 MiB of keys and values, and at
/// least the last change. Clones share the log.
#[derive(Debug, Clone)]
pub struct ChangeLog(Arc<ChangeLogInner>);

#[derive(Debug)]
struct ChangeLogInner {
    /// A random id, so that a cursor into the log of a restarted component is recognised.
    id: u64,
    ring: Mutex<ChangeRing>,
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct ChangeRing {
    /// Number of the first change in the ring.
    begin: u64,
    changes: VecDeque<(ByteString, Option<Bytes>)>,
    bytes: usize,
    watched: HashMap<ByteString, WatchedPrefix>,
    /// Number of watched prefixes of each length. The prefixes of a key are looked up by these lengths.
    lengths: HashMap<usize, usize>,
    /// Number of prefixes that have no [`ChangeWatcher`].
    of_peers: usize,
    /// Number of polls of peers. It serves as a clock for [`WatchedPrefix::polled`].
    polled: u64,
}

/// A watched prefix.
#[derive(Debug)]
struct WatchedPrefix {
    /// Number of the first change that is accounted for in `dropped`.
    since: u64,
    /// Number of the last dropped change of a key with this prefix.
    dropped: Option<u64>,
    /// Number of watchers in this process.
    watchers: usize,
    /// Poll count ([`ChangeRing::polled`]) when a peer last polled the prefix. 0: never.
    polled: u64,
}

const MAX_CHANGES: usize = 4096;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Number and length of the prefixes that are kept for peers. Peers with other prefixes lag when any change is dropped.
const MAX_PEER_PREFIXES: usize = 1024;
const MAX_PEER_PREFIX_BYTES: usize = 1024;

/// Limits on the changes that one read returns.
const MAX_READ_CHANGES: usize = 1000;
const MAX_READ_BYTES: usize = 1024 * 1024;

/// The position of a watcher: the number of the first change that it has not read, and the id of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeCursor {
    pub(crate) record: u64,
    pub(crate) number: u64,
}

impl Default for ChangeLog {
    fn default() -> Self {
        let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self(Arc::new(ChangeLogInner {
            id,
            ring: Mutex::default(),
            end: watch::Sender::new(0),
        }))
    }
}

impl ChangeRing {
    fn end(&self) -> u64 {
        self.begin + self.changes.len() as u64
    }

    /// Drops the oldest change, and records that for the watched prefixes of its key.
    fn drop_first(&mut self) {
        let Some((key, value)) = self.changes.pop_front() else {
            return;
        };
        self.bytes -= weight(&key, value.as_ref());
        for len in self.lengths.keys() {
            // `get` returns `None` within a character, where no prefix can end.
            if let Some(prefix) = key.get(..*len)
                && let Some(watched) = self.watched.get_mut(prefix)
            {
                watched.dropped = Some(self.begin);
            }
        }
        self.begin += 1;
    }

    /// Returns the entry of a prefix. A new entry accounts for changes that are dropped from now on.
    fn watched(&mut self, prefix: &str) -> &mut WatchedPrefix {
        if !self.watched.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
            self.of_peers += 1;
        }
        let since = self.begin;
        self.watched
            .entry(prefix.into())
            .or_insert_with(|| WatchedPrefix {
                since,
                dropped: None,
                watchers: 0,
                polled: 0,
            })
    }

    fn drop_prefix(&mut self, prefix: &str) {
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

    /// Keeps the prefix of a polling peer, and drops the prefix polled least recently if there are too many.
    fn keep_peer_prefix(&mut self, prefix: &str) {
        if prefix.len() > MAX_PEER_PREFIX_BYTES {
            return;
        }
        self.polled += 1;
        let polled = self.polled;
        self.watched(prefix).polled = polled;
        while self.of_peers > MAX_PEER_PREFIXES {
            let of_peers = self.watched.iter().filter(|(_, it)| it.watchers == 0);
            let oldest = of_peers.min_by_key(|(_, it)| it.polled);
            match oldest.map(|(prefix, _)| prefix.clone()) {
                Some(oldest) => self.drop_prefix(&oldest),
                None => return,
            }
        }
    }

    /// Returns whether a watcher whose cursor `number` precedes the ring has missed changes of its keys.
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

impl ChangeLog {
    /// Creates an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `key` was set to `value`, or was removed if it is `None`. A store has to record the changes of a key
    /// in the order in which they happened.
    pub fn record(&self, key: impl Into<ByteString>, value: Option<Bytes>) {
        let key = key.into();
        let mut ring = self.ring();
        ring.bytes += weight(&key, value.as_ref());
        ring.changes.push_back((key, value));
        while ring.changes.len() > MAX_CHANGES || (ring.bytes > MAX_BYTES && ring.changes.len() > 1)
        {
            ring.drop_first();
        }
        self.0.end.send_replace(ring.end());
    }

    /// Records that the store has missed changes, for example while it was disconnected from its server. Every watcher
    /// receives [`Change::Lagged`].
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

    /// Returns the cursor of a watcher that begins now.
    #[cfg(test)]
    pub(crate) fn now(&self) -> ChangeCursor {
        self.at(self.ring().end())
    }

    /// Returns the cursor of a peer that begins to poll now, and keeps its prefix.
    pub(crate) fn cursor_for_peer(&self, prefix: &str) -> ChangeCursor {
        let mut ring = self.ring();
        ring.keep_peer_prefix(prefix);
        self.at(ring.end())
    }

    /// Keeps the prefix of a peer that polls again.
    pub(crate) fn keep_peer_prefix(&self, prefix: &str) {
        self.ring().keep_peer_prefix(prefix);
    }

    /// Creates a watcher of this process. It receives changes from now on.
    pub(crate) fn watch(&self, prefix: &str) -> ChangeWatcher {
        let mut ring = self.ring();
        let watched = ring.watched(prefix);
        watched.watchers += 1;
        if watched.watchers == 1 {
            ring.of_peers -= 1;
        }
        ChangeWatcher {
            prefix: prefix.to_owned(),
            cursor: self.at(ring.end()),
            changes: self.clone(),
        }
    }

    fn at(&self, number: u64) -> ChangeCursor {
        let record = self.0.id;
        ChangeCursor { record, number }
    }

    /// Returns the changes of keys with `prefix` from `cursor` on, up to the limits of one read, and advances the
    /// cursor.
    pub(crate) fn read(&self, prefix: &str, cursor: &mut ChangeCursor) -> Vec<Change> {
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
        // At most the length of the ring, so it fits into a `usize`.
        let skip = (cursor.number - ring.begin) as usize;
        for (key, value) in ring.changes.iter().skip(skip) {
            if changes.len() >= MAX_READ_CHANGES || bytes >= MAX_READ_BYTES {
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

    /// Waits until there are changes of keys with `prefix`, and returns them like [`read`](Self::read). Cancel safe.
    pub(crate) async fn next(&self, prefix: &str, cursor: &mut ChangeCursor) -> Vec<Change> {
        let mut end = self.0.end.subscribe();
        loop {
            let changes = self.read(prefix, cursor);
            if !changes.is_empty() {
                return changes;
            }
            let seen = cursor.number;
            // Cannot fail: `self` owns the sender.
            let _ = end.wait_for(|end| *end != seen).await;
        }
    }

    fn ring(&self) -> MutexGuard<'_, ChangeRing> {
        self.0.ring.lock()
    }
}

/// A watcher in this process, which keeps its prefix watched.
#[derive(Debug)]
pub(crate) struct ChangeWatcher {
    changes: ChangeLog,
    prefix: String,
    cursor: ChangeCursor,
}

impl ChangeWatcher {
    /// Waits for the next changes. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<Change> {
        self.changes.next(&self.prefix, &mut self.cursor).await
    }
}

impl Drop for ChangeWatcher {
    fn drop(&mut self) {
        let mut ring = self.changes.ring();
        let Some(watched) = ring.watched.get_mut(&*self.prefix) else {
            return;
        };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            let is_polled = watched.polled > 0;
            ring.of_peers += 1;
            if !is_polled {
                ring.drop_prefix(&self.prefix);
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
        let changes = ChangeLog::new();
        let mut watcher = changes.watch("mine/");
        let mut peer = changes.cursor_for_peer("mine/k");
        let mut of_other = changes.cursor_for_peer("other");
        let mut unknown = changes.now();
        changes.record("mine/k", Some("1".into()));
        for number in 0..MAX_CHANGES - 1 {
            changes.record(format!("other/{number}"), None);
        }
        // The first change is still in the ring.
        let key = "mine/k".to_owned();
        let value = Bytes::from("1");
        let set = vec![Change::Set { key, value }];
        assert_eq!(watcher.next().now_or_never(), Some(set.clone()));
        assert_eq!(changes.read("mine/k", &mut peer), set);
        for number in 0..3 * MAX_CHANGES {
            changes.record(format!("other/{number}"), None);
        }
        assert_eq!(watcher.next().now_or_never(), None);
        assert_eq!(changes.read("mine/k", &mut peer.clone()), []);
        assert_eq!(changes.read("other", &mut of_other), [Change::Lagged]);
        assert_eq!(changes.read("unknown", &mut unknown), [Change::Lagged]);
        // A dropped change of its own keys is missed.
        changes.record("mine/k", None);
        for _ in 0..=MAX_CHANGES {
            changes.record("other", None);
        }
        assert_eq!(watcher.next().now_or_never(), Some(vec![Change::Lagged]));
        assert_eq!(changes.read("mine/k", &mut peer), [Change::Lagged]);
        assert_eq!(watcher.next().now_or_never(), None);
        // Every watcher misses a gap.
        changes.record_gap();
        assert_eq!(watcher.next().now_or_never(), Some(vec![Change::Lagged]));
    }

    #[test]
    fn prefixes_of_peers_are_bounded_and_those_of_watchers_are_dropped_with_them() {
        let changes = ChangeLog::new();
        let watchers: Vec<_> = (0..2 * MAX_PEER_PREFIXES)
            .map(|number| changes.watch(&format!("w{number}")))
            .collect();
        for number in 0..3 * MAX_PEER_PREFIXES {
            changes.keep_peer_prefix(&format!("p{number}"));
        }
        changes.keep_peer_prefix(&"x".repeat(MAX_PEER_PREFIX_BYTES + 1));
        assert_eq!(changes.ring().watched.len(), 3 * MAX_PEER_PREFIXES);
        // The last ones are kept.
        assert!(!changes.ring().watched.contains_key("p0"));
        drop(watchers);
        let ring = changes.ring();
        assert_eq!(
            (ring.watched.len(), ring.of_peers),
            (MAX_PEER_PREFIXES, MAX_PEER_PREFIXES)
        );
        assert_eq!(ring.lengths.values().sum::<usize>(), MAX_PEER_PREFIXES);
    }

    #[test]
    fn least_recently_polled_prefix_is_dropped_first_and_the_limit_is_exact() {
        let changes = ChangeLog::new();
        for number in 0..MAX_PEER_PREFIXES {
            changes.keep_peer_prefix(&format!("p{number}"));
        }
        // At the limit, no prefix is dropped.
        assert_eq!(changes.ring().watched.len(), MAX_PEER_PREFIXES);
        assert!(changes.ring().watched.contains_key("p0"));
        // `p0` is polled again, so `p1` is the one polled least recently.
        changes.keep_peer_prefix("p0");
        changes.keep_peer_prefix("another");
        let ring = changes.ring();
        assert_eq!(ring.watched.len(), MAX_PEER_PREFIXES);
        assert!(ring.watched.contains_key("p0"));
        assert!(!ring.watched.contains_key("p1"));
    }

    #[test]
    fn longest_prefix_of_a_peer_is_kept_and_a_longer_one_is_not() {
        let changes = ChangeLog::new();
        let longest = "x".repeat(MAX_PEER_PREFIX_BYTES);
        changes.keep_peer_prefix(&longest);
        changes.keep_peer_prefix(&format!("{longest}x"));
        let ring = changes.ring();
        assert_eq!(ring.watched.keys().collect::<Vec<_>>(), [&*longest]);
    }

    #[test]
    fn watcher_lags_if_changes_were_dropped_before_its_prefix_was_kept() {
        let changes = ChangeLog::new();
        let mut earlier = changes.now();
        for _ in 0..=MAX_CHANGES {
            changes.record("k", None);
        }
        // The first change is dropped before the log accounts for the prefix.
        let mut begin = changes.at(changes.ring().begin);
        changes.keep_peer_prefix("other");
        check(&changes, "other", &mut earlier, "lagged");
        // A cursor at the first accounted change has missed nothing, even after further drops.
        for _ in 0..MAX_CHANGES {
            changes.record("k", None);
        }
        check(&changes, "other", &mut begin, "");
    }

    #[test]
    fn prefix_of_a_dropped_watcher_is_kept_only_if_a_peer_polls_it() {
        let changes = ChangeLog::new();
        let prefixes = || {
            let ring = changes.ring();
            let mut prefixes: Vec<_> = ring.watched.keys().map(ToString::to_string).collect();
            prefixes.sort();
            (prefixes.join(" "), ring.of_peers)
        };
        let (alone, polled) = (changes.watch("alone"), changes.watch("polled"));
        changes.keep_peer_prefix("polled");
        assert_eq!(prefixes(), ("alone polled".to_owned(), 0));
        drop(alone);
        assert_eq!(prefixes(), ("polled".to_owned(), 0));
        drop(polled);
        assert_eq!(prefixes(), ("polled".to_owned(), 1));
    }

    fn check(changes: &ChangeLog, prefix: &str, cursor: &mut ChangeCursor, expected: &str) {
        let found = changes
            .read(prefix, cursor)
            .into_iter()
            .map(|change| match change {
                Change::Set { key, value } => format!("{key}={}", value.escape_ascii()),
                Change::Removed { key } => format!("-{key}"),
                Change::Lagged => "lagged".to_owned(),
            });
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn watcher_reads_changes_of_its_keys_since_it_was_created() {
        let changes = ChangeLog::new();
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
    fn overtaken_watcher_lags_once_and_continues() {
        let changes = ChangeLog::new();
        let mut slow = changes.now();
        for _ in 0..=MAX_CHANGES {
            changes.record("k", Some("v".into()));
        }
        check(&changes, "other", &mut slow, "lagged");
        changes.record("k", None);
        check(&changes, "", &mut slow, "-k");

        changes.record_gap();
        check(&changes, "", &mut slow, "lagged");
        changes.record("k", None);
        check(&changes, "", &mut slow, "-k");

        let mut of_another = ChangeLog::new().now();
        check(&changes, "", &mut of_another, "lagged");
        let mut ahead = changes.now();
        ahead.number += 1;
        check(&changes, "", &mut ahead, "lagged");
    }

    #[test]
    fn change_names_its_key() {
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
    fn log_keeps_changes_up_to_exactly_the_limit_of_bytes() {
        let changes = ChangeLog::new();
        let mut cursor = changes.now();
        // Keys count as well as values.
        changes.record("a", sized(MAX_BYTES / 2 - 1));
        changes.record("b", sized(MAX_BYTES / 2 - 1));
        changes.record("", sized(0));
        let kept = || {
            let ring = changes.ring();
            (ring.bytes, ring.begin)
        };
        assert_eq!(kept(), (MAX_BYTES, 0));
        changes.record("c", None);
        assert_eq!(changes.read("", &mut cursor), [Change::Lagged]);
        assert_eq!(kept(), (MAX_BYTES / 2 + 1, 1));
    }

    #[test]
    fn log_keeps_changes_up_to_exactly_the_limit_of_their_number() {
        let changes = ChangeLog::new();
        let cursor = changes.now();
        for _ in 0..MAX_CHANGES {
            changes.record("k", None);
        }
        assert_eq!(
            changes.read("", &mut cursor.clone()).len(),
            MAX_READ_CHANGES
        );
        changes.record("k", None);
        assert_eq!(changes.read("", &mut cursor.clone()), [Change::Lagged]);
        assert_eq!(changes.ring().changes.len(), MAX_CHANGES);
        assert_eq!(changes.ring().bytes, MAX_CHANGES);
    }

    #[test]
    fn gap_empties_the_log_and_makes_earlier_watchers_lag() {
        let changes = ChangeLog::new();
        changes.record("k", sized(10));
        let mut before = changes.now();
        let mut unread = changes.at(0);
        changes.record_gap();
        assert_eq!(changes.ring().bytes, 0);
        assert_eq!(changes.ring().changes.len(), 0);
        // A watcher that begins after the gap has missed nothing.
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
    fn read_returns_a_bounded_number_of_changes_and_the_next_one_continues() {
        let changes = ChangeLog::new();
        let mut cursor = changes.now();
        for number in 0..MAX_READ_CHANGES + 1 {
            changes.record("other", None);
            changes.record(format!("k{number}"), None);
        }
        // Changes of other keys do not count.
        assert_eq!(changes.read("k", &mut cursor).len(), MAX_READ_CHANGES);
        check(&changes, "k", &mut cursor, &format!("-k{MAX_READ_CHANGES}"));
    }

    #[test]
    fn read_returns_bounded_bytes_and_the_next_one_continues() {
        let changes = ChangeLog::new();
        let mut cursor = changes.now();
        for key in ["a", "b", "c", "d"] {
            changes.record(key, sized(MAX_READ_BYTES / 2));
        }
        // The change that exceeds the bound is still returned.
        assert_eq!(changes.read("", &mut cursor).len(), 2);
        assert_eq!(changes.read("c", &mut cursor.clone()).len(), 1);
        assert_eq!(changes.read("", &mut cursor).len(), 2);
        check(&changes, "", &mut cursor, "");
        changes.record("exact", sized(MAX_READ_BYTES - "exact".len()));
        changes.record("next", None);
        assert_eq!(changes.read("", &mut cursor).len(), 1);
        check(&changes, "", &mut cursor, "-next");
    }

    #[tokio::test]
    async fn watcher_waits_for_a_change_of_its_keys() {
        use futures_util::FutureExt;
        let changes = ChangeLog::new();
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
    fn change_larger_than_the_log_replaces_all_others() {
        let changes = ChangeLog::new();
        let mut cursor = changes.now();
        changes.record("k", Some("v".into()));
        let large = Bytes::from(vec![0; MAX_BYTES + 1]);
        let mut late = changes.now();
        changes.record("large", Some(large.clone()));
        assert_eq!(changes.read("", &mut cursor), [Change::Lagged]);
        let (key, value) = ("large".to_owned(), large);
        assert_eq!(changes.read("", &mut late), [Change::Set { key, value }]);
        assert_eq!(changes.ring().changes.len(), 1);
    }
}
