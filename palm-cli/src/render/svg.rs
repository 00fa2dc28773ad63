//! The cluster as a picture: components in layers from left to right, in the direction of the messages.

use std::collections::HashMap;
use std::fmt::Write as _;

use palm::report::Role;
use unicode_width::UnicodeWidthStr as _;

use crate::model::{Bottleneck, Component, Monitor};
use crate::text::{backlog, clean, count, or_unknown, percent, rate};

/// The width of a character and the height of a line.
const CHARACTER: usize = 8;
const LINE: usize = 18;

/// The space within a box, and between boxes: from layer to layer, where labels of edges are, and within a layer.
const MARGIN: usize = 10;
const LAYER_GAP: usize = 180;
const BOX_GAP: usize = 24;

/// How often the boxes of each layer are moved next to their neighbours.
const SWEEPS: usize = 4;

const STYLE: &str = "
    svg { color-scheme: light dark; font: 13px monospace; }
    .page { fill: #ffffff; }
    .box { fill: #eef3fb; stroke: #35507a; stroke-width: 1.5; }
    .slow { stroke: #c01c28; stroke-width: 3; }
    .away { stroke-dasharray: 6 4; }
    .line { stroke: #444444; stroke-width: 1.5; fill: none; }
    .tip { fill: #444444; }
    text { fill: #1a1a1a; }
    .name { font-weight: bold; }
    .label { text-anchor: middle; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #16181d; }
      .box { fill: #232c3d; stroke: #8fb0e6; }
      .slow { stroke: #ff7b72; }
      .line { stroke: #bbbbbb; }
      .tip { fill: #bbbbbb; }
      text { fill: #e6e6e6; }
    }
  ";

/// A component as a box.
struct Node {
    lines: Vec<String>,
    class: &'static str,
    layer: usize,
    x: usize,
    y: usize,
}

impl Node {
    fn width(&self) -> usize {
        let widest = self.lines.iter().map(|line| line.width()).max();
        widest.unwrap_or_default() * CHARACTER + 2 * MARGIN
    }

    fn height(&self) -> usize {
        self.lines.len() * LINE + 2 * MARGIN
    }
}

/// An edge from one box to another one.
struct Link {
    from: usize,
    to: usize,
    label: String,
}

/// Returns the picture.
pub fn text(monitor: &Monitor) -> String {
    let bottleneck = monitor.bottleneck();
    let mut nodes: Vec<_> = monitor
        .components()
        .map(|component| node(component, &bottleneck))
        .collect();
    let links = links(monitor);
    set_layers(&mut nodes, &links);
    set_places(&mut nodes, &links);
    draw(&nodes, &links, &bottleneck.to_string())
}

fn node(component: &Component, bottleneck: &Bottleneck) -> Node {
    let slow = match bottleneck {
        Bottleneck::Slow(slow) => slow.address.as_deref(),
        Bottleneck::Backlogged(backlogged) => backlogged.address.as_deref(),
        _ => None,
    };
    let mut lines = vec![
        component.name().to_owned(),
        format!("{}, {}", component.kind(), component.state()),
        component.address.clone(),
    ];
    if let Some(report) = component.current() {
        lines.push(format!("{}/s", or_unknown(component.rate(), rate)));
        let peers = |role: Role, legacy: u64, name: &str| {
            let number = report.edges_of(role).count() as u64 + legacy;
            let waiting = report.edges_of(role).map(|edge| edge.waiting.messages);
            let plural = if number == 1 { "" } else { "s" };
            let line = format!("{} {name}{plural}", count(number));
            match waiting.sum::<u64>() {
                _ if number == 0 => None,
                0 => Some(line),
                waiting => Some(format!("{line}, waiting {}", count(waiting))),
            }
        };
        let legacy = report.legacy;
        lines.extend(peers(Role::Client, legacy.clients, "client"));
        lines.extend(peers(Role::Worker, legacy.workers, "worker"));
        if report.tasks.messages > 0 {
            let tasks = count(report.tasks.messages);
            lines.push(format!("{tasks} tasks without a worker"));
        }
    }
    Node {
        lines: lines.iter().map(|line| clean(line).into_owned()).collect(),
        class: match (
            slow == Some(&*component.address),
            component.problem.is_some(),
        ) {
            (true, false) => "box slow",
            (true, true) => "box slow away",
            (false, true) => "box away",
            (false, false) => "box",
        },
        layer: 0,
        x: 0,
        y: 0,
    }
}

/// Returns the edges between components, as the one upstream reports them; as the other one does if that is unknown.
fn links(monitor: &Monitor) -> Vec<Link> {
    let components = monitor.components().enumerate();
    let numbers: HashMap<_, _> = components
        .map(|(number, it)| (&*it.address, number))
        .collect();
    let mut found: HashMap<(usize, usize), String> = HashMap::new();
    let mut order = Vec::new();
    for is_upstream_end in [true, false] {
        for (own, component) in monitor.components().enumerate() {
            for edge in component.current().into_iter().flat_map(|it| &it.edges) {
                let Some(peer) = monitor.peer(edge) else {
                    continue;
                };
                let peer = numbers[&*peer.address];
                let ends = match edge.role {
                    Role::Upstream | Role::Master => (!is_upstream_end).then_some((peer, own)),
                    _ => is_upstream_end.then_some((own, peer)),
                };
                let Some(ends) = ends.filter(|ends| !found.contains_key(ends)) else {
                    continue;
                };
                let mut label = or_unknown(component.edge_rate(edge), rate) + "/s";
                if edge.waiting.messages > 0 {
                    label += &format!("\nwaiting {}", backlog(&edge.waiting));
                }
                if let Some(stalled) = component.stalled(edge).filter(|share| *share >= 0.005) {
                    label += &format!("\nstalled {}", percent(stalled));
                }
                found.insert(ends, label);
                order.push(ends);
            }
        }
    }
    let link = |(from, to)| Link {
        from,
        to,
        label: found.remove(&(from, to)).unwrap_or_default(),
    };
    order.into_iter().map(link).collect()
}

/// Puts each component to the right of those upstream of it. In a circle, which has no first one, some edge goes back.
fn set_layers(nodes: &mut [Node], links: &[Link]) {
    for _ in 0..nodes.len() {
        let mut is_changed = false;
        for link in links {
            let least = nodes[link.from].layer + 1;
            if nodes[link.to].layer < least && least < nodes.len() {
                nodes[link.to].layer = least;
                is_changed = true;
            }
        }
        if !is_changed {
            break;
        }
    }
    // A first component is next to the one that it feeds, so that no box is between them.
    for first in 0..nodes.len() {
        let fed = links.iter().filter(|link| link.from == first);
        let nearest = fed.map(|link| nodes[link.to].layer).min();
        if let Some(nearest) = nearest
            && !links.iter().any(|link| link.to == first)
        {
            nodes[first].layer = nearest.saturating_sub(1);
        }
    }
    // The layers of a circle grow to the end, so those that are empty are left out.
    let mut used: Vec<_> = nodes.iter().map(|node| node.layer).collect();
    used.sort_unstable();
    used.dedup();
    for node in nodes {
        node.layer = used.partition_point(|layer| *layer < node.layer);
    }
}

/// Sorts each layer by the places of the neighbours in the layer before it (Sugiyama's barycenters), and sets places.
fn set_places(nodes: &mut [Node], links: &[Link]) {
    let layers = nodes.iter().map(|node| node.layer + 1).max();
    let layers = 0..layers.unwrap_or_default();
    let mut order: Vec<Vec<usize>> = layers
        .map(|layer| {
            let members = nodes.iter().enumerate();
            let members = members.filter(|(_, node)| node.layer == layer);
            members.map(|(number, _)| number).collect()
        })
        .collect();
    let height = |nodes: &[Node], layer: &[usize]| {
        let boxes = layer.iter().map(|number| nodes[*number].height());
        boxes.sum::<usize>() + BOX_GAP * layer.len().saturating_sub(1)
    };
    let tallest = order.iter().map(|layer| height(nodes, layer)).max();
    let tallest = tallest.unwrap_or_default();
    for sweep in 0..SWEEPS {
        let mut x = MARGIN;
        for layer in &mut order {
            // The first sweep keeps the order of addresses.
            if sweep > 0 {
                layer.sort_by_cached_key(|number| {
                    let ends = links.iter().filter_map(|link| match link {
                        link if link.to == *number => Some(link.from),
                        link if link.from == *number => Some(link.to),
                        _ => None,
                    });
                    let middles: Vec<_> = ends
                        .map(|end| 2 * nodes[end].y + nodes[end].height())
                        .collect();
                    middles.iter().sum::<usize>() / middles.len().max(1)
                });
            }
            let mut y = MARGIN + (tallest - height(nodes, layer)) / 2;
            let widest = layer.iter().map(|number| nodes[*number].width()).max();
            for number in layer.iter() {
                nodes[*number].x = x;
                nodes[*number].y = y;
                y += nodes[*number].height() + BOX_GAP;
            }
            x += widest.unwrap_or_default() + LAYER_GAP;
        }
    }
}

fn draw(nodes: &[Node], links: &[Link], sentence: &str) -> String {
    let right = nodes.iter().map(|node| node.x + node.width()).max();
    let below = nodes.iter().map(|node| node.y + node.height()).max();
    let sentence = clean(sentence);
    let width = right.unwrap_or_default().max(sentence.width() * CHARACTER) + MARGIN;
    let baseline = below.unwrap_or_default() + 2 * LINE;
    let height = baseline + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n"
    );
    let _ = writeln!(text, "  <title>{}</title>", escaped(&sentence));
    let _ = writeln!(text, "  <style>{STYLE}</style>");
    text.push_str(
        "  <marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path class=\"tip\" d=\"M0 0 10 5 0 10z\"/></marker>\n",
    );
    let _ = writeln!(
        text,
        "  <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>"
    );
    for link in links {
        let (from, to) = (&nodes[link.from], &nodes[link.to]);
        let (x1, y1) = (from.x + from.width(), from.y + from.height() / 2);
        let (x2, y2) = (to.x, to.y + to.height() / 2);
        let middle = (x1 + x2) / 2;
        let _ = writeln!(
            text,
            "  <path class=\"line\" marker-end=\"url(#tip)\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>"
        );
        let lines = link.label.lines().count();
        for (index, line) in link.label.lines().enumerate() {
            let y = ((y1 + y2) / 2 + LINE * index).saturating_sub(LINE * lines - LINE / 2);
            let line = escaped(line);
            let _ = writeln!(
                text,
                "  <text class=\"label\" x=\"{middle}\" y=\"{y}\">{line}</text>"
            );
        }
    }
    for node in nodes {
        let (x, y, class) = (node.x, node.y, node.class);
        let (width, height) = (node.width(), node.height());
        let _ = writeln!(
            text,
            "  <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
        );
        for (index, line) in node.lines.iter().enumerate() {
            let class = if index == 0 { " class=\"name\"" } else { "" };
            let (x, y) = (x + MARGIN, y + MARGIN + LINE * index + LINE - 5);
            let _ = writeln!(
                text,
                "  <text{class} x=\"{x}\" y=\"{y}\">{}</text>",
                escaped(line)
            );
        }
    }
    let _ = writeln!(
        text,
        "  <text x=\"{MARGIN}\" y=\"{baseline}\">{}</text>",
        escaped(&sentence)
    );
    text.push_str("</svg>\n");
    text
}

/// Replaces the characters that have a meaning in XML.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use expect_test::expect_file;
    use palm::inspect::{Answer, Cluster};
    use palm::report::{Backlog, Edge, Report};

    use super::*;

    fn address(name: &str) -> String {
        format!("tcp://{name}:5559")
    }

    fn edge(role: Role, name: &str, second: u64) -> Edge {
        let mut edge = Edge::default();
        edge.role = role;
        edge.name = name.to_owned();
        if role == Role::Subscriber || role == Role::Upstream {
            edge.db_address = address(name);
        }
        edge.age = Duration::from_secs(second);
        edge.sent = 1000 * second;
        edge
    }

    /// Two branches between a master and a sink, one of which is slow, and a component that is away.
    fn cluster(second: u64) -> Cluster {
        let mut slow = edge(Role::Subscriber, "odd", second);
        slow.waiting = Backlog::new(10_000, 0).with_limits(10_000, 0);
        slow.stalled = Duration::from_millis(970 * second);
        let workers = (0..3).map(|number| {
            let mut worker = edge(Role::Worker, &format!("w{number}"), second);
            worker.waiting = Backlog::new(2, 0);
            worker
        });
        let mut master = vec![edge(Role::Client, "c", second), slow];
        master.push(edge(Role::Subscriber, "even", second));
        master.extend(workers);
        let upstream = |names: &[&str]| {
            let edges = names.iter().map(|name| edge(Role::Upstream, name, second));
            edges.collect::<Vec<_>>()
        };
        let step = |own: &str| {
            let mut edges = upstream(&["images"]);
            edges.push(edge(Role::Subscriber, "last <&>", second));
            (own.to_owned(), edges)
        };
        let reports = [
            ("images".to_owned(), master),
            step("even"),
            step("odd"),
            ("last <&>".to_owned(), upstream(&["even", "odd", "gone"])),
        ];
        let mut cluster = Cluster::default();
        for (number, (name, edges)) in reports.into_iter().enumerate() {
            let mut report = Report::new(number as u64 + 1, &name);
            report.kind = "server".to_owned();
            report.db_address = address(&name);
            report.uptime = Duration::from_secs(second);
            report.edges = edges;
            let answer = Answer::Report(Box::new(report));
            cluster.components.insert(address(&name), answer);
        }
        let gone = Answer::Unreachable("connection refused".to_owned());
        cluster.components.insert(address("gone"), gone);
        cluster
    }

    #[test]
    fn components_are_drawn_in_layers() {
        let mut monitor = Monitor::default();
        let begin = Instant::now();
        for second in [1, 2] {
            monitor.update(cluster(second), begin + Duration::from_secs(second));
        }
        expect_file!["svg.expected.svg"].assert_eq(&text(&monitor));
    }

    #[test]
    fn components_in_a_circle_and_none_at_all_are_drawn() {
        let mut monitor = Monitor::default();
        assert!(text(&monitor).ends_with("</svg>\n"));
        let mut cluster = Cluster::default();
        for (number, (name, next)) in [("a", "b"), ("b", "c"), ("c", "a")].iter().enumerate() {
            let mut report = Report::new(number as u64 + 1, name);
            report.db_address = address(name);
            report.edges = vec![edge(Role::Subscriber, next, 1)];
            let answer = Answer::Report(Box::new(report));
            cluster.components.insert(address(name), answer);
        }
        monitor.update(cluster, Instant::now());
        let picture = text(&monitor);
        assert_eq!(
            picture.matches("<path class=\"line\"").count(),
            3,
            "{picture}"
        );
    }
}
