//! Functions of all kinds as an HTTP API, described by OpenAPI.
//!
//! ```text
//! cargo run --example http_api                   # all of it in one process
//! cargo run --example http_api -- master         # or each in a terminal of its own
//! cargo run --example http_api -- worker
//! cargo run --example http_api -- client         # or: curl http://127.0.0.1:8888/openapi.json
//! ```
#![expect(clippy::print_stdout, reason = "the client shows what it got")]

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
    /// Greets whom the text names.
    #[palm::method]
    fn greet(&self, name: String) -> String {
        format!("Hello, {name}!")
    }

    /// The bytes, the last one first.
    #[palm::method]
    fn reverse(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }

    /// How many values there are in a JSON value, itself included.
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

    /// The languages that it greets in.
    #[palm::method]
    fn languages(&self) -> Json<Vec<&'static str>> {
        Json(vec!["en"])
    }

    /// The words of a text.
    #[palm::method]
    fn words(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    /// Takes note, and gives nothing.
    #[palm::method]
    fn note(&self, _text: String) {}
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Turns requests into messages
    Master,
    /// Has the functions
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

/// Waits for the master, and for the worker to have told it of its functions.
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
    Err("there are no functions to be called".into())
}
