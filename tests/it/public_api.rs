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
        "axum_core",
        &["palm::http", "palm::parts::MessageService"],
        "bodies of responses",
    ),
    (
        "serde_core",
        &["palm::Json", "palm::MessagePack"],
        "values in these formats",
    ),
    ("serde_json", &["palm::Json"], "its errors"),
    ("rmp_serde", &["palm::MessagePack"], "its errors"),
    (
        "prost",
        &["palm::Protobuf", "palm::proto"],
        "messages of users, and those of the wire",
    ),
    ("smallvec", &["palm::socket"], "frames"),
    (
        "tracing_core",
        &["palm::logging", "log_level"],
        "palm logs with `tracing`",
    ),
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
