//! PUSH and PULL: each message goes to one of several peers, in turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::kind::Kind;
use super::subscriptions::SubscriptionRequest;
use super::zmtp::{Receiver, Socket, WriteBy};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// Opens a socket that binds `address`, and returns the bound address.
pub(super) async fn bind(
    kind: Kind,
    address: &Address,
    options: &SocketOptions,
) -> Result<(Socket, Address), SocketError> {
    if let Some(network) = &options.network {
        address.check(network)?;
    }
    let socket = Socket::new(kind, options);
    let bound = bind_socket(&socket, address, options).await?;
    Ok((socket, bound))
}

/// Binds a socket. The network was checked.
async fn bind_socket(
    socket: &Socket,
    address: &Address,
    options: &SocketOptions,
) -> Result<Address, SocketError> {
    match socket.bind(address).await {
        Ok(bound) => {
            if let (Some(network), Some(host)) = (&options.network, bound.host()) {
                network.note(host, &bound);
            }
            Ok(bound)
        }
        Err(source) => Err(SocketError::Bind {
            address: address.clone(),
            source,
        }),
    }
}

/// Opens a socket that connects to `address`.
pub(super) fn connect(
    kind: Kind,
    address: &Address,
    options: &SocketOptions,
) -> Result<Socket, SocketError> {
    let socket = Socket::new(kind, options);
    connect_to(&socket, address)?;
    Ok(socket)
}

pub(super) fn connect_to(socket: &Socket, address: &Address) -> Result<(), SocketError> {
    let connected = if address.can_be_connected_to() {
        socket.connect(address)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    };
    connected.map_err(|source| SocketError::Connect {
        address: address.clone(),
        source,
    })
}

/// Waits until a peer is connected (`wanted`), or no peer is. Cancel safe.
pub(super) async fn wait_for_peers(socket: &Socket, wanted: bool) -> Result<(), SocketClosed> {
    loop {
        let seen = socket.peers_generation();
        if (socket.peers()? > 0) == wanted {
            return Ok(());
        }
        socket.peers_changed(seen).await?;
    }
}

/// The sending end: each message goes to the next peer with capacity. Clones share the socket.
#[derive(Debug, Clone)]
pub struct Push {
    socket: Arc<Socket>,
}

impl Push {
    /// Binds `address`, and returns it with the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] if the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Push, address, options).await?;
        Ok((Self::new(socket), bound))
    }

    /// Opens a socket that is neither bound nor connected. [`Peers::bind`] binds it later.
    pub(crate) fn idle(options: &SocketOptions) -> Self {
        Self::new(Socket::new(Kind::Push, options))
    }

    /// Connects to `address` as soon as a peer listens there, and again after each loss of the connection.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        Ok(Self::new(connect(Kind::Push, address, options)?))
    }

    fn new(socket: Socket) -> Self {
        Self {
            socket: Arc::new(socket),
        }
    }

    /// Sends one message. Waits until a connected peer has capacity.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued or it is not. Other messages are not affected.
    pub async fn send(&self, message: Bytes) -> Result<(), SocketClosed> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.socket.send(single(message)).await,
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Sends one message if a connected peer has capacity.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] with the message if no peer has capacity.
    pub fn try_send(&self, message: Bytes) -> Result<(), TrySendError<Bytes>> {
        match self.socket.try_send(single(message), WriteBy::Task) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mut frames)) => {
                Err(TrySendError::Full(frames.pop().unwrap_or_default()))
            }
            Err(TrySendError::Closed(closed)) => Err(TrySendError::Closed(closed)),
        }
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket.clone())
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

fn single(frame: Bytes) -> Frames {
    std::iter::once(frame).collect()
}

/// The receiving end: messages of all peers, each peer in turn.
///
/// Each frame of a message counts as a message of its own, as in pylm.
#[derive(Debug)]
pub struct Pull {
    socket: Arc<Socket>,
    receiver: Receiver,
    messages: Vec<Frames>,
}

impl Pull {
    /// Binds `address`, and returns it with the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] if the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Pull, address, options).await?;
        Ok((Self::new(socket), bound))
    }

    /// Opens a socket that is neither bound nor connected. [`Peers::bind`] binds it later.
    pub(crate) fn idle(options: &SocketOptions) -> Self {
        Self::new(Socket::new(Kind::Pull, options))
    }

    /// Connects to `address` as soon as a peer listens there, and again after each loss of the connection.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        Ok(Self::new(connect(Kind::Pull, address, options)?))
    }

    fn new(socket: Socket) -> Self {
        Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
            messages: Vec::new(),
        }
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
        out: &mut Vec<Bytes>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(&mut self.messages, max).await?;
        out.extend(self.messages.drain(..).flatten());
        Ok(())
    }

    /// Appends up to `max` received messages to `out`, without waiting.
    pub fn try_recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) {
        self.receiver.try_recv_many(&mut self.messages, max);
        out.extend(self.messages.drain(..).flatten());
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket.clone())
    }

    /// Closes the socket.
    pub async fn close(self) {
        self.socket.close(Duration::ZERO).await;
    }
}

/// The peers of a socket: their number, and the addresses that it binds and connects to.
#[derive(Debug, Clone)]
pub(crate) struct Peers(pub(super) Arc<Socket>);

impl Peers {
    /// Returns a number that changes whenever a peer connects or disconnects.
    pub(crate) fn generation(&self) -> u64 {
        self.0.peers_generation()
    }

    /// Binds a socket that was opened without an address.
    pub(crate) async fn bind(
        &self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<Address, SocketError> {
        bind_socket(&self.0, address, options).await
    }

    /// Subscribes to all topics that begin with `prefix`, for a SUB.
    pub(crate) fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.0
            .change_subscription(&SubscriptionRequest::Subscribe(prefix))
    }

    /// Waits until a peer is connected. Cancel safe.
    pub(crate) async fn connected(&self) -> Result<(), SocketClosed> {
        wait_for_peers(&self.0, true).await
    }

    /// Returns whether a peer is connected.
    pub(crate) fn any(&self) -> Result<bool, SocketClosed> {
        Ok(self.count()? > 0)
    }

    /// Returns the number of connected peers.
    pub(crate) fn count(&self) -> Result<usize, SocketClosed> {
        self.0.peers()
    }

    /// Waits until no peer is connected. Cancel safe.
    pub(crate) async fn disconnected(&self) -> Result<(), SocketClosed> {
        wait_for_peers(&self.0, false).await
    }

    /// Connects to `new` and disconnects from `old`.
    pub(crate) fn move_to(&self, old: &Address, new: &Address) -> Result<(), SocketError> {
        connect_to(&self.0, new)?;
        self.0.disconnect(old);
        Ok(())
    }
}
