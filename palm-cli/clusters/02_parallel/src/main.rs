//! The components of the cluster: A master that distributes messages to workers.

use palm::prelude::*;

#[derive(Default)]
struct MyWorker;

/// Processes messages.
#[palm::worker(server = "server")]
impl MyWorker {
    /// Says which worker has processed the message.
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        format!("{} processed {message}", context.name())
    }
}

palm::main!();
