//! A cluster in one process: a master, two workers and a client.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! It has a `main` of its own, because it shows how a program starts components and uses them itself. A program that
//! only runs components is `palm::main!();`, as in `examples/programs.rs`.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use palm::prelude::*;

#[derive(Default)]
struct Resizer;

#[palm::worker(server = "images")]
impl Resizer {
    /// Makes a thumbnail, represented by a text.
    #[palm::method]
    async fn thumbnail(&self, image: String, context: Context) -> String {
        format!("{} made {image} small", context.name())
    }
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    // The system chooses the port; workers and clients need only this address.
    let master = Master::new("images")
        .bind("tcp://127.0.0.1:0")
        .spawn()
        .await?;
    let db_address = master.db_address();
    println!("master at {db_address}");
    let anna = Resizer.connect(db_address).name("anna").spawn().await?;
    let bert = Resizer.connect(db_address).name("bert").spawn().await?;

    let client = Client::connect("images", db_address).await?;
    let images = (1..=6).map(|number| format!("photo {number}"));
    let mut answers = client.job(Resizer::THUMBNAIL, images);
    while let Some(answer) = answers.next().await {
        println!("{}", answer?);
    }

    let metrics = master.metrics();
    for part in &metrics.parts {
        println!(
            "{:>10}: {} messages, {} bytes",
            part.name, part.messages, part.bytes
        );
    }

    // A component that shuts down finishes its work first.
    anna.shutdown().await?;
    bert.shutdown().await?;
    master.shutdown().await?;
    Ok(())
}
