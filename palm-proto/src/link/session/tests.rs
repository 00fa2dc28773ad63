//! Tests of two sessions over a channel that loses, delays and repeats transmissions, but never alters one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::cancelled::{MAX_HEADER_LIST_BYTES, MAX_LISTS};
use super::outbox::{MAX_TRANSMISSION_BYTES, MAX_TRANSMISSION_MESSAGES};
use super::requests::MAX_REQUESTS;
use super::timers::{ACK_DELAY, MIN_HEARTBEAT_INTERVAL, RETRY_INTERVAL};
use super::*;
use crate::link::header;
use crate::message::{Batch, BatchSizes};

const HEARTBEAT: Duration = Duration::from_secs(2);

fn window(messages: u64, bytes: u64) -> CreditWindow {
    CreditWindow { messages, bytes }
}

fn item(number: u64, bytes: usize) -> TaggedBatch {
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(frame.len().max(bytes), 0);
    TaggedBatch::new(2 * number, frame.into())
}

/// A batch of consecutive messages.
fn batch(number: u64, len: u64) -> TaggedBatch {
    let frames = (number..number + len).map(u64::to_be_bytes);
    let frame: Vec<u8> = frames.flatten().collect();
    let batch =
        Batch::from_sizes(frame.into(), BatchSizes::new(vec![8; len as usize].into())).unwrap();
    TaggedBatch::from_batch(2 * number, 2, batch)
}

/// One end of a session, with the events and messages that it has received.
struct End {
    session: Session,
    window: CreditWindow,
    events: Vec<SessionEvent>,
    /// The received messages, with their tags.
    messages: Vec<(u64, Bytes)>,
    /// The received lists of cancelled calls.
    cancelled: Vec<Bytes>,
    /// Number of consumed messages.
    consumed: usize,
}

impl End {
    fn new(session: Session, window: CreditWindow) -> Self {
        Self {
            session,
            window,
            events: Vec::new(),
            messages: Vec::new(),
            cancelled: Vec::new(),
            consumed: 0,
        }
    }

    fn receive(&mut self, now: Instant, transmission: Transmission) {
        let mut events = Vec::new();
        let Transmission { header, frames } = transmission;
        self.session
            .receive(now, &header, frames.into_iter(), &mut events);
        for event in events {
            match event {
                SessionEvent::Messages(TaggedBatch { tag, step, batch }) => {
                    let numbers = 0..batch.len() as u64;
                    let tags = numbers.map(|index| tag + index * step);
                    self.messages.extend(tags.zip(batch.frames()));
                }
                SessionEvent::Cancelled(list) => self.cancelled.push(list),
                event => self.events.push(event),
            }
        }
        // The unconsumed messages never exceed the window; in bytes, by less than one message.
        let waiting = &self.messages[self.consumed..];
        assert!(waiting.len() as u64 <= self.window.messages);
        let bytes = waiting.iter().map(|(_, frame)| frame.len() as u64);
        let largest = bytes.clone().max().unwrap_or_default();
        assert!(bytes.sum::<u64>() < self.window.bytes + largest.max(1));
    }

    fn consume(&mut self, count: usize) {
        let end = self.messages.len().min(self.consumed + count);
        let bytes = self.messages[self.consumed..end].iter();
        let bytes = bytes.map(|(_, frame)| frame.len() as u64).sum();
        self.session.consume((end - self.consumed) as u64, bytes);
        self.consumed = end;
    }
}

/// Both ends, and the transmissions under way between them.
struct Pair {
    now: Instant,
    ends: [End; 2],
    under_way: [VecDeque<Transmission>; 2],
    submitted: [u64; 2],
    /// Number of lists of cancelled calls that were submitted at the accepting end.
    cancelled: u64,
    transmissions: usize,
    /// Number of transmitted messages, retransmissions included.
    transmitted: [usize; 2],
}

/// The time and the transmissions that it took to settle.
#[derive(Debug, Clone, Copy)]
struct Settled {
    time: Duration,
    transmissions: usize,
}

fn hello() -> LinkHello {
    LinkHello {
        version: VERSION,
        role: "worker".to_owned(),
        ..LinkHello::default()
    }
}

impl Pair {
    fn new(windows: [CreditWindow; 2]) -> Self {
        Self::introduced_by(hello(), windows)
    }

    fn introduced_by(hello: LinkHello, windows: [CreditWindow; 2]) -> Self {
        let now = Instant::now();
        let id = Bytes::from_static(&[1; 16]);
        let [connects, accepts] = windows;
        let connecting = Session::connect(id.clone(), hello, connects, HEARTBEAT, now);
        let accepting = Session::accept(id, 7, 1, accepts, 3 * HEARTBEAT, now);
        Self {
            now,
            ends: [End::new(connecting, connects), End::new(accepting, accepts)],
            under_way: Default::default(),
            submitted: [0, 0],
            cancelled: 0,
            transmissions: 0,
            transmitted: [0, 0],
        }
    }

    fn submit(&mut self, end: usize, bytes: usize) {
        let number = self.submitted[end];
        self.submitted[end] += 1;
        let now = self.now;
        self.ends[end].session.submit(item(number, bytes), now);
    }

    fn submit_batch(&mut self, end: usize, len: u64) {
        let number = self.submitted[end];
        self.submitted[end] += len;
        let now = self.now;
        self.ends[end].session.submit(batch(number, len), now);
    }

    /// Submits a list at the accepting end, if the common version is known.
    fn cancel(&mut self) {
        let session = &mut self.ends[1].session;
        if session.version() >= WORKER_CONTROL_VERSION {
            let list = Bytes::copy_from_slice(&self.cancelled.to_be_bytes());
            session.submit_cancelled(list, self.now);
            self.cancelled += 1;
        }
    }

    fn transmit(&mut self, end: usize) {
        while let Some(transmission) = self.ends[end].session.transmit(self.now) {
            let Transmission { header, frames } = &transmission;
            let messages = match header.sizes.len() {
                0 => frames.len(),
                messages => messages,
            };
            self.transmissions += 1;
            self.transmitted[end] += messages;
            self.under_way[end].push_back(transmission);
            assert!(
                self.under_way[end].len() < 1000,
                "the end keeps transmitting"
            );
        }
    }

    /// Delivers the oldest transmission of `end`.
    fn deliver(&mut self, end: usize) {
        if let Some(transmission) = self.under_way[end].pop_front() {
            self.ends[1 - end].receive(self.now, transmission);
        }
    }

    /// Replaces the connection. Only the first `keep` transmissions under way from each end still arrive.
    fn cut(&mut self, keep: [usize; 2]) {
        for (under_way, keep) in self.under_way.iter_mut().zip(keep) {
            under_way.truncate(keep);
        }
        self.ends[0].session.reconnected();
    }

    /// Delivers and consumes all messages without faults, until both ends are idle at this time.
    fn exchange(&mut self) {
        let before = self.transmissions;
        let submitted = (self.submitted.iter().sum::<u64>() + self.cancelled) as usize;
        loop {
            let mut is_idle = true;
            for end in [0, 1] {
                self.ends[end].consume(usize::MAX >> 1);
                self.transmit(end);
                while !self.under_way[end].is_empty() {
                    self.deliver(end);
                    is_idle = false;
                }
            }
            if is_idle {
                return;
            }
            assert!(
                self.transmissions - before <= 4 * submitted + 20,
                "the ends keep transmitting"
            );
        }
    }

    fn is_settled(&self) -> bool {
        let cancelled = self.ends[0].cancelled.len() as u64;
        let are_known = self.ends[1].session.cancelled.is_acknowledged();
        are_known
            && cancelled == self.cancelled
            && [0, 1].iter().all(|&end| {
                self.ends[end].session.is_acknowledged()
                    && self.ends[1 - end].messages.len() as u64 == self.submitted[end]
            })
    }

    /// Runs without faults until all messages are acknowledged.
    fn settle(&mut self) -> Settled {
        for end in &mut self.ends {
            end.session.set_capacity(Capacity::MAX, self.now);
        }
        let (begin, transmissions) = (self.now, self.transmissions);
        for _ in 0..1000 {
            self.exchange();
            if self.is_settled() {
                return Settled {
                    time: self.now - begin,
                    transmissions: self.transmissions - transmissions,
                };
            }
            let due = self
                .ends
                .iter()
                .filter_map(|end| end.session.timeout())
                .min();
            let due = due.expect("an end that waits for its peer repeats its request");
            assert!(due > self.now, "nothing is transmitted though it is due");
            self.now = due;
        }
        panic!("the ends do not settle");
    }

    fn assert_delivered(&self) {
        for end in [0, 1] {
            let numbers = self.ends[1 - end].messages.iter().map(|(tag, frame)| {
                let number = u64::from_be_bytes(frame[..8].try_into().unwrap());
                assert_eq!(*tag, 2 * number);
                number
            });
            assert!(numbers.eq(0..self.submitted[end]), "in order, each once");
        }
        let lists = self.ends[0].cancelled.iter();
        let lists = lists.map(|list| u64::from_be_bytes(list[..].try_into().unwrap()));
        assert!(lists.eq(0..self.cancelled), "in order, each once");
    }
}

#[test]
fn session_delivers_messages_both_ways() {
    let mut pair = Pair::new([window(10, 1000), window(10, 1000)]);
    for _ in 0..25 {
        pair.submit(0, 0);
        pair.submit(1, 100);
    }
    pair.settle();
    pair.assert_delivered();
    assert_eq!(pair.ends[0].events, [SessionEvent::Opened]);
    assert_eq!(pair.ends[1].events, [SessionEvent::Opened]);
}

/// Returns the tags and the batch sizes of the header that carries two batches of three to a peer of this version.
fn header_of_batches(version: u32) -> (Vec<u64>, Vec<u64>) {
    let hello = LinkHello { version, ..hello() };
    let mut pair = Pair::introduced_by(hello, [window(10, 1000), window(10, 1000)]);
    pair.settle();
    pair.submit_batch(1, 3);
    pair.submit_batch(1, 3);
    pair.transmit(1);
    let header = &pair.under_way[1][0].header;
    let sent = (header.tags.clone(), header.groups.clone());
    pair.settle();
    pair.assert_delivered();
    sent
}

#[test]
fn batches_are_split_for_peers_of_version_3_and_earlier() {
    assert_eq!(header_of_batches(4), (vec![0, 6], vec![3, 3]));
    for version in 1..=3 {
        let tags = vec![0, 2, 4, 6, 8, 10];
        assert_eq!(header_of_batches(version), (tags, vec![]));
    }
}

#[test]
fn idle_session_sends_heartbeats() {
    let mut pair = Pair::new([window(10, 1000), window(10, 1000)]);
    pair.settle();
    let (begin, mut headers) = (pair.now, 0);
    while pair.now < begin + 10 * HEARTBEAT {
        for end in [0, 1] {
            pair.transmit(end);
            headers += pair.under_way[end].len();
            pair.deliver(end);
        }
        assert!(pair.now.duration_since(pair.ends[1].session.last_heard()) <= HEARTBEAT);
        let due = pair
            .ends
            .iter()
            .filter_map(|end| end.session.timeout())
            .min();
        pair.now = due.unwrap();
    }
    assert!((18..=24).contains(&headers), "{headers}");
}

#[test]
fn header_without_messages_reveals_that_some_were_lost() {
    let mut pair = Pair::new([window(10, 1000), window(10, 1000)]);
    pair.settle();
    pair.submit(1, 0);
    pair.transmit(1);
    // The transmission is lost on a connection that persists.
    pair.under_way[1].clear();
    pair.settle();
    pair.assert_delivered();
}

#[test]
fn draining_peer_is_notified_when_its_peer_has_finished() {
    let mut pair = Pair::new([window(2, 1000), window(10, 1000)]);
    pair.settle();
    pair.submit(1, 0);
    pair.ends[0].session.drain();
    pair.settle();
    assert_eq!(
        pair.ends[1].events,
        [SessionEvent::Opened, SessionEvent::Draining]
    );
    assert_eq!(
        pair.ends[1].session.credit(),
        1,
        "granted credit is not revoked"
    );
    pair.ends[1].session.finish();
    pair.settle();
    pair.transmit(1);
    pair.deliver(1);
    assert_eq!(
        pair.ends[0].events,
        [SessionEvent::Opened, SessionEvent::Finished]
    );
    assert_eq!(pair.ends[1].session.credit(), 0);
    let header = pair.ends[0].session.close();
    let frames = Vec::new();
    pair.ends[1].receive(pair.now, Transmission { header, frames });
    assert_eq!(
        pair.ends[1].events.last(),
        Some(&SessionEvent::Closed { is_settled: true })
    );
}

#[test]
fn number_of_lent_slots_is_reported_when_it_changes() {
    let mut pair = Pair::new([window(1, 1); 2]);
    pair.settle();
    for lent in [2, 2, 1, 0] {
        let is_new = pair.ends[1].session.peer_lent_slots() != lent;
        pair.ends[0].session.set_lent_slots(lent);
        pair.transmit(0);
        assert_eq!(pair.under_way[0].len(), usize::from(is_new));
        pair.settle();
        assert_eq!(pair.ends[1].session.peer_lent_slots(), lent);
    }
}

#[test]
fn restarted_peer_has_forgotten_the_session() {
    let mut pair = Pair::new([window(2, 1000), window(10, 1000)]);
    pair.settle();
    let id = Bytes::from_static(&[1; 16]);
    let accepting = Session::accept(id, 8, 1, window(10, 1000), 3 * HEARTBEAT, pair.now);
    pair.ends[1] = End::new(accepting, window(10, 1000));
    // It sends nothing before the peer has introduced itself.
    pair.submit(0, 0);
    pair.transmit(0);
    pair.deliver(0);
    pair.transmit(1);
    assert_eq!(pair.ends[1].messages, []);
    assert!(pair.under_way[1].is_empty());
    pair.cut([0, 0]);
    pair.transmit(0);
    pair.deliver(0);
    pair.transmit(1);
    pair.deliver(1);
    assert_eq!(
        pair.ends[0].events,
        [SessionEvent::Opened, SessionEvent::Forgotten]
    );
    assert!(pair.ends[0].session.is_over());
}

/// Asserts that a peer that violates the protocol receives the expected refusal.
fn check_refused(header: impl FnOnce(&mut LinkHeader), frames: usize, expected: &str) {
    let mut pair = Pair::new([window(2, 1000), window(3, 1000)]);
    pair.settle();
    let mut wrong = header::new(Bytes::from_static(&[1; 16]));
    header(&mut wrong);
    let frames = vec![Bytes::new(); frames];
    let header = wrong;
    pair.ends[1].receive(pair.now, Transmission { header, frames });
    let Some(SessionEvent::Refused(refusal)) = pair.ends[1].events.last() else {
        panic!("it is not refused");
    };
    assert_eq!(refusal.reason, expected);
    assert_eq!(refusal.kind(), Kind::Protocol);
    // The refusal is sent once.
    let sent = pair.ends[1].session.transmit(pair.now).unwrap();
    assert_eq!(sent.header.refusal.as_ref(), Some(refusal));
    assert_eq!(pair.ends[1].session.transmit(pair.now), None);
}

#[test]
fn peer_that_violates_the_protocol_is_refused() {
    check_refused(
        |_| (),
        4,
        "peer exceeded its credit of 3 messages and 1000 bytes in this session",
    );
    check_refused(
        |header| header.received = 1,
        0,
        "peer acknowledged 1 messages, but only 0 were sent",
    );
    check_refused(
        |header| header.received_cancelled = 1,
        0,
        "peer acknowledged 1 lists of cancelled calls, but fewer were sent",
    );
    check_refused(
        |header| header.tags = vec![1],
        2,
        "the header lists 1 tags for 2 messages or batches",
    );
    check_refused(
        |header| header.sizes = vec![1],
        2,
        "the frames do not have the sizes that the header lists",
    );
    check_refused(
        |header| header.first = u64::MAX,
        1,
        "message numbers exceed 64 bits",
    );
}

/// A step of a random scenario.
#[derive(Debug, Clone, Copy)]
enum Step {
    Submit {
        end: usize,
        bytes: usize,
    },
    SubmitBatch {
        end: usize,
        len: u64,
    },
    Transmit {
        end: usize,
    },
    Deliver {
        end: usize,
    },
    /// The oldest transmission under way is lost.
    Lose {
        end: usize,
    },
    /// The oldest transmission under way is duplicated.
    Repeat {
        end: usize,
    },
    Consume {
        end: usize,
        count: usize,
    },
    Cut {
        keep: [usize; 2],
    },
    /// The socket's queue is full, so that a transmission fails.
    Full {
        end: usize,
    },
    /// Limits the bytes of messages that the end accepts from now on.
    Limit {
        end: usize,
        bytes: usize,
    },
    /// Submits a list of cancelled calls.
    Cancel,
    Wait {
        milliseconds: u64,
    },
}

/// A step on a connection without faults, in less time than the retry interval.
fn regular_step() -> impl Strategy<Value = Step> {
    let end = 0..2_usize;
    prop_oneof![
        6 => (end.clone(), 8..200_usize).prop_map(|(end, bytes)| Step::Submit { end, bytes }),
        3 => (end.clone(), 1..9_u64).prop_map(|(end, len)| Step::SubmitBatch { end, len }),
        6 => end.clone().prop_map(|end| Step::Transmit { end }),
        6 => end.clone().prop_map(|end| Step::Deliver { end }),
        3 => (end, 1..5_usize).prop_map(|(end, count)| Step::Consume { end, count }),
        2 => Just(Step::Cancel),
        1 => Just(Step::Wait { milliseconds: 1 }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = 0..2_usize;
    prop_oneof![
        24 => regular_step(),
        1 => end.clone().prop_map(|end| Step::Lose { end }),
        1 => end.clone().prop_map(|end| Step::Repeat { end }),
        1 => end.clone().prop_map(|end| Step::Full { end }),
        2 => (end, 0..3000_usize).prop_map(|(end, bytes)| Step::Limit { end, bytes }),
        1 => [0..4_usize, 0..4_usize].prop_map(|keep| Step::Cut { keep }),
        1 => (1..3000_u64).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

impl Pair {
    /// Returns the number of messages and lists that have not arrived.
    fn missing(&self) -> usize {
        let missing = |end: usize| self.submitted[end] as usize - self.ends[1 - end].messages.len();
        missing(0) + missing(1) + self.cancelled as usize - self.ends[0].cancelled.len()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Submit { end, bytes } => self.submit(end, bytes),
            Step::SubmitBatch { end, len } => self.submit_batch(end, len),
            Step::Transmit { end } => self.transmit(end),
            Step::Deliver { end } => self.deliver(end),
            Step::Lose { end } => {
                self.under_way[end].pop_front();
            }
            Step::Repeat { end } => {
                if let Some(again) = self.under_way[end].front().cloned() {
                    self.under_way[end].push_front(again);
                }
            }
            Step::Consume { end, count } => self.ends[end].consume(count),
            Step::Cut { keep } => self.cut(keep),
            Step::Full { end } => {
                let session = &mut self.ends[end].session;
                if let Some(transmission) = session.transmit(self.now) {
                    session.retry_from(transmission.header.first);
                }
            }
            Step::Limit { end, bytes } => {
                let capacity = Capacity {
                    bytes,
                    admits_any_size: false,
                };
                self.ends[end].session.set_capacity(capacity, self.now);
            }
            Step::Cancel => self.cancel(),
            Step::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds),
        }
    }
}

/// Takes the steps, and then delivers all messages. Also returns how many had not arrived before.
fn run(steps: Vec<Step>, messages: [u64; 2], bytes: [u64; 2]) -> (Pair, usize, Settled) {
    let windows = [window(messages[0], bytes[0]), window(messages[1], bytes[1])];
    let mut pair = Pair::new(windows);
    steps.into_iter().for_each(|step| pair.take(step));
    let missing = pair.missing();
    let settled = pair.settle();
    pair.assert_delivered();
    (pair, missing, settled)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Faults cost a bounded time and a bounded number of transmissions, and lose no message.
    #[test]
    fn session_delivers_each_message_once_and_in_order_despite_faults(
        steps in prop::collection::vec(step(), 0..200),
        messages in [1..6_u64, 1..6_u64],
        bytes in [1..1000_u64, 1..1000_u64],
    ) {
        let (pair, missing, settled) = run(steps, messages, bytes);
        // The next heartbeat makes up for a lost header with credit.
        prop_assert!(settled.time <= HEARTBEAT + RETRY_INTERVAL, "{settled:?}");
        prop_assert!(settled.transmissions <= 2 * missing + 12, "{settled:?} for {missing}");
        for end in &pair.ends {
            prop_assert!(!end.session.is_over());
        }
    }

    #[test]
    fn session_without_faults_transmits_each_message_once_and_waits_for_no_timer(
        steps in prop::collection::vec(regular_step(), 0..200),
        messages in [1..6_u64, 1..6_u64],
        bytes in [1..1000_u64, 1..1000_u64],
    ) {
        let (pair, missing, settled) = run(steps, messages, bytes);
        prop_assert_eq!(pair.transmitted, pair.submitted.map(|submitted| submitted as usize));
        // The last acknowledgement is delayed, to travel with a message.
        prop_assert!(settled.time <= ACK_DELAY, "{settled:?}");
        prop_assert!(settled.transmissions <= 2 * missing + 4, "{settled:?} for {missing}");
    }

    #[test]
    fn session_survives_arbitrary_headers_and_transmits_no_more_for_them(
        headers in prop::collection::vec(
            (
                (0..4_u64, any::<u64>(), 0..4_u64, any::<u64>(), 0..3_u64, 0..3_u64),
                prop::collection::vec(any::<u64>(), 0..3),
                (prop::collection::vec(0..9_u64, 0..3), prop::collection::vec(0..3_u64, 0..3)),
                any::<[bool; 6]>(),
                0..3_usize,
            ),
            0..20,
        ),
    ) {
        for hello in [None, Some(hello())] {
            let mut pair = Pair::new([window(5, 100), window(5, 100)]);
            pair.settle();
            for _ in 0..3 {
                pair.submit(1, 10);
            }
            for (numbers, tags, (sizes, groups), flags, frames) in &headers {
                let (first, large_first, received, credit, first_list, received_lists) = *numbers;
                let [answer, resend, draining, finished, large, greets] = *flags;
                let header = LinkHeader {
                    first: if large { large_first } else { first },
                    received,
                    credit_messages: credit,
                    credit_bytes: large_first,
                    tags: tags.clone(),
                    sizes: sizes.clone(),
                    groups: groups.clone(),
                    first_cancelled: first_list,
                    cancelled: vec![Bytes::from_static(b"list"); *frames],
                    received_cancelled: received_lists,
                    answer,
                    resend,
                    draining,
                    finished,
                    hello: hello.clone().filter(|_| greets),
                    ..header::new(Bytes::from_static(&[1; 16]))
                };
                let frames = vec![Bytes::from_static(b"message"); *frames];
                pair.ends[1].receive(pair.now, Transmission { header, frames });
                pair.transmit(1);
            }
            let sent: usize = pair.under_way[1].iter().map(|sent| sent.frames.len()).sum();
            prop_assert!(sent <= 3 * (headers.len() + 1));
        }
    }
}

#[test]
fn take_unsent_returns_messages_beyond_the_credit() {
    // The credit suffices for two of the five messages.
    let mut pair = Pair::new([window(10, 1000), window(2, 1000)]);
    pair.settle();
    for _ in 0..5 {
        pair.submit(0, 0);
    }
    pair.transmit(0);
    let unsent = pair.ends[0].session.take_unsent();
    let number =
        |item: &TaggedBatch| u64::from_be_bytes(item.batch.frame()[..8].try_into().unwrap());
    assert!(unsent.iter().map(number).eq(2..5));
    pair.ends[0].session.finish();
    pair.submitted[0] = 2;
    pair.settle();
    pair.assert_delivered();
    assert_eq!(pair.transmitted[0], 2, "those under way are not sent again");
    assert!(pair.ends[1].events.contains(&SessionEvent::Finished));

    // A session that is closed before all of its messages are acknowledged is not settled.
    pair.ends[1].session.submit(item(0, 0), pair.now);
    let header = pair.ends[1].session.close();
    let frames = Vec::new();
    pair.ends[0].receive(pair.now, Transmission { header, frames });
    let is_settled = false;
    let last = pair.ends[0].events.last();
    assert_eq!(last, Some(&SessionEvent::Closed { is_settled }));
}

#[test]
fn unacknowledged_messages_are_removed_when_the_session_ends() {
    let mut pair = Pair::new([window(10, 1000), window(10, 1000)]);
    pair.settle();
    for _ in 0..3 {
        pair.submit(0, 0);
    }
    pair.settle();
    pair.submit(0, 0);
    pair.transmit(0);
    pair.submit(0, 0);
    let items = pair.ends[0].session.take_unacknowledged();
    let numbers = items.iter().map(|item| item.batch.frame()[7]);
    assert!(numbers.eq([3, 4]));
    assert_eq!(pair.ends[0].session.unacknowledged(), (0, 0));
    assert!(pair.ends[0].session.is_over());
}

/// A pair whose ends have introduced themselves.
fn open(messages: u64, bytes: u64) -> Pair {
    let mut pair = Pair::new([window(messages, bytes), window(messages, bytes)]);
    pair.settle();
    pair
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl Pair {
    /// Asserts that `end` transmits nothing until `after`, which is its timeout; returns the transmission.
    #[track_caller]
    fn transmitted_after(&mut self, end: usize, after: Duration) -> Transmission {
        let session = &mut self.ends[end].session;
        assert_eq!(session.timeout(), Some(self.now + after));
        assert_eq!(session.transmit(self.now + after - MILLISECOND), None);
        self.now += after;
        let transmission = session.transmit(self.now);
        assert_eq!(session.transmit(self.now), None, "one is enough");
        transmission.expect("it is due")
    }
}

#[test]
fn acknowledgement_travels_with_a_message_or_alone_after_its_delay() {
    let mut pair = open(10, 1000);
    pair.submit(0, 0);
    pair.transmit(0);
    pair.deliver(0);
    let alone = pair.transmitted_after(1, ACK_DELAY);
    assert_eq!((alone.header.received, alone.frames.len()), (1, 0));
    pair.ends[0].receive(pair.now, alone);
    assert!(pair.ends[0].session.is_acknowledged());
    assert_eq!(pair.ends[1].session.timeout(), None);

    pair.submit(0, 0);
    pair.transmit(0);
    pair.deliver(0);
    pair.now += ACK_DELAY / 2;
    // A second one does not postpone the acknowledgement of the first.
    pair.submit(0, 0);
    pair.transmit(0);
    pair.deliver(0);
    assert_eq!(
        pair.ends[1].session.timeout(),
        Some(pair.now + ACK_DELAY / 2)
    );
    pair.submit(1, 0);
    let Some(together) = pair.ends[1].session.transmit(pair.now) else {
        panic!("a message does not wait");
    };
    assert_eq!((together.header.received, together.frames.len()), (3, 1));
    pair.now += ACK_DELAY;
    assert_eq!(pair.ends[1].session.transmit(pair.now), None);
}

#[test]
fn lost_message_is_requested_once_per_retry_interval() {
    let mut pair = open(10, 1000);
    pair.submit(0, 0);
    pair.transmit(0);
    pair.under_way[0].clear();
    let question = pair.transmitted_after(0, RETRY_INTERVAL);
    assert!(question.header.answer && question.frames.is_empty());
    assert_eq!(question.header.first, 1);
    pair.ends[1].receive(pair.now, question.clone());
    let Some(request) = pair.ends[1].session.transmit(pair.now) else {
        panic!("the message is not requested");
    };
    assert!(request.header.resend && request.header.received == 0);
    // The same gap again, before the message can have arrived.
    pair.now += RETRY_INTERVAL - MILLISECOND;
    pair.ends[1].receive(pair.now, question.clone());
    let answer = pair.ends[1].session.transmit(pair.now);
    assert!(answer.is_some_and(|answer| !answer.header.resend));
    pair.now += MILLISECOND;
    pair.ends[1].receive(pair.now, question);
    let again = pair.ends[1].session.transmit(pair.now);
    assert!(again.is_some_and(|again| again.header.resend));
    pair.ends[0].receive(pair.now, request);
    pair.transmit(0);
    pair.deliver(0);
    assert_eq!(pair.ends[1].messages.len(), 1);
    assert_eq!(pair.transmitted[0], 2);
}

#[test]
fn gap_is_requested_as_soon_as_a_later_message_arrives() {
    let mut pair = open(10, 1000);
    for _ in 0..3 {
        pair.submit(0, 0);
        pair.transmit(0);
    }
    pair.under_way[0].pop_front();
    let settled = pair.settle();
    pair.assert_delivered();
    assert!(settled.time <= ACK_DELAY, "{settled:?}");
}

#[test]
fn hello_is_repeated_after_the_retry_interval() {
    let mut pair = Pair::new([window(10, 1000), window(10, 1000)]);
    assert!(pair.ends[0].session.transmit(pair.now).is_some());
    let again = pair.transmitted_after(0, RETRY_INTERVAL);
    assert!(again.header.hello.is_some());
    assert_eq!(pair.ends[1].session.timeout(), None);
    pair.ends[1].receive(pair.now, again);
    pair.transmit(1);
    pair.deliver(1);
    assert_eq!(pair.ends[0].session.timeout(), Some(pair.now + HEARTBEAT));
}

#[test]
fn transmission_is_limited_in_messages_and_bytes() {
    let mut pair = open(10_000, 1 << 30);
    (0..MAX_TRANSMISSION_MESSAGES + 1).for_each(|_| pair.submit(0, 0));
    let mut next = || pair.ends[0].session.transmit(pair.now).unwrap();
    assert_eq!(next().header.sizes.len(), MAX_TRANSMISSION_MESSAGES);
    assert_eq!(next().frames.len(), 1);
    let mut pair = open(10_000, 1 << 30);
    for bytes in [
        MAX_TRANSMISSION_BYTES / 2,
        MAX_TRANSMISSION_BYTES / 2,
        5000,
        MAX_TRANSMISSION_BYTES - 1,
        5000,
        5000,
    ] {
        pair.submit(0, bytes);
    }
    let mut next = || {
        pair.ends[0]
            .session
            .transmit(pair.now)
            .unwrap()
            .frames
            .len()
    };
    assert_eq!([next(), next(), next()], [2, 2, 2]);
    assert_eq!(pair.ends[0].session.transmit(pair.now), None);
}

/// Returns the number of transmissions that it takes to send `messages` of 8 bytes one way.
fn transmissions(messages: usize, window: u64, bytes: u64) -> usize {
    let mut pair = open(window, bytes);
    (0..messages).for_each(|_| pair.submit(0, 0));
    let settled = pair.settle();
    assert!(settled.time <= ACK_DELAY, "{settled:?}");
    settled.transmissions
}

#[test]
fn credit_is_returned_when_half_of_it_is_left() {
    // One transmission of messages and one of credit for each window.
    assert_eq!(transmissions(1000, 100, 1 << 20), 20);
    assert_eq!(transmissions(1000, 10_000, 800), 20);
    let mut pair = open(10, 1 << 20);
    for count in 1..=5 {
        pair.submit(0, 0);
        pair.transmit(0);
        pair.deliver(0);
        pair.ends[1].consume(1);
        let update = pair.ends[1].session.transmit(pair.now);
        assert_eq!(update.is_some(), count == 5, "after {count} messages");
        assert!(update.is_none_or(|it| it.header.credit_messages == 15));
    }
}

#[test]
fn messages_within_credit_are_accepted_and_one_beyond_is_refused() {
    let check = |window: CreditWindow, sizes: &[usize], is_accepted: bool| {
        let mut pair = Pair::new([window; 2]);
        pair.settle();
        let header = header::new(Bytes::from_static(&[1; 16]));
        let frames = sizes.iter().map(|&size| vec![0; size].into());
        let mut events = Vec::new();
        let session = &mut pair.ends[1].session;
        session.receive(pair.now, &header, frames, &mut events);
        let refused = |event: &SessionEvent| matches!(event, SessionEvent::Refused(_));
        assert_eq!(events.iter().any(refused), !is_accepted, "{sizes:?}");
        assert_eq!(session.is_over(), !is_accepted);
    };
    check(window(3, 1000), &[8; 3], true);
    check(window(3, 1000), &[8; 4], false);
    // The message that reaches the byte limit may exceed it.
    check(window(10, 100), &[99, 500], true);
    check(window(10, 100), &[100, 0], false);
    check(window(10, 100), &[500, 0], false);
}

#[test]
fn heartbeat_is_half_of_the_peers_idle_timeout_within_limits() {
    let check = |idle_timeout: Duration, expected: Duration| {
        let now = Instant::now();
        let id = Bytes::from_static(&[1; 16]);
        let window = window(10, 1000);
        let connecting = Session::connect(id.clone(), hello(), window, HEARTBEAT, now);
        let accepting = Session::accept(id, 7, 1, window, idle_timeout, now);
        let mut pair = Pair::new([window; 2]);
        pair.now = now;
        pair.ends = [End::new(connecting, window), End::new(accepting, window)];
        pair.settle();
        assert_eq!(
            pair.ends[0].session.heartbeat(),
            expected,
            "{idle_timeout:?}"
        );
        let beat = pair.transmitted_after(0, expected);
        assert!(beat.header.answer);
    };
    check(3 * HEARTBEAT, HEARTBEAT);
    check(HEARTBEAT, HEARTBEAT / 2);
    check(Duration::from_millis(20), MIN_HEARTBEAT_INTERVAL);
    check(Duration::ZERO, HEARTBEAT);
}

#[test]
fn both_ends_know_their_session_the_component_and_the_common_version() {
    for (version, common) in [(1, 1), (2, 2), (VERSION, VERSION), (99, VERSION)] {
        let hello = LinkHello { version, ..hello() };
        let mut pair = Pair::introduced_by(hello, [window(10, 1000); 2]);
        let component = |pair: &Pair| [0, 1].map(|end| pair.ends[end].session.component());
        assert_eq!(component(&pair), [0, 1]);
        assert_eq!(pair.ends[1].session.version(), MIN_VERSION);
        pair.settle();
        assert_eq!(component(&pair), [1, 1]);
        assert_eq!(pair.ends[1].session.version(), common);
        assert_eq!(pair.ends[0].session.id(), &[1; 16][..]);
    }
}

#[test]
fn recorded_life_sign_never_moves_last_heard_back() {
    let mut pair = open(10, 1000);
    let later = pair.now + RETRY_INTERVAL;
    let session = &mut pair.ends[1].session;
    session.record_life_sign(later);
    assert_eq!(session.last_heard(), later);
    session.record_life_sign(pair.now);
    assert_eq!(session.last_heard(), later);
}

#[test]
fn smaller_window_takes_effect_once_the_granted_credit_is_used() {
    let mut pair = open(10, 1000);
    pair.ends[1].session.set_window(2);
    assert_eq!(pair.ends[0].session.credit(), 10);
    (0..10).for_each(|_| pair.submit(0, 0));
    assert_eq!(pair.ends[0].session.unacknowledged(), (10, 80));
    pair.settle();
    assert_eq!(pair.ends[0].session.credit(), 2);
}

#[test]
fn limited_session_receives_no_more_messages_than_its_limit() {
    let mut pair = Pair::new([window(10, 1000); 2]);
    pair.ends[1].session.set_limit(3);
    pair.exchange();
    assert_eq!(pair.ends[0].session.credit(), 3);
    (0..5).for_each(|_| pair.submit(0, 0));
    pair.exchange();
    pair.exchange();
    assert_eq!(pair.ends[1].messages.len(), 3);
    assert_eq!(pair.ends[0].session.take_unsent().len(), 2);
}

#[test]
fn cancelled_calls_overtake_messages_without_credit() {
    let mut pair = Pair::new([window(1, 1000); 2]);
    pair.settle();
    // The second message has no credit.
    pair.submit(1, 0);
    pair.submit(1, 0);
    pair.transmit(1);
    pair.deliver(1);
    pair.cancel();
    pair.cancel();
    pair.transmit(1);
    let [transmission] = pair.under_way[1].make_contiguous() else {
        panic!("one header is enough");
    };
    assert_eq!(transmission.header.cancelled.len(), 2);
    assert!(transmission.frames.is_empty());
    pair.deliver(1);
    assert_eq!(pair.ends[0].cancelled.len(), 2);
    assert_eq!(pair.ends[0].messages.len(), 1);
    let acknowledgement = pair.transmitted_after(0, ACK_DELAY);
    assert_eq!(acknowledgement.header.received_cancelled, 2);
    pair.ends[1].receive(pair.now, acknowledgement);
    assert!(pair.ends[1].session.cancelled.is_acknowledged());
}

#[test]
fn lost_list_of_cancelled_calls_is_requested_again() {
    let mut pair = open(10, 1000);
    pair.cancel();
    pair.transmit(1);
    pair.under_way[1].clear();
    pair.cancel();
    pair.transmit(1);
    pair.deliver(1);
    assert!(pair.ends[0].cancelled.is_empty());
    pair.settle();
    pair.assert_delivered();
    assert_eq!(pair.ends[0].cancelled.len(), 2);
}

#[test]
fn unacknowledged_lists_of_cancelled_calls_are_bounded_in_number_and_per_header() {
    let mut pair = open(10, 1000);
    let now = pair.now;
    let session = &mut pair.ends[1].session;
    let list = Bytes::from(vec![b'x'; MAX_HEADER_LIST_BYTES / 2 + 1]);
    for _ in 0..MAX_LISTS + 3 {
        session.submit_cancelled(list.clone(), now);
    }
    pair.transmit(1);
    let lengths: Vec<_> = pair.under_way[1]
        .iter()
        .map(|sent| sent.header.cancelled.len())
        .collect();
    assert!(lengths.iter().all(|&length| length == 2));
    assert_eq!(lengths.iter().sum::<usize>(), MAX_LISTS);
}

#[test]
fn peer_of_an_earlier_version_is_sent_no_cancelled_calls() {
    let hello = LinkHello {
        version: WORKER_CONTROL_VERSION - 1,
        ..hello()
    };
    let mut pair = Pair::introduced_by(hello, [window(10, 1000); 2]);
    pair.settle();
    let now = pair.now;
    pair.ends[1].session.submit_cancelled("call".into(), now);
    assert!(pair.ends[1].session.transmit(now).is_none());
}

/// The numbers of the requests that the connecting end has received, to be handled.
fn requests(pair: &Pair) -> Vec<u64> {
    let requests = pair.ends[0].events.iter().filter_map(|event| match event {
        SessionEvent::Request(request) => Some(request.number),
        _ => None,
    });
    requests.collect()
}

/// The replies that the accepting end has received.
fn replies(pair: &Pair) -> Vec<(u64, &[u8])> {
    let replies = pair.ends[1].events.iter().filter_map(|event| match event {
        SessionEvent::Reply { number, payload } => Some((*number, &payload[..])),
        _ => None,
    });
    replies.collect()
}

#[test]
fn requests_are_handled_one_after_the_other_without_credit() {
    let mut pair = Pair::new([window(1, 1000); 2]);
    pair.settle();
    // The second message has no credit.
    pair.submit(1, 0);
    pair.submit(1, 0);
    pair.transmit(1);
    pair.deliver(1);
    let session = &mut pair.ends[1].session;
    assert_eq!(session.request("drain", Bytes::new()), Some(1));
    assert_eq!(session.request("configure", "x".into()), Some(2));
    pair.exchange();
    assert_eq!(requests(&pair), [1]);
    pair.ends[0].session.reply(1, "done".into());
    pair.exchange();
    assert_eq!(requests(&pair), [1, 2]);
    assert_eq!(replies(&pair), [(1, &b"done"[..])]);
    pair.ends[0].session.reply(2, Bytes::new());
    pair.exchange();
    assert_eq!(replies(&pair)[1..], [(2, &b""[..])]);
    assert!(pair.ends[1].session.transmit(pair.now).is_none());
}

#[test]
fn request_is_repeated_until_its_reply_arrives_and_handled_once() {
    let mut pair = open(10, 1000);
    pair.ends[1].session.request("drain", Bytes::new());
    pair.transmit(1);
    // The request is lost, though the peer sends headers.
    pair.under_way[1].clear();
    let repeated_at = pair.now + RETRY_INTERVAL;
    pair.submit(0, 0);
    pair.settle();
    assert!(requests(&pair).is_empty());
    let repeated = pair.transmitted_after(1, repeated_at - pair.now);
    assert!(repeated.header.request.is_some());
    pair.ends[0].receive(pair.now, repeated);
    pair.ends[0].session.reply(1, "done".into());
    // Its reply is lost as well.
    pair.transmit(0);
    pair.under_way[0].clear();
    let repeated = pair.transmitted_after(1, RETRY_INTERVAL);
    pair.ends[0].receive(pair.now, repeated);
    pair.exchange();
    assert_eq!(requests(&pair), [1]);
    assert_eq!(replies(&pair), [(1, &b"done"[..])]);
    // On a new connection, nothing is repeated.
    pair.cut([0, 0]);
    pair.settle();
    assert_eq!((requests(&pair).len(), replies(&pair).len()), (1, 1));
}

#[test]
fn request_under_way_is_sent_again_at_once_on_a_new_connection() {
    let mut pair = open(10, 1000);
    pair.ends[1].session.request("drain", Bytes::new());
    pair.transmit(1);
    pair.cut([0, 0]);
    pair.exchange();
    assert_eq!(requests(&pair), [1]);
}

#[test]
fn withdrawn_request_is_not_repeated_and_its_late_reply_is_skipped() {
    let mut pair = open(10, 1000);
    let session = &mut pair.ends[1].session;
    session.request("drain", Bytes::new());
    session.request("configure", Bytes::new());
    session.request("inspect", Bytes::new());
    pair.exchange();
    let session = &mut pair.ends[1].session;
    session.withdraw(1);
    session.withdraw(2);
    pair.transmit(1);
    pair.ends[0].session.reply(1, "late".into());
    pair.transmit(0);
    pair.deliver(0);
    pair.exchange();
    assert_eq!(requests(&pair), [1, 3]);
    pair.ends[0].session.reply(3, "done".into());
    pair.exchange();
    assert_eq!(replies(&pair), [(3, &b"done"[..])]);
}

#[test]
fn number_of_requests_without_a_reply_is_bounded() {
    let mut pair = open(10, 1000);
    let session = &mut pair.ends[1].session;
    for number in 1..=MAX_REQUESTS as u64 {
        assert_eq!(session.request("drain", Bytes::new()), Some(number));
    }
    assert_eq!(session.request("drain", Bytes::new()), None);
    session.withdraw(5);
    assert!(session.request("drain", Bytes::new()).is_some());
}

#[test]
fn concurrency_is_reported_when_it_changes() {
    let mut pair = Pair::new([window(1, 1); 2]);
    pair.settle();
    assert_eq!(pair.ends[1].session.peer_concurrency(), None);
    for concurrency in [2, 2, 1] {
        let is_new = pair.ends[1].session.peer_concurrency() != Some(concurrency);
        pair.ends[0].session.set_concurrency(concurrency);
        pair.transmit(0);
        assert_eq!(pair.under_way[0].len(), usize::from(is_new));
        pair.settle();
        assert_eq!(pair.ends[1].session.peer_concurrency(), Some(concurrency));
    }
}

#[test]
fn established_subscriptions_are_reported_once() {
    let mut pair = open(10, 1000);
    for times in [1, 0] {
        pair.ends[1].session.set_subscriptions_ready();
        let before = pair.transmissions;
        pair.transmit(1);
        assert_eq!(pair.transmissions - before, times);
        pair.deliver(1);
    }
    assert_eq!(
        pair.ends[0].events,
        [SessionEvent::Opened, SessionEvent::SubscriptionsReady]
    );
}

#[test]
fn unacknowledged_messages_below_a_number_are_removed() {
    let mut pair = open(10, 1000);
    (0..3).for_each(|_| pair.submit(0, 0));
    let lacks = |pair: &Pair, number| pair.ends[0].session.has_unacknowledged_below(number);
    assert_eq!(pair.ends[0].session.next_number(), 3);
    assert!(lacks(&pair, 1) && !lacks(&pair, 0));
    pair.settle();
    assert!(!lacks(&pair, 3) && !lacks(&pair, 100));
    (0..2).for_each(|_| pair.submit(0, 0));
    assert_eq!(pair.ends[0].session.next_number(), 5);
    assert!(!lacks(&pair, 3) && lacks(&pair, 4) && lacks(&pair, 100));
    let items = pair.ends[0].session.take_unacknowledged_below(4);
    assert!(items.iter().map(|item| item.batch.frame()[7]).eq([3]));
    assert!(pair.ends[0].session.is_over());
}

#[test]
fn transmission_that_failed_is_repeated_within_the_acknowledgement_delay() {
    let mut pair = open(10, 1000);
    pair.submit(0, 0);
    let session = &mut pair.ends[0].session;
    let unsent = session.transmit(pair.now).unwrap();
    session.retry_from(0);
    assert_eq!(session.timeout(), Some(pair.now + ACK_DELAY));
    let again = session.transmit(pair.now).unwrap();
    assert_eq!(again.header.first, 0);
    assert_eq!(again.frames, unsent.frames);
    // Also a header without messages, which no other timer would repeat.
    pair.ends[0].receive(
        pair.now,
        Transmission {
            header: LinkHeader {
                answer: true,
                received: 1,
                ..header::new(Bytes::from_static(&[1; 16]))
            },
            frames: Vec::new(),
        },
    );
    let session = &mut pair.ends[0].session;
    assert!(session.transmit(pair.now).is_some());
    assert_eq!(session.transmit(pair.now), None);
    session.retry_from(1);
    assert!(session.transmit(pair.now + ACK_DELAY).is_some());
}

#[test]
fn messages_lost_with_a_connection_are_retransmitted_at_once_on_the_next_one() {
    let mut pair = open(10, 1000);
    for end in [0, 1] {
        pair.submit(end, 0);
        pair.transmit(end);
    }
    pair.cut([0, 0]);
    pair.transmit(0);
    let hello = pair.under_way[0][0].header.hello.as_ref();
    assert_eq!(
        hello.map(|hello| hello.instance),
        Some(7),
        "of this session"
    );
    let settled = pair.settle();
    pair.assert_delivered();
    assert!(settled.time <= ACK_DELAY, "{settled:?}");
}

#[test]
fn peer_that_keeps_acknowledging_messages_is_not_probed() {
    let mut pair = open(10, 1000);
    for _ in 0..3 {
        pair.submit(0, 0);
        pair.transmit(0);
    }
    for _ in 0..2 {
        pair.deliver(0);
        pair.now += RETRY_INTERVAL - MILLISECOND;
        assert_eq!(pair.ends[0].session.transmit(pair.now), None);
        pair.transmit(1);
        pair.deliver(1);
        let session = &pair.ends[0].session;
        assert_eq!(session.acknowledged_at(), pair.now);
        assert_eq!(session.timeout(), Some(pair.now + RETRY_INTERVAL));
    }
}

#[test]
fn messages_of_a_batch_that_arrived_before_are_skipped() {
    let mut pair = open(10, 1000);
    let send = |pair: &mut Pair, number: u64, len: u64| {
        let TaggedBatch { batch, .. } = batch(number, len);
        let header = LinkHeader {
            first: number,
            tags: vec![2 * number],
            tag_step: 2,
            sizes: vec![8; len as usize],
            groups: vec![len],
            ..header::new(Bytes::from_static(&[1; 16]))
        };
        let frames = vec![batch.frame().clone()];
        pair.ends[1].receive(pair.now, Transmission { header, frames });
    };
    send(&mut pair, 0, 3);
    send(&mut pair, 1, 2);
    send(&mut pair, 2, 3);
    pair.submitted[0] = 5;
    pair.assert_delivered();
}

#[test]
fn message_that_arrives_again_is_acknowledged_again() {
    let mut pair = open(10, 1000);
    pair.submit(0, 0);
    let message = pair.ends[0].session.transmit(pair.now).unwrap();
    for _ in 0..2 {
        pair.ends[1].receive(pair.now, message.clone());
        let acknowledgement = pair.transmitted_after(1, ACK_DELAY);
        assert_eq!(acknowledgement.header.received, 1);
    }
    assert_eq!(pair.ends[1].messages.len(), 1);
}

#[test]
fn messages_behind_a_gap_cause_no_acknowledgements() {
    let mut pair = open(10, 1000);
    for _ in 0..5 {
        pair.submit(0, 0);
        pair.transmit(0);
    }
    pair.under_way[0].pop_front();
    let before = pair.transmissions;
    for _ in 0..4 {
        pair.deliver(0);
        pair.transmit(1);
    }
    pair.now += ACK_DELAY;
    pair.transmit(1);
    assert_eq!(
        pair.transmissions - before,
        1,
        "the missing message is requested"
    );
}

#[test]
fn session_that_is_closed_after_its_messages_were_acknowledged_is_settled() {
    let mut pair = open(10, 1000);
    (0..3).for_each(|_| pair.submit(0, 0));
    pair.settle();
    let header = pair.ends[0].session.close();
    assert!(header.finished && header.closed);
    let frames = Vec::new();
    pair.ends[1].receive(pair.now, Transmission { header, frames });
    let is_settled = true;
    let last = pair.ends[1].events.last();
    assert_eq!(last, Some(&SessionEvent::Closed { is_settled }));
}

#[test]
fn headers_without_acknowledgements_neither_postpone_a_probe_nor_count_as_progress() {
    let mut pair = open(10, 1000);
    let begin = pair.now;
    pair.submit(0, 0);
    pair.transmit(0);
    pair.under_way[0].clear();
    for _ in 0..4 {
        pair.now += RETRY_INTERVAL / 5;
        let header = header::new(Bytes::from_static(&[1; 16]));
        let frames = Vec::new();
        pair.ends[0].receive(pair.now, Transmission { header, frames });
        assert_eq!(pair.ends[0].session.last_heard(), pair.now);
        assert_eq!(pair.ends[0].session.acknowledged_at(), begin);
        assert_eq!(pair.ends[0].session.timeout(), Some(begin + RETRY_INTERVAL));
    }
}

#[test]
fn batch_may_be_acknowledged_in_parts() {
    let mut pair = open(10, 1000);
    pair.submit_batch(0, 3);
    pair.submit_batch(0, 2);
    pair.transmit(0);
    for (received, left) in [(1, 4), (2, 3), (4, 1), (5, 0)] {
        let header = LinkHeader {
            received,
            ..header::new(Bytes::from_static(&[1; 16]))
        };
        let frames = Vec::new();
        pair.ends[0].receive(pair.now, Transmission { header, frames });
        let session = &pair.ends[0].session;
        assert_eq!(session.unacknowledged(), (left, 8 * left));
    }
    assert!(pair.ends[0].session.is_acknowledged());
}
