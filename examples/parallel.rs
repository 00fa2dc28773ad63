//! A master that distributes the messages of a job to its workers.
//!
//! ```text
//! cargo run --example parallel               # the whole example in one process
//! cargo run --example parallel -- master     # or each component in its own terminal
//! cargo run --example parallel -- worker1
//! cargo run --example parallel -- worker2
//! cargo run --example parallel -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::prelude::*;
use support::{Ports, python};

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
    /// Processes messages, under its default name
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A master that distributes messages to workers.", component).await
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
        Role::Worker1 | Role::Worker2 => MyWorker.connect(ports.at(5559)).start().await,
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
