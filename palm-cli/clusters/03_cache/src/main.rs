//! The components of the cluster: Workers read a value that a client has cached.

use palm::CacheError;
use palm::prelude::*;

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
