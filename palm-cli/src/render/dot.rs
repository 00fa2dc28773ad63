//! The cluster in the language of Graphviz.

use std::fmt::Write as _;

use palm::report::{Edge, Role};

use crate::model::processes::ComponentProcesses;
use crate::model::{Bottleneck, Component, Monitor};
use crate::text::{backlog, bytes, clean, or_unknown, percent, rate};

/// Returns the graph; `dot -Tsvg` draws it.
pub fn text(monitor: &Monitor) -> String {
    let mut text = String::from("digraph palm {\n  rankdir=LR;\n  node [shape=box];\n");
    let bottleneck = monitor.bottleneck();
    let processes = monitor.processes().and_then(Result::ok);
    let components = processes.iter().flat_map(|it| &it.components);
    let gaps = components.flat_map(ComponentProcesses::gaps);
    let label: Vec<_> = std::iter::once(bottleneck.to_string())
        .chain(gaps)
        .collect();
    let _ = writeln!(text, "  label={};", quoted(&label.join("\n")));
    let slow = match &bottleneck {
        Bottleneck::Slow(slow) => slow.address.as_deref(),
        Bottleneck::Backlogged(backlogged) => backlogged.address.as_deref(),
        _ => None,
    };
    for component in monitor.components() {
        let rate = or_unknown(component.rate(), rate);
        let name = component.name();
        let mut label = format!(
            "{name}\n{}, {}\n{rate}/s",
            component.kind(),
            component.state()
        );
        if let Some(processes) = monitor.processes_of(component) {
            let cpu = or_unknown(processes.cpu(), percent);
            let memory = or_unknown(processes.memory_bytes(), bytes);
            label += &format!("\ncpu {cpu}, {memory}");
        }
        let _ = write!(text, "  {} [", quoted(&component.address));
        let _ = write!(text, "label={}", quoted(&label));
        if slow == Some(&*component.address) {
            text.push_str(", color=red");
        }
        if component.problem.is_some() {
            text.push_str(", style=dashed");
        }
        text.push_str("];\n");
        for (index, edge) in component
            .current()
            .into_iter()
            .flat_map(|it| it.edges.iter().enumerate())
        {
            line(&mut text, monitor, component, edge, index);
        }
    }
    text.push_str("}\n");
    text
}

fn line(text: &mut String, monitor: &Monitor, component: &Component, edge: &Edge, index: usize) {
    // The edge of the component upstream says more.
    let known = monitor.peer(edge);
    if matches!(edge.role, Role::Upstream | Role::Master) && known.is_some() {
        return;
    }
    let own = quoted(&component.address);
    let peer = match known {
        Some(peer) => quoted(&peer.address),
        None => {
            let id = quoted(&format!("{} {index}", component.address));
            let label = format!("{}\n{}", edge.role.as_str(), edge.name);
            let _ = writeln!(text, "  {id} [label={}, shape=ellipse];", quoted(&label));
            id
        }
    };
    let mut label = or_unknown(component.edge_rate(edge), rate) + "/s";
    if edge.waiting.messages > 0 {
        label += &format!("\nwaiting {}", backlog(&edge.waiting));
    }
    if let Some(stalled) = component.stalled(edge).filter(|share| *share >= 0.005) {
        label += &format!("\nstalled {}", percent(stalled));
    }
    let (from, to) = match edge.role {
        Role::Client | Role::Upstream | Role::Master => (&peer, &own),
        _ => (&own, &peer),
    };
    let _ = writeln!(text, "  {from} -> {to} [label={}];", quoted(&label));
}

/// Returns a string of the language. Line breaks are those of the caller; names have none.
fn quoted(text: &str) -> String {
    let lines = text
        .split('\n')
        .map(|line| clean(line).replace('\\', "\\\\"));
    let lines: Vec<_> = lines.map(|line| line.replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}
