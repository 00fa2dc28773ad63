//! Many calls, one after the other. A lost answer is an error after a timeout.
//!
//! ```text
//! cargo run --example calls              # the whole example in one process
//! cargo run --example calls -- server    # or each component in its own terminal
//! cargo run --example calls -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::time::Duration;

use clap::ValueEnum;
use palm::prelude::*;
use support::Ports;

struct MyServer;

#[palm::server(name = "my_server")]
impl MyServer {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("you sent me {message}")
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Answers calls
    Server,
    /// Makes 1000 calls, or stops after 3 lost answers
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("Many calls, one after the other.", component).await
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
            let client = Client::builder("my_server", ports.at(5555))
                .timeout(Duration::from_secs(1))
                .connect()
                .await?;
            let (mut answers, mut lost) = (0, 0);
            while answers + lost < 1000 && lost < 3 {
                match client.eval(MyServer::FOO, "a message").await {
                    Ok(_) => answers += 1,
                    Err(error) if error.is_transient() => lost += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            println!("{answers} answers, {lost} lost");
            Ok(())
        }
    }
}
