//! Whether the subscription that there is can be the one that an answer is meant for. No I/O, time is
//! an argument.
//!
//! A client of pylm makes new connections for each call, and closes those of the call before in the
//! background: when the answer is there, the old subscription may still be open, and the new one not
//! yet. Such an answer waits a moment for the new one. A client that keeps its connections is known by
//! that: nobody has connected since it was answered, or it is still there when the moment is over.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use smallvec::SmallVec;

use crate::socket::Subscriber;

/// How long an answer waits for a new subscription, unless what is held waits for less.
pub(super) const STALE_TIMEOUT: Duration = Duration::from_millis(500);
/// How many answers, and how many bytes of them, wait under one topic: of more, none is dropped, but
/// the doubt ends, so that a slow subscriber slows its stream.
const ANSWERS: usize = 1000;
const BYTES: usize = 1024 * 1024;
/// Two calls of a client that makes new connections are farther apart than this.
const NEXT_CALL: Duration = Duration::from_micros(200);

/// How often callers have come or gone; `None` where that is not known, since they call another
/// component.
pub(super) type Arrivals = Option<u64>;

/// The last answer under a topic.
#[derive(Debug)]
struct Last {
    at: Instant,
    arrivals: Arrivals,
    recipients: SmallVec<[u64; 2]>,
    /// They stay for further answers.
    stay: bool,
    /// What waits.
    waiting: Option<Waiting>,
}

impl Last {
    fn is_all_of(&self, subscribers: &[Subscriber]) -> bool {
        let known = |subscriber: &Subscriber| self.recipients.contains(&subscriber.peer);
        subscribers.iter().all(known)
    }
}

/// The answers that wait under a topic.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    until: Instant,
    answers: usize,
    bytes: usize,
}

/// The last answers, and the topics whose answers wait.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    answered: HashMap<ByteString, Last>,
    waiting: VecDeque<(Instant, ByteString)>,
}

impl Doubts {
    /// Whether an answer to exactly `topic` may be meant for none of its `subscribers`.
    pub(super) fn about(
        &self,
        now: Instant,
        topic: &str,
        subscribers: &[Subscriber],
        arrivals: Arrivals,
    ) -> bool {
        let Some(last) = self.answered.get(topic) else {
            return false;
        };
        let may_have_come = arrivals.is_none() || arrivals != last.arrivals;
        !last.stay
            && may_have_come
            && now.duration_since(last.at) > NEXT_CALL
            && last.is_all_of(subscribers)
    }

    /// An answer of `len` bytes to `topic`, which is in doubt, waits, until that.
    pub(super) fn wait(&mut self, until: Instant, topic: ByteString, len: usize) {
        if let Some(last) = self.answered.get_mut(&topic) {
            last.waiting = Some(Waiting {
                until,
                answers: 1,
                bytes: len,
            });
            self.waiting.push_back((until, topic));
        }
    }

    /// A further answer of `len` bytes to `topic` is there. Whether the doubt ends with it.
    pub(super) fn has_enough(&mut self, topic: &str, len: usize) -> bool {
        let Some(last) = self.answered.get_mut(topic) else {
            return false;
        };
        let Some(waiting) = &mut last.waiting else {
            return false;
        };
        waiting.answers += 1;
        waiting.bytes += len;
        let enough = waiting.answers > ANSWERS || waiting.bytes > BYTES;
        if enough {
            last.waiting = None;
            last.stay = true;
        }
        enough
    }

    /// When the next topic has waited for long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|(until, _)| *until)
    }

    /// Takes the next topic that has waited for long enough: whoever is still there stays.
    pub(super) fn expire(&mut self, now: Instant) -> Option<ByteString> {
        while let Some((until, topic)) = self.waiting.pop_front_if(|(until, _)| *until <= now) {
            // Else a new subscription, or nobody any more, has made an end of the doubt.
            if let Some(last) = self.answered.get_mut(&topic)
                && last
                    .waiting
                    .take_if(|waiting| waiting.until == until)
                    .is_some()
            {
                last.stay = true;
                return Some(topic);
            }
        }
        None
    }

    /// An answer to exactly `topic` goes to `recipients`.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        topic: &ByteString,
        recipients: &[Subscriber],
        arrivals: Arrivals,
    ) {
        let peers = recipients.iter().map(|recipient| recipient.peer);
        // In place, since most answers follow one under the same topic.
        if let Some(last) = self.answered.get_mut(topic) {
            last.stay &= last.is_all_of(recipients);
            last.waiting = None;
            last.at = now;
            last.arrivals = arrivals;
            last.recipients.clear();
            last.recipients.extend(peers);
            return;
        }
        let last = Last {
            at: now,
            arrivals,
            recipients: peers.collect(),
            stay: false,
            waiting: None,
        };
        self.answered.insert(topic.clone(), last);
    }

    /// Nobody is subscribed to exactly `topic` any more.
    pub(super) fn forget(&mut self, topic: &str) {
        self.answered.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers under one topic, each with the milliseconds when it is there, how many callers have come
    /// by then, and who is subscribed; and which of them are in doubt.
    fn check(answers: &[(u64, Arrivals, &[u64])], expected: &[bool]) {
        let start = Instant::now();
        let mut doubts = Doubts::default();
        let topic = ByteString::from("topic");
        let mut found = Vec::new();
        for &(millis, arrivals, peers) in answers {
            let now = start + Duration::from_millis(millis);
            while doubts.expire(now).is_some() {
                let subscribers = [Subscriber {
                    peer: 1,
                    connected: start,
                }];
                doubts.answered(now, &topic, &subscribers, arrivals);
            }
            let subscriber = |&peer| Subscriber {
                peer,
                connected: start,
            };
            let subscribers: Vec<_> = peers.iter().map(subscriber).collect();
            let doubtful = doubts.about(now, &topic, &subscribers, arrivals);
            found.push(doubtful);
            if doubtful {
                doubts.wait(now + STALE_TIMEOUT, topic.clone(), 10);
            } else {
                doubts.answered(now, &topic, &subscribers, arrivals);
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn an_answer_for_a_subscription_that_had_one_is_in_doubt() {
        check(&[(0, Some(1), &[1]), (5, Some(2), &[1])], &[false, true]);
        check(&[(0, None, &[1]), (5, None, &[1])], &[false, true]);
    }

    #[test]
    fn with_a_new_subscription_there_is_no_doubt() {
        let answers: &[(u64, Arrivals, &[u64])] = &[
            (0, Some(1), &[1]),
            (5, Some(2), &[1, 2]),
            (9, Some(3), &[3]),
        ];
        check(answers, &[false, false, false]);
    }

    #[test]
    fn who_gets_many_answers_is_not_in_doubt() {
        check(&[(0, None, &[1]), (0, None, &[1])], &[false, false]);
        check(&[(0, Some(1), &[1]), (5, Some(1), &[1])], &[false, false]);
    }

    #[test]
    fn a_doubt_ends_with_a_new_subscription() {
        let answers: &[(u64, Arrivals, &[u64])] = &[
            (0, None, &[1]),
            (5, None, &[1]),
            (10, None, &[2]),
            (600, None, &[2]),
            (605, None, &[3]),
        ];
        check(answers, &[false, true, false, true, false]);
    }

    #[test]
    fn a_doubt_ends_when_much_waits() {
        let doubtful = || {
            let mut doubts = Doubts::default();
            let subscribers = [Subscriber {
                peer: 1,
                connected: Instant::now(),
            }];
            doubts.answered(Instant::now(), &"topic".into(), &subscribers, None);
            doubts.wait(Instant::now() + STALE_TIMEOUT, "topic".into(), 1000);
            doubts
        };
        let mut doubts = doubtful();
        assert!((2..=1000).all(|_| !doubts.has_enough("topic", 10)));
        assert!(doubts.has_enough("topic", 10));
        assert!(!doubts.has_enough("topic", 10));
        assert!(doubtful().has_enough("topic", BYTES));
        assert!(!doubtful().has_enough("other", BYTES));
    }

    #[test]
    fn who_stays_is_in_doubt_once() {
        let answers: &[(u64, Arrivals, &[u64])] = &[
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
