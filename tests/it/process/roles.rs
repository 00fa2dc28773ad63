//! What a child process runs: the one ignored test [`child`] is its main function, and the environment names its role.
//!
//! A role is a component, which prints [`READY`] and its addresses and runs until it is killed, or a function of the
//! module whose tests need it.

use std::collections::BTreeMap;
use std::process::Command;

use palm::prelude::*;
use palm::{ComponentHandle, FileStore};

use super::super::lifecycle::{Hand, Slow, Step};
#[cfg(target_os = "linux")]
use super::super::memory;
use super::super::setup::{ANY, Gate};
use super::super::{binds, cache, json_logs, link, liveness, network, restarts, waiting};

const ROLE: &str = "PALM_IT_ROLE";
const ARGUMENTS: &str = "PALM_IT_ARGUMENTS";

/// Begins the line that a process prints when it is ready.
pub(super) const READY: &str = "@ready";

/// The arguments that are addresses which a component binds.
pub(super) const ADDRESSES: [&str; 5] = [
    "db_address",
    "pull_address",
    "pub_address",
    "worker_push_address",
    "worker_pull_address",
];

/// The arguments of a role, by name.
pub(crate) type Arguments = BTreeMap<String, String>;

pub(super) fn configure(command: &mut Command, role: &str, arguments: &[(&str, &str)]) {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    command
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "process::roles::child_process_runs_its_role",
        ])
        .env(ROLE, role)
        .env(ARGUMENTS, arguments.join(" "));
}

pub(super) fn parse_arguments(text: &str) -> Arguments {
    let pairs = text
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Says that the process is ready. The line break ends what the test harness has printed.
pub(crate) fn print_ready<'a>(addresses: impl IntoIterator<Item = (&'a String, &'a String)>) {
    let pairs = addresses
        .into_iter()
        .map(|(key, at)| format!(" {key}={at}"));
    println!("\n{READY}{}", pairs.collect::<String>());
}

#[test]
#[ignore = "the main function of child processes"]
fn child_process_runs_its_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let arguments = parse_arguments(&std::env::var(ARGUMENTS).unwrap());
    match &*role {
        "open_component" => binds::open_component(),
        #[cfg(target_os = "linux")]
        "links_only_components" => binds::links_only_components(),
        #[cfg(target_os = "linux")]
        "ports_on_demand" => binds::ports_on_demand(),
        "cache_writer" => cache::writer(&arguments),
        "json_logs" => json_logs::run_cluster(),
        "disk_filler" => cache::disk::filler(&arguments),
        "start" => start(&arguments),
        far if far.starts_with("far_") => network::run_far(far, &arguments),
        scenario if scenario.starts_with("network_") => network::run_scenario(scenario, &arguments),
        case if case.starts_with("waiting_") => waiting::run(case, &arguments),
        component => run_component(component, &arguments),
    }
}

/// A server that runs until a signal.
fn start(arguments: &Arguments) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gate = Gate::closed();
    gate.open();
    let server = Slow { gate }.bind(&arguments["db_address"]).concurrency(16);
    print_ready([]);
    runtime.block_on(server.start()).unwrap();
}

/// A component that runs until the process is killed.
fn run_component(role: &str, arguments: &Arguments) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A master's cache, unless it is in memory. It is opened once, since its process holds a lock on the file.
    let file = arguments
        .get("cache_file")
        .map(|path| FileStore::open(path).unwrap());
    let spawn = spawn_component(role, arguments, file.as_ref());
    let handle = runtime.block_on(spawn);
    let handle = handle.unwrap_or_else(|error| panic!("`{role}` does not start: {error:?}"));
    print_ready(handle.addresses());
    let ended = runtime.block_on(handle.join());
    panic!("the component ended: {ended:?}");
}

async fn spawn_component(
    role: &str,
    arguments: &Arguments,
    file: Option<&FileStore>,
) -> palm::Result<ComponentHandle> {
    let at = |key: &str| {
        let address = arguments.get(key).cloned();
        address.unwrap_or_else(|| ANY.to_owned())
    };
    let open = || {
        let gate = Gate::closed();
        gate.open();
        gate
    };
    match role {
        "server" => {
            let server = Slow { gate: open() }
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"));
            let pipelined = arguments.contains_key("pipelined");
            server.pipelined(pipelined).spawn().await
        }
        "master" => {
            let mut master = Master::new("master")
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"))
                .worker_push_address(at("worker_push_address"))
                .worker_pull_address(at("worker_pull_address"));
            if let Some(file) = file {
                master = master.cache(file.clone());
            }
            master.spawn().await
        }
        "worker" => {
            let worker = Hand { gate: open() }.connect(at("db_address"));
            worker.spawn().await
        }
        "counted" => {
            let runs = at("runs").into();
            let counted = restarts::Counted { runs }
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"));
            counted.spawn().await
        }
        "relay" => {
            let relay = restarts::Relay
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"));
            relay.pipelined(true).spawn().await
        }
        "linked_worker" => {
            let worker = link::Hand { gate: open() }.connect(at("db_address"));
            worker.concurrency(1).spawn().await
        }
        "worker_of_concurrency_4" => {
            let worker = link::Hand { gate: open() }.connect(at("db_address"));
            worker.concurrency(4).spawn().await
        }
        "prefetching_worker" => {
            let worker = link::Hand { gate: open() }.connect(at("db_address"));
            worker.concurrency(1).prefetch(16).spawn().await
        }
        "blocking_worker" => liveness::worker(at("db_address")).await,
        "step" => {
            let step = Step.bind(at("db_address")).pub_address(at("pub_address"));
            step.follow(at("follow")).to_client(true).spawn().await
        }
        #[cfg(target_os = "linux")]
        memory if memory.starts_with("memory_") => {
            memory::component(memory, at("db_address")).await
        }
        other => panic!("no role `{other}`"),
    }
}
