//! The chapter of errors against the source: it has each variant of an error and each logged warning, with its text.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Source, assert_none, path, read, sources, variants};

const CHAPTER: &str = "docs/book/src/errors.md";

/// A variant of an error, and its message with `..` in place of values; `None` if it is that of its cause.
type ErrorVariant = (String, Option<String>);

/// The crates of the command `palm`. Its errors are texts for its users, which the program shows with what to do.
const COMMAND: [&str; 3] = ["palm-cli/", "palm-plan/", "palm-runner/"];

/// Returns the enums whose names end with `Error` or `Fault` and that begin with `visibility`, with their variants.
///
/// The crates of the command are left out.
fn error_enums(visibility: &str) -> BTreeMap<String, Vec<ErrorVariant>> {
    let begin = format!("\n{visibility} enum ");
    let mut found = BTreeMap::new();
    for file in sources() {
        let inside = file.strip_prefix(path("")).unwrap();
        let is_of_command = COMMAND.iter().any(|krate| inside.starts_with(krate));
        if is_of_command || file.ends_with("message/proto.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for definition in text.split(&begin).skip(1) {
            let is_end = |char: char| !char.is_alphanumeric();
            let name = definition.split(is_end).next().unwrap();
            let Some((body, _)) = definition.split_once("\n}") else {
                continue;
            };
            if (name.ends_with("Error") || name.ends_with("Fault")) && body.contains("#[error(") {
                found.insert(name.to_owned(), error_variants(body));
            }
        }
    }
    found
}

/// Reads the variants of an enum, each after its `#[error(..)]`.
fn error_variants(body: &str) -> Vec<ErrorVariant> {
    let mut variants = Vec::new();
    let mut message = None;
    let mut lines = body
        .lines()
        .skip(1)
        .filter_map(|line| line.strip_prefix("    "));
    while let Some(line) = lines.next() {
        if let Some(attribute) = line.strip_prefix("#[error(") {
            let mut attribute = attribute.to_owned();
            while !attribute.ends_with(")]") {
                attribute.push('\n');
                attribute.push_str(lines.next().expect("the attribute ends").trim_start());
            }
            message = message_pattern(&attribute);
        } else if line.starts_with(|first: char| first.is_ascii_uppercase()) {
            let is_end = |char: char| !char.is_alphanumeric();
            let name = line.split(is_end).next().unwrap().to_owned();
            variants.push((name, message.take()));
        }
    }
    variants
}

/// Returns the text of `#[error(..)]` with `..` in place of values, or `None` for `transparent`.
fn message_pattern(attribute: &str) -> Option<String> {
    let (_, literal) = attribute.split_once('"')?;
    Some(pattern_of(literal))
}

/// Returns a format string, which begins after its quotation mark, with `..` in place of values.
fn pattern_of(literal: &str) -> String {
    let mut ends = literal.match_indices('"').map(|(at, _)| at);
    let end = ends.find(|at| !literal[..*at].ends_with('\\'));
    let literal = literal[..end.expect("the literal ends")].replace("\\\"", "\"");
    // A backslash at the end of a line continues the literal.
    let literal: String = literal.split("\\\n").map(str::trim_start).collect();
    let mut pattern = String::new();
    for (index, part) in literal.split('{').enumerate() {
        let text = match index {
            0 => part,
            _ => part.split_once('}').expect("the placeholder ends").1,
        };
        if index > 0 && !pattern.ends_with("..") {
            pattern.push_str("..");
        }
        pattern.push_str(text);
    }
    pattern
}

/// Returns the first two cells of each row of the table of `errors.md` whose first column is called `name`.
fn error_table(chapter: &str, name: &str) -> Option<Vec<(String, String)>> {
    let (_, table) = chapter.split_once(&format!("\n| `{name}` | "))?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ']));
        let variant = cells.next().unwrap().trim_matches('`');
        (variant.to_owned(), cells.next().unwrap().to_owned())
    });
    Some(cells.collect())
}

/// Returns the text of a cell in backticks, one or two.
pub(crate) fn code(cell: &str) -> Option<&str> {
    match cell.strip_prefix("``") {
        Some(code) => Some(code.strip_suffix("``")?.trim()),
        None => cell.strip_prefix('`')?.strip_suffix('`'),
    }
}

/// Enums that programs cannot name, and the titles of their tables, which have the messages only.
const UNNAMED: [(&str, &str); 2] = [
    ("ConnectFault", "fault of a connection"),
    ("RouteError", "mistake in the routes"),
];

/// Returns the messages of the table of `errors.md` whose first column has this title.
fn message_table(chapter: &str, title: &str) -> BTreeSet<String> {
    let (_, table) = chapter.split_once(&format!("\n| {title} | ")).unwrap();
    let rows = table.lines().skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split(" | ").next().unwrap().trim_matches(['|', ' ']));
    cells
        .map(|cell| code(cell).unwrap_or("..").to_owned())
        .collect()
}

#[test]
fn error_chapter_has_each_variant_with_its_message() {
    let chapter = read(CHAPTER);
    let mut enums = error_enums("pub");
    assert!(enums.len() >= 16, "only {} errors were found", enums.len());
    enums.extend(
        error_enums("pub(crate)")
            .into_iter()
            .filter(|(name, _)| UNNAMED.iter().any(|(unnamed, _)| unnamed == name)),
    );
    let mut wrong = Vec::new();
    for (name, variants) in enums {
        if let Some((_, title)) = UNNAMED.iter().find(|(unnamed, _)| *unnamed == name) {
            let messages: BTreeSet<_> = variants
                .into_iter()
                .filter_map(|(_, message)| message)
                .collect();
            let listed = message_table(&chapter, title);
            if messages != listed {
                wrong.push(format!(
                    "the table \"{title}\" has {listed:?}, the program {messages:?}"
                ));
            }
            continue;
        }
        let Some(rows) = error_table(&chapter, &name) else {
            wrong.push(format!("there is no table of `{name}`"));
            continue;
        };
        let rows: BTreeMap<_, _> = rows.into_iter().collect();
        for (variant, message) in &variants {
            let Some(cell) = rows.get(variant) else {
                wrong.push(format!("`{name}::{variant}` has no row"));
                continue;
            };
            match message.as_deref() {
                // The text is composed elsewhere.
                Some("..") => {}
                Some(message) if code(cell) == Some(message) => {}
                None if cell.contains("of its cause") => {}
                message => wrong.push(format!("`{name}::{variant}`: {message:?}, not {cell}")),
            }
        }
        let known: BTreeSet<_> = variants.into_iter().map(|(variant, _)| variant).collect();
        let unknown = rows.keys().filter(|row| !known.contains(*row));
        wrong.extend(unknown.map(|row| format!("`{name}` has no `{row}`")));
    }
    let failure = Source::new("failure.rs").text;
    let kinds = variants("FailureKind");
    let rows = error_table(&chapter, "FailureKind").unwrap_or_default();
    for (kind, cell) in &rows {
        let describe = format!("Self::{kind} => \"{}\"", code(cell).unwrap_or(cell));
        if !failure.contains(&describe) {
            wrong.push(format!("`FailureKind::{kind}` is not described by {cell}"));
        }
    }
    assert_none(&wrong, "the chapter of errors differs from the source");
    assert_eq!(
        rows.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(),
        kinds
    );
}

/// Returns the texts that a source logs by `warn!` or `error!`, with `..` in place of values.
fn logged(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["warn!(", "error!("] {
        for call in source.split(name).skip(1) {
            // The text is the first literal that is an argument itself.
            let mut depth = 0;
            for (at, char) in call.char_indices() {
                match char {
                    '"' if depth == 0 => {
                        found.push(pattern_of(&call[at + 1..]));
                        break;
                    }
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' if depth == 0 => break,
                    ')' | ']' | '}' => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    found
}

#[test]
fn error_chapter_has_each_logged_warning() {
    let chapter = read(CHAPTER);
    let mut listed = BTreeSet::new();
    for table in chapter.split("\n| logged | ").skip(1) {
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        for row in rows {
            let cell = row.split(" | ").next().unwrap().trim_matches(['|', ' ']);
            let text = code(cell).unwrap_or_else(|| panic!("{cell} is not in backticks"));
            listed.insert(text.to_owned());
        }
    }
    let mut written = BTreeSet::new();
    for file in sources() {
        let name = file.to_str().unwrap();
        if name.ends_with("tests.rs") || name.contains("palm-macros") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\nmod tests {").next().unwrap();
        let text = text.replace("compile_error!(", "");
        // A text that is only a value is one of an error.
        written.extend(logged(&text).into_iter().filter(|text| text != ".."));
    }
    let missing: Vec<_> = written.difference(&listed).cloned().collect();
    assert_none(&missing, "logged texts that the chapter of errors lacks");
    let unknown: Vec<_> = listed.difference(&written).cloned().collect();
    assert_none(
        &unknown,
        "texts of the chapter of errors that palm does not log",
    );
    assert!(listed.len() > 50, "only {} texts were found", listed.len());
}

/// Texts that the chapter of errors quotes from components, with `..` in place of values, are in the source.
#[test]
fn texts_in_the_error_chapter_are_those_of_the_program() {
    let mut said = String::new();
    for file in sources() {
        said.push_str(&std::fs::read_to_string(file).unwrap().replace("\\\"", "\""));
    }
    // A backslash at the end of a line continues the literal.
    let mut lines = said.split("\\\n");
    let mut text = lines.next().unwrap().to_owned();
    lines.for_each(|line| text.push_str(line.trim_start()));
    let chapter = read(CHAPTER);
    let mut unknown = Vec::new();
    let mut checked = 0;
    for table in chapter.split("\n| text | ").skip(1) {
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with("| `"));
        for row in rows {
            let cell = row.split(" | ").next().unwrap().trim_matches(['|', ' ']);
            let Some(quoted) = code(cell) else { continue };
            for part in quoted
                .split("..")
                .map(|part| part.trim_matches([' ', '`', ',', '(', ')', ':', '"']))
            {
                checked += 1;
                if !text.contains(part) {
                    unknown.push(format!("{part} (of {quoted})"));
                }
            }
        }
    }
    assert_none(&unknown, "texts that palm does not write");
    assert!(checked >= 40, "only {checked} texts were found");
}
