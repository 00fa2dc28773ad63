//! A master whose worker is reached by HTTP.
//!
//! ```text
//! cargo run --example http_worker                # the whole example in one process
//! cargo run --example http_worker -- web_worker  # or each component in its own terminal
//! cargo run --example http_worker -- master
//! cargo run --example http_worker -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::iter::repeat_n;

use clap::ValueEnum;
use futures_util::TryStreamExt;
use palm::BoxError;
use palm::parts::{CacheService, HttpConnection, PubService, PullService};
use palm::prelude::*;
use support::{Ports, python};

struct MyHandler;

#[palm::http_worker(server = "server")]
impl MyHandler {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("{message} processed online")
    }
}

/// A master with one worker, at a URL.
fn master(ports: Ports) -> ServerTemplate {
    let pull = PullService::bind(ports.at(5555));
    let publish = PubService::bind(ports.at(5556));
    let cache = CacheService::bind(ports.at(5559));
    let worker = HttpConnection::connect(format!("http://{}", ports.host(8888)));

    let mut server = ServerTemplate::new("server");
    server
        .register_inbound(pull, "Pull")
        .route("HttpConnection");
    server
        .register_outbound(worker, "HttpConnection")
        .route("Pub");
    server.register_outbound(publish, "Pub");
    server.register_bypass(cache, "Cache");
    server
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Processes messages that are posted to it
    WebWorker,
    /// Posts messages to the worker
    Master,
    /// Sends 10 messages, receives 10 answers
    Client,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    support::run("A master whose worker is reached by HTTP.", component).await
}

async fn component(role: Role, ports: Ports) -> Result<(), BoxError> {
    match role {
        Role::WebWorker => palm::http::serve(MyHandler.into_service(), ports.host(8888)).await?,
        Role::Master => master(ports).start().await?,
        Role::Client => {
            let client = Client::connect("server", ports.at(5559)).await?;
            let messages = repeat_n("a message", 10);
            let mut answers = client.job(MyHandler::FOO, messages).expect_answers(10);
            while let Some(answer) = answers.try_next().await? {
                println!("{}", python(answer.as_bytes()));
            }
        }
    }
    Ok(())
}
