//! The components of the cluster: Two pipelines, and a sink that merges their streams.

use palm::prelude::*;

#[derive(Default)]
struct MyServer {
    answers: usize,
}

/// The first step.
#[palm::server(name = "my_server")]
impl MyServer {
    /// Says what was sent.
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("you sent me {message}")
    }

    /// Publishes results under two topics in turn.
    #[palm::handle_stream]
    fn alternate(&mut self, mut message: Message) -> (&'static str, Message) {
        let topic = ["even", "odd"][self.answers % 2];
        self.answers += 1;
        message.set_stage(message.stage() + 1);
        (topic, message)
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
struct MySink;

/// The third step, for the results of both pipelines.
#[palm::sink(name = "my_sink")]
impl MySink {
    /// Says that the message was here.
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("and gathered {message}")
    }
}

palm::main!();
