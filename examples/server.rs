//! A server that answers calls, and a client that makes one.
//!
//! ```text
//! cargo run --example server              # the whole example in one process
//! cargo run --example server -- server    # or each component in its own terminal
//! cargo run --example server -- client
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

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Answers calls
    Server,
    /// Makes one call
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A server that answers calls.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Server => {
            MyServer
                .bind(ports.at(5555))
                .pull_address(ports.at(5556))
                .pub_address(ports.at(5557))
                .start()
                .await
        }
        Role::Client => {
            let client = Client::connect("my_server", ports.at(5555)).await?;
            let answer = client.eval(MyServer::FOO, "a message").await?;
            println!("Client got:  {}", python(answer.as_bytes()));
            Ok(())
        }
    }
}
