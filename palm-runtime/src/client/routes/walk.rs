//! [`walk`] decides which components run the last step of a call. No I/O.

use futures_core::future::BoxFuture;
use futures_util::future::join_all;

use crate::message::proto::Descriptor;
use crate::socket::Address;

/// Most components with the same name in one step.
const MAX_SAME: usize = 16;

/// Walks from the component at `start`, which runs the first step, to the components that run the last one. `names`:
/// the component of each step.
pub(super) async fn walk<'a>(
    start: Address,
    names: &[&str],
    fetch: impl Fn(Address) -> BoxFuture<'a, Option<Descriptor>>,
) -> Result<Vec<Address>, String> {
    let mut level = vec![start];
    let mut before = names.first().copied().unwrap_or_default().to_owned();
    for (number, name) in names.iter().enumerate().skip(1) {
        let descriptors = join_all(level.iter().cloned().map(&fetch)).await;
        let answers = level.iter().zip(&descriptors);
        let answers: Vec<_> = answers
            .filter_map(|(address, descriptor)| Some((address, descriptor.as_ref()?)))
            .collect();
        if answers.is_empty() {
            return Err(format!("`{before}` does not answer"));
        }
        // palm components publish their version.
        if answers
            .iter()
            .all(|(_, descriptor)| descriptor.version.is_empty())
        {
            return Err(unlisted(&before));
        }
        let next = followers(&answers, name);
        if next.is_empty() {
            let position = number + 1;
            let followers = answers
                .iter()
                .flat_map(|(_, descriptor)| &descriptor.followers);
            let mut others: Vec<_> = followers
                .map(|follower| format!("`{}`", follower.name))
                .take(MAX_SAME)
                .collect();
            others.sort_unstable();
            others.dedup();
            let others = match others.is_empty() {
                true => "nothing follows it".to_owned(),
                false => format!("only {} do", others.join(", ")),
            };
            return Err(format!(
                "no component `{name}` follows `{before}` for step {position} ({others}): start it with `.follow(..)`; if it follows without a link, as a legacy peer does, name the last component by `.answered_by(..)` or `.sub_address(..)`"
            ));
        }
        level = next;
        before = (*name).to_owned();
    }
    Ok(level)
}

/// Returns the addresses of the followers called `name` of these components, each once.
fn followers(components: &[(&Address, &Descriptor)], name: &str) -> Vec<Address> {
    let mut found = Vec::new();
    for (publisher, descriptor) in components {
        let followers = descriptor.followers.iter();
        for follower in followers.filter(|follower| follower.name == name) {
            if let Ok(address) = follower.db_address.parse::<Address>() {
                let address = address.as_published_by(publisher);
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            if found.len() == MAX_SAME {
                return found;
            }
        }
    }
    found
}

pub(super) fn unlisted(name: &str) -> String {
    format!(
        "`{name}` does not list the components that follow it, since it is a legacy peer, or links are disabled: name the last component by `.answered_by(..)` or `.sub_address(..)`"
    )
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::FutureExt;

    use super::*;
    use crate::message::proto::Follower;

    /// Asserts what `walk` finds from port 1. `components`: the port, name, and followers' ports of each.
    fn check(components: &[(u16, &str, &[u16])], names: &[&str], expected: Result<&[u16], &str>) {
        let address = |port: u16| -> Address {
            format!("tcp://127.0.0.1:{port}")
                .parse()
                .expect("an address")
        };
        let name = |port: u16| {
            let found = components.iter().find(|(at, ..)| *at == port);
            found.map_or("gone", |(_, name, _)| name).to_owned()
        };
        let fetch = |at: Address| {
            let mut components = components.iter();
            let Some((_, name_of, followers)) = components.find(|it| address(it.0) == at) else {
                return ready(None).boxed();
            };
            let follower = |&port: &u16| Follower {
                name: name(port),
                db_address: address(port).to_string(),
                topics: Vec::new(),
            };
            let descriptor = Descriptor {
                version: match *name_of {
                    "legacy" => String::new(),
                    _ => "0.1.0".to_owned(),
                },
                followers: followers.iter().map(follower).collect(),
                ..Descriptor::default()
            };
            ready(Some(descriptor)).boxed()
        };
        let found = walk(address(1), names, fetch).now_or_never();
        let found = found.expect("it waits for nothing");
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(
                    found,
                    expected.iter().copied().map(address).collect::<Vec<_>>()
                );
            }
            (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn walk_follows_the_names_of_the_steps() {
        let line: &[(u16, &str, &[u16])] = &[
            (1, "a", &[2, 4]),
            (2, "b", &[3]),
            (3, "c", &[]),
            (4, "d", &[]),
        ];
        check(line, &["a", "b"], Ok(&[2]));
        check(line, &["a", "b", "c"], Ok(&[3]));
        check(line, &["a", "d"], Ok(&[4]));
    }

    #[test]
    fn walk_finds_all_components_of_the_last_name() {
        let fork: &[(u16, &str, &[u16])] = &[
            (1, "a", &[2, 3, 9]),
            (2, "b", &[4]),
            (3, "b", &[4, 5]),
            (4, "c", &[]),
            (5, "c", &[]),
        ];
        check(fork, &["a", "b"], Ok(&[2, 3]));
        check(fork, &["a", "b", "c"], Ok(&[4, 5]));
    }

    #[test]
    fn walk_names_the_step_that_has_no_component() {
        let line: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "b", &[])];
        check(
            line,
            &["a", "c"],
            Err("no component `c` follows `a` for step 2 (only `b` do)"),
        );
        check(
            line,
            &["a", "b", "c"],
            Err("no component `c` follows `b` for step 3 (nothing follows it)"),
        );
        check(
            &[(1, "a", &[2])],
            &["a", "gone", "c"],
            Err("`gone` does not answer"),
        );
        check(
            &[(1, "legacy", &[])],
            &["legacy", "b"],
            Err("`.sub_address(..)`"),
        );
        let behind: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "legacy", &[])];
        check(behind, &["a", "legacy", "c"], Err("`legacy` does not list"));
    }

    #[test]
    fn walk_ends_on_a_cycle_of_components() {
        let circle: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "b", &[1])];
        check(circle, &["a", "b", "a", "b"], Ok(&[2]));
    }

    #[test]
    fn followers_without_an_address_are_skipped() {
        let publisher: Address = "tcp://10.0.0.1:5555".parse().expect("an address");
        let follower = |db_address: &str| Follower {
            name: "b".to_owned(),
            db_address: db_address.to_owned(),
            topics: Vec::new(),
        };
        let descriptor = Descriptor {
            followers: vec![
                follower(""),
                follower("nonsense"),
                follower("tcp://0.0.0.0:7"),
            ],
            ..Descriptor::default()
        };
        let found = followers(&[(&publisher, &descriptor)], "b");
        let expected: Address = "tcp://10.0.0.1:7".parse().expect("an address");
        assert_eq!(found, [expected]);
        let many = Descriptor {
            followers: (1..100)
                .map(|port| follower(&format!("tcp://10.0.0.1:{port}")))
                .collect(),
            ..Descriptor::default()
        };
        assert_eq!(followers(&[(&publisher, &many)], "b").len(), MAX_SAME);
    }
}
