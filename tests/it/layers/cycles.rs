//! The modules of each folder import each other without a cycle.
//!
//! An import of anything inside of a module counts as one of that module, also if a parent re-exports the item. The
//! items of a parent's own file count as none, since all of its children may use them.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{code, is_test, named_paths, used_paths};
use crate::documents::{assert_none, files, path};

/// The path of a module below the root of its crate.
type ModulePath = Vec<String>;

/// The code of each module of a crate.
type Modules = BTreeMap<ModulePath, String>;

/// For each module of a folder, the other modules of that folder that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn read_modules(folder: &str) -> Modules {
    let root = path(folder);
    let mut modules = Modules::new();
    for file in files(folder, "rs") {
        let inner = file.strip_prefix(&root).unwrap();
        if is_test(inner) {
            continue;
        }
        let inner = inner.with_extension("");
        let mut module: ModulePath = inner
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        if module == ["lib"] || module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        modules.insert(module, code(&std::fs::read_to_string(&file).unwrap()));
    }
    modules
}

/// Returns the path below the root of the crate that a path in `module` stands for, if it is one of this crate.
fn resolve(modules: &Modules, module: &[String], path: &[String]) -> Option<ModulePath> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(first @ ("self" | "super")) = rest.first().map(String::as_str) {
                if first == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        child => {
            base.push(child.to_owned());
            if !modules.contains_key(&base) {
                return None;
            }
            base.pop();
        }
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The names that modules import, by module and name.
fn read_names(modules: &Modules) -> BTreeMap<(ModulePath, String), ModulePath> {
    let mut names = BTreeMap::new();
    for (module, code) in modules {
        for import in used_paths(code) {
            if let Some(path) = resolve(modules, module, &import.path) {
                names.insert((module.clone(), import.name), path);
            }
        }
    }
    names
}

/// Returns all modules that contain the item at `path` or re-export it.
fn targets(
    modules: &Modules,
    names: &BTreeMap<(ModulePath, String), ModulePath>,
    path: ModulePath,
) -> Vec<ModulePath> {
    let mut targets = vec![path];
    loop {
        let path = targets.last().unwrap();
        let len = (0..path.len())
            .take_while(|&len| modules.contains_key(&path[..=len]))
            .count();
        let Some(name) = path.get(len) else {
            return targets;
        };
        let Some(next) = names.get(&(path[..len].to_vec(), name.clone())) else {
            return targets;
        };
        let next = [next, &path[len + 1..]].concat();
        if targets.contains(&next) {
            return targets;
        }
        targets.push(next);
    }
}

/// Returns the imports between the modules of each folder, by the path of the folder.
fn read_imports(modules: &Modules) -> BTreeMap<ModulePath, Imports> {
    let names = read_names(modules);
    let mut folders = BTreeMap::<_, Imports>::new();
    for (module, code) in modules {
        for import in named_paths(code).into_iter().chain(used_paths(code)) {
            let Some(path) = resolve(modules, module, &import.path) else {
                continue;
            };
            for target in targets(modules, &names, path) {
                let pairs = module.iter().zip(&target);
                let common = pairs.take_while(|(own, other)| own == other).count();
                if common < module.len()
                    && common < target.len()
                    && modules.contains_key(&target[..=common])
                {
                    let folder = folders.entry(module[..common].to_vec()).or_default();
                    let imports = folder.entry(module[common].clone()).or_default();
                    imports.insert(target[common].clone());
                }
            }
        }
    }
    folders
}

/// Returns a path through `imports` that ends where it begins.
fn find_cycle(imports: &Imports) -> Option<Vec<String>> {
    let mut left = imports.clone();
    loop {
        let is_free =
            |imported: &BTreeSet<String>| imported.iter().all(|it| !left.contains_key(it));
        let free = left.iter().find(|(_, imported)| is_free(imported));
        let Some(free) = free.map(|(module, _)| module.clone()) else {
            break;
        };
        left.remove(&free);
    }
    // Each module that is left imports another one.
    let mut path = vec![left.keys().next()?.clone()];
    loop {
        let last = path.last().unwrap();
        let next = left[last].iter().find(|module| left.contains_key(*module));
        let next = next.unwrap().clone();
        let begin = path.iter().position(|module| *module == next);
        path.push(next);
        if let Some(begin) = begin {
            return Some(path.split_off(begin));
        }
    }
}

#[test]
fn modules_of_each_folder_import_each_other_without_a_cycle() {
    let mut cycles = Vec::new();
    for folder in [
        "palm-macros/src",
        "palm-malloc/src",
        "palm-plan/src",
        "palm-proto/src",
        "palm-runner/src",
        "palm-runtime/src",
        "src",
    ] {
        for (module, imports) in read_imports(&read_modules(folder)) {
            if let Some(cycle) = find_cycle(&imports) {
                cycles.push(format!(
                    "{folder}/{}: {}",
                    module.join("/"),
                    cycle.join(" -> ")
                ));
            }
        }
    }
    assert_none(&cycles, "cycles between modules");
}

#[test]
fn imports_that_exist_are_found() {
    let imports = read_imports(&read_modules("palm-runtime/src"));
    let has = |folder: &[&str], from: &str, to: &str| {
        let folder: ModulePath = folder.iter().map(|&part| part.to_owned()).collect();
        imports[&folder][from].contains(to)
    };
    assert!(has(&[], "parts", "link"));
    assert!(has(&["link"], "server", "inbound"));
    assert!(has(&["link", "server"], "timers", "peer"));
    // By a re-export of the parent.
    assert!(has(&["cache"], "operations", "error"));
}

#[test]
fn imports_of_siblings_are_found_at_each_depth_and_through_reexports() {
    let modules: Modules = [
        ("", "mod a; mod b;"),
        ("a", "mod x;\nmod y;\npub(crate) use y::Y;\nstruct Own;"),
        ("a/x", "use super::{Own, Y};\nfn f() { crate::b::g() }"),
        ("a/y", "use super::super::b;"),
        ("b", "fn g() {}"),
    ]
    .map(|(module, code)| {
        let parts = module.split('/').filter(|part| !part.is_empty());
        (parts.map(str::to_owned).collect(), code.to_owned())
    })
    .into();
    let imports = read_imports(&modules);
    let of = |from: &str, to: &str| Imports::from([(from.to_owned(), [to.to_owned()].into())]);
    assert_eq!(imports[&Vec::new()], of("a", "b"));
    assert_eq!(imports[&vec!["a".to_owned()]], of("x", "y"));
    assert_eq!(imports.len(), 2);
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
