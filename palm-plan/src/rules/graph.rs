//! The graph: references, kinds at both ends, numbers of upstream components, cycles and entry points.

use toml::Spanned;

use super::suggest_key;
use crate::cluster::{Cluster, Component};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, list};
use crate::topology::{self, EdgeProblem, check_edge, edge_problem, max_upstream};

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    check_entry_point(cluster, mistakes);
    for component in &cluster.components {
        if let Some(kind) = component.kind() {
            check_upstream(cluster, component, kind, mistakes);
        }
        for key in &component.after {
            check_after(cluster, component, key, mistakes);
        }
    }
    for (key, _) in &cluster.expose {
        match cluster.component(key.get_ref()) {
            None => unknown(cluster, key, |it| it.is(Kind::binds), mistakes),
            Some(component) if component.is(|kind| !kind.binds()) => {
                let message = format!(
                    "`{}` has no `db_address` that clients could call",
                    key.get_ref()
                );
                let mistake = Mistake::new(Code::WrongKind, key.span(), message);
                mistakes.push(kind_of(component, mistake));
            }
            Some(_) => {}
        }
    }
    check_cycles(cluster, mistakes);
}

fn unknown(
    cluster: &Cluster,
    key: &Spanned<String>,
    fits: impl Fn(&Component) -> bool,
    mistakes: &mut Mistakes,
) {
    let message = format!("no component has the key `{}`", key.get_ref());
    let mistake = Mistake::new(Code::UnknownReference, key.span(), message);
    mistakes.push(mistake.help(suggest_key(cluster, key.get_ref(), fits)));
}

/// Shows the kind of a component at its place.
fn kind_of(component: &Component, mistake: Mistake) -> Mistake {
    match &component.kind {
        Some(kind) => mistake.related(
            kind.span(),
            format!("`{}` is a {}", component.key(), kind.get_ref()),
        ),
        None => mistake,
    }
}

fn check_entry_point(cluster: &Cluster, mistakes: &mut Mistakes) {
    let has = |fits: fn(Kind) -> bool| {
        cluster
            .components
            .iter()
            .any(|component| component.is(fits))
    };
    let is_in_graph = |kind: Kind| kind.is_step() || kind == Kind::Worker;
    let first = cluster
        .components
        .iter()
        .find(|component| component.is(is_in_graph));
    // If the kind of a component is not known, it may be one.
    if has(Kind::is_entry_point)
        || cluster
            .components
            .iter()
            .any(|component| component.kind.is_none())
    {
        return;
    }
    if let Some(first) = first {
        let message = "the cluster has neither a server nor a master, so no client could call it";
        let mistake = Mistake::new(Code::NoEntryPoint, first.key.span(), message);
        mistakes
            .push(mistake.help("add a component with `kind = \"server\"` or `kind = \"master\"`"));
    }
}

fn check_upstream(cluster: &Cluster, component: &Component, kind: Kind, mistakes: &mut Mistakes) {
    let fits = |other: &Component| {
        other.key() != component.key() && other.is(|other| check_edge(kind, other).is_ok())
    };
    let max = max_upstream(kind);
    if max == 0 {
        // A key that the kind does not have is reported as such.
        return;
    }
    if component.upstream.is_empty() {
        missing_upstream(cluster, component, kind, fits, mistakes);
    }
    if let Some(second) = component.upstream.get(max) {
        let message = format!(
            "`{}` is a {kind}, which follows a single component",
            component.key()
        );
        let mistake = Mistake::new(Code::SeveralUpstream, second.span(), message);
        mistakes
            .push(kind_of(component, mistake).help("a sink follows several: `kind = \"sink\"`"));
    }
    for (number, key) in component.upstream.iter().enumerate() {
        let Some(other) = cluster.component(key.get_ref()) else {
            unknown(cluster, key, fits, mistakes);
            continue;
        };
        if component.upstream[..number]
            .iter()
            .any(|before| before.get_ref() == key.get_ref())
        {
            let message = format!("`{}` follows `{}` twice", component.key(), key.get_ref());
            mistakes.push(Mistake::new(Code::SeveralUpstream, key.span(), message));
        }
        let Some(other_kind) = other.kind() else {
            continue;
        };
        if let Err(problem) = check_edge(kind, other_kind) {
            let mistake = Mistake::new(
                Code::WrongKind,
                key.span(),
                edge_problem(key.get_ref(), problem),
            );
            let mistake = kind_of(other, mistake);
            mistakes.push(match problem {
                EdgeProblem::Worker => {
                    mistake.help("follow its master, which publishes the results of its workers")
                }
                _ => mistake.help(suggest_fitting(cluster, fits)),
            });
        }
    }
}

fn suggest_fitting(cluster: &Cluster, fits: impl Fn(&Component) -> bool) -> String {
    let fitting: Vec<_> = cluster
        .components
        .iter()
        .filter(|it| fits(it))
        .map(Component::key)
        .collect();
    match fitting.is_empty() {
        true => "the file has no component that fits".to_owned(),
        false => format!("the components that fit are {}", list(fitting)),
    }
}

fn missing_upstream(
    cluster: &Cluster,
    component: &Component,
    kind: Kind,
    fits: impl Fn(&Component) -> bool,
    mistakes: &mut Mistakes,
) {
    let name = if kind == Kind::Worker {
        "master"
    } else {
        "from"
    };
    let message = format!(
        "component `{}` is a {kind}, and has no `{name}`",
        component.key()
    );
    let mistake = Mistake::new(Code::MissingKey, component.key.span(), message);
    let fitting: Vec<_> = cluster
        .components
        .iter()
        .filter(|it| fits(it))
        .map(Component::key)
        .collect();
    mistakes.push(match fitting[..] {
        [] => mistake.help(match kind {
            Kind::Worker => "it needs a component with `kind = \"master\"` or `kind = \"hub\"`",
            _ => "it needs a component that it follows, such as one with `kind = \"server\"`",
        }),
        [only] => mistake.help(format!("write `{name} = \"{only}\"`")),
        _ => mistake.help(format!(
            "write `{name} = \"KEY\"`, with one of {}",
            list(fitting)
        )),
    });
}

fn check_after(
    cluster: &Cluster,
    component: &Component,
    key: &Spanned<String>,
    mistakes: &mut Mistakes,
) {
    if cluster.component(key.get_ref()).is_none() {
        unknown(cluster, key, |it| it.key() != component.key(), mistakes);
    }
}

/// Reports the first cycle of streams, and the first one of the order of starts.
fn check_cycles(cluster: &Cluster, mistakes: &mut Mistakes) {
    let index = |key: &Spanned<String>| {
        cluster
            .components
            .iter()
            .position(|component| component.key() == key.get_ref())
    };
    let edges = |references: fn(&Component) -> Vec<&Spanned<String>>| {
        let targets = |component| {
            references(component)
                .into_iter()
                .filter_map(index)
                .collect()
        };
        cluster
            .components
            .iter()
            .map(targets)
            .collect::<Vec<Vec<_>>>()
    };
    let upstream = edges(|component| component.upstream.iter().collect());
    let order = edges(|component| component.upstream.iter().chain(&component.after).collect());
    let (cycle, what) = match topology::find_cycle(&upstream) {
        Some(cycle) => (cycle, "the streams form a cycle"),
        None => match topology::find_cycle(&order) {
            Some(cycle) => (
                cycle,
                "each of these components waits for the next one to be ready",
            ),
            None => return,
        },
    };
    let keys: Vec<_> = cycle
        .iter()
        .map(|&index| format!("`{}`", cluster.components[index].key()))
        .collect();
    let begin = &cluster.components[cycle[0]];
    let leads = begin.upstream.iter().chain(&begin.after);
    let place = leads.into_iter().find(|key| index(key) == Some(cycle[1]));
    let span = place.map_or_else(|| begin.key.span(), Spanned::span);
    let message = format!("{what}: {}", keys.join(" → "));
    mistakes.push(Mistake::new(Code::Cycle, span, message).help("remove one of these references"));
}
