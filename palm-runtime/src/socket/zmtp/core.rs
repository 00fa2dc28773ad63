//! What the tasks of a socket share: its connections, and what they have received.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::kind::Kind;
use super::super::subscriptions::{SubscriptionEvent, SubscriptionRequest};
use super::buffers::Buffers;
use super::inbox::Inbox;
use super::peer::{Peer, Rejected};
use super::recipients::Recipients;
use super::table::{Evicts, Table};
use super::writer::WriteBy;
use crate::clock;
use crate::log_limit::LimitLog;
use crate::socket::{Address, Frames, SocketClosed, SocketOptions, TrySendError};

/// Departures, or changes of subscriptions, that are kept for a user that is slow.
const MAX_EVENTS: usize = 4096;

/// What the tasks of a socket share.
pub(super) struct Core {
    pub(super) kind: Kind,
    pub(super) options: SocketOptions,
    opened: Instant,
    pub(super) table: Mutex<Table<Peer>>,
    pub(super) recipients: Mutex<Recipients>,
    /// Notified when a full queue of a peer has capacity again.
    pub(super) has_capacity: Arc<Notify>,
    /// Orders the tasks that connect to each address to end.
    pub(super) connections: Mutex<HashMap<Address, CancellationToken>>,
    pub(super) inbox: Inbox,
    pub(super) buffers: Arc<Buffers>,
    pub(super) peers: watch::Sender<PeerCount>,
    pub(super) departed: broadcast::Sender<Bytes>,
    /// Sent while `recipients` is locked.
    pub(super) subscription_events: broadcast::Sender<SubscriptionEvent>,
    /// Orders tasks to send their queued messages and end.
    pub(super) closing: CancellationToken,
    /// Orders tasks to end at once. The order to kill the component does so, too.
    pub(super) killed: CancellationToken,
    pub(super) tasks: TaskTracker,
    log: Mutex<Logs>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Core");
        shown.field("kind", &self.kind);
        shown.finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Logs {
    replaced: LimitLog,
    stalled: LimitLog,
    slow: LimitLog,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerCount {
    pub(super) count: usize,
    pub(super) generation: u64,
}

impl Core {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        let events = |is_reported| if is_reported { MAX_EVENTS } else { 1 };
        let evicts = match kind {
            Kind::Publish => Evicts::Mute,
            Kind::Push => Evicts::Strangers,
            _ => Evicts::Silent,
        };
        let queue_len = usize::try_from(options.queue_len).unwrap_or(usize::MAX);
        Self {
            kind,
            options: options.clone(),
            opened: clock::now(),
            table: Mutex::new(Table::new(
                evicts,
                options.max_connections,
                options.max_handshakes,
            )),
            recipients: Mutex::new(Recipients::new(kind)),
            has_capacity: Arc::default(),
            connections: Mutex::default(),
            inbox: Inbox::new(queue_len.max(1)),
            buffers: Arc::default(),
            peers: watch::Sender::default(),
            departed: broadcast::Sender::new(events(kind == Kind::Router)),
            subscription_events: broadcast::Sender::new(events(kind == Kind::Publish)),
            closing: CancellationToken::new(),
            killed: options.kill.token(),
            tasks: TaskTracker::new(),
            log: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        clock::since(self.opened)
    }

    pub(super) fn queue_len(&self) -> usize {
        usize::try_from(self.options.queue_len).unwrap_or(usize::MAX)
    }

    /// Returns whether the user of the socket receives messages.
    pub(super) fn receives(&self) -> bool {
        !matches!(self.kind, Kind::Push | Kind::Publish)
    }

    pub(super) fn is_open(&self) -> Result<(), SocketClosed> {
        if self.closing.is_cancelled() || self.killed.is_cancelled() {
            Err(SocketClosed)
        } else {
            Ok(())
        }
    }

    /// Queues a message for its [recipients](Recipients).
    pub(super) fn try_send(&self, frames: Frames, by: WriteBy) -> Result<(), TrySendError<Frames>> {
        self.is_open()?;
        let idle = self
            .recipients
            .lock()
            .try_send(frames, self.queue_len(), by)?;
        if let Some(peer) = idle {
            peer.write_now();
        }
        Ok(())
    }

    /// Queues a message for its [recipients](Recipients), once they are connected and have capacity. Cancel safe.
    pub(super) async fn send(&self, mut frames: Frames) -> Result<(), SocketClosed> {
        let mut peers = self.peers.subscribe();
        loop {
            let mut has_capacity = pin!(self.has_capacity.notified());
            // No notification is missed from here on.
            has_capacity.as_mut().enable();
            frames = match self.try_send(frames, WriteBy::Task) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(frames)) => frames,
                Err(TrySendError::Closed(closed)) => return Err(closed),
            };
            let is_too_slow = async {
                match self.close_slow_subscribers(&frames) {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = has_capacity => {}
                _ = peers.changed() => {}
                () = is_too_slow => {}
                () = self.closing.cancelled() => return Err(SocketClosed),
            }
        }
    }

    /// Closes the connections of subscribers that keep a message waiting and have read nothing for too long. Returns the
    /// time until the next one has.
    fn close_slow_subscribers(&self, frames: &Frames) -> Option<Duration> {
        let timeout = self.options.slow_subscriber_timeout;
        let mut next: Option<Duration> = None;
        for (peer, since) in self.recipients.lock().stalled(frames) {
            match timeout.saturating_sub(clock::since(since)) {
                Duration::ZERO => {
                    peer.closed.cancel();
                    self.log_slow();
                }
                rest => next = Some(next.map_or(rest, |next| next.min(rest))),
            }
        }
        next
    }

    /// Adds or revokes a subscription of a peer.
    pub(super) fn request_subscription(
        &self,
        peer: &Peer,
        request: SubscriptionRequest,
    ) -> Result<(), Rejected> {
        let mut recipients = self.recipients.lock();
        if let Some(event) = recipients.request_subscription(peer, request)? {
            let _ = self.subscription_events.send(event);
        }
        Ok(())
    }

    /// Runs a task of the socket. It is boxed for the same reason as in [`spawn`](crate::spawn).
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.options.kill.track(task.boxed()));
    }

    /// Begins to close: connections send their queued messages and end.
    pub(super) fn close(&self) {
        self.closing.cancel();
        self.inbox.close();
        self.tasks.close();
        for peer in self.table.lock().iter() {
            peer.close_output();
        }
    }

    /// Ends all connections.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    pub(super) fn log_replaced(&self, reason: &str) {
        if let Some(times) = self.log.lock().replaced.record(clock::now()) {
            tracing::warn!(
                times,
                reason,
                max_connections = self.options.max_connections,
                max_handshakes = self.options.max_handshakes,
                "closing connections: the socket has `SocketOptions::max_connections`"
            );
        }
    }

    fn log_slow(&self) {
        if let Some(times) = self.log.lock().slow.record(clock::now()) {
            tracing::warn!(
                times,
                slow_subscriber_timeout = ?self.options.slow_subscriber_timeout,
                "closing connections of subscribers that have stopped reading"
            );
        }
    }

    pub(super) fn log_stalled(&self, peer: &str) {
        if let Some(times) = self.log.lock().stalled.record(clock::now()) {
            tracing::warn!(
                peer,
                times,
                max_receive_bytes = self.options.max_receive_bytes,
                "closing connections that stopped within a message while others wait for memory"
            );
        }
    }

    /// Registers a peer that has completed its handshake. Returns the first frame of its messages.
    pub(super) fn introduce(
        &self,
        peer: &Arc<Peer>,
        chosen: Bytes,
    ) -> Result<Option<Bytes>, Rejected> {
        if self.closing.is_cancelled() {
            return Err(Rejected::Closed);
        }
        let id = if chosen.is_empty() {
            // A zero, and the number of the connection.
            std::iter::once(0)
                .chain(peer.number.to_be_bytes())
                .collect()
        } else {
            chosen
        };
        self.recipients.lock().add(&id, peer)?;
        *peer.routing_id.lock() = Some(id.clone());
        peer.activity.set_introduced();
        self.count(1);
        Ok((self.kind == Kind::Router).then_some(id))
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, peer: &Arc<Peer>) {
        self.table.lock().remove(peer.number);
        self.inbox.end(peer.number);
        let Some(id) = peer.routing_id.lock().take() else {
            return;
        };
        let mut recipients = self.recipients.lock();
        recipients.remove(&id, peer);
        match self.kind {
            Kind::Publish => {
                let gone = SubscriptionEvent::Gone(peer.number);
                let _ = self.subscription_events.send(gone);
            }
            Kind::Router => {
                let _ = self.departed.send(id);
            }
            _ => {}
        }
        drop(recipients);
        self.count(-1);
    }

    fn count(&self, change: isize) {
        self.peers.send_modify(|peers| {
            peers.count = peers.count.saturating_add_signed(change);
            peers.generation += 1;
        });
    }
}
