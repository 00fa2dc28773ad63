//! The one session of a worker with its master: tasks, registration, cancellation and requests over one connection; and
//! workers and masters that speak link version 4, which use several.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use palm::ComponentHandle;
use palm::inspect::{Operator, OperatorError, WorkerFailure};
use palm::prelude::*;
use palm::socket::{Dealer, Frames, Request, Router};
use palm::testing::Restartable;
use palm_proto::message::proto::{Descriptor, Function, LinkHeader, LinkHello, LinkWelcome};
use prost::Message as _;

use super::link::CutProxy;
use super::setup::{
    ANY, ANY_NAME, Gate, STALLED, address, check, connect, eventually, options, paused, soon,
    unbound_name,
};

const VERSION: u32 = 6;
const CANCEL_TOPIC: &str = "\0palm.cancel";

#[derive(Clone)]
struct Hand {
    begun: Gate,
    dropped: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    /// Waits until the call is cancelled.
    #[palm::method]
    async fn wait(&self) {
        struct Dropped(Gate);

        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.count_one();
            }
        }

        let _dropped = Dropped(self.dropped.clone());
        self.begun.count_one();
        std::future::pending().await
    }

    /// Stores the text in the cache of the master.
    #[palm::method]
    async fn remember(
        &self,
        text: String,
        context: Context,
    ) -> Result<Option<Bytes>, palm::CacheError> {
        context.cache().set("text", text).await?;
        context.cache().get("text").await
    }
}

impl Hand {
    fn new() -> Self {
        Self {
            begun: Gate::closed(),
            dropped: Gate::closed(),
        }
    }

    async fn connect_to(&self, at: &str) -> ComponentHandle {
        let sockets = options().max_reconnect_delay(std::time::Duration::from_millis(20));
        let worker = self.clone().connect(at).socket_options(sockets);
        worker.spawn().await.unwrap()
    }

    /// Drops a call that the worker runs, and waits until the worker has dropped it, too.
    async fn cancel_a_call(&self, client: &Client, between: impl FnOnce()) {
        let (begun, dropped) = (self.begun.count(), self.dropped.count());
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.eval("master.wait", Bytes::new()).await })
        };
        self.begun.arrived(begun + 1).await;
        between();
        call.abort();
        self.dropped.arrived(dropped + 1).await;
    }
}

async fn master(at: &str) -> ComponentHandle {
    Master::new("master").bind(at).spawn().await.unwrap()
}

/// Returns the functions that the master lists, with their documentation.
async fn listed(master: &ComponentHandle) -> BTreeSet<(String, String)> {
    let client = connect("master", master).await;
    let descriptor = client.descriptor().unwrap();
    let functions = descriptor.functions.iter();
    functions
        .map(|function| (function.name.clone(), function.doc.clone()))
        .collect()
}

fn is_listed(functions: &BTreeSet<(String, String)>, name: &str) -> bool {
    functions.iter().any(|(listed, _)| listed == name)
}

#[test]
fn linked_worker_has_one_connection_and_one_session() {
    check(async {
        let master = master(ANY).await;
        let line = CutProxy::new(master.db_address()).await;
        let hand = Hand::new();
        let worker = hand.connect_to(&line.address).await;
        let client = connect("master", &master).await;
        let answer = client.eval("master.remember", "a text").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "a text");
        hand.cancel_a_call(&client, || ()).await;
        let remember = "Stores the text in the cache of the master.";
        let functions = listed(&master).await;
        assert!(
            functions.contains(&("remember".into(), remember.into())),
            "{functions:?}"
        );
        eventually("the session of the worker and of the client", || {
            master.metrics().sessions == 2
        })
        .await;
        assert_eq!(line.connections.load(Ordering::Relaxed), 1);

        // It has one connection again after that one was cut, even if a call is cancelled meanwhile.
        for cuts in 1..=3 {
            hand.cancel_a_call(&client, || line.cut()).await;
            let answer = client.eval("master.remember", "again").into_future();
            assert_eq!(soon("an answer", answer).await.unwrap(), "again");
            assert_eq!(line.connections.load(Ordering::Relaxed), 1 + cuts);
        }
        assert_eq!(master.metrics().sessions, 2);
        soon("the drain", worker.shutdown()).await.unwrap();
        eventually("the session of the client", || {
            master.metrics().sessions == 1
        })
        .await;
    });
}

#[test]
fn call_is_cancelled_while_its_worker_drains() {
    paused(async {
        let master = master(ANY_NAME).await;
        let hand = Hand::new();
        let worker = hand.connect_to(master.db_address()).await;
        let client = connect("master", &master).await;
        let shutdown = Arc::new(Mutex::new(None));
        hand.cancel_a_call(&client, || {
            let drained = tokio::spawn(worker.shutdown());
            shutdown.lock().unwrap().replace(drained);
        })
        .await;
        let drained = shutdown.lock().unwrap().take().unwrap();
        soon("the drain", drained).await.unwrap().unwrap();
    });
}

#[test]
fn worker_registers_and_is_sent_cancellations_again_after_its_master_was_killed() {
    paused(async {
        let at = unbound_name();
        let bind = at.clone();
        let master = Restartable::start(move || Master::new("master").bind(&*bind).spawn());
        let mut master = soon("the start", master).await.unwrap();
        let hand = Hand::new();
        let _worker = hand.connect_to(&at).await;
        for _ in 0..3 {
            let handle = master.handle().unwrap();
            let client = connect("master", handle).await;
            let answer = client.eval("master.remember", "a text").into_future();
            assert_eq!(soon("an answer", answer).await.unwrap(), "a text");
            assert!(is_listed(&listed(handle).await, "remember"));
            hand.cancel_a_call(&client, || ()).await;
            drop(client);
            soon("the restart", master.restart()).await.unwrap();
        }
    });
}

/// One end of a link whose headers are written by hand.
struct RawPeer {
    dealer: Dealer,
    session: Bytes,
    received: Vec<(LinkHeader, Frames)>,
}

impl RawPeer {
    /// Opens a session, and returns it with the welcome.
    async fn open(master: &ComponentHandle, hello: LinkHello) -> (Self, LinkWelcome) {
        let dealer = Dealer::connect(&address(master.db_address()), &options()).await;
        let mut peer = Self {
            dealer: dealer.unwrap(),
            session: Bytes::copy_from_slice(&fastrand::u128(..).to_be_bytes()),
            received: Vec::new(),
        };
        let welcome = peer.greet(hello).await;
        (peer, welcome)
    }

    async fn greet(&mut self, hello: LinkHello) -> LinkWelcome {
        let header = LinkHeader {
            hello: Some(hello),
            ..self.header()
        };
        self.send(header).await;
        let is_welcome = |header: &LinkHeader, _: &Frames| header.welcome;
        self.receive_until(is_welcome).await
    }

    fn header(&self) -> LinkHeader {
        LinkHeader {
            protocol: u32::from_le_bytes(*b"PLK1"),
            session: self.session.clone(),
            credit_messages: 100,
            credit_bytes: 1 << 40,
            ..LinkHeader::default()
        }
    }

    async fn send(&mut self, header: LinkHeader) {
        let frames = std::iter::once(header.encode_to_vec().into()).collect();
        soon("sending", self.dealer.send(frames)).await.unwrap();
    }

    async fn receive_until<T>(&mut self, found: impl Fn(&LinkHeader, &Frames) -> Option<T>) -> T {
        loop {
            let mut messages = Vec::new();
            let received = self.dealer.recv_many(&mut messages, 1);
            soon("a header", received).await.unwrap();
            let mut message = messages.pop().unwrap();
            let frames: Frames = message.drain(1..).collect();
            let header = LinkHeader::decode(message[0].clone()).unwrap();
            let result = found(&header, &frames);
            self.received.push((header, frames));
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// The `hello` of a worker with the function `raw`.
fn worker_of(version: u32) -> LinkHello {
    LinkHello {
        version,
        role: "worker".to_owned(),
        name: "raw".to_owned(),
        functions: vec![raw_function()],
        concurrency: 1,
        ..LinkHello::default()
    }
}

fn raw_function() -> Function {
    Function {
        name: "raw".to_owned(),
        ..Function::default()
    }
}

fn abandon_a_call(client: &Client) -> tokio::task::JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        let _ = client.eval("master.raw", Bytes::new()).await;
    })
}

fn first_frame(_: &LinkHeader, frames: &Frames) -> Option<Bytes> {
    frames.first().cloned()
}

#[test]
fn worker_of_the_current_version_is_registered_and_sent_cancelled_calls_until_it_acknowledges_them()
{
    paused(async {
        let master = master(ANY_NAME).await;
        let (mut worker, welcome) = RawPeer::open(&master, worker_of(VERSION + 1)).await;
        assert_eq!(welcome.version, VERSION);
        assert!(is_listed(&listed(&master).await, "raw"));
        let client = connect("master", &master).await;
        let call = abandon_a_call(&client);
        let task = worker.receive_until(first_frame).await;
        let topic = Message::decode(task).unwrap().client().to_owned();
        call.abort();
        let list = |header: &LinkHeader, _: &Frames| header.cancelled.first().cloned();
        assert_eq!(worker.receive_until(list).await, topic);
        // On the next connection it is sent again.
        let dealer = Dealer::connect(&address(master.db_address()), &options()).await;
        worker.dealer = dealer.unwrap();
        let hello = LinkHello {
            instance: welcome.instance,
            ..worker_of(VERSION)
        };
        worker.greet(hello).await;
        let greeted = worker.received.len() - 1;
        if worker.received[greeted].0.cancelled.is_empty() {
            assert_eq!(worker.receive_until(list).await, topic);
        }
        let acknowledgement = LinkHeader {
            received: 1,
            received_cancelled: 1,
            answer: true,
            ..worker.header()
        };
        worker.send(acknowledgement).await;
        let is_next = |header: &LinkHeader, _: &Frames| {
            (header.first_cancelled == 1 && header.cancelled.is_empty()).then_some(())
        };
        worker.receive_until(is_next).await;
    });
}

#[test]
fn worker_of_version_4_registers_by_offer_and_subscribes_to_cancellations() {
    paused(async {
        let master = master(ANY_NAME).await;
        let (mut worker, welcome) = RawPeer::open(&master, worker_of(4)).await;
        assert_eq!(welcome.version, 4);
        assert!(!is_listed(&listed(&master).await, "raw"));
        let subscriber = LinkHello {
            version: 4,
            role: "subscriber".to_owned(),
            topics: vec![CANCEL_TOPIC.to_owned()],
            ..LinkHello::default()
        };
        let (mut subscriber, _) = RawPeer::open(&master, subscriber).await;
        let request = Request::connect(&address(master.db_address()), &options()).await;
        let descriptor = Descriptor {
            functions: vec![raw_function()],
            ..Descriptor::default()
        };
        let offer = Message::new("master.offer", descriptor.encode_to_vec()).encode();
        let reply = request.unwrap().request(offer, STALLED).await;
        assert_eq!(reply.unwrap(), "1");
        assert!(is_listed(&listed(&master).await, "raw"));

        let client = connect("master", &master).await;
        let call = abandon_a_call(&client);
        let task = worker.receive_until(first_frame).await;
        call.abort();
        let list = subscriber.receive_until(first_frame).await;
        assert_eq!(list, Message::decode(task).unwrap().client());
        let probe = LinkHeader {
            received: 1,
            answer: true,
            ..worker.header()
        };
        worker.send(probe).await;
        worker.receive_until(|_, _| Some(())).await;
        let cancelled = worker.received.iter().map(|(header, _)| &header.cancelled);
        assert_eq!(cancelled.flatten().count(), 0);
    });
}

/// A master that speaks version 4 of the link protocol.
struct OldMaster {
    router: Router,
    at: String,
    /// The keys that peers have read.
    read: Vec<String>,
    /// The descriptors of offers.
    offers: Vec<Descriptor>,
    /// The sessions, with their routing ids and roles.
    sessions: Vec<(Bytes, Bytes, LinkHello)>,
}

impl OldMaster {
    async fn bind() -> Self {
        let (router, bound) = Router::bind(&address(ANY_NAME), &options()).await.unwrap();
        Self {
            router,
            at: bound.to_string(),
            read: Vec::new(),
            offers: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// Answers peers until the condition holds.
    async fn serve_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let mut messages = Vec::new();
            let received = self.router.recv_many(&mut messages, 1);
            soon("a message", received).await.unwrap();
            let frames = messages.pop().unwrap();
            match LinkHeader::decode(frames[1].clone()) {
                Ok(header) if frames[1].starts_with(b"\x0dPLK1") => {
                    self.receive_header(&frames[0], header);
                }
                _ => self.reply(frames),
            }
        }
    }

    fn receive_header(&mut self, route: &Bytes, header: LinkHeader) {
        let mut answer = header.answer.then(|| self.header(&header.session));
        if let Some(hello) = header.hello {
            let welcome = LinkWelcome {
                version: 4,
                instance: 7,
                idle_timeout_ms: 15_000,
                component: 1,
            };
            answer = Some(LinkHeader {
                welcome: Some(welcome),
                in_place: true,
                ..self.header(&header.session)
            });
            self.sessions.retain(|(_, id, _)| *id != header.session);
            self.sessions.push((route.clone(), header.session, hello));
        }
        if let Some(answer) = answer {
            self.send(route, &answer, None);
        }
    }

    fn reply(&mut self, mut frames: Frames) {
        let request = Message::decode(frames.pop().unwrap()).unwrap();
        let reply = match (request.function(), &request.payload()[..]) {
            (function, offer) if function.ends_with(".offer") => {
                self.offers.push(Descriptor::decode(offer).unwrap());
                Bytes::from_static(b"1")
            }
            (_, key) => {
                self.read.push(String::from_utf8(key.to_vec()).unwrap());
                let descriptor = Descriptor {
                    version: "0.1.0".to_owned(),
                    kind: "master".to_owned(),
                    name: "master".to_owned(),
                    links: ["worker", "client", "subscriber"].map(str::to_owned).into(),
                    ..Descriptor::default()
                };
                descriptor.encode_to_vec().into()
            }
        };
        frames.push(reply);
        self.router.try_send(frames).unwrap();
    }

    fn header(&self, session: &Bytes) -> LinkHeader {
        LinkHeader {
            protocol: u32::from_le_bytes(*b"PLK1"),
            session: session.clone(),
            credit_messages: 100,
            credit_bytes: 1 << 40,
            ..LinkHeader::default()
        }
    }

    fn send(&self, route: &Bytes, header: &LinkHeader, message: Option<Bytes>) {
        let frames = [route.clone(), header.encode_to_vec().into()];
        let frames = frames.into_iter().chain(message).collect();
        self.router.try_send(frames).unwrap();
    }

    /// Sends the first message of the session in this role.
    fn send_first(&self, role: &str, tag: u64, message: Bytes) {
        let session = self.sessions.iter().find(|(.., hello)| hello.role == role);
        let (route, session, _) = session.unwrap();
        let header = LinkHeader {
            tags: vec![tag],
            ..self.header(session)
        };
        self.send(route, &header, Some(message));
    }
}

#[test]
fn worker_registers_by_offer_and_subscribes_to_cancellations_at_a_master_of_version_4() {
    paused(async {
        let mut master = OldMaster::bind().await;
        let hand = Hand::new();
        let _worker = hand.connect_to(&master.at).await;
        master
            .serve_until(|it| it.sessions.len() == 2 && it.offers.len() == 1)
            .await;
        let mut offered = master.offers[0].functions.iter();
        assert!(offered.any(|function| function.name == "remember"));
        assert_eq!(master.read, ["palm"]);
        let (worker, subscriber) = match &master.sessions[..] {
            [(worker, _, hello), (subscriber, ..)] if hello.role == "worker" => {
                (worker, subscriber)
            }
            [(subscriber, ..), (worker, ..)] => (worker, subscriber),
            _ => panic!("it has two sessions"),
        };
        assert_ne!(worker, subscriber);
        let topics = master.sessions.iter().flat_map(|(.., hello)| &hello.topics);
        assert!(topics.eq([CANCEL_TOPIC]));

        let mut task = Message::new("master.wait", Bytes::new());
        task.set_client("client/1");
        master.send_first("worker", 2, task.encode());
        hand.begun.arrived(1).await;
        master.send_first("subscriber", 1, Bytes::from_static(b"client/1"));
        hand.dropped.arrived(1).await;
    });
}

#[test]
fn client_reads_the_descriptor_of_a_component_once() {
    paused(async {
        let mut master = OldMaster::bind().await;
        let at = master.at.clone();
        let client = tokio::select! {
            client = Client::connect("master", &*at) => client.unwrap(),
            () = master.serve_until(|_| false) => unreachable!(),
        };
        assert_eq!(master.read, ["palm"]);
        let descriptor = client.descriptor().unwrap();
        assert_eq!(descriptor.kind, "master");
    });
}

/// Returns why the worker called `name` cannot be drained.
async fn undrained(master: &ComponentHandle, name: &str) -> (WorkerFailure, String) {
    let operator = Operator::connect(master.db_address()).await.unwrap();
    let operator = operator.worker(name);
    let error = soon("the error", operator.drain()).await.unwrap_err();
    let OperatorError::Worker {
        failure, reason, ..
    } = error
    else {
        panic!("{error:?}");
    };
    (failure, reason)
}

#[test]
fn operator_learns_why_a_worker_of_another_version_is_not_drained() {
    paused(async {
        let master = master(ANY_NAME).await;
        let named = |version, name: &str| LinkHello {
            name: name.to_owned(),
            ..worker_of(version)
        };
        let (mut old, _) = RawPeer::open(&master, named(5, "old")).await;
        let (mut silent, _) = RawPeer::open(&master, named(VERSION, "silent")).await;
        let (failure, reason) = undrained(&master, "old").await;
        assert_eq!(failure, WorkerFailure::Unsupported);
        assert!(reason.contains("an earlier version of palm"), "{reason}");
        let (failure, reason) = undrained(&master, "silent").await;
        assert_eq!(failure, WorkerFailure::Timeout);
        assert!(reason.contains("has not replied"), "{reason}");
        let request = |header: &LinkHeader, _: &Frames| header.request.clone();
        let request = silent.receive_until(request).await;
        assert_eq!((request.number, &*request.verb), (1, "drain"));
        // The next request is another one. The worker leaves instead of a reply.
        let leaves = async {
            let next = |header: &LinkHeader, _: &Frames| {
                let request = header.request.as_ref()?;
                (request.number == 2).then_some(())
            };
            silent.receive_until(next).await;
            let closed = LinkHeader {
                closed: true,
                ..silent.header()
            };
            silent.send(closed).await;
        };
        let ((failure, _), ()) = tokio::join!(undrained(&master, "silent"), leaves);
        assert_eq!(failure, WorkerFailure::Gone);
        let (failure, reason) = undrained(&master, "silent").await;
        assert_eq!(failure, WorkerFailure::Unknown);
        assert!(reason.contains("there are `old`"), "{reason}");
        let answered = LinkHeader {
            answer: true,
            ..old.header()
        };
        old.send(answered).await;
        old.receive_until(|_, _| Some(())).await;
        let was_asked = old.received.iter().any(|(it, _)| it.request.is_some());
        assert!(!was_asked, "an earlier version is sent no request");
    });
}

#[test]
fn operator_learns_that_workers_without_a_link_have_no_names() {
    paused(async {
        let master = master(ANY_NAME).await;
        let address = |key| master.address(key).unwrap().to_owned();
        let hand = Hand::new();
        let worker = hand
            .clone()
            .connect(master.db_address())
            .name("hand")
            .push_address(address("worker_push_address"))
            .pull_address(address("worker_pull_address"));
        let _worker = worker.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let answer = client.eval("master.remember", "a text").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "a text");
        let (failure, reason) = undrained(&master, "hand").await;
        assert_eq!(failure, WorkerFailure::Unknown);
        assert!(reason.contains("workers without a link"), "{reason}");
    });
}
