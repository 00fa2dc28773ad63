//! What the program prints: lists, help and mistakes.

use std::fs;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::{ended, program};

/// Asserts that the program prints an error with these parts, and exits with `code`.
async fn check_error(command: Command, code: i32, parts: &[&str]) {
    let shown = format!("{command:?}");
    let ended = ended(command).await;
    assert_eq!(ended.status.code(), Some(code), "{shown}: {ended:?}");
    assert_eq!(ended.stdout, "", "{shown}");
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "{shown}: {part:?} in {}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn program_without_arguments_lists_its_components() {
    let list = ended(program(&[])).await;
    assert!(list.status.success());
    for line in [
        "  server       words      Splits texts.\n      first  Returns the first word.\n",
        "  worker       images     Makes images smaller.\n      thumbnail  Makes a thumbnail.\n",
        "  master       images     A master without hooks.\n",
        "  pipeline     loud       Makes texts loud.\n",
        "  sink         collected  Merges streams.\n",
        "  http_worker  prices     Knows prices, and is reached by HTTP.\n      price  Returns the price of an article.\n",
        "Run one with `programs server words --bind tcp://127.0.0.1:5559`.\n",
    ] {
        assert!(list.stdout.contains(line), "{line:?} in\n{}", list.stdout);
    }
    assert_eq!(ended(program(&["list"])).await.stdout, list.stdout);
}

#[tokio::test]
async fn list_as_json_has_kinds_names_types_and_functions() {
    let list = ended(program(&["list", "--format", "json"])).await;
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let worker = json!({
        "kind": "worker",
        "component": "images",
        "type": "Resizer",
        "doc": "Makes images smaller.",
        "functions": [{ "name": "thumbnail", "doc": "Makes a thumbnail." }],
        "startable": true,
    });
    let list = list.as_array().unwrap();
    assert!(list.contains(&worker), "{list:#?}");
    let name = |entry: &serde_json::Value| {
        format!("{} {}", entry["kind"], entry["component"]).replace('"', "")
    };
    let names: Vec<_> = list.iter().map(name).collect();
    let expected = [
        "server words",
        "master images",
        "master sleep",
        "hub images",
        "hub sleep",
        "worker images",
        "worker sleep",
        "pipeline loud",
        "sink collected",
        "http_worker prices",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn help_is_made_from_documentation_and_options() {
    let help = ended(program(&["worker", "images", "--help"])).await;
    assert!(help.status.success());
    for part in [
        "Makes images smaller",
        "--connect <ADDRESS>",
        "[env: PALM_CONNECT=]",
        "Arguments of `Resizer`",
        "Keep every n-th byte of an image",
        "[env: QUALITY=]",
        "[env: PALM_CONCURRENCY=]",
        "--link-options-idle-timeout <TIME>",
        "thumbnail  Makes a thumbnail.",
        "Exit codes:",
    ] {
        assert!(help.stdout.contains(part), "{part:?} in\n{}", help.stdout);
    }
    // The short help leaves out groups of options.
    let short = ended(program(&["worker", "images", "-h"])).await;
    assert!(short.stdout.contains("--quality"));
    assert!(!short.stdout.contains("--link-options"), "{}", short.stdout);
    let same = ended(program(&["help", "worker", "images"])).await;
    assert_eq!(same.stdout, help.stdout);
    let kinds = ended(program(&["worker", "--help"])).await;
    assert!(
        kinds
            .stdout
            .contains("sleep   Sleeps, as a long computation would"),
        "{}",
        kinds.stdout
    );
}

#[tokio::test]
async fn master_has_the_arguments_of_its_workers() {
    let help = ended(program(&["master", "images", "--help"])).await;
    for part in [
        "--workers <NUMBER>",
        "--concurrency",
        "Arguments of `Resizer` (--workers)",
        "--quality",
    ] {
        assert!(help.stdout.contains(part), "{part:?} in\n{}", help.stdout);
    }
    let help = ended(program(&["server", "words", "--help"])).await;
    assert!(!help.stdout.contains("--workers"));
}

#[tokio::test]
async fn misspelt_names_are_errors_with_a_suggestion() {
    let bind = ["--bind", "tcp://127.0.0.1:0"];
    let server = |more: &[&str]| program(&[&["server", "words"], &bind[..], more].concat());
    check_error(
        program(&["wroker"]),
        2,
        &["unrecognized subcommand 'wroker'", "'worker'"],
    )
    .await;
    check_error(
        program(&["worker", "imgaes", "--connect", "tcp://127.0.0.1:1"]),
        2,
        &["error: no worker `imgaes` is linked into this program; did you mean `images`?\n"],
    )
    .await;
    check_error(
        program(&["worker", "--connect", "tcp://127.0.0.1:1"]),
        2,
        &["several components of the kind worker: name one of `images`, `sleep`"],
    )
    .await;
    check_error(server(&["--concurency", "4"]), 2, &["'--concurrency'"]).await;
    check_error(
        server(&["--concurrency", "many"]),
        2,
        &["expected a whole number"],
    )
    .await;
    check_error(program(&["server", "words"]), 2, &["--bind <ADDRESS>"]).await;
    check_error(
        program(&["server", "--bind", "localhost"]),
        2,
        &["`localhost` is not an address"],
    )
    .await;
    let mut variable = server(&[]);
    variable.env("PALM_CONCURRENCY", "many");
    check_error(
        variable,
        2,
        &["'PALM_CONCURRENCY'", "expected a whole number"],
    )
    .await;
}

#[tokio::test]
async fn mistakes_in_a_configuration_file_name_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("words.toml");
    let file = path.to_str().unwrap();
    for (text, part) in [
        (
            "concurency = 4",
            "unknown option `concurency`; did you mean `concurrency`?",
        ),
        (
            "[link_options]\nidle_timout = \"5s\"",
            "unknown option `link_options.idle_timout`; did you mean `idle_timeout`?",
        ),
        ("concurrency = \"many\"", "expected a whole number"),
        ("concurrency = ", "line 1"),
        (
            "connect = \"tcp://127.0.0.1:1\"",
            "unknown option `connect`",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let server = ["server", "--bind", "tcp://127.0.0.1:0", "--config", file];
        check_error(program(&server), 2, &[file, part]).await;
    }
    fs::remove_file(&path).unwrap();
    let server = ["server", "--bind", "tcp://127.0.0.1:0", "--config", file];
    check_error(
        program(&server),
        2,
        &[file, "cannot read the configuration file"],
    )
    .await;
}

#[tokio::test]
async fn component_that_does_not_start_is_a_failure() {
    let worker = [
        "worker",
        "images",
        "--connect",
        "tcp://127.0.0.1:1",
        "--quality",
        "0",
    ];
    let cause = "error: cannot construct `Resizer`: the quality is 0, so nothing would be left of an image\n";
    check_error(program(&worker), 1, &[cause]).await;
    let server = ["server", "--bind", "tcp://0.0.0.0:0"];
    check_error(program(&server), 1, &["error: ", "trust_network"]).await;
}

#[tokio::test]
async fn wiring_with_a_mistake_is_an_error_that_names_it() {
    check_error(program(&["run"]), 2, &["PALM_WIRING is not set"]).await;
    for (wiring, part) in [
        ("{", "PALM_WIRING: EOF"),
        (
            r#"{"version":1,"kind":"wroker","name":"a"}"#,
            "unknown variant `wroker`",
        ),
        (
            r#"{"version":1,"kind":"worker","component":"imgaes","name":"a","connect":["ipc:///a"]}"#,
            "did you mean `images`?",
        ),
        (
            r#"{"version":1,"kind":"server","name":"a","bind":"tcp://127.0.0.1:0","options":{"concurency":4}}"#,
            "PALM_WIRING: unknown option `concurency`; did you mean `concurrency`?",
        ),
        (
            r#"{"version":1,"kind":"server","name":"a","bind":"tcp://127.0.0.1:0","options":{"name":"b"}}"#,
            "PALM_WIRING: `name` is a field of its own",
        ),
        (
            r#"{"version":1,"kind":"server","name":"a","bind":"5559"}"#,
            "PALM_WIRING: invalid value '5559' for '--bind",
        ),
    ] {
        let mut run = program(&["run"]);
        run.env("PALM_WIRING", wiring);
        check_error(run, 2, &[part]).await;
    }
}
