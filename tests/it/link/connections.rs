//! Links whose connections are cut, and whose workers are processes that are killed or stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use palm::{CallError, ComponentHandle, FailureKind};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::process::Process;
use super::super::setup::{ANY, Gate, chain, check, connect, eventually, options};
use super::{Hand, RunningJob, hand, master, numbers, quick, sorted};
use palm::prelude::*;

/// Starts a worker in a process of its own.
async fn process(master: &ComponentHandle) -> Process {
    Process::run("linked_worker", &[("db_address", master.db_address())]).await
}

#[test]
fn tasks_of_a_killed_worker_are_redelivered() {
    check(async {
        let master = master(ANY).await;
        let first = process(&master).await;
        let second = process(&master).await;
        let client = connect("master", &master).await;
        let payloads: Vec<_> = (0..400).map(|number| format!("5 {number}")).collect();
        let mut answers = RunningJob::start(&client, "master.work", payloads.clone());
        answers.until(100).await;
        first.kill();
        answers.until(200).await;
        // No worker is left, and then another one connects.
        second.kill();
        let _third = process(&master).await;
        assert_eq!(answers.all().await, sorted(payloads));
    });
}

#[test]
fn worker_that_is_stopped_and_resumed_answers_no_task_twice() {
    check(async {
        let master = master(ANY).await;
        let stopped = process(&master).await;
        let client = connect("master", &master).await;
        let payloads: Vec<_> = (0..60).map(|number| format!("20 {number}")).collect();
        let mut answers = RunningJob::start(&client, "master.work", payloads.clone());
        answers.until(5).await;
        stopped.pause().unwrap();
        let (_hand, gate) = hand(master.db_address(), 2).await;
        // The other worker runs all remaining tasks, including those that the first had begun.
        gate.arrived(40).await;
        stopped.resume().unwrap();
        assert_eq!(answers.all().await, sorted(payloads));
        // Both workers are still connected.
        let more = RunningJob::start(&client, "master.work", vec!["300 x".to_owned(); 6]);
        assert_eq!(more.all().await.len(), 6);
    });
}

#[test]
fn poison_message_fails_with_the_names_of_the_lost_workers() {
    check(async {
        let master = master(ANY).await;
        let client = connect("master", &master).await;
        let lost = async {
            for _ in 0..3 {
                let mut worker = process(&master).await;
                worker.ended().await;
            }
        };
        let eval = client
            .eval("master.crash", "")
            .timeout(Duration::from_secs(30));
        let (answer, ()) = tokio::join!(eval.into_future(), lost);
        let error = answer.unwrap_err();
        let CallError::Remote(error) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.contains("3 workers were lost while they ran it"),
            "{text}"
        );
        // The next task is not affected.
        let _worker = process(&master).await;
        let eval = client
            .eval("master.work", "1")
            .timeout(Duration::from_secs(10));
        assert_eq!(eval.await.unwrap(), "1");
    });
}

#[test]
fn at_most_once_task_is_not_redelivered() {
    check(async {
        let master = master(ANY).await;
        let client = connect("master", &master).await;
        let (_hand, gate) = hand(master.db_address(), 1).await;
        let busy = RunningJob::start(&client, "master.gated", numbers(1));
        gate.arrived(1).await;
        // This worker is idle, so it receives the task.
        let mut worker = process(&master).await;
        let connected = || master.metrics().sessions == 3;
        eventually("the sessions of two workers and the client", connected).await;
        let eval = client
            .eval("master.crash_once", "")
            .timeout(Duration::from_secs(30));
        let error = eval.await.unwrap_err();
        worker.ended().await;
        let text = chain(&error);
        assert!(text.contains("must not be run twice"), "{text}");
        gate.open();
        busy.all().await;
    });
}

/// A proxy between a worker and its master, whose connections can be cut.
pub(crate) struct CutProxy {
    pub(crate) address: String,
    cut: watch::Sender<usize>,
    pub(crate) connections: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl CutProxy {
    pub(crate) async fn new(master: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let master = master.strip_prefix("tcp://").unwrap().to_owned();
        let cut = watch::Sender::new(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let (cuts, opened) = (cut.subscribe(), connections.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let Ok(mut to) = TcpStream::connect(&master).await else {
                    continue;
                };
                for stream in [&from, &to] {
                    stream.set_nodelay(true).unwrap();
                }
                opened.fetch_add(1, Ordering::Relaxed);
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            cut,
            connections,
            accepting,
        }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts the connections, and accepts no more.
    pub(crate) fn close(&self) {
        self.accepting.abort();
        self.cut();
    }
}

#[test]
fn cut_connection_to_a_worker_neither_loses_nor_repeats_results() {
    check(async {
        let master = master(ANY).await;
        let line = CutProxy::new(master.db_address()).await;
        let gate = Gate::closed();
        let hand = Hand { gate: gate.clone() }.connect(&*line.address);
        let sockets = options().max_reconnect_delay(Duration::from_millis(20));
        let hand = hand
            .concurrency(4)
            .link_options(quick())
            .socket_options(sockets);
        let hand = hand.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let payloads: Vec<_> = (0..2000).map(|number| format!("1 {number}")).collect();
        let mut answers = RunningJob::start(&client, "master.work", payloads.clone());
        for round in 1..=9 {
            answers.until(200 * round).await;
            let before = line.connections.load(Ordering::Relaxed);
            line.cut();
            let again = || line.connections.load(Ordering::Relaxed) > before;
            eventually("another connection", again).await;
        }
        assert_eq!(answers.all().await, sorted(payloads));
        // The worker reconnected in time, so each task ran once.
        let metrics = hand.metrics();
        assert_eq!(metrics.function("work").unwrap().working.count(), 2000);
    });
}
