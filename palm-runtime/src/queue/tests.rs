//! Tests of the queue.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::fair_queue::FlowKey;

/// Numbered messages of a flow, each with this many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    flow: FlowKey,
    first: usize,
    messages: usize,
    bytes: usize,
}

impl Queued for Value {
    const HAS_FLOWS: bool = true;

    fn flow(&self) -> Flow {
        Flow::new(self.flow)
    }

    fn usage(&self) -> Usage {
        Usage {
            messages: self.messages,
            bytes: self.messages * self.bytes,
        }
    }

    fn split_to(&mut self, messages: usize) -> Option<Self> {
        assert!((1..self.messages).contains(&messages));
        let front = Self {
            messages,
            ..self.clone()
        };
        self.first += messages;
        self.messages -= messages;
        Some(front)
    }
}

fn value(flow: FlowKey, first: usize) -> Value {
    sized(flow, first, 1, 1)
}

fn sized(flow: FlowKey, first: usize, messages: usize, bytes: usize) -> Value {
    Value {
        flow,
        first,
        messages,
        bytes,
    }
}

fn limits(messages: usize, bytes: usize) -> QueueLimits {
    QueueLimits { messages, bytes }
}

/// Sends the values for which there is capacity, and returns how many messages were sent.
fn send(sender: &Sender<Value>, values: impl IntoIterator<Item = Value>) -> usize {
    let mut values: Vec<_> = values.into_iter().collect();
    let count = |values: &[Value]| values.iter().map(|it| it.messages).sum::<usize>();
    let before = count(&values);
    sender.try_send(&mut values).unwrap();
    before - count(&values)
}

fn take(receiver: &mut Receiver<Value>, max: usize) -> Vec<(FlowKey, usize)> {
    let mut out = Vec::new();
    receiver.recv_many(&mut out, max).now_or_never();
    let each = |value: &Value| (0..value.messages).collect::<Vec<_>>();
    out.iter()
        .flat_map(|it| each(it).into_iter().map(|n| (it.flow, it.first + n)))
        .collect()
}

#[test]
fn one_flow_uses_four_fifths_of_the_queue_and_others_find_capacity() {
    let (sender, _receiver) = queue(limits(10, 1000));
    let gauge = sender.gauge();
    assert_eq!(send(&sender, (0..20).map(|n| value(1, n))), 8);
    assert_eq!(gauge.messages(), 8);
    assert_eq!(send(&sender, [value(2, 0)]), 1);
    assert_eq!(
        send(&sender, [value(3, 0)]),
        1,
        "the 10th message is accepted"
    );
    assert_eq!(send(&sender, [value(4, 0)]), 0, "the 11th message waits");
    assert_eq!((gauge.messages(), gauge.bytes()), (10, 10));
}

#[test]
fn limit_of_one_message_admits_one() {
    let (sender, mut receiver) = queue(limits(1, 1));
    assert_eq!(send(&sender, [value(1, 0), value(2, 0)]), 1);
    assert_eq!(take(&mut receiver, 9), [(1, 0)]);
    assert_eq!(send(&sender, [value(2, 0)]), 1);
}

#[derive(Default)]
struct Collector {
    is_closed: AtomicBool,
    passed_on: Mutex<Vec<usize>>,
}

impl Shortcut<Value> for Collector {
    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    fn pass_on(&self, values: &mut dyn Iterator<Item = Value>) {
        let mut passed_on = self.passed_on.lock();
        passed_on.extend(values.map(|it| it.first));
    }
}

#[test]
fn shortcut_passes_values_on_while_the_receiver_waits_and_keeps_their_order() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    let collector = Arc::new(Collector::default());
    receiver.set_shortcut(Some(collector.clone()));
    let passed_on = || collector.passed_on.lock().clone();
    let set_closed = |is_closed| collector.is_closed.store(is_closed, Ordering::Relaxed);

    assert_eq!(send(&sender, [value(1, 0)]), 1);
    assert_eq!(passed_on(), [0; 0], "the receiver has not waited yet");
    assert_eq!(take(&mut receiver, 9), [(1, 0)]);
    assert_eq!(send(&sender, [value(1, 1)]), 1);
    assert_eq!(passed_on(), [0; 0], "the receiver handles a value");
    assert_eq!(take(&mut receiver, 9), [(1, 1)]);

    assert_eq!(take(&mut receiver, 9), []);
    assert_eq!(send(&sender, [value(1, 2), value(2, 3)]), 2);
    let alone = sender.send(value(1, 4)).now_or_never();
    assert_eq!(alone, Some(Ok(())));
    assert_eq!(passed_on(), [2, 3, 4]);
    assert_eq!(sender.gauge().messages(), 0);

    set_closed(true);
    assert_eq!(send(&sender, [value(1, 5)]), 1);
    set_closed(false);
    assert_eq!(send(&sender, [value(1, 6)]), 1);
    assert_eq!(passed_on(), [2, 3, 4], "an earlier value is queued");
    assert_eq!(take(&mut receiver, 9), [(1, 5), (1, 6)]);

    assert_eq!(take(&mut receiver, 9), []);
    receiver.set_shortcut(None);
    assert_eq!(send(&sender, [value(1, 7)]), 1);
    assert_eq!(take(&mut receiver, 9), [(1, 7)]);
    assert_eq!(passed_on(), [2, 3, 4]);
}

/// Reads the gauge of its queue, as a report does that is made under a lock of the shortcut.
struct Reporting(QueueGauge);

impl Shortcut<Value> for Reporting {
    fn is_open(&self) -> bool {
        self.0.messages() == 0
    }

    fn pass_on(&self, values: &mut dyn Iterator<Item = Value>) {
        assert_eq!(values.count() + self.0.messages(), 1);
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        assert_eq!(self.0.messages(), 0);
    }
}

#[test]
fn shortcut_is_called_and_dropped_without_the_lock_of_the_queue() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    for is_removed in [true, false] {
        receiver.set_shortcut(Some(Arc::new(Reporting(sender.gauge()))));
        assert_eq!(take(&mut receiver, 9), []);
        assert_eq!(send(&sender, [value(1, 0)]), 1);
        assert_eq!(sender.send(value(1, 1)).now_or_never(), Some(Ok(())));
        if is_removed {
            receiver.set_shortcut(None);
        }
    }
    drop(receiver);
}

#[test]
fn bytes_are_bounded_but_one_message_of_any_size_is_admitted() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    assert_eq!(send(&sender, [sized(1, 0, 1, 5000)]), 1);
    assert_eq!(send(&sender, [value(1, 1), value(2, 0)]), 0);
    assert_eq!(sender.gauge().bytes(), 5000);
    assert_eq!(take(&mut receiver, 9).len(), 1);
    let large = (0..9).map(|n| sized(1, n, 1, 300));
    assert_eq!(send(&sender, large), 2, "800 bytes, of which 600 are taken");
    assert_eq!(send(&sender, [sized(2, 0, 1, 5000)]), 1);
    assert_eq!(send(&sender, [sized(3, 0, 1, 1)]), 0);
}

#[test]
fn queue_with_exactly_its_limit_of_bytes_admits_nothing() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    assert_eq!(sender.limit(), 100);
    assert_eq!(send(&sender, [sized(1, 0, 1, 1000)]), 1);
    assert_eq!(send(&sender, [sized(2, 0, 1, 0)]), 0);
    take(&mut receiver, 1);
    assert_eq!(send(&sender, [sized(1, 1, 1, 999), sized(2, 0, 1, 0)]), 2);
}

#[test]
fn value_is_split_only_if_an_eighth_of_the_queue_is_left_for_its_flow() {
    let large = |flow, first| sized(flow, first, 100, 1);
    let filled = |count| {
        let (sender, receiver) = queue(limits(80, 100_000));
        assert_eq!(send(&sender, (0..count).map(|n| value(1, n))), count);
        (sender, receiver)
    };
    let (sender, _receiver) = filled(55);
    assert_eq!(send(&sender, [large(1, 55)]), 0);
    assert!(sender.send(large(1, 55)).now_or_never().is_none());
    assert_eq!(sender.gauge().messages(), 55);
    let (sender, _receiver) = filled(54);
    assert_eq!(send(&sender, [large(1, 54)]), 10);
    assert_eq!(send(&sender, [large(2, 0)]), 12);
    // A flow that holds nothing may use all of the rest.
    assert_eq!(send(&sender, [large(3, 0)]), 3);
    assert_eq!(send(&sender, [large(3, 3)]), 0);
}

#[test]
fn values_that_fit_are_sent_and_other_flows_overtake() {
    let (sender, _receiver) = queue(limits(80, 100_000));
    assert_eq!(send(&sender, (0..60).map(|n| value(1, n))), 60);
    assert_eq!(send(&sender, (60..70).map(|n| value(1, n))), 4);
    let mut values = vec![value(1, 64), value(2, 0), value(1, 65)];
    sender.try_send(&mut values).unwrap();
    assert_eq!(values, [value(1, 64), value(1, 65)]);
}

#[test]
fn try_recv_all_receives_all_values_without_waiting() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    let mut out = Vec::new();
    receiver.try_recv_all(&mut out);
    assert_eq!(out, []);
    assert_eq!(send(&sender, [sized(1, 0, 40, 1), value(2, 0)]), 41);
    receiver.try_recv_all(&mut out);
    out.sort_by_key(|value| value.flow);
    assert_eq!(out, [sized(1, 0, 40, 1), value(2, 0)]);
    assert_eq!(sender.gauge().messages(), 0);
}

#[test]
fn values_of_alternating_flows_are_all_sent_at_once() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    let mut values: Vec<_> = (0..8).map(|n| value(n as u64 % 2, n)).collect();
    sender.try_send(&mut values).unwrap();
    assert_eq!(values, []);
    assert_eq!(take(&mut receiver, 99).len(), 8);
}

#[test]
fn value_larger_than_the_queue_is_sent_in_parts() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    let mut values = vec![sized(1, 0, 25, 1)];
    let mut taken = Vec::new();
    for _ in 0..4 {
        sender.try_send(&mut values).unwrap();
        taken.extend(take(&mut receiver, 100));
    }
    assert_eq!(values, []);
    assert_eq!(taken, (0..25).map(|n| (1, n)).collect::<Vec<_>>());
    let mut send = std::pin::pin!(sender.send(sized(1, 0, 25, 1)));
    for _ in 0..3 {
        assert!(send.as_mut().now_or_never().is_none());
        assert_eq!(take(&mut receiver, 100).len(), 8);
    }
    assert!(send.now_or_never().is_some());
    assert_eq!(take(&mut receiver, 100), [(1, 24)]);
}

#[test]
fn receiver_takes_up_to_max_messages_of_each_flow_in_turn() {
    let (sender, mut receiver) = queue(limits(1000, 1_000_000));
    assert_eq!(send(&sender, [sized(1, 0, 300, 1)]), 300);
    assert_eq!(
        take(&mut receiver, 7),
        (0..7).map(|n| (1, n)).collect::<Vec<_>>()
    );
    assert_eq!(send(&sender, (0..3).map(|n| value(2, n))), 3);
    let taken = take(&mut receiver, 64);
    assert_eq!(taken.len(), 64);
    let position = taken.iter().position(|it| *it == (2, 2)).unwrap();
    assert!(position < 2 * QUANTUM + 3, "{position}");
    assert_eq!(sender.gauge().messages(), 303 - 7 - 64);
}

#[test]
fn recv_values_splits_no_value() {
    let (sender, mut receiver) = queue(limits(1000, 1_000_000));
    send(
        &sender,
        [sized(1, 0, 300, 1), sized(1, 300, 5, 1), value(1, 305)],
    );
    let mut out = Vec::new();
    assert_eq!(receiver.recv_values(&mut out, 2).now_or_never(), Some(2));
    assert_eq!(out, [sized(1, 0, 300, 1), sized(1, 300, 5, 1)]);
}

#[test]
fn batch_of_several_values_is_split_at_max_messages() {
    let (sender, mut receiver) = queue(limits(1000, 1_000_000));
    send(&sender, (0..4).map(|n| sized(1, 5 * n, 5, 1)));
    for (max, expected) in [(7, 0..7), (3, 7..10), (4, 10..14), (99, 14..20)] {
        let expected: Vec<_> = expected.map(|n| (1, n)).collect();
        assert_eq!(take(&mut receiver, max), expected);
    }
}

#[test]
fn recv_values_applies_max_to_received_values_not_to_the_buffer() {
    let (sender, mut receiver) = queue(limits(1000, 1_000_000));
    for flow in 1..4 {
        send(&sender, [value(flow, 0), value(flow, 1)]);
    }
    let mut out = vec![value(9, 0); 5];
    assert_eq!(receiver.recv_values(&mut out, 4).now_or_never(), Some(4));
    assert_eq!(out.len(), 9);
    assert_eq!(receiver.recv_values(&mut out, 4).now_or_never(), Some(2));
}

/// A value of several messages that cannot be split.
#[derive(Debug, PartialEq, Eq)]
struct Whole(usize);

impl Queued for Whole {
    const HAS_FLOWS: bool = false;

    fn usage(&self) -> Usage {
        Usage {
            messages: self.0,
            bytes: 0,
        }
    }
}

#[test]
fn value_that_cannot_be_split_is_received_though_it_is_too_large() {
    let (sender, mut receiver) = queue(limits(1000, 1000));
    let mut values = vec![Whole(300), Whole(10), Whole(10)];
    sender.try_send(&mut values).unwrap();
    assert_eq!(values, []);
    let mut recv = || {
        let mut out = Vec::new();
        receiver.recv_many(&mut out, 64).now_or_never();
        out.iter().map(|whole: &Whole| whole.0).collect::<Vec<_>>()
    };
    assert_eq!([recv(), recv()], [vec![300], vec![10, 10]]);
}

#[test]
fn queue_without_flows_is_filled_completely() {
    let (sender, _receiver) = queue(limits(10, 1000));
    let mut values: Vec<_> = (0..12).map(|_| Whole(1)).collect();
    sender.try_send(&mut values).unwrap();
    assert_eq!((values.len(), sender.gauge().messages()), (2, 10));
}

#[test]
fn default_limits_are_1000_messages_and_64_mib() {
    assert_eq!(QueueLimits::default(), limits(1000, 67_108_864));
}

#[test]
fn gauge_prints_its_usage() {
    let (sender, _receiver) = queue(limits(10, 1000));
    send(&sender, [sized(1, 0, 2, 3)]);
    let printed = format!("{:?}", sender.gauge());
    assert_eq!(printed, "QueueGauge(Usage { messages: 2, bytes: 6 })");
}

#[test]
fn sender_capacity_is_that_of_its_flow_and_unlimited_without_a_receiver() {
    let (sender, receiver) = queue(limits(10, 1000));
    assert_eq!(sender.free_capacity(1).0, 8);
    send(&sender, (0..5).map(|n| value(1, n)));
    assert_eq!(
        (sender.free_capacity(1).0, sender.free_capacity(2).0),
        (3, 4)
    );
    drop(receiver);
    assert_eq!(sender.free_capacity(1).0, usize::MAX);
}

#[test]
fn only_a_receive_of_values_counts_as_a_release() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    let (_, before) = sender.free_capacity(1);
    receiver.try_recv_all(&mut Vec::new());
    assert_eq!(sender.free_capacity(1).1, before);
    send(&sender, [value(1, 0)]);
    assert_eq!(sender.free_capacity(1).1, before);
    take(&mut receiver, 1);
    assert_ne!(sender.free_capacity(1).1, before);
}

#[test]
fn receiver_reports_once_that_a_sender_has_waited() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    send(&sender, (0..8).map(|n| value(1, n)));
    let mut one = task(sender.clone(), sized(1, 8, 8, 1));
    assert!(!one.poll());
    for _ in 0..2 {
        take(&mut receiver, 1);
    }
    assert!(receiver.freed_capacity());
    assert!(!receiver.freed_capacity());
}

#[test]
fn restored_values_are_first_of_their_flow_and_delay_no_other_flow() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    send(&sender, (0..50).map(|n| value(1, n)));
    let mut out = Vec::new();
    receiver.recv_many(&mut out, 40).now_or_never();
    receiver.restore(out.drain(1..));
    send(&sender, [value(2, 0)]);
    assert_eq!(sender.gauge().messages(), 50);
    let next = take(&mut receiver, 2);
    assert!(next.contains(&(2, 0)) && next.contains(&(1, 1)), "{next:?}");
}

#[test]
fn paused_flow_stays_in_the_queue() {
    let (sender, mut receiver) = queue(limits(100, 1000));
    send(&sender, [value(1, 0), value(2, 0)]);
    receiver.set_paused(1, true);
    assert_eq!(take(&mut receiver, 9), [(2, 0)]);
    drop(sender);
    let mut out = Vec::new();
    let received = receiver.recv_many(&mut out, 9).now_or_never();
    assert_eq!(received, None, "the queue has not ended");
    receiver.set_paused(1, false);
    assert_eq!(take(&mut receiver, 9), [(1, 0)]);
}

#[tokio::test]
async fn sender_waits_for_its_own_flow_only() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    send(&sender, (0..8).map(|n| value(1, n)));
    let mut first = std::pin::pin!(sender.send(value(1, 8)));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(sender.send(value(2, 0)).now_or_never().is_some());
    assert!(!receiver.freed_capacity());
    take(&mut receiver, 4);
    assert!(receiver.freed_capacity() && !receiver.freed_capacity());
    first.await.unwrap();
    take(&mut receiver, 1);
    assert!(!receiver.freed_capacity());
}

#[tokio::test]
async fn senders_are_woken_in_order_and_as_many_as_there_is_capacity_for() {
    let (sender, mut receiver) = queue(limits(2, 1000));
    assert_eq!(send(&sender, [value(1, 0), value(2, 0)]), 2);
    let mut waiting: Vec<_> = (3..9)
        .map(|flow| task(sender.clone(), value(flow, 0)))
        .collect();
    for task in &mut waiting {
        assert!(!task.poll());
    }
    take(&mut receiver, 1);
    let woken = waiting.iter().filter(|it| it.is_woken()).count();
    assert_eq!(woken, 1);
    assert!(waiting[0].is_woken());
    // A sender that is dropped leaves its capacity to the next one.
    drop(waiting.remove(0));
    assert!(waiting[0].is_woken() && !waiting[1].is_woken());
    assert!(waiting[0].poll());
}

#[tokio::test]
async fn all_senders_for_which_there_is_capacity_are_woken_at_once() {
    let (sender, mut receiver) = queue(limits(3, 1000));
    assert_eq!(send(&sender, [value(1, 0), value(2, 0), value(3, 0)]), 3);
    let mut waiting: Vec<_> = (4..9)
        .map(|flow| task(sender.clone(), value(flow, 0)))
        .collect();
    for task in &mut waiting {
        assert!(!task.poll());
    }
    take(&mut receiver, 3);
    let woken: Vec<_> = waiting.iter().map(Task::is_woken).collect();
    assert_eq!(woken, [true, true, true, false, false]);
    assert!(waiting[..3].iter_mut().all(Task::poll));
}

struct Task {
    future: futures_core::future::BoxFuture<'static, Result<(), Closed>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

fn task(sender: Sender<Value>, value: Value) -> Task {
    Task::new(async move { sender.send(value).await })
}

impl Woken {
    /// Returns whether the task was woken since the last call.
    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
    }
}

impl Task {
    fn new(future: impl Future<Output = Result<(), Closed>> + Send + 'static) -> Self {
        Self {
            future: Box::pin(future),
            woken: Arc::default(),
        }
    }

    fn poll(&mut self) -> bool {
        let waker = self.woken.clone().into();
        let mut context = std::task::Context::from_waker(&waker);
        self.future.as_mut().poll(&mut context).is_ready()
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test]
async fn senders_fail_after_the_receiver_is_dropped() {
    let (sender, receiver) = queue(limits(1, 1));
    send(&sender, [value(1, 0)]);
    let mut waits = std::pin::pin!(sender.send(value(1, 1)));
    assert!(waits.as_mut().now_or_never().is_none());
    let mut values = vec![value(1, 2)];
    {
        let mut all = std::pin::pin!(sender.send_all(&mut values));
        assert!(all.as_mut().now_or_never().is_none());
        drop(receiver);
        assert_eq!(all.await, Err(Closed));
    }
    assert_eq!(waits.await, Err(Closed));
    assert_eq!(values, [value(1, 2)]);
    assert!(sender.is_closed());
}

#[test]
fn senders_that_wait_for_a_full_queue_are_woken_when_its_receiver_is_dropped() {
    let (sender, receiver) = queue(limits(1, 1000));
    assert_eq!((sender.limit(), sender.is_closed()), (1, false));
    assert_eq!(send(&sender, [value(1, 0)]), 1);
    let mut one = task(sender.clone(), value(1, 1));
    let mut many = Task::new(async move {
        let mut values = vec![value(1, 2), value(1, 3)];
        sender.send_all(&mut values).await
    });
    assert!(!one.poll() && !many.poll());
    assert!(!one.is_woken() && !many.is_woken());
    drop(receiver);
    assert!(one.is_woken() && many.is_woken());
    assert!(one.poll() && many.poll());
}

#[test]
fn waiting_receiver_is_woken_by_a_value_and_by_the_drop_of_the_last_sender() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    let other = sender.clone();
    let mut recv = Task::new(async move {
        let mut out = Vec::new();
        while receiver.recv_many(&mut out, 1).await > 0 {}
        match out.len() {
            1 => Ok(()),
            _ => Err(Closed),
        }
    });
    assert!(!recv.poll() && !recv.is_woken());
    assert_eq!(send(&sender, [value(1, 0)]), 1);
    assert!(recv.woken.take());
    assert!(!recv.poll());
    drop(sender);
    assert!(!recv.is_woken(), "there is another sender");
    drop(other);
    assert!(recv.is_woken() && recv.poll());
}

#[tokio::test]
async fn receiver_ends_after_the_last_sender_is_dropped() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    let other = sender.clone();
    send(&sender, [value(1, 0)]);
    drop(sender);
    let mut out = Vec::new();
    assert_eq!(receiver.recv_many(&mut out, 9).await, 1);
    let mut recv = std::pin::pin!(receiver.recv_many(&mut out, 9));
    assert!(recv.as_mut().now_or_never().is_none());
    drop(other);
    assert_eq!(recv.await, 0);
}

#[tokio::test]
async fn many_values_are_sent_in_the_order_of_each_flow() {
    let (sender, mut receiver) = queue(limits(10, 1000));
    let mut values: Vec<_> = (0..200).map(|n| value(n as u64 % 3, n)).collect();
    let receive = async {
        let mut taken = Vec::new();
        while taken.len() < 200 {
            receiver.recv_many(&mut taken, 5).await;
        }
        taken
    };
    let (sent, taken) = tokio::join!(sender.send_all(&mut values), receive);
    sent.unwrap();
    for flow in 0..3 {
        let own = taken.iter().filter(|it| it.flow == flow).map(|it| it.first);
        assert!(own.eq((0..200).filter(|n| *n as u64 % 3 == flow)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send {
        flow: FlowKey,
        messages: usize,
        bytes: usize,
    },
    Receive {
        max: usize,
    },
    ReceiveAndRestore {
        max: usize,
    },
    Pause {
        flow: FlowKey,
        is_paused: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u64, 1..9_usize, 0..40_usize)
            .prop_map(|(flow, messages, bytes)| Step::Send { flow, messages, bytes }),
        3 => (1..30_usize).prop_map(|max| Step::Receive { max }),
        1 => (1..30_usize).prop_map(|max| Step::ReceiveAndRestore { max }),
        1 => (0..4_u64, any::<bool>())
            .prop_map(|(flow, is_paused)| Step::Pause { flow, is_paused }),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// No value is lost, duplicated or reordered within its flow; the limits hold, except for one value.
    #[test]
    fn queue_keeps_the_order_of_flows_and_its_limits(
        steps in steps(),
        most in 1..20_usize,
    ) {
        let (sender, mut receiver) = queue(limits(most, 200));
        let gauge = sender.gauge();
        let (mut sent, mut taken) = ([0; 4], [0; 4]);
        for step in steps {
            match step {
                Step::Send { flow, messages, bytes } => {
                    let first = sent[flow as usize];
                    sent[flow as usize] += send(&sender, [sized(flow, first, messages, bytes)]);
                }
                Step::Receive { max } => {
                    let values = take(&mut receiver, max);
                    prop_assert!(values.len() <= max);
                    for (flow, number) in values {
                        prop_assert_eq!(number, taken[flow as usize]);
                        taken[flow as usize] += 1;
                    }
                }
                Step::ReceiveAndRestore { max } => {
                    let mut out = Vec::new();
                    receiver.recv_many(&mut out, max).now_or_never();
                    receiver.restore(out.into_iter());
                }
                Step::Pause { flow, is_paused } => receiver.set_paused(flow, is_paused),
            }
            prop_assert!(gauge.messages() <= most);
            prop_assert!(gauge.bytes() <= 200 + 8 * 40);
            let left: usize = sent.iter().sum::<usize>() - taken.iter().sum::<usize>();
            prop_assert_eq!(gauge.messages(), left);
        }
        (0..4).for_each(|flow| receiver.set_paused(flow, false));
        for (flow, number) in take(&mut receiver, usize::MAX) {
            prop_assert_eq!(number, taken[flow as usize]);
            taken[flow as usize] += 1;
        }
        prop_assert_eq!(sent, taken);
    }
}
