//! A stopped component loses no more than a killed one: tasks return to their master, calls to their clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::component::WorkerBuilder;
use palm::prelude::*;
use palm::{CallError, ComponentHandle, FailureKind};
use tokio::time::Instant;

use super::setup::{ANY_NAME, Gate, check, connect, eventually, paused, soon};

mod connections;
mod follower;

/// A drain limit that tests reach.
const SHORT: Duration = Duration::from_millis(300);

/// A drain limit that no test reaches.
const LONG: Duration = Duration::from_secs(30);

/// Waits at its gate, asynchronously or blocking a thread.
struct Gated {
    gate: Gate,
    thread: Arc<ThreadGate>,
}

/// A gate for threads.
#[derive(Default)]
struct ThreadGate {
    is_open: Mutex<bool>,
    opened: Condvar,
    arrived: AtomicUsize,
}

impl ThreadGate {
    fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let is_open = self.is_open.lock().unwrap();
        let _open = self.opened.wait_while(is_open, |is_open| !*is_open);
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[palm::worker(server = "master")]
impl Gated {
    #[palm::method]
    async fn wait(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method(at_most_once)]
    async fn once(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method(blocking)]
    fn compute(&self, payload: Bytes) -> Bytes {
        self.gate.count_one();
        self.thread.pass();
        payload
    }

    #[palm::method]
    async fn nothing(&self) {
        self.gate.pass().await;
    }
}

struct Server {
    gate: Gate,
}

#[palm::server(name = "server")]
impl Server {
    #[palm::method]
    async fn wait(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }
}

async fn master(at: &str, limit: Duration) -> ComponentHandle {
    let master = Master::new("master").bind(at).drain_limit(limit);
    master.spawn().await.unwrap()
}

fn worker(at: &str, gate: &Gate, limit: Duration) -> WorkerBuilder<Gated> {
    let worker = Gated {
        gate: gate.clone(),
        thread: Arc::default(),
    };
    worker.connect(at).drain_limit(limit)
}

type Call = tokio::task::JoinHandle<Result<Bytes, CallError>>;

fn calls(client: &Client, function: &'static str, count: usize) -> Vec<Call> {
    let call = |number: usize| {
        let client = client.clone();
        let payload = number.to_string();
        tokio::spawn(async move {
            let eval = client.eval(function, payload);
            eval.timeout(Duration::from_secs(20)).await
        })
    };
    (0..count).map(call).collect()
}

async fn all_are_answered(calls: Vec<Call>) {
    for (number, call) in calls.into_iter().enumerate() {
        let answer = soon("an answer", call).await.unwrap();
        assert_eq!(answer.unwrap(), number.to_string());
    }
}

/// Ends a worker while its tasks run, and checks that another worker runs them.
async fn running_tasks_are_run_by_another(
    at: &str,
    function: &'static str,
    end: impl AsyncFnOnce(ComponentHandle),
) {
    let master = master(at, LONG).await;
    let (first_gate, second_gate) = (Gate::closed(), Gate::closed());
    let thread = Arc::new(ThreadGate::default());
    let first = Gated {
        gate: first_gate.clone(),
        thread: thread.clone(),
    };
    let first = first
        .connect(master.db_address())
        .concurrency(4)
        .drain_limit(SHORT);
    let first = first.spawn().await.unwrap();
    let client = connect("master", &master).await;
    let calls = calls(&client, function, 4);
    first_gate.arrived(4).await;
    second_gate.open();
    let second = Gated {
        gate: second_gate.clone(),
        thread: Arc::default(),
    };
    second.thread.open();
    let second = second.connect(master.db_address()).concurrency(4);
    let _second = second.spawn().await.unwrap();
    end(first).await;
    if function != "master.nothing" {
        all_are_answered(calls).await;
    } else {
        for call in calls {
            let answer = soon("an answer", call).await.unwrap();
            assert!(
                matches!(answer, Err(CallError::NoAnswer { .. })),
                "{answer:?}"
            );
        }
    }
    assert_eq!(second_gate.count(), 4);
    // A result that arrives for a returned task changes nothing.
    first_gate.open();
    thread.open();
    master.shutdown().await.unwrap();
}

/// Ends at its drain limit, with running calls.
async fn shut_down_at_the_limit(worker: ComponentHandle) {
    let begin = Instant::now();
    let error = soon("the end", worker.shutdown()).await.unwrap_err();
    let took = begin.elapsed();
    assert!(took >= SHORT && took < Duration::from_secs(3), "{took:?}");
    assert!(error.to_string().contains("Executor"), "{error}");
}

#[test]
fn running_tasks_of_a_worker_at_its_drain_limit_are_run_by_another() {
    for function in ["master.wait", "master.nothing"] {
        let end = shut_down_at_the_limit;
        paused(running_tasks_are_run_by_another(ANY_NAME, function, end));
    }
}

/// Paused time does not advance while a blocking method runs.
#[test]
fn blocking_tasks_of_a_worker_at_its_drain_limit_are_run_by_another() {
    let end = shut_down_at_the_limit;
    check(running_tasks_are_run_by_another(
        ANY_NAME,
        "master.compute",
        end,
    ));
}

#[test]
fn running_task_that_must_not_run_twice_fails_at_the_drain_limit() {
    paused(async {
        let master = master(ANY_NAME, LONG).await;
        let gates = [Gate::closed(), Gate::closed()];
        let first = worker(master.db_address(), &gates[0], SHORT);
        let first = first.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let calls = calls(&client, "master.once", 1);
        gates[0].arrived(1).await;
        gates[1].open();
        let second = worker(master.db_address(), &gates[1], LONG);
        let _second = second.spawn().await.unwrap();
        soon("the end", first.shutdown()).await.unwrap_err();
        for call in calls {
            let answer = soon("an error", call).await.unwrap();
            let Err(CallError::Remote(error)) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(error.kind, FailureKind::Unavailable);
            assert!(error.message.contains("must not be run twice"), "{error}");
        }
        assert_eq!(gates[1].count(), 0);
        gates[0].open();
    });
}

#[test]
fn running_tasks_of_a_worker_whose_handle_is_dropped_are_run_by_another() {
    paused(running_tasks_are_run_by_another(
        ANY_NAME,
        "master.wait",
        async |first| drop(first),
    ));
}

#[test]
fn prefetched_tasks_of_a_draining_worker_are_redelivered_immediately() {
    paused(async {
        let master = master(ANY_NAME, LONG).await;
        let (first_gate, second_gate) = (Gate::closed(), Gate::closed());
        let first = worker(master.db_address(), &first_gate, LONG);
        let first = first.concurrency(1).prefetch(8).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let mut calls = calls(&client, "master.wait", 4);
        first_gate.arrived(1).await;
        let received = || first.metrics().part("Pull").unwrap().messages == 4;
        eventually("all tasks at the first worker", received).await;
        second_gate.open();
        let second = worker(master.db_address(), &second_gate, LONG).concurrency(1);
        let _second = second.spawn().await.unwrap();
        let ending = tokio::spawn(first.shutdown());
        second_gate.arrived(3).await;
        assert_eq!(
            first_gate.count(),
            1,
            "the first worker began a returned task"
        );
        assert!(!ending.is_finished());
        // Either of the calls may run at the first worker.
        let mut answered = Vec::new();
        let three = async {
            while answered.len() < 3 {
                let done = |call: &Call| call.is_finished();
                match calls.iter().position(done) {
                    Some(index) => answered.push(calls.swap_remove(index)),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        soon("three answers", three).await;
        first_gate.open();
        for call in answered.into_iter().chain(calls) {
            soon("an answer", call).await.unwrap().unwrap();
        }
        soon("the end", ending).await.unwrap().unwrap();
    });
}

#[test]
fn backlog_of_a_master_at_its_drain_limit_is_sent_again_by_its_clients() {
    paused(async {
        let first = master(ANY_NAME, SHORT).await;
        let at = first.db_address().to_owned();
        let gate = Gate::closed();
        let _worker = worker(&at, &gate, LONG)
            .concurrency(2)
            .spawn()
            .await
            .unwrap();
        let client = Client::connect("master", &*at).await.unwrap();
        let count = 400;
        let inputs: Vec<_> = (0..count).map(|number: u32| number.to_string()).collect();
        let job = client.job("master.wait", inputs);
        let answers = tokio::spawn(async move {
            let mut answers = BTreeMap::<Bytes, u32>::new();
            let mut job = std::pin::pin!(job.timeout(Duration::from_secs(20)));
            while let Some(answer) = job.next().await {
                *answers.entry(answer.unwrap()).or_default() += 1;
            }
            answers
        });
        gate.arrived(2).await;
        let received = || first.metrics().part("Pull").unwrap().messages > 300;
        eventually("a backlog", received).await;
        let error = soon("the end", first.shutdown()).await.unwrap_err();
        assert!(error.to_string().contains("WorkerPush"), "{error}");
        let _second = master(&at, LONG).await;
        gate.open();
        let answers = soon("the answers", answers).await.unwrap();
        assert_eq!(answers.len(), count as usize);
        assert!(answers.values().all(|&times| times == 1));
    });
}

#[test]
fn call_of_a_server_at_its_drain_limit_is_sent_again_by_its_client() {
    paused(async {
        let start = async |at: &str, gate: &Gate| {
            let server = Server { gate: gate.clone() };
            let server = server.bind(at).drain_limit(SHORT);
            server.spawn().await.unwrap()
        };
        let (first_gate, second_gate) = (Gate::closed(), Gate::closed());
        let first = start(ANY_NAME, &first_gate).await;
        let at = first.db_address().to_owned();
        let client = Client::connect("server", &*at).await.unwrap();
        let calls = calls(&client, "server.wait", 3);
        first_gate.arrived(1).await;
        let received = || first.metrics().part("Pull").unwrap().messages == 3;
        eventually("all calls", received).await;
        soon("the end", first.shutdown()).await.unwrap_err();
        second_gate.open();
        let _second = start(&at, &second_gate).await;
        all_are_answered(calls).await;
    });
}

#[test]
fn master_without_workers_stops_immediately_and_its_calls_survive_a_restart() {
    paused(async {
        let first = master(ANY_NAME, LONG).await;
        let at = first.db_address().to_owned();
        let client = Client::connect("master", &*at).await.unwrap();
        let calls = calls(&client, "master.wait", 3);
        let received = || first.metrics().part("Pull").unwrap().messages == 3;
        eventually("the calls", received).await;
        let begin = Instant::now();
        soon("the end", first.shutdown()).await.unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{:?}",
            begin.elapsed()
        );
        let _second = master(&at, LONG).await;
        let gate = Gate::closed();
        gate.open();
        let _worker = worker(&at, &gate, LONG).spawn().await.unwrap();
        all_are_answered(calls).await;
    });
}

#[test]
fn worker_stops_immediately_if_its_master_is_lost() {
    paused(async {
        let master = master(ANY_NAME, LONG).await;
        let gate = Gate::closed();
        let worker = worker(master.db_address(), &gate, LONG).concurrency(2);
        let worker = worker.spawn().await.unwrap();
        let client = connect("master", &master).await;
        let calls = calls(&client, "master.wait", 2);
        gate.arrived(2).await;
        master.kill().await;
        gate.open();
        let begin = Instant::now();
        soon("the end", worker.shutdown()).await.unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{:?}",
            begin.elapsed()
        );
        drop(calls);
    });
}
