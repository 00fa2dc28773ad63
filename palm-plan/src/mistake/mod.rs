//! Mistakes in a file, all at once: their codes, and how people and programs read them.

mod code;
mod render;

use std::fmt;
use std::ops::Range;

use serde::Serialize;

pub use self::code::{Code, Severity, UnknownCode};

/// The chapter that describes all codes.
pub const CHAPTER: &str = include_str!("../../cluster-errors.md");

impl Code {
    /// Returns the section of the chapter that describes the code, in Markdown.
    pub fn explanation(self) -> &'static str {
        let heading = format!("## {}: ", self.name());
        let begin = CHAPTER.find(&heading).unwrap_or(CHAPTER.len());
        let section = &CHAPTER[begin..];
        let next = section[1..].find("\n## ").map(|next| next + 1);
        // The chapter ends with the definitions of its links.
        let end = next.or_else(|| section.find("\n["));
        section[..end.unwrap_or(section.len())].trim_end()
    }
}

/// A place in the file, in bytes.
pub type Span = Range<usize>;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Its code.
    pub code: Code,
    /// What is wrong, in one line.
    pub message: String,
    /// Where it is wrong.
    pub span: Span,
    /// A few words at that place.
    pub label: String,
    /// Other places that explain it.
    pub related: Vec<(Span, String)>,
    /// What to do.
    pub help: Vec<String>,
}

impl Mistake {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            span,
            label: String::new(),
            related: Vec::new(),
            help: Vec::new(),
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// The mistakes of one file, in the order of their places. It displays them as rustc does, without colours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mistakes {
    file_name: String,
    text: String,
    list: Vec<Mistake>,
}

/// One mistake as `--format json` shows it.
#[derive(Debug, Serialize)]
struct JsonMistake<'a> {
    code: Code,
    severity: Severity,
    message: &'a str,
    file: &'a str,
    #[serde(flatten)]
    place: JsonPlace<'a>,
    related: Vec<JsonPlace<'a>>,
    help: &'a [String],
}

/// Lines and columns count characters from 1; the end is behind the last character.
#[derive(Debug, Serialize)]
struct JsonPlace<'a> {
    label: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

impl Mistakes {
    pub(crate) fn new(file_name: &str, text: &str) -> Self {
        Self {
            file_name: file_name.to_owned(),
            text: text.to_owned(),
            list: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, mistake: Mistake) {
        let index = self.list.partition_point(|other| {
            (other.span.start, other.code) <= (mistake.span.start, mistake.code)
        });
        self.list.insert(index, mistake);
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the mistakes, in the order of their places.
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether one of them is an error, with which the cluster cannot run.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Returns how many of them are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let list = self.list.iter();
        list.filter(|mistake| mistake.code.severity() == severity)
            .count()
    }

    /// Returns them as JSON: an array of objects with code, severity, message, place and help.
    pub fn to_json(&self) -> String {
        let list: Vec<_> = self.list.iter().map(|mistake| self.json(mistake)).collect();
        serde_json::to_string_pretty(&list)
            .expect("texts and numbers have a representation in JSON")
    }

    fn json<'a>(&'a self, mistake: &'a Mistake) -> JsonMistake<'a> {
        let related = mistake.related.iter();
        JsonMistake {
            code: mistake.code,
            severity: mistake.code.severity(),
            message: &mistake.message,
            file: &self.file_name,
            place: self.place(&mistake.span, &mistake.label),
            related: related
                .map(|(span, label)| self.place(span, label))
                .collect(),
            help: &mistake.help,
        }
    }

    fn place<'a>(&self, span: &Span, label: &'a str) -> JsonPlace<'a> {
        let (line, column) = self.line_and_column(span.start);
        let (end_line, end_column) = self.line_and_column(span.end);
        JsonPlace {
            label,
            line,
            column,
            end_line,
            end_column,
        }
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or_default();
        (line, last.chars().count() + 1)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

/// Suggests the known word that is most similar to `word`, if one is similar.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The cost of a comparison is the product of the lengths.
    const MAX_COMPARED: usize = 256;
    if word.len() > MAX_COMPARED {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    let distances = known
        .into_iter()
        .filter(|known| known.len() <= MAX_COMPARED)
        .map(|known| (strsim::osa_distance(word, known), known));
    let (distance, nearest) = distances.min()?;
    (distance <= allowed).then_some(nearest)
}

/// Suggests the most similar word, or lists all of them, for a help text.
pub(crate) fn suggestion<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(word, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => match list(known) {
            names if names.is_empty() => "there are none".to_owned(),
            names => format!("there are {names}"),
        },
    }
}

/// Lists words with backticks and commas, at most 20.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_LISTED: usize = 20;
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.len() {
        count if count > MAX_LISTED => {
            format!(
                "{} and {} more",
                words[..MAX_LISTED].join(", "),
                count - MAX_LISTED
            )
        }
        _ => words.join(", "),
    }
}
