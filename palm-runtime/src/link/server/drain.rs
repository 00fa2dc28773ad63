//! Drains the links of a component that stops, and closes them.

use super::peer::{LinkPeer, PeerRole};
use super::{LinkServer, ServerOutput, ServerState};
use crate::link::session::Session;
use crate::socket::WriteBy;

impl LinkServer {
    /// Drains: grants clients no further credit, and informs them.
    pub(crate) fn drain_calls(&self) {
        let mut state = self.state();
        state.is_draining = true;
        let is_consumer = |role: &PeerRole| matches!(role, PeerRole::Consumer { .. });
        self.change_sessions(&mut state, is_consumer, Session::drain);
    }

    /// Waits until the last calls of connected clients have arrived, after [`drain_calls`](Self::drain_calls).
    /// Clients that are lost by then send their last calls again when the session is closed. Cancel safe.
    pub(crate) async fn calls_drained(&self) {
        self.wait_until(|state| {
            state.peers.values().all(|peer| match peer.role {
                PeerRole::Worker { .. } => true,
                // A client that is disconnected may return until it is lost.
                PeerRole::Consumer { finished, .. } => {
                    finished || !peer.is_alive() || peer.session.is_over()
                }
            })
        })
        .await;
        self.state().are_calls_closed = true;
    }

    /// Waits until all connected peers have acknowledged their publications and answers. Cancel safe.
    pub(crate) async fn delivered(&self) {
        self.wait_until(|state| {
            state.peers.values().all(|peer| match peer.role {
                PeerRole::Worker { .. } => true,
                PeerRole::Consumer { .. } => peer.session.is_acknowledged() || !peer.is_alive(),
            })
        })
        .await;
    }

    /// Closes all sessions. `is_complete` is set if the component has handled all messages that it acknowledged;
    /// otherwise clients send their unanswered calls again.
    pub(crate) fn close(&self, is_complete: bool) {
        let mut state = self.state();
        let is_complete = is_complete && state.has_delivered_all();
        let is_draining = state.is_draining;
        let ServerState { peers, output, .. } = &mut *state;
        for peer in peers.values_mut() {
            let mut header = peer.session.close();
            // Calls that a client sent after the drain began were not accepted.
            let is_finished = match peer.role {
                PeerRole::Worker { .. } => true,
                PeerRole::Consumer {
                    finished,
                    makes_calls,
                    ..
                } => finished || !makes_calls || !is_draining,
            };
            header.finished &= is_complete && is_finished;
            output.send(peer.route.clone(), &header, Vec::new(), WriteBy::Task);
        }
        peers.clear();
        state.hello_memory.clear();
        state.inspection.memory.clear();
        state.connected_workers = 0;
        state.output = ServerOutput::None;
    }
}

impl ServerState {
    /// Returns whether all tasks have ended, and no publication is unacknowledged, retained, or was dropped in the drain.
    pub(super) fn has_delivered_all(&self) -> bool {
        let has_pending = |peer: &LinkPeer| {
            self.subscriptions.is_retained(peer.key)
                && (!peer.session.is_acknowledged() || self.subscriptions.retained(peer.key) > 0)
        };
        self.dispatch.outstanding() == 0
            && !self.has_dropped
            && !self.peers.values().any(has_pending)
    }
}
