//! Values from a configuration file or `PALM_WIRING`, as arguments of the command line.
//!
//! So they are checked as flags are, and one order decides: flags, `PALM_WIRING`, the environment, the file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command};
use serde::Deserializer;

use super::command_line::CONFIG;
use super::error::ProgramError;
use crate::options::file;
use crate::options::value::{Described, Value};

/// Returns the arguments that stand for a table of options; those in `given` override it.
///
/// # Errors
///
/// Describes an unknown option or a malformed value.
pub(super) fn arguments<'de, D: Deserializer<'de>>(
    command: &Command,
    table: D,
    given: &[OsString],
    source: ValueSource,
) -> Result<Vec<OsString>, String> {
    let known: Vec<_> = command.get_arguments().filter_map(describe).collect();
    let names: Vec<_> = known
        .iter()
        .map(|(described, _)| described.clone())
        .collect();
    let mut arguments = Vec::new();
    let add = |name: &str, value: Value| {
        let found = known.iter().find(|(described, _)| described.name == name);
        let (_, arg) = found.expect("options are checked against their names");
        if !is_given(arg, given, source) {
            push(&mut arguments, arg, value)?;
        }
        Ok(())
    };
    file::read(table, &names, add).map_err(|error| error.to_string())?;
    check(command, &arguments)?;
    Ok(arguments)
}

/// Where a table of options comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueSource {
    /// A file, which the environment overrides.
    File,
    Wiring,
}

/// Returns an argument as an option of a file: `link_options.idle_timeout` for `--link-options-idle-timeout`.
fn describe(arg: &Arg) -> Option<(Described, &Arg)> {
    let long = arg.get_long()?;
    if arg.get_id() == CONFIG || matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return None;
    }
    let name = match arg.get_id().as_str().strip_prefix("palm.") {
        Some(option) => option.to_owned(),
        None => long.replace('-', "_"),
    };
    let (doc, form) = ("", "");
    Some((Described { name, doc, form }, arg))
}

/// Whether a flag, or the environment for a file, sets the argument already.
fn is_given(arg: &Arg, given: &[OsString], source: ValueSource) -> bool {
    let in_environment = || {
        arg.get_env()
            .is_some_and(|name| std::env::var_os(name).is_some())
    };
    let is_flag = |given: &OsString| {
        let given = given.to_string_lossy();
        let long = given
            .split('=')
            .next()
            .and_then(|flag| flag.strip_prefix("--"));
        let short = arg
            .get_short()
            .is_some_and(|short| given.starts_with(&format!("-{short}")));
        short || long.is_some_and(|long| arg.get_long() == Some(long))
    };
    given.iter().any(is_flag) || (source == ValueSource::File && in_environment())
}

/// Adds the argument with its value.
fn push(arguments: &mut Vec<OsString>, arg: &Arg, value: Value) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    let is_palm = arg.get_id().as_str().starts_with("palm.");
    let values = match (value, arg.get_action()) {
        (Value::Bool(true), ArgAction::SetTrue) => {
            arguments.push(format!("--{long}").into());
            return Ok(());
        }
        (Value::Bool(false), ArgAction::SetTrue) => return Ok(()),
        (_, ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count) => {
            return Err(format!(
                "`{}` is a flag: expected true or false",
                long.replace('-', "_")
            ));
        }
        (Value::Bool(value), _) => vec![value.to_string()],
        (Value::Integer(value), _) => vec![value.to_string()],
        (Value::Text(text), _) => vec![text],
        (Value::List(list), _) if is_palm => vec![list.join(",")],
        (Value::List(list), _) => list,
    };
    arguments.extend(
        values
            .into_iter()
            .map(|value| format!("--{long}={value}").into()),
    );
    Ok(())
}

/// Checks arguments alone, so that a mistake is known to be one of their source.
fn check(command: &Command, arguments: &[OsString]) -> Result<(), String> {
    let command = command
        .clone()
        .mut_args(|arg| arg.required(false).env(None::<&'static str>));
    let name = OsString::from(command.get_name());
    match command.try_get_matches_from([name].iter().chain(arguments)) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => Err(first_line(&error)),
        _ => Ok(()),
    }
}

/// Returns the text of an error of clap without its usage.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Returns the path of `--config` or of `PALM_CONFIG`.
pub(super) fn config_file(given: &[OsString]) -> Option<PathBuf> {
    let mut given = given.iter();
    while let Some(argument) = given.next() {
        if argument == "--config" {
            return given.next().map(PathBuf::from);
        }
        if let Some(path) = argument
            .to_str()
            .and_then(|it| it.strip_prefix("--config="))
        {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("PALM_CONFIG").map(PathBuf::from)
}

/// Reads a configuration file.
pub(super) fn read_config(
    command: &Command,
    path: &Path,
    given: &[OsString],
) -> Result<Vec<OsString>, ProgramError> {
    let mistake = |problem: String| {
        ProgramError::mistake(format!("{}: {}", path.display(), problem.trim_end()))
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| mistake(format!("cannot read the configuration file: {error}")))?;
    let table = toml::Deserializer::parse(&text).map_err(|error| mistake(error.to_string()))?;
    arguments(command, table, given, ValueSource::File).map_err(mistake)
}

/// Names the environment variable in the error of a value that comes from one.
pub(super) fn name_variable(
    mut error: clap::Error,
    command: &Command,
    given: &[OsString],
) -> ProgramError {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(clap::error::ContextValue::String(flag)) => flag.clone(),
        _ => return error.into(),
    };
    let long = flag
        .split([' ', '='])
        .next()
        .unwrap_or_default()
        .trim_start_matches("--");
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long));
    if let Some(arg) = arg
        && !is_given(arg, given, ValueSource::Wiring)
        && let Some(name) = arg.get_env().and_then(OsStr::to_str)
        && std::env::var_os(name).is_some()
    {
        let variable = clap::error::ContextValue::String(name.to_owned());
        error.insert(ContextKind::InvalidArg, variable);
    }
    error.into()
}
