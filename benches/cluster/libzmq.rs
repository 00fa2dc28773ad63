//! The same clusters as of palm, of libzmq alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use palm::prelude::*;

use crate::bare::frame;
use crate::measure::{best_of, count_for, palm_throughput, print_rates};
use crate::peers::build;
use crate::roles::start;
use crate::support::Process;

/// Bytes of a payload.
const PAYLOAD: usize = 10;

/// A cluster of libzmq. Its clients use libzmq too.
pub(crate) struct Libzmq {
    program: PathBuf,
    /// The role of its clients, and the addresses that they connect to.
    client: Vec<String>,
    _processes: Vec<Process>,
}

/// Measures a server beside a ROUTER that returns its messages, and three steps in a row beside a chain of PUSH and PULL.
pub(crate) fn measure(runtime: &tokio::runtime::Runtime, wanted: impl Fn(&str) -> bool) {
    let (server, steps) = ("server, libzmq, 10 B", "pipeline of 3, libzmq, 10 B");
    if !wanted(server) && !wanted(steps) {
        return;
    }
    let Some(program) = Libzmq::program() else {
        return;
    };
    let compare = |name: &str, client: Client, calls: &str, libzmq: Libzmq| {
        let count = count_for(PAYLOAD);
        let best = best_of(
            || palm_throughput(&client, calls, PAYLOAD, count),
            async || libzmq.throughput(PAYLOAD, count),
        );
        let (ours, theirs) = runtime.block_on(best);
        print_rates(name, ("palm", "libzmq"), ours, theirs);
        println!();
    };
    if wanted(server) {
        let palm = start(&["server"]);
        let client = runtime.block_on(Client::connect("server", palm.address(0)));
        let client = client.expect("it connects");
        compare(server, client, "server.foo", Libzmq::echo(&program));
    }
    if wanted(steps) {
        let first = start(&["first"]);
        let middle = start(&["middle", first.address(0)]);
        let _last = start(&["last", middle.address(0)]);
        let client = runtime.block_on(Client::connect("server", first.address(0)));
        let client = client.expect("it connects");
        let calls = "server.foo middle.foo last.foo";
        compare(steps, client, calls, Libzmq::chain(&program));
    }
}

impl Libzmq {
    /// Builds the program of all these processes, if `PALM_BENCH_LIBZMQ` is set.
    pub(crate) fn program() -> Option<PathBuf> {
        std::env::var_os("PALM_BENCH_LIBZMQ")?;
        Some(build("libzmq", "libzmq-cluster"))
    }

    /// Starts the proxy of libzmq, between ROUTER and DEALER, and two workers.
    pub(crate) fn proxy(program: &Path) -> Self {
        let proxy = Self::process(program, &["proxy"]);
        let workers = [(); 2].map(|()| Self::process(program, &["worker", proxy.address(1)]));
        let client = ["client", proxy.address(0)].map(str::to_owned).to_vec();
        Self::of(program, client, workers.into_iter().chain([proxy]))
    }

    /// Starts a ROUTER that returns its messages.
    fn echo(program: &Path) -> Self {
        let server = Self::process(program, &["echo"]);
        let client = ["client", server.address(0)].map(str::to_owned).to_vec();
        Self::of(program, client, [server])
    }

    /// Starts three steps that pass messages on.
    fn chain(program: &Path) -> Self {
        let last = Self::process(program, &["last-step"]);
        let middle = Self::process(program, &["step", last.address(0)]);
        let first = Self::process(program, &["step", middle.address(0)]);
        let client = ["chain-client", first.address(0), last.address(1)];
        let client = client.map(str::to_owned).to_vec();
        Self::of(program, client, [first, middle, last])
    }

    fn of(
        program: &Path,
        client: Vec<String>,
        processes: impl IntoIterator<Item = Process>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            client,
            _processes: processes.into_iter().collect(),
        }
    }

    fn process(program: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments);
        Process::spawn(command)
    }

    /// Runs a client, which prints its throughput.
    pub(crate) fn throughput(&self, payload_bytes: usize, count: usize) -> f64 {
        let message_bytes = frame(payload_bytes).len().to_string();
        let count = count.to_string();
        let arguments = self.client.iter().map(String::as_str);
        let arguments: Vec<_> = arguments.chain([&*message_bytes, &*count]).collect();
        let client = Self::process(&self.program, &arguments);
        client.address(0).parse().expect("it says a number")
    }
}
