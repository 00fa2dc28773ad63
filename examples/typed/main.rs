//! Typed calls: component and caller share a crate with the interface, and wrong calls do not compile.
//!
//! The worker of a master parses documents; three steps, each in a process of its own, count their words.
//! The client depends on the interfaces, but on none of the components.
//!
//! ```text
//! cargo run --example typed              # the whole example in one process
//! cargo run --example typed -- master    # or each component in its own terminal
//! cargo run --example typed -- worker
//! cargo run --example typed -- splitter
//! cargo run --example typed -- counter
//! cargo run --example typed -- reporter
//! cargo run --example typed -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

#[path = "../support/mod.rs"]
mod support;

use clap::ValueEnum;
use palm::prelude::*;
use palm::{CallError, Json};
use support::Ports;
use typed_interface::{
    Counter, CounterClient, Counts, Document, Documents, DocumentsClient, Reporter, ReporterClient,
    Splitter, SplitterClient,
};

struct Parser;

#[palm::worker]
impl Documents for Parser {
    async fn parse(&self, text: String) -> Result<Json<Document>, String> {
        let (title, text) = text.split_once('\n').ok_or("there is only a title")?;
        Ok(Json(Document {
            title: title.to_owned(),
            text: text.to_owned(),
        }))
    }
}

struct Sentences;

#[palm::server]
impl Splitter for Sentences {
    fn split(&self, Json(document): Json<Document>) -> Json<Vec<String>> {
        let sentences = document.text.split_terminator('.');
        Json(sentences.map(|text| text.trim().to_owned()).collect())
    }
}

struct Words;

#[palm::pipeline]
impl Counter for Words {
    fn count(&self, Json(sentences): Json<Vec<String>>) -> Json<Counts> {
        let words = |sentence: &String| sentence.split_whitespace().count();
        Json(Counts {
            sentences: sentences.len(),
            words: sentences.iter().map(words).sum(),
        })
    }
}

struct Prose;

#[palm::pipeline]
impl Reporter for Prose {
    async fn report(&self, Json(counts): Json<Counts>) -> String {
        let Counts { sentences, words } = counts;
        format!("{words} words in {sentences} sentences")
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Distributes documents to workers
    Master,
    /// Parses documents
    Worker,
    /// Runs the first step
    Splitter,
    /// Runs the second step
    Counter,
    /// Runs the third step
    Reporter,
    /// Parses a document and counts its words
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("Typed calls by shared interfaces.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Master => Master::new("documents").bind(ports.at(5555)).start().await,
        Role::Worker => Parser.connect(ports.at(5555)).start().await,
        Role::Splitter => Sentences.bind(ports.at(5560)).start().await,
        Role::Counter => {
            Words
                .bind(ports.at(5570))
                .follow(ports.at(5560))
                .start()
                .await
        }
        Role::Reporter => {
            Prose
                .bind(ports.at(5580))
                .follow(ports.at(5570))
                .start()
                .await
        }
        Role::Client => client(ports).await,
    }
}

async fn client(ports: Ports) -> palm::Result<()> {
    let documents = DocumentsClient::connect(ports.at(5555)).await?;
    let text = "On counting\nOne is a number. Two are more. Three is a crowd.";
    let Json(document) = documents.parse(text).await?;
    println!("{}", document.title);

    // The client finds the component of the last step, and receives the answer from it.
    let steps = Client::connect("splitter", ports.at(5560)).await?;
    // The first step receives a document, and the last one returns a text. Steps in another order would not compile.
    let report = SplitterClient::SPLIT
        .then(CounterClient::COUNT)
        .then(ReporterClient::REPORT);
    println!("{}", steps.eval(&report, document).await?);

    // The error of a function contains its name and the cause.
    match documents.parse("On nothing").await {
        Err(CallError::Remote(error)) => println!("{}: {}", error.function, error.message),
        other => println!("an error was expected: {other:?}"),
    }
    Ok(())
}
