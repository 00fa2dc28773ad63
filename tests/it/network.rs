//! Hosts that vanish without a word: two network namespaces as hosts, and a cable between them that is unplugged,
//! so that neither FIN nor RST arrives.
//!
//! Needs root, and the program `ip`. The outer test creates the namespaces and runs the inner ones in one of
//! them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions};

use super::lifecycle::Process;
use super::setup::{SOON, check_on, connect};

/// The names of the two namespaces, for the inner tests.
const HOSTS: &str = "PALM_IT_HOSTS";
const ROLE: &str = "PALM_IT_FAR_ROLE";
const AT: &str = "PALM_IT_FAR_AT";

const NEAR: &str = "10.99.0.1";
const FAR: &str = "10.99.0.2";

/// The idle timeout of everybody here.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a scenario may take.
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
    let mut options = LinkOptions::default();
    options.idle_timeout = IDLE_TIMEOUT;
    options
}

fn ip(arguments: &str) {
    let arguments = arguments.split_whitespace();
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success());
}

/// Two hosts and a cable.
struct Hosts {
    near: String,
    far: String,
}

impl Hosts {
    fn new() -> Self {
        let id = std::process::id();
        let hosts = Self {
            near: format!("palm-near-{id}"),
            far: format!("palm-far-{id}"),
        };
        let Self { near, far } = &hosts;
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
        hosts
    }

    /// Those that this test runs in.
    fn of_this_test() -> Self {
        let hosts = std::env::var(HOSTS).expect("the outer test runs the inner ones");
        let (near, far) = hosts.split_once(' ').unwrap();
        Self {
            near: near.to_owned(),
            far: far.to_owned(),
        }
    }

    fn unplug(&self) {
        ip(&format!("-n {} link set cable down", self.far));
    }

    fn plug_in(&self) {
        ip(&format!("-n {} link set cable up", self.far));
    }

    /// A component of [`role`] on the far host.
    async fn run_far(&self, role: &str, at: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.far]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "network::role"]);
        command.env(ROLE, role).env(AT, at);
        Process::spawn(role, command).await
    }
}

/// The outer test: a host for each scenario.
#[test]
#[ignore = "netns: needs root and the program `ip`"]
fn netns_hosts_that_vanish_stop_nobody_else() {
    for scenario in [
        "vanished_subscriber",
        "vanished_client",
        "vanished_worker",
        "flapping_cable",
    ] {
        let hosts = Hosts::new();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &hosts.near]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture"]);
        command.arg(format!("network::{scenario}"));
        command.env(HOSTS, format!("{} {}", hosts.near, hosts.far));
        command.env("PALM_TRUST_NETWORK", "1");
        let status = command.stdin(Stdio::null()).status().unwrap();
        ip(&format!("netns del {}", hosts.near));
        ip(&format!("netns del {}", hosts.far));
        assert!(status.success(), "{scenario}");
    }
}

#[test]
#[ignore = "a process of the tests below"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let at = std::env::var(AT).unwrap();
    let any = format!("tcp://{FAR}:0");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let handle = match &*role {
            "pipeline" => {
                let follower = Follower.bind(any).trust_network(true);
                let follower = follower.follow(at).link_options(options());
                follower.to_client(true).spawn().await.unwrap()
            }
            "worker" => {
                let hand = Hand.connect(at).link_options(options());
                hand.spawn().await.unwrap()
            }
            "client" => {
                let client = Client::connect("master", at).await.unwrap();
                println!("\n@ready");
                let mut job = client.job("master.make", (0..1_000_000).map(|_| "100000"));
                while job.next().await.is_some() {}
                return;
            }
            other => panic!("no role `{other}`"),
        };
        let address = handle.address("db_address").unwrap_or_default().to_owned();
        println!("\n@ready db_address={address}");
        let _ = handle.join().await;
    });
}

/// Runs an inner test, if the outer one has prepared the hosts for it.
fn on_hosts<F: Future<Output = ()>>(body: impl FnOnce(Hosts) -> F) {
    if std::env::var(HOSTS).is_err() {
        return;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let hosts = Hosts::of_this_test();
    check_on(runtime.worker_threads(2), async {
        tokio::time::timeout(LIMIT, body(hosts)).await.unwrap();
    });
}

/// Makes `count` calls, each of which has to be answered once; tells how long that took.
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

/// A master and a worker on the near host.
async fn master_and_worker() -> (ComponentHandle, ComponentHandle) {
    let master = Master::new("master").bind(format!("tcp://{NEAR}:0"));
    let master = master.trust_network(true).link_options(options());
    let master = master.spawn().await.unwrap();
    let worker = Hand.connect(master.db_address()).link_options(options());
    let worker = worker.spawn().await.unwrap();
    (master, worker)
}

/// A server on the near host, which sends its results on.
async fn server() -> ComponentHandle {
    let server = Step.bind(format!("tcp://{NEAR}:0")).trust_network(true);
    let server = server.link_options(options()).pipelined(true);
    server.spawn().await.unwrap()
}

#[test]
#[ignore = "run by the test of the hosts"]
fn vanished_subscriber() {
    on_hosts(|hosts| async move {
        let server = server().await;
        let near = Follower.bind(format!("tcp://{NEAR}:0")).trust_network(true);
        let near = near.follow(server.db_address()).link_options(options());
        let near = near.to_client(true).spawn().await.unwrap();
        let _far = hosts.run_far("pipeline", server.db_address()).await;
        let client = Client::builder("server", server.db_address());
        let client = client.answered_by(near.db_address());
        let client = client.connect().await.unwrap();
        let steps = "server.pass pipeline.pass";
        answered_once(&client, steps, 1000, SOON).await;
        hosts.unplug();
        // More than the backlog of a subscriber.
        let took = answered_once(&client, steps, 30_000, SOON).await;
        assert!(took < 5 * IDLE_TIMEOUT, "{took:?}");
        // From now on the publisher waits for no subscriber.
        let took = answered_once(&client, steps, 30_000, SOON).await;
        assert!(took < 5 * IDLE_TIMEOUT, "{took:?}");
    });
}

#[test]
#[ignore = "run by the test of the hosts"]
fn vanished_client() {
    on_hosts(|hosts| async move {
        let (master, _worker) = master_and_worker().await;
        let client = connect("master", &master).await;
        let _far = hosts.run_far("client", master.db_address()).await;
        answered_once(&client, "master.wait", 10, SOON).await;
        hosts.unplug();
        for _ in 0..20 {
            let took = answered_once(&client, "master.wait", 10, SOON).await;
            assert!(took < 2 * IDLE_TIMEOUT, "{took:?}");
        }
    });
}

#[test]
#[ignore = "run by the test of the hosts"]
fn vanished_worker() {
    on_hosts(|hosts| async move {
        let (master, _worker) = master_and_worker().await;
        let _far = hosts.run_far("worker", master.db_address()).await;
        let client = connect("master", &master).await;
        answered_once(&client, "master.wait", 200, SOON).await;
        let job = answered_once(&client, "master.wait", 2000, SOON);
        let cut = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            hosts.unplug();
        };
        let (took, ()) = tokio::join!(job, cut);
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
#[ignore = "run by the test of the hosts"]
fn flapping_cable() {
    on_hosts(|hosts| async move {
        let server = server().await;
        let far = hosts.run_far("pipeline", server.db_address()).await;
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
    });
}
