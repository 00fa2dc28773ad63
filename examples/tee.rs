//! A stream with two followers: one pipeline returns results, the other one only logs messages.
//!
//! ```text
//! cargo run --example tee                       # the whole example in one process
//! cargo run --example tee -- server             # or each component in its own terminal
//! cargo run --example tee -- pipeline
//! cargo run --example tee -- silent_pipeline
//! cargo run --example tee -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use clap::ValueEnum;
use palm::prelude::*;
use support::{Ports, python};

struct MyServer;

#[palm::server(name = "my_server")]
impl MyServer {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::warn!("Got a message");
        format!("you sent me {message}")
    }
}

struct MyPipeline;

#[palm::pipeline(name = "my_pipeline")]
impl MyPipeline {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::warn!("Got a message");
        format!("and I pipelined {message}")
    }
}

/// Has the same name as the other pipeline, so that it receives the same calls.
struct SilentPipeline;

#[palm::pipeline(name = "my_pipeline")]
impl SilentPipeline {
    /// Returns nothing, so the stream ends here.
    #[palm::method]
    fn foo(&self, message: String) {
        tracing::warn!("Just looking at: {message}");
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Runs the first step
    Server,
    /// Runs the second step
    Pipeline,
    /// Logs the same messages
    SilentPipeline,
    /// Makes one call of both steps
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A stream with two followers.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Server => {
            MyServer
                .bind(ports.at(5555))
                .pull_address(ports.at(5556))
                .pub_address(ports.at(5557))
                .pipelined(true)
                .start()
                .await
        }
        Role::Pipeline => {
            MyPipeline
                .bind(ports.at(5560))
                .sub_address(ports.at(5557))
                .previous("my_server")
                .pub_address(ports.at(5561))
                .to_client(true)
                .start()
                .await
        }
        Role::SilentPipeline => {
            SilentPipeline
                .bind(ports.at(5570))
                .sub_address(ports.at(5557))
                .previous("my_server")
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
            let steps = [MyServer::FOO, MyPipeline::FOO];
            let answer = client.eval(steps, "a message").await?;
            println!("Client got:  {}", python(&answer));
            Ok(())
        }
    }
}
