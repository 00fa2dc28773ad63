//! Cancelled calls: their queued messages are not begun, and their running methods are dropped.
//!
//! A call is identified by its topic, the field `client` of its messages. A client cancels calls at the `db_address` of
//! the first component, ahead of all queued messages; each component publishes the cancellations under
//! [`CANCEL_TOPIC`](crate::link::CANCEL_TOPIC), to which its downstream components subscribe. See part 2 of the protocol in `proto/README.md`.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::clock;
use crate::message::Message;

/// The prefix of a line that revokes a cancellation.
const RESTORE_PREFIX: char = '+';

/// Time for which a cancellation is remembered: usually longer than messages wait in queues.
const CANCEL_EXPIRY: Duration = Duration::from_secs(60);

/// Maximum number of remembered cancellations.
const MAX_CANCELLED: usize = 10_000;

/// The longest accepted topic, in bytes. Topics of palm's clients are shorter.
const MAX_TOPIC_BYTES: usize = 256;

/// Maximum number of lists of cancellations that wait to be forwarded.
const MAX_RELAYED_LISTS: usize = 1024;

/// Maximum number of topics in a forwarded list.
const MAX_LIST_TOPICS: usize = 256;

/// The recently cancelled calls.
#[derive(Debug)]
pub(crate) struct Cancellations {
    recent: Mutex<RecentCancellations>,
    /// Whether any call was ever cancelled: most components never see a cancellation.
    any: AtomicBool,
    changed: Notify,
    relay: broadcast::Sender<Bytes>,
}

/// The hash of a topic. Collisions are practically impossible, and no peer can construct them, since the hash has a
/// random key. Strings would be small allocations that outlive the large ones of their clients, and keep the allocator
/// from returning those.
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
    /// Revokes the cancellation of all calls of a client that had vanished and has returned. Calls that the client
    /// itself has cancelled stay cancelled.
    pub(crate) fn restore(&self, client: &str) {
        if self.any.load(Ordering::Acquire) {
            self.cancel(format!("{RESTORE_PREFIX}{client}/").as_bytes());
        }
    }

    /// Records a list of cancelled calls, one topic per line, and forwards the new ones. A line that begins
    /// with `+` revokes the cancellation of the topic that follows.
    pub(crate) fn cancel(&self, list: &[u8]) {
        let now = clock::now();
        let mut news = Vec::new();
        {
            let mut recent = self.recent.lock();
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
        // The number of waiting lists is bounded, so each list is short.
        for news in news.chunks(MAX_LIST_TOPICS) {
            // Without a receiver nothing is forwarded.
            let _ = self.relay.send(news.join("\n").into());
        }
    }

    /// Returns whether the call of a message was cancelled.
    pub(crate) fn concern(&self, message: &Message) -> bool {
        self.any.load(Ordering::Acquire) && self.has(message.client())
    }

    /// Returns whether the call with this topic was cancelled, or all calls of its client.
    pub(crate) fn has(&self, topic: &str) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let recent = self.recent.lock();
        let client = topic.find('/').map(|slash| &topic[..=slash]);
        recent.has(topic) || client.is_some_and(|all| recent.has(all))
    }

    /// Waits until the call is cancelled. Cancel safe.
    pub(crate) async fn cancelled(&self, topic: &str) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enabled before the check, so that no change is missed.
            changed.as_mut().enable();
            if self.has(topic) {
                return;
            }
            changed.await;
        }
    }

    /// Returns the lists that are to be forwarded from now on. It never ends.
    pub(crate) fn relay(&self) -> impl Stream<Item = Bytes> + use<> {
        stream::unfold(self.relay.subscribe(), async |mut lists| {
            loop {
                match lists.recv().await {
                    Ok(list) => return Some((list, lists)),
                    // Calls of skipped lists run to completion.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        })
    }
}

impl RecentCancellations {
    fn has(&self, topic: &str) -> bool {
        self.topics.contains(&self.hasher.hash_one(topic))
    }

    /// Returns whether the topic was present.
    fn remove(&mut self, topic: &str) -> bool {
        let topic = self.hasher.hash_one(topic);
        let is_there = self.topics.remove(&topic);
        if is_there {
            self.order.retain(|(_, other)| *other != topic);
        }
        is_there
    }

    /// Returns whether the topic is new.
    fn insert(&mut self, now: Instant, topic: &str) -> bool {
        while let Some((since, _)) = self.order.front()
            && (self.order.len() >= MAX_CANCELLED || now.duration_since(*since) > CANCEL_EXPIRY)
        {
            let (_, oldest) = self.order.pop_front().expect("the queue has a front");
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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn cancelled_call_is_known_and_forwarded_once() {
        let cancellations = Cancellations::default();
        let mut relay = pin!(cancellations.relay());
        let mut waiting = pin!(cancellations.cancelled("id/2"));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!cancellations.has("id/1"));

        cancellations.cancel(b"id/1\nid/2\n\nid/1\n\xff");
        assert!(cancellations.has("id/1") && cancellations.has("id/2"));
        assert!(!cancellations.has("id/") && !cancellations.has(""));
        waiting.await;
        assert_eq!(relay.next().await.unwrap(), "id/1\nid/2");

        cancellations.cancel(b"id/2\nid/3");
        assert_eq!(relay.next().await.unwrap(), "id/3");
        cancellations.cancel(b"id/3");
        assert!(relay.next().now_or_never().is_none());
    }

    #[test]
    fn cancelled_client_that_returns_is_restored_and_its_own_cancellations_stay() {
        let cancellations = Cancellations::default();
        let mut relay = pin!(cancellations.relay());
        cancellations.restore("id");
        cancellations.cancel(b"id/\nid/7");
        assert!(cancellations.has("id/1") && cancellations.has("id/7"));
        assert_eq!(relay.next().now_or_never().unwrap().unwrap(), "id/\nid/7");
        cancellations.restore("id");
        assert!(!cancellations.has("id/1") && cancellations.has("id/7"));
        let relayed = relay.next().now_or_never().unwrap().unwrap();
        assert_eq!(relayed, "+id/");
        cancellations.restore("id");
        assert!(relay.next().now_or_never().is_none());

        // Forwarded lists have the same effect downstream.
        let downstream = Cancellations::default();
        downstream.cancel(b"id/");
        downstream.cancel(&relayed);
        assert!(!downstream.has("id/1"));
        assert_eq!(downstream.recent.lock().order.len(), 0);
    }

    #[test]
    fn remembered_cancellations_are_bounded() {
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
