//! One interface to the sockets of [`own`] and of the ZeroMQ crates.
//!
//! A [`Socket`] is one of [`own`], or belongs to the backend that [`SocketOptions::backend`] chooses. Each method matches
//! on that once, so that the choice costs neither an allocation nor a dynamic call. The typed ends call the methods in
//! this order: `open`, `bind` or `connect` for each address, `receiver` once, then `send` and the rest, and `close` last.
//! The guarantees of each method are documented here; all implement them.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::kind::Kind;
#[cfg(feature = "omq")]
use super::omq;
use super::own;
use super::subscriptions::SubscriptionEvent;
#[cfg(feature = "zeromq")]
use super::zeromq;
use super::{Address, Backend, Frames, SocketClosed, SocketOptions, TrySendError};

/// Evaluates an expression for whichever backend a value belongs to.
macro_rules! either {
    ($type:ident, $value:expr, $inner:pat => $result:expr) => {
        match $value {
            $type::Own($inner) => $result,
            #[cfg(feature = "omq")]
            $type::Omq($inner) => $result,
            #[cfg(feature = "zeromq")]
            $type::Zeromq($inner) => $result,
            #[cfg(not(any(feature = "omq", feature = "zeromq")))]
            $type::None => unreachable!(),
        }
    };
}

/// Evaluates an expression for whichever backend a value belongs to, and wraps the result in the type of that name.
macro_rules! each {
    ($type:ident, $value:expr, $inner:pat => $wrapper:ident($result:expr)) => {
        match $value {
            $type::Own($inner) => $wrapper::Own($result),
            #[cfg(feature = "omq")]
            $type::Omq($inner) => $wrapper::Omq($result),
            #[cfg(feature = "zeromq")]
            $type::Zeromq($inner) => $wrapper::Zeromq($result),
            #[cfg(not(any(feature = "omq", feature = "zeromq")))]
            $type::None => $wrapper::None,
        }
    };
}

/// A socket with palm's settings.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a component has few sockets, and does not move them"
)]
pub(super) enum Socket {
    Own(own::Socket),
    #[cfg(feature = "omq")]
    Omq(omq::Socket),
    #[cfg(feature = "zeromq")]
    Zeromq(zeromq::Socket),
    #[cfg(not(any(feature = "omq", feature = "zeromq")))]
    None,
}

impl Socket {
    /// Opens a socket that will bind or connect to `address`: a PULL, ROUTER or DEALER for other processes on no backend
    /// (see [`own`]), others on the one that the options choose.
    pub(super) fn open(kind: Kind, address: Option<&Address>, options: &SocketOptions) -> Self {
        match kind {
            Kind::Pull | Kind::Router | Kind::Dealer
                if !address.is_some_and(Address::is_inproc) =>
            {
                Self::Own(own::Socket::new(kind, options))
            }
            _ => Self::new(kind, options),
        }
    }

    /// Opens a socket on the backend that the options choose.
    fn new(kind: Kind, options: &SocketOptions) -> Self {
        match options.backend {
            #[cfg(feature = "omq")]
            Backend::Omq => Self::Omq(omq::Socket::new(kind, options)),
            #[cfg(feature = "zeromq")]
            Backend::Zeromq => Self::Zeromq(zeromq::Socket::new(kind, options)),
            #[cfg(not(any(feature = "omq", feature = "zeromq")))]
            Backend::None => Self::None,
        }
    }

    /// Binds an address and returns it. A port of 0 is replaced by the one that the system chose.
    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        either!(Self, self, socket => socket.bind(address).await)
    }

    /// Connects as soon as a peer listens at the address, and again after each loss of the connection.
    pub(super) async fn connect(&self, address: &Address) -> io::Result<()> {
        either!(Self, self, socket => socket.connect(address).await)
    }

    /// Closes the connection to an address, and does not connect to it again.
    pub(super) async fn disconnect(&self, address: &Address) -> io::Result<()> {
        either!(Self, self, socket => socket.disconnect(address).await)
    }

    /// Subscribes to all topics that begin with `prefix`.
    pub(super) async fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        either!(Self, self, socket => socket.subscribe(prefix).await)
    }

    /// Revokes one subscription to `prefix`.
    pub(super) async fn unsubscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        either!(Self, self, socket => socket.unsubscribe(prefix).await)
    }

    /// Returns whether a peer that can receive messages may be connected.
    pub(super) fn has_peer(&self) -> bool {
        either!(Self, self, socket => socket.has_peer())
    }

    /// Sends a message if a queue has capacity, and returns it otherwise.
    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        either!(Self, self, socket => socket.try_send(frames))
    }

    /// Waits for capacity and sends a message. Cancel safe: the message is queued or it is not.
    pub(super) async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        either!(Self, self, socket => socket.send(frames).await)
    }

    /// Returns the number of peers that are connected and have completed their handshake.
    pub(super) async fn peers(&self) -> Result<usize, SocketClosed> {
        either!(Self, self, socket => socket.peers().await)
    }

    /// Returns a number that changes whenever a peer connects or disconnects.
    pub(super) fn peers_generation(&self) -> u64 {
        either!(Self, self, socket => socket.peers_generation())
    }

    /// Waits until [`peers_generation`](Self::peers_generation) differs from `seen`. Cancel safe.
    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        either!(Self, self, socket => socket.peers_changed(seen).await)
    }

    /// Returns the subscriptions of a publisher's subscribers, from now on.
    pub(super) async fn subscription_events(&self) -> Result<SubscriptionEvents, SocketClosed> {
        Ok(each!(Self, self, socket => SubscriptionEvents(socket.subscription_events().await?)))
    }

    /// Returns a stream of the peers of a ROUTER that disconnect from now on.
    pub(super) fn departures(&self) -> Departures {
        each!(Self, self, socket => Departures(socket.departures()))
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub(super) async fn close(&self, linger: Duration) {
        either!(Self, self, socket => socket.close(linger).await);
    }

    pub(super) fn receiver(&self) -> Receiver {
        each!(Self, self, socket => Receiver(socket.receiver()))
    }
}

/// The receiving side of a socket.
#[derive(Debug)]
pub(super) enum Receiver {
    Own(own::Receiver),
    #[cfg(feature = "omq")]
    Omq(omq::Receiver),
    #[cfg(feature = "zeromq")]
    Zeromq(zeromq::Receiver),
    #[cfg(not(any(feature = "omq", feature = "zeromq")))]
    None,
}

impl Receiver {
    /// Waits for a message, and returns up to `max` that have arrived. Cancel safe: no message is lost.
    pub(super) async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<usize, SocketClosed> {
        either!(Self, self, receiver => receiver.recv_many(out, max).await)
    }

    /// Returns up to `max` messages that have arrived.
    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        either!(Self, self, receiver => receiver.try_recv_many(out, max))
    }
}

/// The peers that leave a ROUTER.
#[derive(Debug)]
pub(super) enum Departures {
    Own(own::Departures),
    #[cfg(feature = "omq")]
    Omq(omq::Departures),
    #[cfg(feature = "zeromq")]
    Zeromq(zeromq::Departures),
    #[cfg(not(any(feature = "omq", feature = "zeromq")))]
    None,
}

impl Departures {
    /// Waits until a peer disconnects that did not choose its routing id, and returns that id. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        either!(Self, self, departures => departures.next().await)
    }
}

/// The subscriptions of a publisher's subscribers.
#[derive(Debug)]
pub(super) enum SubscriptionEvents {
    Own(own::SubscriptionEvents),
    #[cfg(feature = "omq")]
    Omq(omq::SubscriptionEvents),
    #[cfg(feature = "zeromq")]
    Zeromq(zeromq::SubscriptionEvents),
    #[cfg(not(any(feature = "omq", feature = "zeromq")))]
    None,
}

impl SubscriptionEvents {
    /// Waits for the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        either!(Self, self, events => events.next().await)
    }

    /// Returns the next event, if there is one.
    pub(super) fn try_next(&mut self) -> Option<SubscriptionEvent> {
        either!(Self, self, events => events.try_next())
    }
}
