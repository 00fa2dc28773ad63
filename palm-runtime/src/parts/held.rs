//! Messages that are published before anybody has asked for their topic. No I/O, time is an argument.
//!
//! A client of pylm subscribes at about the time when it sends, and a pipeline may be started after
//! the server that feeds it; ZeroMQ would drop what is published in between.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

/// How long, and how many, messages wait for somebody to ask for their topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// How long one waits. Default: 10 s. Zero: none waits.
    pub time: Duration,
    /// How many wait; of more, the oldest are dropped. Default: 10 000.
    pub messages: usize,
    /// How many bytes wait. Default: 64 MiB.
    pub bytes: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            messages: 10_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    frame: Bytes,
}

/// The messages that wait, by topic, each topic in order.
#[derive(Debug)]
pub(super) struct Held {
    limits: HoldLimits,
    topics: BTreeMap<ByteString, VecDeque<Waiting>>,
    /// All that wait by age, and some that no longer do.
    ages: VecDeque<(u64, Instant, ByteString)>,
    next_number: u64,
    messages: usize,
    bytes: usize,
}

impl Held {
    pub(super) fn new(limits: HoldLimits) -> Self {
        Self {
            limits,
            topics: BTreeMap::new(),
            ages: VecDeque::new(),
            next_number: 0,
            messages: 0,
            bytes: 0,
        }
    }

    /// How long a message waits; zero: none does.
    pub(super) fn time(&self) -> Duration {
        self.limits.time
    }

    /// Whether a message of `topic` waits, so that later ones have to queue up behind it.
    pub(super) fn holds(&self, topic: &str) -> bool {
        !self.topics.is_empty() && self.topics.contains_key(topic)
    }

    /// Keeps a message; tells how many had to be dropped for it.
    pub(super) fn push(&mut self, now: Instant, topic: ByteString, frame: Bytes) -> usize {
        if self.limits.time.is_zero() {
            return 1;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.messages += 1;
        self.bytes += frame.len();
        self.ages.push_back((number, now, topic.clone()));
        let waiting = Waiting { number, frame };
        self.topics.entry(topic).or_default().push_back(waiting);
        let mut dropped = 0;
        // One message is always let in, however large it is.
        while self.messages > 1
            && (self.messages > self.limits.messages || self.bytes > self.limits.bytes)
        {
            dropped += self.drop_oldest();
        }
        dropped
    }

    /// Takes all messages whose topic begins with `prefix`.
    pub(super) fn release(&mut self, prefix: &[u8]) -> Vec<(ByteString, Bytes)> {
        // Topics are text; a subscription that is not can match none but by a part of a character,
        // which no peer means.
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

    /// Takes all messages of one topic.
    pub(super) fn release_exactly(&mut self, topic: &str) -> Vec<(ByteString, Bytes)> {
        let Some((topic, waiting)) = self.topics.remove_entry(topic) else {
            return Vec::new();
        };
        self.messages -= waiting.len();
        self.bytes -= waiting.iter().map(|it| it.frame.len()).sum::<usize>();
        self.forget_released();
        let with_topic = |it: Waiting| (topic.clone(), it.frame);
        waiting.into_iter().map(with_topic).collect()
    }

    /// Drops what has waited for too long; tells how many that were.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        while self.next_expiry().is_some_and(|expiry| expiry <= now) {
            dropped += self.drop_oldest();
        }
        dropped
    }

    /// When the next message will have waited for too long.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.ages
            .front()
            .map(|(_, since, _)| *since + self.limits.time)
    }

    fn drop_oldest(&mut self) -> usize {
        let Some((number, _, topic)) = self.ages.pop_front() else {
            return 0;
        };
        let Some(queue) = self.topics.get_mut(&topic) else {
            return 0;
        };
        if queue.front().is_none_or(|waiting| waiting.number != number) {
            return 0;
        }
        if let Some(waiting) = queue.pop_front() {
            self.messages -= 1;
            self.bytes -= waiting.frame.len();
        }
        if queue.is_empty() {
            self.topics.remove(&topic);
        }
        1
    }

    /// Keeps `ages` from growing beyond what waits.
    fn forget_released(&mut self) {
        if self.topics.is_empty() {
            self.ages.clear();
        } else if self.ages.len() > 2 * self.messages {
            let topics = &self.topics;
            self.ages.retain(|(number, _, topic)| {
                topics.get(topic).is_some_and(|queue| {
                    queue
                        .binary_search_by_key(number, |waiting| waiting.number)
                        .is_ok()
                })
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(messages: usize, bytes: usize) -> Held {
        Held::new(HoldLimits {
            time: Duration::from_secs(10),
            messages,
            bytes,
        })
    }

    fn released(held: &mut Held, prefix: &str) -> String {
        let released = held.release(prefix.as_bytes());
        let text = |(topic, frame): &(ByteString, Bytes)| {
            format!("{topic}:{}", String::from_utf8_lossy(frame))
        };
        released.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_subscription_releases_its_topics_in_order() {
        let mut held = held(10, 100);
        let now = Instant::now();
        for (topic, frame) in [("ab", "1"), ("b", "2"), ("abc", "3"), ("ab", "4")] {
            assert_eq!(held.push(now, topic.into(), frame.into()), 0);
        }
        assert!(held.holds("ab"));
        assert_eq!(released(&mut held, "ab"), "ab:1 ab:4 abc:3");
        assert!(!held.holds("ab"));
        assert_eq!(released(&mut held, ""), "b:2");
        assert_eq!((held.messages, held.bytes, held.ages.len()), (0, 0, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut held = held(2, 100);
        let now = Instant::now();
        assert_eq!(held.push(now, "a".into(), "1".into()), 0);
        assert_eq!(held.push(now, "b".into(), "2".into()), 0);
        assert_eq!(held.push(now, "a".into(), "3".into()), 1);
        assert_eq!(held.push(now, "c".into(), vec![b'x'; 99].into()), 1);
        assert_eq!(released(&mut held, "a"), "a:3");
        assert_eq!(held.push(now, "d".into(), vec![b'x'; 101].into()), 1);
        assert_eq!(held.release(b"d").len(), 1);
    }

    #[test]
    fn what_nobody_asks_for_is_dropped_in_time() {
        let mut held = held(10, 100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        held.push(at(0), "a".into(), "1".into());
        held.push(at(5), "a".into(), "2".into());
        held.push(at(6), "b".into(), "3".into());
        assert_eq!(held.expire(at(9)), 0);
        assert_eq!(held.expire(at(10)), 1);
        assert_eq!(released(&mut held, "b"), "b:3");
        assert_eq!(held.next_expiry(), Some(at(15)));
        assert_eq!(held.expire(at(16)), 1);
        assert_eq!(held.next_expiry(), None);
    }

    #[test]
    fn many_releases_leave_no_trace() {
        let mut held = held(10, 100);
        let now = Instant::now();
        held.push(now, "stays".into(), "1".into());
        for _ in 0..1000 {
            held.push(now, "goes".into(), "2".into());
            held.release(b"goes");
        }
        assert!(held.ages.len() < 10, "{}", held.ages.len());
        assert_eq!(released(&mut held, "stays"), "stays:1");
    }
}
