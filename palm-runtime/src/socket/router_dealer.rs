//! ROUTER and DEALER: messages to and from a peer that a routing id names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::kind::Kind;
use super::push_pull::{bind, connect};
use super::zmtp::{Departures, Receiver, Socket, WriteBy};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// Receives from many peers and sends to each of them. The first frame of a message is the routing id of its peer.
#[derive(Debug)]
pub struct Router {
    socket: Arc<Socket>,
    receiver: Receiver,
}

impl Router {
    /// Binds `address`, and returns it with the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] if the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Router, address, options).await?;
        let router = Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
        };
        Ok((router, bound))
    }

    /// Connects to `address` as soon as a peer listens there, and again after each loss of the connection.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Router, address, options)?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
        })
    }

    /// Waits for a message, and appends up to `max` received ones to `out`.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No message is lost.
    pub async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(out, max).await.map(drop)
    }

    pub(crate) fn sender(&self) -> RouterSender {
        RouterSender(self.socket.clone())
    }

    /// Returns the peers that leave from now on.
    pub(crate) fn departures(&self) -> RouterDepartures {
        RouterDepartures(self.socket.departures())
    }

    /// Sends to the peer that the first frame names, if its queue has capacity. A message to a peer that has left is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] with the message if the queue is full.
    pub fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.sender().try_send(frames, WriteBy::Task)
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

/// The peers that leave a [`Router`].
#[derive(Debug)]
pub(crate) struct RouterDepartures(Departures);

impl RouterDepartures {
    /// Waits until a peer disconnects, and returns its routing id. Cancel safe.
    ///
    /// A disconnection is not reported if this is called too rarely. Do not rely on it alone.
    pub(crate) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        self.0.next().await
    }
}

/// The sending side of a [`Router`].
#[derive(Debug, Clone)]
pub(crate) struct RouterSender(Arc<Socket>);

impl RouterSender {
    pub(crate) fn try_send(&self, frames: Frames, by: WriteBy) -> Result<(), TrySendError<Frames>> {
        match self.0.try_send(frames, by) {
            Err(TrySendError::Full(frames)) => Err(TrySendError::Full(frames)),
            // Either the socket is closed or the peer has left.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Sends to its peers in turn and receives from all of them. The counterpart of a [`Router`].
#[derive(Debug)]
pub struct Dealer {
    socket: Arc<Socket>,
    receiver: Receiver,
}

impl Dealer {
    /// Connects to `address` as soon as a peer listens there, and again after each loss of the connection.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Dealer, address, options)?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
        })
    }

    /// Waits for capacity and sends one message. Cancel safe: the message is queued or it is not.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    pub async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        self.socket.send(frames).await
    }

    /// Waits for a message, and appends up to `max` received ones to `out`.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No message is lost.
    pub async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(out, max).await.map(drop)
    }

    pub(crate) fn sender(&self) -> DealerSender {
        DealerSender(self.socket.clone())
    }

    /// Undoes [`split`](Self::split).
    pub(super) fn from_parts(socket: Arc<Socket>, receiver: Receiver) -> Self {
        Self { socket, receiver }
    }

    /// Splits the socket, for two tasks.
    pub(super) fn split(self) -> (Arc<Socket>, Receiver) {
        (self.socket, self.receiver)
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

/// The sending side of a [`Dealer`].
#[derive(Debug, Clone)]
pub(crate) struct DealerSender(Arc<Socket>);

impl DealerSender {
    /// Sends a message if a connected peer has capacity, and returns it otherwise.
    pub(crate) fn try_send(&self, frames: Frames, by: WriteBy) -> Result<(), TrySendError<Frames>> {
        self.0.try_send(frames, by)
    }

    pub(super) fn into_socket(self) -> Arc<Socket> {
        self.0
    }

    /// Returns whether a peer is connected.
    pub(crate) fn has_peer(&self) -> bool {
        self.0.has_peer()
    }

    /// Returns a number that changes whenever a peer connects or disconnects.
    pub(crate) fn peers_generation(&self) -> u64 {
        self.0.peers_generation()
    }

    /// Waits until [`peers_generation`](Self::peers_generation) differs from `seen`. Cancel safe.
    pub(crate) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        self.0.peers_changed(seen).await
    }
}
