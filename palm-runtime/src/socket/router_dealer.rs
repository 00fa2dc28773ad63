//! ROUTER and DEALER: messages to and from a certain peer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backend::{Departures, Kind, Receiver, Socket};
use super::push_pull::{bind, connect};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// Receives from many peers, and answers each of them: the first frame of a message says whom it is
/// from or for.
#[derive(Debug)]
pub struct Router {
    socket: Arc<Socket>,
    receiver: Receiver,
}

impl Router {
    /// Binds `address`, and tells where.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] when the address cannot be bound.
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

    /// Connects to `address`, now or as soon as somebody is there.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Router, address, options).await?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
        })
    }

    /// Waits for a message, and takes up to `max` that are there.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
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

    /// Who leaves from now on.
    pub(crate) fn departures(&self) -> RouterDepartures {
        RouterDepartures(self.socket.departures())
    }

    /// Sends to the peer that the first frame names, if its queue has room.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] when the queue is full, with the message. A peer that is gone gets nothing,
    /// and that is no error.
    pub fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.sender().try_send(frames)
    }

    /// Sends what is queued, for at most `linger`, and closes.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

/// Tells which peers of a [`Router`] have left.
#[derive(Debug)]
pub(crate) struct RouterDepartures(Departures);

impl RouterDepartures {
    /// The first frame of the messages of the next peer whose connection is gone. A backend that cannot
    /// tell, or missed some, says nothing: this is for being quick, and nothing to rely on. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        self.0.next().await
    }
}

/// The sending side of a [`Router`].
#[derive(Debug, Clone)]
pub(crate) struct RouterSender(Arc<Socket>);

impl RouterSender {
    pub(crate) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        match self.0.try_send(frames) {
            Err(TrySendError::Full(frames)) => Err(TrySendError::Full(frames)),
            // Closed, or a peer that has gone: nobody is left to be told.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Sends to its peers in turn and receives from all of them; the partner of a [`Router`].
#[derive(Debug)]
pub struct Dealer {
    socket: Arc<Socket>,
    receiver: Receiver,
}

impl Dealer {
    /// Connects to `address`, now or as soon as somebody is there.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Dealer, address, options).await?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
        })
    }

    /// Sends one message; waits for room. Cancel safe: it is queued or it is not.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    pub async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        self.socket.send(frames).await
    }

    /// Waits for a message, and takes up to `max` that are there.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
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

    /// Both sides, to be used by two tasks.
    pub(super) fn split(self) -> (Arc<Socket>, Receiver) {
        (self.socket, self.receiver)
    }

    /// Sends what is queued, for at most `linger`, and closes.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

/// The sending side of a [`Dealer`].
#[derive(Debug, Clone)]
pub(crate) struct DealerSender(Arc<Socket>);

impl DealerSender {
    /// Sends if somebody is connected and has room, and gives the message back otherwise.
    pub(crate) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        self.0.try_send(frames)
    }

    /// Whether somebody is connected.
    pub(crate) fn has_peer(&self) -> bool {
        self.0.has_peer()
    }

    /// A number that changes with each peer that comes or goes.
    pub(crate) fn peers_generation(&self) -> u64 {
        self.0.peers_generation()
    }

    /// Waits until [`peers_generation`](Self::peers_generation) is no longer `seen`. Cancel safe.
    pub(crate) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        self.0.peers_changed(seen).await
    }
}
