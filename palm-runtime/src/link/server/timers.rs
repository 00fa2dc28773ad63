//! What happens to peers by time: they are lost after silence, their sessions expire, and slow consumers are
//! disconnected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{LinkPeer, PeerFate, PeerRole, SessionEnd};
use super::{LinkServer, ServerState};
use crate::clock;
use crate::link::PeerKey;
use crate::link::dispatch::WorkerLoss;
use crate::message::proto::LinkRefusal;
use crate::message::proto::link_refusal::Kind;
use crate::shrink::shrink;

/// The interval at which lost, expired and slow peers are detected.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The peers whose state changes at a tick.
#[derive(Debug)]
struct DuePeers {
    lost: Vec<PeerKey>,
    /// The peers whose sessions end. A slow consumer may be listed twice.
    expired: Vec<PeerKey>,
}

impl LinkServer {
    /// Detects lost, expired and slow peers, and fails tasks whose time has passed. The owner calls it every [`TICK`].
    ///
    /// Returns the ids of clients that have vanished, whose calls are to be cancelled.
    pub(crate) fn tick(&self) -> Vec<Arc<str>> {
        let now = self.now();
        let mut state = self.state();
        state.announce_followers();
        let DuePeers { lost, expired } = self.check_peers(&mut state, now);
        if !lost.is_empty() {
            // A component that stops does not wait for lost peers.
            self.progressed.notify_waiters();
        }
        for key in lost {
            state.mark_lost(key, now);
        }
        // Refusals are sent before their sessions are forgotten.
        self.flush(&mut state, now);
        for key in expired {
            state.remove(key, SessionEnd::Expired);
            self.progressed.notify_waiters();
        }
        let ServerState {
            dispatch, failed, ..
        } = &mut *state;
        dispatch.expire(now, clock::wall(), failed);
        state.peer_log.tick(now);
        state.may_recount_tasks = true;
        shrink(&mut state.peers);
        shrink(&mut state.sessions);
        shrink(&mut state.routes);
        shrink(&mut state.callers);
        state.subscriptions.shrink();
        state.assign(now);
        self.flush(&mut state, now);
        std::mem::take(&mut state.vanished)
    }

    /// Asks workers for reports, measures how long this component waits for each peer, refuses slow consumers, and
    /// schedules due transmissions.
    ///
    /// Returns the peers that are lost or expire now.
    fn check_peers(&self, state: &mut ServerState, now: Instant) -> DuePeers {
        let (mut lost, mut expired) = (Vec::new(), Vec::new());
        let ServerState {
            peers,
            scheduled,
            subscriptions,
            unread_calls,
            unread_results,
            inspection,
            dispatch,
            refused,
            ..
        } = state;
        subscriptions.recount(|key| peers.get(&key).map(|peer| &peer.session));
        let wants_reports = inspection.is_due(now);
        let wants_calls = inspection.wants_calls(now);
        let drops_reports = inspection.has_ended(now);
        let since_tick = inspection.tick(now);
        let tasks_wait = dispatch.waiting() > 0;
        for (&key, peer) in peers {
            let is_backlog_full = subscriptions.full_since(key).is_some();
            let is_waited_for = match peer.role {
                PeerRole::Worker { .. } => {
                    if wants_reports && peer.is_alive() {
                        peer.session.request_report(wants_calls);
                        peer.schedule(scheduled);
                    }
                    tasks_wait && peer.is_alive() && peer.session.credit() == 0
                }
                PeerRole::Consumer { is_paused, .. } => is_paused || is_backlog_full,
            };
            if is_waited_for {
                peer.stalled += since_tick;
            }
            if drops_reports {
                peer.report = None;
            }
            if peer.session.is_blocked() {
                let unread = match peer.role {
                    PeerRole::Worker { .. } => &*unread_results,
                    PeerRole::Consumer { .. } => &*unread_calls,
                };
                if peer.session.set_capacity(unread.capacity(&key), now) {
                    peer.schedule(scheduled);
                }
            }
            match peer.fate(&self.options, is_backlog_full, now) {
                PeerFate::Stays => {}
                PeerFate::Lost => lost.push(key),
                PeerFate::Expired => expired.push(key),
            }
            let limit = self.options.slow_consumer_timeout;
            if subscriptions.is_slow_consumer(key, &peer.session, limit, now) {
                refused.insert(peer.id.clone(), peer.refuse_slow_consumer());
                peer.schedule(scheduled);
                expired.push(key);
            }
            if peer.disconnected_at.is_none()
                && peer.session.timeout().is_some_and(|due| due <= now)
            {
                peer.schedule(scheduled);
            }
        }
        DuePeers { lost, expired }
    }

    /// Records that this process was stalled and has not read its socket, so that the silence of peers means nothing.
    pub(crate) fn record_stall(&self) {
        let now = self.now();
        for peer in self.state().peers.values_mut() {
            peer.session.record_life_sign(now);
        }
    }
}

impl LinkPeer {
    /// Ends the session of a client or subscriber that does not read. The next header reports the reason to the peer.
    fn refuse_slow_consumer(&mut self) -> LinkRefusal {
        let (name, backlog) = (&self.name, self.session.unacknowledged());
        tracing::error!(
            peer = %name,
            messages = backlog.0,
            bytes = backlog.1,
            "disconnecting slow consumer: backlog full and nothing read in time"
        );
        let reason = "slow consumer: the backlog is full, and nothing was read in time";
        self.session.refuse_as(Kind::Slow, reason)
    }
}

impl ServerState {
    pub(super) fn mark_lost(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.lost_at = Some(now);
            peer.withdraw_requests();
            if let PeerRole::Worker { .. } = peer.role {
                let loss = match peer.disconnected_at {
                    Some(_) => WorkerLoss::Disconnected,
                    None => {
                        let silent = now.saturating_duration_since(peer.session.last_heard());
                        WorkerLoss::Silent(Duration::from_secs(silent.as_secs()))
                    }
                };
                tracing::warn!(worker = %peer.name, "worker lost ({loss}), redelivering its tasks");
                self.connected_workers -= 1;
                peer.redelivered += self.dispatch.load(peer.key) as u64;
                self.dispatch.lose_worker(peer.key, loss, &mut self.failed);
                self.deliveries.lose(key);
            } else {
                self.log_end(key, "lost", now);
            }
        }
        self.redeliver_to_successor(key, now);
    }
}
