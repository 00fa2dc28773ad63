//! The rules of the public API, over its list in `docs/public-api.txt`, which `.ci/public-api/run` compares with the
//! source.

use super::documents::read;

/// The crates whose types the public API may contain, the items in which, and the reason. An empty list of items
/// permits all.
const FOREIGN_CRATES: &[(&str, &[&str], &str)] = &[
    ("bytes", &[], "payloads: `palm::Bytes`"),
    ("bytestring", &[], "texts of messages: `palm::ByteString`"),
    (
        "futures_core",
        &[],
        "`Stream`, which the standard library lacks",
    ),
    ("tower_layer", &[], "layers of calls"),
    (
        "tower_service",
        &[
            "palm::http",
            "palm::parts::MessageService",
            "palm::middleware",
        ],
        "services of HTTP and calls",
    ),
    (
        "http",
        &["palm::http", "palm::parts::MessageService"],
        "requests and responses",
    ),
    (
        "http_body",
        &["palm::http", "palm::parts::MessageService"],
        "bodies of requests",
    ),
    (
        "serde_core",
        &[],
        "options, and values as JSON and MessagePack",
    ),
    ("clap_builder", &[], "options as arguments"),
    ("prost", &["palm::Protobuf"], "messages of users"),
    ("smallvec", &["palm::socket"], "frames"),
    (
        "tracing_core",
        &["palm::logging", "log_level"],
        "palm logs with `tracing`",
    ),
    ("tracing", &["palm::trace"], "the spans of calls"),
    (
        "tracing_subscriber",
        &["palm::logging"],
        "a layer of a subscriber",
    ),
    (
        "inventory",
        &["palm::Registration"],
        "the macros register components",
    ),
];

/// Returns the lines of the list.
fn lines() -> Vec<String> {
    read("docs/public-api.txt")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Returns the first segments of the paths in a line: the crates that it names.
fn crates(line: &str) -> Vec<&str> {
    let is_part =
        |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let paths = line.split(|character| !is_part(character));
    let crates = paths.filter_map(|path| {
        let (first, _) = path.split_once("::")?;
        first
            .starts_with(|character: char| character.is_ascii_lowercase())
            .then_some(first)
    });
    crates.collect()
}

#[test]
fn crates_of_a_line_are_the_roots_of_its_paths() {
    let line = "pub fn palm::Job<'a, T>::next(&mut self) -> Option<<Self as futures_core::stream::Stream>::Item>";
    assert_eq!(crates(line), ["palm", "futures_core"]);
}

#[test]
fn types_of_other_crates_appear_only_where_they_are_permitted() {
    let mut unused: Vec<_> = FOREIGN_CRATES.iter().map(|(name, ..)| *name).collect();
    let mut forbidden = Vec::new();
    for line in lines() {
        for found in crates(&line) {
            // Bounds of sealed traits are written with the path of their definition.
            if matches!(
                found,
                "palm" | "palm_runtime" | "core" | "alloc" | "std" | "str"
            ) {
                continue;
            }
            unused.retain(|name| *name != found);
            let permitted = FOREIGN_CRATES.iter().any(|(name, items, _)| {
                *name == found && (items.is_empty() || items.iter().any(|item| line.contains(item)))
            });
            if !permitted {
                forbidden.push(format!("{found}: {line}"));
            }
        }
    }
    assert!(
        forbidden.is_empty(),
        "these items name a type of another crate, so a new version of it breaks users: wrap it in a type of palm, or \
         add the crate to `FOREIGN_CRATES` with the reason:\n{}",
        forbidden.join("\n")
    );
    assert!(
        unused.is_empty(),
        "no item names {unused:?}: remove them from `FOREIGN_CRATES`"
    );
}

/// Enums whose variants are complete, and the reason.
const COMPLETE_ENUMS: &[(&str, &str)] = &[
    (
        "palm::callable::Emitted",
        "the next message is wanted or not",
    ),
    (
        "palm::callable::Outcome",
        "a call returns a payload, nothing or a failure",
    ),
    ("palm::callable::Receiver", "`&self` or `&mut self`"),
    ("palm::callable::Results", "one or many"),
    ("palm::socket::TrySendError", "a queue is full or closed"),
    ("palm::NoAnswer", "no variants: a type as a marker"),
    ("palm::PartKind", "the three places of a part"),
    ("palm::Pipeline", "no variants: a type as a marker"),
    ("palm::Server", "no variants: a type as a marker"),
    ("palm::Sink", "no variants: a type as a marker"),
    ("palm::Swap", "a value was changed or not"),
    ("palm::Untyped", "no variants: a type as a marker"),
    ("palm::Worker", "no variants: a type as a marker"),
];

/// Errors whose variants are complete, because others make them, with the reason.
const OPEN_ERRORS: &[(&str, &str)] = &[("palm::CacheError", "stores of users return them")];

/// Returns the path of the item that a line declares by `keyword`, without generics, if it is exhaustive.
fn exhaustive<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let path = line.strip_prefix(&format!("pub {keyword} "))?;
    path.split(['<', '(', ' ']).next()
}

#[test]
fn enums_and_structs_with_fields_can_grow() {
    let lines = lines();
    let enums: Vec<_> = lines
        .iter()
        .filter_map(|line| exhaustive(line, "enum"))
        .collect();
    let complete: Vec<_> = COMPLETE_ENUMS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        enums, complete,
        "an enum that can grow is `#[non_exhaustive]`, others are in `COMPLETE_ENUMS` with the reason"
    );
    let structs = lines.iter().filter_map(|line| exhaustive(line, "struct"));
    let with_fields: Vec<_> = structs
        .filter(|name| {
            let field = format!("pub {name}::");
            lines.iter().any(|line| {
                let field = line
                    .strip_prefix(&field)
                    .and_then(|line| line.split_once(": "));
                field.is_some_and(|(field, _)| !field.contains(['(', ':', ' ']))
            })
        })
        .collect();
    assert!(
        with_fields.is_empty(),
        "fields of these structs cannot be added without a break: make the fields private, or the struct \
         `#[non_exhaustive]`: {with_fields:?}"
    );
}

#[test]
fn variants_of_errors_with_fields_can_grow() {
    let lines = lines();
    let closed = lines.iter().filter_map(|line| {
        let path = line.strip_prefix("pub ")?;
        let (error, variant) = path.rsplit_once("::")?;
        let is_error = error.ends_with("Error") || error.ends_with("Failure");
        if !is_error || OPEN_ERRORS.iter().any(|(name, _)| *name == error) {
            return None;
        }
        let field = format!("pub {path}::");
        let has_fields = lines.iter().any(|line| line.starts_with(&field));
        has_fields.then_some((error, variant))
    });
    let closed: Vec<_> = closed.collect();
    assert!(
        closed.is_empty(),
        "fields of these variants cannot be added without a break, unless they are `#[non_exhaustive]`: {closed:?}"
    );
}
