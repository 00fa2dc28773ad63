//! Servers, masters and pipelines compared with the same hops written by hand, and with pylm.

use palm::prelude::*;

use crate::bare::{BareClient, TOPIC};
use crate::measure::{
    BARE, best_of, count_for, palm_latencies, palm_throughput, print_latency, print_throughput,
};
use crate::pylm::{Pylm, pylm_throughput};
use crate::roles::start;
use crate::support::Process;

pub(crate) fn latency(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let name = "eval, server (p50 / p99)";
    if wanted(name) {
        let (palm, bare) = (start(&["server"]), start(&["bare-server", "foo"]));
        measure_latency(runtime, name, &palm, &bare, Pylm::server());
    }
    let name = "eval, master + worker";
    if wanted(name) {
        let master = start(&["master"]);
        let _worker = start(&["worker", master.address(0)]);
        let bare = start(&["bare-master"]);
        let _bare_worker = start(&["bare-worker", bare.address(2), bare.address(3)]);
        measure_latency(runtime, name, &master, &bare, Pylm::master(1));
    }
}

fn measure_latency(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    palm: &Process,
    bare: &Process,
    pylm: Option<Pylm>,
) {
    const ROUND: usize = 1000;
    runtime.block_on(async {
        let client = Client::connect("server", palm.address(0))
            .await
            .expect("it connects");
        let by_hand = BareClient::connect(bare.address(0), bare.address(1), 10).await;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..11 {
            let latencies = palm_latencies(&client, "server.foo", ROUND).await;
            let bare_latencies = by_hand.latencies(ROUND).await;
            // The first round warms up.
            if round > 0 {
                ours.extend(latencies);
                theirs.extend(bare_latencies);
            }
        }
        let pylm = match pylm {
            Some(pylm) => {
                let client = pylm.client().await;
                Some(palm_latencies(&client, pylm.steps, ROUND).await)
            }
            None => None,
        };
        print_latency(name, BARE, ours, theirs, pylm);
    });
}

/// Measures a cluster and its hand-written counterpart, alternately.
fn throughput(
    runtime: &tokio::runtime::Runtime,
    palm: &Process,
    bare: &Process,
    function: &str,
    payload_bytes: usize,
) -> (f64, f64) {
    let steps = format!("server.{function}");
    let count = count_for(payload_bytes);
    runtime.block_on(async {
        let client = Client::connect("server", palm.address(0))
            .await
            .expect("it connects");
        let by_hand = BareClient::connect(bare.address(0), bare.address(1), payload_bytes).await;
        best_of(
            || palm_throughput(&client, &steps, payload_bytes, count),
            || by_hand.throughput(count),
        )
        .await
    })
}

pub(crate) fn server_throughput(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    function: &str,
    payload_bytes: usize,
) {
    let (palm, bare) = (start(&["server"]), start(&["bare-server", function]));
    let (palm, bare) = throughput(runtime, &palm, &bare, function, payload_bytes);
    let pylm = pylm_throughput(runtime, Pylm::server(), payload_bytes);
    print_throughput(name, BARE, palm, bare, pylm);
}

pub(crate) fn master_throughput(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    payload_bytes: usize,
) {
    let master = start(&["master"]);
    let _workers = [(); 2].map(|()| start(&["worker", master.address(0)]));
    let bare = start(&["bare-master"]);
    let _bare_workers = [(); 2].map(|()| start(&["bare-worker", bare.address(2), bare.address(3)]));
    let (ours, by_hand) = throughput(runtime, &master, &bare, "foo", payload_bytes);
    let pylm = pylm_throughput(runtime, Pylm::master(2), payload_bytes);
    print_throughput(name, BARE, ours, by_hand, pylm);
}

pub(crate) fn pipeline_throughput(runtime: &tokio::runtime::Runtime, name: &str) {
    let first = start(&["first"]);
    let middle = start(&["middle", first.address(0)]);
    let last = start(&["last", middle.address(0)]);
    let bare = start(&["bare-server", "foo"]);
    let bare_middle = start(&["bare-step", bare.address(1), TOPIC, "middle"]);
    let bare_last = start(&["bare-step", bare_middle.address(0), "middle", TOPIC]);
    let count = 200_000;
    let steps = "server.foo middle.foo last.foo";
    let (palm, bare) = runtime.block_on(async {
        let client = Client::builder("server", first.address(0))
            .sub_address(last.address(1))
            .connect()
            .await
            .expect("it connects");
        let by_hand = BareClient::connect(bare.address(0), bare_last.address(0), 10).await;
        best_of(
            || palm_throughput(&client, steps, 10, count),
            || by_hand.throughput(count),
        )
        .await
    });
    let pylm = pylm_throughput(runtime, Pylm::pipeline(), 10);
    print_throughput(name, BARE, palm, bare, pylm);
}
