//! Who is behind whom in a cluster: every rule of it, as a plain function of what was written.

use crate::component::{ComponentKind, StartError};

/// One component, as far as its place is concerned.
#[derive(Debug)]
pub(super) struct TopologyMember {
    pub(super) name: String,
    pub(super) kind: ComponentKind,
    /// Whom it was told to be behind; empty for the default of its kind.
    pub(super) behind: Vec<String>,
    /// Whether its options say whom it follows, outside of the cluster.
    pub(super) follows_others: bool,
}

impl TopologyMember {
    fn is_worker(&self) -> bool {
        matches!(self.kind, ComponentKind::Worker | ComponentKind::MuxWorker)
    }

    /// Whether clients call it.
    pub(super) fn is_entry_point(&self) -> bool {
        matches!(self.kind, ComponentKind::Server | ComponentKind::Master)
    }

    fn has_workers(&self) -> bool {
        matches!(self.kind, ComponentKind::Master | ComponentKind::Hub)
    }

    fn error(&self, problem: impl Into<String>) -> StartError {
        StartError::Option {
            component: self.name.clone(),
            problem: problem.into(),
        }
    }
}

/// Who is behind whom, by number.
#[derive(Debug)]
pub(super) struct Topology {
    /// Whom each member follows; of a worker, its master.
    pub(super) behind: Vec<Vec<usize>>,
    /// Whether another component follows it. Workers do not.
    is_followed: Vec<bool>,
}

impl Topology {
    pub(super) fn of(members: &[TopologyMember]) -> Result<Self, StartError> {
        let mut topology = Self {
            behind: Vec::new(),
            is_followed: vec![false; members.len()],
        };
        if !members.iter().any(TopologyMember::is_entry_point) {
            return Err(StartError::Option {
                component: "cluster".to_owned(),
                problem: "there is neither a server nor a master in it that a client could call"
                    .to_owned(),
            });
        }
        for (number, member) in members.iter().enumerate() {
            let behind = topology.place(member, &members[..number])?;
            if !member.is_worker() {
                for &before in &behind {
                    topology.is_followed[before] = true;
                }
            }
            topology.behind.push(behind);
        }
        Ok(topology)
    }

    fn place(
        &self,
        member: &TopologyMember,
        before: &[TopologyMember],
    ) -> Result<Vec<usize>, StartError> {
        if member.behind.is_empty() {
            return self.default_place(member, before);
        }
        let kind = member.kind;
        if member.is_entry_point() || member.follows_others {
            let problem = match member.is_entry_point() {
                true => format!("a {kind} is behind nobody"),
                false => "its options say already whom it follows".to_owned(),
            };
            return Err(member.error(problem));
        }
        if kind != ComponentKind::Sink && member.behind.len() > 1 {
            return Err(member.error(format!("a {kind} is behind one component, not several")));
        }
        let find = |name: &String| {
            let found = before.iter().position(|other| other.name == *name);
            match found {
                None => Err(member.error(format!("there is no `{name}` before it"))),
                Some(found) if member.is_worker() && !before[found].has_workers() => Err(member
                    .error(format!(
                        "`{name}` has no workers: it is a {}",
                        before[found].kind
                    ))),
                Some(found) if before[found].is_worker() => {
                    Err(member.error(format!("nobody follows a worker, as `{name}` is")))
                }
                Some(found) => Ok(found),
            }
        };
        member.behind.iter().map(find).collect()
    }

    fn default_place(
        &self,
        member: &TopologyMember,
        before: &[TopologyMember],
    ) -> Result<Vec<usize>, StartError> {
        if member.is_entry_point() || member.follows_others {
            return Ok(Vec::new());
        }
        let kind = member.kind;
        let last = |is_meant: fn(&TopologyMember) -> bool| {
            let last = before.iter().rposition(is_meant);
            last.into_iter().collect::<Vec<_>>()
        };
        let (behind, needs) = match kind {
            ComponentKind::Worker | ComponentKind::MuxWorker => {
                (last(TopologyMember::has_workers), "a master or hub")
            }
            ComponentKind::Sink => {
                let is_open =
                    |&other: &usize| !before[other].is_worker() && !self.is_followed[other];
                (
                    (0..before.len()).filter(is_open).collect(),
                    "a component that nobody follows",
                )
            }
            _ => (last(|other| !other.is_worker()), "a component"),
        };
        if behind.is_empty() {
            return Err(member.error(format!("a {kind} needs {needs} before it in the cluster")));
        }
        Ok(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind name behind..` for each member; `expected` has the numbers of those that each is behind.
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
                behind: words.collect(),
                follows_others: false,
            }
        };
        let members: Vec<_> = members.iter().map(member).collect();
        match (Topology::of(&members), expected) {
            (Ok(topology), Ok(behind)) => assert_eq!(topology.behind, behind),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (topology, _) => panic!("{topology:?} in the place of {expected:?}"),
        }
    }

    #[test]
    fn each_is_behind_those_before_it() {
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
    fn streams_part_and_meet_where_it_is_said() {
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
    fn what_has_no_place_is_refused() {
        let nobody = "cannot start `cluster`: there is neither a server nor a master in it that a client could call";
        check(&[], Err(nobody));
        check(&["pipeline a"], Err(nobody));
        check(
            &["pipeline a", "server b"],
            Err("cannot start `a`: a pipeline needs a component before it in the cluster"),
        );
        check(
            &["server a", "worker w"],
            Err("cannot start `w`: a worker needs a master or hub before it in the cluster"),
        );
        check(
            &["server a", "worker w a"],
            Err("cannot start `w`: `a` has no workers: it is a server"),
        );
        check(
            &["master a", "worker w", "pipeline b w"],
            Err("cannot start `b`: nobody follows a worker, as `w` is"),
        );
        check(
            &["server a", "pipeline b c", "pipeline c"],
            Err("cannot start `b`: there is no `c` before it"),
        );
        check(
            &["server a", "server b a"],
            Err("cannot start `b`: a server is behind nobody"),
        );
        check(
            &["server a", "server b", "pipeline c a b"],
            Err("cannot start `c`: a pipeline is behind one component, not several"),
        );
    }
}
