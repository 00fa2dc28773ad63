//! The modules of each crate import lower layers only, as the table in `ARCHITECTURE.md` says.

use std::collections::BTreeMap;
use std::path::Path;

use super::documents::{assert_none, files, path, read};

/// The modules of the table, with the rank of their row: 0 is the top.
fn table() -> BTreeMap<String, (String, usize)> {
    let architecture = read("ARCHITECTURE.md");
    let (_, section) = architecture.split_once("### Layers").unwrap();
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let mut modules = BTreeMap::new();
    let mut owner = String::new();
    for (rank, row) in rows.enumerate() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if !cells[1].is_empty() {
            owner = cells[1].to_owned();
        }
        for module in cells[2].split(',') {
            let module = module.trim().trim_matches('`').to_owned();
            let replaced = modules.insert(module.clone(), (owner.clone(), rank));
            assert_eq!(replaced, None, "`{module}` is in the table twice");
        }
    }
    modules
}

/// The text of a file without comments and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that a text names by `crate::module` or `crate::{module, ..}`.
fn imports(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_word = |char: char| char.is_alphanumeric() || "_$".contains(char);
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let first_word = |text: &str| {
            let text = text.trim_start();
            let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
            text[..end.unwrap_or(text.len())].to_owned()
        };
        let Some(group) = rest.strip_prefix('{') else {
            modules.push(first_word(rest));
            continue;
        };
        let mut depth = 0;
        modules.push(first_word(group));
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => modules.push(first_word(&group[at + 1..])),
                _ => {}
            }
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

fn is_test(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    name == "tests.rs" || name.ends_with("_test.rs") || file.iter().any(|part| part == "tests")
}

#[test]
fn modules_import_lower_layers_only() {
    let table = table();
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for owner in ["palm-proto", "palm-runtime"] {
        let root = path(&format!("{owner}/src"));
        for file in files(&format!("{owner}/src"), "rs") {
            let inner = file.strip_prefix(&root).unwrap();
            let module = inner.iter().next().unwrap().to_str().unwrap();
            let module = module.strip_suffix(".rs").unwrap_or(module);
            if module == "lib" || is_test(inner) {
                continue;
            }
            found.push(module.to_owned());
            let Some((of, rank)) = table.get(module) else {
                wrong.push(format!("{owner}: `{module}` is not in the table"));
                continue;
            };
            if of != owner {
                wrong.push(format!("`{module}` is in {owner}, not in {of}"));
            }
            for import in imports(&code(&std::fs::read_to_string(&file).unwrap())) {
                match table.get(&import) {
                    _ if import == module => {}
                    None => wrong.push(format!("{}: `crate::{import}`", inner.display())),
                    Some((_, lower)) if lower <= rank => {
                        wrong.push(format!(
                            "{}: `{import}` is not below `{module}`",
                            inner.display()
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    let unknown = table.keys().filter(|module| !found.contains(module));
    wrong.extend(unknown.map(|module| format!("no crate has a module `{module}`")));
    wrong.sort();
    wrong.dedup();
    assert_none(&wrong, "imports against the layers of ARCHITECTURE.md");
}

/// Files that decide without I/O: time is an argument.
#[test]
fn state_machines_know_no_runtime_socket_or_clock() {
    let machines = [
        "session",
        "dispatch",
        "subscriptions.rs",
        "framing.rs",
        "header.rs",
    ];
    let links = path("palm-runtime/src/link");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in files("palm-runtime/src/link", "rs") {
        let inner = file.strip_prefix(&links).unwrap();
        let is_machine = machines.iter().any(|machine| inner.starts_with(machine));
        if !is_machine || is_test(inner) {
            continue;
        }
        checked += 1;
        let code = code(&std::fs::read_to_string(&file).unwrap());
        for io in [
            "tokio",
            "crate::socket",
            "Instant::now",
            "SystemTime::now",
            "std::net",
            "std::thread",
        ] {
            if code.contains(io) {
                wrong.push(format!("link/{}: `{io}`", inner.display()));
            }
        }
    }
    assert_none(&wrong, "I/O in state machines");
    assert!(checked >= machines.len(), "only {checked} files were found");
}

#[test]
fn imports_are_found_in_paths_and_groups() {
    let text = "use crate::queue::Sender;\nuse crate::{cache::{Cache, health}, link};\n$crate::Page; a(crate::part::X)";
    assert_eq!(imports(text), ["queue", "cache", "link", "part"]);
}
