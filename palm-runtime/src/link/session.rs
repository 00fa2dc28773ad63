//! One session of a link: numbered messages both ways, acknowledged, within credit, over a connection
//! that may break at any time.
//!
//! No I/O and no clock: frames and the time go in ([`Session::receive`]), frames and events come out
//! ([`Session::transmit`], [`SessionEvent`]). Whoever owns it sends what it wants to transmit whenever
//! something happened, and at [`Session::due`].
//!
//! Numbers never begin again within a session, so that a header can be lost, repeated or late without
//! harm: acknowledgements and credit are absolute, messages that were seen are passed over, and a gap is
//! answered by asking for what is missing (go-back-n). See the section on links in `proto/README.md`.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::header;
use super::pack::{PackedFrames, pack, unpack};
use crate::budget::Capacity;
use crate::message::Group;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal, LinkWelcome};

/// The highest and the lowest version of the link that this implementation speaks.
pub(crate) const VERSION: u32 = 3;
pub(crate) const MIN_VERSION: u32 = 1;

/// The first version whose workers return tasks that they will not do.
pub(crate) const RETURNS_VERSION: u32 = 3;

/// The first version in which `alive` is a sign of life.
pub(crate) const LIVENESS_VERSION: u32 = 3;

/// From this version on messages go in groups.
const BATCHES_VERSION: u32 = 2;

/// How long an acknowledgement waits for a message that it can go with.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// How long an introduction, a request for what is missing, or an acknowledgement is waited for before
/// it is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Shortest interval of heartbeats, however short the peer's idle timeout is.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);

/// By how much the tags of tasks in a row differ, see `proto/README.md`.
pub(crate) const TASK_TAG_STEP: u64 = 2;

/// How much is transmitted at once.
const MAX_TRANSMISSION_MESSAGES: usize = 256;
const MAX_TRANSMISSION_BYTES: usize = 1024 * 1024;

/// Messages of a session that go the same way, each with a number of its own: usually one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaggedBatch {
    /// What the first one belongs to; the session does not look at it.
    pub(crate) tag: u64,
    /// By how much the tag of each next one is larger.
    pub(crate) step: u64,
    /// The messages.
    pub(crate) group: Group,
}

impl TaggedBatch {
    /// One message.
    pub(crate) fn new(tag: u64, frame: Bytes) -> Self {
        Self::of(tag, 0, frame.into())
    }

    /// Several messages. All that are submitted to a session have the same step.
    pub(crate) fn of(tag: u64, step: u64, group: Group) -> Self {
        Self { tag, step, group }
    }

    /// How many messages it has.
    pub(crate) fn len(&self) -> usize {
        self.group.len()
    }

    fn tags(&self) -> impl Iterator<Item = u64> + use<> {
        let (tag, step) = (self.tag, self.step);
        (0..self.len() as u64).map(move |index| tag.wrapping_add(step.wrapping_mul(index)))
    }

    /// Takes the first `count` messages out, of which there are more.
    fn split_to(&mut self, count: usize) -> Self {
        let front = Self {
            group: self.group.split_to(count),
            ..*self
        };
        self.tag = self.tag.wrapping_add(self.step.wrapping_mul(count as u64));
        front
    }
}

/// What a message takes of memory besides its bytes, about.
const MESSAGE_OVERHEAD: usize = 256;

/// How many bytes so many messages with so many bytes keep in memory, about.
pub(crate) fn memory_bytes(messages: usize, bytes: usize) -> usize {
    bytes.saturating_add(messages.saturating_mul(MESSAGE_OVERHEAD))
}

/// How many messages these are.
pub(crate) fn message_count<'a>(items: impl IntoIterator<Item = &'a TaggedBatch>) -> usize {
    items.into_iter().map(TaggedBatch::len).sum()
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    /// The peer has introduced itself: for the first time, or on a new connection.
    Opened,
    /// Messages, the next ones in order.
    Messages(TaggedBatch),
    /// The peer takes no more than what is under way.
    Draining,
    /// All that the peer will ever send has arrived.
    Finished,
    /// The peer knows nothing of this session any more. It is over.
    Forgotten,
    /// All that the peer follows itself is in place.
    SubscriptionsReady,
    /// The peer has closed the session. It is over.
    Closed {
        /// Whether it has dealt with all that it has acknowledged, and this side has all that came of it.
        is_settled: bool,
    },
    /// The peer, or this side, does not go on. The session is over.
    Refused(LinkRefusal),
}

/// What is to be sent: a header, and the messages behind it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transmission {
    pub(crate) header: LinkHeader,
    pub(crate) frames: Vec<Bytes>,
}

/// How much a peer may send ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditWindow {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Which end of the link this is.
#[derive(Debug)]
enum Side {
    Connects {
        hello: LinkHello,
        /// What the other side has called its memory of the session.
        instance: Option<u64>,
        /// Which run of the component the other side is; 0: unknown.
        component: u64,
        /// When the introduction was sent last; `None` where it is due.
        hello_sent: Option<Instant>,
    },
    Accepts {
        instance: u64,
        /// Identifies this run of the component, see `LinkWelcome`.
        component: u64,
        idle_timeout: Duration,
        welcome_due: bool,
    },
}

/// One end of a session.
#[derive(Debug)]
pub(crate) struct Session {
    id: Bytes,
    side: Side,
    /// Whether the peer has introduced itself on the connection that there is.
    is_open: bool,
    /// The highest version that the peer knows.
    peer_version: u32,
    is_over: bool,
    refusal: Option<LinkRefusal>,
    outbox: Outbox,
    inbox: Inbox,
    heartbeat: Duration,
    last_heard: Instant,
    last_sent: Instant,
    /// When the peer last acknowledged something, there was nothing to acknowledge, or it was asked.
    progress_at: Instant,
    /// When the peer last acknowledged a message, or the session began.
    acknowledged_at: Instant,
    answer_due: bool,
    ack_due: Option<Instant>,
    resend_due: bool,
    /// When what is missing was asked for last.
    resend_asked_at: Option<Instant>,
    /// How many bytes of messages may be received now.
    capacity: Capacity,
    /// The size of the first message for which there was no capacity. The peer sends it again when it is asked to.
    held_back: Option<usize>,
    is_draining: bool,
    is_finishing: bool,
    subscriptions_ready: bool,
    peer_subscriptions_ready: bool,
    /// Flags that the peer has not been told of yet.
    notice_due: bool,
    /// How many tasks of this side, a worker, wait for other calls of its master; and of the peer.
    lent_slots: u32,
    peer_lent_slots: u32,
    peer_draining: bool,
    peer_finished: bool,
}

impl Session {
    /// The side that connects, which introduces itself by `hello`.
    pub(crate) fn connect(
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
            hello_sent: None,
        };
        Self::new(id, side, window, heartbeat, now)
    }

    /// The side that is connected to. `instance` and `component` are random numbers: one for the session, the
    /// other for this run of the component. A peer that is silent for longer than `idle_timeout` is given up by
    /// the session's owner.
    pub(crate) fn accept(
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
        // It is the peer that has to be heard of.
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
            heartbeat,
            last_heard: now,
            last_sent: now,
            progress_at: now,
            acknowledged_at: now,
            answer_due: false,
            ack_due: None,
            resend_due: false,
            resend_asked_at: None,
            capacity: Capacity::MAX,
            held_back: None,
            is_draining: false,
            is_finishing: false,
            subscriptions_ready: false,
            peer_subscriptions_ready: false,
            notice_due: false,
            lent_slots: 0,
            peer_lent_slots: 0,
            peer_draining: false,
            peer_finished: false,
        }
    }

    /// What the session is called.
    pub(crate) fn id(&self) -> &Bytes {
        &self.id
    }

    /// Queues messages. They are sent as soon as the peer has credit for them.
    pub(crate) fn submit(&mut self, item: TaggedBatch, now: Instant) {
        debug_assert!(!self.is_finishing, "nothing comes after the end");
        if self.outbox.items.is_empty() {
            self.progress_at = now;
        }
        self.outbox.push(item);
    }

    /// The version of the link that both sides speak; the lowest one until the peer has introduced itself.
    pub(crate) fn version(&self) -> u32 {
        VERSION.min(self.peer_version)
    }

    /// Identifies the run of the component that this side connects to; 0: unknown.
    pub(crate) fn component(&self) -> u64 {
        match self.side {
            Side::Connects { component, .. } | Side::Accepts { component, .. } => component,
        }
    }

    /// How long this side is silent at most, as its peer wants it.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How many further messages the peer has credit for.
    pub(crate) fn credit(&self) -> u64 {
        if self.is_over || self.is_finishing {
            return 0;
        }
        let end = self.outbox.end();
        self.outbox.credit.messages.saturating_sub(end)
    }

    /// Messages that are queued, or sent and not acknowledged, and their bytes.
    pub(crate) fn unacknowledged(&self) -> (usize, usize) {
        (self.outbox.messages, self.outbox.bytes)
    }

    /// Whether the peer has got all that there was to send.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.outbox.items.is_empty()
    }

    /// When the peer last showed a sign of life.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Notes a sign of life that came another way than by [`receive`](Self::receive).
    pub(crate) fn record_life_sign(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(now);
    }

    /// When the peer last acknowledged a message, or the session began.
    pub(crate) fn acknowledged_at(&self) -> Instant {
        self.acknowledged_at
    }

    /// Whether nothing more happens in this session.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Messages that came in have been dealt with: the peer may send as many more.
    pub(crate) fn consume(&mut self, messages: u64, bytes: u64) {
        self.inbox.consumed.messages += messages;
        self.inbox.consumed.bytes += bytes;
    }

    /// How many messages the peer may be ahead from now on. What it was promised it keeps.
    pub(crate) fn set_window(&mut self, messages: u64) {
        self.inbox.window.messages = messages;
    }

    /// Reports how many tasks of this side wait for other calls of its master.
    pub(crate) fn set_lent_slots(&mut self, tasks: u32) {
        self.notice_due |= std::mem::replace(&mut self.lent_slots, tasks) != tasks;
    }

    /// How many tasks of the peer, a worker, wait for other calls of this component.
    pub(crate) fn peer_lent_slots(&self) -> u32 {
        self.peer_lent_slots
    }

    /// Limits what is received from now on. Messages beyond it are dropped as if the connection had lost them:
    /// the peer keeps them, and [`set_capacity`](Self::set_capacity) asks for them as soon as there is capacity for
    /// the first. Returns whether it does.
    pub(crate) fn set_capacity(&mut self, capacity: Capacity, now: Instant) -> bool {
        self.capacity = capacity;
        let is_resumed = self.held_back.is_some_and(|bytes| capacity.admits(bytes));
        if is_resumed {
            self.held_back = None;
            self.resend_due = true;
            self.resend_asked_at = Some(now);
        }
        is_resumed
    }

    /// Whether messages were dropped since there was no capacity for them.
    pub(crate) fn is_held_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// Takes no more than `messages` in all.
    pub(crate) fn set_limit(&mut self, messages: u64) {
        self.inbox.limit = messages;
    }

    /// Takes no more than what is under way, and tells the peer.
    pub(crate) fn drain(&mut self) {
        self.inbox.window.messages = 0;
        self.is_draining = true;
        self.notice_due = true;
    }

    /// Sends nothing more than what is queued, and tells the peer.
    pub(crate) fn finish(&mut self) {
        self.is_finishing = true;
        self.notice_due = true;
    }

    /// All that this side follows itself is in place, and the peer is told.
    pub(crate) fn set_subscriptions_ready(&mut self) {
        self.notice_due |= !std::mem::replace(&mut self.subscriptions_ready, true);
    }

    /// Takes back what has never been sent.
    pub(crate) fn take_unsent(&mut self) -> VecDeque<TaggedBatch> {
        self.outbox.split_off(self.outbox.sent)
    }

    /// Takes back what the peer has not acknowledged, of a session that nobody goes on with.
    pub(crate) fn take_unacknowledged(&mut self) -> VecDeque<TaggedBatch> {
        self.is_over = true;
        self.outbox.split_off(self.outbox.base)
    }

    /// Number of the next message that is submitted.
    pub(crate) fn next_number(&self) -> u64 {
        self.outbox.end()
    }

    /// Whether the peer has not acknowledged all messages below this number.
    pub(crate) fn has_unacknowledged_below(&self, number: u64) -> bool {
        self.outbox.base < number.min(self.outbox.end())
    }

    /// Removes the unacknowledged messages below this number, and ends the session.
    pub(crate) fn take_unacknowledged_below(&mut self, number: u64) -> VecDeque<TaggedBatch> {
        self.outbox.split_off(number);
        self.take_unacknowledged()
    }

    /// The last header: nothing more comes from here. It says whether all has been dealt with, for which
    /// the peer has to have acknowledged all.
    pub(crate) fn close(&mut self) -> LinkHeader {
        self.is_over = true;
        LinkHeader {
            closed: true,
            finished: self.is_acknowledged(),
            ..self.header()
        }
    }

    /// There is another connection: the side that connects has to introduce itself again.
    pub(crate) fn reconnected(&mut self) {
        if let Side::Connects { hello_sent, .. } = &mut self.side {
            *hello_sent = None;
            self.is_open = false;
        }
    }

    /// The transmission whose first message is number `first` could not be sent: it is made again later.
    pub(crate) fn retry_from(&mut self, first: u64) {
        self.outbox.rewind_to(first);
        self.answer_due = true;
    }

    /// Takes what came from the peer.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        header: &LinkHeader,
        frames: impl Iterator<Item = Bytes>,
        events: &mut Vec<SessionEvent>,
    ) {
        if self.is_over {
            return;
        }
        self.last_heard = now;
        if let Some(refusal) = &header.refusal {
            self.is_over = true;
            events.push(SessionEvent::Refused(refusal.clone()));
            return;
        }
        if !self.receive_introduction(header, events) {
            if header.closed {
                // The answer to `hello`: the peer knows of no such session.
                self.is_over = true;
                events.push(SessionEvent::Forgotten);
            }
            return;
        }
        if !self.outbox.acknowledge(header.received) {
            return self.refuse("it acknowledges what was not sent", events);
        }
        if header.hello.is_some() || header.welcome.is_some() || header.resend {
            self.outbox.rewind();
        }
        if self.outbox.has_progressed {
            self.acknowledged_at = now;
        }
        if self.outbox.items.is_empty() || self.outbox.has_progressed {
            self.progress_at = now;
        }
        let credit = &mut self.outbox.credit;
        credit.messages = credit.messages.max(header.credit_messages);
        credit.bytes = credit.bytes.max(header.credit_bytes);
        self.answer_due |= header.answer;
        self.peer_lent_slots = header.lent;

        let Some(groups) = unpack(&header.sizes, &header.groups, frames) else {
            return self.refuse("its messages are not of the sizes that it tells", events);
        };
        let tags = &header.tags;
        if !tags.is_empty() && tags.len() != groups.len() {
            return self.refuse("it has not one tag for each message", events);
        }
        let messages: usize = groups.iter().map(Group::len).sum();
        let Some(end) = header.first.checked_add(messages as u64) else {
            return self.refuse("its numbers are too large", events);
        };
        let before = self.inbox.received.messages;
        let mut number = header.first;
        for (index, group) in groups.into_iter().enumerate() {
            let tag = tags.get(index).copied().unwrap_or_default();
            let mut item = TaggedBatch::of(tag, header.tag_step, group);
            let seen = self.inbox.received.messages.checked_sub(number);
            number += item.len() as u64;
            // Seen before, or something is missing in between.
            let Some(seen) = seen.filter(|&seen| seen < item.len() as u64) else {
                continue;
            };
            if seen > 0 {
                item.split_to(seen as usize);
            }
            let cost = memory_bytes(item.len(), item.group.bytes());
            if !self.capacity.take(cost) {
                self.held_back = Some(cost);
                break;
            }
            self.held_back = None;
            if !self.inbox.take(&item.group) {
                return self.refuse("it sends more than it has credit for", events);
            }
            events.push(SessionEvent::Messages(item));
        }
        let received = self.inbox.received.messages;
        if received != before {
            self.resend_asked_at = None;
        }
        if received != before || (end < received || header.first < before) {
            // What came again came since the peer does not know that it has arrived.
            self.ack_due.get_or_insert(now + ACK_DELAY);
        }
        let is_asked = |asked: Instant| now.saturating_duration_since(asked) < RETRY_INTERVAL;
        let is_gap = header.first > received && self.held_back.is_none();
        if is_gap && !self.resend_asked_at.is_some_and(is_asked) {
            self.resend_asked_at = Some(now);
            self.resend_due = true;
        }
        if header.in_place && !std::mem::replace(&mut self.peer_subscriptions_ready, true) {
            events.push(SessionEvent::SubscriptionsReady);
        }
        if header.draining && !self.peer_draining {
            self.peer_draining = true;
            events.push(SessionEvent::Draining);
        }
        if header.finished && received == end && !self.peer_finished {
            self.peer_finished = true;
            events.push(SessionEvent::Finished);
        }
        if header.closed {
            self.is_over = true;
            let is_settled = header.finished && received == end;
            events.push(SessionEvent::Closed { is_settled });
        }
    }

    /// Handles introductions. Returns whether the rest of the header counts.
    fn receive_introduction(
        &mut self,
        header: &LinkHeader,
        events: &mut Vec<SessionEvent>,
    ) -> bool {
        match &mut self.side {
            Side::Connects {
                instance,
                component,
                hello_sent,
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
                        let wanted = (idle_timeout / 2).max(MIN_HEARTBEAT_INTERVAL);
                        self.heartbeat = self.heartbeat.min(wanted);
                    }
                    hello_sent.get_or_insert(self.last_heard);
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
        // What comes before is of an earlier connection.
        self.is_open
    }

    fn refuse(&mut self, reason: &str, events: &mut Vec<SessionEvent>) {
        let refusal = self.refuse_as(Kind::Protocol, reason);
        events.push(SessionEvent::Refused(refusal));
    }

    /// Does not go on, and tells the peer why.
    pub(crate) fn refuse_as(&mut self, kind: Kind, reason: &str) -> LinkRefusal {
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
            lent: self.lent_slots,
            ..header::of(self.id.clone())
        }
    }

    /// What is to be sent now, if anything. Ask again until there is nothing more.
    pub(crate) fn transmit(&mut self, now: Instant) -> Option<Transmission> {
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
        let mut hello_due = None;
        let mut welcome = None;
        match &mut self.side {
            Side::Connects {
                hello,
                instance,
                hello_sent,
                ..
            } => {
                let waits = |hello_sent| now.saturating_duration_since(hello_sent) < RETRY_INTERVAL;
                if !self.is_open {
                    if hello_sent.is_some_and(waits) {
                        return None;
                    }
                    *hello_sent = Some(now);
                    hello_due = Some(LinkHello {
                        instance: instance.unwrap_or_default(),
                        ..hello.clone()
                    });
                }
            }
            Side::Accepts {
                instance,
                component,
                idle_timeout,
                welcome_due,
            } => {
                if !self.is_open {
                    return None;
                }
                welcome = std::mem::take(welcome_due).then_some(LinkWelcome {
                    version: VERSION.min(self.peer_version),
                    instance: *instance,
                    idle_timeout_ms: u32::try_from(idle_timeout.as_millis()).unwrap_or(u32::MAX),
                    component: *component,
                });
            }
        }
        let first = self.outbox.next.messages;
        let items = if self.is_open {
            self.outbox.next()
        } else {
            0..0
        };
        let probe = self.is_open && self.probe_at().is_some_and(|at| at <= now);
        let due = hello_due.is_some()
            || welcome.is_some()
            || !items.is_empty()
            || self.answer_due
            || self.resend_due
            || self.notice_due
            || probe
            || self.ack_due.is_some_and(|due| due <= now)
            || self.inbox.is_credit_due();
        if !due {
            return None;
        }
        let items = self.outbox.items.range(items);
        let PackedFrames {
            sizes,
            mut groups,
            frames,
        } = pack(items.clone().map(|item| &item.group));
        if self.peer_version < BATCHES_VERSION {
            groups.clear();
        }
        let mut tags = Vec::new();
        let mut tag_step = 0;
        if groups.is_empty() {
            tags.extend(items.flat_map(TaggedBatch::tags));
        } else {
            tag_step = items
                .clone()
                .map(|item| item.step)
                .max()
                .unwrap_or_default();
            tags.extend(items.map(|item| item.tag));
        }
        if tags.iter().all(|tag| *tag == 0) {
            tags.clear();
        }
        let header = LinkHeader {
            first,
            tags,
            sizes,
            tag_step,
            groups,
            answer: probe,
            resend: self.resend_due,
            hello: hello_due,
            welcome,
            ..self.header()
        };
        self.inbox.advertised = self.inbox.credit();
        self.last_sent = now;
        if probe {
            self.progress_at = now;
        }
        self.answer_due = false;
        self.resend_due = false;
        self.notice_due = false;
        self.ack_due = None;
        Some(Transmission { header, frames })
    }

    /// When the peer is asked for a sign of life, or whether all has arrived.
    fn probe_at(&self) -> Option<Instant> {
        let unanswered =
            (self.outbox.sent > self.outbox.base).then(|| self.progress_at + RETRY_INTERVAL);
        let heartbeat = match self.side {
            Side::Connects { .. } => Some(self.last_sent + self.heartbeat),
            // It answers.
            Side::Accepts { .. } => None,
        };
        unanswered.into_iter().chain(heartbeat).min()
    }

    /// When there may be something to transmit, though nothing happens until then.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let hello = match self.side {
            Side::Connects {
                hello_sent: Some(hello_sent),
                ..
            } if !self.is_open => Some(hello_sent + RETRY_INTERVAL),
            _ => None,
        };
        let probe = self.is_open.then(|| self.probe_at()).flatten();
        let again = (self.is_open && self.answer_due).then(|| self.last_sent + ACK_DELAY);
        [hello, probe, again, self.ack_due]
            .into_iter()
            .flatten()
            .min()
    }
}

/// So many messages, and so many bytes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Offset {
    messages: u64,
    bytes: u64,
}

/// What is to be sent, and what has not been acknowledged yet.
#[derive(Debug, Default)]
struct Outbox {
    /// From number `base` on.
    items: VecDeque<TaggedBatch>,
    /// Of all of them.
    messages: usize,
    bytes: usize,
    /// The place of `next` among them.
    next_index: usize,
    base: u64,
    base_bytes: u64,
    /// What goes next, and the bytes of all before it.
    next: Offset,
    /// The highest number that was ever sent, and one.
    sent: u64,
    credit: Offset,
    /// Whether the last acknowledgement told anything new.
    has_progressed: bool,
}

impl Outbox {
    fn push(&mut self, item: TaggedBatch) {
        self.messages += item.len();
        self.bytes += item.group.bytes();
        self.items.push_back(item);
    }

    fn end(&self) -> u64 {
        self.base + self.messages as u64
    }

    fn is_transmitted(&self) -> bool {
        self.next.messages == self.end()
    }

    /// Tells whether that can be.
    fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.sent {
            return false;
        }
        self.has_progressed = received > self.base;
        while self.base < received {
            let left = (received - self.base) as usize;
            let first = self.items.front_mut().expect("it was sent, so it is there");
            let item = if left < first.len() {
                first.split_to(left)
            } else {
                self.next_index = self.next_index.saturating_sub(1);
                self.items.pop_front().expect("it was just there")
            };
            self.messages -= item.len();
            self.bytes -= item.group.bytes();
            self.base += item.len() as u64;
            self.base_bytes += item.group.bytes() as u64;
        }
        if self.next.messages < self.base {
            self.rewind();
        }
        true
    }

    /// Takes out what has this number or a later one.
    fn split_off(&mut self, number: u64) -> VecDeque<TaggedBatch> {
        let mut left = number.saturating_sub(self.base) as usize;
        let mut index = 0;
        while let Some(item) = self.items.get_mut(index)
            && left > 0
        {
            if left < item.len() {
                let front = item.split_to(left);
                self.items.insert(index, front);
            }
            left -= self.items[index].len();
            index += 1;
        }
        let items = self.items.split_off(index);
        self.messages -= message_count(&items);
        self.bytes -= items.iter().map(|item| item.group.bytes()).sum::<usize>();
        if self.next.messages > self.end() {
            self.rewind();
        }
        items
    }

    fn rewind(&mut self) {
        self.next_index = 0;
        self.next = Offset {
            messages: self.base,
            bytes: self.base_bytes,
        };
    }

    /// Sends number `first` next, of those that are kept.
    fn rewind_to(&mut self, first: u64) {
        self.rewind();
        while let Some(item) = self.items.get(self.next_index)
            && self.next.messages + item.len() as u64 <= first
        {
            self.next.messages += item.len() as u64;
            self.next.bytes += item.group.bytes() as u64;
            self.next_index += 1;
        }
    }

    /// What goes out together now, as places in `items`.
    fn next(&mut self) -> Range<usize> {
        let first = self.next_index;
        let (mut count, mut bytes) = (0, 0);
        while let Some(item) = self.items.get_mut(self.next_index) {
            // Of several, as many as there is credit for.
            let mut fit = 0;
            for size in item.group.sizes() {
                let has_credit = self.next.messages < self.credit.messages
                    && self.next.bytes < self.credit.bytes;
                if !has_credit
                    || count == MAX_TRANSMISSION_MESSAGES
                    || bytes >= MAX_TRANSMISSION_BYTES
                {
                    break;
                }
                bytes += size;
                self.next.messages += 1;
                self.next.bytes += size as u64;
                count += 1;
                fit += 1;
            }
            if fit == 0 {
                break;
            }
            if fit < item.len() {
                let front = item.split_to(fit);
                self.items.insert(self.next_index, front);
            }
            self.next_index += 1;
        }
        self.sent = self.sent.max(self.next.messages);
        first..self.next_index
    }
}

/// What has arrived, and how much more may.
#[derive(Debug)]
struct Inbox {
    received: Offset,
    consumed: Offset,
    window: CreditWindow,
    /// How many messages the peer may send in all.
    limit: u64,
    /// The credit that the peer has been told of.
    advertised: Offset,
}

impl Inbox {
    fn new(window: CreditWindow) -> Self {
        Self {
            received: Offset::default(),
            consumed: Offset::default(),
            window,
            limit: u64::MAX,
            advertised: Offset::default(),
        }
    }

    /// What is promised is kept.
    fn credit(&self) -> Offset {
        let Offset { messages, bytes } = self.consumed;
        Offset {
            messages: self
                .advertised
                .messages
                .max((messages + self.window.messages).min(self.limit)),
            bytes: self.advertised.bytes.max(bytes + self.window.bytes),
        }
    }

    /// Takes the next messages. Tells whether there was credit for them.
    fn take(&mut self, group: &Group) -> bool {
        let Offset { messages, bytes } = &mut self.received;
        for size in group.sizes() {
            if *messages >= self.advertised.messages || *bytes >= self.advertised.bytes {
                return false;
            }
            *messages += 1;
            *bytes += size as u64;
        }
        true
    }

    /// Whether the peer may soon have to wait for credit that there is.
    fn is_credit_due(&self) -> bool {
        let credit = self.credit();
        let low = |received: u64, advertised: u64, credit: u64| {
            credit > advertised
                && advertised.saturating_sub(received) <= credit.saturating_sub(received) / 2
        };
        low(
            self.received.messages,
            self.advertised.messages,
            credit.messages,
        ) || low(self.received.bytes, self.advertised.bytes, credit.bytes)
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
