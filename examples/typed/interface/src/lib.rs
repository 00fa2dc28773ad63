//! The interfaces of the example `typed`: the functions, with the types of their arguments and results.
//!
//! Components and callers depend on this crate.

use palm::Json;
use serde::{Deserialize, Serialize};

/// A text with a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The first line.
    pub title: String,
    /// The remaining lines.
    pub text: String,
}

/// The size of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The number of sentences.
    pub sentences: usize,
    /// The number of words in all sentences.
    pub words: usize,
}

/// Parses texts. Workers implement it, for the master of this name.
#[palm::interface(name = "documents")]
pub trait Documents {
    /// Parses a text whose first line is the title.
    async fn parse(&self, text: String) -> Result<Json<Document>, String>;
}

/// The first step: splits texts.
#[palm::interface(name = "splitter")]
pub trait Splitter {
    /// Splits a document into sentences.
    fn split(&self, document: Json<Document>) -> Json<Vec<String>>;
}

/// The second step: counts words.
#[palm::interface(name = "counter")]
pub trait Counter {
    /// Counts the sentences and their words.
    fn count(&self, sentences: Json<Vec<String>>) -> Json<Counts>;
}

/// The third step: reports the counts.
#[palm::interface(name = "reporter")]
pub trait Reporter {
    /// Describes the counts in a sentence.
    async fn report(&self, counts: Json<Counts>) -> String;
}
