//! The components of the cluster: A server that answers calls.

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

palm::main!();
