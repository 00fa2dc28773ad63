//! The routing table of a component, and its rules. Plain data, without I/O.
//!
//! Each registered part is a [`RouteEntry`] with a name, a kind and up to two routes. [`check`] reports all mistakes of
//! a table; the `ServerTemplate` turns a valid table into queues.

use std::collections::HashSet;

/// The kind of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// Receives messages from peers.
    Inbound,
    /// Receives messages from other parts.
    Outbound,
    /// Runs without a route.
    Bypass,
}

/// A part in the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    pub name: String,
    pub kind: PartKind,
    pub route: Option<String>,
    /// The route of messages that could not be handled.
    pub failures: Option<String>,
    /// Whether the part is the component's cache service.
    pub is_cache: bool,
}

/// A mistake in the routing table of a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two parts have the same name.
    #[error("two parts are called `{name}`: give each a name of its own")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A route leads to a part that does not exist.
    #[error("`{from}` is routed to `{to}`, which is not registered; outbound parts: {outbound}")]
    NoSuchPart {
        /// The part with the route.
        from: String,
        /// Where it leads.
        to: String,
        /// The names of all outbound parts.
        outbound: String,
    },
    /// A route leads to a part that cannot receive messages.
    #[error(
        "`{from}` is routed to `{to}`, which is not an outbound part; outbound parts: {outbound}"
    )]
    NotOutbound {
        /// The part with the route.
        from: String,
        /// Where it leads.
        to: String,
        /// The names of all outbound parts.
        outbound: String,
    },
    /// The routes of outbound parts form a cycle.
    #[error("the routes form a cycle: {cycle}")]
    Cycle {
        /// The names of the cycle; the first one is also the last.
        cycle: String,
    },
    /// An inbound part has no route, so its messages would be lost.
    #[error("`{name}` has no route, so its messages would be lost; outbound parts: {outbound}")]
    NoRoute {
        /// The inbound part.
        name: String,
        /// The names of all outbound parts.
        outbound: String,
    },
    /// No route leads to an outbound part, so it would receive nothing.
    #[error(
        "no route leads to `{name}`, so it would receive nothing; parts without a route: {loose}"
    )]
    NotFed {
        /// The outbound part.
        name: String,
        /// The names of the parts without a route.
        loose: String,
    },
    /// A component has one cache service, at its `db_address`.
    #[error(
        "`{first}` and `{second}` are both a cache service: a component has one, so remove the other"
    )]
    TwoCacheServices {
        /// The name of the first.
        first: String,
        /// The name of the second.
        second: String,
    },
}

/// Returns all mistakes of a routing table.
///
/// Parts without an incoming route are reported only if there is no other mistake, since a misspelt route also causes
/// one of these.
pub fn check(entries: &[RouteEntry]) -> Vec<RouteError> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for entry in entries {
        if !names.insert(&entry.name) {
            let name = entry.name.clone();
            errors.push(RouteError::NameTaken { name });
        }
    }
    for entry in entries {
        for to in entry.route.iter().chain(&entry.failures) {
            errors.extend(check_route(entries, &entry.name, to));
        }
    }
    let mut cycles = HashSet::new();
    for entry in entries {
        if let Some(cycle) = find_cycle(entries, entry) {
            let mut parts = cycle.clone();
            parts.sort_unstable();
            parts.dedup();
            if cycles.insert(parts) {
                let cycle = cycle.join(" → ");
                errors.push(RouteError::Cycle { cycle });
            }
        }
    }
    if errors.is_empty() {
        check_loose_ends(entries, &mut errors);
    }
    let mut caches = entries.iter().filter(|entry| entry.is_cache);
    if let (Some(first), Some(second)) = (caches.next(), caches.next()) {
        errors.push(RouteError::TwoCacheServices {
            first: first.name.clone(),
            second: second.name.clone(),
        });
    }
    errors
}

/// Reports inbound parts without a route and outbound parts that no route leads to.
///
/// An outbound part needs no route of its own: its work may be all that is wanted, and a request that waits for its
/// answer receives it without a route.
fn check_loose_ends(entries: &[RouteEntry], errors: &mut Vec<RouteError>) {
    let is_loose = |it: &&RouteEntry| it.kind == PartKind::Inbound && it.route.is_none();
    let loose = entries.iter().filter(is_loose);
    errors.extend(loose.map(|loose| RouteError::NoRoute {
        name: loose.name.clone(),
        outbound: list(entries, |it| it.kind == PartKind::Outbound),
    }));
    let routes = entries
        .iter()
        .flat_map(|it| it.route.iter().chain(&it.failures));
    let fed: HashSet<_> = routes.collect();
    let is_starved = |it: &&RouteEntry| it.kind == PartKind::Outbound && !fed.contains(&it.name);
    let starved = entries.iter().filter(is_starved);
    errors.extend(starved.map(|starved| {
        let may_feed = |it: &RouteEntry| it.kind != PartKind::Bypass && it.route.is_none();
        RouteError::NotFed {
            name: starved.name.clone(),
            loose: list(entries, |it| may_feed(it) && it.name != starved.name),
        }
    }));
}

/// Returns the names of the parts for which `is_listed` holds, as text.
fn list(entries: &[RouteEntry], is_listed: impl Fn(&RouteEntry) -> bool) -> String {
    let names = entries.iter().filter(|entry| is_listed(entry));
    let names: Vec<_> = names.map(|entry| format!("`{}`", entry.name)).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn find<'a>(entries: &'a [RouteEntry], name: &str) -> Option<&'a RouteEntry> {
    entries.iter().find(|entry| entry.name == name)
}

fn check_route(entries: &[RouteEntry], from: &str, to: &str) -> Option<RouteError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let outbound = || list(entries, |it| it.kind == PartKind::Outbound);
    match find(entries, &to) {
        None => Some(RouteError::NoSuchPart {
            from,
            to,
            outbound: outbound(),
        }),
        Some(entry) if entry.kind != PartKind::Outbound => Some(RouteError::NotOutbound {
            from,
            to,
            outbound: outbound(),
        }),
        Some(_) => None,
    }
}

/// Returns whether the route that starts at the part `from` leads to the part at `index`.
pub fn leads_to(entries: &[RouteEntry], from: &str, index: usize) -> bool {
    let mut next = Some(from);
    // `check` has rejected tables with cycles.
    while let Some(name) = next {
        if entries[index].name == name {
            return true;
        }
        next = find(entries, name).and_then(|entry| entry.route.as_deref());
    }
    false
}

/// Returns the names of the cycle that the routes from `start` lead into, if any; the first name is also the last.
fn find_cycle<'a>(entries: &'a [RouteEntry], start: &'a RouteEntry) -> Option<Vec<&'a str>> {
    let mut path = vec![start.name.as_str()];
    let mut next = start.route.as_deref();
    while let Some(name) = next {
        if let Some(begin) = path.iter().position(|known| *known == name) {
            let mut cycle = path[begin..].to_vec();
            cycle.push(name);
            return Some(cycle);
        }
        path.push(name);
        next = find(entries, name).and_then(|entry| entry.route.as_deref());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts are separated by commas: `in a > b` is an inbound part with a route, `in a > b ! c` one with a route for
    /// failures, `out b` an outbound part, `by c` a bypass, and `cache d` a cache service.
    fn check_table(table: &str, expected: Result<(), &str>) {
        let entry = |line: &str| {
            let (kind, rest) = line.trim().split_once(' ').unwrap();
            let (rest, failures) = match rest.split_once(" ! ") {
                Some((rest, failures)) => (rest, Some(failures.to_owned())),
                None => (rest, None),
            };
            let (name, route) = match rest.split_once(" > ") {
                Some((name, route)) => (name, Some(route.to_owned())),
                None => (rest, None),
            };
            RouteEntry {
                name: name.to_owned(),
                kind: match kind {
                    "in" => PartKind::Inbound,
                    "out" => PartKind::Outbound,
                    _ => PartKind::Bypass,
                },
                is_cache: kind == "cache",
                route,
                failures,
            }
        };
        let entries: Vec<_> = table.split(',').map(entry).collect();
        let errors: Vec<_> = check(&entries).iter().map(RouteError::to_string).collect();
        assert_eq!(errors.join("\n"), expected.err().unwrap_or_default());
    }

    #[test]
    fn routes_to_missing_parts_and_cycles_are_rejected() {
        check_table(
            "in Pull > Executor, out Executor > Pub, out Pub, by Cache",
            Ok(()),
        );
        check_table("in Pull > Push ! Pub, out Push, out Pub", Ok(()));
        check_table("by Rep, by Clock", Ok(()));
        check_table("in Rep > Handler, out Handler, cache Cache", Ok(()));
        check_table(
            "in a > b ! c, out b",
            Err("`a` is routed to `c`, which is not registered; outbound parts: `b`"),
        );
        check_table(
            "in a > b, in a > b, out b",
            Err("two parts are called `a`: give each a name of its own"),
        );
        check_table(
            "in a > x, out b, out c",
            Err("`a` is routed to `x`, which is not registered; outbound parts: `b`, `c`"),
        );
        check_table(
            "in a > c, by c",
            Err("`a` is routed to `c`, which is not an outbound part; outbound parts: none"),
        );
        check_table(
            "in a > b, out b > c, out c > b",
            Err("the routes form a cycle: b → c → b"),
        );
        check_table("out b > b", Err("the routes form a cycle: b → b"));
    }

    #[test]
    fn parts_without_an_incoming_or_outgoing_route_are_rejected() {
        check_table(
            "in Pull, in Rep > Pub, out Pub",
            Err("`Pull` has no route, so its messages would be lost; outbound parts: `Pub`"),
        );
        check_table(
            "in Pull > Handler, out Handler, out Pub",
            Err(
                "no route leads to `Pub`, so it would receive nothing; parts without a route: `Handler`",
            ),
        );
        check_table(
            "out Pub",
            Err(
                "no route leads to `Pub`, so it would receive nothing; parts without a route: none",
            ),
        );
        check_table("in Pull > Push, out Push ! Pub, out Pub", Ok(()));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        check_table(
            "in a > x, out b > c, out c > b, in d ! a, out c, cache e, cache f",
            Err("two parts are called `c`: give each a name of its own\n\
                `a` is routed to `x`, which is not registered; outbound parts: `b`, `c`, `c`\n\
                `d` is routed to `a`, which is not an outbound part; outbound parts: `b`, `c`, `c`\n\
                the routes form a cycle: b → c → b\n\
                `e` and `f` are both a cache service: a component has one, so remove the other"),
        );
        check_table(
            "in a, in b > c, out c, out d",
            Err(
                "`a` has no route, so its messages would be lost; outbound parts: `c`, `d`\n\
                no route leads to `d`, so it would receive nothing; parts without a route: `a`, `c`",
            ),
        );
    }

    #[test]
    fn a_second_cache_service_is_rejected() {
        check_table(
            "cache One, by Clock, cache Two",
            Err(
                "`One` and `Two` are both a cache service: a component has one, so remove the other",
            ),
        );
    }
}
