//! A master whose functions are called over HTTP.
//!
//! ```text
//! cargo run --example http_gateway               # the whole example in one process
//! cargo run --example http_gateway -- master     # or each component in its own terminal
//! cargo run --example http_gateway -- worker1
//! cargo run --example http_gateway -- client     # or: curl http://127.0.0.1:8888/function
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::time::Duration;

use clap::ValueEnum;
use palm::BoxError;
use palm::http::Gateway;
use palm::parts::{CacheService, HttpGateway, WorkerPullService, WorkerPushService};
use palm::prelude::*;
use support::{Ports, python};

/// A master with a gateway instead of sockets for clients.
///
/// `Master::new("server").bind(..).http(..)` has both.
fn master(ports: Ports) -> ServerTemplate {
    let gateway = Gateway::new();
    let http = HttpGateway::bind(ports.host(8888), &gateway);
    let worker_pull = WorkerPullService::bind(ports.at(5557));
    let worker_push = WorkerPushService::bind(ports.at(5558));
    let cache = CacheService::bind(ports.at(5559));

    let mut server = ServerTemplate::new("server");
    server
        .register_inbound(gateway.router(), "gateway_router")
        .route("WorkerPush");
    server
        .register_inbound(worker_pull, "WorkerPull")
        .route("gateway_dealer");
    server
        .register_outbound(worker_push, "WorkerPush")
        .failures("gateway_dealer");
    server.register_outbound(gateway.dealer(), "gateway_dealer");
    server.register_bypass(http, "HttpGateway");
    server.register_bypass(cache, "Cache");
    server
}

struct MyWorker;

#[palm::worker(server = "server")]
impl MyWorker {
    #[palm::method]
    fn function(&self, _: Bytes) -> &'static str {
        "acknowledged"
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Turns requests into messages, and distributes them to workers
    Master,
    /// Processes messages
    Worker1,
    /// Sends a request, prints the response
    Client,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    support::run("A master with an HTTP gateway.", component).await
}

async fn component(role: Role, ports: Ports) -> Result<(), BoxError> {
    match role {
        Role::Master => master(ports).start().await?,
        Role::Worker1 => {
            MyWorker
                .connect(ports.at(5559))
                .name("worker1")
                .start()
                .await?
        }
        Role::Client => {
            let response = get(&format!("http://{}/function", ports.host(8888))).await?;
            println!("{}", python(&response));
        }
    }
    Ok(())
}

/// Returns the body at `url`, as soon as the master and its worker are connected.
async fn get(url: &str) -> Result<Bytes, BoxError> {
    const PAUSE: Duration = Duration::from_millis(100);
    const TRIES: usize = 200;
    for _ in 1..TRIES {
        match reqwest::get(url)
            .await
            .and_then(reqwest::Response::error_for_status)
        {
            Ok(response) => return Ok(response.bytes().await?),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(reqwest::get(url).await?.error_for_status()?.bytes().await?)
}
