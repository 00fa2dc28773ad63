//! The components of the cluster: A master that sends its results to a pipeline.

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

#[derive(Default)]
struct MyPipeline;

/// The second step.
#[palm::pipeline(name = "my_pipeline")]
impl MyPipeline {
    /// Says that the message was here.
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("and I pipelined {message}")
    }
}

palm::main!();
