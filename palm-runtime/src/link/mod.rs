//! Delivery with acknowledgement, credit and redelivery, between components of ours.
//!
//! Start with [`session`]: what two ends tell each other, as a state machine without I/O. [`dispatch`]
//! decides which worker gets which task, and what becomes of the tasks of one that dies, [`subscriptions`] who
//! gets what is published; they know no I/O either. [`accept`] is the side that is connected to, on a
//! ROUTER, [`connection`] the one that connects, on a DEALER. [`liveness`] shows that a process lives whose
//! links cannot be driven for a while.
//! `proto/README.md` specifies what goes over the wire.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod dispatch;
mod functions;
mod header;
pub(crate) mod liveness;
mod options;
mod pack;
pub(crate) mod reports;
mod session;
mod streams;
mod workers;

pub(crate) use header::is_header;
pub use options::LinkOptions;

pub(crate) use streams::{Delivery, Following, StreamNews};

/// The role of a worker towards its master.
pub(crate) const WORKER: &str = "worker";

/// The role of who makes calls, and takes their answers.
pub(crate) const CLIENT: &str = "client";

/// The role of who only takes what is published.
pub(crate) const SUBSCRIBER: &str = "subscriber";
