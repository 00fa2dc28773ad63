//! The modules of each crate import lower layers only, as the table in `ARCHITECTURE.md` says.

mod cycles;
mod imports;

use std::collections::{BTreeMap, BTreeSet};

use self::imports::{code, is_test, named_paths};
use super::documents::{assert_none, files, path, read};

/// The modules of the table by crate and name, with the rank of their row: 0 is the top.
type Table = BTreeMap<(String, String), usize>;

fn table() -> Table {
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
            let replaced = modules.insert((owner.clone(), module.clone()), rank);
            assert_eq!(replaced, None, "`{module}` is in the table twice");
        }
    }
    modules
}

/// The modules that a text names by `crate::module` or `crate::{module, ..}`.
fn imports(code: &str) -> BTreeSet<String> {
    let paths = named_paths(code).into_iter().map(|import| import.path);
    let paths = paths.filter(|path| path[0] == "crate");
    paths.filter_map(|path| path.into_iter().nth(1)).collect()
}

/// Returns the rank of a module that a file of the crate `owner` names by `crate::`: a module of this crate, or one of
/// palm-proto that the root of palm-runtime imports.
fn rank(table: &Table, owner: &str, module: &str) -> Option<usize> {
    let of = |owner: &str| table.get(&(owner.to_owned(), module.to_owned()));
    of(owner).or_else(|| of("palm-proto")).copied()
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
            let key = (owner.to_owned(), module.to_owned());
            let Some(&own) = table.get(&key) else {
                wrong.push(format!("{owner}: `{module}` is not in the table"));
                continue;
            };
            found.push(key);
            for import in imports(&code(&std::fs::read_to_string(&file).unwrap())) {
                match rank(&table, owner, &import) {
                    _ if import == module => {}
                    None => wrong.push(format!("{}: `crate::{import}`", inner.display())),
                    Some(lower) if lower <= own => {
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
    let unknown = table.keys().filter(|key| !found.contains(key));
    wrong.extend(unknown.map(|(owner, module)| format!("{owner} has no module `{module}`")));
    wrong.sort();
    wrong.dedup();
    assert_none(&wrong, "imports against the layers of ARCHITECTURE.md");
}

/// What decides does no I/O, and time is an argument.
#[test]
fn palm_proto_and_palm_plan_know_no_runtime_socket_or_clock() {
    let root = path("");
    let mut found = Vec::new();
    let deciding = ["palm-plan/src", "palm-proto/src"];
    for file in deciding.iter().flat_map(|folder| files(folder, "rs")) {
        let inner = file.strip_prefix(&root).unwrap();
        if is_test(inner) {
            continue;
        }
        let code = code(&std::fs::read_to_string(&file).unwrap());
        for io in [
            "tokio::",
            "Instant::now",
            "SystemTime::now",
            ".elapsed(",
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
        ] {
            if code.contains(io) {
                found.push(format!("{} in {}", io, inner.display()));
            }
        }
    }
    assert_none(
        &found,
        "I/O, threads and clocks in palm-proto and palm-plan",
    );
}

/// A test that pauses tokio's time pauses the runtime, except threads and measurements of work.
#[test]
fn palm_runtime_reads_the_clock_of_tokio() {
    let expected = [
        // Times of expiry that survive a restart.
        "cache/file/table.rs",
        "cache/file/writer.rs",
        "clock.rs",
        "link/liveness.rs",
        "parts/handler.rs",
    ];
    let root = path("palm-runtime/src");
    let mut found = Vec::new();
    for file in files("palm-runtime/src", "rs") {
        let inner = file.strip_prefix(&root).unwrap();
        if is_test(inner) {
            continue;
        }
        let code = code(&std::fs::read_to_string(&file).unwrap());
        let is_tokios =
            code.contains("use tokio::time::{Instant") || code.contains("use tokio::time::Instant");
        let reads =
            code.contains("Instant::now()") && !code.contains("tokio::time::Instant::now()");
        if code.contains("SystemTime::now")
            || (!is_tokios && (reads || code.contains(".elapsed()")))
        {
            found.push(inner.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    assert_eq!(found, expected, "clocks of the system in palm-runtime");
}
