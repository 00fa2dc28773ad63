//! Each rule with a file that breaks it and one that follows it: `tests/rules/CODE_bad.toml`, `CODE_good.toml`. The
//! picture of the mistakes is in `CODE_bad.txt`; `UPDATE_EXPECT=1` accepts a new one.

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use palm_plan::instance::Secret;
use palm_plan::mistake::{Code, Mistakes, Severity};
use palm_plan::surroundings::{Linked, Surroundings};
use palm_plan::{Cluster, Kind};
use serde_json::{Value, json};

/// A machine with the commands `python3`, `images` and `words`, the last two of which are programs of palm.
struct Machine;

impl Surroundings for Machine {
    fn command_problem(&self, command: &str) -> Option<String> {
        let exists = ["python3", "images", "words"].contains(&command);
        (!exists).then(|| "it does not exist".to_owned())
    }

    fn linked(&self, program: &str) -> Result<Vec<Linked>, String> {
        let component =
            |kind: &str, name: &str, type_name: &str, functions: &[&str], startable: bool| {
                let functions: Vec<_> = functions
                    .iter()
                    .map(|name| json!({ "name": name }))
                    .collect();
                json!({
                    "kind": kind, "component": name, "type": type_name, "doc": "",
                    "functions": functions, "startable": startable,
                })
            };
        let list = match program {
            "images" => json!([
                component("master", "images", "Images", &[], true),
                component("master", "others", "palm::Master", &[], true),
                component(
                    "worker",
                    "images",
                    "Resizer",
                    &["resize", "thumbnail"],
                    true
                ),
                component("mux_worker", "images", "Cropper", &["crop"], false),
            ]),
            "words" => json!([
                component("server", "words", "Words", &["lower"], true),
                component("pipeline", "lines", "Lines", &["wrap"], true),
                component("pipeline", "count", "Count", &["lines"], true),
                component("sink", "all", "All", &["merge"], true),
            ]),
            _ => return Err("it ends with the status 2".to_owned()),
        };
        Ok(serde_json::from_value(list).expect("the list is a list of components"))
    }

    fn option_problem(&self, _: Kind, name: &str, _: &Value) -> Option<String> {
        (name == "concurency").then(|| "did you mean `concurrency`?".to_owned())
    }

    fn address_holder(&self, address: &str) -> Option<String> {
        (address == "tcp://127.0.0.1:6379").then(|| "redis-server (process 4711)".to_owned())
    }

    fn secret_problem(&self, secret: &Secret) -> Option<String> {
        match secret {
            Secret::File(path) if path == Path::new("missing") => {
                Some("the file does not exist".to_owned())
            }
            Secret::Env(name) if name == "MISSING" => Some("the variable is not set".to_owned()),
            _ => None,
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/rules")
        .join(name)
}

/// Returns the mistakes of a file, warnings included.
fn mistakes(name: &str) -> Mistakes {
    let text = fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    match Cluster::validate("cluster.toml", &text, &Machine) {
        Ok(cluster) => cluster.warnings().clone(),
        Err(mistakes) => {
            assert!(mistakes.has_errors(), "{name}");
            mistakes
        }
    }
}

fn name(code: Code) -> String {
    code.name().to_lowercase()
}

#[test]
fn each_rule_reports_the_file_that_breaks_it() {
    for &code in Code::ALL {
        let found = mistakes(&format!("{}_bad.toml", name(code)));
        expect_file![file(&format!("{}_bad.txt", name(code)))].assert_eq(&found.to_string());
        assert!(
            found.list().iter().any(|mistake| mistake.code == code),
            "{code} is not among\n{found}"
        );
    }
}

#[test]
fn files_that_follow_the_rules_have_no_mistakes() {
    for &code in Code::ALL {
        let found = mistakes(&format!("{}_good.toml", name(code)));
        assert!(found.is_empty(), "{code}:\n{found}");
    }
}

#[test]
fn five_mistakes_are_shown_at_once() {
    let found = mistakes("five.toml");
    expect_file![file("five.txt")].assert_eq(&found.to_string());
    expect_file![file("five.json")].assert_eq(&found.to_json());
    assert_eq!(found.count(Severity::Error), 5);
}

#[test]
fn each_file_belongs_to_a_code() {
    for entry in fs::read_dir(file("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = name.split(['_', '.']).next().unwrap();
        assert!(code == "five" || code.parse::<Code>().is_ok(), "{name}");
    }
}
