//! The cost of HTTP in front of a master compared with a bare axum handler, measured alternately, as ratios of one run.
//!
//! ```text
//! cargo bench --bench http                 # everything, 5 s each
//! cargo bench --bench http -- --seconds 2
//! cargo bench --bench http -- idle         # 10,000 idle connections only
//! ```
//!
//! Needs `wrk` (`apt-get install wrk`, or <https://github.com/wg/wrk>), and `ulimit -n 12000` for the idle connections.
//! With `PALM_BENCH_OWN_THREAD=1` each component runs on its own thread.
//!
//! The master of the gateway, its two workers and the bare handler are separate processes, and both services return the
//! body that was posted, 10 bytes. `wrk` and all of them share the processors, so the ratio includes the work of the
//! workers.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use palm::prelude::*;
use support::{ANY, Process, until_orphaned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Number of connections that are opened, used once, and then kept idle.
const IDLE: usize = 10_000;
/// Time for which the connections are kept idle.
const HELD: u64 = 10;
/// Number of rounds of each measurement, which alternate. The best of each counts.
const ROUNDS: usize = 3;
const BODY: &str = "0123456789";

struct Echo;

#[palm::worker(server = "server")]
impl Echo {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

fn main() {
    let arguments = support::arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build().expect("the runtime starts");
    if let ["--role", role @ ..] = &arguments[..] {
        runtime.block_on(component(role));
        return;
    }
    let has_wrk = Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if has_wrk.is_err() {
        println!("wrk is missing: `apt-get install wrk`, or see https://github.com/wg/wrk");
        std::process::exit(1);
    }
    let (seconds, only_idle) = match arguments[..] {
        ["--seconds", seconds] => (seconds.parse().expect("a number of seconds"), false),
        ["idle"] => (5, true),
        _ => (5, false),
    };
    let cluster = Cluster::start();
    if !only_idle {
        cluster.compare(seconds);
    }
    runtime.block_on(cluster.hold());
}

// Processes.

async fn component(role: &[&str]) {
    let own = std::env::var_os("PALM_BENCH_OWN_THREAD").is_some();
    match role {
        ["master"] => {
            let master = Master::new("server").bind(ANY).http("127.0.0.1:0");
            let master = master.own_thread(own).spawn().await;
            let master = master.expect("the master starts");
            let http = master.address("http_address").expect("it serves HTTP");
            print_line(&format!("{} {http}", master.db_address()));
            until_orphaned().await;
        }
        ["worker", master] => {
            let worker = Echo.connect(*master).own_thread(own).spawn().await;
            let _worker = worker.expect("the worker starts");
            print_line("ready");
            until_orphaned().await;
        }
        ["bare"] => {
            let echo = axum::routing::post(async |body: Bytes| body);
            let application = axum::Router::new().route("/foo", echo);
            let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let socket = socket.expect("there is a free port");
            let address = socket.local_addr().expect("it is bound");
            print_line(&format!("http://{address}"));
            tokio::select! {
                served = axum::serve(socket, application) => served.expect("it serves"),
                () = until_orphaned() => {}
            }
        }
        _ => panic!("no such role: {role:?}"),
    }
}

fn print_line(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("stdout is open");
}

struct Cluster {
    gateway: String,
    bare: String,
    /// The requests that `wrk` sends.
    script: tempfile::NamedTempFile,
    _processes: Vec<Process>,
}

impl Cluster {
    fn start() -> Self {
        let start = |role: &[&str]| Process::start(&[&["--role"], role].concat());
        let master = start(&["master"]);
        let bare = start(&["bare"]);
        let workers = [(); 2].map(|()| start(&["worker", master.address(0)]));
        let mut script = tempfile::NamedTempFile::new().expect("a temporary file can be created");
        write!(script, "wrk.method = 'POST'\nwrk.body = '{BODY}'\n").expect("it is written");
        let (gateway, bare_url) = (master.address(1).to_owned(), bare.address(0).to_owned());
        Self {
            gateway,
            bare: bare_url,
            script,
            _processes: [master, bare].into_iter().chain(workers).collect(),
        }
    }

    fn wrk(&self, url: &str, connections: usize, seconds: u64) -> Command {
        let mut wrk = Command::new("wrk");
        wrk.args(["--latency", "--timeout", "10s"])
            .args(["-t", "1", "-c", &connections.to_string()])
            .args(["-d", &format!("{seconds}s"), "-s"])
            .arg(self.script.path())
            .arg(format!("{url}/foo"));
        wrk
    }

    fn measure(&self, url: &str, connections: usize, seconds: u64) -> Measured {
        let output = self.wrk(url, connections, seconds).output();
        Measured::read(&output.expect("wrk runs").stdout)
    }

    fn compare(&self, seconds: u64) {
        println!("| connections | | requests/s | of bare | p50 | p99 |\n|---|---|---|---|---|---|");
        for url in [&self.bare, &self.gateway] {
            self.measure(url, 64, 1);
        }
        for connections in [1, 64, 1000] {
            let mut rounds: Vec<[Measured; 2]> = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(
                    [&self.bare, &self.gateway].map(|url| self.measure(url, connections, seconds)),
                );
            }
            let best = |side: usize| {
                let all = rounds.iter().map(|round| &round[side]);
                all.max_by(|a, b| a.rate.total_cmp(&b.rate))
                    .expect("there is a round")
            };
            let ratios = rounds
                .iter()
                .map(|[bare, gateway]| gateway.rate / bare.rate);
            let ratios: Vec<_> = ratios.map(|ratio| format!("{ratio:.2}")).collect();
            best(0).print(connections, "bare axum", "");
            best(1).print(connections, "gateway", &ratios.join(", "));
        }
    }

    /// Keeps idle connections while other connections are used.
    async fn hold(&self) {
        let address = self.gateway.trim_start_matches("http://");
        let start = Instant::now();
        let mut idle = Vec::with_capacity(IDLE);
        // In portions that fit into the backlog of the system.
        for _ in 0..IDLE / 100 {
            let opened = (0..100).map(async |_| {
                let stream = TcpStream::connect(address).await;
                let mut stream = stream.expect("a connection; `ulimit -n` has to be above 12000");
                send_request(&mut stream).await;
                stream
            });
            idle.extend(join_all(opened).await);
        }
        let opened = start.elapsed();
        let mut wrk = self.wrk(&self.gateway, 64, HELD);
        let load = tokio::task::spawn_blocking(move || wrk.output());
        let load = load.await.expect("no panic").expect("wrk runs");
        let load = Measured::read(&load.stdout);
        let start = Instant::now();
        for portion in idle.chunks_mut(100) {
            join_all(portion.iter_mut().map(send_request)).await;
        }
        println!(
            "\n{IDLE} connections, each used once ({opened:.1?}), held for {HELD} s beside 64 with \
             {:.0} requests/s, p99 {}; then all used again ({:.1?})",
            load.rate,
            load.p99,
            start.elapsed()
        );
        println!("test result: ok. {IDLE} idle connections");
    }
}

/// Sends a request on a connection that stays open.
async fn send_request(stream: &mut TcpStream) {
    let len = BODY.len();
    let request =
        format!("POST /foo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n{BODY}");
    let answered = async {
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        while !response.ends_with(BODY.as_bytes()) {
            if stream.read_buf(&mut response).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, std::io::Error>(response)
    };
    let answered = tokio::time::timeout(Duration::from_secs(30), answered).await;
    let response = answered.expect("an answer in time");
    let response = response.expect("the connection is open");
    assert!(response.starts_with(b"HTTP/1.1 200"), "{response:?}");
}

// Measuring.

/// The result that `wrk` prints.
struct Measured {
    rate: f64,
    p50: String,
    p99: String,
}

impl Measured {
    fn read(output: &[u8]) -> Self {
        let output = String::from_utf8_lossy(output);
        let after = |begin: &str| {
            let line = output.lines().map(str::trim);
            let value = line.filter_map(|line| line.strip_prefix(begin)).next();
            value.map(|value| value.trim().to_owned())
        };
        for problem in ["Socket errors:", "Non-2xx"] {
            assert!(after(problem).is_none(), "{output}");
        }
        let value = |begin: &str| after(begin).unwrap_or_else(|| panic!("{begin} in\n{output}"));
        Self {
            rate: value("Requests/sec:").parse().expect("it is a number"),
            p50: value("50%"),
            p99: value("99%"),
        }
    }

    fn print(&self, connections: usize, name: &str, ratios: &str) {
        let Self { rate, p50, p99 } = self;
        println!("| {connections} | {name} | {rate:.0} | {ratios} | {p50} | {p99} |");
    }
}
