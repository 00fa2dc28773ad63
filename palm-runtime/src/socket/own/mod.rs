//! PULL, ROUTER and DEALER sockets: those of links, and those that pylm's peers send to.
//!
//! They run on no backend, whichever is chosen: the drivers of neither ZeroMQ crate can stop a connection in the middle
//! of a message, limit the bytes of all connections, or close one connection for another. Here every connection is a task
//! ([`connection`]) that owns its stream, whether it was accepted ([`accept`](mod@accept)) or opened
//! ([`connect`](mod@connect)). The protocol is that of the crate `omq-proto` ([`codec`]). Three bounds hold whatever
//! peers send:
//!
//! - Memory of messages that are being received: `receive_budget`, for all sockets of a component.
//! - Messages that were received and not taken: [`inbox`].
//! - The number of connections, and which of them makes room for a new one: [`table`].
//!
//! Only peers of the same process use `inproc://` addresses. Sockets with these run on the backend.

mod accept;
mod buffers;
mod codec;
mod connect;
mod connection;
mod core;
mod frame_header;
mod inbox;
mod listener;
mod message_memory;
mod stream;
mod table;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use self::accept::accept;
use self::core::Core;
use self::listener::Listener;
use super::kind::Kind;
use super::subscriptions::SubscriptionEvent;
use super::{Address, Frames, SocketClosed, SocketOptions, TrySendError};

/// Messages that the owner of a ROUTER takes at once.
///
/// The queue to a peer has capacity for the answers to them and to those in the [`inbox`].
pub(super) const MAX_TAKEN: usize = 64;

/// Time in which a dropped socket sends its queued messages.
const DROP_LINGER: Duration = Duration::from_secs(1);

/// Time in which tasks may end after their messages were discarded.
const MIN_LINGER: Duration = Duration::from_millis(1);

/// A PULL, ROUTER or DEALER.
#[derive(Debug)]
pub(super) struct Socket(Arc<Core>);

impl Drop for Socket {
    fn drop(&mut self) {
        let core = self.0.clone();
        core.close();
        if core.options.kill.is_ordered() {
            core.killed.cancel();
            let tasks = core.tasks.clone();
            core.options
                .kill
                .close(|| async move { tasks.wait().await });
        } else if core.tasks.is_empty() {
            core.killed.cancel();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(DROP_LINGER, core.tasks.wait()).await;
                core.killed.cancel();
            });
        } else {
            core.killed.cancel();
        }
    }
}

impl Socket {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        Self(Arc::new(Core::new(kind, options)))
    }

    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (listener, bound) = Listener::bind(address).await?;
        let core = self.0.clone();
        self.0.tasks.spawn(async move {
            let closing = core.closing.clone();
            closing.run_until_cancelled(accept(core, listener)).await;
        });
        Ok(bound)
    }

    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn connect(&self, address: &Address) -> io::Result<()> {
        if self.0.closing.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        connect::connect(&self.0, address);
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn disconnect(&self, address: &Address) -> io::Result<()> {
        connect::disconnect(&self.0, address);
        Ok(())
    }

    /// Only a SUB does.
    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn subscribe(&self, _: Bytes) -> Result<(), SocketClosed> {
        Err(SocketClosed)
    }

    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn unsubscribe(&self, _: Bytes) -> Result<(), SocketClosed> {
        Err(SocketClosed)
    }

    /// Only a PUB has subscribers.
    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn subscription_events(&self) -> Result<SubscriptionEvents, SocketClosed> {
        Err(SocketClosed)
    }

    /// Sends a message. A ROUTER does not wait: a message for a full queue is dropped.
    pub(super) async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        if self.0.kind == Kind::Dealer {
            return self.0.send(frames).await;
        }
        match self.try_send(frames) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    pub(super) fn has_peer(&self) -> bool {
        self.0.peers.borrow().count > 0
    }

    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.0.try_send(frames)
    }

    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn peers(&self) -> Result<usize, SocketClosed> {
        self.0.is_open()?;
        Ok(self.0.peers.borrow().count)
    }

    pub(super) fn peers_generation(&self) -> u64 {
        self.0.peers.borrow().generation
    }

    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        let mut peers = self.0.peers.subscribe();
        tokio::select! {
            biased;
            _ = peers.wait_for(|peers| peers.generation != seen) => Ok(()),
            () = self.0.closing.cancelled() => Err(SocketClosed),
        }
    }

    pub(super) fn departures(&self) -> Departures {
        Departures(self.0.departed.subscribe(), self.0.closing.clone())
    }

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
    pub(super) async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<usize, SocketClosed> {
        if max == 0 {
            return Ok(0);
        }
        loop {
            let mut arrived = std::pin::pin!(self.0.inbox.arrived.notified());
            // No notification is missed from here on.
            arrived.as_mut().enable();
            let count = self.0.inbox.take(out, max);
            if count > 0 {
                return Ok(count);
            }
            tokio::select! {
                () = arrived => {}
                () = self.0.closing.cancelled() => return Err(SocketClosed),
            }
        }
    }

    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        self.0.inbox.take(out, max)
    }
}

/// The peers that leave a ROUTER.
#[derive(Debug)]
pub(super) struct Departures(broadcast::Receiver<Bytes>, CancellationToken);

impl Departures {
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

/// These sockets have no subscribers.
#[derive(Debug)]
pub(super) enum SubscriptionEvents {}

impl SubscriptionEvents {
    #[expect(clippy::unused_async, reason = "the backends wait")]
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        match *self {}
    }

    pub(super) fn try_next(&mut self) -> Option<SubscriptionEvent> {
        match *self {}
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
