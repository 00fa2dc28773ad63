//! The resend buffer: answers that went only to a stale subscription, and are sent again to the new one.
//!
//! Covers a case that `stale_subscription` does not detect: an answer was withheld, then published, and all connections
//! that it was published to have closed. It is resent to a subscription whose client had connected before that. An
//! answer that is older than the connection belongs to an earlier call, so no answer is sent twice. No I/O; time is
//! an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::socket::Subscriber;

/// Time for which an answer is kept.
const RESEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Limits on the buffered answers.
const MAX_MESSAGES: usize = 1000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct SentAnswer {
    at: Instant,
    topic: ByteString,
    frame: Bytes,
    recipients: SmallVec<[u64; 2]>,
}

/// Recent answers that were withheld and then published, each with its recipients.
#[derive(Debug, Default)]
pub(in crate::parts::publish) struct ResendBuffer {
    messages: VecDeque<SentAnswer>,
    bytes: usize,
}

impl ResendBuffer {
    pub(in crate::parts::publish) fn record(
        &mut self,
        now: Instant,
        topic: &ByteString,
        frame: &Bytes,
        recipients: &[Subscriber],
    ) {
        self.bytes += frame.len();
        self.messages.push_back(SentAnswer {
            at: now,
            topic: topic.clone(),
            frame: frame.clone(),
            recipients: recipients.iter().map(|recipient| recipient.peer).collect(),
        });
        while let Some(oldest) = self.messages.front() {
            let old = now.duration_since(oldest.at) > RESEND_TIMEOUT;
            if !old && self.messages.len() <= MAX_MESSAGES && self.bytes <= MAX_BYTES {
                break;
            }
            self.bytes -= oldest.frame.len();
            self.messages.pop_front();
        }
    }

    /// Removes and returns the answers of `topic` that are meant for `subscriber`, the only current one, and were
    /// not sent to it.
    pub(in crate::parts::publish) fn missed(
        &mut self,
        topic: &[u8],
        subscriber: Subscriber,
    ) -> Vec<Bytes> {
        let mut missed = Vec::new();
        self.messages.retain(|sent| {
            let meant = sent.topic.as_bytes() == topic
                && sent.at >= subscriber.connected
                && !sent.recipients.contains(&subscriber.peer);
            if meant {
                missed.push(sent.frame.clone());
                self.bytes -= sent.frame.len();
            }
            !meant
        });
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &[(u64, u64, &'static str)], subscriber: (u64, u64), missed: &[&str]) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let subscriber_at = |peer, millis| Subscriber {
            peer,
            connected: at(millis),
        };
        let mut buffer = ResendBuffer::default();
        for &(millis, recipient, frame) in sent {
            let recipients = [subscriber_at(recipient, 0)];
            buffer.record(at(millis), &"topic".into(), &frame.into(), &recipients);
        }
        let subscriber = subscriber_at(subscriber.0, subscriber.1);
        assert_eq!(buffer.missed(b"other", subscriber), Vec::<Bytes>::new());
        assert_eq!(buffer.missed(b"topic", subscriber), missed);
        assert_eq!(buffer.missed(b"topic", subscriber), Vec::<Bytes>::new());
    }

    #[test]
    fn answer_to_the_previous_connection_is_sent_again() {
        check(&[(10, 1, "first"), (30, 1, "second")], (2, 20), &["second"]);
    }

    #[test]
    fn answer_that_the_subscriber_received_is_not_sent_again() {
        check(&[(10, 1, "first"), (30, 2, "second")], (2, 20), &[]);
    }

    #[test]
    fn old_answers_are_forgotten() {
        let mut buffer = ResendBuffer::default();
        let start = Instant::now();
        for seconds in 0..10 {
            let now = start + Duration::from_secs(seconds);
            buffer.record(now, &"topic".into(), &"frame".into(), &[]);
        }
        assert_eq!((buffer.messages.len(), buffer.bytes), (3, 15));
    }
}
