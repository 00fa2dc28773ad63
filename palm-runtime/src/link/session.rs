//! One session of a link: numbered messages both ways, acknowledged, within credit, over a connection
//! that may break at any time.
//!
//! No I/O and no clock: frames and the time go in ([`Session::receive`]), frames and events come out
//! ([`Session::transmit`], [`Event`]). Whoever owns it sends what it wants to transmit whenever
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
use super::pack::{pack, unpack};
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal, LinkWelcome};

/// The version of the link that this is.
pub(crate) const VERSION: u32 = 1;

/// How long an acknowledgement waits for a message that it can go with.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// How long an introduction, a request for what is missing, or an acknowledgement is waited for before
/// it is asked for again.
const RETRY: Duration = Duration::from_millis(500);

/// Whatever a peer's patience is, it is not told more often that nothing happens.
const QUICKEST: Duration = Duration::from_millis(50);

/// How much is transmitted at once.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// A message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// What it belongs to; the session does not look at it.
    pub(crate) tag: u64,
    /// The message.
    pub(crate) frame: Bytes,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer has introduced itself: for the first time, or on a new connection.
    Open,
    /// A message, the next in order.
    Message(Item),
    /// The peer takes no more than what is under way.
    Draining,
    /// All that the peer will ever send has arrived.
    Finished,
    /// The peer knows nothing of this session any more. It is over.
    Forgotten,
    /// All that the peer follows itself is in place.
    InPlace,
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
pub(crate) struct Window {
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
        /// When the introduction was sent last; `None` where it is due.
        greeted: Option<Instant>,
    },
    Accepts {
        instance: u64,
        patience: Duration,
        welcome_due: bool,
    },
}

/// One end of a session.
#[derive(Debug)]
pub(crate) struct Session {
    id: Bytes,
    side: Side,
    /// Whether the peer has introduced itself on the connection that there is.
    open: bool,
    over: bool,
    refusal: Option<LinkRefusal>,
    outbox: Outbox,
    inbox: Inbox,
    heartbeat: Duration,
    heard: Instant,
    spoke: Instant,
    /// When the peer last acknowledged something, or there was nothing to acknowledge.
    progress: Instant,
    answer_due: bool,
    ack_due: Option<Instant>,
    resend_due: bool,
    /// When what is missing was asked for last.
    resend_asked: Option<Instant>,
    draining: bool,
    finishing: bool,
    in_place: bool,
    peer_in_place: bool,
    /// Flags that the peer has not been told of yet.
    notice_due: bool,
    peer_draining: bool,
    peer_finished: bool,
}

impl Session {
    /// The side that connects, which introduces itself by `hello`.
    pub(crate) fn connect(
        id: Bytes,
        hello: LinkHello,
        window: Window,
        heartbeat: Duration,
        now: Instant,
    ) -> Self {
        let side = Side::Connects {
            hello,
            instance: None,
            greeted: None,
        };
        Self::new(id, side, window, heartbeat, now)
    }

    /// The side that is connected to. `instance` is a random number; a peer that is silent for longer than
    /// `patience` is given up by the session's owner.
    pub(crate) fn accept(
        id: Bytes,
        instance: u64,
        window: Window,
        patience: Duration,
        now: Instant,
    ) -> Self {
        let side = Side::Accepts {
            instance,
            patience,
            welcome_due: false,
        };
        // It is the peer that has to be heard of.
        Self::new(id, side, window, patience, now)
    }

    fn new(id: Bytes, side: Side, window: Window, heartbeat: Duration, now: Instant) -> Self {
        Self {
            id,
            side,
            open: false,
            over: false,
            refusal: None,
            outbox: Outbox::default(),
            inbox: Inbox::new(window),
            heartbeat,
            heard: now,
            spoke: now,
            progress: now,
            answer_due: false,
            ack_due: None,
            resend_due: false,
            resend_asked: None,
            draining: false,
            finishing: false,
            in_place: false,
            peer_in_place: false,
            notice_due: false,
            peer_draining: false,
            peer_finished: false,
        }
    }

    /// What the session is called.
    pub(crate) fn id(&self) -> &Bytes {
        &self.id
    }

    /// Queues a message. It is sent as soon as the peer has credit for it.
    pub(crate) fn submit(&mut self, item: Item, now: Instant) {
        debug_assert!(!self.finishing, "nothing comes after the end");
        if self.outbox.items.is_empty() {
            self.progress = now;
        }
        self.outbox.bytes += item.frame.len();
        self.outbox.items.push_back(item);
    }

    /// How many further messages the peer has credit for.
    pub(crate) fn room(&self) -> u64 {
        if self.over || self.finishing {
            return 0;
        }
        let end = self.outbox.end();
        self.outbox.credit.messages.saturating_sub(end)
    }

    /// Messages that are queued, or sent and not acknowledged, and their bytes.
    pub(crate) fn unacknowledged(&self) -> (usize, usize) {
        (self.outbox.items.len(), self.outbox.bytes)
    }

    /// Whether the peer has got all that there was to send.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.outbox.items.is_empty()
    }

    /// When the peer was heard of last.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether nothing more happens in this session.
    pub(crate) fn is_over(&self) -> bool {
        self.over
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

    /// Takes no more than `messages` in all.
    pub(crate) fn limit(&mut self, messages: u64) {
        self.inbox.limit = messages;
    }

    /// Takes no more than what is under way, and tells the peer.
    pub(crate) fn drain(&mut self) {
        self.inbox.window.messages = 0;
        self.draining = true;
        self.notice_due = true;
    }

    /// Sends nothing more than what is queued, and tells the peer.
    pub(crate) fn finish(&mut self) {
        self.finishing = true;
        self.notice_due = true;
    }

    /// All that this side follows itself is in place, and the peer is told.
    pub(crate) fn set_in_place(&mut self) {
        self.notice_due |= !std::mem::replace(&mut self.in_place, true);
    }

    /// Takes back what has never been sent.
    pub(crate) fn take_unsent(&mut self) -> VecDeque<Item> {
        self.outbox.split_off(self.outbox.sent)
    }

    /// Takes back what the peer has not acknowledged, of a session that nobody goes on with.
    pub(crate) fn take_unacknowledged(&mut self) -> VecDeque<Item> {
        self.over = true;
        self.outbox.split_off(self.outbox.base)
    }

    /// The last header: nothing more comes from here. It says whether all has been dealt with, for which
    /// the peer has to have acknowledged all.
    pub(crate) fn close(&mut self) -> LinkHeader {
        self.over = true;
        LinkHeader {
            closed: true,
            finished: self.is_acknowledged(),
            ..self.header()
        }
    }

    /// There is another connection: the side that connects has to introduce itself again.
    pub(crate) fn reconnected(&mut self) {
        if let Side::Connects { greeted, .. } = &mut self.side {
            *greeted = None;
            self.open = false;
        }
    }

    /// A transmission could not be sent: it is made again later, with what was transmitted since the last
    /// acknowledgement.
    pub(crate) fn unsent(&mut self) {
        self.outbox.rewind();
        self.answer_due = true;
    }

    /// Takes what came from the peer.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        header: &LinkHeader,
        frames: impl Iterator<Item = Bytes>,
        events: &mut Vec<Event>,
    ) {
        if self.over {
            return;
        }
        self.heard = now;
        if let Some(refusal) = &header.refusal {
            self.over = true;
            events.push(Event::Refused(refusal.clone()));
            return;
        }
        if !self.introduced(header, events) {
            return;
        }
        if !self.outbox.acknowledge(header.received) {
            return self.refuse("it acknowledges what was not sent", events);
        }
        if header.hello.is_some() || header.welcome.is_some() || header.resend {
            self.outbox.rewind();
        }
        if self.outbox.items.is_empty() || self.outbox.acknowledged_now {
            self.progress = now;
        }
        let credit = &mut self.outbox.credit;
        credit.messages = credit.messages.max(header.credit_messages);
        credit.bytes = credit.bytes.max(header.credit_bytes);
        self.answer_due |= header.answer;

        let Some(messages) = unpack(&header.sizes, frames) else {
            return self.refuse("its messages are not of the sizes that it tells", events);
        };
        let tags = &header.tags;
        if !tags.is_empty() && tags.len() != messages.len() {
            return self.refuse("it has not one tag for each message", events);
        }
        let Some(end) = header.first.checked_add(messages.len() as u64) else {
            return self.refuse("its numbers are too large", events);
        };
        let before = self.inbox.received.messages;
        for (index, (number, frame)) in (header.first..end).zip(messages).enumerate() {
            if number != self.inbox.received.messages {
                // Seen before, or something is missing in between.
                continue;
            }
            if !self.inbox.take(&frame) {
                return self.refuse("it sends more than it has credit for", events);
            }
            let tag = tags.get(index).copied().unwrap_or_default();
            events.push(Event::Message(Item { tag, frame }));
        }
        let received = self.inbox.received.messages;
        if received != before {
            self.resend_asked = None;
        }
        if received != before || (end < received || header.first < before) {
            // What came again came since the peer does not know that it has arrived.
            self.ack_due.get_or_insert(now + ACK_DELAY);
        }
        let is_asked = |asked: Instant| now.saturating_duration_since(asked) < RETRY;
        if header.first > received && !self.resend_asked.is_some_and(is_asked) {
            self.resend_asked = Some(now);
            self.resend_due = true;
        }
        if header.in_place && !std::mem::replace(&mut self.peer_in_place, true) {
            events.push(Event::InPlace);
        }
        if header.draining && !self.peer_draining {
            self.peer_draining = true;
            events.push(Event::Draining);
        }
        if header.finished && received == end && !self.peer_finished {
            self.peer_finished = true;
            events.push(Event::Finished);
        }
        if header.closed {
            self.over = true;
            let is_settled = header.finished && received == end;
            events.push(Event::Closed { is_settled });
        }
    }

    /// Looks at who the peer is. Tells whether the rest of the header counts.
    fn introduced(&mut self, header: &LinkHeader, events: &mut Vec<Event>) -> bool {
        match &mut self.side {
            Side::Connects {
                instance, greeted, ..
            } => {
                if let Some(welcome) = &header.welcome {
                    if instance.is_some_and(|instance| instance != welcome.instance) {
                        self.over = true;
                        events.push(Event::Forgotten);
                        return false;
                    }
                    *instance = Some(welcome.instance);
                    if welcome.patience_ms > 0 {
                        let patience = Duration::from_millis(welcome.patience_ms.into());
                        let wanted = (patience / 2).max(QUICKEST);
                        self.heartbeat = self.heartbeat.min(wanted);
                    }
                    greeted.get_or_insert(self.heard);
                    self.open = true;
                    events.push(Event::Open);
                }
            }
            Side::Accepts { welcome_due, .. } => {
                if header.hello.is_some() {
                    *welcome_due = true;
                    self.open = true;
                    events.push(Event::Open);
                }
            }
        }
        // What comes before is of an earlier connection.
        self.open
    }

    fn refuse(&mut self, reason: &str, events: &mut Vec<Event>) {
        let refusal = self.refuse_as(Kind::Protocol, reason);
        events.push(Event::Refused(refusal));
    }

    /// Does not go on, and tells the peer why.
    pub(crate) fn refuse_as(&mut self, kind: Kind, reason: &str) -> LinkRefusal {
        let refusal = LinkRefusal {
            kind: kind.into(),
            reason: reason.to_owned(),
        };
        self.over = true;
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
            draining: self.draining,
            finished: self.finishing && self.outbox.is_transmitted(),
            in_place: self.in_place,
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
        if self.over {
            return None;
        }
        let mut hello_due = None;
        let mut welcome = None;
        match &mut self.side {
            Side::Connects { hello, greeted, .. } => {
                let waits = |greeted| now.saturating_duration_since(greeted) < RETRY;
                if !self.open {
                    if greeted.is_some_and(waits) {
                        return None;
                    }
                    *greeted = Some(now);
                    hello_due = Some(hello.clone());
                }
            }
            Side::Accepts {
                instance,
                patience,
                welcome_due,
            } => {
                if !self.open {
                    return None;
                }
                welcome = std::mem::take(welcome_due).then_some(LinkWelcome {
                    version: VERSION,
                    instance: *instance,
                    patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
                });
            }
        }
        let first = self.outbox.next.messages;
        let items = if self.open { self.outbox.next() } else { 0..0 };
        let probe = self.open && self.probe_at().is_some_and(|at| at <= now);
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
        let mut tags = Vec::new();
        if items.clone().any(|item| item.tag != 0) {
            tags.extend(items.clone().map(|item| item.tag));
        }
        let (sizes, frames) = pack(items.map(|item| &item.frame));
        let header = LinkHeader {
            first,
            tags,
            sizes,
            answer: probe,
            resend: self.resend_due,
            hello: hello_due,
            welcome,
            ..self.header()
        };
        self.inbox.told = self.inbox.credit();
        self.spoke = now;
        if probe {
            self.progress = now;
        }
        self.answer_due = false;
        self.resend_due = false;
        self.notice_due = false;
        self.ack_due = None;
        Some(Transmission { header, frames })
    }

    /// When the peer is asked for a sign of life, or whether all has arrived.
    fn probe_at(&self) -> Option<Instant> {
        let unanswered = (self.outbox.sent > self.outbox.base).then(|| self.progress + RETRY);
        let heartbeat = match self.side {
            Side::Connects { .. } => Some(self.spoke + self.heartbeat),
            // It answers.
            Side::Accepts { .. } => None,
        };
        unanswered.into_iter().chain(heartbeat).min()
    }

    /// When there may be something to transmit, though nothing happens until then.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let greeting = match self.side {
            Side::Connects {
                greeted: Some(greeted),
                ..
            } if !self.open => Some(greeted + RETRY),
            _ => None,
        };
        let probe = self.open.then(|| self.probe_at()).flatten();
        let again = (self.open && self.answer_due).then(|| self.spoke + ACK_DELAY);
        [greeting, probe, again, self.ack_due]
            .into_iter()
            .flatten()
            .min()
    }
}

/// So many messages, and so many bytes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    messages: u64,
    bytes: u64,
}

/// What is to be sent, and what has not been acknowledged yet.
#[derive(Debug, Default)]
struct Outbox {
    /// From number `base` on.
    items: VecDeque<Item>,
    /// Of all of them.
    bytes: usize,
    base: u64,
    base_bytes: u64,
    /// What goes next, and the bytes of all before it.
    next: Count,
    /// The highest number that was ever sent, and one.
    sent: u64,
    credit: Count,
    /// Whether the last acknowledgement told anything new.
    acknowledged_now: bool,
}

impl Outbox {
    fn end(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    fn is_transmitted(&self) -> bool {
        self.next.messages == self.end()
    }

    /// Tells whether that can be.
    fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.sent {
            return false;
        }
        self.acknowledged_now = received > self.base;
        while self.base < received {
            let item = self.items.pop_front().expect("it was sent, so it is there");
            self.bytes -= item.frame.len();
            self.base += 1;
            self.base_bytes += item.frame.len() as u64;
        }
        if self.next.messages < self.base {
            self.rewind();
        }
        true
    }

    /// Takes out what has this number or a later one.
    fn split_off(&mut self, number: u64) -> VecDeque<Item> {
        let index = number.saturating_sub(self.base) as usize;
        let items = self.items.split_off(index.min(self.items.len()));
        let bytes: usize = items.iter().map(|item| item.frame.len()).sum();
        self.bytes -= bytes;
        if self.next.messages > self.end() {
            self.rewind();
        }
        items
    }

    fn rewind(&mut self) {
        self.next = Count {
            messages: self.base,
            bytes: self.base_bytes,
        };
    }

    /// What goes out together now, as places in `items`.
    fn next(&mut self) -> Range<usize> {
        let first = (self.next.messages - self.base) as usize;
        let mut last = first;
        let mut bytes = 0;
        for item in self.items.range(first..) {
            let has_credit =
                self.next.messages < self.credit.messages && self.next.bytes < self.credit.bytes;
            if !has_credit || last - first == BATCH || bytes >= BATCH_BYTES {
                break;
            }
            bytes += item.frame.len();
            self.next.messages += 1;
            self.next.bytes += item.frame.len() as u64;
            last += 1;
        }
        self.sent = self.sent.max(self.next.messages);
        first..last
    }
}

/// What has arrived, and how much more may.
#[derive(Debug)]
struct Inbox {
    received: Count,
    consumed: Count,
    window: Window,
    /// How many messages the peer may send in all.
    limit: u64,
    /// The credit that the peer has been told of.
    told: Count,
}

impl Inbox {
    fn new(window: Window) -> Self {
        Self {
            received: Count::default(),
            consumed: Count::default(),
            window,
            limit: u64::MAX,
            told: Count::default(),
        }
    }

    /// What is promised is kept.
    fn credit(&self) -> Count {
        let Count { messages, bytes } = self.consumed;
        Count {
            messages: self
                .told
                .messages
                .max((messages + self.window.messages).min(self.limit)),
            bytes: self.told.bytes.max(bytes + self.window.bytes),
        }
    }

    /// Takes the next message. Tells whether there was credit for it.
    fn take(&mut self, frame: &Bytes) -> bool {
        let Count { messages, bytes } = self.received;
        if messages >= self.told.messages || bytes >= self.told.bytes {
            return false;
        }
        self.received.messages += 1;
        self.received.bytes += frame.len() as u64;
        true
    }

    /// Whether the peer may soon have to wait for credit that there is.
    fn is_credit_due(&self) -> bool {
        let credit = self.credit();
        let low = |received: u64, told: u64, credit: u64| {
            credit > told && told.saturating_sub(received) <= credit.saturating_sub(received) / 2
        };
        low(self.received.messages, self.told.messages, credit.messages)
            || low(self.received.bytes, self.told.bytes, credit.bytes)
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
