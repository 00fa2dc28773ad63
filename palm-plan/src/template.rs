//! Texts with placeholders, such as `--db {master.db}`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(pub(crate) Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    /// With its bytes in the text.
    Placeholder(Placeholder, Range<usize>),
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// The instance, such as `worker/2`.
    Instance,
    /// The number of the instance.
    Index,
    /// The name of the component.
    Name,
    /// The name of the cluster.
    Cluster,
    /// An address of the component itself.
    Own(Endpoint),
    /// An address of the component with this key.
    Of(String, Endpoint),
}

/// One of the addresses of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Endpoint {
    Db,
    Pull,
    Pub,
    WorkerPull,
    WorkerPush,
    /// That of a gateway or process.
    Address,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 6] = [
        Self::Db,
        Self::Pull,
        Self::Pub,
        Self::WorkerPull,
        Self::WorkerPush,
        Self::Address,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Pull => "pull",
            Self::Pub => "pub",
            Self::WorkerPull => "worker_pull",
            Self::WorkerPush => "worker_push",
            Self::Address => "address",
        }
    }

    /// Returns the option of a palm component that sets it, if it is one.
    pub(crate) fn option(self) -> Option<&'static str> {
        match self {
            Self::Pull => Some("pull_address"),
            Self::Pub => Some("pub_address"),
            Self::WorkerPull => Some("worker_pull_address"),
            Self::WorkerPush => Some("worker_push_address"),
            Self::Db | Self::Address => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|endpoint| endpoint.name() == text)
            .ok_or(())
    }
}

/// The placeholders without a dot, for suggestions.
pub(crate) const OWN: [&str; 10] = [
    "instance",
    "index",
    "name",
    "cluster",
    "db",
    "pull",
    "pub",
    "worker_pull",
    "worker_push",
    "address",
];

/// A mistake in a template, at these bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) at: Range<usize>,
    pub(crate) problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// `{` without `}`.
    Open,
    /// `}` without `{`.
    Closing,
    /// No placeholder has this name.
    Unknown(String),
    /// No address has this name.
    UnknownEndpoint(String),
}

impl Template {
    /// Reads a text with placeholders, and returns all mistakes.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut errors = Vec::new();
        let mut position = 0;
        while let Some(found) = text[position..].find(['{', '}']) {
            let at = position + found;
            plain.push_str(&text[position..at]);
            let brace = &text[at..=at];
            if text[at + 1..].starts_with(brace) {
                plain.push_str(brace);
                position = at + 2;
                continue;
            }
            let end = text[at..].find('}').map(|end| at + end);
            position = match (brace, end) {
                ("{", Some(end)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    match placeholder(&text[at + 1..end]) {
                        Ok(placeholder) => {
                            parts.push(Part::Placeholder(placeholder, at..end + 1));
                        }
                        Err(problem) => errors.push(TemplateError {
                            at: at..end + 1,
                            problem,
                        }),
                    }
                    end + 1
                }
                (_, end) => {
                    let problem = if end == Some(at) {
                        Problem::Closing
                    } else {
                        Problem::Open
                    };
                    errors.push(TemplateError {
                        at: at..at + 1,
                        problem,
                    });
                    at + 1
                }
            };
        }
        plain.push_str(&text[position..]);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if errors.is_empty() {
            Ok(Self(parts))
        } else {
            Err(errors)
        }
    }

    /// Returns the placeholders.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder, _) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// Returns the text with the values of the placeholders.
    pub(crate) fn fill(&self, value: impl Fn(&Placeholder) -> String) -> String {
        let texts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Placeholder(placeholder, _) => value(placeholder),
        });
        texts.collect()
    }
}

/// Returns the place of some bytes of a text in the file: that of the whole text if it has escapes.
pub(crate) fn span_within<T>(file: &str, value: &Spanned<T>, at: Range<usize>) -> Range<usize> {
    let span = value.span();
    let raw = file.get(span.clone()).unwrap_or_default();
    let is_plain = !raw.contains('\\') && !raw.starts_with("\"\"\"") && !raw.starts_with("'''");
    match is_plain && at.end + 2 <= raw.len() {
        true => span.start + 1 + at.start..span.start + 1 + at.end,
        false => span,
    }
}

fn placeholder(name: &str) -> Result<Placeholder, Problem> {
    if let Some((key, endpoint)) = name.rsplit_once('.') {
        return match endpoint.parse() {
            Ok(endpoint) => Ok(Placeholder::Of(key.to_owned(), endpoint)),
            Err(()) => Err(Problem::UnknownEndpoint(endpoint.to_owned())),
        };
    }
    match name {
        "instance" => Ok(Placeholder::Instance),
        "index" => Ok(Placeholder::Index),
        "name" => Ok(Placeholder::Name),
        "cluster" => Ok(Placeholder::Cluster),
        _ => match name.parse() {
            Ok(endpoint) => Ok(Placeholder::Own(endpoint)),
            Err(()) => Err(Problem::Unknown(name.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> Result<String, Vec<TemplateError>> {
        let template = Template::parse(text)?;
        Ok(template.fill(|placeholder| format!("<{placeholder:?}>")))
    }

    #[test]
    fn placeholders_are_filled_and_braces_kept() {
        assert_eq!(filled("--db={db}").unwrap(), "--db=<Own(Db)>");
        assert_eq!(filled("{instance}{index}").unwrap(), "<Instance><Index>");
        assert_eq!(
            filled("{a-b.worker_pull}").unwrap(),
            "<Of(\"a-b\", WorkerPull)>"
        );
        assert_eq!(filled("{{\"n\": {index}}}").unwrap(), "{\"n\": <Index>}");
        assert_eq!(filled("plain").unwrap(), "plain");
        assert_eq!(filled("").unwrap(), "");
    }

    #[test]
    fn all_mistakes_of_a_text_are_found_with_their_places() {
        let errors = Template::parse("a {dbb} } {x.dbb} {open").unwrap_err();
        let errors: Vec<_> = errors.into_iter().map(|it| (it.at, it.problem)).collect();
        assert_eq!(
            errors,
            [
                (2..7, Problem::Unknown("dbb".to_owned())),
                (8..9, Problem::Closing),
                (10..17, Problem::UnknownEndpoint("dbb".to_owned())),
                (18..19, Problem::Open),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_kept_once_its_braces_are_doubled(text in ".*") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&doubled).unwrap(), text);
        }

        #[test]
        fn any_text_is_read_or_has_mistakes_within_it(text in "[{}a.b ]*") {
            if let Err(errors) = Template::parse(&text) {
                prop_assert!(errors.iter().all(|error| text.get(error.at.clone()).is_some()));
            }
        }
    }
}
