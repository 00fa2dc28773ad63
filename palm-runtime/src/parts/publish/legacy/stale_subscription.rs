//! Stale subscriptions: detects subscriptions that a legacy client has already abandoned.
//!
//! A pylm client makes new connections for each call, and closes those of the previous call in the background. When
//! an answer is published, the old subscription may still be open and the new one not yet: the answer would be lost.
//! [`StaleSubscriptions::is_suspect`] detects this situation. The publisher then withholds the answer, for at most
//! [`STALE_TIMEOUT`], until a new subscription arrives. A client that keeps its connections is recognized by two
//! signs: no caller has connected since its last answer, or its subscription is still open after that time, which
//! marks it as lasting. No I/O; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use smallvec::SmallVec;

use crate::socket::Subscriber;

/// Time for which an answer is withheld for a new subscription, unless pending publications are kept for less.
pub(in crate::parts::publish) const STALE_TIMEOUT: Duration = Duration::from_millis(500);
/// Limits on the withheld answers of one topic. At a limit the subscription is no longer considered stale, so that a
/// slow subscriber slows down its stream.
const MAX_WITHHELD_ANSWERS: usize = 1000;
const MAX_WITHHELD_BYTES: usize = 1024 * 1024;
/// The shortest interval between two calls of a client that makes new connections for each.
const MIN_CALL_INTERVAL: Duration = Duration::from_micros(200);

/// A number that changes when a caller connects or disconnects; `None` if callers connect to another component.
pub(in crate::parts::publish) type CallerGeneration = Option<u64>;

/// The last answer under a topic.
#[derive(Debug)]
struct LastAnswer {
    at: Instant,
    caller_generation: CallerGeneration,
    recipients: SmallVec<[u64; 2]>,
    /// Whether the recipients keep their subscription for further answers.
    is_lasting: bool,
    /// The answers that are withheld since.
    withheld: Option<WithheldAnswers>,
}

impl LastAnswer {
    fn is_all_of(&self, subscribers: &[Subscriber]) -> bool {
        let known = |subscriber: &Subscriber| self.recipients.contains(&subscriber.peer);
        subscribers.iter().all(known)
    }
}

/// The withheld answers of a topic.
#[derive(Debug, Clone, Copy)]
struct WithheldAnswers {
    until: Instant,
    answers: usize,
    bytes: usize,
}

/// The last answer of each topic, and the topics whose answers are withheld.
#[derive(Debug, Default)]
pub(in crate::parts::publish) struct StaleSubscriptions {
    answered: HashMap<ByteString, LastAnswer>,
    waiting: VecDeque<(Instant, ByteString)>,
}

impl StaleSubscriptions {
    /// Returns whether all `subscribers` of exactly `topic` may be stale, so that an answer has to be withheld.
    pub(in crate::parts::publish) fn is_suspect(
        &self,
        now: Instant,
        topic: &str,
        subscribers: &[Subscriber],
        caller_generation: CallerGeneration,
    ) -> bool {
        let Some(last) = self.answered.get(topic) else {
            return false;
        };
        let may_have_come =
            caller_generation.is_none() || caller_generation != last.caller_generation;
        !last.is_lasting
            && may_have_come
            && now.duration_since(last.at) > MIN_CALL_INTERVAL
            && last.is_all_of(subscribers)
    }

    /// Records that an answer of `len` bytes to `topic` is withheld until `until`.
    pub(in crate::parts::publish) fn withhold(
        &mut self,
        until: Instant,
        topic: ByteString,
        len: usize,
    ) {
        if let Some(last) = self.answered.get_mut(&topic) {
            last.withheld = Some(WithheldAnswers {
                until,
                answers: 1,
                bytes: len,
            });
            self.waiting.push_back((until, topic));
        }
    }

    /// Adds a further answer of `len` bytes to the withheld ones of `topic`. Returns whether they exceed the bounds and
    /// must be published.
    pub(in crate::parts::publish) fn add_withheld(&mut self, topic: &str, len: usize) -> bool {
        let Some(last) = self.answered.get_mut(topic) else {
            return false;
        };
        let Some(waiting) = &mut last.withheld else {
            return false;
        };
        waiting.answers += 1;
        waiting.bytes += len;
        let enough = waiting.answers > MAX_WITHHELD_ANSWERS || waiting.bytes > MAX_WITHHELD_BYTES;
        if enough {
            last.withheld = None;
            last.is_lasting = true;
        }
        enough
    }

    /// Returns when the answers of the next topic must be published.
    pub(in crate::parts::publish) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|(until, _)| *until)
    }

    /// Returns the next topic whose withheld answers must be published, and marks its subscriptions as lasting.
    pub(in crate::parts::publish) fn expire(&mut self, now: Instant) -> Option<ByteString> {
        while let Some((until, topic)) = self.waiting.pop_front_if(|(until, _)| *until <= now) {
            // Otherwise the answers were published to a new subscription, or the last subscription was closed.
            if let Some(last) = self.answered.get_mut(&topic)
                && last
                    .withheld
                    .take_if(|waiting| waiting.until == until)
                    .is_some()
            {
                last.is_lasting = true;
                return Some(topic);
            }
        }
        None
    }

    /// Records that an answer to exactly `topic` was sent to `recipients`.
    pub(in crate::parts::publish) fn record_answer(
        &mut self,
        now: Instant,
        topic: &ByteString,
        recipients: &[Subscriber],
        caller_generation: CallerGeneration,
    ) {
        let peers = recipients.iter().map(|recipient| recipient.peer);
        // Updated in place, since most answers follow one of the same topic.
        if let Some(last) = self.answered.get_mut(topic) {
            last.is_lasting &= last.is_all_of(recipients);
            last.withheld = None;
            last.at = now;
            last.caller_generation = caller_generation;
            last.recipients.clear();
            last.recipients.extend(peers);
            return;
        }
        let last = LastAnswer {
            at: now,
            caller_generation,
            recipients: peers.collect(),
            is_lasting: false,
            withheld: None,
        };
        self.answered.insert(topic.clone(), last);
    }

    /// Forgets `topic`, which has no exact subscriber any more.
    pub(in crate::parts::publish) fn forget(&mut self, topic: &str) {
        self.answered.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes answers under one topic, each with its time in milliseconds, the generation of callers and the
    /// subscribers. `expected` says which of them are withheld.
    fn check(answers: &[(u64, CallerGeneration, &[u64])], expected: &[bool]) {
        let start = Instant::now();
        let mut stale = StaleSubscriptions::default();
        let topic = ByteString::from("topic");
        let mut found = Vec::new();
        for &(millis, caller_generation, peers) in answers {
            let now = start + Duration::from_millis(millis);
            while stale.expire(now).is_some() {
                let subscribers = [Subscriber {
                    peer: 1,
                    connected: start,
                }];
                stale.record_answer(now, &topic, &subscribers, caller_generation);
            }
            let subscriber = |&peer| Subscriber {
                peer,
                connected: start,
            };
            let subscribers: Vec<_> = peers.iter().map(subscriber).collect();
            let suspect = stale.is_suspect(now, &topic, &subscribers, caller_generation);
            found.push(suspect);
            if suspect {
                stale.withhold(now + STALE_TIMEOUT, topic.clone(), 10);
            } else {
                stale.record_answer(now, &topic, &subscribers, caller_generation);
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn subscription_with_an_earlier_answer_is_suspect_once_callers_have_changed() {
        check(&[(0, Some(1), &[1]), (5, Some(2), &[1])], &[false, true]);
        check(&[(0, None, &[1]), (5, None, &[1])], &[false, true]);
    }

    #[test]
    fn new_subscription_is_not_suspect() {
        let answers: &[(u64, CallerGeneration, &[u64])] = &[
            (0, Some(1), &[1]),
            (5, Some(2), &[1, 2]),
            (9, Some(3), &[3]),
        ];
        check(answers, &[false, false, false]);
    }

    #[test]
    fn subscription_is_not_suspect_for_several_answers_of_one_call() {
        check(&[(0, None, &[1]), (0, None, &[1])], &[false, false]);
        check(&[(0, Some(1), &[1]), (5, Some(1), &[1])], &[false, false]);
    }

    #[test]
    fn new_subscription_replaces_a_suspect_one() {
        let answers: &[(u64, CallerGeneration, &[u64])] = &[
            (0, None, &[1]),
            (5, None, &[1]),
            (10, None, &[2]),
            (600, None, &[2]),
            (605, None, &[3]),
        ];
        check(answers, &[false, true, false, true, false]);
    }

    #[test]
    fn withheld_answers_are_published_above_their_bounds() {
        let suspect = || {
            let mut stale = StaleSubscriptions::default();
            let subscribers = [Subscriber {
                peer: 1,
                connected: Instant::now(),
            }];
            stale.record_answer(Instant::now(), &"topic".into(), &subscribers, None);
            stale.withhold(Instant::now() + STALE_TIMEOUT, "topic".into(), 1000);
            stale
        };
        let mut stale = suspect();
        assert!((2..=1000).all(|_| !stale.add_withheld("topic", 10)));
        assert!(stale.add_withheld("topic", 10));
        assert!(!stale.add_withheld("topic", 10));
        assert!(suspect().add_withheld("topic", MAX_WITHHELD_BYTES));
        assert!(!suspect().add_withheld("other", MAX_WITHHELD_BYTES));
    }

    #[test]
    fn lasting_subscription_is_suspect_only_once() {
        let answers: &[(u64, CallerGeneration, &[u64])] = &[
            (0, None, &[1]),
            (5, None, &[1]),
            (600, None, &[1]),
            (700, None, &[1]),
            (800, None, &[2]),
            (900, None, &[2]),
        ];
        check(answers, &[false, true, false, false, false, true]);
    }
}
