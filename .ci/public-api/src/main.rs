//! Prints the public API of palm: the declarations that users of the package `palm-cluster` can name.
//!
//! The facade consists of re-exports, and rustdoc's JSON of a crate does not contain the items of others. The JSON of
//! the four crates is therefore merged into one that looks as if the facade contained everything; `public_api` renders
//! it. Items that are hidden from the documentation carry no promise, and are not listed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use serde_json::{Map, Value, json};

/// The facade, and the crates whose items it re-exports.
const CRATES: [&str; 4] = ["palm", "palm_runtime", "palm_proto", "palm_macros"];

/// Types that every reader knows by their names.
const PRELUDE: [(&str, &str); 5] = [
    ("alloc::boxed::Box<", "Box<"),
    ("alloc::string::String", "String"),
    ("alloc::vec::Vec<", "Vec<"),
    ("core::option::Option<", "Option<"),
    ("core::result::Result<", "Result<"),
];

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("the folder of the JSON files is missing")?;
    let folder = Path::new(&folder);
    let mut merged = Merged::default();
    let crates = CRATES
        .iter()
        .map(|name| {
            Ok(serde_json::from_slice(&std::fs::read(
                folder.join(format!("{name}.json")),
            )?)?)
        })
        .collect::<Result<Vec<Value>, Error>>()?;
    for (name, json) in CRATES.iter().zip(&crates) {
        merged.intern(name, json)?;
    }
    for (name, json) in CRATES.iter().zip(&crates) {
        merged.add(name, json)?;
    }
    let root = merged.id("palm", &crates[0]["root"]);
    merged.attach_impls();
    merged.omit_methods_of_foreign_traits();
    merged.list_once(root);
    let file = folder.join("public-api-merged.json");
    std::fs::write(&file, serde_json::to_vec(&merged.finish(root, &crates[0]))?)?;
    let api = public_api::Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    let mut lines: Vec<_> = api.items().map(ToString::to_string).collect();
    // An implementation is listed with its trait and with its type; that trait comes with `PartialEq`.
    let mut seen = HashSet::new();
    lines.retain(|line| !line.contains("StructuralPartialEq") && seen.insert(line.clone()));
    for mut line in lines {
        for (path, name) in PRELUDE {
            line = line.replace(path, name);
        }
        println!("{line}");
    }
    Ok(())
}

/// The JSON of several crates as that of one, with new ids.
#[derive(Default)]
struct Merged {
    /// The new id of each item, by its kind and the path of its definition.
    by_path: HashMap<(String, String), u64>,
    /// The new id of each id of a crate.
    ids: HashMap<(String, u64), u64>,
    /// The new id of each foreign crate.
    foreign_crates: HashMap<String, u64>,
    external_crates: Map<String, Value>,
    index: Map<String, Value>,
    paths: Map<String, Value>,
    last: u64,
}

impl Merged {
    fn new_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Gives new ids to the items that have a path. One that several crates name has one id.
    fn intern(&mut self, name: &str, json: &Value) -> Result<(), Error> {
        for (id, summary) in json["paths"].as_object().ok_or("no paths")? {
            let key = (summary["kind"].to_string(), summary["path"].to_string());
            let new = match self.by_path.get(&key) {
                Some(new) => *new,
                None => {
                    let new = self.new_id();
                    self.by_path.insert(key, new);
                    new
                }
            };
            self.ids.insert((name.to_owned(), id.parse()?), new);
            let crate_id = summary["crate_id"].as_u64().ok_or("no crate")?;
            let owner = match crate_id {
                0 => name,
                _ => json["external_crates"][crate_id.to_string()]["name"]
                    .as_str()
                    .ok_or("an unknown crate")?,
            };
            let mut summary = summary.clone();
            summary["crate_id"] = self
                .crate_id(owner, &json["external_crates"][crate_id.to_string()])
                .into();
            self.paths.insert(new.to_string(), summary);
        }
        Ok(())
    }

    fn crate_id(&mut self, name: &str, external: &Value) -> u64 {
        if CRATES.contains(&name) {
            return 0;
        }
        let next = self.foreign_crates.len() as u64 + 1;
        let id = *self.foreign_crates.entry(name.to_owned()).or_insert(next);
        self.external_crates
            .insert(id.to_string(), external.clone());
        id
    }

    fn id(&mut self, name: &str, id: &Value) -> u64 {
        let id = id.as_u64().expect("an id is a number");
        if let Some(new) = self.ids.get(&(name.to_owned(), id)) {
            return *new;
        }
        let new = self.new_id();
        self.ids.insert((name.to_owned(), id), new);
        new
    }

    /// Adds the items that the crate `name` defines.
    fn add(&mut self, name: &str, json: &Value) -> Result<(), Error> {
        for (id, item) in json["index"].as_object().ok_or("no index")? {
            let mut item = item.clone();
            if item["crate_id"] != 0 {
                continue;
            }
            item["docs"] = Value::Null;
            item["links"] = json!({});
            self.replace_ids(name, &mut item);
            let id = self.id(name, &Value::from(id.parse::<u64>()?));
            self.index.insert(id.to_string(), item);
        }
        Ok(())
    }

    fn replace_ids(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // `public_api` writes `Output` and the bound in `Output: Answer` without the colon.
                if fields
                    .get("binding")
                    .is_some_and(|binding| binding.get("constraint").is_some())
                    && let Some(Value::String(name)) = fields.get_mut("name")
                {
                    name.push_str(": ");
                }
                for (key, value) in fields {
                    // These fields contain ids, or values of other types that contain ids.
                    let has_ids = matches!(
                        key.as_str(),
                        "id" | "items"
                            | "impls"
                            | "implementations"
                            | "variants"
                            | "fields"
                            | "tuple"
                            | "parent"
                    );
                    match value {
                        Value::Number(_) if has_ids => *value = self.id(name, value).into(),
                        Value::Array(values) if has_ids => {
                            for value in values {
                                match value {
                                    Value::Number(_) => *value = self.id(name, value).into(),
                                    _ => self.replace_ids(name, value),
                                }
                            }
                        }
                        _ => self.replace_ids(name, value),
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.replace_ids(name, value);
                }
            }
            _ => {}
        }
    }

    /// Lists each implementation with its type, which can be in another crate than the implementation.
    fn attach_impls(&mut self) {
        let mut attached = Vec::new();
        for (id, item) in &self.index {
            let target = &item["inner"]["impl"]["for"]["resolved_path"]["id"];
            if let (Ok(id), Some(target)) = (id.parse::<u64>(), target.as_u64()) {
                attached.push((id, target));
            }
        }
        attached.sort_unstable();
        for (id, target) in attached {
            let Some(target) = self.index.get_mut(&target.to_string()) else {
                continue;
            };
            for kind in ["struct", "enum", "union"] {
                if let Some(impls) = target
                    .pointer_mut(&format!("/inner/{kind}/impls"))
                    .and_then(Value::as_array_mut)
                    && !impls.contains(&id.into())
                {
                    impls.push(id.into());
                }
            }
        }
    }

    /// Removes what follows from an implemented trait: the methods of `Debug`, `Iterator` and so on.
    fn omit_methods_of_foreign_traits(&mut self) {
        let mut types = HashSet::new();
        for (id, item) in &self.index {
            if item.pointer("/inner/assoc_type").is_some() {
                types.insert(Value::from(id.parse::<u64>().expect("an id is a number")));
            }
        }
        let ours: HashSet<_> = self.index.keys().cloned().collect();
        for item in self.index.values_mut() {
            let implemented = item.pointer("/inner/impl/trait/id").map(Value::to_string);
            if implemented.is_some_and(|id| !ours.contains(&id))
                && let Some(items) = item
                    .pointer_mut("/inner/impl/items")
                    .and_then(Value::as_array_mut)
            {
                items.retain(|item| types.contains(item));
            }
        }
    }

    /// Keeps the contents of each item at its shortest path. At the others, such as in the prelude, its name remains.
    fn list_once(&mut self, root: u64) {
        let mut seen = HashSet::new();
        let mut modules = VecDeque::from([root]);
        let mut last = Vec::new();
        while let Some(module) = modules.pop_front().or_else(|| last.pop()) {
            let Some(module) = self.index.get(&module.to_string()) else {
                continue;
            };
            let items = module["inner"]["module"]["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for item in items.iter().filter_map(Value::as_u64) {
                let Some(value) = self.index.get_mut(&item.to_string()) else {
                    continue;
                };
                let mut target = item;
                if let Some(used) = value["inner"].get_mut("use") {
                    let Some(id) = used["id"].as_u64() else {
                        continue;
                    };
                    if used["is_glob"] == true {
                        continue;
                    }
                    if !seen.insert(id) {
                        used["id"] = Value::Null;
                        continue;
                    }
                    target = id;
                } else if !seen.insert(item) {
                    continue;
                }
                match self.index.get(&target.to_string()) {
                    Some(module) if module["name"] == "prelude" => last.push(target),
                    Some(_) => modules.push_back(target),
                    None => {}
                }
            }
        }
    }

    fn finish(self, root: u64, facade: &Value) -> Value {
        json!({
            "root": root,
            "crate_version": facade["crate_version"],
            "includes_private": false,
            "index": self.index,
            "paths": self.paths,
            "external_crates": self.external_crates,
            "target": facade["target"],
            "format_version": facade["format_version"],
        })
    }
}
