//! The table of peers: restores a peer that returns, records signs of life, and removes a peer with its session.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ServerState;
use super::peer::{PeerRole, SessionEnd};
use crate::link::PeerKey;
use crate::link::peer_log::listed;

impl ServerState {
    pub(super) fn restore(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.lost_at.take().is_none() {
                return;
            }
            if let PeerRole::Worker {
                functions,
                concurrency,
                ..
            } = &mut peer.role
            {
                self.connected_workers += 1;
                let functions = std::mem::take(functions);
                let (key, name) = (peer.key, &peer.name);
                if self.dispatch.has_worker(key) {
                    tracing::info!(worker = %name, "worker connected again");
                } else {
                    let functions = listed(functions.iter());
                    tracing::info!(worker = %name, functions, "worker connected");
                }
                self.dispatch
                    .connect(key, name, &functions, *concurrency, now);
            }
        }
    }

    /// Logs that a peer has left or is lost.
    pub(super) fn log_end(&mut self, key: PeerKey, how: &str, now: Instant) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let name = &peer.name;
        match peer.role {
            PeerRole::Worker { .. } => tracing::info!(worker = %name, "worker {how}"),
            PeerRole::Consumer {
                makes_calls: true, ..
            } => self.peer_log.client_ended(name, how, now),
            PeerRole::Consumer { .. } if self.subscriptions.is_retained(key) => {
                tracing::info!(subscriber = %name, "subscriber {how}");
            }
            PeerRole::Consumer { .. } => tracing::debug!(peer = %name, "peer {how}"),
        }
    }

    /// Records that the process of a session's peer is alive.
    pub(super) fn record_life_sign(&mut self, id: &Bytes, now: Instant) {
        let key = self.sessions.get(id).copied();
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.session.record_life_sign(now);
        }
    }

    /// Removes a peer. Adds a client to `vanished` that has not closed its session, and has no other.
    pub(super) fn remove(&mut self, key: PeerKey, ending: SessionEnd) {
        let Some(mut peer) = self.peers.remove(&key) else {
            return;
        };
        self.ended_sessions += 1;
        self.hello_memory.release_all(&key);
        self.inspection.memory.release_all(&key);
        if self.routes.get(&peer.route) == Some(&key) {
            self.routes.remove(&peer.route);
        }
        self.sessions.remove(&peer.id);
        match peer.role {
            PeerRole::Worker { .. } => {
                self.connected_workers -= usize::from(peer.is_alive());
                self.dispatch.remove_worker(peer.key, &mut self.failed);
                self.deliveries.lose(peer.key);
            }
            PeerRole::Consumer {
                makes_calls,
                is_paused,
                ..
            } => {
                if is_paused {
                    self.inputs.pause(peer.key, false);
                }
                let (messages, _) = peer.session.unacknowledged();
                let messages = messages + self.subscriptions.retained(peer.key);
                if messages > 0 && self.subscriptions.is_retained(peer.key) {
                    self.has_dropped |= self.is_draining;
                }
                if messages > 0 && ending == SessionEnd::Expired {
                    let name = &peer.name;
                    if self.subscriptions.is_retained(peer.key) {
                        tracing::warn!(peer = %name, messages, "dropping the backlog of a lost subscriber");
                    } else {
                        // Usually the client's process has ended.
                        tracing::info!(peer = %name, messages, "dropping the answers of a lost client");
                    }
                    let mut items = peer.session.take_unacknowledged();
                    items.extend(self.subscriptions.take_retained(peer.key));
                    self.subscriptions.return_backlog(peer.key, items);
                }
                self.subscriptions.remove(peer.key);
                let is_last = makes_calls && self.forget_caller(&peer.name);
                if is_last && ending == SessionEnd::Expired {
                    self.vanished.push(peer.name);
                }
            }
        }
    }

    /// Removes one session of a calling client. Returns whether it was the last one.
    fn forget_caller(&mut self, name: &Arc<str>) -> bool {
        let Some(sessions) = self.callers.get_mut(name) else {
            return false;
        };
        *sessions -= 1;
        let is_last = *sessions == 0;
        if is_last {
            self.callers.remove(name);
        }
        is_last
    }
}
