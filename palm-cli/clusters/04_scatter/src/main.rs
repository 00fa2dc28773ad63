//! The components of the cluster: A master that triples each message.

use std::iter::repeat_n;

use palm::CacheError;
use palm::prelude::*;

#[derive(Default)]
struct MyMaster;

/// Sends each message to workers three times.
#[palm::master(name = "server")]
impl MyMaster {
    #[palm::scatter]
    fn three_times(&self, message: Message) -> impl Iterator<Item = Message> {
        repeat_n(message, 3)
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
