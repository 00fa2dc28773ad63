//! The components of this program, and the roles of its processes.

use std::io::Write;

use bytes::Bytes;
use palm::prelude::*;
use palm::{Json, LinkOptions};

use crate::bare;
use crate::clients;
use crate::measure::{concurrent_calls, palm_latencies, palm_throughput, quantile};
use crate::support::{ANY, Process, until_orphaned};
use crate::typed::Record;

/// The call of a client of this program.
const STEPS: &str = "server.foo";

#[derive(Default)]
pub(crate) struct Step;

#[palm::server(name = "server")]
impl Step {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }

    /// Returns a copy, so that the answer does not share the memory of the argument.
    #[palm::method]
    fn copy(&self, payload: Bytes) -> Vec<u8> {
        payload.into()
    }

    #[palm::method]
    pub(crate) fn typed(&self, Json(record): Json<Record>) -> Json<Record> {
        Json(record)
    }

    /// Does by hand what `typed` does.
    #[palm::method]
    fn by_hand(&self, payload: Bytes) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<Record>(&payload)?)
    }
}

#[derive(Default)]
pub(crate) struct Middle;

#[palm::pipeline(name = "middle")]
impl Middle {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

#[derive(Default)]
pub(crate) struct Last;

#[palm::pipeline(name = "last")]
impl Last {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

#[derive(Default)]
pub(crate) struct Worker;

#[palm::worker(server = "server")]
impl Worker {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

/// Starts this program in a role.
pub(crate) fn start(arguments: &[&str]) -> Process {
    Process::start(&[&["--role"], arguments].concat())
}

/// Prints the first line of a process, which its parent reads.
pub(crate) fn print_ready(addresses: &[&str]) {
    println!("{}", addresses.join(" "));
    std::io::stdout().flush().expect("stdout is open");
}

pub(crate) async fn run(arguments: &[String]) {
    let own = std::env::var_os("PALM_BENCH_OWN_THREAD").is_some();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server"] => serve(Step.bind(ANY).own_thread(own).spawn().await).await,
        ["first"] => serve(Step.bind(ANY).pipelined(true).own_thread(own).spawn().await).await,
        ["middle", before] => {
            serve(
                Middle
                    .bind(ANY)
                    .follow(before)
                    .own_thread(own)
                    .spawn()
                    .await,
            )
            .await
        }
        ["last", before] => {
            serve(
                Last.bind(ANY)
                    .follow(before)
                    .to_client(true)
                    .own_thread(own)
                    .spawn()
                    .await,
            )
            .await;
        }
        ["master"] => {
            serve(
                Master::new("server")
                    .bind(ANY)
                    .own_thread(own)
                    .spawn()
                    .await,
            )
            .await
        }
        ["worker", master] | ["socket-worker", master] => {
            let link = LinkOptions::new().enabled(arguments[0] == "worker");
            let worker = Worker
                .connect(master)
                .link_options(link)
                .own_thread(own)
                .spawn()
                .await
                .expect("the worker starts");
            print_ready(&["ready"]);
            until_orphaned().await;
            drop(worker);
        }
        ["calls", address, tasks, count] => {
            let client = connect(address).await;
            let [tasks, count] = [tasks, count].map(number);
            // The first round warms up.
            concurrent_calls(&client, STEPS, tasks, count / 10).await;
            let rate = concurrent_calls(&client, STEPS, tasks, count).await;
            print_ready(&[&rate.to_string()]);
            until_orphaned().await;
        }
        ["job", address, count] => {
            let client = connect(address).await;
            palm_throughput(&client, STEPS, 10, number(count) / 10).await;
            let rate = palm_throughput(&client, STEPS, 10, number(count)).await;
            print_ready(&[&rate.to_string()]);
            until_orphaned().await;
        }
        ["latency", address, count] => {
            let client = connect(address).await;
            palm_latencies(&client, STEPS, number(count) / 10).await;
            let mut latencies = palm_latencies(&client, STEPS, number(count)).await;
            let [p50, p99] = [0.5, 0.99].map(|part| quantile(&mut latencies, part).to_string());
            print_ready(&[&p50, &p99]);
            until_orphaned().await;
        }
        ["clients", address, count] => clients::run(address, number(count)).await,
        ["bare-server", function] => bare::run_server(function == "copy").await,
        ["bare-step", before, topic, next] => bare::run_step(before, topic, next).await,
        ["bare-master"] => bare::run_master().await,
        ["bare-worker", push, pull] => bare::run_worker(push, pull).await,
        _ => panic!("no such role: {arguments:?}"),
    }
}

async fn connect(address: &str) -> Client {
    let client = Client::connect("server", address).await;
    client.expect("the component runs")
}

fn number(argument: &str) -> usize {
    argument.parse().expect("it is a number")
}

pub(crate) async fn serve(handle: palm::Result<palm::ComponentHandle>) {
    let handle = handle.expect("the component starts");
    print_ready(&[
        handle.db_address(),
        handle.address("pub_address").unwrap_or_default(),
    ]);
    until_orphaned().await;
}
