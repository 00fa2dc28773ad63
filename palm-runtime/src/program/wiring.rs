//! `PALM_WIRING`: the component that a runner asks for.

use std::ffi::OsString;

use clap::Command;
use palm_plan::Kind;
use palm_plan::wiring::{VARIABLE, VERSION, Wiring};
use serde_json::{Map, Value};

use super::error::ProgramError;
use super::kind::ProgramKind;
use super::values::{ValueSource, arguments};
use crate::function::nearest;

type JsonWiring = Wiring<Map<String, Value>>;

/// Returns an error that names the variable.
fn mistake(problem: impl std::fmt::Display) -> ProgramError {
    ProgramError::mistake(format!("{VARIABLE}: {problem}"))
}

/// Reads `PALM_WIRING`.
pub(super) fn read() -> Result<JsonWiring, ProgramError> {
    match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).map_err(mistake),
        Err(std::env::VarError::NotPresent) => Err(ProgramError::mistake(format!(
            "the environment variable {VARIABLE} is not set. `run` is the command of runners such as `palm up`; to \
             start a component by hand, name it: without arguments the program lists its components"
        ))),
        Err(std::env::VarError::NotUnicode(_)) => Err(mistake("it is not valid UTF-8")),
    }
}

fn parse(text: &str) -> Result<JsonWiring, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = &value else {
        return Err("it is not a JSON object".to_owned());
    };
    // A later version may have other fields.
    match fields.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!(
                "it has version {version}, and this program reads version {VERSION}: build the program and the \
                 runner with the same version of palm"
            ));
        }
        None => return Err(format!("`version` is missing: expected {VERSION}")),
    }
    let known = JsonWiring::FIELDS;
    if let Some(unknown) = fields.keys().find(|field| !known.contains(&&***field)) {
        let hint = nearest(unknown, &known);
        return Err(format!("unknown field `{unknown}`; {hint}"));
    }
    let wiring: JsonWiring = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check(&wiring)?;
    Ok(wiring)
}

/// Checks that the addresses are those of the kind.
fn check(wiring: &JsonWiring) -> Result<(), String> {
    let (kind, connect) = (wiring.kind, wiring.connect.len());
    if !ProgramKind::ALL.contains(&ProgramKind::Cluster(kind)) {
        return Err(format!(
            "a {kind} is not a component that a program starts by `run`"
        ));
    }
    match &wiring.bind {
        Some(_) if kind == Kind::Worker => {
            return Err("a worker binds no address: remove `bind`".to_owned());
        }
        None if kind != Kind::Worker => {
            return Err(format!(
                "`bind` is missing: the address that the {kind} binds"
            ));
        }
        _ => {}
    }
    match kind {
        Kind::Worker if connect != 1 => Err(format!(
            "`connect` has {connect} addresses, and a worker has one master: name its address"
        )),
        Kind::Server | Kind::Master if connect > 0 => {
            Err(format!("a {kind} follows no component: remove `connect`"))
        }
        _ => Ok(()),
    }
}

/// Returns the arguments that stand for the wiring; those in `given` override it.
pub(super) fn to_arguments(
    wiring: JsonWiring,
    command: &Command,
    given: &[OsString],
) -> Result<Vec<OsString>, ProgramError> {
    let mut table = wiring.options;
    let mut set = |name: &str, value: Value| match table.insert(name.to_owned(), value) {
        Some(_) => Err(mistake(format!(
            "`{name}` is a field of its own, and not one of `options`: remove it from `options`"
        ))),
        None => Ok(()),
    };
    set("name", wiring.name.into())?;
    if let Some(address) = wiring.bind {
        set("bind", address.into())?;
    }
    match (wiring.kind, wiring.connect) {
        (_, connect) if connect.is_empty() => {}
        (Kind::Worker, mut connect) => set("connect", connect.remove(0).into())?,
        (_, connect) => set("connect", connect.into())?,
    }
    arguments(command, Value::Object(table), given, ValueSource::Wiring).map_err(mistake)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let rejected = parse(text).expect_err("the wiring has a mistake");
        assert_eq!(rejected, expected, "{text}");
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        check("[]", "it is not a JSON object");
        check("{}", "`version` is missing: expected 1");
        check(
            r#"{"version": 2, "colour": 3}"#,
            "it has version 2, and this program reads version 1: build the program and the runner with the same \
             version of palm",
        );
        check(
            r#"{"version": 1, "kind": "server", "name": "a", "bnid": "ipc:///a"}"#,
            "unknown field `bnid`; did you mean `bind`?",
        );
        check(
            r#"{"version": 1, "kind": "server", "name": "a"}"#,
            "`bind` is missing: the address that the server binds",
        );
        check(
            r#"{"version": 1, "kind": "worker", "name": "a/1", "bind": "ipc:///a", "connect": ["ipc:///b"]}"#,
            "a worker binds no address: remove `bind`",
        );
        check(
            r#"{"version": 1, "kind": "worker", "name": "a/1"}"#,
            "`connect` has 0 addresses, and a worker has one master: name its address",
        );
        check(
            r#"{"version": 1, "kind": "master", "name": "a", "bind": "ipc:///a", "connect": ["ipc:///b"]}"#,
            "a master follows no component: remove `connect`",
        );
        check(
            r#"{"version": 1, "kind": "job", "name": "a"}"#,
            "a job is not a component that a program starts by `run`",
        );
    }
}
