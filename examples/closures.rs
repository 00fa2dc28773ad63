//! A server and a worker without structs and macros: their methods are closures, some of them from plugins that are
//! chosen at run time.
//!
//! ```text
//! cargo run --example closures               # the whole example in one process
//! cargo run --example closures -- server     # or each component in its own terminal
//! cargo run --example closures -- master
//! cargo run --example closures -- worker
//! cargo run --example closures -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::time::Duration;

use clap::ValueEnum;
use palm::prelude::*;
use palm::{BoxMethod, CacheError, CallError, Json, Server, Worker};
use support::Ports;

// What the client knows of the functions.
const DOUBLE: Function<Json<i64>, Json<i64>> = Function::new("math", "double");
const DIVIDE: Function<Json<(i64, i64)>, Json<i64>> = Function::new("math", "divide");
const UPPER: Function<String, String> = Function::new("text", "upper");
const COUNT: Function<String, Json<i64>> = Function::new("text", "count");

/// Adds functions to a worker.
trait Plugin {
    fn methods(&self) -> Vec<BoxMethod>;
}

struct Letters;

impl Plugin for Letters {
    fn methods(&self) -> Vec<BoxMethod> {
        let upper = |text: String| async move { text.to_uppercase() };
        vec![BoxMethod::new("upper", upper).doc("Returns the text in upper case.")]
    }
}

struct Counter;

impl Plugin for Counter {
    fn methods(&self) -> Vec<BoxMethod> {
        // The cache is that of the master, so that all workers count together.
        let count = |word: String, context: Context| async move {
            let count = context.cache().add(&word, 1).await?;
            Ok::<_, CacheError>(Json(count))
        };
        let count = BoxMethod::with_context("count", count);
        // An addition must not run twice.
        vec![count.at_most_once().max_runtime(Duration::from_secs(5))]
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Computes
    Server,
    /// Distributes calls to its workers
    Master,
    /// Runs the functions of its plugins
    Worker,
    /// Makes six calls
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("Components whose methods are closures.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Server => {
            Server::builder("math")
                .method("double", |Json(x): Json<i64>| async move { Json(x * 2) })
                .method("divide", |Json((x, y)): Json<(i64, i64)>| async move {
                    x.checked_div(y).map(Json).ok_or("division by zero")
                })
                .bind(ports.at(5555))
                .start()
                .await
        }
        Role::Master => Master::new("text").bind(ports.at(5559)).start().await,
        Role::Worker => {
            let plugins: [Box<dyn Plugin + Send>; 2] = [Box::new(Letters), Box::new(Counter)];
            Worker::builder("text")
                .methods(plugins.iter().flat_map(|plugin| plugin.methods()))
                .connect(ports.at(5559))
                .start()
                .await
        }
        Role::Client => {
            let math = Client::connect("math", ports.at(5555)).await?;
            println!("double: {}", math.eval(DOUBLE, 21).await?.0);
            println!("divide: {}", math.eval(DIVIDE, (12, 4)).await?.0);
            match math.eval(DIVIDE, (12, 0)).await {
                Err(CallError::Remote(error)) => println!("divide: {}", error.message),
                other => println!("divide: {other:?}"),
            }

            let text = Client::connect("text", ports.at(5559)).await?;
            println!("upper: {}", text.eval(UPPER, "palm").await?);
            for word in ["tree", "tree"] {
                println!("count: {}", text.eval(COUNT, word).await?.0);
            }
            Ok(())
        }
    }
}
