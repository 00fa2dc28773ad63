//! The cost of a cluster compared with the bare socket crate and with pylm, as ratios of one run.
//!
//! ```text
//! cargo bench                          # everything
//! cargo bench -- 'master + 2'          # benchmarks whose names contain this
//! PALM_PYLM_PYTHON=.venv/bin/python cargo bench      # with pylm
//! PALM_BENCH_LIBZMQ=1 cargo bench -- libzmq          # with libzmq; needs a C++ compiler
//! PALM_BENCH_NATS=nats-server cargo bench -- tasks   # with NATS: the path of its server
//! PALM_BENCH_GRPC=1 cargo bench -- tasks             # with tonic
//! ```
//!
//! With `PALM_BENCH_OWN_THREAD=1` each component runs on its own thread, with `PALM_BENCH_RUNTIME=current_thread` each
//! process (the hand-written ones included) has one thread.
//!
//! Each component is a process of its own, which is this program with a role (`roles`). `bare` is the same number of
//! hops, processes and bytes, written by hand with the socket crate (`bare`); `by hand` is the same call with the codec
//! run by the caller and by the method (`typed`). Noise of the machine is in both, so compare the ratios of one run,
//! not the numbers of two runs.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod calls;
mod clients;
mod hops;
mod libzmq;
mod links;
mod measure;
mod peers;
mod pylm;
mod roles;
mod typed;

fn main() {
    let mut arguments = support::arguments().into_iter();
    let first = arguments.next();
    if first.as_deref() == Some("--role") {
        let arguments: Vec<_> = arguments.collect();
        runtime().block_on(roles::run(&arguments));
        return;
    }
    let filter = first.unwrap_or_default();
    let runtime = runtime();
    let wanted = |name: &str| name.contains(&filter);
    hops::latency(&runtime, wanted);
    for (payload_bytes, size) in [(10, "10 B"), (1024, "1 KB"), (65536, "64 KB")] {
        let name = format!("server, {size}");
        if wanted(&name) {
            hops::server_throughput(&runtime, &name, "foo", payload_bytes);
        }
        let name = format!("master + 2 workers, {size}");
        if wanted(&name) {
            hops::master_throughput(&runtime, &name, payload_bytes);
        }
    }
    let name = "server that copies, 64 KB";
    if wanted(name) {
        hops::server_throughput(&runtime, name, "copy", 65536);
    }
    let name = "pipeline of 3, 10 B";
    if wanted(name) {
        hops::pipeline_throughput(&runtime, name);
    }
    calls::measure(wanted);
    clients::measure(wanted);
    links::measure(&runtime, wanted);
    libzmq::measure(&runtime, wanted);
    typed::measure(&runtime, wanted);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = match std::env::var("PALM_BENCH_RUNTIME").as_deref() {
        Ok("current_thread") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().expect("the runtime starts")
}
