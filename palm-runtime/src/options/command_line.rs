//! Options from the command line and the environment, as arguments of clap.

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, Error};

use super::value::{Described, Value};

/// Checks the value of an option.
pub(crate) type Check = fn(&str, &Value) -> Result<(), String>;

/// Adds an argument and an environment variable for each option.
pub(crate) fn augment(command: Command, known: Vec<Described>, check: Check) -> Command {
    known.into_iter().fold(command, |command, option| {
        let Described { name, doc, form } = option;
        let argument = Arg::new(id(&name))
            .long(name.replace(['.', '_'], "-"))
            .env(format!("PALM_{}", name.replace('.', "_").to_uppercase()))
            .help(help(doc))
            .value_name(form);
        let argument = match form {
            // `--own-thread` alone, or `--own-thread=false`.
            "BOOL" => argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            _ => argument,
        };
        let parse = move |text: &str| {
            check(&name, &Value::Text(text.to_owned()))?;
            Ok::<_, String>(text.to_owned())
        };
        command.arg(argument.value_parser(ValueParser::new(parse)))
    })
}

/// Passes each option that was given to `set`.
pub(crate) fn read(
    matches: &ArgMatches,
    known: &[Described],
    mut set: impl FnMut(&str, Value) -> Result<(), String>,
) -> Result<(), Error> {
    for Described { name, .. } in known {
        if let Some(text) = matches.get_one::<String>(&id(name)) {
            let value = Value::Text(text.clone());
            set(name, value)
                .map_err(|problem| Error::raw(clap::error::ErrorKind::ValueValidation, problem))?;
        }
    }
    Ok(())
}

/// Returns the id of an argument, which differs from those of the program.
fn id(name: &str) -> String {
    format!("palm.{name}")
}

/// Returns the first paragraph of a documentation as plain text.
fn help(doc: &str) -> String {
    let paragraph = doc.split("\n\n").next().unwrap_or(doc);
    let lines: Vec<_> = paragraph
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let mut plain = String::new();
    let text = lines.join(" ");
    let mut rest = &*text;
    // `[text](target)` becomes `text`.
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        match link
            .split_once("](")
            .and_then(|(text, target)| Some((text, target.split_once(')')?.1)))
        {
            Some((text, after)) => {
                plain.push_str(text);
                rest = after;
            }
            None => rest = link,
        }
    }
    plain.push_str(rest);
    plain.replace('`', "").trim_end_matches('.').to_owned()
}
