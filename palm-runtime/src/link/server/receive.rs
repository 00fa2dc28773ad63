//! The receiving of messages: each belongs to a session, whose events are handled here.
//!
//! [`LinkServer::receive_frames`] decodes the header and passes it to the session. The events of the session are
//! handled in their order. Then its messages are passed on, and finally the dispatch is updated if the peer is a worker,
//! or credit is returned if it is a client.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::peer::{PeerRole, SessionEnd};
use super::{LinkServer, ServerState, size_of, truncate_name};
use crate::link::PeerKey;
use crate::link::header::{self, is_header};
use crate::link::inbound::NO_PEER;
use crate::link::session::{SessionEvent, TaggedBatch};
use crate::message::Batch;
use crate::message::proto::LinkHeader;
use crate::socket::{Frames, WriteBy};

/// The peer whose messages are handled. It may be removed meanwhile.
#[derive(Debug, Clone, Copy)]
struct InboundPeer {
    key: PeerKey,
    weight: u32,
    is_worker: bool,
}

/// What a peer has sent with one header.
#[derive(Debug, Default)]
struct ReceivedMessages {
    /// The messages that are to be passed on.
    batches: Vec<Batch>,
    /// The number of a worker's tasks that have ended.
    finished: usize,
}

impl LinkServer {
    /// Receives one message of a link, which may introduce its peer and so open a session. A message of an unknown
    /// session is answered with `closed`, or with the reason why it was refused.
    pub(super) fn receive_frames(&self, state: &mut ServerState, mut frames: Frames, now: Instant) {
        debug_assert!(frames.len() >= 2 && is_header(&frames[1]));
        let mut frames = frames.drain(..);
        let (Some(route), Some(first)) = (frames.next(), frames.next()) else {
            return;
        };
        let Some(header) = header::decode(first) else {
            tracing::warn!("dropping a message of a peer: the link header is malformed");
            return;
        };
        let id = header.session.clone();
        if header.alive {
            state.record_life_sign(&id, now);
            return;
        }
        if let Some(hello) = &header.hello
            && let Err(refusal) = self.accept_hello(state, &id, &route, hello, now)
        {
            let reason = &refusal.reason;
            tracing::warn!(
                role = truncate_name(&hello.role),
                peer = truncate_name(&hello.name),
                "link refused: {reason}"
            );
            let header = LinkHeader {
                refusal: Some(refusal),
                ..header::new(id)
            };
            state.output.send(route, &header, Vec::new(), WriteBy::Task);
            return;
        }
        let key = state.sessions.get(&id).copied().unwrap_or_default();
        let Some((peer, events)) = state.receive_in_session(key, &header, frames, now) else {
            // The session belongs to an earlier run, or has ended. The peer opens another one.
            if !header.closed && header.refusal.is_none() {
                let refusal = state.refused.get(&id).cloned();
                let header = LinkHeader {
                    closed: refusal.is_none(),
                    refusal,
                    ..header::new(id)
                };
                state.output.send(route, &header, Vec::new(), WriteBy::Task);
            }
            return;
        };
        let received = self.handle_events(state, peer, events, now);
        self.pass_on(state, peer, received.batches);
        if peer.is_worker {
            state.update_worker(key, received.finished, now);
        } else if state.handle_acknowledgement(key) {
            self.progressed.notify_waiters();
        }
        state.schedule(key);
    }

    /// Handles the events of a session, which may end by them. Returns the received messages that are to be passed on.
    fn handle_events(
        &self,
        state: &mut ServerState,
        peer: InboundPeer,
        mut events: Vec<SessionEvent>,
        now: Instant,
    ) -> ReceivedMessages {
        let InboundPeer { key, is_worker, .. } = peer;
        let mut received = ReceivedMessages::default();
        for event in events.drain(..) {
            match event {
                SessionEvent::Opened => state.restore(key, now),
                SessionEvent::Messages(item) if is_worker => {
                    self.receive_results(state, key, item, &mut received, now);
                }
                SessionEvent::Messages(TaggedBatch { batch, .. }) => received.batches.push(batch),
                SessionEvent::Draining => state.peer_is_draining(key),
                SessionEvent::Finished => {
                    if !state.are_calls_closed
                        && let Some(PeerRole::Consumer { finished, .. }) = state.role(key)
                    {
                        *finished = true;
                        self.progressed.notify_waiters();
                    }
                }
                SessionEvent::Report(report) if is_worker => {
                    state.record_report(key, report, now);
                    self.progressed.notify_waiters();
                }
                SessionEvent::Reply { number, payload } if is_worker => {
                    if let Some(peer) = state.peers.get_mut(&key) {
                        peer.record_reply(number, payload);
                    }
                }
                // Only workers are sent lists of cancelled calls and requests, and asked for reports.
                SessionEvent::Forgotten
                | SessionEvent::SubscriptionsReady
                | SessionEvent::Cancelled(_)
                | SessionEvent::ReportWanted { .. }
                | SessionEvent::Report(_)
                | SessionEvent::Request(_)
                | SessionEvent::Reply { .. } => {}
                SessionEvent::Closed { .. } => {
                    state.log_end(key, "left", now);
                    if !state.retain(key, now) {
                        state.remove(key, SessionEnd::Closed);
                    }
                    self.progressed.notify_waiters();
                }
                SessionEvent::Refused(refusal) => {
                    if let Some(peer) = state.peers.get(&key) {
                        tracing::warn!(peer = %peer.name, reason = refusal.reason, "link refused");
                    }
                    state.schedule(key);
                    self.flush(state, now);
                    state.remove(key, SessionEnd::Closed);
                    self.progressed.notify_waiters();
                }
            }
        }
        // The next header reuses the allocation.
        state.events = events;
        received
    }

    /// Handles results of a worker. Those that count are added to `received`; messages that are created here, which use
    /// no credit of the worker, are passed on at once.
    fn receive_results(
        &self,
        state: &mut ServerState,
        key: PeerKey,
        item: TaggedBatch,
        received: &mut ReceivedMessages,
        now: Instant,
    ) {
        let outcome = state.results(key, item, &mut received.batches, now);
        received.finished += outcome.finished;
        self.strays.fetch_add(outcome.strays, Ordering::Relaxed);
        state
            .unread_results
            .add(NO_PEER, size_of(&outcome.created).memory_bytes());
        self.results.send(NO_PEER, 1, outcome.created);
    }

    /// Passes the messages of a peer on to the part that handles them, and counts them as unread until then.
    fn pass_on(&self, state: &mut ServerState, peer: InboundPeer, batches: Vec<Batch>) {
        let (lane, unread) = if peer.is_worker {
            (&self.results, &mut state.unread_results)
        } else {
            (&*self.inputs, &mut state.unread_calls)
        };
        let InboundPeer { key, weight, .. } = peer;
        let received = size_of(&batches);
        unread.add(key, received.memory_bytes());
        if received.messages > 0
            && let Some(peer) = state.peers.get_mut(&key)
        {
            peer.unread.messages += received.messages;
            peer.unread.bytes += received.bytes;
        }
        lane.send(key, weight, batches);
    }
}

impl ServerState {
    /// Passes a header and its messages to the session of a peer, within the capacity for unread messages.
    ///
    /// Returns the peer and the events of its session; `None` if the peer is unknown.
    fn receive_in_session(
        &mut self,
        key: PeerKey,
        header: &LinkHeader,
        frames: impl Iterator<Item = Bytes>,
        now: Instant,
    ) -> Option<(InboundPeer, Vec<SessionEvent>)> {
        let peer = self.peers.get_mut(&key)?;
        let mut events = std::mem::take(&mut self.events);
        let is_worker = matches!(peer.role, PeerRole::Worker { .. });
        let unread = match is_worker {
            true => &self.unread_results,
            false => &self.unread_calls,
        };
        let was_blocked = peer.session.is_blocked();
        peer.session.set_capacity(unread.capacity(&key), now);
        peer.session.receive(now, header, frames, &mut events);
        if peer.session.is_blocked()
            && !was_blocked
            && let Some(times) = self.unread_log.record(now)
        {
            tracing::warn!(
                peer = %peer.name,
                times,
                used_bytes = unread.used(),
                "dropping messages of a peer until there is capacity: too many bytes wait to be handled"
            );
        }
        let weight = peer.weight;
        if header.hello.is_none() && !peer.is_alive() && !peer.session.is_over() {
            // The peer was silent for a while, and continues its session.
            self.restore(key, now);
        }
        let peer = InboundPeer {
            key,
            weight,
            is_worker,
        };
        Some((peer, events))
    }

    /// Updates the dispatch after a header of a worker, with which `finished` tasks have ended: the load of the worker,
    /// and unless it is lost, its lent slots, concurrency and credit.
    fn update_worker(&mut self, key: PeerKey, finished: usize, now: Instant) {
        self.dispatch.remove_load(key, finished, now);
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.is_alive()
        {
            let (credit, lent) = (peer.session.credit(), peer.session.peer_lent_slots());
            self.dispatch.set_lent_slots(key, lent);
            if let Some(tasks) = peer.session.peer_concurrency() {
                peer.set_concurrency(tasks);
                self.dispatch.set_concurrency(key, tasks);
            }
            self.dispatch.set_credit(key, credit);
        }
    }

    /// Handles a peer that drains: it accepts no messages beyond its credit.
    fn peer_is_draining(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            let unsent = match peer.role {
                PeerRole::Worker { .. } => VecDeque::new(),
                PeerRole::Consumer { .. } => peer.session.take_unsent(),
            };
            match peer.role {
                PeerRole::Worker { .. } => tracing::info!(worker = %peer.name, "worker draining"),
                PeerRole::Consumer { .. } if self.subscriptions.is_retained(peer.key) => {
                    tracing::info!(subscriber = %peer.name, "subscriber draining");
                }
                PeerRole::Consumer { .. } => tracing::debug!(peer = %peer.name, "peer draining"),
            }
            if self.subscriptions.is_retained(peer.key) {
                self.subscriptions.retain(peer.key, unsent);
            } else {
                self.subscriptions.remove(peer.key);
            }
            peer.session.finish();
        }
    }

    /// Handles possible acknowledgements of a client or subscriber. Returns whether waiting parts are to be notified.
    fn handle_acknowledgement(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.return_credit(&self.subscriptions, &self.inputs);
        let session = &peer.session;
        self.subscriptions.has_drained(peer.key, session) || session.is_acknowledged()
    }
}
