//! Many clients of one component, each with a connection of its own: memory of a connection at both ends, and how
//! evenly the clients are answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use palm::prelude::*;

use crate::measure::quantile;
use crate::roles::{print_ready, start};
use crate::support::{memory_kib, until_orphaned};

const CLIENTS: usize = 1000;

/// Calls of each client, one after the other.
const CALLS: usize = 50;

/// Clients that connect at the same time.
const CONNECTING: usize = 20;

/// Measures a server, and a master with two workers.
pub(crate) fn measure(wanted: impl Fn(&str) -> bool) {
    for (name, role, workers) in [
        ("1000 clients, server", "server", 0),
        ("1000 clients, 2 workers", "master", 2),
    ] {
        if !wanted(name) {
            continue;
        }
        let component = start(&[role]);
        let address = component.address(0);
        let workers: Vec<_> = (0..workers).map(|_| start(&["worker", address])).collect();
        // One client first, so that what all clients share is not counted.
        drop(start(&["clients", address, "1"]));
        let before = component.memory_kib();
        let clients = start(&["clients", address, &CLIENTS.to_string()]);
        let here = (component.memory_kib() - before) as f64 / CLIENTS as f64;
        let [there, p50, p99, rate] = [0, 1, 2, 3].map(|it| clients.address(it));
        println!(
            "{name:<28} {here:.0} KiB a connection here, {there} KiB at a client; {p50} / {p99} ms; {rate}/s"
        );
        drop((clients, workers));
    }
}

/// Connects clients to `address`, and prints the KiB of each, and the median and the 99th percentile of their calls in
/// ms while all clients call, and the calls per second.
pub(crate) async fn run(address: &str, count: usize) {
    let payload = Bytes::from_static(&[b'x'; 10]);
    let first = connect(address).await;
    first
        .eval("server.foo", payload.clone())
        .await
        .expect("it answers");
    let before = memory_kib("self");
    let clients: Vec<_> = stream::iter(0..count)
        .map(async |_| {
            let client = connect(address).await;
            client
                .eval("server.foo", payload.clone())
                .await
                .map(|_| client)
        })
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await
        .expect("each client is answered");
    let memory = memory_kib("self").saturating_sub(before) as f64 / count as f64;
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for client in &clients {
        let (client, payload) = (client.clone(), payload.clone());
        running.spawn(async move {
            let mut latencies = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let start = Instant::now();
                let answer = client.eval("server.foo", payload.clone()).await;
                answer.expect("it answers");
                latencies.push(start.elapsed());
            }
            latencies
        });
    }
    let mut latencies: Vec<Duration> = running.join_all().await.concat();
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&mut latencies, part) / 1000.0);
    print_ready(&[
        &format!("{memory:.0}"),
        &format!("{p50:.1}"),
        &format!("{p99:.1}"),
        &format!("{rate:.0}"),
    ]);
    until_orphaned().await;
}

async fn connect(address: &str) -> Client {
    let client = Client::connect("server", address).await;
    client.expect("the component runs")
}
