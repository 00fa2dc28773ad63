//! The client: [`Client`] calls functions, runs jobs and reads the cache of a cluster. Its clones share one
//! connection.
//!
//! Each call has its own topic, the client's id followed by a number, in the field `client` of its message.
//! Subscriptions match by prefix, so the client subscribes to its id once. An answer finds its call by the number
//! in its topic, whichever component sends it.
//!
//! A call passes these modules in this order: [`eval`] or [`job`] encodes the message, [`descriptor_cache`] checks its function,
//! [`routes`] finds the component that answers, [`transport`] sends the frame, and [`in_flight`] hands each answer to the
//! pending call. [`completion`] decides when a call or an input of a job is complete. [`connect`] sets all of this up.

pub mod blocking;
mod cancel;
mod completion;
mod connect;
mod descriptor_cache;
mod error;
mod eval;
mod in_flight;
mod job;
#[cfg(feature = "progress")]
mod progress;
mod routes;
mod transport;
mod wait_report;

/// A task that reads answers for a client. It is aborted when the handle is dropped.
type Reader = tokio_util::task::AbortOnDropHandle<()>;

pub use connect::{Client, ClientBuilder};
pub use error::{CallError, ConnectError};
pub use eval::Eval;
pub use job::{Job, Progress};
#[cfg(feature = "progress")]
pub use progress::{WithProgress, progress};
