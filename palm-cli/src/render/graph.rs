//! The cluster as a tree: each component with its peers, and what follows it below.

use std::collections::HashSet;

use palm::report::{Edge, Report, Role};

use super::table;
use crate::model::{Component, Monitor};
use crate::text::{backlog, clean, count, duration, or_unknown, percent, rate};

/// Returns the tree, and the sentence about the bottleneck.
pub fn text(monitor: &Monitor) -> String {
    let mut tree = Tree {
        monitor,
        shown: HashSet::new(),
        text: String::new(),
    };
    let follows = |component: &&Component| {
        let edges = component.report().into_iter().flat_map(|it| &it.edges);
        let mut upstream = edges.filter(|edge| edge.role == Role::Upstream);
        upstream.any(|edge| monitor.peer(edge).is_some())
    };
    let (followers, first): (Vec<_>, Vec<_>) = monitor.components().partition(follows);
    // Components that follow each other in a circle have no first one.
    for component in first.into_iter().chain(followers) {
        if !tree.shown.contains(&*component.address) {
            tree.component(component, "", "");
        }
    }
    tree.text.push_str(&table::processes(monitor));
    tree.text.push('\n');
    tree.text.push_str(&table::summary(monitor));
    tree.text
}

struct Tree<'a> {
    monitor: &'a Monitor,
    shown: HashSet<&'a str>,
    text: String,
}

impl<'a> Tree<'a> {
    fn component(&mut self, component: &'a Component, branch: &str, indent: &str) {
        let (name, kind) = (clean(component.name()), clean(component.kind()));
        let again = !self.shown.insert(&component.address);
        let rate = or_unknown(component.rate(), rate);
        let line = match (again, component.problem.is_some()) {
            (true, _) => format!("{name} (see above)"),
            (_, true) => format!("{name}  {kind}, {}", component.state()),
            _ => format!("{name}  {kind}, {}, {rate}/s", component.state()),
        };
        let line = format!("{branch}{line}, {}\n", clean(&component.address));
        self.text.push_str(&line);
        if again {
            return;
        }
        let edges = component.current().into_iter().flat_map(|it| &it.edges);
        let mut edges: Vec<_> = edges
            .filter(|edge| !matches!(edge.role, Role::Upstream | Role::Master))
            .collect();
        edges.sort_by_key(|edge| (order(edge.role), &edge.name));
        let without_edges = component.current().map(without_edges).unwrap_or_default();
        let last = edges.len() + without_edges.len();
        for (index, edge) in edges.iter().enumerate() {
            let (branch, below) = match index + 1 == last {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            let line = format!("{indent}{branch}{}\n", label(component, edge));
            self.text.push_str(&line);
            if let Some(peer) = self.monitor.peer(edge) {
                let indent = format!("{indent}{below}");
                let branch = format!("{indent}└► ");
                self.component(peer, &branch, &format!("{indent}   "));
            }
        }
        for (index, line) in without_edges.iter().enumerate() {
            let branch = match edges.len() + index + 1 == last {
                true => "└─ ",
                false => "├─ ",
            };
            self.text.push_str(&format!("{indent}{branch}{line}\n"));
        }
    }
}

/// Returns a text for each kind of peers that the report counts and does not list.
fn without_edges(report: &Report) -> Vec<String> {
    let legacy = report.legacy;
    let peers = |number: u64, name: &str| {
        let plural = if number == 1 { "" } else { "s" };
        let without_links = format!("{} {name}{plural} without links", count(number));
        (number > 0).then_some(without_links)
    };
    let workers = peers(legacy.workers, "worker");
    let workers = workers.map(|it| format!("{it}, waiting {}", count(legacy.tasks)));
    let omitted = report.omitted_edges;
    let omitted = (omitted > 0).then(|| format!("{} further peers", count(omitted)));
    let lines = [
        peers(legacy.clients, "client"),
        workers,
        peers(legacy.subscribers, "subscriber"),
        omitted,
    ];
    lines.into_iter().flatten().collect()
}

/// Clients are in front of a component, workers beside it, and followers after it.
fn order(role: Role) -> u8 {
    match role {
        Role::Client => 0,
        Role::Worker => 1,
        _ => 2,
    }
}

fn label(component: &Component, edge: &Edge) -> String {
    let name = clean(&edge.name);
    let mut label = format!("{} {name}", edge.role.as_str());
    if edge.role == Role::Subscriber && !edge.db_address.is_empty() {
        // Topics of palm's own begin with a control character.
        let topics = edge.topics.iter().map(|it| &**it);
        let topics: Vec<_> = topics
            .filter(|it| !it.starts_with(char::is_control))
            .collect();
        if !topics.is_empty() {
            label += &format!(" on {}", clean(&topics.join(", ")));
        }
    }
    label += &format!("  {}/s", or_unknown(component.edge_rate(edge), rate));
    label += &format!(", waiting {}", backlog(&edge.waiting));
    if let Some(stalled) = component.stalled(edge).filter(|share| *share >= 0.005) {
        label += &format!(", stalled {}", percent(stalled));
    }
    if let Some(busy) = component.busy(edge) {
        label += &format!(", busy {}", percent(busy));
    }
    if let Some(p99) = edge.time.quantile(0.99) {
        label += &format!(", p99 {}", duration(p99));
    }
    if edge.state != palm::report::EdgeState::Connected {
        label += &format!(", {}", edge.state.as_str());
    }
    label
}
