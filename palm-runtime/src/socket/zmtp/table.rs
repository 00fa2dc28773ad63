//! The connections of a socket, and which of them makes room for a new one. No I/O; time is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::id_map::IdMap;

/// Silence after which a connection that has sent messages makes room for a new one.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// Which connections make room for a new one. Others stay, and the new one is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evicts {
    /// Those without a handshake, those that have sent nothing, and those that have been silent for a minute.
    Silent,
    /// Those without a handshake, and those that have sent nothing: later silence is normal.
    Mute,
    /// Those without a handshake: peers have nothing to send.
    Strangers,
}

/// What a connection has done. Its task writes it, the table reads it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    stage: AtomicU8,
    /// Milliseconds since the socket was opened.
    heard: AtomicU64,
}

const CONNECTED: u8 = 0;
const INTRODUCED: u8 = 1;
const ACTIVE: u8 = 2;

impl Activity {
    /// The peer has completed its handshake.
    pub(super) fn set_introduced(&self) {
        self.stage.store(INTRODUCED, Ordering::Relaxed);
    }

    pub(super) fn is_introduced(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= INTRODUCED
    }

    /// The peer has sent a message.
    pub(super) fn set_active(&self) {
        self.stage.store(ACTIVE, Ordering::Relaxed);
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == ACTIVE
    }

    pub(super) fn set_heard(&self, now: Duration) {
        self.heard.store(millis(now), Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> Duration {
        Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A connection that can make room for a new one.
pub(super) trait Connection {
    fn activity(&self) -> &Activity;
}

/// The connections of a socket, by number. Lower numbers are older.
#[derive(Debug)]
pub(super) struct Table<C> {
    evicts: Evicts,
    max_connections: usize,
    max_handshakes: usize,
    connections: IdMap<Arc<C>>,
}

/// How a new connection is admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<C> {
    Free,
    /// The new connection replaces this one, which was removed from the table and must be closed.
    Replaces(Arc<C>),
    Refused,
}

impl<C: Connection> Table<C> {
    pub(super) fn new(evicts: Evicts, max_connections: usize, max_handshakes: usize) -> Self {
        Self {
            evicts,
            max_connections,
            max_handshakes,
            connections: IdMap::default(),
        }
    }

    /// Decides on a new connection.
    pub(super) fn admit(&mut self, now: Duration) -> Admission<C> {
        if self.connections.len() >= self.max_connections {
            return match self.evict(now) {
                Some(connection) => Admission::Replaces(connection),
                None => Admission::Refused,
            };
        }
        // Most connections complete their handshake at once, so counting ends early or finds few.
        let is_new = |it: &&Arc<C>| it.activity().stage.load(Ordering::Relaxed) == CONNECTED;
        if self.connections.len() >= self.max_handshakes
            && self.connections.values().filter(is_new).count() >= self.max_handshakes
            && let Some(connection) = self.evict(now)
        {
            return Admission::Replaces(connection);
        }
        Admission::Free
    }

    /// Removes the connection that is least likely to be needed: the oldest without a handshake, the oldest that has
    /// sent nothing since its handshake, or the one that has been silent for longest. [`Evicts`] tells which may go.
    pub(super) fn evict(&mut self, now: Duration) -> Option<Arc<C>> {
        let mut found: Option<(u8, u64, u64)> = None;
        for (&number, connection) in &self.connections {
            let activity = connection.activity();
            let stage = activity.stage.load(Ordering::Relaxed);
            let heard = activity.heard.load(Ordering::Relaxed);
            let order = if stage == ACTIVE { heard } else { number };
            let candidate = (stage, order, number);
            let is_kept = match self.evicts {
                _ if stage == CONNECTED => false,
                Evicts::Silent => {
                    stage == ACTIVE && heard.saturating_add(millis(MAX_SILENCE)) > millis(now)
                }
                Evicts::Mute => stage == ACTIVE,
                Evicts::Strangers => true,
            };
            if is_kept {
                continue;
            }
            if found.is_none_or(|found| candidate < found) {
                found = Some(candidate);
            }
        }
        self.connections.remove(&found?.2)
    }

    pub(super) fn insert(&mut self, number: u64, connection: Arc<C>) {
        self.connections.insert(number, connection);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.connections.remove(&number);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<C>> {
        self.connections.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Peer(u64, Activity);

    impl Connection for Peer {
        fn activity(&self) -> &Activity {
            &self.1
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn table(max_handshakes: usize) -> (Table<Peer>, Vec<Arc<Peer>>) {
        let mut table = Table::new(Evicts::Silent, 4, max_handshakes);
        let peers: Vec<_> = (0..4)
            .map(|number| Arc::new(Peer(number, Activity::default())))
            .collect();
        for peer in &peers {
            assert!(matches!(table.admit(SECOND), Admission::Free));
            table.insert(peer.0, peer.clone());
        }
        (table, peers)
    }

    #[track_caller]
    fn check(table: &mut Table<Peer>, now: Duration, expected: Option<u64>) {
        let replaced = match table.admit(now) {
            Admission::Free => panic!("the table is full"),
            Admission::Replaces(peer) => Some(peer.0),
            Admission::Refused => None,
        };
        assert_eq!(replaced, expected);
    }

    #[test]
    fn connection_without_a_handshake_makes_room_first() {
        let (mut table, peers) = table(4);
        peers[0].1.set_introduced();
        peers[1].1.set_active();
        check(&mut table, 1000 * SECOND, Some(2));
    }

    #[test]
    fn connection_without_a_message_makes_room_before_a_silent_one() {
        let (mut table, peers) = table(4);
        for peer in &peers {
            peer.1.set_active();
        }
        peers[2].1.set_introduced();
        peers[3].1.set_introduced();
        check(&mut table, 1000 * SECOND, Some(2));
    }

    #[test]
    fn living_connections_make_no_room() {
        let (mut table, peers) = table(4);
        for (peer, heard) in peers.iter().zip([20, 15, 30, 40]) {
            peer.1.set_active();
            peer.1.set_heard(heard * SECOND);
        }
        check(&mut table, 74 * SECOND, None);
        check(&mut table, 75 * SECOND, Some(1));
        table.insert(9, Arc::new(Peer(9, Activity::default())));
        peers[2].1.set_heard(100 * SECOND);
        check(&mut table, 90 * SECOND, Some(9));
    }

    #[test]
    fn peers_that_have_nothing_to_send_make_no_room() {
        let (mut table, peers) = table(4);
        peers[0].1.set_active();
        peers[1].1.set_introduced();
        peers[2].1.set_active();
        peers[3].1.set_introduced();
        table.evicts = Evicts::Strangers;
        check(&mut table, 1000 * SECOND, None);
        table.evicts = Evicts::Mute;
        check(&mut table, 1000 * SECOND, Some(1));
        table.insert(9, Arc::new(Peer(9, Activity::default())));
        check(&mut table, 1000 * SECOND, Some(9));
    }

    #[test]
    fn number_of_handshakes_is_bounded() {
        let mut table = Table::new(Evicts::Silent, 100, 2);
        let first = Arc::new(Peer::default());
        table.insert(0, first.clone());
        table.insert(1, Arc::new(Peer(1, Activity::default())));
        first.1.set_active();
        assert!(matches!(table.admit(SECOND), Admission::Free));
        table.insert(2, Arc::new(Peer(2, Activity::default())));
        check(&mut table, SECOND, Some(1));
    }
}
