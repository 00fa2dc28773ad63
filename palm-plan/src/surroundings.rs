//! What a file refers to and does not contain: commands, programs, options, addresses and secrets.
//!
//! This crate does no I/O, so the caller answers: [`Surroundings`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value as Json;
use toml::Spanned;

use crate::cluster::{Cluster, Component, Run, Variable};
use crate::instance::Secret;
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, Span, list, suggestion};
use crate::template::{Endpoint, Part};

/// Answers questions about the machine that a cluster runs on.
pub trait Surroundings {
    /// Returns the profiles that run, if only components that run with them are checked. Default: all are.
    fn profiles(&self) -> Option<&BTreeSet<String>> {
        None
    }

    /// Returns why a command cannot be executed: a path relative to the file, or a name that is searched for in `PATH`.
    fn command_problem(&self, command: &str) -> Option<String>;

    /// Returns the components that are linked into a program, as `PROGRAM list --format json` writes them.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    fn linked(&self, program: &str) -> Result<Vec<Linked>, String>;

    /// Returns why an option of a component of this kind cannot be set.
    fn option_problem(&self, kind: Kind, name: &str, value: &Json) -> Option<String>;

    /// Returns which process has bound an address, `tcp://..` or `ipc://..`, unless it is one of the cluster.
    fn address_holder(&self, address: &str) -> Option<String>;

    /// Returns why a secret cannot be read.
    fn secret_problem(&self, secret: &Secret) -> Option<String>;
}

/// A component that is linked into a program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Linked {
    /// The name of its kind: that of a [`Kind`], or a variant of it, such as `mux_worker`.
    pub kind: String,
    /// The declared name; of a worker, that of its master. Without one, it is not declared.
    #[serde(default)]
    pub component: Option<String>,
    /// The name of the type.
    #[serde(default, rename = "type")]
    pub type_name: Option<String>,
    /// The functions that can be called.
    #[serde(default)]
    pub functions: Vec<LinkedFunction>,
    /// Whether the program can create it.
    #[serde(default = "startable")]
    pub startable: bool,
}

fn startable() -> bool {
    true
}

/// A function of a component.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LinkedFunction {
    /// The name, without that of the component.
    pub name: String,
}

impl Linked {
    fn is(&self, kind: Kind) -> bool {
        self.kind == kind.name() || kind == Kind::Worker && self.kind == "mux_worker"
    }

    /// Returns whether it is a master or hub without hooks, which no type declares.
    fn is_plain(&self) -> bool {
        let type_name = self.type_name.as_deref();
        matches!(type_name, Some("palm::Master" | "palm::Hub"))
    }

    fn is_called(&self, name: &str) -> bool {
        [&self.component, &self.type_name]
            .into_iter()
            .flatten()
            .any(|own| own == name)
    }

    /// Returns its name for a list: that of the type for a worker, which may share the name of its master.
    fn name(&self) -> &str {
        let names = match self.kind.ends_with("worker") {
            true => [&self.type_name, &self.component],
            false => [&self.component, &self.type_name],
        };
        names
            .into_iter()
            .flatten()
            .next()
            .map_or("", String::as_str)
    }
}

/// Reports what does not exist.
pub(crate) fn check(cluster: &Cluster, surroundings: &dyn Surroundings, mistakes: &mut Mistakes) {
    let mut check = Check {
        surroundings,
        linked: BTreeMap::new(),
        mistakes,
    };
    let mut found = BTreeMap::new();
    let checked = match surroundings.profiles() {
        Some(profiles) => cluster.active(profiles),
        None => cluster.components.iter().collect(),
    };
    for component in checked.iter().copied() {
        if let Some(linked) = check.run(component) {
            found.insert(component.key().to_owned(), linked);
        }
        check.options(component);
        check.secrets(component);
    }
    for component in checked {
        for call in &component.calls {
            check.functions(cluster, call, &found);
        }
    }
    check.addresses(cluster);
}

struct Check<'a> {
    surroundings: &'a dyn Surroundings,
    /// What each program has answered. None after a mistake, which is reported once.
    linked: BTreeMap<String, Option<Vec<Linked>>>,
    mistakes: &'a mut Mistakes,
}

impl Check<'_> {
    /// Checks the command of a component, and returns what its program has.
    fn run(&mut self, component: &Component) -> Option<Linked> {
        match component.run.as_ref()? {
            Run::Command(template) => {
                if let [Part::Text(command)] = &template.get_ref().0[..] {
                    self.command(command, template.span());
                }
                None
            }
            Run::Program(program, linked) => {
                if !self.command(program.get_ref(), program.span()) {
                    return None;
                }
                self.component_of_program(component, program, linked.as_ref())
            }
        }
    }

    /// Returns whether a command exists.
    fn command(&mut self, command: &str, span: Span) -> bool {
        let Some(problem) = self.surroundings.command_problem(command) else {
            return true;
        };
        let mistake = Mistake::new(
            Code::CommandNotFound,
            span,
            format!("`{command}` cannot be executed: {problem}"),
        );
        self.mistakes.push(mistake.help(match command.contains('/') {
            _ if command.contains("target/debug/") => "`cargo build` makes it",
            _ if command.contains("target/release/") => "`cargo build --release` makes it",
            true => "the path is relative to the folder of the file",
            false => "the name is searched for in PATH; a path relative to the folder of the file begins with `./`",
        }));
        false
    }

    fn component_of_program(
        &mut self,
        component: &Component,
        program: &Spanned<String>,
        wanted: Option<&Spanned<String>>,
    ) -> Option<Linked> {
        let kind = component.kind()?;
        let all = self.list(program)?;
        let of_kind: Vec<_> = all.iter().filter(|it| it.is(kind)).collect();
        let fitting: Vec<_> = match wanted {
            Some(name) => {
                let named = of_kind.iter().filter(|it| it.is_called(name.get_ref()));
                named.copied().collect()
            }
            // Masters and hubs without hooks are there for any worker.
            None => {
                let declared = of_kind.iter().copied().filter(|it| !it.is_plain());
                match declared.collect::<Vec<_>>() {
                    declared if declared.len() == 1 => declared,
                    _ => of_kind.clone(),
                }
            }
        };
        let names: Vec<_> = of_kind.iter().map(|it| it.name()).collect();
        let span = wanted.unwrap_or(program).span();
        let mistake = match fitting[..] {
            [only] if only.startable => return Some(only.clone()),
            [only] => {
                let message = format!(
                    "`{}` cannot be started by `{}`",
                    only.name(),
                    program.get_ref()
                );
                let help =
                    "the type needs `Default`, or a constructor: `palm::main!(Type => Type::open)`";
                Mistake::new(Code::NotStartable, span, message).help(help)
            }
            [] if of_kind.is_empty() => {
                let others: Vec<_> = all
                    .iter()
                    .map(|it| format!("{} {}", it.kind, it.name()))
                    .collect();
                let message = format!("`{}` has no {kind}", program.get_ref());
                let mistake = Mistake::new(Code::NotLinked, span, message);
                match others.is_empty() {
                    true => mistake.help("no component is linked into it"),
                    false => mistake.help(format!(
                        "it has {}",
                        list(others.iter().map(String::as_str))
                    )),
                }
            }
            [] => {
                let wanted = wanted.map_or("", |wanted| wanted.get_ref());
                let message = format!("`{}` has no {kind} called `{wanted}`", program.get_ref());
                Mistake::new(Code::NotLinked, span, message).help(suggestion(wanted, names))
            }
            _ => {
                let message = format!(
                    "`{}` has several components of the kind {kind}",
                    program.get_ref()
                );
                let help = format!(
                    "choose one: `component = \"..\"` with one of {}",
                    list(names)
                );
                Mistake::new(Code::AmbiguousComponent, span, message).help(help)
            }
        };
        self.mistakes.push(mistake);
        None
    }

    /// Returns what a program has; it is asked once.
    fn list(&mut self, program: &Spanned<String>) -> Option<Vec<Linked>> {
        let name = program.get_ref();
        if !self.linked.contains_key(name) {
            let linked = self.surroundings.linked(name);
            if let Err(problem) = &linked {
                let message = format!("`{name}` does not say which components it has: {problem}");
                let mistake = Mistake::new(Code::NotListed, program.span(), message);
                self.mistakes.push(mistake.help(format!(
                    "`program` is made with `palm::main!`, and answers `{name} list --format json`; write `command` for any \
                     other executable"
                )));
            }
            self.linked.insert(name.clone(), linked.ok());
        }
        self.linked[name].clone()
    }

    fn options(&mut self, component: &Component) {
        let (Some(kind), false) = (component.kind(), component.is_command()) else {
            return;
        };
        for (name, option) in &component.options {
            if let Some(problem) =
                self.surroundings
                    .option_problem(kind, name, option.value.get_ref())
            {
                let message = format!("the option `{name}` of a {kind}: {problem}");
                let mistake = Mistake::new(Code::InvalidOptions, option.span.clone(), message);
                self.mistakes.push(mistake.help(
                    "options of the program's own constructor are arguments, such as `args = [\"--quality\", \"80\"]`",
                ));
            }
        }
    }

    fn secrets(&mut self, component: &Component) {
        for (name, variable) in &component.env {
            if let Variable::Secret(secret) = variable
                && let Some(problem) = self.surroundings.secret_problem(secret.get_ref())
            {
                let message = format!("the secret `{name}` cannot be read: {problem}");
                self.mistakes
                    .push(Mistake::new(Code::SecretMissing, secret.span(), message));
            }
        }
    }

    fn addresses(&mut self, cluster: &Cluster) {
        let mut addresses: Vec<_> = cluster
            .expose
            .iter()
            .map(|(_, address)| (address.get_ref().to_string(), address.span()))
            .collect();
        for component in cluster
            .components
            .iter()
            .filter(|it| !it.is(|kind| kind == Kind::Worker))
        {
            addresses.extend(
                component
                    .address
                    .iter()
                    .map(|it| (it.get_ref().to_string(), it.span())),
            );
            for endpoint in Endpoint::ALL {
                let option = endpoint
                    .option()
                    .and_then(|name| component.options.get(name));
                if let Some((text, option)) =
                    option.and_then(|it| Some((it.value.get_ref().as_str()?, it)))
                {
                    addresses.push((text.to_owned(), option.value.span()));
                }
            }
        }
        for (address, span) in addresses {
            if let Some(holder) = self.surroundings.address_holder(&address) {
                let message = format!("`{address}` is taken by {holder}");
                let mistake = Mistake::new(Code::AddressTaken, span, message);
                self.mistakes
                    .push(mistake.help("stop that process, or choose another port"));
            }
        }
    }

    /// Reports a function that the programs of the called component do not have.
    fn functions(
        &mut self,
        cluster: &Cluster,
        call: &Spanned<String>,
        found: &BTreeMap<String, Linked>,
    ) {
        for step in call.get_ref().split_whitespace() {
            let Some((name, function)) = step.split_once('.') else {
                continue;
            };
            let named = cluster
                .components
                .iter()
                .filter(|it| it.is(Kind::binds) && it.name() == name);
            let mut functions = Vec::new();
            let mut is_known = false;
            for component in named {
                let running: Vec<_> = match component.is(Kind::has_workers) {
                    true => cluster.workers(component.key()).collect(),
                    false => vec![component],
                };
                let linked: Vec<_> = running
                    .iter()
                    .filter_map(|it| found.get(it.key()))
                    .collect();
                // A command may have any function.
                if linked.len() < running.len() || running.is_empty() {
                    return;
                }
                is_known = true;
                functions.extend(
                    linked
                        .iter()
                        .flat_map(|it| &it.functions)
                        .map(|it| it.name.as_str()),
                );
            }
            // Each component answers `echo`.
            if is_known && function != "echo" && !functions.contains(&function) {
                let message = format!("`{name}` has no function `{function}`");
                let mistake = Mistake::new(Code::UnknownFunction, call.span(), message);
                self.mistakes
                    .push(mistake.help(suggestion(function, functions)));
            }
        }
    }
}
