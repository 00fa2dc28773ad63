//! The components of the soaks, each of which runs in a process of its own.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palm::component::SinkBuilder;
use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions};

use crate::support::serve_reports;

/// Prefix of the payloads of calls that are made without faults, each of which must run exactly once.
pub(crate) const COUNTED: &[u8] = b"counted";

/// Environment variable with the path of the file in which calls of `once` are recorded.
pub(crate) const RUNS: &str = "PALM_SOAK_RUNS";

/// Number of calls of `visit` whose payload begins with [`COUNTED`].
static COUNTED_RUNS: AtomicU64 = AtomicU64::new(0);

/// Adds the name of a step to a call, so that an answer says which steps it has passed.
fn visit(name: &str, call: &[u8]) -> Bytes {
    if call.starts_with(COUNTED) {
        COUNTED_RUNS.fetch_add(1, Ordering::Relaxed);
    }
    [call, b">", name.as_bytes()].concat().into()
}

/// Records a call in a file, in one system call, so that the run is known even if its process is killed.
fn record(call: &Bytes) -> std::io::Result<()> {
    let path = std::env::var_os(RUNS).expect("the soak names the file");
    let mut file = std::fs::File::options().append(true).open(path)?;
    file.write_all(&[call, &b"\n"[..]].concat())
}

#[derive(Default)]
struct Step;

#[palm::server(name = "server")]
impl Step {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }

    #[palm::method]
    fn visit(&self, call: Bytes) -> Bytes {
        visit("server", &call)
    }
}

#[derive(Default)]
struct Follower;

#[palm::pipeline(name = "pipeline")]
impl Follower {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }

    #[palm::method]
    fn visit(&self, call: Bytes) -> Bytes {
        visit("pipeline", &call)
    }
}

#[derive(Default)]
struct Last;

#[palm::sink(name = "sink")]
impl Last {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }

    #[palm::method]
    fn visit(&self, call: Bytes) -> Bytes {
        visit("sink", &call)
    }
}

#[derive(Default)]
struct Worker;

#[palm::worker(server = "master")]
impl Worker {
    #[palm::method]
    fn step(&self, call: Bytes) -> Bytes {
        call
    }

    #[palm::method]
    fn visit(&self, call: Bytes) -> Bytes {
        visit("worker", &call)
    }

    #[palm::method]
    async fn slow(&self, call: Bytes) -> Bytes {
        tokio::time::sleep(Duration::from_millis(50)).await;
        visit("worker", &call)
    }

    #[palm::method(at_most_once)]
    fn once(&self, call: Bytes) -> std::io::Result<Bytes> {
        record(&call)?;
        Ok(visit("worker", &call))
    }
}

/// Link options that notice soon that a peer is stopped or cut off, so that other peers do not wait for long.
pub(crate) fn links() -> LinkOptions {
    LinkOptions::new().idle_timeout(Duration::from_secs(2))
}

/// Link options as [`quick`], with which also sessions of lost peers end soon.
fn brief_links() -> LinkOptions {
    links().session_expiry(Duration::from_secs(8))
}

/// Runs a component until stdin is closed. Answers each line of stdin with what the component has counted.
pub(crate) async fn run(role: &str, at: &str, arguments: &[&str]) -> palm::Result<()> {
    // No method panics deliberately, so a panic is a fault of the runtime, perhaps in a task that is never joined.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
    palm::logging::init();
    let component = start(role, at, arguments).await?;
    let db_address = component.addresses().get("db_address");
    println!("{}", db_address.map_or("ready", |address| address));
    serve_reports(|| {
        let metrics = component.metrics();
        let running: u64 = metrics.functions.iter().map(|it| it.running).sum();
        let queued: usize = metrics.parts.iter().map(|part| part.queued_messages).sum();
        let under_way = running + queued as u64;
        let counted = COUNTED_RUNS.load(Ordering::Relaxed);
        format!("{} {under_way} {counted}", metrics.sessions)
    })
    .await;
    component.shutdown().await?;
    Ok(())
}

async fn start(role: &str, at: &str, arguments: &[&str]) -> palm::Result<ComponentHandle> {
    let link = links();
    let drain = Duration::from_secs(30);
    Ok(match (role, arguments) {
        ("server", []) => {
            let server = Step.bind(at).pipelined(true).link_options(link);
            server.drain_limit(drain).spawn().await?
        }
        // Waits for stopped peers for the default idle timeout.
        ("server", ["default_timeout"]) => {
            let server = Step.bind(at).pipelined(true);
            server.drain_limit(drain).spawn().await?
        }
        ("pipeline", [name, first]) => {
            let pipeline = Follower.bind(at).name(*name).follow(*first);
            let pipeline = pipeline.link_options(link).drain_limit(drain);
            pipeline.spawn().await?
        }
        ("sink", streams) => {
            let sink = Last.bind(at).link_options(link).drain_limit(drain);
            let follow = |sink: SinkBuilder<Last>, stream: &&str| sink.follow(*stream);
            streams.iter().fold(sink, follow).spawn().await?
        }
        ("master", [pipelined]) => {
            let master = Master::new("master").bind(at).link_options(link);
            let master = master.pipelined(*pipelined == "pipelined");
            master.drain_limit(drain).spawn().await?
        }
        ("hub", [first]) => {
            let hub = Hub::new("hub").bind(at).follow(*first).link_options(link);
            hub.drain_limit(drain).spawn().await?
        }
        ("worker", []) => Worker.connect(at).concurrency(1).spawn().await?,

        // Roles of the chaos soak.
        ("brief-server", []) => {
            let server = Step.bind(at).pipelined(true).link_options(brief_links());
            server.drain_limit(drain).spawn().await?
        }
        ("brief-hub", [first]) => {
            let hub = Hub::new("hub").bind(at).follow(*first).pipelined(true);
            let hub = hub.link_options(brief_links()).drain_limit(drain);
            hub.spawn().await?
        }
        ("brief-pipeline", [first]) => {
            let pipeline = Follower.bind(at).follow(*first);
            let pipeline = pipeline.link_options(brief_links()).drain_limit(drain);
            pipeline.spawn().await?
        }
        ("brief-sink", [first]) => {
            let sink = Last.bind(at).follow(*first);
            let sink = sink.link_options(brief_links()).drain_limit(drain);
            sink.spawn().await?
        }
        ("brief-master", []) => {
            let master = Master::new("master").bind(at).link_options(brief_links());
            master.drain_limit(drain).spawn().await?
        }
        ("brief-worker", []) => {
            let worker = Worker.connect(at).concurrency(2);
            let worker = worker.link_options(brief_links()).drain_limit(drain);
            worker.spawn().await?
        }
        _ => panic!("no role `{role}`"),
    })
}

/// Runs a client that makes calls until it is killed.
pub(crate) async fn call_for_ever(
    first: (&str, &str),
    last: &str,
    steps: &str,
) -> palm::Result<()> {
    let client = Client::builder(first.0, first.1).answered_by(last);
    let client = client.link_options(brief_links()).connect().await?;
    println!("ready");
    loop {
        let calls = (0..10_000).map(|number| format!("killed {number}"));
        let mut job = client.job(steps, calls).timeout(Duration::from_secs(5));
        while job.next().await.is_some() {}
    }
}

/// Connects a client with the link options of the chaos soak.
pub(crate) async fn connect(
    name: &str,
    first: &str,
    last: &str,
) -> Result<Client, palm::ConnectError> {
    let client = Client::builder(name, first).answered_by(last);
    let client = client.link_options(brief_links());
    client
        .connect_timeout(Duration::from_secs(10))
        .connect()
        .await
}
