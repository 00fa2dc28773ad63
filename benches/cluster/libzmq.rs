//! The same cluster as in `links`, of libzmq alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bare::frame;
use crate::peers::build;
use crate::support::Process;

/// A cluster of the proxy of libzmq, between ROUTER and DEALER, and two workers. Its clients use libzmq too.
pub(crate) struct Libzmq {
    program: PathBuf,
    proxy: Process,
    _workers: [Process; 2],
}

impl Libzmq {
    /// Builds the program of all these processes, if `PALM_BENCH_LIBZMQ` is set.
    pub(crate) fn program() -> Option<PathBuf> {
        std::env::var_os("PALM_BENCH_LIBZMQ")?;
        Some(build("libzmq", "libzmq-cluster"))
    }

    pub(crate) fn start(program: &Path) -> Self {
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

    /// Runs a client, which prints its throughput.
    pub(crate) fn throughput(&self, payload_bytes: usize, count: usize) -> f64 {
        let message_bytes = frame(payload_bytes).len().to_string();
        let address = self.proxy.address(0);
        let arguments = ["client", address, &message_bytes, &count.to_string()];
        let client = Self::process(&self.program, &arguments);
        client.address(0).parse().expect("it says a number")
    }
}
