//! A master that is built from its parts.
//!
//! ```text
//! cargo run --example components               # the whole example in one process
//! cargo run --example components -- master     # or each component in its own terminal
//! cargo run --example components -- worker1
//! cargo run --example components -- worker2
//! cargo run --example components -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::parts::{CacheService, PubService, PullService, WorkerPullService, WorkerPushService};
use palm::prelude::*;
use support::{Ports, python};

/// Approximately the parts of `Master::new("server")`.
fn master(ports: Ports) -> ServerTemplate {
    let pull = PullService::bind(ports.at(5555));
    let publish = PubService::bind(ports.at(5556));
    let worker_pull = WorkerPullService::bind(ports.at(5557));
    let worker_push = WorkerPushService::bind(ports.at(5558));
    let cache = CacheService::bind(ports.at(5559));

    let mut server = ServerTemplate::new("server");
    server.register_inbound(pull, "Pull").route("WorkerPush");
    server
        .register_inbound(worker_pull, "WorkerPull")
        .route("Pub");
    server.register_outbound(worker_push, "WorkerPush");
    server.register_outbound(publish, "Pub");
    server.register_bypass(cache, "Cache");
    server
}

struct MyWorker;

#[palm::worker(server = "server")]
impl MyWorker {
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        format!("{} processed {message}", context.name())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Distributes messages to workers
    Master,
    /// Processes messages
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A master that is built from its parts.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Master => master(ports).start().await,
        Role::Worker1 => worker("worker1", ports).await,
        Role::Worker2 => worker("worker2", ports).await,
        Role::Client => {
            let client = Client::connect("server", ports.at(5559)).await?;
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(MyWorker::FOO, messages).expect_answers(10);
            while let Some(answer) = answers.try_next().await? {
                println!("{}", python(answer.as_bytes()));
            }
            Ok(())
        }
    }
}

async fn worker(name: &str, ports: Ports) -> palm::Result<()> {
    let master = ports.at(5559);
    MyWorker.connect(master).name(name).start().await
}
