//! Tests of a link server and its peers against a model: restarts of either side at any moment, connections that
//! break with and without a report, and routing ids that are reused.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::handshake::RESUBSCRIBE_LIMIT;
use super::peer::CLIENT_RECONNECT_GRACE;
use super::*;
use crate::link::session::{CreditWindow, Session, TaggedBatch, Transmission, VERSION};
use crate::link::{LinkPublication, header};
use crate::message::proto::{LinkHeader, LinkHello};

const OPTIONS: fn() -> LinkOptions = || LinkOptions {
    heartbeat: Duration::from_secs(3),
    idle_timeout: Duration::from_secs(10),
    reconnect_grace: Duration::from_millis(250),
    session_expiry: Duration::from_secs(20),
    ..LinkOptions::default()
};

/// A peer: what a `LinkClient` does with a session, without a socket.
struct Remote {
    hello: LinkHello,
    session: Session,
    is_open: bool,
    route: Bytes,
    lives: bool,
    sent: VecDeque<Frames>,
    arriving: VecDeque<Frames>,
    /// The bodies of the received messages.
    received: Vec<String>,
    /// Number of sessions that replaced the first one.
    renewals: usize,
    /// Why sessions were refused.
    refusals: Vec<String>,
}

impl Remote {
    fn new(hello: LinkHello, now: Instant) -> Self {
        Self {
            session: Self::begin(&hello, now),
            hello,
            is_open: false,
            route: Bytes::new(),
            lives: true,
            sent: VecDeque::new(),
            arriving: VecDeque::new(),
            received: Vec::new(),
            renewals: 0,
            refusals: Vec::new(),
        }
    }

    fn begin(hello: &LinkHello, now: Instant) -> Session {
        let id = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let window = CreditWindow {
            messages: 100,
            bytes: 1_000_000,
        };
        Session::connect(id, hello.clone(), window, OPTIONS().heartbeat, now)
    }

    fn transmit(&mut self, now: Instant) {
        while let Some(Transmission { header, frames }) = self.session.transmit(now) {
            let head = [self.route.clone(), header::encode(&header)];
            self.sent
                .push_back(head.into_iter().chain(frames).collect());
        }
    }

    fn receive(&mut self, now: Instant) {
        let Some(mut frames) = self.arriving.pop_front() else {
            return;
        };
        let mut frames = frames.drain(..);
        let header = header::decode(frames.nth(1).unwrap()).unwrap();
        if header.session != *self.session.id() {
            return;
        }
        let mut events = Vec::new();
        self.session.receive(now, &header, frames, &mut events);
        for event in events {
            if let SessionEvent::Refused(refusal) = &event {
                self.refusals.push(refusal.reason.clone());
            }
            match event {
                SessionEvent::Opened => self.is_open = true,
                SessionEvent::Messages(item) => {
                    let bytes = item.batch.bytes() as u64;
                    self.session.consume(item.len() as u64, bytes);
                    let text = |frame: Bytes| String::from_utf8(frame.to_vec()).unwrap();
                    self.received.extend(item.batch.frames().map(text));
                }
                SessionEvent::Forgotten
                | SessionEvent::Closed { .. }
                | SessionEvent::Refused(_) => {
                    let again = self.is_open;
                    let hello = LinkHello {
                        again,
                        ..self.hello.clone()
                    };
                    self.session = Self::begin(&hello, now);
                    self.renewals += 1;
                }
                SessionEvent::Draining
                | SessionEvent::Finished
                | SessionEvent::Cancelled(_)
                | SessionEvent::SubscriptionsReady
                | SessionEvent::ReportWanted { .. }
                | SessionEvent::Report(_)
                | SessionEvent::Request(_)
                | SessionEvent::Reply { .. } => {}
            }
        }
    }
}

/// Whether the closed connection is reported to the component.
type IsReported = bool;

struct World {
    now: Instant,
    links: LinkServer,
    inputs: mpsc::UnboundedReceiver<InboundEvent>,
    remotes: Vec<Remote>,
    /// Routing ids are numbers of connections, which restart with each run of the component.
    connections: u64,
    published: u64,
    vanished: Vec<String>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let (links, inputs) = Self::component(now);
        let hello = |role: &str, name: &str| LinkHello {
            version: VERSION,
            role: role.to_owned(),
            name: name.to_owned(),
            ..LinkHello::default()
        };
        let follows = |name: &str, topics: &[&str]| LinkHello {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            ..hello(SUBSCRIBER, name)
        };
        let calls = |name: &str| LinkHello {
            client: name.to_owned(),
            ..hello(CLIENT, name)
        };
        let hellos = [
            follows("first", &["news"]),
            follows("second", &["news", "sport"]),
            calls("anna"),
            calls("bert"),
            hello(WORKER, "worker"),
        ];
        let mut world = Self {
            now,
            links,
            inputs,
            remotes: hellos.map(|hello| Remote::new(hello, now)).into(),
            connections: 0,
            published: 0,
            vanished: Vec::new(),
        };
        for index in 0..world.remotes.len() {
            world.connect(index);
        }
        world
    }

    fn component(now: Instant) -> (LinkServer, mpsc::UnboundedReceiver<InboundEvent>) {
        let links = LinkServer::new(OPTIONS());
        *links.time.lock() = Some(now);
        links.state().output = ServerOutput::Recorded(VecDeque::new());
        assert!(links.claim_tasks());
        let _ = links.take_results();
        let inputs = links.take_calls().unwrap();
        let _ = links.claim_publications();
        links.set_in_place();
        (links, inputs)
    }

    /// Lets the component admit this many sessions from now on.
    fn limit_sessions(&mut self, max_sessions: usize) {
        let mut links = LinkServer::new(LinkOptions {
            max_sessions,
            ..OPTIONS()
        });
        std::mem::swap(&mut *links.state(), &mut *self.links.state());
        links.results = std::mem::take(&mut self.links.results);
        links.inputs = std::mem::take(&mut self.links.inputs);
        *links.time.lock() = Some(self.now);
        self.links = links;
    }

    fn connect(&mut self, index: usize) {
        self.connections += 1;
        self.remotes[index].route = Bytes::copy_from_slice(&self.connections.to_be_bytes());
    }

    /// A connection breaks, with all messages under way.
    fn cut(&mut self, index: usize, is_reported: IsReported) {
        let remote = &mut self.remotes[index];
        remote.sent.clear();
        remote.arriving.clear();
        if is_reported && remote.lives {
            self.links.record_disconnect(&remote.route);
        }
    }

    fn break_connection(&mut self, index: usize, is_reported: IsReported) {
        self.cut(index, is_reported);
        self.remotes[index].session.reconnected();
        self.connect(index);
    }

    fn restart_remote(&mut self, index: usize, is_reported: IsReported) {
        self.cut(index, is_reported);
        let hello = self.remotes[index].hello.clone();
        self.remotes[index] = Remote::new(hello, self.now);
        self.connect(index);
    }

    fn kill_remote(&mut self, index: usize, is_reported: IsReported) {
        self.cut(index, is_reported);
        self.remotes[index].lives = false;
    }

    fn restart_component(&mut self) {
        (self.links, self.inputs) = Self::component(self.now);
        self.connections = 0;
        for index in 0..self.remotes.len() {
            if self.remotes[index].lives {
                self.break_connection(index, false);
            }
        }
    }

    /// A peer opens another session on its connection, and forgets the first one.
    fn begin_again(&mut self, index: usize) {
        let remote = &mut self.remotes[index];
        remote.session = Remote::begin(&remote.hello, self.now);
    }

    fn publish(&mut self, topic: &str) {
        self.published += 1;
        let body = format!("{topic} {}", self.published);
        let mut deliveries = vec![LinkPublication {
            topic: topic.into(),
            batch: Bytes::from(body).into(),
        }];
        self.links.publish(&mut deliveries);
        self.route();
    }

    fn call(&mut self, index: usize) {
        if self.remotes[index].session.is_over() {
            return;
        }
        let frame = Bytes::from_static(b"call");
        let session = &mut self.remotes[index].session;
        session.submit(TaggedBatch::new(0, frame), self.now);
    }

    /// Delivers the messages that the component has sent to the connections.
    fn route(&mut self) {
        let mut state = self.links.state();
        let ServerOutput::Recorded(sent) = &mut state.output else {
            panic!("the output is recorded");
        };
        for frames in std::mem::take(sent) {
            let to = |remote: &&mut Remote| remote.lives && remote.route == frames[0];
            if let Some(remote) = self.remotes.iter_mut().find(to) {
                remote.arriving.push_back(frames);
            }
        }
    }

    fn transmit(&mut self, index: usize) {
        if self.remotes[index].lives {
            self.remotes[index].transmit(self.now);
        }
    }

    fn deliver_to_component(&mut self, index: usize) {
        if let Some(frames) = self.remotes[index].sent.pop_front() {
            self.links.receive(std::iter::once(frames));
            self.route();
        }
        // The part that handles calls passes them on.
        while let Ok(incoming) = self.inputs.try_recv() {
            let InboundEvent::Messages { peer, batches, .. } = incoming else {
                continue;
            };
            let messages = batches.iter().map(|batch| batch.len() as u64).sum();
            let bytes = batches.iter().map(|batch| batch.bytes() as u64).sum();
            let passed_on = std::iter::once((peer, messages, bytes));
            self.links.passed_on(passed_on);
        }
        self.route();
    }

    fn deliver_to_remote(&mut self, index: usize) {
        if self.remotes[index].lives {
            self.remotes[index].receive(self.now);
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            *self.links.time.lock() = Some(self.now);
            let vanished = self.links.tick();
            self.vanished
                .extend(vanished.iter().map(|name| name.to_string()));
            self.route();
        }
    }

    /// Runs without faults for a while.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for index in 0..self.remotes.len() {
                for _ in 0..4 {
                    self.transmit(index);
                    while !self.remotes[index].sent.is_empty() {
                        self.deliver_to_component(index);
                    }
                    while !self.remotes[index].arriving.is_empty() {
                        self.deliver_to_remote(index);
                    }
                }
            }
            self.wait(TICK);
        }
    }

    fn living(&self) -> usize {
        self.remotes.iter().filter(|remote| remote.lives).count()
    }

    fn assert_consistent(&self) {
        let state = self.links.state();
        let keys = |map: &HashMap<Bytes, PeerKey>| map.values().copied().collect::<HashSet<_>>();
        assert_eq!(keys(&state.sessions).len(), state.peers.len());
        for (route, key) in &state.routes {
            assert_eq!(
                state.peers[key].route, *route,
                "one connection, one session"
            );
        }
        for (id, key) in &state.sessions {
            assert_eq!(state.peers[key].id, *id);
        }
        let mut callers = BTreeMap::<Arc<str>, u32>::new();
        for peer in state.peers.values() {
            if matches!(peer.role, PeerRole::Consumer { makes_calls, .. } if makes_calls) {
                *callers.entry(peer.name.clone()).or_default() += 1;
            }
        }
        let counted: BTreeMap<_, _> = state.callers.clone().into_iter().collect();
        assert_eq!(counted, callers);
        let workers = state.peers.values();
        let workers =
            workers.filter(|it| matches!(it.role, PeerRole::Worker { .. }) && it.is_alive());
        assert_eq!(state.connected_workers, workers.count());
    }

    fn sessions(&self) -> usize {
        let state = self.links.state();
        state.peers.values().filter(|it| it.is_alive()).count()
    }

    /// Asserts that without further faults only sessions of living peers remain, and that each living peer
    /// receives each publication once, and in order.
    fn assert_heals(&mut self) {
        self.run(OPTIONS().idle_timeout + OPTIONS().reconnect_grace + 2 * TICK);
        self.assert_consistent();
        assert_eq!(
            self.sessions(),
            self.living(),
            "one session for each living peer"
        );
        for remote in &mut self.remotes {
            remote.received.clear();
        }
        let before = self.published;
        for number in 0..30 {
            self.publish(if number % 3 == 0 { "sport" } else { "news" });
            if number % 2 == 0 {
                self.publish("anna/1");
                self.publish("bert/1");
            }
        }
        let all = before + 1..=self.published;
        self.run(Duration::from_secs(2));
        for remote in self.remotes.iter().filter(|remote| remote.lives) {
            let LinkHello { topics, client, .. } = &remote.hello;
            let follows = |text: &&String| {
                let topic = text.split([' ', '/']).next().unwrap();
                topics.iter().any(|it| it == topic) || client == topic
            };
            let mut numbers = remote.received.iter().map(|text| {
                assert!(
                    follows(&text),
                    "`{text}` is not for `{}`",
                    remote.hello.name
                );
                let number = text.rsplit(' ').next().unwrap();
                number.parse::<u64>().unwrap()
            });
            let wanted = self.links_published(topics, client, all.clone());
            assert!(numbers.by_ref().eq(wanted), "`{}`", remote.hello.name);
        }
        // Lost sessions expire.
        self.run(OPTIONS().session_expiry);
        assert_eq!(self.links.state().peers.len(), self.living());
        self.assert_consistent();
    }

    /// Returns the numbers of the publications of [`assert_heals`](Self::assert_heals) that a peer subscribes to.
    fn links_published(
        &self,
        topics: &[String],
        client: &str,
        all: std::ops::RangeInclusive<u64>,
    ) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut number = *all.start();
        for index in 0..30 {
            let topic = if index % 3 == 0 { "sport" } else { "news" };
            if topics.iter().any(|it| it == topic) {
                numbers.push(number);
            }
            number += 1;
            if index % 2 == 0 {
                for name in ["anna", "bert"] {
                    if client == name {
                        numbers.push(number);
                    }
                    number += 1;
                }
            }
        }
        assert_eq!(number, all.end() + 1);
        numbers
    }
}

#[test]
fn session_is_not_adopted_by_a_component_that_was_restarted_before_the_first_message() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.restart_component();
    world.run(Duration::from_secs(1));
    assert_eq!(world.links.state().peers.len(), world.living());
    assert!(world.remotes.iter().all(|remote| remote.renewals == 1));
    world.assert_heals();
}

#[test]
fn peer_of_version_2_that_repeats_no_instance_leaves_no_session() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.restart_component();
    // A peer of version 2 sends no instance, so the component opens a new session.
    for index in 0..world.remotes.len() {
        world.transmit(index);
        let frames = world.remotes[index].sent.pop_front().unwrap();
        let mut header = header::decode(frames[1].clone()).unwrap();
        header.hello.as_mut().unwrap().instance = 0;
        let frames = [frames[0].clone(), header::encode(&header)];
        world
            .links
            .receive(std::iter::once(frames.into_iter().collect()));
        world.route();
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.links.state().peers.len(), world.living());
    world.assert_heals();
}

#[test]
fn second_session_on_a_connection_ends_the_first() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    for index in 0..world.remotes.len() {
        world.begin_again(index);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.sessions(), world.living());
    assert_eq!(
        world.vanished, [""; 0],
        "clients continue in their new sessions"
    );
    world.assert_heals();
}

#[test]
fn silent_peer_is_lost_after_the_idle_timeout_whatever_its_role() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    for index in 0..world.remotes.len() {
        world.kill_remote(index, false);
    }
    world.run(OPTIONS().idle_timeout - Duration::from_secs(4));
    assert_eq!(world.sessions(), world.remotes.len());
    world.run(Duration::from_secs(4) + 2 * TICK);
    assert_eq!(world.sessions(), 0);
    world.run(OPTIONS().session_expiry);
    assert_eq!(world.links.state().peers.len(), 0);
    world.vanished.sort();
    assert_eq!(world.vanished, ["anna", "bert"]);
}

#[test]
fn client_whose_connection_is_closed_vanishes_after_a_moment() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(2, true);
    world.break_connection(3, true);
    world.run(CLIENT_RECONNECT_GRACE - TICK);
    assert_eq!(world.vanished, [""; 0]);
    world.run(3 * TICK);
    assert_eq!(world.vanished, ["anna"]);
    world.assert_heals();
    assert_eq!(world.vanished, ["anna"]);
}

#[test]
fn client_with_another_session_has_not_vanished() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    // The closed connection is not reported, so the old session stays for a while.
    world.restart_remote(2, false);
    world.run(OPTIONS().idle_timeout + OPTIONS().session_expiry + Duration::from_secs(1));
    assert_eq!(world.links.state().peers.len(), world.living());
    assert_eq!(world.vanished, [""; 0]);
}

#[test]
fn restarted_subscriber_receives_missed_publications_once() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    for _ in 0..3 {
        world.publish("news");
    }
    world.restart_remote(0, false);
    world.run(Duration::from_secs(1));
    for _ in 0..3 {
        world.publish("news");
    }
    world.run(OPTIONS().idle_timeout + Duration::from_secs(1));
    let mut received = world.remotes[0].received.clone();
    received.sort();
    let all: Vec<_> = (1..=6).map(|number| format!("news {number}")).collect();
    assert_eq!(received, all);
    assert_eq!(world.links.state().peers.len(), world.living());
    world.assert_heals();
}

#[test]
fn second_subscriber_of_the_same_name_receives_no_duplicates_when_the_first_is_lost() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    let hello = world.remotes[0].hello.clone();
    world.remotes.push(Remote::new(hello, world.now));
    world.connect(5);
    world.run(Duration::from_secs(1));
    world.publish("news");
    world.run(Duration::from_secs(1));
    world.kill_remote(0, false);
    world.publish("news");
    world.run(OPTIONS().idle_timeout + Duration::from_secs(1));
    assert_eq!(world.remotes[5].received, ["news 1", "news 2"]);
    world.assert_heals();
}

#[test]
fn sign_of_life_over_another_connection_keeps_a_session() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    let id = world.remotes[4].session.id().clone();
    world.kill_remote(4, false);
    world.kill_remote(0, false);
    for _ in 0..10 {
        world.run(OPTIONS().heartbeat);
        let header = LinkHeader {
            alive: true,
            ..header::new(id.clone())
        };
        let frames = [Bytes::from_static(b"other"), header::encode(&header)];
        world
            .links
            .receive(std::iter::once(frames.into_iter().collect()));
    }
    assert_eq!(
        world.sessions(),
        4,
        "the subscriber is lost, the worker is not"
    );
    world.assert_consistent();
    world.run(OPTIONS().idle_timeout + 2 * TICK);
    assert_eq!(world.sessions(), 3);
}

#[test]
fn publisher_waits_for_a_dead_subscriber_no_longer_than_the_idle_timeout() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(0, false);
    for _ in 1..10_000 {
        world.publish("news");
    }
    assert!(world.links.state().subscriptions.full_since(1).is_none());
    world.publish("news");
    assert!(world.links.state().subscriptions.full_since(1).is_some());
    world.run(OPTIONS().idle_timeout + 3 * TICK);
    assert!(world.links.state().subscriptions.full_since(1).is_none());
    assert_eq!(world.links.state().peers.len(), 4);
    assert_eq!(world.remotes[1].received.len(), 10_000);
    world.assert_heals();
}

#[test]
fn retained_backlog_of_a_closed_subscriber_applies_backpressure_at_its_limit() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    let remote = &mut world.remotes[0];
    let header = remote.session.close();
    let frames = [remote.route.clone(), header::encode(&header)];
    remote.lives = false;
    world
        .links
        .receive(std::iter::once(frames.into_iter().collect()));
    let is_full = |world: &World| world.links.state().subscriptions.full_since(1).is_some();
    for _ in 1..10_000 {
        world.publish("news");
    }
    assert!(!is_full(&world));
    world.publish("news");
    assert!(
        is_full(&world),
        "the publisher waits for its next subscriber"
    );
    assert_eq!(world.links.state().subscriptions.retained(1), 10_000);
}

#[test]
fn client_that_returns_after_the_last_calls_were_received_has_not_finished() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    // All peers are lost.
    world.wait(OPTIONS().idle_timeout + TICK);
    world.links.drain_calls();
    assert!(world.links.calls_drained().now_or_never().is_some());
    world.call(2);
    world.remotes[2].session.finish();
    world.run(Duration::from_secs(1));
    assert!(world.remotes[2].session.is_acknowledged());
    let state = world.links.state();
    let anna = state.peers.values().find(|peer| &*peer.name == "anna");
    let role = &anna.expect("it has returned").role;
    // So its session closes without `finished`, and it sends the call again.
    assert!(
        matches!(role, PeerRole::Consumer { finished, .. } if !finished),
        "{role:?}"
    );
}

#[test]
fn publications_for_a_subscriber_that_leaves_during_the_drain_were_not_delivered() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    assert!(world.links.state().has_delivered_all());
    world.links.drain_calls();
    world.publish("sport");
    let remote = &mut world.remotes[1];
    let header = remote.session.close();
    let frames = [remote.route.clone(), header::encode(&header)];
    world
        .links
        .receive(std::iter::once(frames.into_iter().collect()));
    assert!(!world.links.state().has_delivered_all());
}

#[test]
fn slow_subscriber_is_disconnected_after_the_timeout_and_one_that_reads_is_not() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    let limit = OPTIONS().slow_consumer_timeout.unwrap();
    // Both subscribers show signs of life; one of them reads nothing.
    let beat = |world: &mut World, time: Duration| {
        let end = world.now + time;
        while world.now < end {
            for index in [0, 1] {
                let session = &mut world.remotes[index].session;
                let header = header::new(session.id().clone());
                let frames = [
                    world.remotes[index].route.clone(),
                    header::encode(&LinkHeader {
                        alive: true,
                        ..header
                    }),
                ];
                world
                    .links
                    .receive(std::iter::once(frames.into_iter().collect()));
            }
            for index in 2..5 {
                world.transmit(index);
                while !world.remotes[index].sent.is_empty() {
                    world.deliver_to_component(index);
                }
                while !world.remotes[index].arriving.is_empty() {
                    world.deliver_to_remote(index);
                }
            }
            world.wait(Duration::from_secs(1));
        }
    };
    for _ in 0..10_000 {
        world.publish("news");
    }
    let begin = world.now;
    while world.now < begin + limit - Duration::from_secs(5) {
        // The second subscriber reads a little.
        world.deliver_to_remote(1);
        world.transmit(1);
        while !world.remotes[1].sent.is_empty() {
            world.deliver_to_component(1);
        }
        beat(&mut world, Duration::from_secs(5));
    }
    assert_eq!(world.sessions(), 5);
    beat(&mut world, Duration::from_secs(7));
    assert_eq!(
        world.sessions(),
        4,
        "the subscriber that reads nothing is disconnected"
    );
    let names = |world: &World| {
        let state = world.links.state();
        let names = state.peers.values().map(|peer| peer.name.to_string());
        names.collect::<Vec<_>>()
    };
    assert!(names(&world).contains(&"second".to_owned()));

    // The first one's queue was full, so that the refusal was lost. It is sent again when the subscriber reads again.
    world.remotes[0].arriving.clear();
    world.transmit(0);
    while !world.remotes[0].sent.is_empty() {
        world.deliver_to_component(0);
    }
    world.deliver_to_remote(0);
    let refusals = &world.remotes[0].refusals;
    assert!(
        refusals.len() == 1 && refusals[0].starts_with("slow consumer"),
        "{refusals:?}"
    );
    world.run(Duration::from_secs(1));
    assert!(names(&world).contains(&"first".to_owned()));
}

#[test]
fn stalled_client_is_disconnected_after_the_stall_timeout() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(2, false);
    for _ in 1..40_000 {
        world.publish("anna/1");
    }
    let is_full = |world: &World| world.links.state().subscriptions.full_since(3).is_some();
    assert!(!is_full(&world));
    // The backlog of the client is full, so the publisher waits for it for a moment.
    world.publish("anna/1");
    assert!(is_full(&world));
    world.wait(CLIENT_STALL_LIMIT);
    assert!(!is_full(&world));
    assert_eq!(world.vanished, ["anna"]);
    world.assert_heals();
}

const CLIENT_STALL_LIMIT: Duration = Duration::from_millis(1300);

#[test]
fn lost_session_is_evicted_for_a_new_one_at_the_limit() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    for index in 0..5 {
        world.kill_remote(index, false);
    }
    world.run(OPTIONS().idle_timeout + 2 * TICK);
    assert_eq!((world.sessions(), world.links.state().peers.len()), (0, 5));
    world.limit_sessions(5);
    for index in 0..5 {
        let hello = world.remotes[index].hello.clone();
        world.remotes[index] = Remote::new(hello, world.now);
        world.connect(index);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.sessions(), 5);
    let hello = world.remotes[0].hello.clone();
    world.remotes.push(Remote::new(hello, world.now));
    world.connect(5);
    world.run(Duration::from_secs(1));
    assert_eq!(world.sessions(), 5, "one beyond the limit is refused");
    assert!(world.remotes[5].renewals > 0);
}

#[test]
fn subscriber_that_returns_at_the_limit_of_sessions_receives_what_was_retained_for_it() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(0, false);
    world.publish("news");
    world.run(OPTIONS().idle_timeout + 2 * TICK);
    world.publish("news");
    world.limit_sessions(5);
    // Its lost session is the only one that could make room.
    world.restart_remote(0, false);
    world.run(Duration::from_secs(1));
    assert_eq!(world.remotes[0].received, ["news 1", "news 2"]);
    assert_eq!(world.sessions(), 5);
}

#[test]
fn client_whose_session_is_evicted_has_vanished() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(2, false);
    world.run(OPTIONS().idle_timeout + 2 * TICK);
    world.limit_sessions(5);
    let hello = LinkHello {
        name: "carl".to_owned(),
        client: "carl".to_owned(),
        ..world.remotes[2].hello.clone()
    };
    world.remotes.push(Remote::new(hello, world.now));
    world.connect(5);
    world.run(2 * TICK);
    assert_eq!(world.sessions(), 5);
    assert_eq!(world.vanished, ["anna"]);
}

#[test]
fn client_that_returns_before_the_tick_after_its_eviction_has_not_vanished() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.kill_remote(2, false);
    world.run(OPTIONS().idle_timeout + 2 * TICK);
    world.limit_sessions(5);
    // It is the only session that is lost, so the new one of the same client evicts it.
    world.restart_remote(2, false);
    world.run(3 * TICK);
    assert_eq!(world.sessions(), 5);
    assert_eq!(world.vanished, [""; 0]);
}

#[derive(Debug, Clone)]
enum Step {
    Transmit(usize),
    ToComponent(usize),
    ToRemote(usize),
    Publish(&'static str),
    Call(usize),
    Cut(usize, IsReported),
    RestartRemote(usize, IsReported),
    KillRemote(usize, IsReported),
    BeginAgain(usize),
    RestartComponent,
    Wait(u64),
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let remote = 0..5_usize;
    let cut = (remote.clone(), any::<bool>());
    prop_oneof![
        6 => remote.clone().prop_map(Step::Transmit),
        6 => remote.clone().prop_map(Step::ToComponent),
        6 => remote.clone().prop_map(Step::ToRemote),
        3 => prop::sample::select(vec!["news", "sport", "anna/1", "bert"]).prop_map(Step::Publish),
        2 => (2..4_usize).prop_map(Step::Call),
        1 => cut.clone().prop_map(|(index, is_reported)| Step::Cut(index, is_reported)),
        1 => cut.clone().prop_map(|(index, is_reported)| Step::RestartRemote(index, is_reported)),
        1 => cut.prop_map(|(index, is_reported)| Step::KillRemote(index, is_reported)),
        1 => remote.prop_map(Step::BeginAgain),
        1 => Just(Step::RestartComponent),
        1 => (1..3000_u64).prop_map(Step::Wait),
        1 => (1..3000_u64).prop_map(Step::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn links_recover_from_random_restarts(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new();
        for step in steps {
            let lives = |world: &World, index: usize| world.remotes[index].lives;
            match step {
                Step::Transmit(index) => world.transmit(index),
                Step::ToComponent(index) => world.deliver_to_component(index),
                Step::ToRemote(index) => world.deliver_to_remote(index),
                Step::Publish(topic) => world.publish(topic),
                Step::Call(index) if lives(&world, index) => world.call(index),
                Step::Cut(index, is_reported) if lives(&world, index) => world.break_connection(index, is_reported),
                Step::RestartRemote(index, is_reported) => world.restart_remote(index, is_reported),
                Step::KillRemote(index, is_reported) => world.kill_remote(index, is_reported),
                Step::BeginAgain(index) if lives(&world, index) => world.begin_again(index),
                Step::RestartComponent => world.restart_component(),
                Step::Wait(milliseconds) => world.wait(Duration::from_millis(milliseconds)),
                Step::Run(milliseconds) => world.run(Duration::from_millis(milliseconds)),
                _ => {}
            }
            world.assert_consistent();
        }
        world.assert_heals();
    }
}

#[test]
fn restarted_component_waits_until_all_of_its_followers_are_back() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    let followers = world.links.state().subscriptions.followers();
    assert!(followers >= 2);
    assert!(world.links.state().resubscriptions.is_none());
    for remote in &mut world.remotes {
        remote.hello.followers = remote.session.peer_followers();
    }
    let told = world.remotes.iter().map(|it| it.hello.followers as usize);
    assert_eq!(told.max(), Some(followers));

    world.restart_component();
    let is_waiting = |world: &World| {
        let state = world.links.state();
        let connected = state.subscriptions.followers();
        let waits = state.resubscriptions;
        waits.map(|it| (connected, it.are_missing(world.now)))
    };
    let mut seen = Vec::new();
    while world.links.state().subscriptions.followers() < followers {
        world.run(TICK);
        seen.extend(is_waiting(&world));
    }
    for (connected, waits) in seen {
        assert_eq!(waits, connected < followers);
    }
    assert_eq!(is_waiting(&world), Some((followers, false)));
}

#[test]
fn restarted_component_does_not_wait_for_a_lost_follower_forever() {
    let begin = clock::now();
    let mut waits = None;
    let second = begin + Duration::from_secs(1);
    Resubscriptions::returned(&mut waits, 2, true, begin);
    Resubscriptions::returned(&mut waits, 1, false, second);
    assert!(waits.unwrap().are_missing(second));
    assert!(!waits.unwrap().are_missing(begin + RESUBSCRIBE_LIMIT));
    Resubscriptions::returned(&mut waits, 2, true, second);
    assert!(!waits.unwrap().are_missing(second));
    // A peer of an earlier version does not say how many there were.
    let mut waits = None;
    Resubscriptions::returned(&mut waits, 0, true, begin);
    assert!(waits.unwrap().are_missing(second));
}
