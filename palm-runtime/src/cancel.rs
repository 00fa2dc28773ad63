//! Calls whose callers have given up: what is queued of them is not begun, and what runs is dropped.
//!
//! A call is known by its topic, the field `client` of its messages. A client tells the first component
//! at its `db_address`, ahead of all that is queued; a component passes it on to those behind it, which
//! follow what it publishes under [`CANCEL_TOPIC`]. Part 2 of the protocol, see `proto/README.md`.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};

use crate::message::Message;

/// What cancellations are published under. The body has one topic of a call a line.
pub(crate) const CANCEL_TOPIC: &[u8] = b"\0palm.cancel";

/// How a line of a list begins that takes a cancellation back.
const RESTORE_PREFIX: char = '+';

/// How long a cancellation is remembered: longer than messages wait in queues, as a rule.
const CANCEL_EXPIRY: Duration = Duration::from_secs(60);
/// How many are remembered.
const MAX_CANCELLED: usize = 10_000;
/// Longest topic, in bytes; those of our clients have less.
const MAX_TOPIC_BYTES: usize = 256;
/// How many lists of cancellations wait to be passed on, and how many topics one has at most.
const MAX_RELAYED_LISTS: usize = 1024;
const MAX_LIST_TOPICS: usize = 256;

/// The calls that were cancelled lately.
#[derive(Debug)]
pub(crate) struct Cancellations {
    recent: Mutex<RecentCancellations>,
    /// Whether there has been any: most components never see one.
    any: AtomicBool,
    changed: Notify,
    relay: broadcast::Sender<Bytes>,
}

/// Stands for a topic. Two topics with the same number are as good as impossible, and no peer can choose them,
/// since the hash has a random key. Texts would be small allocations that outlive the large ones of the clients
/// that they belong to, and keep the allocator from returning those.
type TopicHash = u64;

#[derive(Debug, Default)]
struct RecentCancellations {
    hasher: RandomState,
    topics: HashSet<TopicHash>,
    order: VecDeque<(Instant, TopicHash)>,
}

impl Default for Cancellations {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            any: AtomicBool::new(false),
            changed: Notify::new(),
            relay: broadcast::channel(MAX_RELAYED_LISTS).0,
        }
    }
}

impl Cancellations {
    /// Takes back the cancellation of all calls of a client that was thought to have vanished, and has returned.
    /// Calls that it has cancelled itself stay cancelled.
    pub(crate) fn restore(&self, client: &str) {
        if self.any.load(Ordering::Acquire) {
            self.cancel(format!("{RESTORE_PREFIX}{client}/").as_bytes());
        }
    }

    /// Notes a list of cancelled calls, one topic a line, and passes on those that are new. A line that begins
    /// with `+` takes the cancellation of the topic behind it back.
    pub(crate) fn cancel(&self, list: &[u8]) {
        let now = Instant::now();
        let mut news = Vec::new();
        {
            let recent = self.recent.lock();
            let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
            for topic in list.split(|&byte| byte == b'\n') {
                let Ok(topic) = str::from_utf8(topic) else {
                    continue;
                };
                if !(1..=MAX_TOPIC_BYTES).contains(&topic.len()) {
                    continue;
                }
                let is_new = match topic.strip_prefix(RESTORE_PREFIX) {
                    Some(restored) => recent.remove(restored),
                    None => recent.insert(now, topic),
                };
                if is_new {
                    news.push(topic);
                }
            }
        }
        if news.is_empty() {
            return;
        }
        self.any.store(true, Ordering::Release);
        self.changed.notify_waiters();
        // What waits to be passed on is bounded by the number of lists, so these are short.
        for news in news.chunks(MAX_LIST_TOPICS) {
            // Without a receiver it is not passed on.
            let _ = self.relay.send(news.join("\n").into());
        }
    }

    /// Whether the call that a message belongs to was cancelled.
    pub(crate) fn concern(&self, message: &Message) -> bool {
        self.any.load(Ordering::Acquire) && self.has(message.client())
    }

    /// Whether the call with this topic was cancelled, or all of its client's.
    pub(crate) fn has(&self, topic: &str) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let recent = self.recent.lock();
        let recent = recent.unwrap_or_else(PoisonError::into_inner);
        let client = topic.find('/').map(|slash| &topic[..=slash]);
        recent.has(topic) || client.is_some_and(|all| recent.has(all))
    }

    /// Waits until the call is cancelled. Cancel safe.
    pub(crate) async fn of(&self, topic: &str) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.has(topic) {
                return;
            }
            changed.await;
        }
    }

    /// What is to be passed on from now on.
    pub(crate) fn relay(&self) -> CancellationRelay {
        CancellationRelay(self.relay.subscribe())
    }
}

impl RecentCancellations {
    fn has(&self, topic: &str) -> bool {
        self.topics.contains(&self.hasher.hash_one(topic))
    }

    /// Whether it was there.
    fn remove(&mut self, topic: &str) -> bool {
        let topic = self.hasher.hash_one(topic);
        let is_there = self.topics.remove(&topic);
        if is_there {
            self.order.retain(|(_, other)| *other != topic);
        }
        is_there
    }

    /// Whether it is new.
    fn insert(&mut self, now: Instant, topic: &str) -> bool {
        while let Some((since, _)) = self.order.front()
            && (self.order.len() >= MAX_CANCELLED || now.duration_since(*since) > CANCEL_EXPIRY)
        {
            let (_, oldest) = self.order.pop_front().expect("it was looked at");
            self.topics.remove(&oldest);
        }
        let topic = self.hasher.hash_one(topic);
        let is_new = self.topics.insert(topic);
        if is_new {
            self.order.push_back((now, topic));
        }
        is_new
    }
}

/// The cancellations that are to be passed on.
#[derive(Debug)]
pub(crate) struct CancellationRelay(broadcast::Receiver<Bytes>);

impl CancellationRelay {
    /// The next list of calls. Waits for ever once there will be none. Cancel safe.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            match self.0.recv().await {
                Ok(list) => return list,
                // Those run to their end.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_cancelled_is_known_and_passed_on_once() {
        let cancellations = Cancellations::default();
        let mut relay = cancellations.relay();
        let mut waiting = pin!(cancellations.of("id/2"));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!cancellations.has("id/1"));

        cancellations.cancel(b"id/1\nid/2\n\nid/1\n\xff");
        assert!(cancellations.has("id/1") && cancellations.has("id/2"));
        assert!(!cancellations.has("id/") && !cancellations.has(""));
        waiting.await;
        assert_eq!(relay.next().await, "id/1\nid/2");

        cancellations.cancel(b"id/2\nid/3");
        assert_eq!(relay.next().await, "id/3");
        cancellations.cancel(b"id/3");
        assert!(relay.next().now_or_never().is_none());
    }

    #[test]
    fn cancelled_client_that_returns_is_restored_and_its_own_cancellations_stay() {
        let cancellations = Cancellations::default();
        let mut relay = cancellations.relay();
        cancellations.restore("id");
        cancellations.cancel(b"id/\nid/7");
        assert!(cancellations.has("id/1") && cancellations.has("id/7"));
        assert_eq!(relay.next().now_or_never().unwrap(), "id/\nid/7");
        cancellations.restore("id");
        assert!(!cancellations.has("id/1") && cancellations.has("id/7"));
        let relayed = relay.next().now_or_never().unwrap();
        assert_eq!(relayed, "+id/");
        cancellations.restore("id");
        assert!(relay.next().now_or_never().is_none());

        // What is passed on has the same effect downstream.
        let downstream = Cancellations::default();
        downstream.cancel(b"id/");
        downstream.cancel(&relayed);
        assert!(!downstream.has("id/1"));
        assert_eq!(downstream.recent.lock().unwrap().order.len(), 0);
    }

    #[test]
    fn memory_has_bounds() {
        let mut recent = RecentCancellations::default();
        let now = Instant::now();
        for number in 0..2 * MAX_CANCELLED {
            assert!(recent.insert(now, &number.to_string()));
        }
        assert_eq!(recent.topics.len(), MAX_CANCELLED);
        assert!(recent.insert(now + 2 * CANCEL_EXPIRY, "later"));
        assert_eq!((recent.topics.len(), recent.order.len()), (1, 1));

        let cancellations = Cancellations::default();
        cancellations.cancel("x".repeat(MAX_TOPIC_BYTES + 1).as_bytes());
        assert!(!cancellations.any.load(Ordering::Acquire));
    }
}
