//! Components whose peers, or whose runtimes, vanish.

use std::time::{Duration, Instant};

use palm::prelude::*;

use super::super::link::CutProxy;
use super::super::setup::{ANY, Gate, check, connect, eventually, soon};
use super::{LONG, Server, all_are_answered, calls, master, worker};

#[test]
fn running_tasks_of_a_worker_whose_runtime_shuts_down_are_run_by_another() {
    check(async {
        let master = master(ANY, LONG).await;
        let client = connect("master", &master).await;
        let (first_gate, second_gate) = (Gate::closed(), Gate::closed());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let first = worker(master.db_address(), &first_gate, LONG).concurrency(4);
        let first = runtime.spawn(first.spawn()).await.unwrap().unwrap();
        let calls = calls(&client, "master.wait", 4);
        first_gate.arrived(4).await;
        second_gate.open();
        let second = worker(master.db_address(), &second_gate, LONG).concurrency(4);
        let _second = second.spawn().await.unwrap();
        runtime.shutdown_background();
        all_are_answered(calls).await;
        drop(first);
    });
}

#[test]
fn shutdown_does_not_wait_for_a_vanished_client_with_unread_answers() {
    check(async {
        let gate = Gate::closed();
        let server = Server { gate: gate.clone() };
        let server = server.bind(ANY).drain_limit(LONG).spawn().await.unwrap();
        let line = CutProxy::new(server.db_address()).await;
        let client = Client::connect("server", &*line.address).await.unwrap();
        let calls = calls(&client, "server.wait", 3);
        gate.arrived(1).await;
        let received = || server.metrics().part("Pull").unwrap().messages == 3;
        eventually("the calls", received).await;
        line.close();
        gate.open();
        let published = || server.metrics().part("Pub").unwrap().messages == 3;
        eventually("the answers", published).await;
        let begin = Instant::now();
        soon("the end", server.shutdown()).await.unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{:?}",
            begin.elapsed()
        );
        drop(calls);
    });
}
