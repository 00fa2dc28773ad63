//! What can go wrong with a socket.

use std::io;

use super::{Address, AddressError};
use crate::network::ExposedError;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The address could not be bound.
    #[error("cannot bind `{address}`{}", bind_hint(source))]
    Bind {
        /// What was to be bound.
        address: Address,
        /// The cause, as the system tells it.
        source: io::Error,
    },
    /// Other hosts can reach the address, and nothing says that the network is trusted.
    #[error(transparent)]
    Exposed(#[from] ExposedError),
    /// The address is not one that can be connected to.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// What was to be connected to.
        address: Address,
        /// The cause.
        source: io::Error,
    },
    /// The threads that sockets run on could not be started.
    #[error("cannot start a thread for sockets")]
    Runtime {
        /// The cause.
        source: io::Error,
    },
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}

/// What is wrong with an address that cannot be bound, and what to do.
fn bind_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            ", another program is bound to it: stop that program, or choose another address"
        }
        io::ErrorKind::AddrNotAvailable => {
            ", this machine has no such address: give `127.0.0.1`, or an address of one of its interfaces"
        }
        io::ErrorKind::PermissionDenied => {
            ", this user may not bind it: choose a port from 1024 on, or a path in a directory that the user can write"
        }
        io::ErrorKind::NotFound => ", its directory does not exist: create the directory",
        io::ErrorKind::AlreadyExists => {
            ", the file there is not a socket: remove it, or choose another path"
        }
        _ => "",
    }
}

/// The socket is closed: nothing can be sent or received any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct SocketClosed;

/// Why nothing was sent just now. The message comes back.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError<T> {
    /// No queue to a peer has room, or there is no peer.
    #[error("no room in the queues of the socket")]
    Full(T),
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}
