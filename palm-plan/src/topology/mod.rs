//! Which component may be downstream of which others: all rules, as plain functions of kinds and indices.
//!
//! They hold for the file of a cluster and for `palm::testing::Cluster`, whose members are connected by default to those
//! that were added before: [`Topology`].

use std::fmt;

use crate::kind::Kind;

/// Why a component cannot be downstream of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EdgeProblem {
    /// A component of this kind has no upstream component.
    NoUpstream(Kind),
    /// The other component, of this kind, has no workers.
    NoWorkers(Kind),
    /// The other component is a worker, whose results its master publishes.
    Worker,
    /// The other component, of this kind, publishes nothing.
    PublishesNothing(Kind),
}

/// Checks that a component may follow another one, or a worker be connected to it.
///
/// # Errors
///
/// Why it may not.
pub fn check_edge(downstream: Kind, upstream: Kind) -> Result<(), EdgeProblem> {
    let is_worker = downstream == Kind::Worker;
    match upstream {
        _ if !is_worker && !downstream.is_step() => Err(EdgeProblem::NoUpstream(downstream)),
        _ if is_worker && !upstream.has_workers() => Err(EdgeProblem::NoWorkers(upstream)),
        Kind::Worker => Err(EdgeProblem::Worker),
        _ if !upstream.binds() => Err(EdgeProblem::PublishesNothing(upstream)),
        _ => Ok(()),
    }
}

/// Returns how many upstream components a component of this kind may have.
pub fn max_upstream(kind: Kind) -> usize {
    match kind {
        Kind::Sink => usize::MAX,
        Kind::Pipeline | Kind::Hub | Kind::Worker => 1,
        _ => 0,
    }
}

/// Returns the indices of a path that ends where it begins, if there is one. `edges` are the indices that each index
/// leads to.
pub fn find_cycle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    // Depth-first search: an index that is on the path is on a cycle, and one that was left is on none.
    let mut is_done = vec![false; edges.len()];
    for begin in 0..edges.len() {
        let mut path = vec![(begin, 0)];
        while let Some((index, next)) = path.last_mut() {
            let index = *index;
            let target = edges[index].get(*next).copied();
            *next += 1;
            match target {
                _ if is_done[index] => {
                    path.pop();
                }
                None => {
                    is_done[index] = true;
                    path.pop();
                }
                Some(target) => match path.iter().position(|(on_path, _)| *on_path == target) {
                    Some(position) => {
                        let cycle = path[position..].iter().map(|(index, _)| *index);
                        return Some(cycle.chain([target]).collect());
                    }
                    None => path.push((target, 0)),
                },
            }
        }
    }
    None
}

/// Returns the length of the longest path from each index, with 0 for one that leads nowhere. There has to be no cycle.
pub fn heights(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut heights = vec![0; edges.len()];
    // Without a cycle no path is longer than the number of indices, so the heights are final after as many rounds.
    for _ in 0..edges.len() {
        let mut is_final = true;
        for (index, targets) in edges.iter().enumerate() {
            let height = targets.iter().map(|&target| heights[target] + 1).max();
            let height = height.unwrap_or(0);
            is_final &= heights[index] == height;
            heights[index] = height;
        }
        if is_final {
            break;
        }
    }
    heights
}

/// The properties of a member of a cluster that determine its place.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name of the component.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The names of its upstream components as set by the user; empty for the default of its kind.
    pub upstream: Vec<String>,
    /// Whether its options name the component that it follows, which is not part of the cluster.
    pub follows_others: bool,
}

/// Why the members do not form a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// The name of the member, or `cluster`.
    pub component: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.component, self.problem)
    }
}

impl std::error::Error for TopologyError {}

impl Member {
    fn error(&self, problem: impl Into<String>) -> TopologyError {
        TopologyError {
            component: self.name.clone(),
            problem: problem.into(),
        }
    }
}

/// The upstream components of each member, by index. A member is connected to members that were added before it.
#[derive(Debug)]
pub struct Topology {
    /// The components that each member follows; for a worker, its master.
    pub upstream: Vec<Vec<usize>>,
    /// Whether another component, other than a worker, follows the member.
    has_subscriber: Vec<bool>,
}

impl Topology {
    /// Connects the members.
    ///
    /// # Errors
    ///
    /// The first member that cannot be connected, and why.
    pub fn new(members: &[Member]) -> Result<Self, TopologyError> {
        let mut topology = Self {
            upstream: Vec::new(),
            has_subscriber: vec![false; members.len()],
        };
        if !members.iter().any(|member| member.kind.is_entry_point()) {
            return Err(TopologyError {
                component: "cluster".to_owned(),
                problem: "it has neither a server nor a master, so no client could call it"
                    .to_owned(),
            });
        }
        for (number, member) in members.iter().enumerate() {
            let upstream = topology.upstream_of(member, &members[..number])?;
            if member.kind != Kind::Worker {
                for &before in &upstream {
                    topology.has_subscriber[before] = true;
                }
            }
            topology.upstream.push(upstream);
        }
        Ok(topology)
    }

    fn upstream_of(&self, member: &Member, before: &[Member]) -> Result<Vec<usize>, TopologyError> {
        if member.upstream.is_empty() {
            return self.default_upstream(member, before);
        }
        let kind = member.kind;
        if member.follows_others {
            return Err(member.error("its options already name the component that it follows"));
        }
        if kind.is_entry_point() {
            return Err(member.error(edge_problem("", EdgeProblem::NoUpstream(kind))));
        }
        if member.upstream.len() > max_upstream(kind) {
            return Err(member.error(format!("a {kind} has one upstream component, not several")));
        }
        let find = |name: &String| {
            let Some(found) = before.iter().position(|other| other.name == *name) else {
                return Err(
                    member.error(format!("no component called `{name}` was added before it"))
                );
            };
            match check_edge(kind, before[found].kind) {
                Ok(()) => Ok(found),
                Err(problem) => Err(member.error(edge_problem(name, problem))),
            }
        };
        member.upstream.iter().map(find).collect()
    }

    fn default_upstream(
        &self,
        member: &Member,
        before: &[Member],
    ) -> Result<Vec<usize>, TopologyError> {
        let kind = member.kind;
        if max_upstream(kind) == 0 || member.follows_others {
            return Ok(Vec::new());
        }
        let fits = |other: &Member| check_edge(kind, other.kind).is_ok();
        let last = before.iter().rposition(fits);
        let (upstream, needs) = match kind {
            Kind::Worker => (last.into_iter().collect(), "a master or hub"),
            Kind::Sink => {
                let is_open = |&other: &usize| fits(&before[other]) && !self.has_subscriber[other];
                let open = (0..before.len()).filter(is_open);
                (open.collect::<Vec<_>>(), "a component without followers")
            }
            _ => (last.into_iter().collect(), "a component"),
        };
        if upstream.is_empty() {
            return Err(member.error(format!("a {kind} needs {needs}, added before it")));
        }
        Ok(upstream)
    }
}

/// Returns why a component cannot be downstream of the one with this name, as a text.
pub fn edge_problem(upstream: &str, problem: EdgeProblem) -> String {
    match problem {
        EdgeProblem::NoUpstream(kind) => format!("a {kind} has no upstream component"),
        EdgeProblem::NoWorkers(kind) => format!("`{upstream}` has no workers: it is a {kind}"),
        EdgeProblem::Worker => format!("`{upstream}` is a worker, which no component follows"),
        EdgeProblem::PublishesNothing(kind) => {
            format!(
                "`{upstream}` is a {kind}, which publishes nothing that a component could follow"
            )
        }
    }
}

#[cfg(test)]
mod tests;
