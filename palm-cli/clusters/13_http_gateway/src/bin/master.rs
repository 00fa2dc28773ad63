//! A master with HTTP: `master DB_ADDRESS HOST:PORT`.

use palm::prelude::*;

#[tokio::main]
async fn main() -> palm::Result<()> {
    palm::logging::init();
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("the arguments are two addresses");
    let (address, http) = (next(), next());
    Master::new("server")
        .bind(address)
        .http(&*http)
        .start()
        .await
}
