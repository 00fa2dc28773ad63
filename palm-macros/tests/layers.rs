//! The top-level modules of this crate form layers: none of them imports itself through others.

#![expect(clippy::unwrap_used, reason = "helpers are tests too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules that each module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn top_level_modules_import_each_other_without_a_cycle() {
    let imports = read_imports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(
        imports["component"].contains("signature"),
        "an import that exists was not found: {imports:?}"
    );
    if let Some(cycle) = find_cycle(&imports) {
        panic!("cycle between modules: {}", cycle.join(" -> "));
    }
}

#[test]
fn find_cycle_returns_the_modules_of_the_cycle() {
    let imports = |edges: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in edges {
            let imported = imports.entry((*from).to_owned()).or_default();
            imported.insert((*to).to_owned());
        }
        imports
    };
    let tree = imports(&[("a", "b"), ("a", "c"), ("b", "c")]);
    assert_eq!(find_cycle(&tree), None);
    let cyclic = imports(&[("a", "b"), ("b", "c"), ("c", "b")]);
    assert_eq!(find_cycle(&cyclic).unwrap(), ["b", "c", "b"]);
}

/// Reads which top-level modules below `source` each of them names by `crate::`, or by `super::` where
/// that is the crate root.
fn read_imports(source: &Path) -> Imports {
    let entries = entries(source);
    let modules: BTreeSet<_> = entries.iter().map(|path| module_name(path)).collect();
    let mut imports = Imports::new();
    for path in &entries {
        let module = module_name(path);
        let imported = imports.entry(module.clone()).or_default();
        for file in files(path) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let root_file = file == *path || file == path.join("mod.rs");
            for line in code {
                imported.extend(names_after("crate::", line));
                if root_file {
                    imported.extend(names_after("super::", line));
                }
            }
        }
        imported.retain(|name| modules.contains(name) && *name != module);
    }
    imports.remove("lib");
    imports
}

/// The names that follow `prefix` in `line`, as `b` follows `crate::` in `crate::b::c`.
fn names_after(prefix: &str, line: &str) -> Vec<String> {
    let tails = line.split(prefix).skip(1);
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    tails
        .map(|tail| tail.chars().take_while(|&letter| is_name(letter)).collect())
        .collect()
}

/// The file or folder of each module in `folder`.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn module_name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// All files of a module.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        entries(path)
            .iter()
            .flat_map(|entry| files(entry))
            .collect()
    } else {
        vec![path.to_owned()]
    }
}

/// A path through `imports` that ends where it begins.
fn find_cycle(imports: &Imports) -> Option<Vec<String>> {
    fn visit(module: &str, imports: &Imports, path: &mut Vec<String>) -> Option<Vec<String>> {
        let begin = path.iter().position(|name| name == module);
        path.push(module.to_owned());
        if let Some(begin) = begin {
            return Some(path.split_off(begin));
        }
        for imported in imports.get(module).into_iter().flatten() {
            if let Some(cycle) = visit(imported, imports, path) {
                return Some(cycle);
            }
        }
        path.pop();
        None
    }
    imports
        .keys()
        .find_map(|module| visit(module, imports, &mut Vec::new()))
}
