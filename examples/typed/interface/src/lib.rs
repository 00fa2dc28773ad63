//! What the components and the callers of the example `typed` share: the functions that there are, and
//! what they take and give. In a project it is a crate of its own, as it is here.

use palm::Json;
use serde::{Deserialize, Serialize};

/// A text with a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What stands above it.
    pub title: String,
    /// The rest.
    pub text: String,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sentences.
    pub sentences: usize,
    /// Words in all of them.
    pub words: usize,
}

/// Finds out what a text is about. Workers do it, for the master of this name.
#[palm::interface(name = "documents")]
pub trait Documents {
    /// The document that a text is: its first line is the title.
    async fn parse(&self, text: String) -> Result<Json<Document>, String>;
}

/// The first step: takes texts apart.
#[palm::interface(name = "splitter")]
pub trait Splitter {
    /// The sentences of a document.
    fn split(&self, document: Json<Document>) -> Json<Vec<String>>;
}

/// The second step: counts.
#[palm::interface(name = "counter")]
pub trait Counter {
    /// How many sentences and words these are.
    fn count(&self, sentences: Json<Vec<String>>) -> Json<Counts>;
}

/// The third step: puts counts into words.
#[palm::interface(name = "reporter")]
pub trait Reporter {
    /// A sentence for people.
    async fn report(&self, counts: Json<Counts>) -> String;
}
