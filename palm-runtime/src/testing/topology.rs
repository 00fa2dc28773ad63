//! Which component of a cluster is downstream of which others: all rules, as plain functions of the members.

use crate::component_error::StartError;
use crate::component_kind::ComponentKind;

/// The properties of a component that determine the topology.
#[derive(Debug)]
pub(super) struct TopologyMember {
    pub(super) name: String,
    pub(super) kind: ComponentKind,
    /// The names of its upstream components as set by the user; empty for the default of its kind.
    pub(super) upstream: Vec<String>,
    /// Whether its options name the component that it follows, which is not part of the cluster.
    pub(super) follows_others: bool,
}

impl TopologyMember {
    fn is_worker(&self) -> bool {
        matches!(self.kind, ComponentKind::Worker | ComponentKind::MuxWorker)
    }

    /// Returns whether clients call it.
    pub(super) fn is_entry_point(&self) -> bool {
        matches!(self.kind, ComponentKind::Server | ComponentKind::Master)
    }

    fn has_workers(&self) -> bool {
        matches!(self.kind, ComponentKind::Master | ComponentKind::Hub)
    }

    fn error(&self, problem: impl Into<String>) -> StartError {
        StartError::Topology {
            component: self.name.clone(),
            problem: problem.into(),
        }
    }
}

/// The upstream components of each member, by index.
#[derive(Debug)]
pub(super) struct Topology {
    /// The components that each member follows; for a worker, its master.
    pub(super) upstream: Vec<Vec<usize>>,
    /// Whether another component, other than a worker, follows the member.
    has_subscriber: Vec<bool>,
}

impl Topology {
    pub(super) fn new(members: &[TopologyMember]) -> Result<Self, StartError> {
        let mut topology = Self {
            upstream: Vec::new(),
            has_subscriber: vec![false; members.len()],
        };
        if !members.iter().any(TopologyMember::is_entry_point) {
            return Err(StartError::Topology {
                component: "cluster".to_owned(),
                problem: "it has neither a server nor a master, so no client could call it"
                    .to_owned(),
            });
        }
        for (number, member) in members.iter().enumerate() {
            let upstream = topology.upstream_of(member, &members[..number])?;
            if !member.is_worker() {
                for &before in &upstream {
                    topology.has_subscriber[before] = true;
                }
            }
            topology.upstream.push(upstream);
        }
        Ok(topology)
    }

    fn upstream_of(
        &self,
        member: &TopologyMember,
        before: &[TopologyMember],
    ) -> Result<Vec<usize>, StartError> {
        if member.upstream.is_empty() {
            return self.default_upstream(member, before);
        }
        let kind = member.kind;
        if member.is_entry_point() || member.follows_others {
            let problem = match member.is_entry_point() {
                true => format!("a {kind} has no upstream component"),
                false => "its options already name the component that it follows".to_owned(),
            };
            return Err(member.error(problem));
        }
        if kind != ComponentKind::Sink && member.upstream.len() > 1 {
            return Err(member.error(format!("a {kind} has one upstream component, not several")));
        }
        let find = |name: &String| {
            let found = before.iter().position(|other| other.name == *name);
            match found {
                None => {
                    Err(member.error(format!("no component called `{name}` was added before it")))
                }
                Some(found) if member.is_worker() && !before[found].has_workers() => Err(member
                    .error(format!(
                        "`{name}` has no workers: it is a {}",
                        before[found].kind
                    ))),
                Some(found) if before[found].is_worker() => {
                    Err(member.error(format!("`{name}` is a worker, which no component follows")))
                }
                Some(found) => Ok(found),
            }
        };
        member.upstream.iter().map(find).collect()
    }

    fn default_upstream(
        &self,
        member: &TopologyMember,
        before: &[TopologyMember],
    ) -> Result<Vec<usize>, StartError> {
        if member.is_entry_point() || member.follows_others {
            return Ok(Vec::new());
        }
        let kind = member.kind;
        let last = |is_fitting: fn(&TopologyMember) -> bool| {
            let last = before.iter().rposition(is_fitting);
            last.into_iter().collect::<Vec<_>>()
        };
        let (upstream, needs) = match kind {
            ComponentKind::Worker | ComponentKind::MuxWorker => {
                (last(TopologyMember::has_workers), "a master or hub")
            }
            ComponentKind::Sink => {
                let is_open =
                    |&other: &usize| !before[other].is_worker() && !self.has_subscriber[other];
                (
                    (0..before.len()).filter(is_open).collect(),
                    "a component without followers",
                )
            }
            _ => (last(|other| !other.is_worker()), "a component"),
        };
        if upstream.is_empty() {
            return Err(member.error(format!("a {kind} needs {needs}, added before it")));
        }
        Ok(upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind name upstream..` for each member; `expected` has the indices of the upstream components of each.
    fn check(members: &[&str], expected: Result<&[&[usize]], &str>) {
        let member = |text: &&str| {
            let mut words = text.split(' ').map(str::to_owned);
            let kind = match &*words.next().unwrap() {
                "server" => ComponentKind::Server,
                "pipeline" => ComponentKind::Pipeline,
                "sink" => ComponentKind::Sink,
                "master" => ComponentKind::Master,
                "hub" => ComponentKind::Hub,
                _ => ComponentKind::Worker,
            };
            TopologyMember {
                name: words.next().unwrap(),
                kind,
                upstream: words.collect(),
                follows_others: false,
            }
        };
        let members: Vec<_> = members.iter().map(member).collect();
        match (Topology::new(&members), expected) {
            (Ok(topology), Ok(upstream)) => assert_eq!(topology.upstream, upstream),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (topology, _) => panic!("{topology:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn default_upstream_is_the_last_component_of_a_fitting_kind() {
        check(&["server a"], Ok(&[&[]]));
        check(
            &["server a", "pipeline b", "pipeline c"],
            Ok(&[&[], &[0], &[1]]),
        );
        check(
            &[
                "master a",
                "worker w",
                "worker v",
                "hub b",
                "worker u",
                "pipeline c",
            ],
            Ok(&[&[], &[0], &[0], &[0], &[3], &[3]]),
        );
        check(
            &["server a", "server b", "sink c"],
            Ok(&[&[], &[], &[0, 1]]),
        );
        check(
            &["server a", "pipeline b", "sink c"],
            Ok(&[&[], &[0], &[1]]),
        );
        check(&["server a", "server b"], Ok(&[&[], &[]]));
    }

    #[test]
    fn streams_fork_and_join_at_named_components() {
        check(
            &["server a", "pipeline b", "pipeline c a", "sink d"],
            Ok(&[&[], &[0], &[0], &[1, 2]]),
        );
        check(
            &[
                "server a",
                "pipeline b",
                "pipeline c a",
                "sink d c",
                "sink e",
            ],
            Ok(&[&[], &[0], &[0], &[2], &[1, 3]]),
        );
        check(&["master a", "hub b", "worker w a"], Ok(&[&[], &[0], &[0]]));
    }

    #[test]
    fn members_without_a_fitting_upstream_are_rejected() {
        let no_entry_point = "cannot start `cluster`: it has neither a server nor a master, so no client could call it";
        check(&[], Err(no_entry_point));
        check(&["pipeline a"], Err(no_entry_point));
        check(
            &["pipeline a", "server b"],
            Err("cannot start `a`: a pipeline needs a component, added before it"),
        );
        check(
            &["server a", "worker w"],
            Err("cannot start `w`: a worker needs a master or hub, added before it"),
        );
        check(
            &["server a", "worker w a"],
            Err("cannot start `w`: `a` has no workers: it is a server"),
        );
        check(
            &["master a", "worker w", "pipeline b w"],
            Err("cannot start `b`: `w` is a worker, which no component follows"),
        );
        check(
            &["server a", "pipeline b c", "pipeline c"],
            Err("cannot start `b`: no component called `c` was added before it"),
        );
        check(
            &["server a", "server b a"],
            Err("cannot start `b`: a server has no upstream component"),
        );
        check(
            &["server a", "server b", "pipeline c a b"],
            Err("cannot start `c`: a pipeline has one upstream component, not several"),
        );
    }
}
