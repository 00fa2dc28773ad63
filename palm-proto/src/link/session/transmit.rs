//! Builds the next header, and selects the messages that it carries.

use std::time::Instant;

use bytes::Bytes;

use super::tagged_batch::header_tags;
use super::timers::DueFlags;
use super::{Session, Side, Transmission, VERSION};
use crate::link::framing::{PackedFrames, pack};
use crate::link::header;
use crate::message::proto::{LinkHeader, LinkHello, LinkWelcome};

/// The first version in which a batch may have messages of several calls of one client. Peers of version 2 and 3 accept
/// batches too, but only of one call each.
const BATCHES_VERSION: u32 = 4;

impl Session {
    /// Returns the next header to send with its messages, or `None` if nothing is due.
    pub fn transmit(&mut self, now: Instant) -> Option<Transmission> {
        if let Some(refusal) = self.refusal.take() {
            let header = LinkHeader {
                refusal: Some(refusal),
                ..self.header()
            };
            let frames = Vec::new();
            return Some(Transmission { header, frames });
        }
        if self.is_over {
            return None;
        }
        let (hello, welcome) = self.next_introduction(now)?;
        let first = self.outbox.next.messages;
        let items = if self.is_open {
            self.outbox.next()
        } else {
            0..0
        };
        let probe = self.is_open && self.probe_at().is_some_and(|at| at <= now);
        let due = hello.is_some()
            || welcome.is_some()
            || !items.is_empty()
            || (self.is_open && (self.cancelled.is_due() || self.handled.is_due()))
            || (self.is_open && self.requests.is_due(now))
            || self.due.any()
            || probe
            || self.timers.is_ack_due(now)
            || self.inbox.is_credit_due();
        if !due {
            return None;
        }
        let items = self.outbox.items.range(items);
        let PackedFrames {
            sizes,
            mut batch_lengths,
            frames,
        } = pack(items.clone().map(|item| &item.batch));
        if self.peer_version < BATCHES_VERSION {
            batch_lengths.clear();
        }
        let (tags, tag_step) = header_tags(items, &batch_lengths);
        let (first_cancelled, cancelled) = match self.is_open {
            true => self.cancelled.next(),
            false => (self.cancelled.next_number(), Vec::new()),
        };
        let (request, reply) = match self.is_open {
            true => (self.requests.next(now), self.handled.next()),
            false => (None, None),
        };
        let header = LinkHeader {
            first,
            first_cancelled,
            cancelled,
            request,
            reply,
            tags,
            sizes,
            tag_step,
            groups: batch_lengths,
            answer: probe,
            resend: self.due.resend,
            wants_report: self.due.wants_report,
            wants_calls: self.due.wants_calls,
            report: match self.is_open {
                true => std::mem::take(&mut self.report),
                false => Bytes::new(),
            },
            hello,
            welcome,
            ..self.header()
        };
        self.inbox.advertised = self.inbox.credit();
        self.timers.sent(now, probe);
        self.due = DueFlags::default();
        Some(Transmission { header, frames })
    }

    /// Returns the `hello` and the `welcome` of the next header, if they are due. Returns `None` if no header can be
    /// sent: the session is not open, and no `hello` is due.
    fn next_introduction(
        &mut self,
        now: Instant,
    ) -> Option<(Option<LinkHello>, Option<LinkWelcome>)> {
        match &mut self.side {
            Side::Connects { .. } if self.is_open => Some((None, None)),
            Side::Connects {
                hello, instance, ..
            } => {
                if !self.timers.is_hello_due(now) {
                    return None;
                }
                self.timers.hello_sent = Some(now);
                let hello = LinkHello {
                    instance: instance.unwrap_or_default(),
                    ..hello.clone()
                };
                Some((Some(hello), None))
            }
            Side::Accepts { .. } if !self.is_open => None,
            Side::Accepts {
                instance,
                component,
                idle_timeout,
                welcome_due,
            } => {
                let welcome = std::mem::take(welcome_due).then_some(LinkWelcome {
                    version: VERSION.min(self.peer_version),
                    instance: *instance,
                    idle_timeout_ms: u32::try_from(idle_timeout.as_millis()).unwrap_or(u32::MAX),
                    component: *component,
                });
                Some((None, welcome))
            }
        }
    }

    pub(super) fn header(&self) -> LinkHeader {
        let credit = self.inbox.credit();
        LinkHeader {
            first: self.outbox.next.messages,
            received: self.inbox.received.messages,
            credit_messages: credit.messages,
            credit_bytes: credit.bytes,
            draining: self.is_draining,
            finished: self.is_finishing && self.outbox.is_transmitted(),
            in_place: self.subscriptions_ready,
            followers: self.followers,
            lent: self.lent_slots,
            concurrency: self.concurrency,
            first_cancelled: self.cancelled.next_number(),
            received_cancelled: self.cancelled.received,
            ..header::new(self.id.clone())
        }
    }

    /// Returns when the peer is probed for a sign of life, or for an acknowledgement that is overdue.
    fn probe_at(&self) -> Option<Instant> {
        let has_unacknowledged = self.outbox.sent > self.outbox.base || self.cancelled.is_awaited();
        // The accepting end sends no heartbeats: it answers those of its peer.
        let has_heartbeat = matches!(self.side, Side::Connects { .. });
        self.timers.probe_at(has_unacknowledged, has_heartbeat)
    }

    /// Returns when [`transmit`](Self::transmit) is to be called next if nothing happens before.
    pub fn timeout(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let timers = &self.timers;
        let hello = match self.side {
            Side::Connects { .. } if !self.is_open => timers.hello_at(),
            _ => None,
        };
        let probe = self.is_open.then(|| self.probe_at()).flatten();
        let answer = (self.is_open && self.due.answer).then(|| timers.answer_at());
        let request = self.is_open.then(|| self.requests.repeated_at()).flatten();
        [hello, probe, answer, request, timers.ack_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Notes that a transmission could not be sent, whose first message has the number `first`. It is repeated after
    /// `ACK_DELAY`, or when the owner calls [`transmit`](Self::transmit) for another reason.
    pub fn retry_from(&mut self, first: u64) {
        self.outbox.rewind_to(first);
        self.cancelled.rewind();
        self.requests.rewind();
        self.due.answer = true;
    }
}
