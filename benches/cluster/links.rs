//! A master, its workers and its client over links, compared with PUSH, PULL, PUB and SUB.

use palm::LinkOptions;
use palm::prelude::*;

use crate::libzmq::Libzmq;
use crate::measure::{
    ROUNDS, SOCKETS, count_for, palm_latencies, palm_throughput, print_latency, print_rates,
};
use crate::roles::start;
use crate::support::Process;

pub(crate) fn measure(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let start_both = || {
        ["worker", "socket-worker"].map(|role| {
            let master = start(&["master"]);
            let workers = [(); 2].map(|()| start(&[role, master.address(0)]));
            (master, workers)
        })
    };
    let connect = async |master: &Process, is_linked: bool| {
        let link = LinkOptions::new().enabled(is_linked);
        let client = Client::builder("server", master.address(0)).link_options(link);
        client.connect().await.expect("it connects")
    };
    let name = "eval, 2 workers";
    if wanted(name) {
        let [(linked, _workers), (pushed, _others)] = start_both();
        runtime.block_on(async {
            let (linked, pushed) = (connect(&linked, true).await, connect(&pushed, false).await);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..10 {
                ours.extend(palm_latencies(&linked, "server.foo", 1000).await);
                theirs.extend(palm_latencies(&pushed, "server.foo", 1000).await);
            }
            print_latency(name, SOCKETS, ours, theirs, None);
        });
    }
    let sizes = [(10, "10 B"), (1024, "1 KB"), (65536, "64 KB")]
        .map(|(payload_bytes, size)| (payload_bytes, format!("2 workers, {size}")));
    if !sizes.iter().any(|(_, name)| wanted(name)) {
        return;
    }
    let program = Libzmq::program();
    for (payload_bytes, name) in sizes {
        if !wanted(&name) {
            continue;
        }
        let [(linked, _workers), (pushed, _others)] = start_both();
        let libzmq = program.as_deref().map(Libzmq::proxy);
        let count = count_for(payload_bytes);
        let [linked, pushed, libzmq] = runtime.block_on(async {
            let (linked, pushed) = (connect(&linked, true).await, connect(&pushed, false).await);
            let mut best = [0.0_f64; 3];
            for _ in 0..ROUNDS {
                let rates = [
                    palm_throughput(&linked, "server.foo", payload_bytes, count).await,
                    palm_throughput(&pushed, "server.foo", payload_bytes, count).await,
                    libzmq
                        .as_ref()
                        .map_or(0.0, |libzmq| libzmq.throughput(payload_bytes, count)),
                ];
                best = std::array::from_fn(|one| best[one].max(rates[one]));
            }
            best
        });
        print_rates(&name, SOCKETS, linked, pushed);
        if program.is_some() {
            let (link, sockets) = (linked / libzmq, pushed / libzmq);
            print!("   libzmq {libzmq:9.0}/s   ratio {link:.2} (link), {sockets:.2} (sockets)");
        }
        println!();
    }
    if program.is_none() {
        println!(
            "2 workers of libzmq          not measured: set PALM_BENCH_LIBZMQ=1 (needs a C++ compiler)"
        );
    }
}
