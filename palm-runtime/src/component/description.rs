//! [`Description`]: the parts and routes of a component, as text and as a drawing.

use std::fmt::{self, Write as _};

use crate::router::{PartKind, RouteEntry};

/// The parts and routes of a component. [`ServerTemplate::describe`](crate::ServerTemplate::describe) returns it.
///
/// Its `Display` writes text, and [`graphviz`](Self::graphviz) a drawing.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:5555"), "Pull").route("Push").block(true);
/// server.register_outbound(PushService::bind("tcp://127.0.0.1:5556"), "Push");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:5559"), "Cache");
///
/// let text = "\
/// server
///   inbound   Pull   PullService   → Push (waits for its answer)
///   outbound  Push   PushService
///   bypass    Cache  CacheService
/// ";
/// assert_eq!(server.describe().to_string(), text);
/// assert!(server.describe().graphviz().contains("\"Pull\" -> \"Push\""));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub(super) component: String,
    pub(super) parts: Vec<PartDescription>,
}

/// A part of a [`Description`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartDescription {
    pub(super) entry: RouteEntry,
    /// The name of the type of the part.
    pub(super) type_name: String,
    pub(super) waits: bool,
}

impl Description {
    /// Returns the description in the language of [Graphviz](https://graphviz.org/doc/info/lang.html).
    ///
    /// Parts are boxes, routes are arrows, and routes for failures are dashed arrows. `dot -Tsvg` draws it.
    pub fn graphviz(&self) -> String {
        let mut dot = String::new();
        self.write_graphviz(&mut dot)
            .expect("writing to a String cannot fail");
        dot
    }

    fn write_graphviz(&self, dot: &mut String) -> fmt::Result {
        writeln!(dot, "digraph {} {{", quoted(&self.component))?;
        writeln!(dot, "  rankdir=LR;")?;
        writeln!(dot, "  node [shape=box];")?;
        for part in &self.parts {
            let name = quoted(&part.entry.name);
            let label = quoted(&format!("{}\n{}", part.entry.name, part.type_name));
            let style = match part.entry.kind {
                PartKind::Inbound => " style=bold",
                PartKind::Outbound => "",
                PartKind::Bypass => " style=dotted",
            };
            writeln!(dot, "  {name} [label={label}{style}];")?;
        }
        for part in &self.parts {
            let name = quoted(&part.entry.name);
            if let Some(route) = &part.entry.route {
                let waits = if part.waits { " [dir=both]" } else { "" };
                writeln!(dot, "  {name} -> {}{waits};", quoted(route))?;
            }
            if let Some(failures) = &part.entry.failures {
                let to = quoted(failures);
                writeln!(dot, "  {name} -> {to} [style=dashed label=\"failures\"];")?;
            }
        }
        writeln!(dot, "}}")
    }
}

/// Quotes a string of the Graphviz language.
fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}

impl fmt::Display for Description {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.component)?;
        let width = |text: fn(&PartDescription) -> &str| {
            let lengths = self.parts.iter().map(|part| text(part).chars().count());
            lengths.max().unwrap_or(0)
        };
        let names = width(|part| &part.entry.name);
        let types = width(|part| &part.type_name);
        for part in &self.parts {
            let kind = match part.entry.kind {
                PartKind::Inbound => "inbound",
                PartKind::Outbound => "outbound",
                PartKind::Bypass => "bypass",
            };
            let (name, type_name) = (&part.entry.name, &part.type_name);
            let mut line = format!("  {kind:<8}  {name:<names$}  {type_name:<types$}");
            if let Some(route) = &part.entry.route {
                write!(line, "  → {route}")?;
                if part.waits {
                    write!(line, " (waits for its answer)")?;
                }
            }
            if let Some(failures) = &part.entry.failures {
                write!(line, "  failures → {failures}")?;
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn routes_and_failures_are_drawn() {
        let part =
            |name: &str, kind, route: Option<&str>, failures: Option<&str>| PartDescription {
                entry: RouteEntry {
                    name: name.to_owned(),
                    kind,
                    route: route.map(str::to_owned),
                    failures: failures.map(str::to_owned),
                    is_cache: false,
                },
                type_name: format!("{name}Service"),
                waits: name == "Rep",
            };
        let description = Description {
            component: "my \"server\"".to_owned(),
            parts: vec![
                part("Rep", PartKind::Inbound, Some("Push"), Some("Pub")),
                part("Push", PartKind::Outbound, None, None),
                part("Pub", PartKind::Outbound, None, None),
                part("Cache", PartKind::Bypass, None, None),
            ],
        };
        expect![[r#"
            my "server"
              inbound   Rep    RepService    → Push (waits for its answer)  failures → Pub
              outbound  Push   PushService
              outbound  Pub    PubService
              bypass    Cache  CacheService
        "#]]
        .assert_eq(&description.to_string());
        expect![[r#"
            digraph "my \"server\"" {
              rankdir=LR;
              node [shape=box];
              "Rep" [label="Rep\nRepService" style=bold];
              "Push" [label="Push\nPushService"];
              "Pub" [label="Pub\nPubService"];
              "Cache" [label="Cache\nCacheService" style=dotted];
              "Rep" -> "Push" [dir=both];
              "Rep" -> "Pub" [style=dashed label="failures"];
            }
        "#]]
        .assert_eq(&description.graphviz());
    }
}
