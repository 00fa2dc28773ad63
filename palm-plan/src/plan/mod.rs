//! The difference between the processes that run and those that should.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::instance::{Instance, InstanceId};

/// What has to be done so that the wanted instances run.
///
/// Its display is that of `palm plan`: a line for each instance that changes, and a summary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Instances that are missing, in the order of the wanted ones.
    pub start: Vec<Instance>,
    /// Instances that are not wanted, by their `stop_order`.
    pub stop: Vec<Instance>,
    /// Instances with another [`fingerprint`](Instance::fingerprint), in the order of the wanted ones.
    pub restart: Vec<Change>,
    /// Instances whose supervision changes, such as `drain`. Their processes continue to run.
    pub update: Vec<Change>,
    /// Instances that are equal.
    pub unchanged: Vec<InstanceId>,
}

/// An instance before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As it runs.
    pub from: Instance,
    /// As it is wanted.
    pub to: Instance,
}

/// Compares the instances that run with those that are wanted.
///
/// Instances are identified by component and index. If one is among `running` or `wanted` twice, the last one counts.
pub fn plan(running: &[Instance], wanted: &[Instance]) -> Plan {
    let by_id = |instances: &[Instance]| {
        let pairs = instances.iter().map(|it| (it.id(), it.clone()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let mut left = by_id(running);
    let last = by_id(wanted);
    let mut plan = Plan::default();
    let mut is_done = BTreeSet::new();
    for id in wanted.iter().map(Instance::id) {
        if !is_done.insert(id.clone()) {
            continue;
        }
        let to = last[&id].clone();
        match left.remove(&id) {
            None => plan.start.push(to),
            Some(from) if from == to => plan.unchanged.push(id),
            Some(from) if from.fingerprint() == to.fingerprint() => {
                plan.update.push(Change { from, to });
            }
            Some(from) => plan.restart.push(Change { from, to }),
        }
    }
    plan.stop = left.into_values().collect();
    plan.stop.sort_by_key(|instance| instance.stop_order);
    plan
}

impl Plan {
    /// Returns whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.start.is_empty()
            && self.stop.is_empty()
            && self.restart.is_empty()
            && self.update.is_empty()
    }
}

impl Change {
    /// Returns the names of the settings that differ, such as `args` or `env.PALM_WIRING`.
    pub fn differences(&self) -> Vec<String> {
        let (from, to) = (&self.from, &self.to);
        let mut names = Vec::new();
        let mut note = |differs: bool, name: &str| {
            if differs {
                names.push(name.to_owned());
            }
        };
        note(from.kind != to.kind, "kind");
        note(from.command != to.command, "command");
        note(from.args != to.args, "args");
        for name in differing_keys(&from.env, &to.env) {
            note(true, &format!("env.{name}"));
        }
        for name in differing_keys(&from.secrets, &to.secrets) {
            note(true, &format!("env.{name}"));
        }
        note(from.working_dir != to.working_dir, "working_dir");
        note(from.readiness != to.readiness, "ready");
        note(from.ready_timeout != to.ready_timeout, "ready_timeout");
        note(from.restart != to.restart, "restart");
        note(from.drain != to.drain, "drain");
        note(from.after != to.after, "after");
        note(from.stop_order != to.stop_order, "order of stopping");
        names
    }
}

/// Returns the keys of two maps that have different values.
fn differing_keys<Value: PartialEq>(
    from: &BTreeMap<String, Value>,
    to: &BTreeMap<String, Value>,
) -> Vec<String> {
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| from.get(*key) != to.get(*key));
    differing.cloned().collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return match self.unchanged.len() {
                0 => writeln!(formatter, "nothing to do: no instance is wanted"),
                1 => writeln!(formatter, "nothing to do: 1 instance is unchanged"),
                count => writeln!(formatter, "nothing to do: {count} instances are unchanged"),
            };
        }
        let all = [&self.start, &self.stop].into_iter().flatten();
        let changes = self.restart.iter().chain(&self.update);
        let ids = all
            .chain(changes.map(|change| &change.to))
            .map(Instance::id);
        let width = ids
            .map(|id| id.to_string().chars().count())
            .max()
            .unwrap_or(0);
        for instance in &self.stop {
            writeln!(formatter, "- stop     {}", instance.id())?;
        }
        for change in &self.restart {
            let reason = change.differences().join(", ");
            writeln!(formatter, "~ restart  {:width$}  {reason}", change.to.id())?;
        }
        for change in &self.update {
            let reason = change.differences().join(", ");
            writeln!(formatter, "~ update   {:width$}  {reason}", change.to.id())?;
        }
        for instance in &self.start {
            let command = command_line(instance);
            writeln!(formatter, "+ start    {:width$}  {command}", instance.id())?;
        }
        writeln!(
            formatter,
            "{} to start, {} to restart, {} to update, {} to stop, {} unchanged",
            self.start.len(),
            self.restart.len(),
            self.update.len(),
            self.stop.len(),
            self.unchanged.len()
        )
    }
}

/// Returns the command with its arguments, which are quoted if a shell would divide them.
fn command_line(instance: &Instance) -> String {
    let is_plain = |text: &str| {
        let is_plain = |it: char| it.is_alphanumeric() || "-_./:=,@%+".contains(it);
        !text.is_empty() && text.chars().all(is_plain)
    };
    let quoted = |text: &str| match is_plain(text) {
        true => text.to_owned(),
        false => format!("'{}'", visible(text).replace('\'', r"'\''")),
    };
    let command = instance.command.display().to_string();
    let words = std::iter::once(&command).chain(&instance.args);
    let words: Vec<_> = words.map(|word| quoted(word)).collect();
    words.join(" ")
}

/// Replaces control characters, which could change a terminal.
fn visible(text: &str) -> String {
    let visible = |it: char| if it.is_control() { '\u{fffd}' } else { it };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests;
