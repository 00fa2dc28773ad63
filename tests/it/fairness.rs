//! Clients share a component: no call waits behind the whole backlog of another client.

use std::sync::{Arc, Mutex};

use palm::prelude::*;
use palm::socket::{Push, SocketOptions};
use palm::testing::Cluster;
use palm::{ComponentHandle, Message, QueueLimits};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::setup::{ANY_NAME, eventually, paused, settle, soon};

/// A method whose calls wait until they are released, and the clients whose calls have begun, in order.
#[derive(Clone)]
struct CallRecorder {
    begun: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
    released: Arc<Semaphore>,
}

impl Default for CallRecorder {
    fn default() -> Self {
        Self {
            begun: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
            released: Arc::new(Semaphore::new(0)),
        }
    }
}

impl CallRecorder {
    async fn run(&self, whose: String) -> String {
        self.begun.lock().unwrap().push(whose.clone());
        self.count.send_modify(|count| *count += 1);
        self.released.acquire().await.unwrap().forget();
        whose
    }

    async fn wait_for(&self, count: usize) {
        let mut counts = self.count.subscribe();
        soon("calls begin", counts.wait_for(|it| *it >= count))
            .await
            .unwrap();
    }

    /// Releases one call after another until one of the client `whose` has begun. Returns how many calls of others have
    /// begun since `before`.
    async fn release_until(&self, whose: &str, before: usize) -> usize {
        for count in before.. {
            let begun = self.begun.lock().unwrap()[before..].to_vec();
            if let Some(others) = begun.iter().position(|it| it == whose) {
                return others;
            }
            assert!(begun.len() < 100, "{whose} does not have its turn");
            self.released.add_permits(1);
            self.wait_for(count + 1).await;
        }
        unreachable!()
    }
}

struct Served(CallRecorder);

#[palm::server(name = "s")]
impl Served {
    #[palm::method]
    async fn run(&self, whose: String) -> String {
        self.0.run(whose).await
    }
}

struct Works(CallRecorder);

#[palm::worker(server = "m")]
impl Works {
    #[palm::method]
    async fn run(&self, whose: String) -> String {
        self.0.run(whose).await
    }
}

/// Starts a job of so many calls, and receives its answers.
fn job(
    client: Client,
    function: &'static str,
    whose: &'static str,
    calls: usize,
) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut job = client.job(function, (0..calls).map(move |_| whose));
        let mut answers = 0;
        while let Some(Ok(_)) = job.next().await {
            answers += 1;
        }
        answers
    })
}

fn call(client: Client, function: &'static str, whose: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        client.eval(function, whose).await.unwrap();
    })
}

fn queued(handle: &ComponentHandle, part: &str) -> usize {
    handle.metrics().part(part).unwrap().queued_messages
}

fn passed(handle: &ComponentHandle, part: &str) -> u64 {
    handle.metrics().part(part).unwrap().messages
}

#[test]
fn call_beside_a_large_job_begins_soon_at_a_server() {
    paused(async {
        let calls = CallRecorder::default();
        let server = Served(calls.clone()).bind(ANY_NAME).concurrency(2);
        let server = server.spawn().await.unwrap();
        let connect = || Client::connect("s", server.db_address());
        let large = job(connect().await.unwrap(), "s.run", "large", 5000);
        eventually("the queue is full", || queued(&server, "Executor") >= 500).await;
        calls.wait_for(2).await;
        // Messages beyond the capacity wait upstream of the queue.
        settle().await;
        let before = passed(&server, "Pull");
        let small = call(connect().await.unwrap(), "s.run", "small");
        eventually("the call has come", || passed(&server, "Pull") > before).await;
        let others = calls.release_until("small", 2).await;
        assert!(others <= 3, "{others} calls of the job began first");
        calls.released.add_permits(10_000);
        soon("the small call ends", small).await.unwrap();
        assert_eq!(soon("the job ends", large).await.unwrap(), 5000);
    });
}

#[test]
fn call_beside_a_large_job_begins_soon_at_a_master() {
    paused(async {
        let calls = CallRecorder::default();
        let cluster = Cluster::new()
            .inproc()
            .master(Master::new("m"))
            .worker_with(Works(calls.clone()), |it| it.concurrency(1))
            .worker_with(Works(calls.clone()), |it| it.concurrency(1))
            .start()
            .await
            .unwrap();
        let master = cluster.handle("m").unwrap();
        let large = job(cluster.client().await.unwrap(), "m.run", "large", 5000);
        eventually("the queue is full", || queued(master, "WorkerPush") >= 500).await;
        calls.wait_for(2).await;
        // Messages without capacity wait upstream of the queue.
        settle().await;
        let before = passed(master, "Pull");
        let small = call(cluster.client().await.unwrap(), "m.run", "small");
        eventually("the call has come", || passed(master, "Pull") > before).await;
        let others = calls.release_until("small", 2).await;
        assert!(others <= 6, "{others} tasks of the job began first");
        calls.released.add_permits(10_000);
        soon("the small call ends", small).await.unwrap();
        assert_eq!(soon("the job ends", large).await.unwrap(), 5000);
    });
}

#[test]
fn clients_share_a_server_by_weight() {
    paused(async {
        let calls = CallRecorder::default();
        let server = Served(calls.clone()).bind(ANY_NAME).concurrency(1);
        let server = server.spawn().await.unwrap();
        let connect = |weight| {
            Client::builder("s", server.db_address())
                .weight(weight)
                .connect()
        };
        let light = job(connect(1).await.unwrap(), "s.run", "light", 1000);
        eventually("the queue is full", || queued(&server, "Executor") >= 500).await;
        let heavy = job(connect(4).await.unwrap(), "s.run", "heavy", 1000);
        eventually("both have calls", || queued(&server, "Executor") > 800).await;
        calls.released.add_permits(500);
        calls.wait_for(501).await;
        let begun = calls.begun.lock().unwrap().clone();
        let heavies = begun.iter().filter(|it| *it == "heavy").count();
        assert!((350..=450).contains(&heavies), "{heavies} of 501");
        calls.released.add_permits(10_000);
        assert_eq!(soon("the jobs end", light).await.unwrap(), 1000);
        assert_eq!(soon("the jobs end", heavy).await.unwrap(), 1000);
    });
}

/// Makes a message of a legacy client.
fn pushed(client: &'static str) -> Message {
    let mut message = Message::new("s.run", client);
    message.set_client(client);
    message
}

#[test]
fn legacy_clients_receive_a_fair_share_of_a_server() {
    paused(async {
        let calls = CallRecorder::default();
        let server = Served(calls.clone()).bind(ANY_NAME).concurrency(1);
        let server = server.spawn().await.unwrap();
        let address = server.address("pull_address").unwrap().parse().unwrap();
        let connect = || async {
            Push::connect(&address, &SocketOptions::default())
                .await
                .unwrap()
        };
        let (flood, other) = (connect().await, connect().await);
        for _ in 0..900 {
            flood.send(pushed("flood").encode()).await.unwrap();
        }
        eventually("the queue is full", || queued(&server, "Executor") == 800).await;
        calls.wait_for(1).await;
        let before = passed(&server, "Pull");
        other.send(pushed("legacy").encode()).await.unwrap();
        let client = Client::connect("s", server.db_address()).await.unwrap();
        let linked = call(client, "s.run", "linked");
        eventually("both have come", || passed(&server, "Pull") == before + 2).await;
        let first = calls.release_until("legacy", 1).await;
        let second = calls.release_until("linked", 1).await;
        assert!(first <= 4 && second <= 4, "{first}, {second}");
        calls.released.add_permits(10_000);
        soon("the call ends", linked).await.unwrap();
    });
}

#[test]
fn queue_limits_hold_back_further_messages() {
    paused(async {
        let calls = CallRecorder::default();
        let server = Served(calls.clone())
            .bind(ANY_NAME)
            .concurrency(1)
            .queue_limits(QueueLimits::new().messages(10).bytes(1_000_000));
        let server = server.spawn().await.unwrap();
        let address = server.address("pull_address").unwrap().parse().unwrap();
        let push = Push::connect(&address, &SocketOptions::default())
            .await
            .unwrap();
        let send = async |client: &'static str, messages: usize| {
            for _ in 0..messages {
                push.send(pushed(client).encode()).await.unwrap();
            }
        };
        send("one", 20).await;
        calls.wait_for(1).await;
        eventually("one client has its part", || {
            queued(&server, "Executor") == 8
        })
        .await;
        send("two", 2).await;
        eventually("the queue is full", || queued(&server, "Executor") >= 9).await;
        send("three", 2).await;
        eventually("the queue is full", || queued(&server, "Executor") == 10).await;
        // One call runs, and ten wait in the queue. The eleventh waits upstream.
        send("four", 1).await;
        settle().await;
        assert_eq!(queued(&server, "Executor"), 10);
        calls.released.add_permits(1);
        calls.wait_for(2).await;
        eventually("the next call is passed on", || {
            queued(&server, "Executor") == 10
        })
        .await;
        calls.released.add_permits(10_000);
        calls.wait_for(25).await;
    });
}
