//! A master that is built from its parts: `master DB_ADDRESS`.

use palm::parts::{CacheService, PubService, PullService, WorkerPullService, WorkerPushService};
use palm::prelude::*;

#[tokio::main]
async fn main() -> palm::Result<()> {
    palm::logging::init();
    let address = std::env::args()
        .nth(1)
        .expect("the address to bind is an argument");
    // The system chooses the ports of the other parts, which peers learn at this address.
    let any = "tcp://127.0.0.1:0";
    let mut server = ServerTemplate::new("server");
    server
        .register_inbound(PullService::bind(any), "Pull")
        .route("WorkerPush");
    server
        .register_inbound(WorkerPullService::bind(any), "WorkerPull")
        .route("Pub");
    server.register_outbound(WorkerPushService::bind(any), "WorkerPush");
    server.register_outbound(PubService::bind(any), "Pub");
    server.register_bypass(CacheService::bind(address), "Cache");
    server.start().await
}
