//! The component that a program runs, as its runner describes it.

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// The environment variable that contains a [`Wiring`] as JSON. `PROGRAM run` obeys it.
pub const VARIABLE: &str = "PALM_WIRING";

/// The version of the format. A program rejects any other.
pub const VERSION: u32 = 1;

/// Which linked component a program runs, under which name, and at which addresses.
///
/// `Options` are the options of the component, a map from their names to values: those of
/// `palm::component::{ServerOptions, ..}`. As JSON it is an object with the names of the fields; fields that are
/// absent are empty, and unknown fields are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring<Options> {
    /// [`VERSION`].
    pub version: u32,
    /// The kind of the component.
    pub kind: Kind,
    /// The declared name of the linked component, or the name of a worker's type. Without it, the program runs its only
    /// linked component of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The name of the component, by which clients call it. The name of a worker is that of its instance, such as
    /// `images/2`.
    pub name: String,
    /// The `db_address` that the component binds; none for a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// The `db_address` of a worker's master, or of the upstream components of a pipeline, hub or sink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// The options of the component by name.
    #[serde(default)]
    pub options: Options,
}

impl<Options> Wiring<Options> {
    /// The names of the fields, for suggestions.
    pub const FIELDS: [&str; 7] = [
        "version",
        "kind",
        "component",
        "name",
        "bind",
        "connect",
        "options",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    type JsonWiring = Wiring<serde_json::Map<String, serde_json::Value>>;

    #[test]
    fn wiring_is_read_as_documented_and_written_without_empty_fields() {
        let text = r#"{"version":1,"kind":"worker","component":"images","name":"images/2","connect":["ipc:///a"],"options":{"concurrency":4}}"#;
        let wiring: JsonWiring = serde_json::from_str(text).unwrap();
        assert_eq!(wiring.kind, Kind::Worker);
        assert_eq!(wiring.bind, None);
        assert_eq!(wiring.options["concurrency"], 4);
        assert_eq!(serde_json::to_string(&wiring).unwrap(), text);
    }

    #[test]
    fn unknown_fields_are_rejected_with_the_known_ones() {
        let text = r#"{"version":1,"kind":"server","name":"a","bnid":"tcp://127.0.0.1:1"}"#;
        let error = serde_json::from_str::<JsonWiring>(text).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("unknown field `bnid`"), "{error}");
        for field in JsonWiring::FIELDS {
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
    }
}
