//! A stream that is split between two pipelines, and a sink that merges it again.
//!
//! ```text
//! cargo run --example sink                     # the whole example in one process
//! cargo run --example sink -- server           # or each component in its own terminal
//! cargo run --example sink -- even_pipeline
//! cargo run --example sink -- odd_pipeline
//! cargo run --example sink -- sink
//! cargo run --example sink -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::prelude::*;
use support::{Ports, python};

#[derive(Default)]
struct MyServer {
    answers: usize,
}

#[palm::server(name = "my_server")]
impl MyServer {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::info!("Got a message");
        format!("you sent me {message}")
    }

    #[palm::handle_stream]
    fn alternate(&mut self, mut message: Message) -> (&'static str, Message) {
        let topic = ["even", "odd"][self.answers % 2];
        self.answers += 1;
        message.set_stage(message.stage() + 1);
        (topic, message)
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

struct MySink;

#[palm::sink(name = "my_sink")]
impl MySink {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::warn!("Got a message");
        format!("and gathered {message}")
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Runs the first step, and sends its results to the two pipelines in turn
    Server,
    /// Runs the second step for every second message
    EvenPipeline,
    /// Runs the second step for the other messages
    OddPipeline,
    /// Runs the third step, for the results of both pipelines
    Sink,
    /// Sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run(
        "Two pipelines, and a sink that merges their streams.",
        component,
    )
    .await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Server => {
            MyServer::default()
                .bind(ports.at(5555))
                .pull_address(ports.at(5556))
                .pub_address(ports.at(5557))
                .pipelined(true)
                .start()
                .await
        }
        Role::EvenPipeline => {
            MyPipeline
                .bind(ports.at(5560))
                .sub_address(ports.at(5557))
                .previous("even")
                .pub_address(ports.at(5561))
                .start()
                .await
        }
        Role::OddPipeline => {
            MyPipeline
                .bind(ports.at(5570))
                .sub_address(ports.at(5557))
                .previous("odd")
                .pub_address(ports.at(5571))
                .start()
                .await
        }
        Role::Sink => {
            MySink
                .bind(ports.at(5580))
                .stream(ports.at(5561), "my_pipeline")
                .stream(ports.at(5571), "my_pipeline")
                .pub_address(ports.at(5581))
                .to_client(true)
                .start()
                .await
        }
        Role::Client => {
            let client = Client::builder("my_server", ports.at(5555))
                .sub_address(ports.at(5581))
                .connect()
                .await?;
            let steps = [MyServer::FOO, MyPipeline::FOO, MySink::FOO];
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(steps, messages).expect_answers(10);
            while let Some(answer) = answers.try_next().await? {
                println!("Client got:  {}", python(&answer));
            }
            Ok(())
        }
    }
}
