//! [`RefusedSessions`]: why slow consumers were disconnected, for those to which that could not be sent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::proto::LinkRefusal;

/// Number of sessions that are remembered. Peers of earlier ones learn only that their session has ended.
const MAX_REFUSED: usize = 256;

/// The sessions of slow consumers that were refused most recently.
///
/// A refusal is sent once, and is lost if the queue of the connection is full, as it usually is for a slow consumer. A
/// peer that still uses the session later is sent the refusal again. Refusals by peers are not kept: their reasons may be
/// long.
#[derive(Debug, Default)]
pub(super) struct RefusedSessions(VecDeque<(Bytes, LinkRefusal)>);

impl RefusedSessions {
    pub(super) fn insert(&mut self, session: Bytes, refusal: LinkRefusal) {
        if self.0.len() == MAX_REFUSED {
            self.0.pop_front();
        }
        self.0.push_back((session, refusal));
    }

    /// Forgets a session whose id a new one uses.
    pub(super) fn remove(&mut self, session: &Bytes) {
        self.0.retain(|(id, _)| id != session);
    }

    pub(super) fn get(&self, session: &Bytes) -> Option<&LinkRefusal> {
        let found = self.0.iter().rev().find(|(id, _)| id == session);
        found.map(|(_, refusal)| refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_recent_sessions_are_remembered() {
        let mut refused = RefusedSessions::default();
        let session = |number: usize| Bytes::from(number.to_string());
        for number in 0..=MAX_REFUSED {
            let refusal = LinkRefusal {
                reason: number.to_string(),
                ..LinkRefusal::default()
            };
            refused.insert(session(number), refusal);
        }
        assert_eq!(refused.get(&session(0)), None);
        for number in 1..=MAX_REFUSED {
            let refusal = refused.get(&session(number)).unwrap();
            assert_eq!(refusal.reason, number.to_string());
        }
        refused.remove(&session(7));
        assert_eq!(refused.get(&session(7)), None);
        assert!(refused.get(&session(8)).is_some());
    }
}
