//! The components of the cluster: A stream with two followers.

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

#[derive(Default)]
struct SilentPipeline;

/// Has the same name as the other pipeline, so that it receives the same calls.
#[palm::pipeline(name = "my_pipeline")]
impl SilentPipeline {
    /// Returns nothing, so the stream ends here.
    #[palm::method]
    fn foo(&self, message: String) {
        println!("Just looking at: {message}");
    }
}

palm::main!();
