//! PUSH and PULL: messages to one of several peers in turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backend::{Kind, Receiver, Socket};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// Opens a socket of `kind` that binds `address`, and tells where it is bound.
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

/// Binds a socket, which the network is trusted for.
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

/// Opens a socket of `kind` that connects to `address`.
pub(super) async fn connect(
    kind: Kind,
    address: &Address,
    options: &SocketOptions,
) -> Result<Socket, SocketError> {
    let socket = Socket::new(kind, options);
    connect_to(&socket, address).await?;
    Ok(socket)
}

pub(super) async fn connect_to(socket: &Socket, address: &Address) -> Result<(), SocketError> {
    let connected = if address.can_be_connected_to() {
        socket.connect(address).await
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    };
    connected.map_err(|source| SocketError::Connect {
        address: address.clone(),
        source,
    })
}

/// Waits until at least one peer is there (`wanted`), or none. Cancel safe.
pub(super) async fn peers_there(socket: &Socket, wanted: bool) -> Result<(), SocketClosed> {
    loop {
        let seen = socket.peers_generation();
        if (socket.peers().await? > 0) == wanted {
            return Ok(());
        }
        socket.peers_changed(seen).await?;
    }
}

/// Sends each message to one of its peers in turn. Clones share the socket.
#[derive(Debug, Clone)]
pub struct Push {
    socket: Arc<Socket>,
}

impl Push {
    /// Binds `address`, and tells where.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] when the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Push, address, options).await?;
        Ok((Self::new(socket), bound))
    }

    /// One that is not bound: no peer reaches it, unless it is bound later ([`Peers::bind`]).
    pub(crate) fn idle(options: &SocketOptions) -> Self {
        Self::new(Socket::new(Kind::Push, options))
    }

    /// Connects to `address`, now or as soon as somebody is there.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        Ok(Self::new(connect(Kind::Push, address, options).await?))
    }

    fn new(socket: Socket) -> Self {
        Self {
            socket: Arc::new(socket),
        }
    }

    /// Sends one message; waits while no peer is there that has room for it.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued or it is not; no peer suffers.
    pub async fn send(&self, message: Bytes) -> Result<(), SocketClosed> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.socket.send(one(message)).await,
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Sends one message if a peer has room for it, and gives it back if none has.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the message when there is no room.
    pub fn try_send(&self, message: Bytes) -> Result<(), TrySendError<Bytes>> {
        match self.socket.try_send(one(message)) {
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

    /// Sends what is queued, for at most `linger`, and closes.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

fn one(frame: Bytes) -> Frames {
    std::iter::once(frame).collect()
}

/// Receives the messages of all of its peers, each in turn.
///
/// A message of several frames counts as as many messages, as in pylm.
#[derive(Debug)]
pub struct Pull {
    socket: Arc<Socket>,
    receiver: Receiver,
    messages: Vec<Frames>,
}

impl Pull {
    /// Binds `address`, and tells where.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] when the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Pull, address, options).await?;
        Ok((Self::new(socket), bound))
    }

    /// One that is not bound: no peer reaches it, unless it is bound later ([`Peers::bind`]).
    pub(crate) fn idle(options: &SocketOptions) -> Self {
        Self::new(Socket::new(Kind::Pull, options))
    }

    /// Connects to `address`, now or as soon as somebody is there.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        Ok(Self::new(connect(Kind::Pull, address, options).await?))
    }

    fn new(socket: Socket) -> Self {
        Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
            messages: Vec::new(),
        }
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
        out: &mut Vec<Bytes>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(&mut self.messages, max).await?;
        out.extend(self.messages.drain(..).flatten());
        Ok(())
    }

    /// Takes up to `max` messages that are there.
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

/// The peers of a connecting socket: whether there are any, and who they are to be.
#[derive(Debug, Clone)]
pub(crate) struct Peers(pub(super) Arc<Socket>);

impl Peers {
    /// A number that changes with each peer that comes or goes.
    pub(crate) fn generation(&self) -> u64 {
        self.0.peers_generation()
    }

    /// Binds a socket that was not bound when it was made.
    pub(crate) async fn bind(
        &self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<Address, SocketError> {
        bind_socket(&self.0, address, options).await
    }

    /// Asks for all topics that begin with `prefix`, where the socket subscribes.
    pub(crate) async fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.0.subscribe(prefix).await
    }

    /// Waits until a peer is connected. Cancel safe.
    pub(crate) async fn connected(&self) -> Result<(), SocketClosed> {
        peers_there(&self.0, true).await
    }

    /// Whether a peer is connected now. Cancel safe.
    pub(crate) async fn any(&self) -> Result<bool, SocketClosed> {
        Ok(self.count().await? > 0)
    }

    /// How many peers are connected now. Cancel safe.
    pub(crate) async fn count(&self) -> Result<usize, SocketClosed> {
        self.0.peers().await
    }

    /// Waits until no peer is connected. Cancel safe.
    pub(crate) async fn disconnected(&self) -> Result<(), SocketClosed> {
        peers_there(&self.0, false).await
    }

    /// Goes over to another peer: connects to `new` and leaves `old`.
    pub(crate) async fn move_to(&self, old: &Address, new: &Address) -> Result<(), SocketError> {
        connect_to(&self.0, new).await?;
        self.0
            .disconnect(old)
            .await
            .map_err(|source| SocketError::Connect {
                address: old.clone(),
                source,
            })
    }
}
