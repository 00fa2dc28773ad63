//! A master that sends its results to a pipeline.
//!
//! ```text
//! cargo run --example master_pipeline                # the whole example in one process
//! cargo run --example master_pipeline -- master      # or each component in its own terminal
//! cargo run --example master_pipeline -- pipeline
//! cargo run --example master_pipeline -- worker1
//! cargo run --example master_pipeline -- worker2
//! cargo run --example master_pipeline -- client
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
        tracing::info!("Processed");
        format!("{} processed {message}", context.name())
    }
}

struct MyPipeline;

#[palm::pipeline(name = "my_pipeline")]
impl MyPipeline {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::info!("Got a message");
        format!("and I pipelined {message}")
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Distributes messages to workers
    Master,
    /// Runs the second step
    Pipeline,
    /// Runs the first step
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A master that sends its results to a pipeline.", component).await
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
                .pipelined(true)
                .start()
                .await
        }
        Role::Pipeline => {
            MyPipeline
                .bind(ports.at(5560))
                .sub_address(ports.at(5556))
                .previous("server")
                .pub_address(ports.at(5561))
                .to_client(true)
                .start()
                .await
        }
        Role::Worker1 => worker("worker1", ports).await,
        Role::Worker2 => worker("worker2", ports).await,
        Role::Client => {
            let client = Client::builder("server", ports.at(5559))
                .sub_address(ports.at(5561))
                .connect()
                .await?;
            let steps = [MyWorker::FOO, MyPipeline::FOO];
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(steps, messages).expect_answers(10);
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
