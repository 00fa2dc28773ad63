//! The components, each in a process of its own.

use palm::prelude::*;
use tokio::io::AsyncReadExt as _;

/// The variable that names the component which this process is.
pub(crate) const ROLE: &str = "ONE_TRACE_ROLE";

/// The variable with the address of the component upstream.
pub(crate) const UPSTREAM: &str = "ONE_TRACE_UPSTREAM";

const ANY: &str = "tcp://127.0.0.1:0";

struct Resizer;

#[palm::worker(server = "images")]
impl Resizer {
    #[palm::method]
    fn resize(&self, image: String) -> String {
        format!("small {image}")
    }
}

/// A worker that does not complete its task.
struct Holder;

#[palm::worker(server = "images")]
impl Holder {
    #[palm::method]
    async fn resize(&self, image: String) -> String {
        println!("holding");
        std::future::pending::<()>().await;
        image
    }
}

struct Next;

#[palm::pipeline(name = "next")]
impl Next {
    #[palm::method]
    fn label(&self, image: String) -> String {
        format!("label of {image}")
    }
}

/// The worker behind the gateway, which calls the other components.
struct Front(Client);

#[palm::worker(server = "front")]
impl Front {
    #[palm::method]
    async fn order(&self, image: String) -> Result<Bytes, palm::CallError> {
        self.0.eval("images.resize next.label", image).await
    }
}

/// Waits until the test closes the standard input.
async fn until_closed() {
    // An error means that it is closed, too.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// Runs a component until the test closes the standard input.
pub(crate) async fn run(role: &str) -> Result<(), palm::BoxError> {
    let service = if role == "holder" { "worker" } else { role };
    let exporter = palm_otel::install(service)?;
    let upstream = std::env::var(UPSTREAM)?;
    match role {
        "master" => {
            let master = Master::new("images").bind(ANY).spawn().await?;
            println!("{}", master.db_address());
            until_closed().await;
            master.shutdown().await?;
        }
        "worker" => {
            let worker = Resizer.connect(&upstream).name("worker").spawn().await?;
            println!("started");
            until_closed().await;
            worker.shutdown().await?;
        }
        "holder" => {
            let worker = Holder.connect(&upstream).name("holder").spawn().await?;
            println!("started");
            until_closed().await;
            worker.shutdown().await?;
        }
        "pipeline" => {
            let pipeline = Next.bind(ANY).follow(&upstream).spawn().await?;
            println!("started");
            until_closed().await;
            pipeline.shutdown().await?;
        }
        "gateway" => {
            let master = Master::new("front")
                .bind(ANY)
                .http("127.0.0.1:0")
                .spawn()
                .await?;
            let client = Client::connect("images", &upstream).await?;
            let worker = Front(client).connect(master.db_address()).spawn().await?;
            println!("{}", master.address("http_address").ok_or("no address")?);
            println!("{}", master.db_address());
            until_closed().await;
            worker.shutdown().await?;
            master.shutdown().await?;
        }
        other => return Err(format!("there is no role `{other}`").into()),
    }
    exporter.shutdown()?;
    Ok(())
}
