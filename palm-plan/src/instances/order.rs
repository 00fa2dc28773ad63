//! In which order instances start and stop.
//!
//! A component starts when those are ready that it is connected to, and a client when all are that its calls reach.
//! Clients and entry points stop first, so that what they accepted is finished by their workers and by the steps
//! downstream, and processes such as databases last.

use std::collections::BTreeSet;

use super::Context;
use crate::cluster::Component;
use crate::kind::Kind;
use crate::template::Placeholder;
use crate::topology::heights;

impl<'a> Context<'a> {
    /// Returns the components that run, each after those that it waits for, and otherwise in the order of the file.
    pub(super) fn in_order_of_start(&self) -> Vec<&'a Component> {
        let mut components = self.active.clone();
        let heights = self.heights(|component| self.after(component));
        components.sort_by_key(|component| heights[self.index(component)]);
        components
    }

    /// Returns the keys of the components that have to be ready before this one starts.
    pub(super) fn after(&self, component: &Component) -> Vec<String> {
        let mut keys: BTreeSet<&str> = component
            .upstream
            .iter()
            .map(|key| key.get_ref().as_str())
            .collect();
        keys.extend(component.after.iter().map(|key| key.get_ref().as_str()));
        if component.is(is_client) {
            let called = self.called(component);
            // A client that names nothing may call everything.
            match called.is_empty() {
                true => keys.extend(
                    self.active
                        .iter()
                        .filter(|it| !it.is(is_client))
                        .map(|it| it.key()),
                ),
                false => keys.extend(self.downstream(called)),
            }
        }
        let is_active = |key: &&str| self.active.iter().any(|component| component.key() == *key);
        keys.into_iter()
            .filter(is_active)
            .map(str::to_owned)
            .collect()
    }

    /// Returns the keys of the components that a client names in its calls and placeholders.
    fn called<'b>(&'b self, component: &'b Component) -> Vec<&'b str> {
        let steps = component
            .calls
            .iter()
            .flat_map(|call| call.get_ref().split_whitespace());
        let names: Vec<_> = steps
            .filter_map(|step| Some(step.split_once('.')?.0))
            .collect();
        let named = self
            .active
            .iter()
            .filter(|it| it.is(Kind::binds) && names.contains(&it.name()));
        let mut keys: Vec<_> = named.map(|it| it.key()).collect();
        for template in component.templates() {
            for placeholder in template.get_ref().placeholders() {
                if let Placeholder::Of(key, _) = placeholder {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// Returns these keys, and those of all components downstream, with workers.
    fn downstream<'b>(&'b self, keys: Vec<&'b str>) -> BTreeSet<&'b str> {
        let mut found = BTreeSet::new();
        let mut queue = keys;
        while let Some(key) = queue.pop() {
            if found.insert(key) {
                let cluster = self.cluster;
                let next = cluster.followers(key).chain(cluster.workers(key));
                queue.extend(next.map(Component::key));
            }
        }
        found
    }

    /// Returns the number by which the instances of a component are stopped, lower ones first.
    pub(super) fn stop_order(&self, component: &Component) -> u32 {
        let depths = self.heights(|component| {
            component
                .upstream
                .iter()
                .map(|key| key.get_ref().clone())
                .collect()
        });
        let deepest = depths.iter().copied().max().unwrap_or(0);
        let depth = depths[self.index(component)];
        let order = match component.kind() {
            Some(kind) if is_client(kind) => 0,
            // Its master, or hub, is one less deep.
            Some(Kind::Worker) => 2 * depth,
            Some(Kind::Process) | None => {
                let waits = self.heights(|component| self.after(component));
                let longest = waits.iter().copied().max().unwrap_or(0);
                2 * deepest + 2 + longest - waits[self.index(component)]
            }
            Some(_) => 2 * depth + 1,
        };
        u32::try_from(order).unwrap_or(u32::MAX)
    }

    fn index(&self, component: &Component) -> usize {
        let found = self
            .active
            .iter()
            .position(|other| other.key() == component.key());
        found.expect("only components that run have an order")
    }

    /// Returns the longest path of references from each component that runs.
    fn heights(&self, references: impl Fn(&Component) -> Vec<String>) -> Vec<usize> {
        let index = |key: String| {
            self.active
                .iter()
                .position(|component| component.key() == key)
        };
        let edges = self.active.iter().map(|component| {
            references(component)
                .into_iter()
                .filter_map(index)
                .collect()
        });
        heights(&edges.collect::<Vec<_>>())
    }
}

/// Returns whether components of a kind only call others.
fn is_client(kind: Kind) -> bool {
    matches!(kind, Kind::Gateway | Kind::Job)
}
