//! The JSON schema of the file, for editors: made from the table of keys.

use serde_json::{Map, Value as Json, json};

use crate::keys::{CLUSTER, Key, Value};
use crate::kind::Kind;

/// Returns the JSON schema of `cluster.toml`. Editors find it by a first line `#:schema ./cluster.schema.json`.
///
/// It has the keys, their types and the kinds that have them; the other rules need a [`Cluster`](crate::Cluster).
pub fn schema() -> Json {
    let mut schema = table(CLUSTER);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "A cluster of palm".into();
    schema
}

fn table(keys: &[Key]) -> Json {
    let mut properties = Map::new();
    let mut dependencies = Map::new();
    for key in keys {
        let mut property = value(key.value);
        property["description"] = key.doc.into();
        properties.insert(key.name.to_owned(), property);
        if key.kinds.len() < Kind::ALL.len() {
            let kinds: Vec<_> = key.kinds.iter().map(|kind| kind.name()).collect();
            let kind = json!({ "properties": { "kind": { "enum": kinds } } });
            dependencies.insert(key.name.to_owned(), kind);
        }
    }
    let required: Vec<_> = keys
        .iter()
        .filter(|key| key.is_required)
        .map(|key| key.name)
        .collect();
    let mut schema =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if !dependencies.is_empty() {
        schema["dependencies"] = dependencies.into();
    }
    schema
}

fn value(form: Value) -> Json {
    /// One or more numbers with units, such as `1m 30s`.
    const DURATION: &str = r"^\s*(\d+\s*[A-Za-z]+\s*)+$";
    const DURATIONS: &str = r"^\s*(\d+\s*[A-Za-z]+\s*)+\.\.\s*(\d+\s*[A-Za-z]+\s*)+$";
    /// A number with a unit of bytes, such as `16MiB`.
    const SIZE: &str = r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?[bB]?|[bB])\s*$";
    match form {
        Value::Text => json!({ "type": "string" }),
        Value::Bool => json!({ "type": "boolean" }),
        Value::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Value::Size(..) => json!({ "type": "string", "pattern": SIZE }),
        Value::Duration => json!({ "type": "string", "pattern": DURATION }),
        Value::Durations => json!({ "type": "string", "pattern": DURATIONS }),
        Value::Word(words) => json!({ "enum": words }),
        Value::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Value::TextOrTexts => json!({ "anyOf": [value(Value::Text), value(Value::Texts)] }),
        Value::Table(keys) => table(keys),
        Value::Either(one, other) => json!({ "anyOf": [value(*one), value(*other)] }),
        Value::Map(values) => json!({ "type": "object", "additionalProperties": value(*values) }),
        Value::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_has_each_key_with_its_type_and_kinds() {
        let schema = schema();
        assert_eq!(schema["required"], json!(["name", "components"]));
        let component = &schema["properties"]["components"]["additionalProperties"];
        assert_eq!(component["properties"]["kind"]["enum"][3], "worker");
        assert_eq!(component["additionalProperties"], false);
        let of_master = &component["dependencies"]["master"]["properties"]["kind"]["enum"];
        assert_eq!(of_master, &json!(["worker"]));
        assert_eq!(component["properties"]["drain"]["type"], "string");
        let logs = &schema["properties"]["logs"]["properties"];
        assert_eq!(logs["runs"]["minimum"], 1);
        assert_eq!(logs["file_size"]["type"], "string");
        assert!(
            component["properties"]["from"]["description"]
                .as_str()
                .unwrap()
                .starts_with("The key")
        );
    }
}
