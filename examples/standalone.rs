//! A master, a worker and a launcher that calls their function, as three programs of one cluster: the scripts that a
//! registry of clusters starts, with the options of pylm's documentation.
//!
//! ```text
//! cargo run --example standalone -- master --name test --pull tcp://127.0.0.1:5555 --pub tcp://127.0.0.1:5556 \
//!     --wpush tcp://127.0.0.1:5557 --wpull tcp://127.0.0.1:5558 --db tcp://127.0.0.1:5559
//! cargo run --example standalone -- worker --name worker1 --db tcp://127.0.0.1:5559
//! cargo run --example standalone -- launcher --server test --function foo --db tcp://127.0.0.1:5559
//! ```
#![expect(clippy::print_stdout, reason = "the launcher prints its answers")]

use clap::{Args, Parser};
use palm::prelude::*;

#[derive(Parser)]
#[command(about = "A master, a worker and a launcher.")]
enum Role {
    /// Distributes calls to workers
    Master(MasterArguments),
    /// Answers calls
    Worker(WorkerArguments),
    /// Makes ten calls, and prints the answers
    Launcher(LauncherArguments),
}

#[derive(Args)]
struct MasterArguments {
    /// The name of the master, by which clients call it
    #[arg(long)]
    name: String,
    /// The address to which clients push
    #[arg(long, default_value = "tcp://127.0.0.1:5555")]
    pull: String,
    /// The address that publishes answers
    #[arg(long, default_value = "tcp://127.0.0.1:5556")]
    r#pub: String,
    /// The address from which workers pull
    #[arg(long, default_value = "tcp://127.0.0.1:5557")]
    wpush: String,
    /// The address to which workers push
    #[arg(long, default_value = "tcp://127.0.0.1:5558")]
    wpull: String,
    /// The address that workers and clients connect to
    #[arg(long, default_value = "tcp://127.0.0.1:5559")]
    db: String,
}

#[derive(Args)]
struct WorkerArguments {
    /// The name of the worker, for logs
    #[arg(long)]
    name: String,
    /// The address of the master
    #[arg(long, default_value = "tcp://127.0.0.1:5559")]
    db: String,
}

#[derive(Args)]
struct LauncherArguments {
    /// The name of the master
    #[arg(long)]
    server: String,
    /// The function to call
    #[arg(long, default_value = "foo")]
    function: String,
    /// The address of the master
    #[arg(long, default_value = "tcp://127.0.0.1:5559")]
    db: String,
}

struct MyWorker;

#[palm::worker]
impl MyWorker {
    #[palm::method]
    fn foo(&self, message: String, context: Context) -> String {
        format!("{} processed {message}", context.name())
    }
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    palm::logging::init();
    match Role::parse() {
        Role::Master(arguments) => {
            Master::new(arguments.name)
                .bind(arguments.db)
                .pull_address(arguments.pull)
                .pub_address(arguments.r#pub)
                .worker_push_address(arguments.wpush)
                .worker_pull_address(arguments.wpull)
                .start()
                .await
        }
        Role::Worker(arguments) => {
            MyWorker
                .connect(arguments.db)
                .name(arguments.name)
                .start()
                .await
        }
        Role::Launcher(arguments) => {
            let client = Client::connect(&arguments.server, arguments.db).await?;
            let function = format!("{}.{}", arguments.server, arguments.function);
            let messages = (1..=10).map(|number| format!("message {number}"));
            let mut answers = client.job(function, messages);
            while let Some(answer) = answers.next().await {
                println!("{}", String::from_utf8_lossy(&answer?));
            }
            Ok(())
        }
    }
}
