//! What a cluster costs beside the bare socket crate, and beside pylm: in one run, as ratios.
//!
//! ```text
//! cargo bench                          # everything
//! cargo bench -- 'master + 2'          # what has this in its name
//! PALM_PYLM_PYTHON=.venv/bin/python cargo bench      # beside pylm, too
//! PALM_BENCH_LIBZMQ=1 cargo bench -- '2 workers'     # beside libzmq, too: needs a C++ compiler
//! ```
//!
//! `PALM_BENCH_OWN_THREAD=1` lets components run on a thread of their own, `PALM_BENCH_RUNTIME=current_thread`
//! all processes, those by hand included, on one.
//!
//! Each component is a process of its own, which is this program with a role. `bare` is the same
//! hops, processes and bytes made by hand with the socket crate beneath; `by hand` is the same call with
//! the codec run by the caller and by the method. The machine's noise is in both, so compare ratios of
//! one run, not numbers of two.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omq_tokio::{Options, Socket, SocketType};
use palm::prelude::*;
use palm::{Json, LinkOptions};
use serde::{Deserialize, Serialize};
use support::{ANY, Process, until_orphaned};

/// Messages under way at once where throughput is measured.
const WINDOW: usize = 2000;

/// How often it is measured; the best counts.
const ROUNDS: usize = 5;

#[derive(Default)]
struct Step;

#[palm::server(name = "server")]
impl Step {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }

    /// Its answer is not the memory that came in.
    #[palm::method]
    fn copy(&self, payload: Bytes) -> Vec<u8> {
        payload.into()
    }

    #[palm::method]
    fn typed(&self, Json(record): Json<Record>) -> Json<Record> {
        Json(record)
    }

    /// What `typed` does, by hand.
    #[palm::method]
    fn by_hand(&self, payload: Bytes) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<Record>(&payload)?)
    }
}

/// 1 KB of JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    tags: Vec<String>,
    samples: Vec<f64>,
    text: String,
}

impl Record {
    fn example() -> Self {
        Self {
            id: u64::MAX,
            name: "a name of some length".to_owned(),
            tags: (0..10).map(|number| format!("tag {number}")).collect(),
            samples: (0..20).map(|number| f64::from(number) + 0.25).collect(),
            text: "lorem ipsum dolor ".repeat(38),
        }
    }
}

#[derive(Default)]
struct Middle;

#[palm::pipeline(name = "middle")]
impl Middle {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

#[derive(Default)]
struct Last;

#[palm::pipeline(name = "last")]
impl Last {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

#[derive(Default)]
struct Worker;

#[palm::worker(server = "server")]
impl Worker {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

fn main() {
    let mut arguments = support::arguments().into_iter();
    let first = arguments.next();
    if first.as_deref() == Some("--role") {
        let arguments: Vec<_> = arguments.collect();
        runtime().block_on(role(&arguments));
        return;
    }
    let filter = first.unwrap_or_default();
    let runtime = runtime();
    let wanted = |name: &str| name.contains(&filter);
    latency(&runtime, wanted);
    for (payload_bytes, size) in [(10, "10 B"), (1024, "1 KB"), (65536, "64 KB")] {
        let name = format!("server, {size}");
        if wanted(&name) {
            server_throughput(&runtime, &name, "foo", payload_bytes);
        }
        let name = format!("master + 2 workers, {size}");
        if wanted(&name) {
            master_throughput(&runtime, &name, payload_bytes);
        }
    }
    let name = "server that copies, 64 KB";
    if wanted(name) {
        server_throughput(&runtime, name, "copy", 65536);
    }
    let name = "pipeline of 3, 10 B";
    if wanted(name) {
        pipeline_throughput(&runtime, name);
    }
    links(&runtime, wanted);
    typed(&runtime, wanted);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = match std::env::var("PALM_BENCH_RUNTIME").as_deref() {
        Ok("current_thread") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().expect("the runtime starts")
}

// Processes.

/// This program in a role.
fn start(arguments: &[&str]) -> Process {
    Process::start(&[&["--role"], arguments].concat())
}

fn tell(addresses: &[&str]) {
    println!("{}", addresses.join(" "));
    std::io::stdout().flush().expect("stdout is open");
}

async fn role(arguments: &[String]) {
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
            let mut link = LinkOptions::default();
            link.enabled = arguments[0] == "worker";
            let worker = Worker
                .connect(master)
                .link_options(link)
                .own_thread(own)
                .spawn()
                .await
                .expect("the worker starts");
            tell(&["ready"]);
            until_orphaned().await;
            drop(worker);
        }
        ["bare-server", function] => bare_server(function == "copy").await,
        ["bare-step", before, topic, next] => bare_step(before, topic, next).await,
        ["bare-master"] => bare_master().await,
        ["bare-worker", push, pull] => bare_worker(push, pull).await,
        _ => panic!("no such role: {arguments:?}"),
    }
}

async fn serve(handle: palm::Result<palm::ComponentHandle>) {
    let handle = handle.expect("the component starts");
    tell(&[
        handle.db_address(),
        handle.address("pub_address").unwrap_or_default(),
    ]);
    until_orphaned().await;
}

// The same hops by hand.

fn socket(socket_type: SocketType) -> Socket {
    let options = Options {
        xpub_nodrop: true,
        ..Options::default()
    };
    Socket::new(socket_type, options)
}

async fn bound(socket_type: SocketType) -> (Socket, String) {
    let socket = socket(socket_type);
    let endpoint = socket.bind(ANY).await.expect("it binds");
    (socket, endpoint.to_string())
}

async fn connected(socket_type: SocketType, address: &str) -> Socket {
    let socket = socket(socket_type);
    socket.connect(address).await.expect("it connects");
    socket
}

const TOPIC: &str = "0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b/0";

/// Takes frames from one socket and gives them to another, as they are.
async fn forward(from: &Socket, to: &Socket, topic: Option<&str>, copy: bool) {
    let mut batch = Vec::new();
    while from.recv_many_into(256, &mut batch).await.is_ok() {
        for message in batch.drain(..) {
            let frame = message
                .part_bytes(message.len() - 1)
                .expect("a message has a frame");
            let frame = if copy {
                Bytes::copy_from_slice(&frame)
            } else {
                frame
            };
            let message = match topic {
                Some(topic) => {
                    omq_tokio::Message::multipart([Bytes::copy_from_slice(topic.as_bytes()), frame])
                }
                None => omq_tokio::Message::single(frame),
            };
            to.send(message).await.expect("it sends");
        }
    }
}

async fn bare_server(copy: bool) {
    let (pull, pull_address) = bound(SocketType::Pull).await;
    let (publish, pub_address) = bound(SocketType::Pub).await;
    tell(&[&pull_address, &pub_address]);
    tokio::select! {
        () = forward(&pull, &publish, Some(TOPIC), copy) => {}
        () = until_orphaned() => {}
    }
}

async fn bare_step(before: &str, topic: &str, next: &str) {
    let subscribe = connected(SocketType::Sub, before).await;
    subscribe
        .subscribe(topic.to_owned())
        .await
        .expect("it subscribes");
    let (publish, pub_address) = bound(SocketType::Pub).await;
    tell(&[&pub_address]);
    tokio::select! {
        () = forward(&subscribe, &publish, Some(next), false) => {}
        () = until_orphaned() => {}
    }
}

async fn bare_master() {
    let (pull, pull_address) = bound(SocketType::Pull).await;
    let (push, push_address) = bound(SocketType::Push).await;
    let (results, results_address) = bound(SocketType::Pull).await;
    let (publish, pub_address) = bound(SocketType::Pub).await;
    tell(&[&pull_address, &pub_address, &push_address, &results_address]);
    tokio::select! {
        () = async {
            let out = tokio::spawn(async move { forward(&pull, &push, None, false).await });
            forward(&results, &publish, Some(TOPIC), false).await;
            out.abort();
        } => {}
        () = until_orphaned() => {}
    }
}

async fn bare_worker(push: &str, pull: &str) {
    let tasks = connected(SocketType::Pull, push).await;
    let results = connected(SocketType::Push, pull).await;
    tell(&["ready"]);
    tokio::select! {
        () = forward(&tasks, &results, None, false) => {}
        () = until_orphaned() => {}
    }
}

/// As many bytes as palm sends.
fn frame(payload_bytes: usize) -> Bytes {
    let mut message = Message::new("server.foo", vec![b'x'; payload_bytes]);
    message.set_pipeline("0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b");
    message.set_client(TOPIC);
    message.set_cache("0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b");
    message.encode()
}

/// A client by hand: pushes frames and takes publications.
struct BareClient {
    push: Socket,
    subscribe: Socket,
    frame: Bytes,
}

impl BareClient {
    async fn connect(pull_address: &str, pub_address: &str, payload_bytes: usize) -> Self {
        let push = connected(SocketType::Push, pull_address).await;
        let subscribe = connected(SocketType::Sub, pub_address).await;
        subscribe.subscribe(TOPIC).await.expect("it subscribes");
        let client = Self {
            push,
            subscribe,
            frame: frame(payload_bytes),
        };
        // The subscription is in place when something comes back.
        loop {
            client.send().await;
            let answer = client.subscribe.recv();
            if tokio::time::timeout(Duration::from_millis(100), answer)
                .await
                .is_ok()
            {
                break;
            }
        }
        while tokio::time::timeout(Duration::from_millis(200), client.subscribe.recv())
            .await
            .is_ok()
        {}
        client
    }

    async fn send(&self) {
        let message = omq_tokio::Message::single(self.frame.clone());
        self.push.send(message).await.expect("it sends");
    }

    async fn latencies(&self, count: usize) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.send().await;
            self.subscribe.recv().await.expect("it answers");
            latencies.push(start.elapsed());
        }
        latencies
    }

    async fn throughput(&self, count: usize) -> f64 {
        let start = Instant::now();
        let mut batch = Vec::new();
        let (mut sent, mut received) = (0, 0);
        while received < count {
            while sent < count && sent - received < WINDOW {
                self.send().await;
                sent += 1;
            }
            received += self
                .subscribe
                .recv_many_into(256, &mut batch)
                .await
                .expect("it answers");
            batch.clear();
        }
        count as f64 / start.elapsed().as_secs_f64()
    }
}

// Measuring.

async fn palm_latencies(client: &Client, steps: &str, count: usize) -> Vec<Duration> {
    let payload = Bytes::from_static(&[b'x'; 10]);
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        client
            .eval(steps, payload.clone())
            .await
            .expect("it answers");
        latencies.push(start.elapsed());
    }
    latencies
}

async fn palm_throughput(client: &Client, steps: &str, payload_bytes: usize, count: usize) -> f64 {
    let payload = Bytes::from(vec![b'x'; payload_bytes]);
    let start = Instant::now();
    let mut job = client
        .job(steps, std::iter::repeat_n(payload, count))
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        answer.expect("it answers");
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn quantile(latencies: &mut [Duration], quantile: f64) -> f64 {
    latencies.sort_unstable();
    let index = (latencies.len() as f64 * quantile) as usize;
    latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e6
}

/// Ours and what it is measured by, as they are called.
type Labels = (&'static str, &'static str);

const BARE: Labels = ("palm", "bare");
const BY_HAND: Labels = ("typed", "by hand");
const SOCKETS: Labels = ("link", "sockets");

fn print_latency(
    name: &str,
    (ours, theirs): Labels,
    mut palm: Vec<Duration>,
    mut bare: Vec<Duration>,
    pylm: Option<Vec<Duration>>,
) {
    let (p50, p99) = (quantile(&mut palm, 0.5), quantile(&mut palm, 0.99));
    let (bare_p50, bare_p99) = (quantile(&mut bare, 0.5), quantile(&mut bare, 0.99));
    print!(
        "{name:<28} {ours} {p50:7.1} / {p99:7.1} µs   {theirs} {bare_p50:7.1} / {bare_p99:7.1} µs   ratio {:.2} / {:.2}",
        p50 / bare_p50,
        p99 / bare_p99,
    );
    match pylm {
        Some(mut pylm) => println!(
            "   pylm {:7.1} / {:7.1} µs",
            quantile(&mut pylm, 0.5),
            quantile(&mut pylm, 0.99)
        ),
        None => println!(),
    }
}

fn print_throughput(name: &str, labels: Labels, palm: f64, bare: f64, pylm: Option<f64>) {
    print_rates(name, labels, palm, bare);
    match pylm {
        Some(pylm) => println!("   pylm {pylm:7.0}/s   ratio {:.1}", palm / pylm),
        None => println!(),
    }
}

fn print_rates(name: &str, (ours, theirs): Labels, palm: f64, bare: f64) {
    print!(
        "{name:<28} {ours} {palm:9.0}/s   {theirs} {bare:9.0}/s   ratio {:.2}",
        palm / bare
    );
}

/// The better of several rounds, taken in turn so that both meet the same noise.
async fn best_of<P: Future<Output = f64>, B: Future<Output = f64>>(
    palm: impl Fn() -> P,
    bare: impl Fn() -> B,
) -> (f64, f64) {
    let (mut best_palm, mut best_bare) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        best_palm = best_palm.max(palm().await);
        best_bare = best_bare.max(bare().await);
    }
    (best_palm, best_bare)
}

fn latency(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
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

fn count_for(payload_bytes: usize) -> usize {
    if payload_bytes > 10_000 {
        10_000
    } else {
        200_000
    }
}

/// Measures a cluster and its like by hand, in turn.
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

fn server_throughput(
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

fn master_throughput(runtime: &tokio::runtime::Runtime, name: &str, payload_bytes: usize) {
    let master = start(&["master"]);
    let _workers = [(); 2].map(|()| start(&["worker", master.address(0)]));
    let bare = start(&["bare-master"]);
    let _bare_workers = [(); 2].map(|()| start(&["bare-worker", bare.address(2), bare.address(3)]));
    let (ours, by_hand) = throughput(runtime, &master, &bare, "foo", payload_bytes);
    let pylm = pylm_throughput(runtime, Pylm::master(2), payload_bytes);
    print_throughput(name, BARE, ours, by_hand, pylm);
}

fn pipeline_throughput(runtime: &tokio::runtime::Runtime, name: &str) {
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

// A master, its workers and its client over links, and over PUSH, PULL, PUB and SUB.

fn links(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let start_both = || {
        ["worker", "socket-worker"].map(|role| {
            let master = start(&["master"]);
            let workers = [(); 2].map(|()| start(&[role, master.address(0)]));
            (master, workers)
        })
    };
    let connect = async |master: &Process, is_linked: bool| {
        let mut link = LinkOptions::default();
        link.enabled = is_linked;
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
        let libzmq = program.as_deref().map(Libzmq::start);
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

/// A cluster of nothing but libzmq: its proxy between ROUTER and DEALER, and two workers. Its clients are
/// of libzmq too.
struct Libzmq {
    program: PathBuf,
    proxy: Process,
    _workers: [Process; 2],
}

impl Libzmq {
    /// Builds the program that all of them are, where that is asked for.
    fn program() -> Option<PathBuf> {
        const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/libzmq/Cargo.toml");
        const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/libzmq");
        std::env::var_os("PALM_BENCH_LIBZMQ")?;
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--release",
                "--locked",
                "--manifest-path",
                MANIFEST,
            ])
            .args(["--target-dir", TARGET])
            .status()
            .expect("cargo starts");
        assert!(built.success(), "libzmq is not built");
        Some([TARGET, "release", "libzmq-cluster"].iter().collect())
    }

    fn start(program: &Path) -> Self {
        let proxy = Self::process(program, &["proxy"]);
        let workers = [(); 2].map(|()| Self::process(program, &["worker", proxy.address(1)]));
        Self {
            program: program.to_owned(),
            proxy,
            _workers: workers,
        }
    }

    fn process(program: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments);
        Process::spawn(command)
    }

    /// That of a client which begins now, and says it at its end.
    fn throughput(&self, payload_bytes: usize, count: usize) -> f64 {
        let message_bytes = frame(payload_bytes).len().to_string();
        let address = self.proxy.address(0);
        let arguments = ["client", address, &message_bytes, &count.to_string()];
        let client = Self::process(&self.program, &arguments);
        client.address(0).parse().expect("it says a number")
    }
}

// Calls with types.

fn typed(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let (eval, job) = ("eval, 1 KB of JSON", "job, 1 KB of JSON");
    if !wanted(eval) && !wanted(job) {
        return;
    }
    let server = start(&["server"]);
    runtime.block_on(async {
        let client = Client::connect("server", server.address(0))
            .await
            .expect("it connects");
        if wanted(eval) {
            let (typed, by_hand) = typed_latencies(&client).await;
            print_latency(eval, BY_HAND, typed, by_hand, None);
        }
        if wanted(job) {
            let count = 50_000;
            let (typed, by_hand) = best_of(
                || typed_throughput(&client, count),
                || by_hand_throughput(&client, count),
            )
            .await;
            print_throughput(job, BY_HAND, typed, by_hand, None);
        }
    });
}

/// Calls in turn, by the constant and with the codec by hand.
async fn typed_latencies(client: &Client) -> (Vec<Duration>, Vec<Duration>) {
    const ROUND: usize = 1000;
    let record = Record::example();
    let (mut typed, mut by_hand) = (Vec::new(), Vec::new());
    for round in 0..11 {
        for _ in 0..ROUND {
            let start = Instant::now();
            let answer = client.eval(Step::TYPED, &record).await;
            let Json(answer) = answer.expect("it answers");
            typed.push(start.elapsed());
            assert_eq!(answer.id, record.id);
        }
        for _ in 0..ROUND {
            let start = Instant::now();
            let answer = client.eval("server.by_hand", write(&record)).await;
            let answer = read(&answer.expect("it answers"));
            by_hand.push(start.elapsed());
            assert_eq!(answer.id, record.id);
        }
        // The first round warms up.
        if round == 0 {
            typed.clear();
            by_hand.clear();
        }
    }
    (typed, by_hand)
}

async fn typed_throughput(client: &Client, count: usize) -> f64 {
    let record = Record::example();
    let start = Instant::now();
    let mut job = client
        .job(Step::TYPED, std::iter::repeat_n(&record, count))
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        let Json(answer) = answer.expect("it answers");
        assert_eq!(answer.id, record.id);
    }
    count as f64 / start.elapsed().as_secs_f64()
}

async fn by_hand_throughput(client: &Client, count: usize) -> f64 {
    let record = Record::example();
    let start = Instant::now();
    let payloads = std::iter::repeat_n(&record, count).map(write);
    let mut job = client
        .job("server.by_hand", payloads)
        .expect_answers(count as u64);
    while let Some(answer) = job.next().await {
        let answer = read(&answer.expect("it answers"));
        assert_eq!(answer.id, record.id);
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn write(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("it has keys of text")
}

fn read(payload: &[u8]) -> Record {
    serde_json::from_slice(payload).expect("it is what was written")
}

/// A cluster of pylm's, with our client in front of it, where pylm is installed.
struct Pylm {
    processes: Vec<Process>,
    /// Which of them publishes the answers.
    last: usize,
    steps: &'static str,
}

impl Pylm {
    fn server() -> Option<Self> {
        Some(Self {
            processes: vec![Self::start(&["server", "server"])?],
            last: 0,
            steps: "server.foo",
        })
    }

    fn master(workers: usize) -> Option<Self> {
        let mut processes = vec![Self::start(&["master", "server"])?];
        for _ in 0..workers {
            processes.push(Self::start(&["worker", processes[0].address(0)])?);
        }
        Some(Self {
            processes,
            last: 0,
            steps: "server.foo",
        })
    }

    fn pipeline() -> Option<Self> {
        let mut processes = vec![Self::start(&["server", "server", "pipelined"])?];
        for (name, to_client, previous) in
            [("middle", "", "server"), ("last", "to_client", "middle")]
        {
            let before = processes[processes.len() - 1].address(1);
            let step = Self::start(&["pipeline", name, previous, before, to_client])?;
            processes.push(step);
        }
        Some(Self {
            processes,
            last: 2,
            steps: "server.foo middle.foo last.foo",
        })
    }

    fn start(arguments: &[&str]) -> Option<Process> {
        const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/components.py");
        let python = std::env::var_os("PALM_PYLM_PYTHON")?;
        let mut command = Command::new(&python);
        command
            .args(["-u", PROGRAM])
            .args(arguments)
            .stderr(Stdio::null());
        Some(Process::spawn(command))
    }

    async fn client(&self) -> Client {
        Client::builder("server", self.processes[0].address(0))
            .sub_address(self.processes[self.last].address(1))
            .window(100)
            .connect()
            .await
            .expect("pylm answers")
    }
}

fn pylm_throughput(
    runtime: &tokio::runtime::Runtime,
    pylm: Option<Pylm>,
    payload_bytes: usize,
) -> Option<f64> {
    let pylm = pylm?;
    let count = count_for(payload_bytes).min(10_000);
    Some(runtime.block_on(async {
        let client = pylm.client().await;
        palm_throughput(&client, pylm.steps, payload_bytes, count).await
    }))
}
