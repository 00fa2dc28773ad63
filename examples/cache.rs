//! A client stores a value in the master's cache, and the workers read it.
//!
//! ```text
//! cargo run --example cache               # the whole example in one process
//! cargo run --example cache -- master     # or each component in its own terminal
//! cargo run --example cache -- worker1
//! cargo run --example cache -- worker2
//! cargo run --example cache -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::CacheError;
use palm::prelude::*;
use support::{Ports, python};

struct MyWorker;

#[palm::worker(server = "server")]
impl MyWorker {
    #[palm::method]
    async fn foo(&self, message: Bytes, context: Context) -> Result<Vec<u8>, CacheError> {
        // The cache of a worker is that of its master.
        let data = context.cache().get("cached").await?.unwrap_or_default();
        Ok([context.name().as_bytes(), &data, &message].concat())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Distributes messages to workers, and stores the cache
    Master,
    /// Processes messages with a cached value
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Fills the cache, sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("Workers read a value that a client has cached.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Master => {
            Master::new("server")
                .bind(ports.at(5559))
                .pull_address(ports.at(5555))
                .pub_address(ports.at(5556))
                .worker_pull_address(ports.at(5557))
                .worker_push_address(ports.at(5558))
                .start()
                .await
        }
        Role::Worker1 => worker("worker1", ports).await,
        Role::Worker2 => worker("worker2", ports).await,
        Role::Client => {
            let client = Client::connect("server", ports.at(5559)).await?;
            client.set("cached", " cached data ").await?;
            if let Some(data) = client.get("cached").await? {
                println!("{}", python(&data));
            }
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(MyWorker::FOO, messages).expect_answers(10);
            while let Some(answer) = answers.try_next().await? {
                println!("{}", python(&answer));
            }
            Ok(())
        }
    }
}

async fn worker(name: &str, ports: Ports) -> palm::Result<()> {
    let master = ports.at(5559);
    MyWorker.connect(master).name(name).start().await
}
