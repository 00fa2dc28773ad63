//! Whether the values of a file fit together. Each rule reports all of its mistakes; one that depends on a value that is
//! wrong already reports nothing.

mod addresses;
mod graph;
mod logs;
mod names;
mod options;
mod placeholders;
mod profiles;
mod replicas;
mod secrets;
mod streams;

use crate::cluster::{Cluster, Component};
use crate::mistake::{Mistakes, nearest};

/// Reports all mistakes of a cluster whose values were read.
pub(crate) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    names::check(cluster, mistakes);
    graph::check(cluster, mistakes);
    streams::check(cluster, mistakes);
    replicas::check(cluster, mistakes);
    profiles::check(cluster, mistakes);
    placeholders::check(cluster, mistakes);
    options::check(cluster, mistakes);
    addresses::check(cluster, mistakes);
    secrets::check(cluster, mistakes);
    logs::check(cluster, mistakes);
}

/// Returns what to do about a key that no component has.
fn suggest_key(cluster: &Cluster, written: &str, fits: impl Fn(&Component) -> bool) -> String {
    let fitting = cluster
        .components
        .iter()
        .filter(|component| fits(component));
    let fitting: Vec<_> = fitting.map(Component::key).collect();
    if written.contains("://") {
        return "components are connected by their keys, since addresses are chosen for them"
            .to_owned();
    }
    if let Some(nearest) = nearest(written, fitting.iter().copied()) {
        return format!("did you mean `{nearest}`?");
    }
    let named = cluster
        .components
        .iter()
        .find(|component| component.name() == written);
    match named {
        Some(component) => format!(
            "components are connected by their keys: the one with this name is `{}`",
            component.key()
        ),
        None if fitting.is_empty() => "the file has no component that fits".to_owned(),
        None => format!(
            "the components that fit are {}",
            crate::mistake::list(fitting)
        ),
    }
}
