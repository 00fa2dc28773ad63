//! `palm::testing::Faults`: proxies that inject faults, components that are killed, and plans of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::testing::{Cluster, Fault, FaultProxy, FaultProxyError, Faults, Restartable, until};
use palm::{CallError, ComponentHandle, LinkOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::setup::{
    ANY, Gate, STALLED, check, connect, eventually, options, soon, starts_again, unbound,
};

#[derive(Clone)]
struct Hand {
    gate: Gate,
    /// The gate at which each call of `gated` waits.
    alive: Arc<()>,
}

impl Hand {
    fn new() -> Self {
        Self {
            gate: Gate::closed(),
            alive: Arc::default(),
        }
    }
}

#[palm::worker(server = "master")]
impl Hand {
    /// Takes a millisecond.
    #[palm::method]
    async fn short(&self, payload: Bytes) -> Bytes {
        tokio::time::sleep(Duration::from_millis(1)).await;
        payload
    }

    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        let _alive = self.alive.clone();
        self.gate.pass().await;
        payload
    }
}

struct Echo;

#[palm::server(name = "echo")]
impl Echo {
    #[palm::method]
    fn same(&self, payload: Bytes) -> Bytes {
        payload
    }
}

/// Link options that notice a silent peer soon.
fn quick() -> LinkOptions {
    LinkOptions::new()
        .heartbeat(Duration::from_millis(200))
        .idle_timeout(Duration::from_millis(800))
}

async fn master(links: LinkOptions) -> ComponentHandle {
    let master = Master::new("master").bind(ANY).link_options(links);
    master.spawn().await.unwrap()
}

/// A worker.
async fn hand(at: &str) -> palm::Result<ComponentHandle> {
    let worker = Hand::new().connect(at).concurrency(4);
    let worker = worker.link_options(quick()).socket_options(options());
    worker.spawn().await
}

fn numbers(count: usize) -> Vec<String> {
    let mut numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}

/// Makes so many calls, and asserts that each is answered once.
async fn job(client: &Client, function: &str, count: usize) {
    let job = client
        .job(function, numbers(count))
        .expect_answers(count as u64);
    let answers = job.map(|answer| String::from_utf8(answer.unwrap().into()).unwrap());
    // After faults a link may wait for its idle timeout, or its peer's.
    let answers = tokio::time::timeout(Duration::from_secs(40), answers.collect());
    let mut answers: Vec<_> = answers.await.expect("all answers in time");
    answers.sort();
    assert_eq!(answers, numbers(count));
}

/// A target by hand, with a fault proxy in front of it.
struct Target {
    listener: TcpListener,
    proxy: FaultProxy,
}

impl Target {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("tcp://{}", listener.local_addr().unwrap());
        let proxy = Faults::seeded(1).proxy(target).await.unwrap();
        Self { listener, proxy }
    }

    fn proxy_address(&self) -> &str {
        self.proxy.address().strip_prefix("tcp://").unwrap()
    }

    async fn peer(&self) -> TcpStream {
        TcpStream::connect(self.proxy_address()).await.unwrap()
    }

    /// Opens a connection, and returns its two ends.
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let peer = self.peer().await;
        let accepted = soon("a connection", self.listener.accept()).await;
        (peer, accepted.unwrap().0)
    }
}

/// Makes the bytes of ZMTP 3: a greeting, and messages of one byte.
fn zmtp(messages: usize) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    (bytes[0], bytes[9], bytes[10]) = (0xff, 0x7f, 3);
    for _ in 0..messages {
        bytes.extend([0, 1, b'x']);
    }
    bytes
}

async fn read(from: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    soon("bytes", from.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Reads until the connection is closed or reset.
async fn read_to_end(from: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon("the end", from.read_to_end(&mut bytes)).await;
    bytes
}

async fn is_silent(from: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(STALLED, from.read_u8());
    read.await.is_err()
}

#[test]
fn fault_proxy_is_cut_at_the_given_message() {
    check(async {
        let target = Target::new().await;
        for count in [1, 3, 9] {
            let (mut peer, mut end) = target.connection().await;
            let before = target.proxy.status();
            target.proxy.cut_after(count);
            peer.write_all(&zmtp(10)).await.unwrap();
            assert_eq!(read_to_end(&mut end).await, zmtp(count as usize));
            assert_eq!(read_to_end(&mut peer).await, b"");
            let is_cut = target.proxy.until(|status| status.cuts > before.cuts);
            let status = soon("the cut", is_cut).await;
            assert_eq!(status.messages() - before.messages(), count);
        }
        // The proxy is cut once.
        let (mut peer, mut end) = target.connection().await;
        peer.write_all(&zmtp(10)).await.unwrap();
        assert_eq!(read(&mut end, 94).await, zmtp(10));
        assert_eq!(target.proxy.status().cuts, 3);
        target.proxy.cut_after(0);
        assert_eq!(read_to_end(&mut end).await, b"");
    });
}

#[test]
fn held_fault_proxy_keeps_its_connections() {
    check(async {
        let target = Target::new().await;
        let (mut peer, mut end) = target.connection().await;
        target.proxy.hold_after(4);
        end.write_all(&zmtp(2)).await.unwrap();
        read(&mut peer, 70).await;
        peer.write_all(&zmtp(10)).await.unwrap();
        soon("the hold", target.proxy.held()).await;
        assert_eq!(read(&mut end, 70).await, zmtp(2));
        assert!(is_silent(&mut end).await);
        // Bytes of the target, the end of the connection, and further connections do not pass either.
        end.write_all(b"\0\x01y").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut late = target.peer().await;
        late.write_all(b"late").await.unwrap();
        assert!(is_silent(&mut peer).await);
        assert!(is_silent(&mut end).await);
        let status = target.proxy.status();
        assert_eq!((status.connections, status.open), (1, 1));
        assert_eq!(
            (status.to_target.messages, status.to_peers.messages),
            (2, 2)
        );
        assert!(status.is_held);

        target.proxy.release();
        assert_eq!(read_to_end(&mut end).await, zmtp(8)[64..]);
        assert_eq!(read(&mut peer, 3).await, b"\0\x01y");
        let (mut late_end, _) = soon("the late one", target.listener.accept())
            .await
            .unwrap();
        assert_eq!(read(&mut late_end, 4).await, b"late");
    });
}

#[test]
fn held_or_delayed_fault_proxy_buffers_at_most_its_limit() {
    check(async {
        for is_held in [true, false] {
            let target = Target::new().await;
            let (mut peer, mut end) = target.connection().await;
            match is_held {
                true => target.proxy.hold(),
                false => target
                    .proxy
                    .delay(Duration::from_secs(3600)..=Duration::MAX),
            }
            let chunk = vec![7; 64 * 1024];
            let mut written = 0;
            // The proxy buffers 1 MiB, and the system the rest.
            while let Ok(count) = tokio::time::timeout(STALLED, peer.write(&chunk)).await {
                written += count.unwrap();
                assert!(written < 64 * 1024 * 1024, "the writes are not held up");
            }
            assert!(is_silent(&mut end).await);
            if is_held {
                target.proxy.release();
                drop(peer);
                assert_eq!(read_to_end(&mut end).await.len(), written);
            }
        }
    });
}

#[test]
fn delayed_connections_are_reordered_but_their_bytes_are_not() {
    check(async {
        let target = Target::new().await;
        let (mut first, mut first_end) = target.connection().await;
        let (mut second, mut second_end) = target.connection().await;
        let late = Duration::from_millis(200);
        target.proxy.delay(late..=late);
        let begin = Instant::now();
        first.write_all(b"a").await.unwrap();
        // The proxy has read the byte.
        assert!(is_silent(&mut first_end).await || begin.elapsed() >= late);
        target
            .proxy
            .delay(Duration::from_secs(30)..=Duration::from_secs(30));
        first.write_all(b"b").await.unwrap();
        assert!(is_silent(&mut first_end).await);
        target.proxy.no_delay();
        first.write_all(b"c").await.unwrap();
        second.write_all(b"d").await.unwrap();
        assert_eq!(read(&mut second_end, 1).await, b"d");
        // `c` waits for `b`, which was sent before it.
        assert!(is_silent(&mut first_end).await);

        target
            .proxy
            .delay(Duration::ZERO..=Duration::from_millis(5));
        let sent: Vec<_> = (0..100).collect();
        let send = async {
            for byte in &sent {
                second.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (received, ()) = tokio::join!(read(&mut second_end, 100), send);
        assert_eq!(received, sent);
    });
}

#[test]
fn refusing_fault_proxy_accepts_no_connection() {
    check(async {
        let target = Target::new().await;
        let (mut peer, mut end) = target.connection().await;
        // A connection is counted shortly after both of its ends exist.
        let counted = target.proxy.until(|status| status.connections == 1);
        soon("the connection being counted", counted).await;
        target.proxy.refuse();
        assert_eq!(read_to_end(&mut peer).await, b"");
        assert_eq!(read_to_end(&mut end).await, b"");
        assert_eq!(read_to_end(&mut target.peer().await).await, b"");
        assert!(target.proxy.status().is_refused);
        target.proxy.accept();
        let (mut peer, mut end) = target.connection().await;
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut end, 18).await.len(), 18);
        let status = soon(
            "its bytes",
            target.proxy.until(|status| status.to_target.bytes == 18),
        );
        let status = status.await;
        assert_eq!((status.connections, status.messages()), (2, 0));

        soon("the cut", target.proxy.cut()).await;
        assert_eq!(target.proxy.status().open, 0);
        // The proxy leads to no target, and then to another one.
        target.proxy.set_target(unbound()).unwrap();
        assert_eq!(read_to_end(&mut target.peer().await).await, b"");
        let other = Target::new().await;
        target.proxy.set_target(other.proxy.address()).unwrap();
        let mut peer = target.peer().await;
        peer.write_all(b"x").await.unwrap();
        let (mut end, _) = soon("a connection", other.listener.accept()).await.unwrap();
        assert_eq!(read(&mut end, 1).await, b"x");
    });
}

#[test]
fn dropped_fault_proxy_closes_its_port_and_connections() {
    check(async {
        let target = Target::new().await;
        let (mut peer, mut end) = target.connection().await;
        let address = target.proxy_address().to_owned();
        target.proxy.hold();
        drop(target);
        assert_eq!(read_to_end(&mut peer).await, b"");
        assert_eq!(read_to_end(&mut end).await, b"");
        let is_free = || std::net::TcpListener::bind(&*address).is_ok();
        eventually("the port is free", is_free).await;
    });
}

#[test]
fn fault_proxy_accepts_only_tcp_targets() {
    check(async {
        let faults = Faults::seeded(1);
        for target in ["ipc:///tmp/x", ANY, "tcp://*:5555"] {
            let error = faults.proxy(target).await.unwrap_err();
            assert!(matches!(error, FaultProxyError::Target { .. }), "{error}");
        }
        let error = faults.proxy("127.0.0.1:5555").await.unwrap_err();
        assert!(matches!(error, FaultProxyError::Address(_)), "{error}");
    });
}

#[test]
fn calls_are_answered_once_while_fault_proxies_fail() {
    check(async {
        let master = master(quick()).await;
        let faults = Faults::seeded(42);
        let first = faults.proxy(master.db_address()).await.unwrap();
        let second = faults.proxy(master.db_address()).await.unwrap();
        let _first = hand(first.address()).await.unwrap();
        let _second = hand(second.address()).await.unwrap();
        let client = connect("master", &master).await;
        let fail = async {
            first.cut_after(40);
            second.delay(Duration::ZERO..=Duration::from_millis(20));
            let cut = first.until(|status| status.cuts == 1 && status.connections >= 2);
            soon("another connection", cut).await;
            first.hold_after(20);
            soon("the hold", first.held()).await;
            soon("the cut", second.cut()).await;
            second.no_delay();
            let before = second.status().messages();
            soon("more messages", second.passed(before + 50)).await;
            first.release();
            second.refuse();
            let before = first.status().messages();
            soon("more messages", first.passed(before + 20)).await;
            second.heal();
        };
        tokio::join!(job(&client, "master.short", 4000), fail);
        // No fault is left.
        job(&client, "master.short", 100).await;
    });
}

#[test]
fn calls_are_answered_once_under_random_faults() {
    check(async {
        let faults = Faults::new();
        let cluster = Cluster::new()
            .fault_proxies(&faults)
            .master_with(Master::new("master"), |builder| {
                builder.link_options(quick())
            });
        let add = |cluster: Cluster, name: &'static str| {
            cluster.worker_with(Hand::new(), |builder| {
                let builder = builder.name(name).concurrency(4).link_options(quick());
                builder.socket_options(options())
            })
        };
        let cluster = add(add(cluster, "anna"), "bert").start().await.unwrap();
        assert_eq!(cluster.fault_proxies().len(), 2);
        assert!(cluster.fault_proxy("master").is_none());
        let client = cluster.client().await.unwrap();
        let calls = async {
            for _ in 0..3 {
                job(&client, "master.short", 1000).await;
            }
        };
        let proxies = cluster.fault_proxies();
        tokio::join!(calls, faults.random(&proxies, Duration::from_secs(3)));
        for proxy in proxies {
            assert!(proxy.status().messages() > 0);
            assert!(!proxy.status().is_held && !proxy.status().is_refused);
        }
        job(&client, "master.short", 100).await;
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn same_seed_makes_the_same_fault_plan() {
    check(async {
        let plan = |seed| {
            let faults = Faults::seeded(seed);
            assert_eq!(faults.seed(), seed);
            let long = Duration::from_secs(10);
            [faults.plan(2, long), faults.plan(2, long)]
        };
        assert_eq!(plan(42), plan(42));
        assert_ne!(plan(42), plan(43));
        let [first, second] = plan(42);
        assert_ne!(first, second);
        let is_hold = |fault: &Fault| matches!(fault, Fault::Hold(_));
        assert!(first.faults().iter().any(|planned| is_hold(&planned.fault)));
        let text = first.to_string();
        assert_eq!(text.lines().count(), first.faults().len() + 1);

        // A plan that is dropped leaves no fault behind.
        let (one, other) = (Target::new().await, Target::new().await);
        let proxies = [&one.proxy, &other.proxy];
        let is_disturbed = one
            .proxy
            .until(|status| status.is_held || status.is_refused);
        tokio::select! {
            () = first.run(&proxies) => panic!("it has held or refused nothing"),
            _ = is_disturbed => {}
        }
        for proxy in proxies {
            let status = proxy.status();
            assert!(!status.is_held && !status.is_refused, "{status:?}");
        }
        one.connection().await;
    });
}

#[test]
fn tasks_of_a_component_killed_at_a_message_are_run_by_another() {
    check(async {
        let master = master(quick()).await;
        let faults = Faults::seeded(7);
        let proxy = faults.proxy(master.db_address()).await.unwrap();
        let at = proxy.address().to_owned();
        let first = Restartable::start(move || {
            let at = at.clone();
            async move { hand(&at).await }
        });
        let mut first = soon("the start", first).await.unwrap();
        let _second = hand(master.db_address()).await.unwrap();
        let client = connect("master", &master).await;
        let kill = async {
            // At a message that passes its proxy.
            proxy.hold_after(30);
            soon("the hold", proxy.held()).await;
            let held = proxy.status().messages();
            first.kill().await;
            assert_eq!(proxy.status().messages(), held);
            assert!(first.handle().is_none());
            proxy.heal();
            first.restart().await.unwrap();
            // After it has begun a call.
            let calls = |metrics: &palm::Metrics| metrics.function("short").unwrap().calls;
            soon("200 calls", first.until(|metrics| calls(metrics) >= 200)).await;
            first.kill().await;
            first.restart().await.unwrap();
            let handle = first.handle().unwrap();
            let metrics = soon("calls again", until(handle, |metrics| calls(metrics) > 0)).await;
            assert!(calls(&metrics) > 0);
        };
        tokio::join!(job(&client, "master.short", 4000), kill);
        first.shutdown().await.unwrap();
    });
}

#[test]
fn killed_component_finishes_no_call() {
    check(async {
        for own_thread in [false, true] {
            let (anna, bert) = (Hand::new(), Hand::new());
            let cluster = Cluster::new()
                .master_with(Master::new("master"), |builder| {
                    builder.link_options(quick())
                })
                .worker_with(anna.clone(), |builder| {
                    let builder = builder.name("anna").concurrency(4);
                    builder.link_options(quick()).own_thread(own_thread)
                })
                .worker_with(bert.clone(), |builder| {
                    builder.concurrency(4).link_options(quick())
                });
            let mut cluster = cluster.start().await.unwrap();
            let client = cluster.client().await.unwrap();
            let kill = async {
                anna.gate.arrived(4).await;
                bert.gate.arrived(4).await;
                let begin = Instant::now();
                let killed = cluster.take("anna").unwrap();
                soon("its end", killed.kill()).await;
                assert!(begin.elapsed() < Duration::from_secs(5));
                // Its calls are lost with it, and the other worker runs them.
                let are_gone = || Arc::strong_count(&anna.alive) == 1;
                eventually("its calls are gone", are_gone).await;
                bert.gate.open();
                bert.gate.arrived(8).await;
            };
            tokio::join!(job(&client, "master.gated", 8), kill);
            let master = cluster.take("master").unwrap();
            soon("its end", master.kill()).await;
        }
    });
}

#[test]
fn killed_component_frees_its_addresses() {
    check(async {
        let at = unbound();
        for round in 0..20 {
            let echo = starts_again(async || Echo.bind(&*at).spawn().await).await;
            let client = connect("echo", &echo).await;
            assert_eq!(client.eval(Echo::SAME, "x").await.unwrap(), "x");
            if round % 2 == 0 {
                // With connected clients, and without.
                drop(client);
            }
            soon("its end", echo.kill()).await;
        }
    });
}

#[test]
fn killed_server_restarts_at_its_port_or_behind_its_fault_proxy() {
    check(async {
        let fixed = unbound();
        let echo = Restartable::start(move || Echo.bind(&*fixed).spawn());
        let mut echo = soon("the start", echo).await.unwrap();
        let client = connect("echo", echo.handle().unwrap()).await;
        answers(&client).await;
        for _ in 0..3 {
            soon("the restart", echo.restart()).await.unwrap();
            answers(&client).await;
        }

        let faults = Faults::seeded(3);
        let mut echo = Restartable::start(|| Echo.bind(ANY).spawn()).await.unwrap();
        let proxy = faults.proxy(echo.handle().unwrap().db_address()).await;
        let proxy = proxy.unwrap();
        let client = Client::connect("echo", proxy.address()).await.unwrap();
        answers(&client).await;
        let again = soon("the restart", echo.restart()).await.unwrap();
        proxy.set_target(again.db_address()).unwrap();
        answers(&client).await;
    });
}

/// Calls until there is an answer, since the calls in a killed server are lost.
async fn answers(client: &Client) {
    let answer = async {
        loop {
            match client.eval(Echo::SAME, "x").timeout(STALLED).await {
                Ok(answer) => return answer,
                Err(error) => assert!(
                    matches!(error, CallError::Timeout { .. }) || error.is_transient(),
                    "{error}"
                ),
            }
        }
    };
    assert_eq!(soon("an answer", answer).await, "x");
}
