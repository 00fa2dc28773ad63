//! A master with one worker, at a URL: `master DB_ADDRESS URL`.

use palm::parts::{CacheService, HttpConnection, PubService, PullService};
use palm::prelude::*;

#[tokio::main]
async fn main() -> palm::Result<()> {
    palm::logging::init();
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .expect("the arguments are an address and a URL")
    };
    let (address, url) = (next(), next());
    let any = "tcp://127.0.0.1:0";
    let mut server = ServerTemplate::new("server");
    server
        .register_inbound(PullService::bind(any), "Pull")
        .route("HttpConnection");
    server
        .register_outbound(HttpConnection::connect(url), "HttpConnection")
        .route("Pub");
    server.register_outbound(PubService::bind(any), "Pub");
    server.register_bypass(CacheService::bind(address), "Cache");
    server.start().await
}
