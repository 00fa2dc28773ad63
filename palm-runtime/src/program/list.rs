//! The list of the components that a program can start, as text and as JSON.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use super::catalog::{Catalog, CatalogEntry};

/// Returns the list for people.
pub(super) fn text(program: &str, catalog: &Catalog) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, program, catalog);
    text
}

fn write_text(text: &mut String, program: &str, catalog: &Catalog) -> fmt::Result {
    let entries = catalog.entries();
    if entries.is_empty() {
        return writeln!(
            text,
            "No component is linked into this program. A library is linked only if the program names it: \
             `use my_components as _;`"
        );
    }
    writeln!(text, "Components of {program}:\n")?;
    let width = |part: fn(&CatalogEntry) -> &str| entries.iter().map(|it| part(it).len()).max();
    let kinds = width(|entry| entry.kind.name()).unwrap_or_default();
    let handles = width(|entry| &entry.handle).unwrap_or_default();
    for entry in entries {
        let (kind, handle) = (entry.kind, &entry.handle);
        let doc = match entry.doc() {
            "" => entry.type_name(),
            doc => doc,
        };
        writeln!(text, "  {kind:kinds$}  {handle:handles$}  {doc}")?;
        write!(text, "{}", functions(entry, "      "))?;
        if entry.starter.is_none() {
            writeln!(text, "      {}", not_startable(entry))?;
        }
    }
    let startable = entries.iter().find(|entry| entry.starter.is_some());
    if let Some(CatalogEntry { kind, handle, .. }) = startable {
        let address = kind.example_address();
        writeln!(
            text,
            "\nRun one with `{program} {kind} {handle} {address}`."
        )?;
        writeln!(
            text,
            "`{program} {kind} {handle} --help` describes its options."
        )?;
    }
    Ok(())
}

/// Returns the functions of a component, a line each.
pub(super) fn functions(entry: &CatalogEntry, indent: &str) -> String {
    let functions = entry.registration.map_or(&[][..], |it| it.functions);
    let width = functions.iter().map(|function| function.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for function in functions {
        let line = format!("{indent}{:width$}  {}", function.name, function.doc);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns why a component cannot be started, and the remedy.
pub(super) fn not_startable(entry: &CatalogEntry) -> String {
    let type_name = entry.type_name();
    format!(
        "cannot be started: derive `Default` for `{type_name}`, or name its constructor, as in \
         `palm::main!({type_name} => {type_name}::new)`"
    )
}

/// Returns the list for other programs.
pub(super) fn json(catalog: &Catalog) -> Value {
    let components = catalog.entries().iter().map(|entry| {
        let functions = entry.registration.map_or(&[][..], |it| it.functions);
        let functions = functions.iter().map(|function| match &*function.doc {
            "" => json!({ "name": function.name }),
            doc => json!({ "name": function.name, "doc": doc }),
        });
        json!({
            "kind": entry.kind.name(),
            "component": entry.declared,
            "type": entry.type_name(),
            "doc": entry.doc(),
            "functions": functions.collect::<Vec<_>>(),
            "startable": entry.starter.is_some(),
        })
    });
    components.collect()
}
