//! ZeroMQ sockets with the guarantees that the rest of palm needs.
//!
//! This is the only folder that names a ZeroMQ crate, `omq-proto`, which is the protocol without I/O. A typed end
//! ([`Push`], [`Pull`], [`Publish`], [`Subscribe`], [`Request`], [`Reply`], [`Router`], [`Dealer`]) is a thin layer over
//! a `Socket`.
//!
//! Every end has these properties, which `tests/conformance` verifies:
//!
//! - Queues are bounded. A full queue makes the sender wait, and no message is dropped silently.
//! - An end connects before the other side binds, and reconnects with backoff for as long as it exists. Subscriptions
//!   are renewed.
//! - A closing end sends its queued messages, up to a deadline.
//! - Sending and receiving are cancel safe.
//! - No peer can stop another, and malformed bytes close only the connection that they arrived on.
//! - The size of messages and the duration of handshakes are limited.
//! - A call, and a system call, transfers many messages.

mod address;
mod error;
mod frames;
mod kind;
mod options;
mod probe;
mod publish;
mod push_pull;
mod receive_budget;
mod request_reply;
mod reserve;
mod router_dealer;
mod subscriptions;
mod tcp;
mod zmtp;

pub use address::{Address, AddressError};
pub use error::{SocketClosed, SocketError, TrySendError};
pub use frames::Frames;
pub(crate) use options::Kill;
pub use options::SocketOptions;
pub(crate) use probe::{find_host, probe};
pub use publish::{Publication, Publish, Subscribe};
pub(crate) use push_pull::Peers;
pub use push_pull::{Pull, Push};
pub(crate) use receive_budget::ReceiveBudget;
pub use request_reply::{Reply, Request, RequestError, Responder};
pub(crate) use reserve::ReservedPort;
pub use router_dealer::{Dealer, Router};
pub(crate) use router_dealer::{DealerSender, RouterDepartures, RouterSender};
pub(crate) use subscriptions::Subscriber;
pub use subscriptions::SubscriptionChange;
pub(crate) use zmtp::WriteBy;
