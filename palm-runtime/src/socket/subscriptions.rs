//! The subscriptions of a publisher's subscribers, without I/O.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use super::Frames;
use crate::id_map::IdMap;

/// A change of a publisher's subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionChange {
    /// A subscriber subscribed to all topics that begin with this prefix, and receives them from now on.
    Added(Bytes),
    /// A subscriber revoked its subscription to this prefix, or left.
    Removed(Bytes),
}

/// What a subscriber sends to a publisher.
#[derive(Debug, Clone)]
pub(super) enum SubscriptionRequest {
    Subscribe(Bytes),
    Cancel(Bytes),
}

impl SubscriptionRequest {
    /// Reads a message of ZMTP 3.0, which has no commands for it: one frame, whose first byte is 1 or 0.
    pub(super) fn from_message(message: &Frames) -> Option<Self> {
        match &message[..] {
            [frame] if frame.first() == Some(&1) => Some(Self::Subscribe(frame.slice(1..))),
            [frame] if frame.first() == Some(&0) => Some(Self::Cancel(frame.slice(1..))),
            _ => None,
        }
    }

    /// Undoes [`from_message`](Self::from_message).
    pub(super) fn into_message(self) -> Frames {
        let (kind, prefix) = match self {
            Self::Subscribe(prefix) => (1, prefix),
            Self::Cancel(prefix) => (0, prefix),
        };
        let frame: Bytes = std::iter::once(kind).chain(prefix).collect();
        std::iter::once(frame).collect()
    }
}

/// A change of the subscriptions of one peer, which a number identifies.
#[derive(Debug, Clone)]
pub(super) enum SubscriptionEvent {
    /// A peer subscribed to a prefix. The time is that of its connection.
    Added(u64, Bytes, Instant),
    /// A peer revoked a subscription.
    Removed(u64, Bytes),
    /// A peer left, with all of its subscriptions.
    Gone(u64),
    /// Events were lost, because they were not read in time: call `Socket::subscription_events` again.
    Missed,
}

/// A subscriber, identified by its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscriber {
    /// The number of the connection, which no later connection has.
    pub(crate) peer: u64,
    /// The time of the connection.
    pub(crate) connected: Instant,
}

/// The subscriptions of all subscribers. A subscription matches the topics that begin with its prefix.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// The subscribers of each prefix, once for each subscription.
    prefixes: HashMap<Bytes, Vec<Subscriber>>,
    /// The lengths of prefixes in ascending order, so that a lookup tries only these, and the number of prefixes of each.
    lens: Vec<(usize, usize)>,
    peers: IdMap<Vec<Bytes>>,
}

impl Subscriptions {
    fn lens_up_to(&self, limit: usize) -> impl Iterator<Item = usize> {
        let lens = self.lens.iter().map(|&(len, _)| len);
        lens.take_while(move |&len| len <= limit)
    }

    /// Returns where a length is in `lens`, or where it belongs.
    fn len_index(&self, len: usize) -> Result<usize, usize> {
        self.lens.binary_search_by_key(&len, |&(len, _)| len)
    }

    pub(super) fn matches(&self, topic: &[u8]) -> bool {
        self.lens_up_to(topic.len())
            .any(|len| self.prefixes.contains_key(&topic[..len]))
    }

    /// Returns the numbers of the subscribers of a topic, once for each subscription that matches.
    pub(super) fn subscribers(&self, topic: &[u8]) -> impl Iterator<Item = u64> {
        let prefixes = self
            .lens_up_to(topic.len())
            .filter_map(|len| self.prefixes.get(&topic[..len]));
        prefixes.flatten().map(|subscriber| subscriber.peer)
    }

    /// Returns the subscriptions of all subscribers.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Bytes, Subscriber)> {
        let subscriptions = self.prefixes.iter();
        subscriptions
            .flat_map(|(prefix, subscribers)| subscribers.iter().map(move |it| (prefix, *it)))
    }

    /// Returns the subscribers of exactly `topic`.
    pub(super) fn exact(&self, topic: &[u8]) -> &[Subscriber] {
        self.prefixes.get(topic).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, peer: u64, prefix: Bytes, connected: Instant) {
        let subscribers = self.prefixes.entry(prefix.clone()).or_default();
        subscribers.push(Subscriber { peer, connected });
        if subscribers.len() == 1 {
            match self.len_index(prefix.len()) {
                Ok(index) => self.lens[index].1 += 1,
                Err(index) => self.lens.insert(index, (prefix.len(), 1)),
            }
        }
        self.peers.entry(peer).or_default().push(prefix);
    }

    /// Removes a subscription. Returns whether there was one.
    pub(super) fn remove(&mut self, peer: u64, prefix: &[u8]) -> bool {
        let Some(prefixes) = self.peers.get_mut(&peer) else {
            return false;
        };
        let Some(position) = prefixes.iter().position(|known| known == prefix) else {
            return false;
        };
        let prefix = prefixes.swap_remove(position);
        self.forget(peer, &prefix);
        true
    }

    /// Removes a peer that left, and returns its subscriptions.
    pub(super) fn remove_peer(&mut self, peer: u64) -> Vec<Bytes> {
        let prefixes = self.peers.remove(&peer).unwrap_or_default();
        for prefix in &prefixes {
            self.forget(peer, prefix);
        }
        prefixes
    }

    /// Returns the prefixes that have subscribers.
    pub(super) fn into_prefixes(self) -> impl Iterator<Item = Bytes> {
        self.prefixes.into_keys()
    }

    fn forget(&mut self, peer: u64, prefix: &Bytes) {
        let Some(subscribers) = self.prefixes.get_mut(prefix) else {
            return;
        };
        if let Some(position) = subscribers.iter().position(|known| known.peer == peer) {
            subscribers.swap_remove(position);
        }
        if !subscribers.is_empty() {
            return;
        }
        self.prefixes.remove(prefix);
        if let Ok(index) = self.len_index(prefix.len()) {
            self.lens[index].1 -= 1;
            if self.lens[index].1 == 0 {
                self.lens.remove(index);
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
        subscriptions.add(1, SERVER, Instant::now());
        assert!(subscriptions.matches(b"server"));
        assert!(subscriptions.matches(b"server_too"));
        assert!(!subscriptions.matches(b"serve"));
        subscriptions.add(2, Bytes::new(), Instant::now());
        assert!(subscriptions.matches(b""));
        assert!(subscriptions.matches(b"anything"));
    }

    #[test]
    fn prefix_matches_until_its_last_subscription_is_removed() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add(1, SERVER, Instant::now());
        subscriptions.add(1, SERVER, Instant::now());
        subscriptions.add(2, SERVER, Instant::now());
        assert!(subscriptions.remove(1, b"server"));
        assert_eq!(subscriptions.remove_peer(1), [SERVER]);
        assert!(subscriptions.matches(b"server"));
        assert!(subscriptions.remove(2, b"server"));
        assert!(!subscriptions.remove(2, b"server"));
        assert!(!subscriptions.matches(b"server"));
        assert!(subscriptions.lens.is_empty());
    }
}
