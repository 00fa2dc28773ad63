//! The components of the cluster: A server that sends its results to a pipeline.

#[derive(Default)]
struct MyServer;

/// The first step.
#[palm::server(name = "my_server")]
impl MyServer {
    /// Says what was sent.
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("you sent me {message}")
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
