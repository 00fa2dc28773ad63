//! ZeroMQ sockets with exactly the guarantees that the rest of palm needs.
//!
//! This is the only folder that names a ZeroMQ crate. A typed end ([`Push`], [`Pull`], [`Publish`],
//! [`Subscribe`], [`Request`], [`Reply`], [`Router`], [`Dealer`]) is a thin layer over a `Socket` of
//! a backend. There are two behind one interface, each with its feature: `omq` (the default) and `zeromq`.
//! [`SocketOptions::backend`] chooses one for each socket.
//!
//! What every end guarantees, whatever the crate beneath does; `tests/conformance` holds each
//! backend to it:
//!
//! - queues are bounded, and a full one makes the sender wait; nothing is dropped in silence;
//! - connecting before the other side binds, and reconnecting for ever, with backoff, subscriptions
//!   included;
//! - a closing end flushes what it was given, up to a deadline;
//! - sending and receiving are cancel safe;
//! - no peer can stop another, and malformed bytes end only the connection that they came on;
//! - a limit on the size of a message, and on how long a peer may take to say who it is;
//! - many messages per call and per system call.

mod address;
mod backend;
mod error;
mod frames;
#[cfg(feature = "omq")]
mod omq;
mod options;
mod probe;
mod publish;
mod push_pull;
mod request_reply;
mod reserve;
mod router_dealer;
mod subscriptions;
#[cfg(feature = "zeromq")]
mod zeromq;

pub use address::{Address, AddressError};
pub use backend::Backend;
pub use error::{SocketClosed, SocketError, TrySendError};
pub use frames::Frames;
pub(crate) use options::Kill;
pub use options::SocketOptions;
pub(crate) use probe::{find_host, probe};
pub use publish::{Publication, Publish, Subscribe};
pub(crate) use push_pull::Peers;
pub use push_pull::{Pull, Push};
pub use request_reply::{Reply, Request, RequestError, Responder};
pub(crate) use reserve::ReservedPort;
pub use router_dealer::{Dealer, Router};
pub(crate) use router_dealer::{DealerSender, RouterDepartures, RouterSender};
pub(crate) use subscriptions::Subscriber;
pub use subscriptions::SubscriptionChange;
