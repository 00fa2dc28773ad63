//! Calls whose future is dropped: the component that runs them drops them too.

use bytes::Bytes;
use palm::prelude::*;

use super::super::setup::{ANY_NAME, Gate, connect, connect_through, paused, soon};
use super::numbers;

/// Makes a component whose method waits, and counts the calls that are dropped meanwhile.
macro_rules! waiting {
    ($attribute:ident, $key:ident = $name:literal, $type:ident) => {
        struct $type {
            gate: Gate,
            dropped: Gate,
        }

        #[palm::$attribute($key = $name)]
        impl $type {
            #[palm::method]
            async fn wait(&self, payload: Bytes) -> Bytes {
                struct Dropped(Gate);

                impl Drop for Dropped {
                    fn drop(&mut self) {
                        self.0.count_one();
                    }
                }

                let dropped = Dropped(self.dropped.clone());
                self.gate.pass().await;
                std::mem::forget(dropped);
                payload
            }
        }

        impl $type {
            fn new(gate: &Gate, dropped: &Gate) -> Self {
                Self {
                    gate: gate.clone(),
                    dropped: dropped.clone(),
                }
            }
        }
    };
}

waiting!(server, name = "waiting", WaitingServer);
waiting!(pipeline, name = "step", WaitingStep);
waiting!(worker, server = "master", WaitingWorker);

/// Drops a call that runs, then a job whose calls wait in the queue behind it.
async fn give_up(client: &Client, steps: &str, gate: &Gate, dropped: &Gate) {
    let eval = {
        let (client, steps) = (client.clone(), steps.to_owned());
        tokio::spawn(async move { client.eval(steps, "abandoned").await })
    };
    gate.arrived(1).await;
    eval.abort();
    dropped.arrived(1).await;

    // One call runs, and the others are queued.
    let mut job = client.job(steps, numbers(0..50)).expect_answers(50);
    let arrived = async {
        tokio::select! {
            answer = job.next() => panic!("answered {answer:?}"),
            () = gate.arrived(2) => {}
        }
    };
    arrived.await;
    drop(job);
    dropped.arrived(2).await;
    gate.open();
    let answer = client.eval(steps, "wanted").into_future();
    assert_eq!(soon("an answer", answer).await.unwrap(), "wanted");
    assert_eq!(gate.count(), 3, "none of the others was begun");
}

#[test]
fn dropped_call_is_cancelled_in_a_server() {
    paused(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let server = WaitingServer::new(&gate, &dropped)
            .bind(ANY_NAME)
            .concurrency(1);
        let server = server.spawn().await.unwrap();
        let client = connect("waiting", &server).await;
        give_up(&client, "waiting.wait", &gate, &dropped).await;
    });
}

#[test]
fn dropped_call_is_cancelled_in_a_worker() {
    paused(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let master = Master::new("master").bind(ANY_NAME).spawn().await.unwrap();
        let worker = WaitingWorker::new(&gate, &dropped).connect(master.db_address());
        let _worker = worker.concurrency(1).spawn().await.unwrap();
        let client = connect("master", &master).await;
        give_up(&client, "master.wait", &gate, &dropped).await;
    });
}

#[test]
fn dropped_call_is_cancelled_in_a_later_step() {
    paused(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let server = WaitingServer::new(&gate, &dropped)
            .bind(ANY_NAME)
            .pipelined(true);
        let server = server.spawn().await.unwrap();
        let between = WaitingStep::new(&gate, &dropped)
            .bind(ANY_NAME)
            .name("between");
        let between = between.follow(server.db_address());
        let between = between.spawn().await.unwrap();
        let step = WaitingStep::new(&gate, &dropped)
            .bind(ANY_NAME)
            .concurrency(1);
        let step = step.follow(between.db_address()).to_client(true);
        let step = step.spawn().await.unwrap();
        let client = connect_through(&server, &step).await;
        let steps = "waiting.echo between.echo step.wait";
        give_up(&client, steps, &gate, &dropped).await;
    });
}

#[test]
fn cancelled_calls_leave_the_other_calls_of_their_batch_alone() {
    // More than a master accepts of one client, so that some calls are cancelled before they reach its dispatch.
    const CALLS: usize = 700;
    paused(async {
        let (gate, dropped) = (Gate::closed(), Gate::closed());
        let master = Master::new("master").bind(ANY_NAME).spawn().await.unwrap();
        let worker = WaitingWorker::new(&gate, &dropped).connect(master.db_address());
        let _worker = worker.concurrency(1).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let calls = numbers(0..CALLS).into_iter().map(|number| {
            let client = client.clone();
            let call = async move { client.eval("master.wait", number.clone()).await };
            tokio::spawn(call)
        });
        let calls: Vec<_> = calls.collect();
        gate.arrived(1).await;
        for cancelled in calls.iter().step_by(2) {
            cancelled.abort();
        }
        gate.open();
        for (number, call) in calls.into_iter().enumerate().skip(1).step_by(2) {
            let answer = soon("an answer", call).await.unwrap().unwrap();
            assert_eq!(answer, number.to_string());
        }
    });
}
