//! Tests of the receive loop.

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
use crate::link::LinkOptions;
use crate::link::PeerKey;
use crate::part::Stop;
use crate::queue::{QueueLimits, Receiver, queue};
use crate::socket::SocketOptions;

/// Returns the events that a test has put in.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<Content>, Notify)>);

#[derive(Default)]
struct Content {
    arrivals: Vec<SourceEvent>,
    /// The limit for the socket in the last call of `recv_many`.
    max: usize,
    consumed: Vec<ConsumedMessages>,
}

impl Script {
    fn content(&self) -> parking_lot::MutexGuard<'_, Content> {
        self.0.0.lock()
    }

    fn put(&self, arrivals: impl IntoIterator<Item = SourceEvent>) {
        self.content().arrivals.extend(arrivals);
        self.0.1.notify_one();
    }

    fn credit_of(&self, peer: PeerKey) -> u64 {
        let content = self.content();
        let own = |it: &&ConsumedMessages| it.origin == Origin::Peer(peer);
        content
            .consumed
            .iter()
            .filter(own)
            .map(|it| it.messages)
            .sum()
    }
}

impl MessageSource for Script {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        loop {
            {
                let mut content = self.content();
                content.max = max;
                out.append(&mut content.arrivals);
            }
            if !out.is_empty() {
                return Ok(());
            }
            self.0.1.notified().await;
        }
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, _: usize) {
        out.append(&mut self.content().arrivals);
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        self.content().consumed.append(messages);
    }
}

fn frame(client: &str) -> Bytes {
    let mut message = Message::new("a.b", client.to_owned());
    message.set_client(client.to_owned());
    message.encode()
}

/// Calls from the client with this link.
fn from_peer(peer: PeerKey, count: usize) -> impl Iterator<Item = SourceEvent> {
    (0..count).map(move |_| SourceEvent::Messages {
        batch: frame(&peer.to_string()).into(),
        flow: Some(Flow::new(peer)),
        origin: Origin::Peer(peer),
    })
}

fn from_socket(client: &str, count: usize) -> impl Iterator<Item = SourceEvent> {
    (0..count).map(move |_| SourceEvent::from_socket(frame(client)))
}

struct Running {
    script: Script,
    queue: Receiver<Envelope>,
    stop: CancellationToken,
    receive_loop: futures_core::future::BoxFuture<'static, Result<(), SocketClosed>>,
}

fn intake(messages: usize) -> Running {
    let (sender, queue) = queue(QueueLimits {
        messages,
        bytes: 1_000_000,
    });
    let stop = Stop::new(Duration::from_secs(1));
    let token = stop.token.clone();
    let outlet = Outlet {
        route: Some(sender),
        failures: None,
        block: false,
        log: false,
        part: "Pull".into(),
        remaining: None,
        stop,
    };
    let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
    let context = ComponentContext {
        name: "a".to_owned(),
        cache: Cache::local(Arc::new(store)),
        cancellations: Arc::default(),
    };
    let opened = PartContext {
        options: SocketOptions::default(),
        context: Arc::new(context),
        state: Arc::new(ComponentState::new(LinkOptions::default())),
        counters: Arc::default(),
    };
    let hooks = AnyInboundHooks::default();
    let receive_loop = ReceiveLoop::new(opened, hooks, MessageIds::Assigned, outlet);
    let script = Script::default();
    let mut source = script.clone();
    Running {
        script,
        queue,
        stop: token,
        receive_loop: Box::pin(async move { receive_loop.run(&mut source).await }),
    }
}

impl Running {
    /// Polls the receive loop until it waits.
    fn settle(&mut self) {
        for _ in 0..100 {
            assert!((&mut self.receive_loop).now_or_never().is_none());
        }
    }

    /// Receives messages until the receive loop ends, and returns how many are from the clients 1 and 2.
    fn end(&mut self) -> [usize; 2] {
        let mut taken = Vec::new();
        let mut ended = false;
        while !ended {
            ended = (&mut self.receive_loop).now_or_never().is_some();
            taken.extend(self.take(100));
        }
        ["1", "2"].map(|client| count(&taken, client))
    }

    /// Receives messages, and returns their clients.
    fn take(&mut self, max: usize) -> Vec<String> {
        let mut out = Vec::new();
        self.queue.recv_many(&mut out, max).now_or_never();
        out.iter()
            .map(|it| it.message.client().to_owned())
            .collect()
    }
}

fn count(clients: &[String], client: &str) -> usize {
    clients.iter().filter(|it| *it == client).count()
}

#[tokio::test]
async fn receive_loop_serves_others_while_a_client_has_no_capacity() {
    let mut running = intake(10);
    running.script.put(from_peer(1, 100));
    running.settle();
    running.script.put(from_peer(2, 1));
    running.settle();
    let taken = running.take(100);
    assert_eq!((count(&taken, "1"), count(&taken, "2")), (8, 1));
}

#[tokio::test]
async fn receive_loop_serves_clients_in_turn_and_sends_all_messages() {
    let mut running = intake(20);
    running.script.put(from_peer(1, 300));
    running.settle();
    running.script.put(from_peer(2, 60).chain(from_peer(3, 60)));
    let mut taken = Vec::new();
    while taken.len() < 420 {
        running.settle();
        let more = running.take(4);
        assert!(!more.is_empty(), "after {}", taken.len());
        taken.extend(more);
    }
    let early = &taken[..150];
    for client in ["1", "2", "3"] {
        let share = count(early, client);
        assert!((40..=70).contains(&share), "{client}: {share}");
    }
    assert_eq!(count(&taken, "1"), 300);
}

#[tokio::test]
async fn receive_loop_returns_credit_for_sent_messages() {
    let mut running = intake(10);
    running.script.put(from_peer(1, 100).chain(from_peer(2, 1)));
    running.settle();
    assert!(running.script.credit_of(1) < 20);
    assert_eq!(running.script.credit_of(2), 1);
    while !running.take(5).is_empty() {
        running.settle();
    }
    assert_eq!(running.script.credit_of(1), 100);
}

#[tokio::test]
async fn receive_loop_pauses_a_client_that_does_not_read_answers() {
    let mut running = intake(100);
    running.script.put([SourceEvent::Paused(1, true)]);
    running.script.put(from_peer(1, 5).chain(from_peer(2, 5)));
    running.settle();
    assert_eq!(running.take(100), ["2"; 5]);
    assert_eq!(running.script.credit_of(1), 0);
    running.script.put([SourceEvent::Paused(1, false)]);
    running.settle();
    assert_eq!(running.take(100), ["1"; 5]);
}

#[tokio::test]
async fn receive_loop_stops_reading_sockets_above_their_backlog() {
    let mut running = intake(100);
    running.script.put(from_socket("flood", 900));
    running.settle();
    assert!(running.script.content().max < 100);
    running.script.put(from_socket("other", 1));
    running.settle();
    let taken = running.take(100);
    assert_eq!((count(&taken, "flood"), count(&taken, "other")), (80, 1));
    running.settle();
    while !running.take(100).is_empty() {
        running.settle();
    }
    assert_eq!(running.script.content().max, 100);
}

#[tokio::test]
async fn receive_loop_sends_its_backlog_when_the_component_stops() {
    let mut running = intake(10);
    running.script.put([SourceEvent::Paused(2, true)]);
    running.script.put(from_peer(1, 50).chain(from_peer(2, 50)));
    running.settle();
    running.stop.cancel();
    assert_eq!(running.end(), [50, 50]);
}

#[tokio::test]
async fn receive_loop_sends_messages_that_arrive_while_its_last_backlog_waits_for_capacity() {
    let mut running = intake(10);
    running.script.put(from_peer(1, 20));
    running.settle();
    running.stop.cancel();
    running.settle();
    // Acknowledged by a link, although the component has begun to stop.
    running.script.put(from_peer(2, 1));
    assert_eq!(running.end(), [20, 1]);
}

#[tokio::test]
async fn receive_loop_splits_a_batch_and_keeps_its_order() {
    let mut running = intake(20);
    let mut builder = crate::message::BatchBuilder::default();
    for number in 0..90_u8 {
        let mut message = Message::new("a.b", vec![number]);
        message.set_client("1");
        message.ensure_id();
        builder.join(message, 100).unwrap();
    }
    running.script.put([SourceEvent::Messages {
        batch: builder.take().unwrap(),
        flow: Some(Flow::new(1)),
        origin: Origin::Peer(1),
    }]);
    let mut numbers = Vec::new();
    while numbers.len() < 90 {
        running.settle();
        let mut out = Vec::new();
        running.queue.recv_many(&mut out, 7).now_or_never();
        for envelope in out {
            let mut each = Vec::new();
            envelope.split_into(&mut each);
            numbers.extend(each.iter().map(|it| it.message.payload()[0]));
        }
    }
    assert!(numbers.into_iter().eq(0..90));
    running.settle();
    assert_eq!(running.script.credit_of(1), 90);
}
