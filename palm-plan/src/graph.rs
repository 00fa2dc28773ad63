//! The graph of a file: as a tree, and in the language of Graphviz.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::cluster::{Cluster, Component, Run};
use crate::kind::Kind;
use crate::template::Placeholder;

impl Cluster {
    /// Returns the components as a tree: below each one its workers, and the components that follow it.
    pub fn tree(&self) -> String {
        let mut tree = Tree {
            cluster: self,
            shown: BTreeSet::new(),
            text: format!("{}\n", self.name()),
        };
        let is_root = |component: &&Component| component.upstream.is_empty();
        let roots: Vec<_> = self.components.iter().filter(is_root).collect();
        tree.children(&roots, "");
        tree.text
    }

    /// Returns the graph in the language of Graphviz; `dot -Tsvg` draws it.
    pub fn dot(&self) -> String {
        let mut text = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
            quoted(self.name())
        );
        for component in &self.components {
            let shape = match component.kind() {
                Some(Kind::Job | Kind::Gateway) => ", shape=ellipse",
                Some(Kind::Process) => ", style=dashed",
                _ => "",
            };
            let label = format!("{}\n{}", component.key(), describe(component));
            let _ = writeln!(
                text,
                "  {} [label={}{shape}];",
                quoted(component.key()),
                quoted(&label)
            );
        }
        for component in &self.components {
            for upstream in &component.upstream {
                let label = component.topic.as_ref().map_or(String::new(), |topic| {
                    format!(" [label={}]", quoted(topic.get_ref()))
                });
                let (from, to) = (quoted(upstream.get_ref()), quoted(component.key()));
                let _ = writeln!(text, "  {from} -> {to}{label};");
            }
            for called in self.called(component) {
                let (from, to) = (quoted(component.key()), quoted(called));
                let _ = writeln!(text, "  {from} -> {to} [style=dashed];");
            }
        }
        text + "}\n"
    }

    /// Returns the components that a gateway or job calls at first, or whose addresses it uses.
    fn called<'a>(&'a self, component: &'a Component) -> BTreeSet<&'a str> {
        let firsts = component
            .calls
            .iter()
            .filter_map(|call| call.get_ref().split('.').next());
        let firsts: Vec<_> = firsts.collect();
        let named = self
            .components
            .iter()
            .filter(|it| it.is(Kind::is_entry_point) && firsts.contains(&it.name()));
        let mut called: BTreeSet<_> = named.map(Component::key).collect();
        if component.is(|kind| matches!(kind, Kind::Gateway | Kind::Job)) {
            let placeholders = component
                .templates()
                .flat_map(|it| it.get_ref().placeholders());
            called.extend(placeholders.filter_map(|placeholder| match placeholder {
                Placeholder::Of(key, _) => Some(key.as_str()),
                _ => None,
            }));
        }
        called
    }
}

struct Tree<'a> {
    cluster: &'a Cluster,
    shown: BTreeSet<&'a str>,
    text: String,
}

impl<'a> Tree<'a> {
    fn children(&mut self, components: &[&'a Component], indent: &str) {
        for (index, component) in components.iter().enumerate() {
            let (branch, below) = match index + 1 == components.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            let is_new = self.shown.insert(component.key());
            let line = match is_new {
                true => format!("{}  {}", component.key(), describe(component)),
                false => format!("{} (see above)", component.key()),
            };
            let topic = component.topic.as_ref().filter(|_| is_new);
            let topic = topic.map_or(String::new(), |topic| {
                format!(", topic {}", topic.get_ref())
            });
            self.text += &format!("{indent}{branch}{line}{topic}\n");
            if is_new {
                let cluster = self.cluster;
                let workers = cluster.workers(component.key());
                let downstream: Vec<_> =
                    workers.chain(cluster.followers(component.key())).collect();
                self.children(&downstream, &format!("{indent}{below}"));
            }
        }
    }
}

/// Returns the kind, the number of instances and what is executed.
fn describe(component: &Component) -> String {
    let kind = component.kind().map_or("", Kind::name);
    let command = match &component.run {
        Some(Run::Program(program, _)) => program.get_ref().clone(),
        Some(Run::Command(command)) => {
            let words = std::iter::once(command).chain(&component.args);
            // A script says more than its interpreter.
            let texts = words.map(|word| word.get_ref().fill(|_| "..".to_owned()));
            texts.take(2).collect::<Vec<_>>().join(" ")
        }
        None => String::new(),
    };
    let name = match component.name() == component.key() {
        true => String::new(),
        false => format!(" `{}`", component.name()),
    };
    let replicas = &component.replicas;
    let count = match replicas.span {
        None => String::new(),
        Some(_) => format!(" ×{}", replicas.start),
    };
    format!("{kind}{name}{count}, {command}")
}

/// Returns a string of the language, with its line breaks.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const TEXT: &str = r#"
        name = "images"
        [components.server]
        kind = "server"
        program = "server"
        [components.even]
        kind = "pipeline"
        name = "steps"
        from = "server"
        topic = "even"
        program = "steps"
        [components.odd]
        kind = "hub"
        from = "server"
        topic = "odd"
        program = "steps"
        [components.worker]
        kind = "worker"
        master = "odd"
        command = "python3"
        args = ["worker.py", "--db", "{odd.db}"]
        replicas = 3
        [components.sink]
        kind = "sink"
        from = ["even", "odd"]
        program = "steps"
        [components.redis]
        kind = "process"
        command = "redis-server"
        [components.client]
        kind = "job"
        command = "{cluster}\"client"
        calls = ["server.f steps.g sink.h"]
        "#;

    #[test]
    fn tree_shows_each_component_once_with_its_followers() {
        let cluster =
            Cluster::parse("cluster.toml", TEXT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        expect![[r#"
            images
            ├─ server  server, server
            │  ├─ even  pipeline `steps`, steps, topic even
            │  │  └─ sink  sink, steps
            │  └─ odd  hub, steps, topic odd
            │     ├─ worker  worker ×3, python3 worker.py
            │     └─ sink (see above)
            ├─ redis  process, redis-server
            └─ client  job, .."client
        "#]]
        .assert_eq(&cluster.tree());
    }

    #[test]
    fn dot_has_each_component_and_each_edge() {
        let cluster =
            Cluster::parse("cluster.toml", TEXT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        expect![[r#"
            digraph "images" {
              rankdir=LR;
              node [shape=box];
              "server" [label="server\nserver, server"];
              "even" [label="even\npipeline `steps`, steps"];
              "odd" [label="odd\nhub, steps"];
              "worker" [label="worker\nworker ×3, python3 worker.py"];
              "sink" [label="sink\nsink, steps"];
              "redis" [label="redis\nprocess, redis-server", style=dashed];
              "client" [label="client\njob, ..\"client", shape=ellipse];
              "server" -> "even" [label="even"];
              "server" -> "odd" [label="odd"];
              "odd" -> "worker";
              "even" -> "sink";
              "odd" -> "sink";
              "client" -> "server" [style=dashed];
            }
        "#]]
        .assert_eq(&cluster.dot());
    }
}
