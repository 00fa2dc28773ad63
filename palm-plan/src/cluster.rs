//! The file of a cluster: what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value as Json;
use toml::Spanned;

use crate::address::Address;
use crate::instance::{Restart, Secret};
use crate::kind::Kind;
use crate::logs::LogLimits;
use crate::mistake::{Mistakes, Span};
use crate::template::Template;

/// A cluster as its file describes it, without errors.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) name: Spanned<String>,
    pub(crate) trusts_network: bool,
    pub(crate) components: Vec<Component>,
    /// The keys of components with the addresses at which clients outside call them.
    pub(crate) expose: Vec<(Spanned<String>, Spanned<Address>)>,
    pub(crate) logs: Logs,
    pub(crate) warnings: Mistakes,
}

/// The table `logs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logs {
    pub(crate) limits: LogLimits,
    /// The places of values that the file states.
    pub(crate) file_size: Option<Span>,
    pub(crate) instance_size: Option<Span>,
}

/// A component of a file. While mistakes are collected, it may have a wrong form; then it has no `kind` or `run`.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) key: Spanned<String>,
    pub(crate) kind: Option<Spanned<Kind>>,
    /// Its place is that of the key if the file does not state it.
    pub(crate) name: Spanned<String>,
    pub(crate) run: Option<Run>,
    pub(crate) args: Vec<Spanned<Template>>,
    /// Whether some placeholders are malformed, so that it is not known which addresses are used.
    pub(crate) has_unknown_placeholders: bool,
    pub(crate) env: BTreeMap<String, Variable>,
    pub(crate) working_dir: Option<Spanned<String>>,
    /// The master of a worker, and the components that a step follows.
    pub(crate) upstream: Vec<Spanned<String>>,
    pub(crate) topic: Option<Spanned<String>>,
    pub(crate) topics: Option<Vec<Spanned<String>>>,
    pub(crate) to_client: Option<Spanned<bool>>,
    pub(crate) calls: Vec<Spanned<String>>,
    pub(crate) replicas: Replicas,
    pub(crate) address: Option<Spanned<Address>>,
    pub(crate) options: BTreeMap<String, ComponentOption>,
    pub(crate) after: Vec<Spanned<String>>,
    pub(crate) profiles: Vec<Spanned<String>>,
    pub(crate) ready: Option<Spanned<Ready>>,
    pub(crate) ready_timeout: Duration,
    pub(crate) restart: Restart,
    pub(crate) drain: Duration,
}

/// What a component executes.
#[derive(Debug, Clone)]
pub(crate) enum Run {
    /// A program with `palm::main!`, and the component of it.
    Program(Spanned<String>, Option<Spanned<String>>),
    /// Any executable.
    Command(Spanned<Template>),
}

/// The value of a variable of the environment.
#[derive(Debug, Clone)]
pub(crate) enum Variable {
    Text(Spanned<Template>),
    Secret(Spanned<Secret>),
}

/// An option of a component of palm.
#[derive(Debug, Clone)]
pub(crate) struct ComponentOption {
    /// The place of its name.
    pub(crate) span: Span,
    pub(crate) value: Spanned<Json>,
}

/// How many instances of a component run.
#[derive(Debug, Clone)]
pub(crate) struct Replicas {
    /// The place of the value; none if the file does not state it.
    pub(crate) span: Option<Span>,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) start: u32,
}

/// A value of the key `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Notify,
    Address,
    Running,
}

impl Cluster {
    /// Returns the name of the cluster.
    pub fn name(&self) -> &str {
        self.name.get_ref()
    }

    /// Returns the keys of the components, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(Component::key)
    }

    /// Returns the profiles that components name.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        let profiles = self.components.iter().flat_map(|it| &it.profiles);
        profiles.map(|it| it.get_ref().as_str())
    }

    /// Returns the components that run with these profiles, in the order of the file.
    pub(crate) fn active(&self, profiles: &BTreeSet<String>) -> Vec<&Component> {
        let is_active = |component: &&Component| {
            let mut own = component.profiles.iter();
            component.profiles.is_empty() || own.any(|it| profiles.contains(it.get_ref()))
        };
        self.components.iter().filter(is_active).collect()
    }

    /// Returns the key and the name of each component that binds addresses, in the order of the file.
    pub fn binding(&self) -> impl Iterator<Item = (&str, &str)> {
        let binding = self.components.iter().filter(|it| it.is(Kind::binds));
        binding.map(|it| (it.key(), it.name()))
    }

    /// Returns how large and how old log files become.
    pub fn log_limits(&self) -> LogLimits {
        self.logs.limits
    }

    /// Returns the warnings about the file.
    pub fn warnings(&self) -> &Mistakes {
        &self.warnings
    }

    pub(crate) fn component(&self, key: &str) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.key() == key)
    }

    /// Returns the components that follow the one with this key, without workers.
    pub(crate) fn followers<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Component> {
        let of_key =
            move |component: &&Component| component.upstream.iter().any(|up| up.get_ref() == key);
        self.components
            .iter()
            .filter(of_key)
            .filter(|component| component.is(Kind::is_step))
    }

    /// Returns the workers of the component with this key.
    pub(crate) fn workers<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Component> {
        let of_key =
            move |component: &&Component| component.upstream.iter().any(|up| up.get_ref() == key);
        let is_worker = |component: &&Component| component.is(|kind| kind == Kind::Worker);
        self.components.iter().filter(of_key).filter(is_worker)
    }
}

impl Component {
    pub(crate) fn key(&self) -> &str {
        self.key.get_ref()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.get_ref()
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind.as_ref().map(|kind| *kind.get_ref())
    }

    /// Returns whether its kind is known, and fits.
    pub(crate) fn is(&self, fits: impl FnOnce(Kind) -> bool) -> bool {
        self.kind().is_some_and(fits)
    }

    /// Returns whether it is any executable, and not a program of palm.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self.run, Some(Run::Command(_)))
    }

    /// Returns all texts with placeholders: the command, the arguments and the environment.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Spanned<Template>> {
        let command = match &self.run {
            Some(Run::Command(command)) => Some(command),
            _ => None,
        };
        let env = self.env.values().filter_map(|variable| match variable {
            Variable::Text(text) => Some(text),
            Variable::Secret(_) => None,
        });
        command.into_iter().chain(&self.args).chain(env)
    }
}
