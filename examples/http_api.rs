//! Functions of all kinds as an HTTP API, described by OpenAPI.
//!
//! ```text
//! cargo run --example http_api                   # the whole example in one process
//! cargo run --example http_api -- master         # or each component in its own terminal
//! cargo run --example http_api -- worker
//! cargo run --example http_api -- client         # or: curl http://127.0.0.1:8888/openapi.json
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::time::Duration;

use clap::ValueEnum;
use palm::prelude::*;
use palm::{BoxError, Json};
use serde_json::{Value, json};
use support::Ports;

struct Texts;

#[palm::worker(server = "texts")]
impl Texts {
    /// Greets the person with this name.
    #[palm::method]
    fn greet(&self, name: String) -> String {
        format!("Hello, {name}!")
    }

    /// Returns the bytes in reverse order.
    #[palm::method]
    fn reverse(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }

    /// Counts the values in a JSON value, including itself.
    #[palm::method]
    fn count(&self, Json(value): Json<Value>) -> Json<usize> {
        fn count(value: &Value) -> usize {
            1 + match value {
                Value::Array(values) => values.iter().map(count).sum(),
                Value::Object(members) => members.values().map(count).sum(),
                _ => 0,
            }
        }
        Json(count(&value))
    }

    /// Lists the languages of the greetings.
    #[palm::method]
    fn languages(&self) -> Json<Vec<&'static str>> {
        Json(vec!["en"])
    }

    /// Splits a text into words.
    #[palm::method]
    fn words(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    /// Accepts a note, and returns nothing.
    #[palm::method]
    fn note(&self, _text: String) {}
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Turns requests into messages
    Master,
    /// Runs the functions
    Worker,
    /// Sends some requests, prints the responses
    Client,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    support::run("Functions of all kinds over HTTP.", component).await
}

async fn component(role: Role, ports: Ports) -> Result<(), BoxError> {
    match role {
        Role::Master => {
            Master::new("texts")
                .bind(ports.at(5559))
                .http(ports.host(8888))
                .start()
                .await?;
        }
        Role::Worker => Texts.connect(ports.at(5559)).start().await?,
        Role::Client => requests(&format!("http://{}", ports.host(8888))).await?,
    }
    Ok(())
}

async fn requests(url: &str) -> Result<(), BoxError> {
    let http = reqwest::Client::new();
    until_described(&http, url).await?;
    let post = async |path: &str, accept: &str, body: Value| {
        let body = body
            .as_str()
            .map_or_else(|| body.to_string(), str::to_owned);
        let request = http.post(format!("{url}/{path}"));
        let response = request.header("accept", accept).body(body).send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        println!("{path}: {status} {}", body.trim_end().replace('\n', " "));
        Ok::<_, reqwest::Error>(())
    };
    post("greet", "*/*", json!("World")).await?;
    post("count", "*/*", json!({"a": [1, 2]})).await?;
    post("languages", "*/*", json!("")).await?;
    post("words", "application/x-ndjson", json!("one two")).await?;
    post("note", "*/*", json!("well")).await?;
    Ok(())
}

/// Waits until the worker has registered its functions at the master.
async fn until_described(http: &reqwest::Client, url: &str) -> Result<(), BoxError> {
    const PAUSE: Duration = Duration::from_millis(100);
    const TRIES: usize = 200;
    for _ in 0..TRIES {
        if let Ok(response) = http.get(format!("{url}/openapi.json")).send().await {
            let document: Value = serde_json::from_str(&response.text().await?)?;
            let paths = document["paths"].as_object();
            if paths.is_some_and(|paths| !paths.is_empty()) {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err("the master describes no functions: start the worker".into())
}
