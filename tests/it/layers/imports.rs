//! The paths that a source file names, found in its text.

use std::path::Path;

/// A path of a module or item, and the name that it has in the importing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    pub(super) name: String,
}

/// Whether a file contains only tests.
pub(super) fn is_test(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    name == "tests.rs" || name.ends_with("_test.rs") || file.iter().any(|part| part == "tests")
}

/// The text of a file without comments and without the tests at its end.
pub(super) fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that begin with `crate`, `self` or `super`, in imports and elsewhere.
pub(super) fn named_paths(code: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for begin in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let continues = |char: char| is_word(char) || ":$".contains(char);
            if !code[..at].ends_with(continues) {
                found.extend(tree(&code[at..]).0);
            }
        }
    }
    found
}

/// The paths of all `use` declarations.
pub(super) fn used_paths(code: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap().trim_start();
        if line.is_empty() || line == "pub " || line.starts_with("pub(") {
            found.extend(tree(&code[at + "use ".len()..]).0);
        }
    }
    found
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Reads a path or a `use` tree. Returns its paths, and the rest of the text.
fn tree(text: &str) -> (Vec<Import>, &str) {
    let mut path: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            return self::group(&path, group);
        }
        let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // `*`, or the arguments of a generic function.
        if word.is_empty() {
            return (import(path, None), rest.strip_prefix('*').unwrap_or(rest));
        }
        path.push(word.to_owned());
        if let Some(more) = after.strip_prefix("::") {
            rest = more;
        } else if let Some(alias) = after.strip_prefix(" as ") {
            let end = alias.find(|char| !is_word(char)).unwrap_or(alias.len());
            let (alias, after) = alias.split_at(end);
            return (import(path, Some(alias)), after);
        } else {
            return (import(path, None), after);
        }
    }
}

/// Reads the rest of a group in braces.
fn group<'a>(prefix: &[String], text: &'a str) -> (Vec<Import>, &'a str) {
    let mut imports = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|char: char| char.is_whitespace() || char == ',');
        if let Some(after) = rest.strip_prefix('}') {
            return (imports, after);
        }
        let (inner, after) = tree(rest);
        if after.len() == rest.len() {
            // Not a group of imports.
            return (imports, after);
        }
        for Import { path, name } in inner {
            let path = [prefix, &path[..]].concat();
            // In `a::{self}` the name is that of the module.
            let name = match name.as_str() {
                "" => path.last().cloned().unwrap_or_default(),
                _ => name,
            };
            imports.push(Import { path, name });
        }
        rest = after;
    }
}

fn import(mut path: Vec<String>, name: Option<&str>) -> Vec<Import> {
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let last = || path.last().cloned().unwrap_or_default();
    let name = name.map_or_else(last, str::to_owned);
    vec![Import { path, name }]
}

#[test]
fn imports_are_found_in_paths_and_groups() {
    let text = "use crate::queue::Sender;\nuse crate::{cache::{Cache, health}, link};\n\
                $crate::Page; a(crate::part::X::<u8>::new()); super::super::b;";
    let paths = |imports: Vec<Import>| {
        let paths = imports.into_iter().map(|import| import.path.join("::"));
        paths.collect::<Vec<_>>()
    };
    assert_eq!(
        paths(named_paths(text)),
        [
            "crate::queue::Sender",
            "crate::cache::Cache",
            "crate::cache::health",
            "crate::link",
            "crate::part::X",
            "super::super::b",
        ]
    );
    let text = "pub(super) use a::{self, B as C, d::*};\npub use e::F;";
    let imports = used_paths(text);
    let names: Vec<_> = imports.iter().map(|import| &*import.name).collect();
    assert_eq!(names, ["a", "C", "d", "F"]);
    assert_eq!(paths(imports), ["a", "a::B", "a::d", "e::F"]);
}
