//! Pending publications: messages that are published before their topic has a subscriber.
//!
//! A legacy client subscribes at about the time when it sends, and a pipeline may be started after the server that it
//! follows; ZeroMQ would drop messages that are published in between. [`PendingPublications`] keeps them by topic,
//! in order, until [`release`](PendingPublications::release) returns them to a subscriber or
//! [`expire`](PendingPublications::expire) drops them. No I/O; time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use crate::options::options;

options! {
    /// The bounds of publications that are kept until their topic has a subscriber.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PendingLimits {
        /// Sets the time for which a publication is kept. Default: 10 s. Zero: publications are not kept.
        time: Duration = Duration::from_secs(10),
        /// Sets the number of publications, beyond which the oldest are dropped. Default: 10 000.
        messages: usize = 10_000,
        /// Sets the bytes of publications, beyond which the oldest are dropped. Default: 64 MiB.
        bytes: usize = 64 * 1024 * 1024,
    }
}

#[derive(Debug)]
struct PendingFrame {
    number: u64,
    frame: Bytes,
}

/// A topic and the frame that is published under it.
pub(super) type Publication = (ByteString, Bytes);

/// Time for which a pending publication is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    /// For [`PendingLimits::time`].
    Full,
    /// For at most [`NO_FOLLOWER_TIMEOUT`]. The caller then receives the error that no component follows.
    Short,
}

/// Time for which a message for the next step is kept if no follower has ever connected and its caller can be notified.
pub(super) const NO_FOLLOWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The pending publications of a publisher, by topic and in order.
#[derive(Debug)]
pub(super) struct PendingPublications {
    limits: PendingLimits,
    topics: BTreeMap<ByteString, VecDeque<PendingFrame>>,
    /// All publications by age, and some that were released.
    ages: VecDeque<(u64, Instant, ByteString)>,
    /// Those with [`Retention::Short`], likewise.
    short: VecDeque<(u64, Instant, ByteString)>,
    next_number: u64,
    messages: usize,
    bytes: usize,
}

impl PendingPublications {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            topics: BTreeMap::new(),
            ages: VecDeque::new(),
            short: VecDeque::new(),
            next_number: 0,
            messages: 0,
            bytes: 0,
        }
    }

    /// Returns how long a publication is kept; zero if none is.
    pub(super) fn time(&self) -> Duration {
        self.limits.time
    }

    /// Returns the number of pending publications, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// Returns whether a publication of `topic` is pending, so that later ones must queue after it.
    pub(super) fn contains(&self, topic: &str) -> bool {
        !self.topics.is_empty() && self.topics.contains_key(topic)
    }

    /// Adds a publication. Returns those that were dropped to stay within the limits.
    pub(super) fn push(
        &mut self,
        now: Instant,
        topic: ByteString,
        frame: Bytes,
        keep: Retention,
    ) -> Vec<Publication> {
        if self.limits.time.is_zero() {
            return vec![(topic, frame)];
        }
        let number = self.next_number;
        self.next_number += 1;
        self.messages += 1;
        self.bytes += frame.len();
        self.ages.push_back((number, now, topic.clone()));
        if keep == Retention::Short && NO_FOLLOWER_TIMEOUT < self.limits.time {
            self.short.push_back((number, now, topic.clone()));
        }
        let waiting = PendingFrame { number, frame };
        self.topics.entry(topic).or_default().push_back(waiting);
        let mut dropped = Vec::new();
        // A single publication of any size is kept.
        while self.messages > 1
            && (self.messages > self.limits.messages || self.bytes > self.limits.bytes)
        {
            dropped.extend(self.drop_oldest());
        }
        dropped
    }

    /// Removes and returns all publications whose topic starts with `prefix`.
    pub(super) fn release(&mut self, prefix: &[u8]) -> Vec<(ByteString, Bytes)> {
        // Topics are UTF-8, and no peer subscribes to a part of a character.
        let Ok(prefix) = std::str::from_utf8(prefix) else {
            return Vec::new();
        };
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let topics: Vec<_> = self
            .topics
            .range::<str, _>(from)
            .map(|(topic, _)| topic.clone())
            .take_while(|topic| topic.starts_with(prefix))
            .collect();
        let mut released = Vec::new();
        for topic in topics {
            for waiting in self.topics.remove(&topic).unwrap_or_default() {
                self.messages -= 1;
                self.bytes -= waiting.frame.len();
                released.push((topic.clone(), waiting.frame));
            }
        }
        self.forget_released();
        released
    }

    /// Removes and returns all publications of one topic.
    pub(super) fn release_exactly(&mut self, topic: &str) -> Vec<(ByteString, Bytes)> {
        let Some((topic, waiting)) = self.topics.remove_entry(topic) else {
            return Vec::new();
        };
        self.messages -= waiting.len();
        self.bytes -= waiting.iter().map(|it| it.frame.len()).sum::<usize>();
        self.forget_released();
        let with_topic = |it: PendingFrame| (topic.clone(), it.frame);
        waiting.into_iter().map(with_topic).collect()
    }

    /// Removes and returns the publications whose time has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Publication> {
        let mut dropped = Vec::new();
        while self.short_expiry().is_some_and(|expiry| expiry <= now) {
            if let Some((number, _, topic)) = self.short.pop_front() {
                dropped.extend(self.remove(number, topic));
            }
        }
        while self.long_expiry().is_some_and(|expiry| expiry <= now) {
            dropped.extend(self.drop_oldest());
        }
        if !dropped.is_empty() {
            self.forget_released();
        }
        dropped
    }

    /// Returns when the next publication expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let expiries = [self.short_expiry(), self.long_expiry()];
        expiries.into_iter().flatten().min()
    }

    fn short_expiry(&self) -> Option<Instant> {
        self.short
            .front()
            .map(|(_, since, _)| *since + NO_FOLLOWER_TIMEOUT)
    }

    fn long_expiry(&self) -> Option<Instant> {
        self.ages
            .front()
            .map(|(_, since, _)| *since + self.limits.time)
    }

    fn drop_oldest(&mut self) -> Option<Publication> {
        let (number, _, topic) = self.ages.pop_front()?;
        self.remove(number, topic)
    }

    /// Removes a publication if it is still pending.
    fn remove(&mut self, number: u64, topic: ByteString) -> Option<Publication> {
        let queue = self.topics.get_mut(&topic)?;
        // Usually it is the first one.
        let index = match queue.front() {
            Some(first) if first.number == number => 0,
            _ => queue
                .binary_search_by_key(&number, |waiting| waiting.number)
                .ok()?,
        };
        let PendingFrame { frame, .. } = queue.remove(index)?;
        self.messages -= 1;
        self.bytes -= frame.len();
        if queue.is_empty() {
            self.topics.remove(&topic);
        }
        Some((topic, frame))
    }

    /// Bounds `ages` and `short` by twice the number of pending publications.
    fn forget_released(&mut self) {
        if self.topics.is_empty() {
            self.ages.clear();
            self.short.clear();
            return;
        }
        let topics = &self.topics;
        for ages in [&mut self.ages, &mut self.short] {
            if ages.len() > 2 * self.messages {
                ages.retain(|(number, _, topic)| {
                    topics.get(topic).is_some_and(|queue| {
                        queue
                            .binary_search_by_key(number, |waiting| waiting.number)
                            .is_ok()
                    })
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(messages: usize, bytes: usize) -> PendingPublications {
        PendingPublications::new(PendingLimits {
            time: Duration::from_secs(10),
            messages,
            bytes,
        })
    }

    fn text(publications: &[Publication]) -> String {
        let text =
            |(topic, frame): &Publication| format!("{topic}:{}", String::from_utf8_lossy(frame));
        publications.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// Adds a publication, and returns those that were dropped for it.
    fn push(
        pending: &mut PendingPublications,
        now: Instant,
        topic: &str,
        frame: impl Into<Bytes>,
    ) -> String {
        text(&pending.push(now, topic.into(), frame.into(), Retention::Full))
    }

    fn released(pending: &mut PendingPublications, prefix: &str) -> String {
        text(&pending.release(prefix.as_bytes()))
    }

    #[test]
    fn subscription_releases_its_topics_in_order() {
        let mut pending = pending(10, 100);
        let now = Instant::now();
        for (topic, frame) in [("ab", "1"), ("b", "2"), ("abc", "3"), ("ab", "4")] {
            assert_eq!(push(&mut pending, now, topic, frame), "");
        }
        assert!(pending.contains("ab"));
        assert_eq!(released(&mut pending, "ab"), "ab:1 ab:4 abc:3");
        assert!(!pending.contains("ab"));
        assert_eq!(released(&mut pending, ""), "b:2");
        assert_eq!(
            (pending.messages, pending.bytes, pending.ages.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn oldest_publications_are_dropped_above_the_limits() {
        let mut pending = pending(2, 100);
        let now = Instant::now();
        assert_eq!(push(&mut pending, now, "a", "1"), "");
        assert_eq!(push(&mut pending, now, "b", "2"), "");
        assert_eq!(push(&mut pending, now, "a", "3"), "a:1");
        assert_eq!(push(&mut pending, now, "c", vec![b'x'; 99]), "b:2");
        assert_eq!(released(&mut pending, "a"), "a:3");
        assert!(!push(&mut pending, now, "d", vec![b'x'; 101]).is_empty());
        assert_eq!(pending.release(b"d").len(), 1);
    }

    #[test]
    fn publications_without_a_subscriber_expire() {
        let mut pending = pending(10, 100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        push(&mut pending, at(0), "a", "1");
        push(&mut pending, at(5), "a", "2");
        push(&mut pending, at(6), "b", "3");
        assert_eq!(text(&pending.expire(at(9))), "");
        assert_eq!(text(&pending.expire(at(10))), "a:1");
        assert_eq!(released(&mut pending, "b"), "b:3");
        assert_eq!(pending.next_expiry(), Some(at(15)));
        assert_eq!(text(&pending.expire(at(16))), "a:2");
        assert_eq!(pending.next_expiry(), None);
    }

    #[test]
    fn publication_with_short_retention_expires_before_older_ones() {
        let mut pending = pending(10, 100);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        push(&mut pending, at(0), "a", "1");
        for (millis, frame) in [(100, "2"), (200, "3")] {
            let dropped = pending.push(at(millis), "a".into(), frame.into(), Retention::Short);
            assert!(dropped.is_empty());
        }
        push(&mut pending, at(300), "a", "4");
        assert_eq!(pending.next_expiry(), Some(at(3100)));
        assert_eq!(text(&pending.expire(at(3099))), "");
        assert_eq!(text(&pending.expire(at(3100))), "a:2");
        // Released publications do not expire.
        assert_eq!(released(&mut pending, "a"), "a:1 a:3 a:4");
        assert_eq!(text(&pending.expire(at(20_000))), "");
        assert_eq!((pending.messages, pending.bytes), (0, 0));
        assert_eq!(pending.next_expiry(), None);
    }

    #[test]
    fn publications_are_returned_at_once_if_none_may_be_kept() {
        let mut pending = PendingPublications::new(PendingLimits {
            time: Duration::ZERO,
            ..PendingLimits::default()
        });
        assert_eq!(push(&mut pending, Instant::now(), "a", "1"), "a:1");
    }

    #[test]
    fn dropped_publications_free_their_topics_and_ages() {
        let mut pending = pending(2, 100);
        let now = Instant::now();
        for number in 0..100 {
            let topic = format!("topic {number}").into();
            pending.push(now, topic, "x".into(), Retention::Short);
        }
        assert_eq!(
            (pending.topics.len(), pending.messages, pending.bytes),
            (2, 2, 2)
        );
        assert_eq!(pending.ages.len(), 2);
        assert!(!pending.contains("topic 97") && pending.contains("topic 98"));
        assert_eq!(pending.expire(now + pending.time()).len(), 2);
        assert_eq!(
            (pending.topics.len(), pending.messages, pending.bytes),
            (0, 0, 0)
        );
        assert_eq!((pending.ages.len(), pending.short.len()), (0, 0));
    }

    #[test]
    fn released_publications_free_their_ages() {
        let mut pending = pending(10, 100);
        let now = Instant::now();
        push(&mut pending, now, "stays", "1");
        for _ in 0..1000 {
            pending.push(now, "goes".into(), "2".into(), Retention::Short);
            pending.release(b"goes");
        }
        assert!(pending.ages.len() < 10, "{}", pending.ages.len());
        assert!(pending.short.len() < 10, "{}", pending.short.len());
        assert_eq!(released(&mut pending, "stays"), "stays:1");
    }
}
