//! Receives headers: what they acknowledge, what they report, and the messages that follow.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::inbox::Offset;
use super::{Session, SessionEvent, Side, TaggedBatch, memory_bytes};
use crate::link::framing::unpack;
use crate::message::Batch;
use crate::message::proto::LinkHeader;
use crate::message::proto::link_refusal::Kind;

impl Session {
    /// Receives a header and the frames of its messages, and appends what has happened to `events`.
    ///
    /// A header that violates the protocol refuses the session.
    pub fn receive(
        &mut self,
        now: Instant,
        header: &LinkHeader,
        frames: impl Iterator<Item = Bytes>,
        events: &mut Vec<SessionEvent>,
    ) {
        if self.is_over {
            return;
        }
        self.timers.last_heard = now;
        if let Some(refusal) = &header.refusal {
            self.is_over = true;
            events.push(SessionEvent::Refused(refusal.clone()));
            return;
        }
        if !self.receive_introduction(header, events) {
            if header.closed {
                // The peer answers `hello` by `closed` if it does not know the session.
                self.is_over = true;
                events.push(SessionEvent::Forgotten);
            }
            return;
        }
        if !self.receive_acknowledgements(now, header, events) {
            return;
        }
        let credit = &mut self.outbox.credit;
        credit.messages = credit.messages.max(header.credit_messages);
        credit.bytes = credit.bytes.max(header.credit_bytes);
        self.due.answer |= header.answer;
        self.peer_lent_slots = header.lent;
        self.peer_concurrency = header.concurrency;

        let before = self.inbox.received.messages;
        let Some(end) = self.receive_messages(header, frames, events) else {
            return;
        };
        let received = self.inbox.received.messages;
        if received != before {
            self.timers.resend_requested_at = None;
        }
        if received != before || (end < received || header.first < before) {
            // A peer repeats messages because it does not know that they have arrived.
            self.timers.delay_ack(now);
        }
        let is_list_missing = !self.receive_cancelled(now, header, events);
        let is_gap = header.first > received && self.blocked_bytes.is_none();
        if (is_gap || is_list_missing) && self.timers.is_resend_due(now) {
            self.timers.resend_requested_at = Some(now);
            self.due.resend = true;
        }
        if header.wants_report {
            let calls = header.wants_calls;
            events.push(SessionEvent::ReportWanted { calls });
        }
        if !header.report.is_empty() {
            events.push(SessionEvent::Report(header.report.clone()));
        }
        self.receive_requests(header, events);
        self.receive_flags(header, end, events);
    }

    /// Applies the acknowledgements of a header. Everything that is unacknowledged is sent again after an introduction,
    /// or if the header requests it.
    ///
    /// Returns `false` if the peer acknowledged more than was sent, which refuses the session.
    fn receive_acknowledgements(
        &mut self,
        now: Instant,
        header: &LinkHeader,
        events: &mut Vec<SessionEvent>,
    ) -> bool {
        if !self.outbox.acknowledge(header.received) {
            let (received, sent) = (header.received, self.outbox.sent);
            let reason =
                format!("peer acknowledged {received} messages, but only {sent} were sent");
            self.refuse(&reason, events);
            return false;
        }
        if !self.cancelled.acknowledge(header.received_cancelled) {
            let received = header.received_cancelled;
            let reason = format!(
                "peer acknowledged {received} lists of cancelled calls, but fewer were sent"
            );
            self.refuse(&reason, events);
            return false;
        }
        if header.hello.is_some() || header.welcome.is_some() || header.resend {
            self.outbox.rewind();
            self.cancelled.rewind();
            self.requests.rewind();
        }
        if self.outbox.has_progressed {
            self.timers.acknowledged_at = now;
            self.times.acknowledged(self.outbox.base, now);
        }
        if self.outbox.items.is_empty() || self.outbox.has_progressed {
            self.timers.progress_at = now;
        }
        true
    }

    /// Receives the messages of a header: those that are next in order, within the capacity of the owner.
    ///
    /// Returns the number that follows the last message of the header; `None` if the messages violate the protocol,
    /// which refuses the session.
    fn receive_messages(
        &mut self,
        header: &LinkHeader,
        frames: impl Iterator<Item = Bytes>,
        events: &mut Vec<SessionEvent>,
    ) -> Option<u64> {
        let Some(batches) = unpack(&header.sizes, &header.groups, frames) else {
            let reason = "the frames do not have the sizes that the header lists";
            self.refuse(reason, events);
            return None;
        };
        let tags = &header.tags;
        if !tags.is_empty() && tags.len() != batches.len() {
            let (tags, batches) = (tags.len(), batches.len());
            let reason = format!("the header lists {tags} tags for {batches} messages or batches");
            self.refuse(&reason, events);
            return None;
        }
        let messages: usize = batches.iter().map(Batch::len).sum();
        let Some(end) = header.first.checked_add(messages as u64) else {
            self.refuse("message numbers exceed 64 bits", events);
            return None;
        };
        let mut number = header.first;
        for (index, batch) in batches.into_iter().enumerate() {
            let tag = tags.get(index).copied().unwrap_or_default();
            let mut item = TaggedBatch::from_batch(tag, header.tag_step, batch);
            let seen = self.inbox.received.messages.checked_sub(number);
            number += item.len() as u64;
            // Skips batches that were received before, and those after a gap.
            let Some(seen) = seen.filter(|&seen| seen < item.len() as u64) else {
                continue;
            };
            if seen > 0 {
                item.split_to(seen as usize);
            }
            let cost = memory_bytes(item.len(), item.batch.bytes());
            if !self.capacity.take(cost) {
                self.blocked_bytes = Some(cost);
                break;
            }
            self.blocked_bytes = None;
            if !self.inbox.take(&item.batch) {
                let Offset { messages, bytes } = self.inbox.advertised;
                let reason = format!(
                    "peer exceeded its credit of {messages} messages and {bytes} bytes in this session"
                );
                self.refuse(&reason, events);
                return None;
            }
            events.push(SessionEvent::Messages(item));
        }
        Some(end)
    }

    /// Receives the flags of a header, which report the state of the peer. The flag `finished` counts only if all
    /// messages below the number `end` have arrived: those of the header, and those that precede it.
    fn receive_flags(&mut self, header: &LinkHeader, end: u64, events: &mut Vec<SessionEvent>) {
        let has_finished = header.finished && self.inbox.received.messages == end;
        if !header.closed {
            self.peer_followers = header.followers;
        }
        if header.in_place && !std::mem::replace(&mut self.peer_subscriptions_ready, true) {
            events.push(SessionEvent::SubscriptionsReady);
        }
        if header.draining && !self.peer_draining {
            self.peer_draining = true;
            events.push(SessionEvent::Draining);
        }
        if has_finished && !self.peer_finished {
            self.peer_finished = true;
            events.push(SessionEvent::Finished);
        }
        if header.closed {
            self.is_over = true;
            events.push(SessionEvent::Closed {
                is_settled: has_finished,
            });
        }
    }

    /// Receives the lists of cancelled calls of a header. Returns whether none is missing ahead of them.
    fn receive_cancelled(
        &mut self,
        now: Instant,
        header: &LinkHeader,
        events: &mut Vec<SessionEvent>,
    ) -> bool {
        if header.first_cancelled == self.cancelled.received && header.cancelled.is_empty() {
            return true;
        }
        let lists = self
            .cancelled
            .receive(header.first_cancelled, &header.cancelled);
        let Some(lists) = lists else {
            return false;
        };
        events.extend(lists.into_iter().map(SessionEvent::Cancelled));
        // A peer repeats lists because it does not know that they have arrived.
        self.timers.delay_ack(now);
        true
    }

    /// Receives the request and the reply of a header.
    fn receive_requests(&mut self, header: &LinkHeader, events: &mut Vec<SessionEvent>) {
        if let Some(request) = &header.request
            && self.handled.receive(request.number)
        {
            events.push(SessionEvent::Request(request.clone()));
        }
        if let Some(reply) = &header.reply
            && let Some(payload) = self.requests.receive(reply)
        {
            let number = reply.number;
            events.push(SessionEvent::Reply { number, payload });
        }
    }

    /// Handles `hello` and `welcome`. Returns whether the rest of the header is to be handled.
    fn receive_introduction(
        &mut self,
        header: &LinkHeader,
        events: &mut Vec<SessionEvent>,
    ) -> bool {
        match &mut self.side {
            Side::Connects {
                instance,
                component,
                ..
            } => {
                if let Some(welcome) = &header.welcome {
                    if instance.is_some_and(|instance| instance != welcome.instance) {
                        self.is_over = true;
                        events.push(SessionEvent::Forgotten);
                        return false;
                    }
                    *instance = Some(welcome.instance);
                    *component = welcome.component;
                    self.peer_version = welcome.version;
                    if welcome.idle_timeout_ms > 0 {
                        let idle_timeout = Duration::from_millis(welcome.idle_timeout_ms.into());
                        self.timers.limit_heartbeat(idle_timeout);
                    }
                    let heard = self.timers.last_heard;
                    self.timers.hello_sent.get_or_insert(heard);
                    self.is_open = true;
                    events.push(SessionEvent::Opened);
                }
            }
            Side::Accepts { welcome_due, .. } => {
                if let Some(hello) = &header.hello {
                    self.peer_version = hello.version;
                    *welcome_due = true;
                    self.is_open = true;
                    events.push(SessionEvent::Opened);
                }
            }
        }
        // Headers that arrive before the introduction belong to an earlier connection.
        self.is_open
    }

    fn refuse(&mut self, reason: &str, events: &mut Vec<SessionEvent>) {
        let refusal = self.refuse_as(Kind::Protocol, reason);
        events.push(SessionEvent::Refused(refusal));
    }
}
