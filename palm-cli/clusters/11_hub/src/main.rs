//! The components of the cluster: A server, then a hub and its workers.

use palm::prelude::*;

#[derive(Default)]
struct MyServer;

/// The first step.
#[palm::server(name = "server")]
impl MyServer {
    /// Says what was sent.
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("you sent me {message}")
    }
}

#[derive(Default)]
struct MyWorker;

/// Processes messages.
#[palm::worker(server = "hub")]
impl MyWorker {
    /// Says which worker has processed the message.
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        format!("{} processed {message}", context.name())
    }
}

palm::main!();
