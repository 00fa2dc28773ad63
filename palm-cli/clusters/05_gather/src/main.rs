//! The components of the cluster: A master that triples messages and changes the last result.

use std::iter::repeat_n;

use palm::CacheError;
use palm::prelude::*;

#[derive(Default)]
struct MyMaster {
    results: u32,
}

/// Sends each message to workers three times, and marks the last result.
#[palm::master(name = "server")]
impl MyMaster {
    #[palm::scatter]
    fn three_times(&self, message: Message) -> impl Iterator<Item = Message> {
        repeat_n(message, 3)
    }

    #[palm::gather]
    fn mark_the_last(&mut self, message: Message) -> Option<Message> {
        self.results += 1;
        Some(match self.results {
            30 => message.with_payload("final message"),
            _ => message,
        })
    }
}

#[derive(Default)]
struct MyWorker;

/// Processes messages with a cached value.
#[palm::worker(server = "server")]
impl MyWorker {
    /// Returns the name of the worker, the cached value and the message.
    #[palm::method]
    async fn foo(&self, message: Bytes, context: Context) -> Result<Vec<u8>, CacheError> {
        // The cache of a worker is that of its master.
        let data = context.cache().get("cached").await?.unwrap_or_default();
        Ok([context.name().as_bytes(), &data, &message].concat())
    }
}

palm::main!();
