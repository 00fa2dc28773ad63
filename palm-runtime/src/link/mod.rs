//! Delivery with acknowledgement, credit and redelivery, between components of ours.
//!
//! Start with [`session`]: what two ends tell each other, as a state machine without I/O. [`dispatch`]
//! decides which worker gets which task, and what becomes of the tasks of one that dies; it knows no
//! I/O either. [`workers`] is a master's side of it on a ROUTER, [`connection`] a worker's on a DEALER.
//! `proto/README.md` specifies what goes over the wire.

pub(crate) mod connection;
pub(crate) mod dispatch;
mod header;
mod options;
mod session;
pub(crate) mod task;
pub(crate) mod workers;

pub(crate) use header::is_header;
pub use options::LinkOptions;

/// The role of a worker towards its master.
pub(crate) const WORKER: &str = "worker";
