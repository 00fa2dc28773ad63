//! The sockets, of all kinds and transports.
//!
//! Every connection is a task ([`connection`]) that reads its stream and, as senders may do as well ([`writer`]), writes
//! it, whether it was accepted ([`accept`](mod@accept)) or opened ([`connect`](mod@connect)). The protocol is that of the
//! crate `omq-proto` ([`codec`]). No ZeroMQ crate drives the connections, because none can stop one in the middle of a
//! message, limit the bytes of all of them, or close one for another. These bounds hold whatever peers send:
//!
//! - Memory of messages that are being received: `receive_budget`, for all sockets of a component.
//! - Messages that were received and not taken: [`inbox`].
//! - The number of connections, and which of them makes room for a new one: [`table`].
//! - The queues to peers, and the subscriptions of subscribers: [`recipients`].
//!
//! The typed ends call the methods of [`Socket`] in this order: `new`, `bind` or `connect` for each address, `receiver`
//! once, then `send` and the rest, and `close` last.

mod accept;
mod buffers;
mod codec;
mod connect;
mod connection;
mod core;
mod frame_header;
mod inbox;
mod inproc;
mod listener;
mod message_memory;
mod outbox;
mod peer;
mod recipients;
mod stream;
mod table;
mod writer;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use self::accept::accept;
use self::core::Core;
use self::listener::Listener;
pub(crate) use self::writer::WriteBy;
use super::kind::Kind;
use super::subscriptions::{SubscriptionEvent, SubscriptionRequest, Subscriptions};
use super::{Address, Frames, SocketClosed, SocketOptions, TrySendError};
use crate::spawn::spawn_on;

/// Messages that the owner of a ROUTER takes at once.
///
/// The queue to a peer has capacity for the answers to them and to those in the [`inbox`].
pub(super) const MAX_TAKEN: usize = 64;

/// Time in which a dropped socket sends its queued messages.
const DROP_LINGER: Duration = Duration::from_secs(1);

/// Time in which tasks may end after their messages were discarded.
const MIN_LINGER: Duration = Duration::from_millis(1);

/// A socket.
#[derive(Debug)]
pub(super) struct Socket(Arc<Core>);

impl Drop for Socket {
    fn drop(&mut self) {
        let core = self.0.clone();
        core.close();
        if core.tasks.is_empty() {
            core.killed.cancel();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let close = async move {
                let _ = tokio::time::timeout(DROP_LINGER, core.tasks.wait()).await;
                core.killed.cancel();
            };
            spawn_on(&runtime, close);
        } else {
            core.killed.cancel();
        }
    }
}

impl Socket {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        Self(Arc::new(Core::new(kind, options)))
    }

    /// Binds an address and returns it. A port of 0, or the name `*`, is replaced by the one that was chosen.
    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (listener, bound) = Listener::bind(address).await?;
        let core = self.0.clone();
        self.0.spawn(async move {
            tokio::select! {
                () = accept(core.clone(), listener) => {}
                () = core.closing.cancelled() => {}
                () = core.killed.cancelled() => {}
            }
        });
        Ok(bound)
    }

    /// Connects as soon as a peer listens at the address, and again after each loss of the connection.
    pub(super) fn connect(&self, address: &Address) -> io::Result<()> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        connect::connect(&self.0, address);
        Ok(())
    }

    /// Closes the connection to an address, and does not connect to it again.
    pub(super) fn disconnect(&self, address: &Address) {
        connect::disconnect(&self.0, address);
    }

    /// Subscribes to all topics that begin with a prefix, or revokes one subscription to it, for a SUB.
    pub(super) fn change_subscription(
        &self,
        request: &SubscriptionRequest,
    ) -> Result<(), SocketClosed> {
        self.0.is_open()?;
        let queue_len = self.0.queue_len();
        self.0
            .recipients
            .lock()
            .change_subscription(request, queue_len);
        Ok(())
    }

    /// Returns the subscriptions of a PUB's subscribers, from now on.
    pub(super) fn subscription_events(&self) -> SubscriptionEvents {
        let recipients = self.0.recipients.lock();
        let all = recipients
            .subscriptions()
            .into_iter()
            .flat_map(Subscriptions::all);
        SubscriptionEvents {
            known: all
                .map(|(prefix, it)| SubscriptionEvent::Added(it.peer, prefix.clone(), it.connected))
                .collect(),
            events: self.0.subscription_events.subscribe(),
            closing: self.0.closing.clone(),
        }
    }

    /// Waits for capacity and sends a message. Cancel safe: the message is queued or it is not.
    ///
    /// A ROUTER does not wait: a message for a full queue is dropped.
    pub(super) async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        if self.0.kind != Kind::Router {
            return self.0.send(frames).await;
        }
        match self.try_send(frames, WriteBy::Task) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Returns whether a peer has completed its handshake.
    pub(super) fn has_peer(&self) -> bool {
        self.0.peers.borrow().count > 0
    }

    /// Sends a message if its queues have capacity, and returns it otherwise.
    pub(super) fn try_send(&self, frames: Frames, by: WriteBy) -> Result<(), TrySendError<Frames>> {
        self.0.try_send(frames, by)
    }

    /// Returns the number of peers that have completed their handshake.
    pub(super) fn peers(&self) -> Result<usize, SocketClosed> {
        self.0.is_open()?;
        Ok(self.0.peers.borrow().count)
    }

    /// Returns a number that changes whenever a peer connects or disconnects.
    pub(super) fn peers_generation(&self) -> u64 {
        self.0.peers.borrow().generation
    }

    /// Waits until [`peers_generation`](Self::peers_generation) differs from `seen`. Cancel safe.
    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        let mut peers = self.0.peers.subscribe();
        tokio::select! {
            biased;
            _ = peers.wait_for(|peers| peers.generation != seen) => Ok(()),
            () = self.0.closing.cancelled() => Err(SocketClosed),
        }
    }

    /// Returns the peers of a ROUTER that disconnect from now on.
    pub(super) fn departures(&self) -> Departures {
        Departures(self.0.departed.subscribe(), self.0.closing.clone())
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub(super) async fn close(&self, linger: Duration) {
        self.0.close();
        let linger = linger.max(MIN_LINGER);
        let _ = tokio::time::timeout(linger, self.0.tasks.wait()).await;
        self.0.kill();
        self.0.tasks.wait().await;
    }

    pub(super) fn receiver(&self) -> Receiver {
        Receiver(self.0.clone())
    }
}

/// The receiving side of a socket.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Core>);

impl Receiver {
    /// Waits for a message, and returns up to `max` that have arrived. Cancel safe: no message is lost.
    pub(super) async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<usize, SocketClosed> {
        if max == 0 {
            return Ok(0);
        }
        poll_fn(|context| self.0.inbox.poll_take(context, out, max)).await
    }

    /// Returns up to `max` messages that have arrived.
    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        self.0.inbox.take(out, max)
    }
}

/// The peers that leave a ROUTER.
#[derive(Debug)]
pub(super) struct Departures(broadcast::Receiver<Bytes>, CancellationToken);

impl Departures {
    /// Waits until a peer disconnects, and returns its routing id. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        loop {
            let departed = self.1.run_until_cancelled(self.0.recv()).await;
            match departed {
                Some(Ok(id)) => return Ok(id),
                Some(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Some(Err(broadcast::error::RecvError::Closed)) | None => return Err(SocketClosed),
            }
        }
    }
}

/// The subscriptions of a PUB's subscribers.
#[derive(Debug)]
pub(super) struct SubscriptionEvents {
    known: Vec<SubscriptionEvent>,
    events: broadcast::Receiver<SubscriptionEvent>,
    closing: CancellationToken,
}

impl SubscriptionEvents {
    /// Waits for the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        if let Some(event) = self.known.pop() {
            return Ok(event);
        }
        let event = self.closing.run_until_cancelled(self.events.recv()).await;
        match event {
            Some(Ok(event)) => Ok(event),
            Some(Err(broadcast::error::RecvError::Lagged(_))) => Ok(SubscriptionEvent::Missed),
            Some(Err(broadcast::error::RecvError::Closed)) | None => Err(SocketClosed),
        }
    }

    /// Returns the next event, if there is one.
    pub(super) fn try_next(&mut self) -> Option<SubscriptionEvent> {
        if let Some(event) = self.known.pop() {
            return Some(event);
        }
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(SubscriptionEvent::Missed),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    /// The documentation of ROUTER promises these routing ids.
    #[tokio::test]
    async fn departures_have_the_routing_ids_of_messages() {
        use crate::socket::{Dealer, Router};
        let options = SocketOptions::default();
        let address = "tcp://127.0.0.1:0".parse().unwrap();
        let (mut router, address) = Router::bind(&address, &options).await.unwrap();
        let mut departures = router.departures();
        let mut dealers = Vec::new();
        let mut names = Vec::new();
        for _ in 0..3 {
            let dealer = Dealer::connect(&address, &options).await.unwrap();
            let frame = Bytes::from_static(b"x");
            dealer.send(iter::once(frame).collect()).await.unwrap();
            let mut received = Vec::new();
            router.recv_many(&mut received, 1).await.unwrap();
            names.push(received[0][0].clone());
            dealers.push(Some(dealer));
        }
        for number in [1, 0, 2] {
            dealers[number].take().unwrap().close(Duration::ZERO).await;
            let limit = Duration::from_secs(10);
            let gone = tokio::time::timeout(limit, departures.next()).await;
            assert_eq!(gone.unwrap().unwrap(), names[number]);
        }
    }
}
