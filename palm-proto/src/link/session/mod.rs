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
mod event;
mod inbox;
mod outbox;
mod receive;
mod requests;
mod status;
mod tagged_batch;
mod timers;
mod transmit;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::budget::Capacity;
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHeader, LinkHello, LinkRefusal};

pub use event::{SessionEvent, Transmission};
pub use inbox::CreditWindow;
pub use status::MessageCounts;
pub use tagged_batch::{TASK_TAG_STEP, TaggedBatch, memory_bytes, message_count};
pub use timers::ACK_DELAY;

use cancelled::CancelledLists;
use edge_times::EdgeTimes;
use inbox::Inbox;
use outbox::Outbox;
use requests::{HandledRequest, RequestQueue};
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

    /// Records a sign of life that arrived by another way than [`receive`](Self::receive).
    #[inline]
    pub fn record_life_sign(&mut self, now: Instant) {
        self.timers.last_heard = self.timers.last_heard.max(now);
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

    /// Sets how many tasks this worker runs at once, instead of the number of its `hello`, and reports it to the peer.
    pub fn set_concurrency(&mut self, tasks: u32) {
        self.due.notice |= std::mem::replace(&mut self.concurrency, tasks) != tasks;
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

    /// Notes that the connection was replaced: the connecting end introduces itself again.
    pub fn reconnected(&mut self) {
        if let Side::Connects { .. } = self.side {
            self.timers.hello_sent = None;
            self.is_open = false;
        }
    }
}

#[cfg(test)]
mod tests;
