//! How much memory peers can make a component keep: each test drives a component, in a process of its own, to one
//! of the limits that ARCHITECTURE lists, with a peer that does nothing else, and sees it serve others meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::{Dealer, Frames, Request, SocketOptions};
use palm::{ComponentHandle, LinkOptions, QueueLimits};
use prost::Message as _;

use super::lifecycle::Process;
use super::setup::{ANY, address, check, check_for, connect, finally, options, soon};

const MIB: usize = 1024 * 1024;

/// The limits of the component in [`component`], so that they are reached soon.
const UNREAD: usize = 48 * MIB;
const BACKLOG: usize = 48 * MIB;
const QUEUE: usize = 16 * MIB;

/// What a process may take besides the limit that a test is about: buffers of sockets, a message that each connection
/// is receiving, and what its allocator does not return.
const SLACK: usize = 128 * MIB;

struct Held;

#[palm::server(name = "held")]
impl Held {
    /// Returns once the cache has the key `open`.
    #[palm::method]
    async fn wait(&self, payload: Bytes, context: Context) -> String {
        while !matches!(context.cache().get("open").await, Ok(Some(_))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        payload.len().to_string()
    }

    #[palm::method]
    fn big(&self) -> Vec<u8> {
        vec![b'x'; 4 * MIB]
    }

    #[palm::method]
    fn size(&self, payload: Bytes) -> String {
        payload.len().to_string()
    }
}

/// The component of a process, see [`Process`].
pub(crate) async fn component(role: &str, db_address: String) -> palm::Result<ComponentHandle> {
    if role == "memory_master" {
        return Master::new("master").bind(db_address).spawn().await;
    }
    let mut links = LinkOptions::default();
    if role == "memory_limited" {
        links.max_unread_bytes = UNREAD;
        links.max_backlog_bytes = BACKLOG;
    }
    let queues = QueueLimits {
        bytes: QUEUE,
        ..QueueLimits::default()
    };
    let held = Held.bind(db_address).concurrency(2);
    held.link_options(links).queue_limits(queues).spawn().await
}

/// A component in a process, and what that took when it began.
struct Measured {
    process: Process,
    begin: usize,
}

impl Measured {
    async fn run(role: &'static str) -> Self {
        let process = Process::run(role, &[]).await;
        let begin = process.memory("Rss");
        Self { process, begin }
    }

    fn db_address(&self) -> &str {
        &self.process.addresses["db_address"]
    }

    /// How many bytes the process takes more than when it began, at the most so far.
    fn peak(&self) -> usize {
        self.process.peak().saturating_sub(self.begin)
    }

    fn assert_within(&self, limit: usize) {
        let peak = self.peak();
        assert!(
            peak <= limit + SLACK,
            "{} MiB more than at the beginning, of {} MiB",
            peak / MIB,
            limit / MIB
        );
    }

    async fn request(&self) -> Request {
        Request::connect(&address(self.db_address()), &options())
            .await
            .unwrap()
    }
}

/// A request to the cache service. Returns the reply.
async fn ask(request: &Request, function: &str, cache: &str, payload: impl Into<Bytes>) -> Bytes {
    let mut message = Message::new(function, payload.into());
    message.set_cache(cache.to_owned());
    let reply = request.request(message.into_frame(), Duration::from_secs(30));
    reply.await.unwrap()
}

/// The fields of `palm.proto` that these tests need.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(fixed32, tag = "1")]
        pub(super) protocol: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) session: Bytes,
        #[prost(uint64, tag = "3")]
        pub(super) first: u64,
        #[prost(uint64, tag = "4")]
        pub(super) received: u64,
        #[prost(uint64, tag = "5")]
        pub(super) credit_messages: u64,
        #[prost(uint64, tag = "6")]
        pub(super) credit_bytes: u64,
        #[prost(message, optional, tag = "10")]
        pub(super) hello: Option<Hello>,
        #[prost(message, optional, tag = "11")]
        pub(super) welcome: Option<Welcome>,
        #[prost(bool, tag = "14")]
        pub(super) closed: bool,
        #[prost(message, optional, tag = "15")]
        pub(super) refusal: Option<Refusal>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Hello {
        #[prost(uint32, tag = "1")]
        pub(super) version: u32,
        #[prost(string, tag = "2")]
        pub(super) role: String,
        #[prost(string, tag = "3")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "4")]
        pub(super) functions: Vec<Function>,
        #[prost(string, repeated, tag = "5")]
        pub(super) topics: Vec<String>,
        #[prost(string, tag = "6")]
        pub(super) client: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) doc: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Descriptor {
        #[prost(message, repeated, tag = "5")]
        pub(super) functions: Vec<Function>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Welcome {
        #[prost(uint32, tag = "1")]
        pub(super) version: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Refusal {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(string, tag = "2")]
        pub(super) reason: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CacheRequest {
        #[prost(message, optional, tag = "9")]
        pub(super) watch: Option<Watch>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Watch {
        #[prost(message, optional, tag = "2")]
        pub(super) after: Option<Cursor>,
        #[prost(uint32, tag = "3")]
        pub(super) wait_ms: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Cursor {
        #[prost(fixed64, tag = "1")]
        pub(super) record: u64,
        #[prost(uint64, tag = "2")]
        pub(super) number: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CacheReply {
        #[prost(message, optional, tag = "7")]
        pub(super) changes: Option<Changes>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Changes {
        #[prost(message, optional, tag = "3")]
        pub(super) next: Option<Cursor>,
        #[prost(bool, tag = "4")]
        pub(super) crowded: bool,
    }
}

use wire::{Header, Hello};

const PROTOCOL: u32 = u32::from_le_bytes(*b"PLK1");
const CROWDED: i32 = 3;
const WRONG: i32 = 4;

/// A session of a link that is written by hand: it sends what it likes, and never sends anything again.
struct Session {
    dealer: Dealer,
    id: Bytes,
    sent: u64,
    arrived: VecDeque<Frames>,
}

impl Session {
    /// Sends a hello over a connection of its own.
    async fn send_hello(db_address: &str, number: u32, hello: Hello) -> Self {
        let dealer = Dealer::connect(&address(db_address), &options()).await;
        let mut session = Self {
            dealer: dealer.unwrap(),
            id: [[0; 12].as_slice(), &number.to_be_bytes()].concat().into(),
            sent: 0,
            arrived: VecDeque::new(),
        };
        let hello = Some(hello);
        let header = session.header();
        session.send(Header { hello, ..header }, &[]).await;
        session
    }

    /// Introduces a client that grants no credit, and waits until it is welcome.
    async fn client(db_address: &str, number: u32) -> Self {
        let name = format!("client{number}");
        let hello = Hello {
            version: 3,
            role: "client".to_owned(),
            client: name.clone(),
            name,
            ..Hello::default()
        };
        let mut session = Self::send_hello(db_address, number, hello).await;
        assert_eq!(session.refusal().await, None);
        session
    }

    fn header(&self) -> Header {
        Header {
            protocol: PROTOCOL,
            session: self.id.clone(),
            first: self.sent,
            ..Header::default()
        }
    }

    async fn send(&mut self, header: Header, messages: &[Bytes]) {
        self.sent += messages.len() as u64;
        let header = Bytes::from(header.encode_to_vec());
        let frames = std::iter::once(header).chain(messages.iter().cloned());
        let sent = self.dealer.send(frames.collect());
        soon("capacity to send", sent).await.unwrap();
    }

    async fn receive(&mut self) -> Header {
        if self.arrived.is_empty() {
            let mut arrived = Vec::new();
            let received = self.dealer.recv_many(&mut arrived, 64);
            soon("a header", received).await.unwrap();
            self.arrived.extend(arrived);
        }
        let frames = self.arrived.pop_front().unwrap();
        Header::decode(frames[0].clone()).unwrap()
    }

    /// What the component answers to the hello: the kind of the refusal, if it is one.
    async fn refusal(&mut self) -> Option<i32> {
        loop {
            let header = self.receive().await;
            if let Some(refusal) = header.refusal {
                assert!(!refusal.reason.is_empty());
                return Some(refusal.kind);
            }
            if header.welcome.is_some() {
                return None;
            }
        }
    }

    /// Calls a function once for each payload.
    async fn call(&mut self, function: &str, client: &str, payloads: &[Bytes]) {
        let frames: Vec<_> = payloads
            .iter()
            .map(|payload| {
                let mut message = Message::new(function, payload.clone());
                message.set_client(client.to_owned());
                message.into_frame()
            })
            .collect();
        let header = self.header();
        self.send(header, &frames).await;
    }
}

fn function(name: String, doc_bytes: usize) -> wire::Function {
    wire::Function {
        name,
        doc: "d".repeat(doc_bytes),
    }
}

async fn assert_master_serves(measured: &Measured) {
    let client = Client::connect("master", measured.db_address());
    let client = soon("a client", client).await.unwrap();
    let answer = client.eval("master.echo", "x").into_future();
    assert_eq!(soon("an answer", answer).await.unwrap(), "x");
}

#[test]
fn offers_of_peers_are_bounded_and_the_descriptor_stays_readable() {
    check(async {
        let master = Measured::run("memory_master").await;
        let _worker = Process::run("linked_worker", &[("db_address", master.db_address())]).await;
        let request = master.request().await;
        let offer = async |name: String, doc_bytes: usize| {
            let functions = vec![function(name, doc_bytes)];
            let descriptor = wire::Descriptor { functions }.encode_to_vec();
            soon("a reply", ask(&request, "master.offer", "", descriptor)).await
        };
        // Much too large, too large for one function, and too many.
        for number in 0..10 {
            assert_eq!(offer(format!("huge{number}"), 20 * MIB).await, "");
            assert_eq!(offer(format!("large{number}"), MIB / 2).await, "");
        }
        let mut refused = 0;
        for number in 0..200 {
            let reply = offer(format!("f{number}"), 60_000).await;
            refused += usize::from(reply.is_empty());
        }
        assert!((100..200).contains(&refused), "{refused} refused");
        let descriptor = soon("a reply", ask(&request, "master.get", "", "palm")).await;
        assert!(descriptor.len() < 5 * MIB, "{} bytes", descriptor.len());
        assert_master_serves(&master).await;
        // The sockets receive a request of 20 MiB before it is refused.
        master.assert_within(4 * MIB);
    });
}

#[test]
fn hellos_of_workers_are_bounded_per_peer_and_in_total() {
    check_for(Duration::from_secs(120), async {
        let master = Measured::run("memory_master").await;
        let at = master.db_address();
        let hello = |number: u32, functions: usize, doc_bytes: usize| Hello {
            version: 3,
            role: "worker".to_owned(),
            name: format!("w{number}"),
            functions: (0..functions)
                .map(|it| function(format!("w{number}f{it}"), doc_bytes))
                .collect(),
            ..Hello::default()
        };
        let mut large = Session::send_hello(at, 1, hello(1, 1, MIB)).await;
        assert_eq!(large.refusal().await, Some(WRONG));
        // A header that is so long is not read.
        let mut huge = Session::send_hello(at, 2, hello(2, 1, 40 * MIB)).await;
        let mut sessions = Vec::new();
        let mut refused = 0;
        for number in 10..130 {
            let mut session = Session::send_hello(at, number, hello(number, 1000, 800)).await;
            match session.refusal().await {
                Some(kind) => {
                    assert_eq!(kind, CROWDED);
                    refused += 1;
                }
                None => sessions.push(session),
            }
        }
        assert!((30..110).contains(&refused), "{refused} refused");
        master.assert_within(64 * MIB);
        // A worker of the usual size still finds its place, and has its tasks.
        let _worker = Process::run("linked_worker", &[("db_address", at)]).await;
        assert_master_serves(&master).await;
        // Peers that leave return what they had.
        drop(sessions);
        let welcome = async {
            for number in 200.. {
                let hello = hello(number, 1000, 800);
                let mut session = Session::send_hello(at, number, hello).await;
                if session.refusal().await.is_none() {
                    return;
                }
            }
        };
        finally("capacity for another worker", welcome).await;
        let header = huge.header();
        huge.send(header, &[]).await;
    });
}

#[test]
fn unread_calls_of_many_sessions_are_bounded_in_total_and_none_of_a_client_is_lost() {
    check_for(Duration::from_secs(120), async {
        let held = Measured::run("memory_limited").await;
        let at = held.db_address();
        let block = Bytes::from(vec![b'z'; 4 * MIB]);
        // Each connection keeps the buffers of some messages for the next ones.
        let buffers = 40 * 2 * block.len();
        let request = held.request().await;
        let mut sessions = Vec::new();
        // Each sends what its credit admits of: 640 MiB in all.
        for number in 0..40 {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            for _ in 0..4 {
                let payload = std::slice::from_ref(&block);
                session.call("held.wait", &client, payload).await;
                // What its sockets have received the component has seen before it answers, mostly.
                let name = ask(&request, "held.get", "", "name");
                assert_eq!(soon("a reply", name).await, "held");
            }
            sessions.push(session);
        }
        // The inputs of a client are held back meanwhile, and all arrive in the end.
        let client = Client::connect("held", at.to_owned());
        let client = soon("a client", client).await.unwrap();
        let job = client.job("held.wait", vec![block.clone(); 30]);
        let job = tokio::spawn(job.collect::<Vec<_>>());
        for _ in 0..50 {
            let name = ask(&request, "held.get", "", "name");
            assert_eq!(soon("a reply", name).await, "held");
        }
        held.assert_within(UNREAD + QUEUE + buffers);
        assert!(held.peak() > UNREAD, "the limit was not reached");
        soon("a reply", ask(&request, "held.set", "open", "now")).await;
        let answers = finally("all answers", job).await.unwrap();
        let expected = block.len().to_string();
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), expected.as_bytes());
        }
        assert_eq!(answers.len(), 30);
        held.assert_within(UNREAD + QUEUE + buffers);
    });
}

#[test]
fn unread_answers_of_many_sessions_are_bounded_in_total_and_others_are_answered() {
    check_for(Duration::from_secs(120), async {
        let held = Measured::run("memory_limited").await;
        let at = held.db_address();
        let mut sessions = Vec::new();
        // Each asks for 48 MiB, and grants no credit: 1.4 GiB in all.
        for number in 0..30 {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            let payloads = vec![Bytes::new(); 12];
            session.call("held.big", &client, &payloads).await;
            sessions.push(session);
        }
        let client = Client::connect("held", at.to_owned());
        let client = soon("a client", client).await.unwrap();
        for _ in 0..5 {
            let answer = client.eval("held.size", "abc").into_future();
            assert_eq!(finally("an answer", answer).await.unwrap(), "3");
        }
        let answers = client.job("held.big", vec![""; 10]);
        let answers = finally("answers", answers.collect::<Vec<_>>()).await;
        for answer in answers {
            assert_eq!(answer.unwrap().len(), 4 * MIB);
        }
        held.assert_within(BACKLOG + QUEUE + UNREAD);
    });
}

#[test]
fn requests_of_watchers_are_bounded_in_total() {
    check_for(Duration::from_secs(120), async {
        let held = Measured::run("memory_default").await;
        let request = held.request().await;
        let watch = |after, wait_ms| {
            let watch = Some(wire::Watch { after, wait_ms });
            let payload = wire::CacheRequest { watch }.encode_to_vec();
            Message::new("held.store", payload).into_frame()
        };
        let reply = request.request(watch(None, 0), Duration::from_secs(10));
        let reply = wire::CacheReply::decode(reply.await.unwrap()).unwrap();
        let after = reply.changes.unwrap().next;
        // What stands in front of the delimiter is kept until the reply: 640 MiB in all.
        let envelope = Bytes::from(vec![1; MIB]);
        let at = address(held.db_address());
        let mut dealers = Vec::new();
        for _ in 0..8 {
            let dealer = Dealer::connect(&at, &options()).await.unwrap();
            for _ in 0..80 {
                let frames = [envelope.clone(), Bytes::new(), watch(after.clone(), 30_000)];
                let sent = dealer.send(frames.into_iter().collect());
                soon("capacity to send", sent).await.unwrap();
                // What the socket has not been asked for yet is bounded by its queues.
                let name = ask(&request, "held.get", "", "name");
                assert_eq!(finally("a reply", name).await, "held");
            }
            dealers.push(dealer);
        }
        held.assert_within(256 * MIB);
        assert!(held.peak() > 128 * MIB, "the limit was not reached");
    });
}

#[test]
fn replies_that_peers_do_not_read_are_bounded_in_total() {
    check(async {
        let held = Measured::run("memory_default").await;
        let request = held.request().await;
        let value = vec![b'v'; 16 * MIB];
        assert_eq!(ask(&request, "held.set", "k", value).await, "k");
        let at = address(held.db_address());
        let mut peers = Vec::new();
        // Each `find` makes a copy: 2.5 GiB in all.
        for _ in 0..8 {
            let mut peer = super::raw::RawPeer::connect(&at).await;
            peer.introduce("DEALER", b"").await.unwrap();
            let find = Message::new("held.find", "k").into_frame();
            for _ in 0..20 {
                let request = super::raw_publisher::message(&[&b""[..], &find]);
                peer.write(&request).await.unwrap();
            }
            peers.push(peer);
        }
        for _ in 0..50 {
            let name = ask(&request, "held.get", "", "name");
            assert_eq!(soon("a reply", name).await, "held");
        }
        held.assert_within(512 * MIB);
        assert!(held.peak() > 128 * MIB, "the limit was not reached");
    });
}

#[test]
fn connections_beyond_the_limit_are_closed_and_others_go_on() {
    check(async {
        let mut limited: SocketOptions = options();
        limited.max_connections = 10;
        let held = Held.bind(ANY).socket_options(limited);
        let held = held.spawn().await.unwrap();
        let client = connect("held", &held).await;
        let at = address(held.db_address());
        let mut peers = Vec::new();
        let mut closed = 0;
        // They say who they are, and nothing else.
        for _ in 0..30 {
            let mut peer = super::raw::RawPeer::connect(&at).await;
            let _ = peer.introduce("DEALER", b"").await;
            peers.push(peer);
        }
        for peer in &mut peers {
            let end = tokio::time::timeout(Duration::from_millis(200), peer.closed());
            closed += usize::from(end.await.is_ok());
        }
        assert!((20..30).contains(&closed), "{closed} of 30 were closed");
        let answer = client.eval("held.size", "abc").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "3");
        // When some leave there is a place for others.
        drop(peers);
        let another = Client::connect("held", held.db_address().to_owned());
        let another = soon("another client", another).await.unwrap();
        let answer = another.eval("held.size", "abc").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "3");
    });
}

#[test]
#[ignore = "takes minutes"]
fn memory_of_clients_that_have_left_is_returned_to_the_system() {
    const WAVES: usize = 14;
    check_for(Duration::from_secs(600), async {
        let held = Process::run("memory_default", &[]).await;
        let at = held.addresses["db_address"].clone();
        let begin = held.memory("Pss") / MIB;
        let mut most = 0;
        for _ in 0..WAVES {
            let clients = (0..500).map(|_| async {
                let client = Client::connect("held", at.clone()).await.unwrap();
                assert_eq!(client.eval("held.size", "abc").await.unwrap(), "3");
                client
            });
            drop(futures_util::future::join_all(clients).await);
            most = most.max(held.memory("Pss") / MIB);
        }
        // When no client has left for some seconds.
        let mut last = usize::MAX;
        let returned = tokio::time::timeout(Duration::from_secs(30), async {
            while last > begin + 20 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                last = held.memory("Pss") / MIB;
            }
        });
        let returned = returned.await;
        println!("{begin} MiB at the beginning, up to {most}, {last} at the end");
        assert!(returned.is_ok(), "{last} MiB, {begin} at the beginning");
        assert!(most > begin + 20, "the clients took too little to tell");
    });
}
