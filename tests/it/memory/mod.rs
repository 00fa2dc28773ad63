//! How much memory peers can make a component keep.
//!
//! Each test drives a component, in a process of its own, to one of the limits that ARCHITECTURE lists ("Memory"), with
//! a peer that does nothing else. The process must stay within that limit, reach it (or the test would prove nothing),
//! and still serve other peers.

use std::time::Duration;

use bytes::Bytes;
use palm::http::GatewayOptions;
use palm::prelude::*;
use palm::socket::Request;
use palm::{ComponentHandle, LinkOptions, MemoryStore, QueueLimits};

use super::process::Process;
use super::setup::{address, eventually, options, soon};

mod connections;
mod control;
mod http;
mod links;
mod receiving;
mod session;
mod wire;

const MIB: usize = 1024 * 1024;

/// The limits of the components in [`component`], which are lower than the defaults so that they are reached soon.
const UNREAD: usize = 48 * MIB;
const TASKS: usize = 48 * MIB;
const BACKLOG: usize = 48 * MIB;
const QUEUE: usize = 16 * MIB;
const STORE: usize = 48 * MIB;
const GATEWAY: usize = 48 * MIB;
const RECEIVE: usize = 48 * MIB;

/// The memory that a process may use besides the limit that a test is about: buffers of sockets, and freed memory that
/// its allocator keeps.
const SLACK: usize = 128 * MIB;

struct MeasuredServer;

#[palm::server(name = "server")]
impl MeasuredServer {
    /// Returns once the cache has the key `open`.
    #[palm::method]
    async fn wait(&self, payload: Bytes, context: Context) -> String {
        is_open(&context).await;
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

/// A master that publishes no result until its cache has the key `open`.
struct Gathers;

#[palm::master(name = "master")]
impl Gathers {
    #[palm::gather]
    async fn gather(&mut self, message: Message, context: Context) -> Vec<Message> {
        is_open(&context).await;
        vec![message]
    }
}

/// Waits until the cache has the key `open`.
async fn is_open(context: &Context) {
    while !matches!(context.cache().get("open").await, Ok(Some(_))) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The component of a process, see [`Process`].
pub(crate) async fn component(role: &str, db_address: String) -> palm::Result<ComponentHandle> {
    let queues = QueueLimits::new().bytes(QUEUE);
    let mut links = LinkOptions::new();
    if role.ends_with("_limited") {
        links = links.max_unread_bytes(UNREAD).max_task_bytes(TASKS);
        links = links.max_backlog_bytes(BACKLOG);
    }
    let server = || {
        let server = MeasuredServer.bind(db_address.clone()).concurrency(2);
        server.link_options(links.clone()).queue_limits(queues)
    };
    match role {
        "memory_server_default" | "memory_server_limited" => server().spawn().await,
        "memory_receiver_limited" => {
            let socket = options()
                .max_receive_bytes(RECEIVE)
                .receive_timeout(Duration::from_secs(2));
            server().socket_options(socket).spawn().await
        }
        "memory_publisher_limited" => server().pipelined(true).spawn().await,
        "memory_store" => server().cache(MemoryStore::with_limit(STORE)).spawn().await,
        "memory_master_default" => Master::new("master").bind(db_address).spawn().await,
        "memory_master_limited" => {
            let master = Master::new("master").bind(db_address);
            let master = master.link_options(links).queue_limits(queues);
            master.spawn().await
        }
        "memory_gathers_limited" => {
            let master = Gathers.bind(db_address).link_options(links);
            master.queue_limits(queues).spawn().await
        }
        "memory_gateway_limited" => {
            let gateway = GatewayOptions::new().max_memory_bytes(GATEWAY);
            let master = Master::new("master").bind(db_address);
            let master = master.link_options(links).queue_limits(queues);
            master.gateway("127.0.0.1:0", gateway).spawn().await
        }
        other => panic!("no role `{other}`"),
    }
}

/// A component in a process, and the memory that it used when it was ready.
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

    /// Returns the peak memory of the process in bytes, less the memory that it used when it was ready.
    fn peak(&self) -> usize {
        self.process.peak().saturating_sub(self.begin)
    }

    /// Asserts that the process has used at most `limit` bytes, and [`SLACK`].
    fn assert_within(&self, limit: usize) {
        let peak = self.peak() / MIB;
        let (limit, slack) = (limit / MIB, SLACK / MIB);
        println!("{peak} MiB of at most {limit} MiB and {slack} MiB");
        assert!(
            peak <= limit + slack,
            "{peak} MiB, at most {limit} + {slack}"
        );
    }

    /// Waits until the process has used so many bytes that its limit was reached.
    async fn reaches(&self, bytes: usize) {
        let what = format!("{} MiB", bytes / MIB);
        eventually(&what, || self.peak() >= bytes / MIB * MIB).await;
    }

    async fn request(&self) -> Request {
        Request::connect(&address(self.db_address()), &options())
            .await
            .unwrap()
    }

    /// Waits until the component has answered another peer, so that it has received what was sent before, mostly.
    async fn assert_answers(&self, request: &Request) {
        let name = soon("a reply", send_request(request, "_.get", "", "name")).await;
        assert!(!name.is_empty());
    }

    /// Asserts that a master answers a call of another client.
    async fn assert_master_serves(&self) {
        let client = Client::connect("master", self.db_address());
        let client = soon("a client", client).await.unwrap();
        let answer = client.eval("master.echo", "x").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "x");
    }
}

/// Sends a request to the cache service, and returns the reply.
async fn send_request(
    request: &Request,
    function: &str,
    cache: &str,
    payload: impl Into<Bytes>,
) -> Bytes {
    let mut message = Message::new(function, payload.into());
    message.set_cache(cache.to_owned());
    let reply = request.request(message.into_frame(), Duration::from_secs(30));
    reply.await.unwrap()
}
