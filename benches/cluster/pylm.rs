//! The same clusters of pylm components.

use std::process::{Command, Stdio};

use palm::prelude::*;

use crate::measure::{count_for, palm_throughput};
use crate::support::Process;

/// A cluster of pylm components and a client of palm, if `PALM_PYLM_PYTHON` is set.
pub(crate) struct Pylm {
    processes: Vec<Process>,
    /// The index of the process that publishes the answers.
    last: usize,
    pub(crate) steps: &'static str,
}

impl Pylm {
    pub(crate) fn server() -> Option<Self> {
        Some(Self {
            processes: vec![Self::start(&["server", "server"])?],
            last: 0,
            steps: "server.foo",
        })
    }

    pub(crate) fn master(workers: usize) -> Option<Self> {
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

    pub(crate) fn pipeline() -> Option<Self> {
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

    pub(crate) async fn client(&self) -> Client {
        Client::builder("server", self.processes[0].address(0))
            .sub_address(self.processes[self.last].address(1))
            .window(100)
            .connect()
            .await
            .expect("pylm answers")
    }
}

pub(crate) fn pylm_throughput(
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
