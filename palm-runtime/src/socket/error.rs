//! The errors of sockets.

use std::io;

use super::{Address, AddressError};
use crate::network::ExposedError;

/// Error of opening a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The text is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The address could not be bound.
    #[error("cannot bind `{address}`{}", bind_hint(source))]
    #[non_exhaustive]
    Bind {
        /// The address, as configured.
        address: Address,
        /// The error of the system.
        source: io::Error,
    },
    /// Other hosts can reach the address, and the network is not declared as trusted.
    #[error(transparent)]
    Exposed(#[from] ExposedError),
    /// The address is not one that can be connected to.
    #[error("cannot connect to `{address}`")]
    #[non_exhaustive]
    Connect {
        /// The address, as configured.
        address: Address,
        /// The cause.
        source: io::Error,
    },
    /// The threads of sockets could not be started.
    #[error("cannot start a thread for sockets")]
    #[non_exhaustive]
    Runtime {
        /// The cause.
        source: io::Error,
    },
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}

/// Returns what is wrong with an address that cannot be bound, and what the user can do.
fn bind_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            ", another program is bound to it: stop that program, or choose another address"
        }
        io::ErrorKind::AddrNotAvailable => {
            ", this machine has no such address: bind `127.0.0.1`, or an address of one of its interfaces"
        }
        io::ErrorKind::PermissionDenied => {
            ", this user may not bind it: choose a port above 1023, or a path in a directory that the user can write"
        }
        io::ErrorKind::NotFound => ", its directory does not exist: create the directory",
        io::ErrorKind::AlreadyExists => {
            ", the file there is not a socket: remove it, or choose another path"
        }
        _ => "",
    }
}

/// The socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct SocketClosed;

/// Error of sending a message, which it contains.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError<T> {
    /// The queues of all peers are full, or no peer is connected.
    #[error("the queues of the socket are full, or no peer is connected")]
    Full(T),
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}
