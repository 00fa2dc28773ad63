//! The components of the cluster: A master with an HTTP gateway.

use palm::prelude::*;

#[derive(Default)]
struct MyWorker;

/// Processes the bodies of requests.
#[palm::worker(server = "server")]
impl MyWorker {
    /// Says that a request has arrived.
    #[palm::method]
    fn function(&self, _: Bytes) -> &'static str {
        "acknowledged"
    }
}

palm::main!();
