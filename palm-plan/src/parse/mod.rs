//! From text to a [`Cluster`]: what each key says. Whether the values fit together is checked by `rules`.

mod values;

use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use self::values::{
    read_address, read_env, read_logs, read_options, read_ready, read_replicas, read_restart,
    templates,
};
use crate::cluster::{Cluster, Component, Run};
use crate::keys::{CLUSTER, COMPONENT};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes};
use crate::read::{self, Entry, Table, check_table, entries};
use crate::surroundings::{self, Surroundings};
use crate::{mistake, rules};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(30);

impl Cluster {
    /// Reads a file. `file_name` is the name that mistakes show.
    ///
    /// # Errors
    ///
    /// All mistakes of the file, if one of them is an error. [`warnings`](Self::warnings) returns those of a file without
    /// errors.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Mistakes> {
        Self::read(file_name, text, None)
    }

    /// Reads a file, and compares it with what it refers to: commands, programs, addresses and secrets.
    ///
    /// # Errors
    ///
    /// As of [`parse`](Self::parse).
    pub fn validate(
        file_name: &str,
        text: &str,
        surroundings: &dyn Surroundings,
    ) -> Result<Self, Mistakes> {
        Self::read(file_name, text, Some(surroundings))
    }

    /// Compares a file that was read with what it refers to.
    ///
    /// # Errors
    ///
    /// All mistakes, if one of them is an error.
    pub fn check(&self, surroundings: &dyn Surroundings) -> Result<(), Mistakes> {
        let mut mistakes = self.warnings.clone();
        surroundings::check(self, surroundings, &mut mistakes);
        match mistakes.has_errors() {
            false => Ok(()),
            true => Err(mistakes),
        }
    }

    fn read(
        file_name: &str,
        text: &str,
        surroundings: Option<&dyn Surroundings>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::new(file_name, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            mistakes.push(Mistake::new(
                Code::Syntax,
                span,
                first_line(error.message()),
            ));
        }
        // With wrong syntax, everything else may be a consequence.
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let table = Table::new(root.get_ref(), CLUSTER);
        let cluster = read_cluster(table, &mut mistakes);
        rules::check(&cluster, &mut mistakes);
        if let Some(surroundings) = surroundings {
            surroundings::check(&cluster, surroundings, &mut mistakes);
        }
        match mistakes.has_errors() {
            false => Ok(Self {
                warnings: mistakes,
                ..cluster
            }),
            true => Err(mistakes),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(", ")
}

fn read_cluster(table: Table<'_>, mistakes: &mut Mistakes) -> Cluster {
    check_table(table, &(0..0), "the file", mistakes);
    let components = table.table("components").map(entries).unwrap_or_default();
    let components = components
        .into_iter()
        .filter_map(|entry| read_component(entry, mistakes));
    let components = components.collect();
    let expose = table.table("expose").map(entries).unwrap_or_default();
    let expose = expose.into_iter().filter_map(|entry| {
        let key = Spanned::new(entry.name.span(), entry.name.get_ref().to_string());
        Some((key, read_address(read::text(entry.value)?, mistakes)?))
    });
    let expose = expose.collect();
    Cluster {
        name: table
            .text("name")
            .unwrap_or_else(|| Spanned::new(0..0, String::new())),
        trusts_network: table.bool("trust_network").is_some_and(|it| *it.get_ref()),
        components,
        expose,
        logs: read_logs(table),
        warnings: Mistakes::default(),
    }
}

fn read_component(entry: Entry<'_>, mistakes: &mut Mistakes) -> Option<Component> {
    let key = Spanned::new(entry.name.span(), entry.name.get_ref().to_string());
    let what = format!("component `{}`", key.get_ref());
    let Some(entries) = entry.value.get_ref().as_table() else {
        let message = format!("{what} is not a table");
        let help = format!(
            "write `[components.{}]`, and its keys below it",
            key.get_ref()
        );
        mistakes.push(Mistake::new(Code::WrongType, entry.value.span(), message).help(help));
        return None;
    };
    let mut table = Table::new(entries, COMPONENT);
    check_table(table, &key.span(), &what, mistakes);
    let kind = table.text("kind");
    let kind = kind.and_then(|kind| Some(Spanned::new(kind.span(), kind.get_ref().parse().ok()?)));
    if let Some(kind) = &kind {
        check_kind(table, kind, &what, mistakes);
        table.kind = Some(*kind.get_ref());
    }
    let is_job = kind
        .as_ref()
        .is_some_and(|kind| *kind.get_ref() == Kind::Job);
    let upstream = ["master", "from"]
        .into_iter()
        .flat_map(|name| table.texts(name));
    let malformed_before = malformed_placeholders(mistakes);
    let run = read_run(table, &key, mistakes);
    let args = templates(table.texts("args"), mistakes);
    let env = read_env(table, mistakes);
    Some(Component {
        name: table.text("name").unwrap_or_else(|| key.clone()),
        run,
        args,
        env,
        has_unknown_placeholders: malformed_placeholders(mistakes) > malformed_before,
        working_dir: table.text("working_dir"),
        upstream: upstream.collect(),
        topic: table.text("topic"),
        topics: table.get("topics").map(|_| table.texts("topics")),
        to_client: table.bool("to_client"),
        calls: table.texts("calls"),
        replicas: read_replicas(table),
        address: table
            .text("address")
            .and_then(|address| read_address(address, mistakes)),
        options: read_options(table),
        after: table.texts("after"),
        profiles: table.texts("profiles"),
        ready: read_ready(table),
        ready_timeout: table.duration("ready_timeout").unwrap_or(READY_TIMEOUT),
        restart: read_restart(table, is_job),
        drain: table.duration("drain").unwrap_or(DRAIN),
        kind,
        key,
    })
}

fn malformed_placeholders(mistakes: &Mistakes) -> usize {
    let list = mistakes.list().iter();
    list.filter(|mistake| mistake.code == Code::MalformedPlaceholder)
        .count()
}

/// Reports keys that components of this kind do not have.
fn check_kind(table: Table<'_>, kind: &Spanned<Kind>, what: &str, mistakes: &mut Mistakes) {
    for key in table.keys {
        let Some(entry) = table.get(key.name) else {
            continue;
        };
        // Replicas have a rule of their own, with a proposal.
        if key.kinds.contains(kind.get_ref()) || key.name == "replicas" {
            continue;
        }
        let kinds = key.kinds.iter().map(|kind| kind.name());
        let message = format!(
            "{what} is a {}, which has no `{}`",
            kind.get_ref(),
            key.name
        );
        let mistake = Mistake::new(Code::KeyOfOtherKind, entry.name.span(), message);
        let mistake = mistake.related(kind.span(), "its kind");
        mistakes.push(mistake.help(format!(
            "only these kinds have it: {}",
            mistake::list(kinds)
        )));
    }
}

fn read_run(table: Table<'_>, key: &Spanned<String>, mistakes: &mut Mistakes) -> Option<Run> {
    let what = format!("component `{}`", key.get_ref());
    let (program, command) = (table.get("program"), table.get("command"));
    match (program, command) {
        (Some(program), Some(command)) => {
            let message = format!("{what} has a `program` and a `command`");
            let mistake = Mistake::new(Code::Conflict, command.name.span(), message);
            let mistake = mistake.related(program.name.span(), "the program");
            let help = "keep `program` if it is made with `palm::main!`, and `command` otherwise";
            mistakes.push(mistake.help(help));
            None
        }
        (None, None) => {
            let message = format!("{what} has neither a `program` nor a `command`");
            let mistake = Mistake::new(Code::MissingKey, key.span(), message);
            let help = "write `program = \"..\"` for a program with `palm::main!`, or `command = \"..\"` and \
                        `args = [..]` for any other executable";
            mistakes.push(mistake.label("what does it execute?").help(help));
            None
        }
        (Some(_), None) => Some(Run::Program(
            table.text("program")?,
            table.text("component"),
        )),
        (None, Some(_)) => {
            if let Some(component) = table.get("component") {
                let message =
                    format!("{what} has a `command`, but `component` chooses one of a `program`");
                mistakes.push(Mistake::new(Code::Conflict, component.name.span(), message));
            }
            let command = templates(vec![table.text("command")?], mistakes);
            command.into_iter().next().map(Run::Command)
        }
    }
}
