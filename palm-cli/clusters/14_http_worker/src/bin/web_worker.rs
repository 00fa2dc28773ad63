//! A worker that is reached by HTTP: `web_worker http_worker --bind HOST:PORT`.

#[derive(Default)]
struct MyHandler;

#[palm::http_worker(server = "server")]
impl MyHandler {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("{message} processed online")
    }
}

palm::main!();
