//! The values of a component's keys.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::DeValue;

use crate::address::Address;
use crate::cluster::{ComponentOption, Logs, Ready, Replicas, Variable};
use crate::instance::{Restart, RestartPolicy, Secret};
use crate::keys::{LOGS, MAX_REPLICAS, REPLICAS, RESTART_TABLE, SECRET};
use crate::mistake::{Code, Mistake, Mistakes, Span, suggestion};
use crate::read::{self, Entry, Table, entries};
use crate::template::{Endpoint, OWN, Problem, Template, span_within};

pub(super) fn read_env(table: Table<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Variable> {
    let mut env = BTreeMap::new();
    for entry in table.table("env").map(entries).unwrap_or_default() {
        let value = match entry.value.get_ref() {
            DeValue::Table(secret) => {
                let secret = read_secret(Table::new(secret, SECRET), entry, mistakes);
                secret.map(Variable::Secret)
            }
            _ => {
                let text = read::text(entry.value).into_iter().collect();
                templates(text, mistakes).pop().map(Variable::Text)
            }
        };
        if let Some(value) = value {
            env.insert(entry.name.get_ref().to_string(), value);
        }
    }
    env
}

fn read_secret(
    table: Table<'_>,
    entry: Entry<'_>,
    mistakes: &mut Mistakes,
) -> Option<Spanned<Secret>> {
    let (file, variable) = (table.text("file"), table.text("env"));
    let secret = match (file, variable) {
        (Some(file), None) => Secret::File(file.into_inner().into()),
        (None, Some(variable)) => Secret::Env(variable.into_inner()),
        (None, None) if !table.entries.is_empty() => return None,
        _ => {
            let message = format!(
                "the secret `{}` needs `file` or `env`, and not both",
                entry.name.get_ref()
            );
            mistakes.push(Mistake::new(Code::Conflict, entry.value.span(), message));
            return None;
        }
    };
    Some(Spanned::new(entry.value.span(), secret))
}

pub(super) fn read_address(
    text: Spanned<String>,
    mistakes: &mut Mistakes,
) -> Option<Spanned<Address>> {
    match Address::parse(text.get_ref()) {
        Ok(address) => Some(Spanned::new(text.span(), address)),
        Err(problem) => {
            let message = format!("the address `{}` is malformed: {problem}", text.get_ref());
            let help = "write `tcp://HOST:PORT`, such as `tcp://127.0.0.1:5559`, or `ipc://PATH`";
            mistakes.push(Mistake::new(Code::MalformedAddress, text.span(), message).help(help));
            None
        }
    }
}

pub(super) fn read_replicas(table: Table<'_>) -> Replicas {
    let entry = table.get("replicas");
    let span = entry.map(|entry| entry.value.span());
    let one = Replicas {
        span,
        min: 0,
        max: MAX_REPLICAS,
        start: 1,
    };
    let Some(entry) = entry else {
        return one;
    };
    if let Some(count) = read::integer(entry.value) {
        return Replicas {
            start: *count.get_ref(),
            ..one
        };
    }
    let Some(entries) = entry.value.get_ref().as_table() else {
        return one;
    };
    let bounds = Table::new(entries, REPLICAS);
    let integer = |name| bounds.integer(name).map(Spanned::into_inner);
    let min = integer("min").unwrap_or(0);
    let max = integer("max").unwrap_or(MAX_REPLICAS);
    Replicas {
        min,
        max,
        start: integer("start").unwrap_or_else(|| min.max(1)),
        ..one
    }
}

pub(super) fn read_options(table: Table<'_>) -> BTreeMap<String, ComponentOption> {
    let options = table.table("options").map(entries).unwrap_or_default();
    let options = options.into_iter().map(|entry| {
        let value = Spanned::new(entry.value.span(), json(entry.value.get_ref()));
        let option = ComponentOption {
            span: entry.name.span(),
            value,
        };
        (entry.name.get_ref().to_string(), option)
    });
    options.collect()
}

fn json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(integer) => {
            let digits = integer.as_str().replace('_', "");
            i64::from_str_radix(&digits, integer.radix())
                .map_or_else(|_| Json::from(digits), Json::from)
        }
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "");
            number
                .parse::<f64>()
                .map_or_else(|_| Json::from(number), Json::from)
        }
        DeValue::Boolean(value) => Json::from(*value),
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let entries = table.iter();
            entries
                .map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())))
                .collect()
        }
    }
}

pub(super) fn read_logs(table: Table<'_>) -> Logs {
    let mut logs = Logs::default();
    let Some(entries) = table.table("logs") else {
        return logs;
    };
    let table = Table::new(entries, LOGS);
    let limits = &mut logs.limits;
    if let Some(size) = table.size("file_size") {
        logs.file_size = Some(size.span());
        limits.file_bytes = size.into_inner();
    }
    if let Some(size) = table.size("instance_size") {
        logs.instance_size = Some(size.span());
        limits.instance_bytes = size.into_inner();
    }
    if let Some(runs) = table.integer("runs") {
        limits.runs = runs.into_inner();
    }
    limits.max_age = table.duration("max_age");
    logs
}

pub(super) fn read_ready(table: Table<'_>) -> Option<Spanned<Ready>> {
    let text = table.text("ready")?;
    let ready = match text.get_ref().as_str() {
        "notify" => Ready::Notify,
        "address" => Ready::Address,
        "running" => Ready::Running,
        _ => return None,
    };
    Some(Spanned::new(text.span(), ready))
}

pub(super) fn read_restart(table: Table<'_>, is_job: bool) -> Restart {
    let policy = if is_job {
        RestartPolicy::OnFailure
    } else {
        RestartPolicy::Always
    };
    let mut restart = Restart {
        policy,
        ..Restart::default()
    };
    let word = |text: Spanned<String>| match text.get_ref().as_str() {
        "always" => Some(RestartPolicy::Always),
        "on-failure" => Some(RestartPolicy::OnFailure),
        "never" => Some(RestartPolicy::Never),
        _ => None,
    };
    let Some(entries) = table.table("restart") else {
        restart.policy = table.text("restart").and_then(word).unwrap_or(policy);
        return restart;
    };
    let table = Table::new(entries, RESTART_TABLE);
    restart.policy = table.text("policy").and_then(word).unwrap_or(policy);
    let backoff = table
        .text("backoff")
        .map(|text| read::parse_durations(text.get_ref()));
    if let Some(Ok((first, last))) = backoff {
        restart.backoff = first..=last;
    }
    restart.max = table.integer("max").map(Spanned::into_inner);
    restart.reset_after = table.duration("reset_after").unwrap_or(restart.reset_after);
    restart
}

/// Reads texts with placeholders.
pub(super) fn templates(
    texts: Vec<Spanned<String>>,
    mistakes: &mut Mistakes,
) -> Vec<Spanned<Template>> {
    let mut templates = Vec::new();
    for text in texts {
        match Template::parse(text.get_ref()) {
            Ok(template) => templates.push(Spanned::new(text.span(), template)),
            Err(errors) => {
                for error in errors {
                    let span = span_within(mistakes.text(), &text, error.at.clone());
                    mistakes.push(bad_placeholder(span, &error.problem));
                }
            }
        }
    }
    templates
}

fn bad_placeholder(span: Span, problem: &Problem) -> Mistake {
    let mistake = |message| Mistake::new(Code::MalformedPlaceholder, span, message);
    let braces = "`{{` and `}}` are braces; a placeholder is `{instance}`, `{db}` or `{KEY.db}`";
    match problem {
        Problem::Open => mistake("a placeholder does not end".to_owned())
            .label("`}` is missing")
            .help(braces),
        Problem::Closing => mistake("a placeholder does not begin".to_owned())
            .label("`{` is missing")
            .help(braces),
        Problem::Unknown(name) => {
            let mistake = mistake(format!("unknown placeholder `{name}`"));
            mistake.help(suggestion(name, OWN)).help(braces)
        }
        Problem::UnknownEndpoint(name) => {
            let known = Endpoint::ALL.map(Endpoint::name);
            let mistake = mistake(format!("unknown address `{name}` in a placeholder"));
            mistake.help(suggestion(name, known))
        }
    }
}
