//! `palm fmt`: one form of a file. Comments, the order of keys and the values stay as they are.

use toml_edit::{Decor, DocumentMut, Item, RawString, Table, TableLike, Value};

/// A file that cannot be formatted, because it is not TOML.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct FormatError(#[from] toml_edit::TomlError);

/// Returns a file in one form: a blank line before each table, at most one between keys, no indentation, and single
/// spaces around `=` and within lists and tables of one line.
///
/// # Errors
///
/// The file is not TOML: [`Cluster::parse`](crate::Cluster::parse) shows all mistakes of its syntax.
pub fn format(text: &str) -> Result<String, FormatError> {
    let mut document: DocumentMut = text.parse()?;
    let mut is_first = true;
    format_table(document.as_table_mut(), &mut is_first);
    let trailing = lines(document.trailing(), Blank::Kept);
    document.set_trailing(trailing.as_str());
    let text = document.to_string();
    let text = text.trim_end();
    Ok(if text.is_empty() {
        String::new()
    } else {
        format!("{text}\n")
    })
}

/// What becomes of blank lines at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blank {
    Kept,
    Removed,
    Added,
}

/// Returns the comments of the text before a key or table, one a line, with at most one blank line between them.
fn lines(raw: &RawString, blank: Blank) -> String {
    let mut text = String::new();
    let mut is_after_blank = blank == Blank::Added;
    let mut is_begin = true;
    // What follows the last line break is the indentation.
    let raw = raw.as_str().unwrap_or_default();
    let whole = raw.rfind('\n').map_or("", |end| &raw[..=end]);
    for line in whole.lines().map(str::trim) {
        if line.is_empty() {
            is_after_blank |= !(is_begin && blank == Blank::Removed);
            continue;
        }
        if std::mem::take(&mut is_after_blank) {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
        is_begin = false;
    }
    if is_after_blank {
        text.push('\n');
    }
    text
}

fn format_table(table: &mut Table, is_first: &mut bool) {
    let is_shown = !table.is_implicit() && !table.is_dotted() && table.position().is_some();
    if is_shown {
        let blank = if *is_first {
            Blank::Removed
        } else {
            Blank::Added
        };
        format_decor(table.decor_mut(), blank);
        *is_first = false;
    }
    let mut blank = if is_shown || *is_first {
        Blank::Removed
    } else {
        Blank::Kept
    };
    format_keys(table, &mut blank, is_first);
}

/// Formats the keys with values, and then the tables, in their order.
fn format_keys(table: &mut dyn TableLike, blank: &mut Blank, is_first: &mut bool) {
    for (mut key, item) in table.iter_mut() {
        key.dotted_decor_mut().clear();
        match item {
            Item::Value(value) => {
                // The keys of a dotted table are written where they are, and not within it.
                if let Value::InlineTable(inner) = value
                    && inner.is_dotted()
                {
                    format_keys(inner, blank, is_first);
                    continue;
                }
                let prefix = key
                    .leaf_decor()
                    .prefix()
                    .map(|prefix| lines(prefix, *blank));
                key.leaf_decor_mut().set_prefix(prefix.unwrap_or_default());
                key.leaf_decor_mut().set_suffix(" ");
                format_line(value);
                *blank = Blank::Kept;
                *is_first = false;
            }
            Item::Table(inner) if inner.is_dotted() => format_keys(inner, blank, is_first),
            _ => {}
        }
    }
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) if !inner.is_dotted() => format_table(inner, is_first),
            Item::ArrayOfTables(tables) => {
                for inner in tables.iter_mut() {
                    format_table(inner, is_first);
                }
            }
            _ => {}
        }
    }
}

/// Formats the text around a table's header: comments before it, and one behind it.
fn format_decor(decor: &mut Decor, blank: Blank) {
    let prefix = decor.prefix().map(|prefix| lines(prefix, blank));
    decor.set_prefix(prefix.unwrap_or_else(|| {
        if blank == Blank::Added {
            "\n".to_owned()
        } else {
            String::new()
        }
    }));
    let suffix = comment(decor);
    decor.set_suffix(suffix);
}

/// Formats the value of a key, with the comment behind it.
fn format_line(value: &mut Value) {
    let suffix = comment(value.decor());
    format_value(value);
    value.decor_mut().set_prefix(" ");
    value.decor_mut().set_suffix(suffix);
}

/// Returns the comment behind a value or header, after two spaces.
fn comment(decor: &Decor) -> String {
    let suffix = decor
        .suffix()
        .and_then(RawString::as_str)
        .unwrap_or_default()
        .trim();
    match suffix.is_empty() {
        true => String::new(),
        false => format!("  {suffix}"),
    }
}

/// Formats lists and tables of one line. Those of several lines may have comments, and stay as they are.
fn format_value(value: &mut Value) {
    let has_lines = value.to_string().contains('\n');
    match value {
        Value::Array(list) if !has_lines => {
            for value in list.iter_mut() {
                format_value(value);
            }
            list.fmt();
        }
        Value::InlineTable(table) if !has_lines => {
            for (_, value) in table.iter_mut() {
                format_value(value);
            }
            table.fmt();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let formatted = format(text).unwrap();
        expected.assert_eq(&formatted);
        assert_eq!(format(&formatted).unwrap(), formatted, "it changes again");
        let read = |text: &str| text.parse::<toml::Table>().unwrap();
        assert_eq!(read(&formatted), read(text), "its meaning changes");
    }

    #[test]
    fn comments_and_the_order_of_keys_stay() {
        check(
            r#"

#:schema ./cluster.schema.json


# The cluster.
name="images"     # what it does


trust_network   =  true
# Clients call it.

# It is fast.
  [components.master]    # the master
  kind    = "master"

  # Clients call it so.
  name = "images"
[components.worker]
replicas={min=1,max=  3}  # few


args = ["a",'b',  "c"]
env.A = "1"
env . B = "2"
after = [
  "a", # first
    "b",
]
[components.worker.options]
[expose]
master = "tcp://127.0.0.1:1"

# The end.


"#,
            expect![[r##"
                #:schema ./cluster.schema.json

                # The cluster.
                name = "images"  # what it does

                trust_network = true

                # Clients call it.

                # It is fast.
                [components.master]  # the master
                kind = "master"

                # Clients call it so.
                name = "images"

                [components.worker]
                replicas = { min = 1, max = 3 }  # few

                args = ["a", 'b', "c"]
                env.A = "1"
                env.B = "2"
                after = [
                  "a", # first
                    "b",
                ]

                [components.worker.options]

                [expose]
                master = "tcp://127.0.0.1:1"

                # The end.
            "##]],
        );
    }

    #[test]
    fn empty_files_and_files_of_comments_stay() {
        check("", expect![""]);
        check(
            "\n\n# nothing\n\n\n",
            expect![[r#"

            # nothing
        "#]],
        );
        check(
            "a = 1",
            expect![[r#"
            a = 1
        "#]],
        );
    }

    #[test]
    fn files_of_the_rules_keep_their_meaning() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if !path.to_str().unwrap().ends_with("_good.toml") {
                continue;
            }
            let formatted = format(&text).unwrap();
            assert_eq!(formatted, text, "{}", path.display());
        }
    }

    #[test]
    fn wrong_syntax_is_an_error() {
        assert!(format("a = = 1").is_err());
    }
}
