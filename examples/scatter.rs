//! A master that triples each message, by the hook `scatter`.
//!
//! ```text
//! cargo run --example scatter               # the whole example in one process
//! cargo run --example scatter -- master     # or each component in its own terminal
//! cargo run --example scatter -- worker1
//! cargo run --example scatter -- worker2
//! cargo run --example scatter -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::CacheError;
use palm::prelude::*;
use support::{Ports, python};

struct MyMaster;

#[palm::master(name = "server")]
impl MyMaster {
    #[palm::scatter]
    fn three_times(&self, message: Message) -> impl Iterator<Item = Message> {
        repeat_n(message, 3)
    }
}

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
    /// Sends each message to workers three times
    Master,
    /// Processes messages with a cached value
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Fills the cache, sends 10 messages, receives 30 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A master that triples each message.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Master => {
            MyMaster
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
            let mut answers = client.job(MyWorker::FOO, messages).expect_answers(30);
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
