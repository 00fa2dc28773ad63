//! Limits of links: messages on both ways, tasks, and the contents of a `hello`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use palm::prelude::*;
use tokio::sync::Semaphore;

use super::super::process::Process;
use super::super::setup::{Gate, check_for, finally, soon};
use super::session::{CROWDED, Session, WRONG};
use super::wire::{Function, Hello};
use super::{BACKLOG, MIB, Measured, QUEUE, TASKS, UNREAD, send_request};

/// How long such a test may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Documented limits that no option sets: of all `hello`s, of tasks that wait, and of unread news.
const HELLOS: usize = 64 * MIB;
const WAITING_TASKS: usize = 64 * MIB;
const NEWS: usize = 16 * MIB;

#[test]
fn hellos_of_workers_are_bounded_per_peer_and_in_total() {
    check_for(LIMIT, async {
        let master = Measured::run("memory_master_default").await;
        let at = master.db_address();
        let hello = |number: u32, functions: usize, doc_bytes: usize| Hello {
            version: 3,
            role: "worker".to_owned(),
            name: format!("w{number}"),
            functions: (0..functions)
                .map(|it| Function {
                    name: format!("w{number}f{it}"),
                    doc: "d".repeat(doc_bytes),
                })
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
        master.assert_within(HELLOS);
        // A worker with an ordinary `hello` is still accepted, and receives tasks.
        let _worker = Process::run("linked_worker", &[("db_address", at)]).await;
        master.assert_master_serves().await;
        // Peers that disconnect release the memory of their `hello`s.
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
fn unread_calls_are_bounded_in_total_and_none_of_a_client_is_lost() {
    check_for(LIMIT, async {
        let server = Measured::run("memory_server_limited").await;
        let at = server.db_address();
        let block = Bytes::from(vec![b'z'; 4 * MIB]);
        // Each connection keeps the buffers of some messages for the next ones.
        let buffers = 40 * 2 * block.len();
        let request = server.request().await;
        let mut sessions = Vec::new();
        // Each sends what its credit admits of: 640 MiB in all.
        for number in 0..40 {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            for _ in 0..4 {
                let payload = std::slice::from_ref(&block);
                session.call("server.wait", &client, payload).await;
                // The component mostly handles messages that its sockets have received before it answers.
                let name = send_request(&request, "server.get", "", "name");
                assert_eq!(soon("a reply", name).await, "server");
            }
            sessions.push(session);
        }
        // Inputs of another client wait while the limit is reached; none is lost.
        let client = Client::connect("server", at.to_owned());
        let client = soon("a client", client).await.unwrap();
        let job = client.job("server.wait", vec![block.clone(); 30]);
        let job = tokio::spawn(job.collect::<Vec<_>>());
        for _ in 0..50 {
            let name = send_request(&request, "server.get", "", "name");
            assert_eq!(soon("a reply", name).await, "server");
        }
        server.reaches(UNREAD).await;
        server.assert_within(UNREAD + QUEUE + buffers);
        soon(
            "a reply",
            send_request(&request, "server.set", "open", "now"),
        )
        .await;
        let answers = finally("all answers", job).await.unwrap();
        let expected = block.len().to_string();
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), expected.as_bytes());
        }
        assert_eq!(answers.len(), 30);
        server.assert_within(UNREAD + QUEUE + buffers);
    });
}

#[test]
fn unread_answers_are_bounded_in_total_and_other_clients_are_answered() {
    check_for(LIMIT, async {
        let server = Measured::run("memory_server_limited").await;
        let at = server.db_address();
        let mut sessions = Vec::new();
        // Each requests 48 MiB, and grants no credit: 1.4 GiB in all.
        for number in 0..30 {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            let payloads = vec![Bytes::new(); 12];
            session.call("server.big", &client, &payloads).await;
            sessions.push(session);
        }
        let client = Client::connect("server", at.to_owned());
        let client = soon("a client", client).await.unwrap();
        for _ in 0..5 {
            let answer = client.eval("server.size", "abc").into_future();
            assert_eq!(finally("an answer", answer).await.unwrap(), "3");
        }
        let answers = client.job("server.big", vec![""; 10]);
        let answers = finally("answers", answers.collect::<Vec<_>>()).await;
        for answer in answers {
            assert_eq!(answer.unwrap().len(), 4 * MIB);
        }
        server.assert_within(BACKLOG + QUEUE + UNREAD);
    });
}

/// The size of a result, which is larger than the buffers that a connection keeps for further messages.
const RESULT: usize = 9 * MIB;

/// A worker whose results are large, and are sent when they are released.
struct Large {
    begun: Gate,
    released: Arc<Semaphore>,
}

#[palm::worker(server = "master")]
impl Large {
    #[palm::method]
    async fn large(&self) -> Vec<u8> {
        self.begun.count_one();
        self.released.acquire().await.unwrap().forget();
        vec![b'x'; RESULT]
    }
}

#[test]
fn unread_results_of_workers_are_bounded_in_total_and_none_is_lost() {
    check_for(LIMIT, async {
        const WORKERS: usize = 50;
        let master = Measured::run("memory_gathers_limited").await;
        let begun = Gate::closed();
        let released = Arc::new(Semaphore::new(0));
        let workers = (0..WORKERS).map(|_| {
            let (begun, released) = (begun.clone(), released.clone());
            let worker = Large { begun, released }.connect(master.db_address());
            worker.concurrency(1).prefetch(0).spawn()
        });
        let workers = finally("the workers", join_all(workers)).await;
        let _workers: Vec<_> = workers.into_iter().map(Result::unwrap).collect();
        let client = Client::connect("master", master.db_address());
        let client = soon("a client", client).await.unwrap();
        let job = client.job("master.large", vec![""; WORKERS]);
        let job = tokio::spawn(job.timeout(LIMIT).collect::<Vec<_>>());
        begun.arrived(WORKERS).await;
        let request = master.request().await;
        // One after another: 450 MiB in all.
        for _ in 0..WORKERS {
            released.add_permits(1);
            for _ in 0..3 {
                master.assert_answers(&request).await;
            }
        }
        master.reaches(UNREAD).await;
        master.assert_within(UNREAD + RESULT + QUEUE);
        soon("a reply", send_request(&request, "_.set", "open", "now")).await;
        // The other results are requested again, and all connections receive them at the same time.
        let answers = job.await.unwrap();
        assert_eq!(answers.len(), WORKERS);
        for answer in answers {
            assert_eq!(answer.unwrap().len(), RESULT);
        }
    });
}

#[test]
fn assigned_and_waiting_tasks_are_bounded_in_total() {
    check_for(LIMIT, async {
        const CLIENTS: u32 = 80;
        let master = Measured::run("memory_master_limited").await;
        let at = master.db_address();
        let request = master.request().await;
        let mut workers = Vec::new();
        for number in 0..4 {
            workers.push(Session::worker(at, number, &["hoard"]).await);
        }
        let block = Bytes::from(vec![b'z'; MIB]);
        let mut clients = Vec::new();
        // Each client sends as much as its credit admits: 720 MiB in all.
        for number in 100..100 + CLIENTS {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            for _ in 0..9 {
                let payload = std::slice::from_ref(&block);
                session.call("master.hoard", &client, payload).await;
            }
            clients.push(session);
            master.assert_answers(&request).await;
        }
        let buffers = CLIENTS as usize * 2 * block.len();
        master.reaches(TASKS).await;
        master.assert_within(TASKS + WAITING_TASKS + UNREAD + QUEUE + buffers);
        master.assert_answers(&request).await;
        drop(workers);
    });
}

#[test]
fn unread_publications_are_bounded_in_total() {
    check_for(LIMIT, async {
        let server = Measured::run("memory_publisher_limited").await;
        let at = server.db_address();
        let request = server.request().await;
        let mut subscribers = Vec::new();
        for number in 0..4 {
            subscribers.push(Session::subscriber(at, number, "server").await);
        }
        let mut clients = Vec::new();
        // The results go to the next step: 1.4 GiB in all.
        for number in 100..130 {
            let mut session = Session::client(at, number).await;
            let client = format!("client{number}/1");
            let payloads = vec![Bytes::new(); 12];
            session
                .call("server.big next.step", &client, &payloads)
                .await;
            clients.push(session);
        }
        let reached = async {
            while server.peak() < BACKLOG {
                server.assert_answers(&request).await;
            }
        };
        finally("a full backlog", reached).await;
        for _ in 0..50 {
            server.assert_answers(&request).await;
        }
        server.assert_within(BACKLOG + QUEUE + UNREAD);
        // When the subscribers have left, others are answered.
        drop(subscribers);
        let client = Client::connect("server", at);
        let client = soon("a client", client).await.unwrap();
        let answer = client.eval("server.size", "abc").timeout(LIMIT);
        assert_eq!(
            finally("an answer", answer.into_future()).await.unwrap(),
            "3"
        );
        server.assert_within(BACKLOG + QUEUE + UNREAD);
    });
}

#[test]
fn unread_subscription_events_are_bounded_in_total() {
    check_for(LIMIT, async {
        let server = Measured::run("memory_publisher_limited").await;
        let at = server.db_address();
        // While the publishing part waits for this subscriber, it reads no subscription events.
        let _slow = Session::subscriber(at, 0, "server").await;
        let mut caller = Session::client(at, 1).await;
        let payloads = vec![Bytes::new(); 20];
        caller
            .call("server.big next.step", "client1/1", &payloads)
            .await;
        let reached = async {
            let request = server.request().await;
            while server.peak() < BACKLOG {
                server.assert_answers(&request).await;
            }
        };
        finally("a full backlog", reached).await;
        const TOPICS: usize = 64;
        const TOPIC_BYTES: usize = 256;
        /// Bookkeeping that counts for each topic.
        const OVERHEAD: usize = 256;
        let hello = |number: u32| {
            let topics = (0..TOPICS).map(|it| format!("{number:08}{it:02}{}", "t".repeat(246)));
            Hello {
                version: 3,
                role: "subscriber".to_owned(),
                name: format!("subscriber{number}"),
                topics: topics.collect(),
                ..Hello::default()
            }
        };
        // Each session ends the previous one of the connection, but its news is still unread: 46 MiB in all.
        let mut session = Session::send_hello(at, 10, hello(10)).await;
        let (mut admitted, mut refused) = (0, 0);
        for number in 11..1511 {
            match session.refusal().await {
                Some(kind) => {
                    assert_eq!(kind, CROWDED);
                    refused += 1;
                }
                None => admitted += 1,
            }
            session.send_next_hello(number, hello(number)).await;
        }
        let news = admitted * TOPICS * (TOPIC_BYTES + OVERHEAD);
        assert!(news <= NEWS && news > NEWS / 2, "{admitted} admitted");
        assert!(refused > 0, "{admitted} admitted");
        server.assert_within(BACKLOG + QUEUE + NEWS + HELLOS);
    });
}
