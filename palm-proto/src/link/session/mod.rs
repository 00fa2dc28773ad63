//! The state machine of a link: one session, which delivers messages both ways, in order and each once, while
//! the connections below it break and are replaced.
//!
//! A session owns the messages that its peer has not acknowledged (`Outbox`) and the position up to which it
//! has received (`Inbox`). It does no I/O and reads no clock, like `quinn_proto::Connection`: the owner passes in the
//! headers that arrive ([`Session::receive`]) and the messages to send ([`Session::submit`]), and after each of
//! these, and at [`Session::timeout`], calls [`Session::transmit`] until that returns `None`. The outcome is
//! reported as [`SessionEvent`]s.
//!
//! **Invariant.** Each message has a number, and numbers never restart within a session. Acknowledgements and
//! credit are absolute numbers that only grow. So a header may be lost, repeated or delayed without harm: the
//! receiver skips messages that it has, and answers a gap by requesting everything from the first missing message
//! on (go-back-N). Credit is never revoked, so a message within it is always accepted, as with QUIC's `MAX_DATA`.
//!
//! The section on links in `proto/README.md` specifies the wire.

mod cancelled;
mod edge_times;
mod inbox;
mod outbox;
mod requests;
mod tagged_batch;
mod timers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::framing::{PackedFrames, pack, unpack};
use super::header;
use crate::budget::Capacity;
use crate::message::Batch;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal, LinkRequest, LinkWelcome};
use crate::report::Durations;

pub use inbox::CreditWindow;
pub use tagged_batch::{TASK_TAG_STEP, TaggedBatch, memory_bytes, message_count};
pub use timers::ACK_DELAY;

use cancelled::CancelledLists;
use edge_times::EdgeTimes;
use inbox::{Inbox, Offset};
use outbox::Outbox;
use requests::{HandledRequest, RequestQueue};
use tagged_batch::header_tags;
use timers::{DueFlags, Timers};

/// The highest version of the link protocol that this implementation speaks.
pub const VERSION: u32 = 6;

/// The lowest version of the link protocol that is accepted.
pub const MIN_VERSION: u32 = 1;

/// The first version in which a worker registers its functions by its `hello`, and receives cancelled calls in headers.
pub const WORKER_CONTROL_VERSION: u32 = 5;

/// The first version in which a worker handles the requests of operators.
pub const REQUESTS_VERSION: u32 = 6;

/// The first version in which workers return tasks that they will not run.
pub const RETURNS_VERSION: u32 = 3;

/// The first version in which a header with `alive` is a sign of life.
pub const LIVENESS_VERSION: u32 = 3;

/// The first version in which a batch may have messages of several calls of one client. Peers of version 2 and 3 accept
/// batches too, but only of one call each.
const BATCHES_VERSION: u32 = 4;

/// Messages share batches and writes while this many or more are unacknowledged.
const MIN_SHARED: usize = 8;

/// An event that a session reports to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer has introduced itself, for the first time or on a new connection.
    Opened,
    /// The next messages in order have arrived.
    Messages(TaggedBatch),
    /// The peer drains: it accepts no messages beyond its credit.
    Draining,
    /// A list of cancelled calls has arrived.
    Cancelled(Bytes),
    /// The last message that the peer will send has arrived.
    Finished,
    /// The peer does not know this session any more, which is over.
    Forgotten,
    /// The peer has established its own subscriptions.
    SubscriptionsReady,
    /// The peer has closed the session, which is over.
    Closed {
        /// Whether the peer has handled all messages that it acknowledged, and all of its own have arrived.
        is_settled: bool,
    },
    /// The peer, a master, asks for a report: see [`Session::send_report`].
    ReportWanted {
        /// Whether the report is to contain recent calls.
        calls: bool,
    },
    /// The peer, a worker, has sent its encoded report.
    Report(Bytes),
    /// The peer, a master, passes on a request of an operator: see [`Session::reply`].
    Request(LinkRequest),
    /// The peer, a worker, has replied to the request with this number. The payload is empty if it does not know the verb.
    Reply { number: u64, payload: Bytes },
    /// The peer or this side has refused to continue the session, which is over.
    Refused(LinkRefusal),
}

/// The numbers of messages of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    pub sent: u64,
    pub acknowledged: u64,
    pub received: u64,
}

/// A header and the frames of the messages that follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transmission {
    pub header: LinkHeader,
    pub frames: Vec<Bytes>,
}

/// Settings that differ between the two ends of a link.
#[derive(Debug)]
enum Side {
    Connects {
        hello: LinkHello,
        /// The number by which the peer identifies its state of the session, once it has answered.
        instance: Option<u64>,
        /// The number that identifies the peer's run; 0 if unknown.
        component: u64,
    },
    Accepts {
        instance: u64,
        /// The number that identifies this run of the component, see `LinkWelcome`.
        component: u64,
        idle_timeout: Duration,
        welcome_due: bool,
    },
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    id: Bytes,
    side: Side,
    /// Whether the peer has introduced itself on the current connection.
    is_open: bool,
    /// The highest version that the peer speaks.
    peer_version: u32,
    is_over: bool,
    refusal: Option<LinkRefusal>,
    outbox: Outbox,
    inbox: Inbox,
    cancelled: CancelledLists,
    /// The requests to the peer, a worker.
    requests: RequestQueue,
    /// The last request of the peer, a master.
    handled: HandledRequest,
    timers: Timers,
    opened_at: Instant,
    times: EdgeTimes,
    /// The report of this worker, until it is sent. Empty: none.
    report: Bytes,
    /// Reports that are due in the next header although no timer has fired.
    due: DueFlags,
    /// Limit on the bytes of messages that the owner accepts.
    capacity: Capacity,
    /// The size of the first message that was dropped for lack of capacity. The peer resends it on request.
    blocked_bytes: Option<usize>,
    is_draining: bool,
    is_finishing: bool,
    subscriptions_ready: bool,
    peer_subscriptions_ready: bool,
    /// How many components follow this side, and the peer.
    followers: u32,
    peer_followers: u32,
    /// How many of this worker's tasks wait for other calls of its master, and how many of the peer's.
    lent_slots: u32,
    peer_lent_slots: u32,
    /// How many tasks this worker runs at once, and the peer, if it is not the number of the `hello`; otherwise 0.
    concurrency: u32,
    peer_concurrency: u32,
    peer_draining: bool,
    peer_finished: bool,
}

impl Session {
    /// Creates the connecting end, which introduces itself by `hello`.
    pub fn connect(
        id: Bytes,
        hello: LinkHello,
        window: CreditWindow,
        heartbeat: Duration,
        now: Instant,
    ) -> Self {
        let side = Side::Connects {
            hello,
            instance: None,
            component: 0,
        };
        Self::new(id, side, window, heartbeat, now)
    }

    /// Creates the accepting end.
    ///
    /// `instance` and `component` are random numbers that identify the session and this run of the component. The
    /// owner ends the session of a peer that is silent for longer than `idle_timeout`; the session announces it.
    pub fn accept(
        id: Bytes,
        instance: u64,
        component: u64,
        window: CreditWindow,
        idle_timeout: Duration,
        now: Instant,
    ) -> Self {
        let side = Side::Accepts {
            instance,
            component,
            idle_timeout,
            welcome_due: false,
        };
        // The accepting end sends no heartbeats of its own: it answers those of the peer.
        Self::new(id, side, window, idle_timeout, now)
    }

    fn new(id: Bytes, side: Side, window: CreditWindow, heartbeat: Duration, now: Instant) -> Self {
        Self {
            id,
            side,
            is_open: false,
            peer_version: MIN_VERSION,
            is_over: false,
            refusal: None,
            outbox: Outbox::default(),
            inbox: Inbox::new(window),
            cancelled: CancelledLists::default(),
            requests: RequestQueue::default(),
            handled: HandledRequest::default(),
            timers: Timers::new(heartbeat, now),
            opened_at: now,
            times: EdgeTimes::default(),
            report: Bytes::new(),
            due: DueFlags::default(),
            capacity: Capacity::MAX,
            blocked_bytes: None,
            is_draining: false,
            is_finishing: false,
            subscriptions_ready: false,
            peer_subscriptions_ready: false,
            followers: 0,
            peer_followers: 0,
            lent_slots: 0,
            peer_lent_slots: 0,
            concurrency: 0,
            peer_concurrency: 0,
            peer_draining: false,
            peer_finished: false,
        }
    }

    #[inline]
    pub fn id(&self) -> &Bytes {
        &self.id
    }

    /// Queues messages, which are sent once the peer has granted credit for them.
    #[inline]
    pub fn submit(&mut self, item: TaggedBatch, now: Instant) {
        debug_assert!(!self.is_finishing, "no message is submitted after `finish`");
        if self.outbox.items.is_empty() {
            self.timers.progress_at = now;
        }
        self.outbox.push(item);
        self.times.submitted(self.outbox.end(), now);
    }

    /// Queues a list of cancelled calls, which overtakes messages and needs no credit. It is dropped if the peer does not
    /// know such lists, or has not acknowledged many of them.
    pub fn submit_cancelled(&mut self, list: Bytes, now: Instant) {
        if self.version() < WORKER_CONTROL_VERSION {
            return;
        }
        if self.outbox.items.is_empty() && self.cancelled.is_acknowledged() {
            self.timers.progress_at = now;
        }
        self.cancelled.push(list);
    }

    /// Queues a request of an operator to the peer, a worker. Returns its number; `None` if too many have no reply. A
    /// worker of a version below [`REQUESTS_VERSION`] does not reply.
    pub fn request(&mut self, verb: &str, payload: Bytes) -> Option<u64> {
        self.requests.push(verb, payload)
    }

    /// Withdraws a request. Its reply is ignored.
    pub fn withdraw(&mut self, number: u64) {
        self.requests.withdraw(number);
    }

    /// Replies to a request of the peer, a master. Without a reply the peer repeats the request.
    pub fn reply(&mut self, number: u64, payload: Bytes) {
        self.handled.reply(number, payload);
    }

    /// Returns the version that both ends speak: the lowest one until the peer has introduced itself.
    #[inline]
    pub fn version(&self) -> u32 {
        VERSION.min(self.peer_version)
    }

    /// Returns the number that identifies the run of the accepting component; 0 if unknown.
    #[inline]
    pub fn component(&self) -> u64 {
        match self.side {
            Side::Connects { component, .. } | Side::Accepts { component, .. } => component,
        }
    }

    /// Returns the longest silence of this side: its own interval, or less if the peer's idle timeout requires it.
    #[inline]
    pub fn heartbeat(&self) -> Duration {
        self.timers.heartbeat
    }

    /// Returns how many further messages the peer accepts.
    #[inline]
    pub fn credit(&self) -> u64 {
        if self.is_over || self.is_finishing {
            return 0;
        }
        let end = self.outbox.end();
        self.outbox.credit.messages.saturating_sub(end)
    }

    /// Returns the number of messages that are queued or unacknowledged, and their bytes.
    #[inline]
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.outbox.messages, self.outbox.bytes)
    }

    /// Returns whether few messages are unacknowledged, so that a message is best sent at once: hardly any other would
    /// share its batch, or its write.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.outbox.messages < MIN_SHARED
    }

    /// Returns how many messages were submitted in this session, how many of them the peer has acknowledged, and how
    /// many were received.
    pub fn message_counts(&self) -> MessageCounts {
        MessageCounts {
            sent: self.outbox.end(),
            acknowledged: self.outbox.base,
            received: self.inbox.received.messages,
        }
    }

    /// Returns how many received messages were not consumed, and their bytes.
    pub fn unconsumed(&self) -> (u64, u64) {
        let Inbox {
            received, consumed, ..
        } = &self.inbox;
        (
            received.messages.saturating_sub(consumed.messages),
            received.bytes.saturating_sub(consumed.bytes),
        )
    }

    /// Returns when the session began.
    #[inline]
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Returns whether the peer accepts no messages beyond the credit that it has granted.
    #[inline]
    pub fn is_peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// Returns the time from the submission of a message to its acknowledgement, of every 64th message.
    pub fn acknowledgement_times(&self) -> Durations {
        self.times.durations()
    }

    /// Asks the peer, a worker, for a report, with its recent calls if `calls`. A worker of an earlier version does not
    /// answer.
    pub fn request_report(&mut self, calls: bool) {
        self.due.wants_report = true;
        self.due.wants_calls |= calls;
    }

    /// Sends the encoded report of this worker, which its master has asked for.
    pub fn send_report(&mut self, report: Bytes) {
        self.report = report;
        self.due.notice = true;
    }

    /// Returns whether the peer has acknowledged all messages.
    #[inline]
    pub fn is_acknowledged(&self) -> bool {
        self.outbox.items.is_empty()
    }

    /// Returns when the peer last showed a sign of life.
    #[inline]
    pub fn last_heard(&self) -> Instant {
        self.timers.last_heard
    }

    /// Records a sign of life that arrived by another way than [`receive`](Self::receive).
    #[inline]
    pub fn record_life_sign(&mut self, now: Instant) {
        self.timers.last_heard = self.timers.last_heard.max(now);
    }

    /// Returns the bytes of the first unacknowledged message, or batch, if it is under way, and otherwise 0.
    #[inline]
    pub fn first_bytes_under_way(&self) -> usize {
        let is_under_way = self.outbox.next.messages > self.outbox.base;
        let first = self.outbox.items.front().filter(|_| is_under_way);
        first.map_or(0, |item| item.batch.bytes())
    }

    /// Returns when the peer last acknowledged a message, or the session began.
    #[inline]
    pub fn acknowledged_at(&self) -> Instant {
        self.timers.acknowledged_at
    }

    /// Returns whether the session has ended.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns credit for messages that were consumed.
    #[inline]
    pub fn consume(&mut self, messages: u64, bytes: u64) {
        self.inbox.consumed.messages += messages;
        self.inbox.consumed.bytes += bytes;
    }

    /// Sets how many messages the peer may send ahead. Credit that was granted before is not revoked.
    #[inline]
    pub fn set_window(&mut self, messages: u64) {
        self.inbox.window.messages = messages;
    }

    /// Sets how many tasks of this worker wait for other calls of its master, and reports it to the peer.
    #[inline]
    pub fn set_lent_slots(&mut self, tasks: u32) {
        self.due.notice |= std::mem::replace(&mut self.lent_slots, tasks) != tasks;
    }

    /// Returns how many tasks of the peer, a worker, wait for other calls of this component.
    #[inline]
    pub fn peer_lent_slots(&self) -> u32 {
        self.peer_lent_slots
    }

    /// Sets how many tasks this worker runs at once, instead of the number of its `hello`, and reports it to the peer.
    pub fn set_concurrency(&mut self, tasks: u32) {
        self.due.notice |= std::mem::replace(&mut self.concurrency, tasks) != tasks;
    }

    /// Returns how many tasks this worker runs at once, as it has reported in this session; 0 if unknown.
    pub fn concurrency(&self) -> u32 {
        match (&self.side, self.concurrency) {
            (Side::Connects { hello, .. }, 0) => hello.concurrency,
            (_, concurrency) => concurrency,
        }
    }

    /// Returns how many tasks the peer, a worker, runs at once; `None` if it is the number of its `hello`.
    #[inline]
    pub fn peer_concurrency(&self) -> Option<u32> {
        (self.peer_concurrency > 0).then_some(self.peer_concurrency)
    }

    /// Limits the bytes that are received from now on. Returns whether dropped messages are requested again.
    ///
    /// Messages beyond the limit are dropped as if the connection had lost them, and the peer keeps them. A later
    /// call that admits the first of them requests them again.
    pub fn set_capacity(&mut self, capacity: Capacity, now: Instant) -> bool {
        self.capacity = capacity;
        let is_resumed = self
            .blocked_bytes
            .is_some_and(|bytes| capacity.admits(bytes));
        if is_resumed {
            self.blocked_bytes = None;
            self.due.resend = true;
            self.timers.resend_requested_at = Some(now);
        }
        is_resumed
    }

    /// Returns whether messages were dropped for lack of capacity.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked_bytes.is_some()
    }

    /// Limits the credit of the whole session to `messages`.
    pub fn set_limit(&mut self, messages: u64) {
        self.inbox.limit = messages;
    }

    /// Stops granting credit, and reports to the peer that this side drains.
    pub fn drain(&mut self) {
        self.inbox.window.messages = 0;
        self.is_draining = true;
        self.due.notice = true;
    }

    /// Declares the queued messages to be the last ones.
    pub fn finish(&mut self) {
        self.is_finishing = true;
        self.due.notice = true;
    }

    /// Reports to the peer that this side has established its own subscriptions.
    pub fn set_subscriptions_ready(&mut self) {
        self.due.notice |= !std::mem::replace(&mut self.subscriptions_ready, true);
    }

    /// Sets how many components follow this side, which the next header tells the peer.
    pub fn set_followers(&mut self, followers: usize) {
        self.followers = u32::try_from(followers).unwrap_or(u32::MAX);
    }

    /// Returns how many components followed the peer when it sent its last header.
    pub fn peer_followers(&self) -> u32 {
        self.peer_followers
    }

    /// Sends a header with the flags of this side at once.
    pub fn notify(&mut self) {
        self.due.notice = true;
    }

    /// Removes and returns the messages that were never sent.
    pub fn take_unsent(&mut self) -> VecDeque<TaggedBatch> {
        self.outbox.split_off(self.outbox.sent)
    }

    /// Ends the session; removes and returns the unacknowledged messages.
    pub fn take_unacknowledged(&mut self) -> VecDeque<TaggedBatch> {
        self.is_over = true;
        self.outbox.split_off(self.outbox.base)
    }

    /// Returns the number that the next submitted message will have.
    #[inline]
    pub fn next_number(&self) -> u64 {
        self.outbox.end()
    }

    /// Returns whether messages with a lower number are unacknowledged.
    #[inline]
    pub fn has_unacknowledged_below(&self, number: u64) -> bool {
        self.outbox.base < number.min(self.outbox.end())
    }

    /// Ends the session; removes and returns the unacknowledged messages with a lower number.
    pub fn take_unacknowledged_below(&mut self, number: u64) -> VecDeque<TaggedBatch> {
        self.outbox.split_off(number);
        self.take_unacknowledged()
    }

    /// Ends the session and returns its last header, which reports whether all messages were acknowledged.
    pub fn close(&mut self) -> LinkHeader {
        self.is_over = true;
        LinkHeader {
            closed: true,
            finished: self.is_acknowledged(),
            ..self.header()
        }
    }

    /// Notes that the connection was replaced: the connecting end introduces itself again.
    pub fn reconnected(&mut self) {
        if let Side::Connects { .. } = self.side {
            self.timers.hello_sent = None;
            self.is_open = false;
        }
    }

    /// Notes that a transmission could not be sent, whose first message has the number `first`. It is repeated after
    /// `ACK_DELAY`, or when the owner calls [`transmit`](Self::transmit) for another reason.
    pub fn retry_from(&mut self, first: u64) {
        self.outbox.rewind_to(first);
        self.cancelled.rewind();
        self.requests.rewind();
        self.due.answer = true;
    }

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

    /// Ends the session and reports the reason to the peer.
    pub fn refuse_as(&mut self, kind: Kind, reason: &str) -> LinkRefusal {
        let refusal = LinkRefusal {
            kind: kind.into(),
            reason: reason.to_owned(),
        };
        self.is_over = true;
        self.refusal = Some(refusal.clone());
        refusal
    }

    fn header(&self) -> LinkHeader {
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
}

#[cfg(test)]
mod tests;
