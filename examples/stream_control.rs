//! A server that chooses the pipeline of each result, by the hook `handle_stream`.
//!
//! ```text
//! cargo run --example stream_control                     # the whole example in one process
//! cargo run --example stream_control -- server           # or each component in its own terminal
//! cargo run --example stream_control -- even_pipeline
//! cargo run --example stream_control -- odd_pipeline
//! cargo run --example stream_control -- client
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
        tracing::info!("This one is {topic}");
        self.answers += 1;
        message.set_stage(message.stage() + 1);
        (topic, message)
    }
}

struct EvenPipeline;

#[palm::pipeline(name = "my_pipeline")]
impl EvenPipeline {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::info!("Got a message");
        format!("and I pipelined {message}")
    }
}

struct OddPipeline;

#[palm::pipeline(name = "my_pipeline")]
impl OddPipeline {
    /// Returns nothing, so the stream ends here.
    #[palm::method]
    fn foo(&self, message: String) {
        tracing::info!("Echo: {message}");
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Runs the first step, and sends its results to the two pipelines in turn
    Server,
    /// Runs the second step for every second message
    EvenPipeline,
    /// Logs the other messages
    OddPipeline,
    /// Sends 10 messages, receives 5 answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run(
        "A server that chooses the pipeline of each result.",
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
            EvenPipeline
                .bind(ports.at(5560))
                .sub_address(ports.at(5557))
                .previous("even")
                .pub_address(ports.at(5561))
                .to_client(true)
                .start()
                .await
        }
        Role::OddPipeline => {
            OddPipeline
                .bind(ports.at(5570))
                .sub_address(ports.at(5557))
                .previous("odd")
                .pub_address(ports.at(5571))
                .to_client(true)
                .start()
                .await
        }
        Role::Client => {
            let client = Client::builder("my_server", ports.at(5555))
                .sub_address(ports.at(5561))
                .connect()
                .await?;
            let steps = [MyServer::FOO, EvenPipeline::FOO];
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(steps, messages).expect_answers(5);
            while let Some(answer) = answers.try_next().await? {
                println!("Client got:  {}", python(&answer));
            }
            Ok(())
        }
    }
}
