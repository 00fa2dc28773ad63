//! A peer of a link server: its session, its role, and whether it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::link::inbound::InboundChannel;
use crate::link::session::Session;
use crate::link::subscriptions::{BacklogSize, SubscriptionTable};
use crate::link::{LinkOptions, PeerKey};
use crate::message::proto::Function;
use crate::report::WorkerState;

/// How long a client whose connection was closed may take to reconnect before its calls are cancelled. A
/// living client reconnects within about a second.
pub(super) const CLIENT_RECONNECT_GRACE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct LinkPeer {
    pub(super) key: PeerKey,
    /// The id of the session.
    pub(super) id: Bytes,
    /// Whether the peer is among those for which a transmission may be due.
    pub(super) is_scheduled: bool,
    pub(super) name: Arc<str>,
    pub(super) role: PeerRole,
    /// The weight of a client in fair queues.
    pub(super) weight: u32,
    pub(super) session: Session,
    /// The routing id of the connection that the session uses.
    pub(super) route: Bytes,
    /// When the connection was closed, if it was.
    pub(super) disconnected_at: Option<Instant>,
    /// When the peer was lost, if it was: see [`server`](super).
    pub(super) lost_at: Option<Instant>,
    /// An older session of a subscriber with the same name and topics, which was not lost when this one opened, and
    /// the number of its next message at that time. If the older session is lost, its unacknowledged messages with
    /// lower numbers are redelivered in this session. Later messages were published to both.
    pub(super) predecessor: Option<(PeerKey, u64)>,
    /// Received messages that were not passed on.
    pub(super) unread: BacklogSize,
    /// Time for which this component has waited for the peer, as of the last tick.
    pub(super) stalled: Duration,
    /// Tasks that were redelivered when the peer, a worker, was lost.
    pub(super) redelivered: u64,
    /// The last report of a worker, and when it arrived.
    pub(super) report: Option<(Box<WorkerState>, Instant)>,
    /// The numbers of requests to the peer, a worker, and what waits for the replies.
    pub(super) awaited_replies: Vec<(u64, oneshot::Sender<Bytes>)>,
}

#[derive(Debug)]
pub(super) enum PeerRole {
    Worker {
        /// The functions that the worker can run, until the dispatch has them.
        functions: Vec<Function>,
        /// Number of tasks that the worker runs at once; 0 if unknown.
        concurrency: u32,
        /// Number of results that the worker has sent for tasks that it does not have.
        strays: u64,
    },
    /// A client or a subscriber.
    Consumer {
        /// Messages and bytes that were consumed, and for which credit is withheld while the peer is paused.
        withheld_credit: (u64, u64),
        /// Whether the peer's answers are backed up, so that its calls are paused.
        is_paused: bool,
        /// Whether the last message of the peer has arrived.
        finished: bool,
        /// Whether the peer makes calls, and does not only receive answers and publications.
        makes_calls: bool,
    },
}

/// The change of a peer's state at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerFate {
    Stays,
    Lost,
    Expired,
}

impl LinkPeer {
    pub(super) fn schedule(&mut self, scheduled: &mut Vec<PeerKey>) {
        if !std::mem::replace(&mut self.is_scheduled, true) {
            scheduled.push(self.key);
        }
    }

    /// Returns credit for consumed messages, and pauses or resumes the client's calls.
    ///
    /// Credit is withheld and calls are paused while the client's own answers are backed up, so that a client that
    /// does not read cannot keep calling, or fill queues that it shares with others.
    pub(super) fn return_credit(
        &mut self,
        subscriptions: &SubscriptionTable,
        inputs: &InboundChannel,
    ) {
        let PeerRole::Consumer {
            withheld_credit,
            is_paused,
            makes_calls: true,
            ..
        } = &mut self.role
        else {
            return;
        };
        let is_backlogged = subscriptions.is_backlogged(self.key, &self.session);
        if *is_paused != is_backlogged {
            *is_paused = is_backlogged;
            inputs.pause(self.key, is_backlogged);
        }
        if withheld_credit.0 > 0 && !is_backlogged {
            let (messages, bytes) = std::mem::take(withheld_credit);
            self.session.consume(messages, bytes);
        }
    }

    /// Returns the number of results that a worker has sent for tasks that it does not have.
    pub(super) fn strays(&mut self) -> Option<&mut u64> {
        match &mut self.role {
            PeerRole::Worker { strays, .. } => Some(strays),
            PeerRole::Consumer { .. } => None,
        }
    }

    /// Sets how many tasks a worker runs at once.
    pub(super) fn set_concurrency(&mut self, tasks: u32) {
        if let PeerRole::Worker { concurrency, .. } = &mut self.role {
            *concurrency = tasks;
        }
    }

    /// Returns whether the peer is neither lost nor disconnected.
    pub(super) fn is_connected(&self) -> bool {
        self.is_alive() && self.disconnected_at.is_none()
    }

    /// Returns whether the peer is not lost.
    pub(super) fn is_alive(&self) -> bool {
        self.lost_at.is_none()
    }

    /// Returns whether the peer becomes lost or expires now. `is_waited_for` is set if a publisher waits for it.
    pub(super) fn fate(
        &self,
        options: &LinkOptions,
        is_waited_for: bool,
        now: Instant,
    ) -> PeerFate {
        let since = |begin: Instant| now.saturating_duration_since(begin);
        let is_silent = since(self.session.last_heard()) > options.idle_timeout;
        let is_gone_for =
            |limit: Duration| self.disconnected_at.is_some_and(|gone| since(gone) > limit);
        let makes_calls = matches!(
            self.role,
            PeerRole::Consumer {
                makes_calls: true,
                ..
            }
        );
        match self.lost_at {
            // The session of a client expires early, because no other peer can receive its answers.
            _ if makes_calls && is_gone_for(CLIENT_RECONNECT_GRACE) => PeerFate::Expired,
            Some(lost) if since(lost) > options.session_expiry => PeerFate::Expired,
            Some(_) if is_silent && is_waited_for => PeerFate::Expired,
            None if is_silent || is_gone_for(options.reconnect_grace) => PeerFate::Lost,
            _ => PeerFate::Stays,
        }
    }
}

/// The reason for the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The peer or this side has closed it.
    Closed,
    /// The peer continues in another session.
    Replaced,
    /// The peer did not return in time, or was too slow.
    Expired,
}
