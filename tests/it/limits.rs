//! Time limits take effect after their time, and well before four times of it. Limits on messages and sessions admit no
//! more than they say.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::http::GatewayOptions;
use palm::prelude::*;
use palm::{CallError, ComponentHandle, ConnectError, FailureKind, LinkOptions, QueueLimits};

use super::link::Hand;
use super::process::Process;
use super::setup::{ANY, Gate, STALLED, check, connect, eventually, soon, unbound};

/// The time limit of all tests.
const LIMIT: Duration = Duration::from_millis(700);

/// The time by which [`LIMIT`] must have taken effect: less than four times of it, but as long as possible for slow
/// machines.
const LATEST: Duration = Duration::from_millis(2_600);

/// Awaits a future that must end at [`LIMIT`], and returns its output.
async fn at_limit<T>(what: &str, future: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let value = soon(what, future).await;
    let took = begin.elapsed();
    assert!(took >= LIMIT, "{what} after {took:?}, before its limit");
    assert!(
        took <= LATEST,
        "{what} after {took:?}, long after its limit"
    );
    value
}

struct Slow {
    gate: Gate,
}

#[palm::server(name = "slow")]
impl Slow {
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method(max_runtime_ms = 700)]
    async fn endless(&self) -> String {
        std::future::pending().await
    }
}

struct Limited;

#[palm::worker(server = "master")]
impl Limited {
    #[palm::method(max_runtime_ms = 700)]
    async fn endless(&self) -> String {
        std::future::pending().await
    }
}

async fn slow() -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let slow = Slow { gate: gate.clone() }.bind(ANY).drain_limit(LIMIT);
    (slow.spawn().await.unwrap(), gate)
}

async fn master(links: LinkOptions) -> ComponentHandle {
    let master = Master::new("master").bind(ANY).link_options(links);
    master.spawn().await.unwrap()
}

async fn hand(master: &ComponentHandle) -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let hand = Hand { gate: gate.clone() }.connect(master.db_address());
    (hand.concurrency(1).spawn().await.unwrap(), gate)
}

#[test]
fn call_ends_at_its_timeout() {
    check(async {
        let (server, _gate) = slow().await;
        let client = connect("slow", &server).await;
        let eval = client.eval("slow.gated", "x").timeout(LIMIT).into_future();
        let error = at_limit("the end of the call", eval).await.unwrap_err();
        // The component knows the deadline too, and may report it first.
        match &error {
            CallError::Timeout { .. } => {}
            CallError::Remote(error) if error.kind == FailureKind::DeadlineExceeded => {}
            _ => panic!("{error:?}"),
        }
        let mut job = client.job("slow.gated", ["x"]).timeout(LIMIT);
        let error = at_limit("the end of the job", job.next()).await;
        let error = error.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    });
}

#[test]
fn connect_fails_at_the_connect_timeout() {
    check(async {
        let client = Client::builder("slow", unbound()).connect_timeout(LIMIT);
        let error = at_limit("the end of connecting", client.connect()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
    });
}

#[test]
fn method_ends_at_its_max_runtime() {
    check(async {
        let (server, _gate) = slow().await;
        let client = connect("slow", &server).await;
        let eval = client.eval("slow.endless", "").into_future();
        let error = at_limit("the end of the call", eval).await.unwrap_err();
        let CallError::Remote(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
    });
}

#[test]
fn component_stops_at_its_drain_limit() {
    check(async {
        let (server, gate) = slow().await;
        let client = connect("slow", &server).await;
        let call = tokio::spawn(async move { client.eval("slow.gated", "x").await });
        gate.arrived(1).await;
        let stopped = at_limit("the end of the component", server.shutdown()).await;
        assert!(stopped.is_err(), "a call was not done");
        call.abort();
    });
}

#[test]
fn task_without_a_worker_fails_at_its_deadline() {
    check(async {
        let master = master(LinkOptions::default()).await;
        let client = connect("master", &master).await;
        let job = client.job("master.work", ["0"]).call_timeout(LIMIT);
        let mut job = std::pin::pin!(job);
        let error = at_limit("the failure of the task", job.next()).await;
        let CallError::Remote(error) = error.unwrap().unwrap_err() else {
            panic!("the component did not say so");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert!(soon("the end of the job", job.next()).await.is_none());
    });
}

#[test]
fn request_returns_504_if_its_method_exceeds_max_runtime() {
    check(async {
        let gateway = GatewayOptions::new();
        let master = Master::new("master").bind(ANY);
        let master = master.gateway("127.0.0.1:0", gateway);
        let master = master.spawn().await.unwrap();
        let worker = Limited.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        // The worker is connected.
        soon("an answer", client.eval("master.echo", "x").into_future())
            .await
            .unwrap();
        let url = master.address("http_address").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("{url}/endless")).send();
        let response = at_limit("a response", request).await.unwrap();
        assert_eq!(response.status(), 504);
        let problem = response.text().await.unwrap();
        assert!(problem.contains("DeadlineExceeded"), "{problem}");
        worker.shutdown().await.unwrap();
    });
}

#[test]
fn request_returns_504_at_the_timeout_of_the_gateway() {
    check(async {
        let gateway = GatewayOptions::new().timeout(LIMIT);
        let master = Master::new("master").bind(ANY);
        let master = master.gateway("127.0.0.1:0", gateway);
        let master = master.spawn().await.unwrap();
        let (_hand, gate) = hand(&master).await;
        let client = connect("master", &master).await;
        let sleep = client.eval("master.work", "0").into_future();
        soon("an answer", sleep).await.unwrap();
        let url = master.address("http_address").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("{url}/gated")).body("x").send();
        let response = at_limit("a response", request).await.unwrap();
        assert_eq!(response.status(), 504);
        gate.open();
    });
}

#[test]
fn request_without_a_worker_returns_503_at_the_no_worker_timeout() {
    check(async {
        let gateway = GatewayOptions::new().no_worker_timeout(LIMIT);
        let master = Master::new("master").bind(ANY);
        let master = master.gateway("127.0.0.1:0", gateway);
        let master = master.spawn().await.unwrap();
        let url = master.address("http_address").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("{url}/gated")).body("x").send();
        let response = at_limit("a response", request).await.unwrap();
        assert_eq!(response.status(), 503);
    });
}

/// Starts a master and a worker process with a call that does not end, and connects a client.
async fn call_in_a_process(links: LinkOptions) -> (ComponentHandle, Process, Client) {
    let master = master(links).await;
    let process = Process::run("linked_worker", &[("db_address", master.db_address())]).await;
    let client = connect("master", &master).await;
    let calling = client.clone();
    tokio::spawn(async move { calling.eval("master.work", "100000").await });
    // While the first call runs, another one waits.
    let sent = || master.metrics().part("WorkerPush").unwrap().messages == 1;
    eventually("the task is sent", sent).await;
    (master, process, client)
}

#[test]
fn tasks_of_a_stopped_worker_are_redelivered_after_the_idle_timeout() {
    check(async {
        let links = LinkOptions::new().idle_timeout(LIMIT);
        let (master, process, _client) = call_in_a_process(links).await;
        let (_hand, gate) = hand(&master).await;
        // One session of the client, and one of each worker.
        eventually("another worker", || master.metrics().sessions == 3).await;
        process.pause().unwrap();
        // What it was heard of last may be a while ago.
        let begin = Instant::now();
        gate.arrived(1).await;
        let took = begin.elapsed();
        assert!(took <= LATEST, "only after {took:?}");
        process.resume().unwrap();
    });
}

#[test]
fn tasks_of_a_killed_worker_are_redelivered_after_the_reconnect_grace() {
    check(async {
        let links = LinkOptions::new().reconnect_grace(LIMIT);
        let (master, process, _client) = call_in_a_process(links).await;
        let (_hand, gate) = hand(&master).await;
        // One session of the client, and one of each worker.
        eventually("another worker", || master.metrics().sessions == 3).await;
        process.kill();
        at_limit("another worker has the task", gate.arrived(1)).await;
    });
}

#[test]
fn tasks_of_a_silent_legacy_worker_are_redelivered_after_the_ack_wait() {
    check(async {
        let links = LinkOptions::new().ack_wait(LIMIT);
        let master = master(links).await;
        let legacy = LinkOptions::new().enabled(false);
        let gate = Gate::closed();
        let mut hands = Vec::new();
        for _ in 0..2 {
            let hand = Hand { gate: gate.clone() }.connect(master.db_address());
            let hand = hand.concurrency(1).link_options(legacy.clone());
            hands.push(hand.spawn().await.unwrap());
        }
        let client = connect("master", &master).await;
        tokio::spawn(async move { client.eval("master.gated", "x").await });
        gate.arrived(1).await;
        // The time counts from the push of the task.
        let begin = Instant::now();
        gate.arrived(2).await;
        let took = begin.elapsed();
        assert!(took <= LATEST && 2 * took > LIMIT, "{took:?}");
        gate.open();
    });
}

#[test]
fn key_expires_after_its_time_to_live() {
    check(async {
        let (server, _gate) = slow().await;
        let client = connect("slow", &server).await;
        client.set_for("k", "v", LIMIT).await.unwrap();
        let gone = async {
            while client.get("k").await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // The time counts from the arrival of the request.
        let begin = Instant::now();
        soon("the end of the key", gone).await;
        let took = begin.elapsed();
        assert!(took <= LATEST && 2 * took > LIMIT, "{took:?}");
    });
}

#[test]
fn queue_holds_at_most_its_limit_of_messages() {
    check(async {
        let gate = Gate::closed();
        let limits = QueueLimits::new().messages(10);
        let slow = Slow { gate: gate.clone() }.bind(ANY).concurrency(1);
        let slow = slow.queue_limits(limits).spawn().await.unwrap();
        let client = connect("slow", &slow).await;
        let job = client
            .job("slow.gated", vec!["x"; 1000])
            .expect_answers(1000);
        let answers = tokio::spawn(job.count());
        gate.arrived(1).await;
        let queued = || slow.metrics().part("Executor").unwrap().queued_messages;
        // A single client uses 80 % of the queue.
        eventually("a full queue", || queued() >= 8).await;
        tokio::time::sleep(STALLED).await;
        // A batch of small messages may be admitted as a whole.
        assert!(queued() < 30, "{}", queued());
        gate.open();
        assert_eq!(soon("all answers", answers).await.unwrap(), 1000);
    });
}

#[test]
fn component_admits_at_most_max_sessions() {
    check(async {
        let links = LinkOptions::new().max_sessions(2);
        let gate = Gate::closed();
        let server = Slow { gate }.bind(ANY).link_options(links);
        let server = server.spawn().await.unwrap();
        let first = connect("slow", &server).await;
        let second = connect("slow", &server).await;
        assert_eq!(server.metrics().sessions, 2);
        let third = Client::connect("slow", server.db_address().to_owned());
        let third = tokio::spawn(third);
        tokio::time::sleep(STALLED).await;
        assert!(!third.is_finished());
        assert_eq!(server.metrics().sessions, 2);
        // The client retries until another session has ended.
        drop(first);
        let third = soon("the third client", third).await.unwrap().unwrap();
        for client in [&second, &third] {
            let answer = client.eval("slow.echo", "x").into_future();
            assert_eq!(soon("an answer", answer).await.unwrap(), "x");
        }
    });
}
