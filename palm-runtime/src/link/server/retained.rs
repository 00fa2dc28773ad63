//! Publications that are retained for a disconnected subscriber, and redelivered to its next session.

use std::collections::VecDeque;
use std::time::Instant;

use super::ServerState;
use super::peer::{LinkPeer, PeerRole, SessionEnd};
use crate::link::PeerKey;
use crate::link::session::{TaggedBatch, message_count};
use crate::link::subscriptions::Subscription;

impl ServerState {
    /// Redelivers the unacknowledged messages of a lost subscriber to its successor, if there is one: the same
    /// subscriber, restarted before the death of its first process was detected.
    pub(super) fn redeliver_to_successor(&mut self, key: PeerKey, now: Instant) {
        let successor = self.peers.values().find_map(|peer| match peer.predecessor {
            Some((predecessor, number)) if predecessor == key => Some((peer.key, number)),
            _ => None,
        });
        let Some((successor, number)) = successor else {
            return;
        };
        let lost = self.peers.get_mut(&key);
        let Some(lost) = lost.filter(|lost| lost.session.has_unacknowledged_below(number)) else {
            return;
        };
        let items = lost.session.take_unacknowledged_below(number);
        self.remove(key, SessionEnd::Replaced);
        if let Some(peer) = self.peers.get_mut(&successor) {
            tracing::info!(peer = %peer.name, messages = message_count(&items), "redelivering to a restarted subscriber");
            peer.predecessor = None;
            items
                .into_iter()
                .for_each(|item| peer.session.submit(item, now));
            peer.schedule(&mut self.scheduled);
        }
    }

    /// Returns the youngest session of this subscriber name with the same topics, and the number of its next message.
    pub(super) fn predecessor(
        &self,
        name: &str,
        following: &Subscription,
    ) -> Option<(PeerKey, u64)> {
        let sessions = self.sessions_of(name, following);
        let alive = sessions.filter(|peer| peer.is_alive());
        let last = alive.max_by_key(|peer| peer.key)?;
        Some((last.key, last.session.next_number()))
    }

    /// Returns the sessions of subscribers with this name and these topics. There are none if publications are not
    /// retained for such a subscriber.
    fn sessions_of<'a>(
        &'a self,
        name: &'a str,
        following: &'a Subscription,
    ) -> impl Iterator<Item = &'a LinkPeer> {
        let may_return = !name.is_empty() && following.is_retained();
        let peers = may_return.then(|| self.peers.values());
        peers.into_iter().flatten().filter(move |peer| {
            &*peer.name == name && self.subscriptions.has_subscription(peer.key, following)
        })
    }

    /// Retains the publications for a subscriber that has left, until its session expires. Returns `false` for other
    /// peers, whose sessions end at once.
    pub(super) fn retain(&mut self, key: PeerKey, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        let may_return = matches!(peer.role, PeerRole::Consumer { .. })
            && self.subscriptions.is_retained(peer.key);
        if may_return && !self.is_draining {
            let unacknowledged = peer.session.take_unacknowledged();
            self.subscriptions.retain(peer.key, unacknowledged);
            peer.lost_at = Some(now);
            return true;
        }
        false
    }

    /// Returns the lost or disconnected session of a subscriber with this name and these topics, which its next session
    /// replaces.
    pub(super) fn replaced_session(&self, name: &str, following: &Subscription) -> Option<PeerKey> {
        let mut sessions = self.sessions_of(name, following);
        sessions
            .find(|peer| !peer.is_connected())
            .map(|peer| peer.key)
    }

    /// Removes a subscriber's session that is replaced, and returns its unacknowledged and retained publications.
    pub(super) fn take_retained_of(&mut self, key: PeerKey) -> VecDeque<TaggedBatch> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return VecDeque::new();
        };
        let mut items = peer.session.take_unacknowledged();
        items.extend(self.subscriptions.take_retained(peer.key));
        self.remove(key, SessionEnd::Replaced);
        items
    }
}
