//! A worker that is reached by HTTP: `web_worker HOST:PORT`.

use palm::BoxError;
use palm::prelude::*;

struct MyHandler;

#[palm::http_worker(server = "server")]
impl MyHandler {
    #[palm::method]
    fn foo(&self, message: String) -> String {
        format!("{message} processed online")
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    palm::logging::init();
    let host = std::env::args()
        .nth(1)
        .expect("the host and port are an argument");
    palm::http::serve(MyHandler.into_service(), host).await?;
    Ok(())
}
