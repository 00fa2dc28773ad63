//! Which topics the subscribers of a publisher have asked for. No I/O.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

/// What happened to the subscriptions of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// A subscriber asked for all topics that begin with this; from now on it gets them.
    Added(Bytes),
    /// A subscriber gave this up, or went away.
    Removed(Bytes),
}

/// The subscriptions of all subscribers. ZeroMQ matches topics by prefix.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    prefixes: HashMap<Bytes, usize>,
    /// How many prefixes there are of each length, so that a look-up tries no other lengths.
    lens: BTreeMap<usize, usize>,
    peers: HashMap<u64, Vec<Bytes>>,
}

impl Subscriptions {
    pub(super) fn matches(&self, topic: &[u8]) -> bool {
        self.lens
            .range(..=topic.len())
            .any(|(&len, _)| self.prefixes.contains_key(&topic[..len]))
    }

    pub(super) fn add(&mut self, peer: u64, prefix: Bytes) {
        let count = self.prefixes.entry(prefix.clone()).or_default();
        if *count == 0 {
            *self.lens.entry(prefix.len()).or_default() += 1;
        }
        *count += 1;
        self.peers.entry(peer).or_default().push(prefix);
    }

    pub(super) fn remove(&mut self, peer: u64, prefix: &[u8]) {
        let Some(prefixes) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Some(position) = prefixes.iter().position(|known| known == prefix) {
            let prefix = prefixes.swap_remove(position);
            self.forget(&prefix);
        }
    }

    /// Forgets a peer that went away, and tells what it had subscribed to.
    pub(super) fn remove_peer(&mut self, peer: u64) -> Vec<Bytes> {
        let prefixes = self.peers.remove(&peer).unwrap_or_default();
        for prefix in &prefixes {
            self.forget(prefix);
        }
        prefixes
    }

    fn forget(&mut self, prefix: &Bytes) {
        let Some(count) = self.prefixes.get_mut(prefix) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.prefixes.remove(prefix);
        if let Some(lens) = self.lens.get_mut(&prefix.len()) {
            *lens -= 1;
            if *lens == 0 {
                self.lens.remove(&prefix.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Bytes = Bytes::from_static(b"server");

    #[test]
    fn topics_match_by_prefix() {
        let mut subscriptions = Subscriptions::default();
        assert!(!subscriptions.matches(b"server"));
        subscriptions.add(1, SERVER);
        assert!(subscriptions.matches(b"server"));
        assert!(subscriptions.matches(b"server_too"));
        assert!(!subscriptions.matches(b"serve"));
        subscriptions.add(2, Bytes::new());
        assert!(subscriptions.matches(b""));
        assert!(subscriptions.matches(b"anything"));
    }

    #[test]
    fn a_subscription_lasts_as_long_as_one_peer_has_it() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add(1, SERVER);
        subscriptions.add(1, SERVER);
        subscriptions.add(2, SERVER);
        subscriptions.remove(1, b"server");
        assert_eq!(subscriptions.remove_peer(1), [SERVER]);
        assert!(subscriptions.matches(b"server"));
        subscriptions.remove(2, b"server");
        subscriptions.remove(2, b"server");
        assert!(!subscriptions.matches(b"server"));
        assert!(subscriptions.lens.is_empty());
    }
}
