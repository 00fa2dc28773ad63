//! A hub: the second step of a stream, distributed to workers.
//!
//! ```text
//! cargo run --example hub               # the whole example in one process
//! cargo run --example hub -- server     # or each component in its own terminal
//! cargo run --example hub -- hub
//! cargo run --example hub -- worker1
//! cargo run --example hub -- worker2
//! cargo run --example hub -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use clap::ValueEnum;
use palm::prelude::*;
use support::{Ports, python};

struct MyServer;

#[palm::server(name = "server")]
impl MyServer {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        tracing::warn!("Got a message");
        format!("you sent me {message}")
    }
}

struct MyWorker;

#[palm::worker(server = "hub")]
impl MyWorker {
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        tracing::info!("Processed");
        format!("{} processed {message}", context.name())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Runs the first step
    Server,
    /// Distributes the server's results to workers
    Hub,
    /// Runs the second step
    Worker1,
    /// Another worker of the same kind
    Worker2,
    /// Makes one call of both steps
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("A server, then a hub and its workers.", component).await
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
        Role::Hub => {
            Hub::new("hub")
                .bind(ports.at(5561))
                .sub_address(ports.at(5557))
                .previous("server")
                .pub_address(ports.at(5558))
                .worker_pull_address(ports.at(5559))
                .worker_push_address(ports.at(5560))
                .start()
                .await
        }
        Role::Worker1 => worker("worker1", ports).await,
        Role::Worker2 => worker("worker2", ports).await,
        Role::Client => {
            let client = Client::builder("server", ports.at(5555))
                .sub_address(ports.at(5558))
                .connect()
                .await?;
            let steps = [MyServer::FOO, MyWorker::FOO];
            let answer = client.eval(steps, "a message").await?;
            println!("Client got:  {}", python(&answer));
            Ok(())
        }
    }
}

async fn worker(name: &str, ports: Ports) -> palm::Result<()> {
    let master = ports.at(5561);
    MyWorker.connect(master).name(name).start().await
}
