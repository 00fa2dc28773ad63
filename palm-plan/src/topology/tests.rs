use super::*;

/// `kind name upstream..` for each member; `expected` has the indices of the upstream components of each.
fn check(members: &[&str], expected: Result<&[&[usize]], &str>) {
    let member = |text: &&str| {
        let mut words = text.split(' ').map(str::to_owned);
        Member {
            kind: words.next().unwrap().parse().unwrap(),
            name: words.next().unwrap(),
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
    let no_entry_point =
        "`cluster`: it has neither a server nor a master, so no client could call it";
    check(&[], Err(no_entry_point));
    check(&["pipeline a"], Err(no_entry_point));
    check(
        &["pipeline a", "server b"],
        Err("`a`: a pipeline needs a component, added before it"),
    );
    check(
        &["server a", "worker w"],
        Err("`w`: a worker needs a master or hub, added before it"),
    );
    check(
        &["server a", "worker w a"],
        Err("`w`: `a` has no workers: it is a server"),
    );
    check(
        &["master a", "worker w", "pipeline b w"],
        Err("`b`: `w` is a worker, which no component follows"),
    );
    check(
        &["server a", "pipeline b c", "pipeline c"],
        Err("`b`: no component called `c` was added before it"),
    );
    check(
        &["server a", "server b a"],
        Err("`b`: a server has no upstream component"),
    );
    check(
        &["server a", "server b", "pipeline c a b"],
        Err("`c`: a pipeline has one upstream component, not several"),
    );
}

#[test]
fn find_cycle_returns_a_path_that_ends_where_it_begins() {
    assert_eq!(find_cycle(&[vec![1, 2], vec![2], vec![]]), None);
    assert_eq!(
        find_cycle(&[vec![1], vec![2], vec![1]]),
        Some(vec![1, 2, 1])
    );
    assert_eq!(find_cycle(&[vec![0]]), Some(vec![0, 0]));
    assert_eq!(
        find_cycle(&[vec![], vec![0], vec![3], vec![1, 2]]),
        Some(vec![2, 3, 2])
    );
}

#[test]
fn heights_are_the_lengths_of_the_longest_paths() {
    assert_eq!(
        heights(&[vec![1, 3], vec![2], vec![3], vec![]]),
        [3, 2, 1, 0]
    );
    assert_eq!(heights(&[vec![], vec![0]]), [0, 1]);
}

#[test]
fn only_sinks_have_several_upstream_components_and_entry_points_have_none() {
    for kind in Kind::ALL {
        let has_upstream = Kind::ALL
            .iter()
            .any(|&other| check_edge(kind, other).is_ok());
        assert_eq!(max_upstream(kind) > 0, has_upstream, "{kind}");
    }
    assert_eq!(
        check_edge(Kind::Worker, Kind::Server),
        Err(EdgeProblem::NoWorkers(Kind::Server))
    );
    assert_eq!(
        check_edge(Kind::Sink, Kind::Job),
        Err(EdgeProblem::PublishesNothing(Kind::Job))
    );
}
