//! [`PeerGroup`]: the peers of a component that share a series.

use std::collections::BTreeMap;

use super::shortened;
use crate::report::{Edge, Report, Role};

/// The most peers of each role of a component that have series of their own.
const MAX_PEERS: usize = 100;

/// The label of all further peers, and of those without a lasting name.
const OTHER: &str = "other";

/// A peer with a lasting name, or all others of its role.
#[derive(Default)]
pub(super) struct PeerGroup {
    /// The newest session of a peer with a lasting name. Only its counters never decrease while it lasts.
    pub(super) single: Option<Edge>,
    /// Messages and bytes.
    pub(super) waiting: (u64, u64),
    pub(super) unread: u64,
}

/// Returns the peers by role and label.
pub(super) fn peer_groups(report: &Report) -> BTreeMap<(Role, &str), PeerGroup> {
    let mut groups = BTreeMap::<_, PeerGroup>::new();
    let mut named = BTreeMap::<Role, usize>::new();
    for edge in &report.edges {
        let label = lasting_name(edge).filter(|name| {
            groups.contains_key(&(edge.role, *name)) || {
                let named = named.entry(edge.role).or_default();
                *named += 1;
                *named <= MAX_PEERS
            }
        });
        let group = groups
            .entry((edge.role, label.unwrap_or(OTHER)))
            .or_default();
        group.waiting.0 += edge.waiting.messages;
        group.waiting.1 += edge.waiting.bytes;
        group.unread += edge.unread.messages;
        let is_newest = group
            .single
            .as_ref()
            .is_none_or(|other| edge.age < other.age);
        if label.is_some() && is_newest {
            group.single = Some(edge.clone());
        }
    }
    groups
}

/// Returns the name of a peer that keeps it when it connects again. Each client has a new one.
fn lasting_name(edge: &Edge) -> Option<&str> {
    let is_component = !edge.db_address.is_empty();
    let has_name =
        matches!(edge.role, Role::Worker | Role::Upstream | Role::Master) || is_component;
    let mut names = [&*edge.name, &*edge.db_address].into_iter().map(shortened);
    names.find(|name| has_name && !name.is_empty() && *name != OTHER)
}
