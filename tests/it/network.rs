//! Hosts that vanish: two network namespaces serve as hosts, and the cable between them is unplugged, so that neither
//! FIN nor RST arrives.
//!
//! Needs root, and the program `ip`. The test creates the namespaces for each scenario, and runs the scenario in a
//! process in one of them.

use std::process::Command;
use std::time::{Duration, Instant};

use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions};

use super::process::roles::{Arguments, print_ready};
use super::process::{self, Process};
use super::setup::{SOON, check_for, connect};

const NEAR: &str = "10.99.0.1";
const FAR: &str = "10.99.0.2";

/// The idle timeout of all components and clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time within which a scenario must end.
const LIMIT: Duration = Duration::from_secs(100);

struct Step;

#[palm::server(name = "server")]
impl Step {
    #[palm::method]
    fn pass(&self, payload: Bytes) -> Bytes {
        payload
    }
}

struct Follower;

#[palm::pipeline(name = "pipeline")]
impl Follower {
    #[palm::method]
    fn pass(&self, payload: Bytes) -> Bytes {
        payload
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn wait(&self, payload: Bytes) -> Bytes {
        tokio::time::sleep(Duration::from_millis(5)).await;
        payload
    }

    #[palm::method]
    fn make(&self, bytes: String) -> Vec<u8> {
        vec![7; bytes.parse().unwrap()]
    }
}

fn options() -> LinkOptions {
    LinkOptions::new().idle_timeout(IDLE_TIMEOUT)
}

fn ip(arguments: &str) {
    let arguments = arguments.split_whitespace();
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success());
}

/// The names of two hosts with a cable between them.
struct Hosts {
    near: String,
    far: String,
}

/// The hosts while their namespaces exist.
struct CreatedHosts(Hosts);

impl CreatedHosts {
    fn new() -> Self {
        let id = std::process::id();
        let created = Self(Hosts {
            near: format!("palm-near-{id}"),
            far: format!("palm-far-{id}"),
        });
        let Hosts { near, far } = &created.0;
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!(
            "link add name cable netns {near} type veth peer name cable netns {far}"
        ));
        for (host, address) in [(near, NEAR), (far, FAR)] {
            ip(&format!("-n {host} addr add {address}/24 dev cable"));
            ip(&format!("-n {host} link set lo up"));
            ip(&format!("-n {host} link set cable up"));
        }
        created
    }
}

impl Drop for CreatedHosts {
    fn drop(&mut self) {
        for host in [&self.0.near, &self.0.far] {
            let _ = Command::new("ip").args(["netns", "del", host]).status();
        }
    }
}

impl Hosts {
    fn unplug(&self) {
        ip(&format!("-n {} link set cable down", self.far));
    }

    fn plug_in(&self) {
        ip(&format!("-n {} link set cable up", self.far));
    }

    /// Runs a component on the far host, see [`run_far`].
    async fn run_far(&self, role: &str, at: &str) -> Process {
        let command = in_host(&self.far, process::role(role, &[("at", at)]));
        let mut process = Process::spawn(role, command);
        process.ready().await;
        process
    }
}

/// Runs a command on a host.
fn in_host(host: &str, command: Command) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", host]);
    ip.arg(command.get_program()).args(command.get_args());
    let variables = command.get_envs();
    ip.envs(variables.filter_map(|(key, value)| Some((key, value?))));
    ip
}

#[test]
#[ignore = "netns: needs root and the program `ip`"]
fn netns_vanished_hosts_do_not_stop_other_peers() {
    let scenarios = [
        "network_vanished_subscriber",
        "network_vanished_client",
        "network_vanished_worker",
        "network_flapping_cable",
    ];
    check_for(LIMIT * 4, async {
        for scenario in scenarios {
            let created = CreatedHosts::new();
            let hosts = &created.0;
            let names = [("near", &*hosts.near), ("far", &*hosts.far)];
            let mut command = in_host(&hosts.near, process::role(scenario, &names));
            command.env("PALM_TRUST_NETWORK", "1");
            let ended = Process::spawn(scenario, command).output(LIMIT).await;
            assert!(ended.status.success(), "{scenario}: {ended:#?}");
        }
    });
}

/// The role of a process: a component or client on the far host.
pub(crate) fn run_far(role: &str, arguments: &Arguments) {
    let at = &*arguments["at"];
    let any = format!("tcp://{FAR}:0");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let handle = match role {
            "far_pipeline" => {
                let follower = Follower.bind(any).trust_network(true);
                let follower = follower.follow(at).link_options(options());
                follower.to_client(true).spawn().await.unwrap()
            }
            "far_worker" => {
                let hand = Hand.connect(at).link_options(options());
                hand.spawn().await.unwrap()
            }
            "far_client" => {
                let client = Client::connect("master", at).await.unwrap();
                print_ready([]);
                let mut job = client.job("master.make", (0..1_000_000).map(|_| "100000"));
                while job.next().await.is_some() {}
                return;
            }
            other => panic!("no role `{other}`"),
        };
        print_ready(handle.addresses());
        let _ = handle.join().await;
    });
}

/// The role of a process on the near host: what happens to its peers on the far host.
pub(crate) fn run_scenario(scenario: &str, arguments: &Arguments) {
    let hosts = Hosts {
        near: arguments["near"].clone(),
        far: arguments["far"].clone(),
    };
    check_for(LIMIT, async {
        match scenario {
            "network_vanished_subscriber" => vanished_subscriber(hosts).await,
            "network_vanished_client" => vanished_client(hosts).await,
            "network_vanished_worker" => vanished_worker(hosts).await,
            "network_flapping_cable" => flapping_cable(hosts).await,
            other => panic!("no scenario `{other}`"),
        }
    });
}

/// Makes `count` calls, asserts that each is answered once, and returns how long that took.
async fn answered_once(client: &Client, steps: &str, count: usize, timeout: Duration) -> Duration {
    let begin = Instant::now();
    let arguments = (0..count).map(|call| call.to_string());
    let mut job = client.job(steps, arguments).timeout(timeout);
    let mut answered = vec![0; count];
    while let Some(answer) = job.next().await {
        let answer = answer.unwrap();
        let call: usize = std::str::from_utf8(&answer).unwrap().parse().unwrap();
        answered[call] += 1;
    }
    assert!(answered.iter().all(|&times| times == 1));
    begin.elapsed()
}

/// Starts a master and a worker on the near host.
async fn master_and_worker() -> (ComponentHandle, ComponentHandle) {
    let master = Master::new("master").bind(format!("tcp://{NEAR}:0"));
    let master = master.trust_network(true).link_options(options());
    let master = master.spawn().await.unwrap();
    let worker = Hand.connect(master.db_address()).link_options(options());
    let worker = worker.spawn().await.unwrap();
    (master, worker)
}

/// Starts a server on the near host, which passes its results on.
async fn server() -> ComponentHandle {
    let server = Step.bind(format!("tcp://{NEAR}:0")).trust_network(true);
    let server = server.link_options(options()).pipelined(true);
    server.spawn().await.unwrap()
}

async fn vanished_subscriber(hosts: Hosts) {
    let server = server().await;
    let near = Follower.bind(format!("tcp://{NEAR}:0")).trust_network(true);
    let near = near.follow(server.db_address()).link_options(options());
    let near = near.to_client(true).spawn().await.unwrap();
    let _far = hosts.run_far("far_pipeline", server.db_address()).await;
    let client = Client::builder("server", server.db_address());
    let client = client.answered_by(near.db_address());
    let client = client.connect().await.unwrap();
    let steps = "server.pass pipeline.pass";
    answered_once(&client, steps, 1000, SOON).await;
    hosts.unplug();
    // More messages than the backlog of a subscriber. The timeout of each call limits for how long the publisher waits.
    answered_once(&client, steps, 30_000, SOON).await;
    // The vanished subscriber, whose backlog was full, is disconnected, so the publisher does not wait any more. Few calls:
    // the limit is for a wait, not for the speed of a busy machine.
    let took = answered_once(&client, steps, 1000, SOON).await;
    assert!(took < 5 * IDLE_TIMEOUT, "{took:?}");
}

async fn vanished_client(hosts: Hosts) {
    let (master, _worker) = master_and_worker().await;
    let client = connect("master", &master).await;
    let _far = hosts.run_far("far_client", master.db_address()).await;
    answered_once(&client, "master.wait", 10, SOON).await;
    hosts.unplug();
    for _ in 0..20 {
        let took = answered_once(&client, "master.wait", 10, SOON).await;
        assert!(took < 2 * IDLE_TIMEOUT, "{took:?}");
    }
}

async fn vanished_worker(hosts: Hosts) {
    let (master, _worker) = master_and_worker().await;
    let _far = hosts.run_far("far_worker", master.db_address()).await;
    let client = connect("master", &master).await;
    answered_once(&client, "master.wait", 200, SOON).await;
    let job = answered_once(&client, "master.wait", 2000, SOON);
    let cut = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        hosts.unplug();
    };
    let (took, ()) = tokio::join!(job, cut);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

async fn flapping_cable(hosts: Hosts) {
    let server = server().await;
    let far = hosts.run_far("far_pipeline", server.db_address()).await;
    let client = Client::builder("server", server.db_address());
    let client = client.link_options(options());
    let client = client.answered_by(&*far.addresses["db_address"]);
    let client = client.connect().await.unwrap();
    let steps = "server.pass pipeline.pass";
    let job = answered_once(&client, steps, 60_000, Duration::from_secs(30));
    let flap = async {
        for milliseconds in [200, 1000, 3000, 500, 100] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            hosts.unplug();
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            hosts.plug_in();
        }
    };
    tokio::join!(job, flap);
}
