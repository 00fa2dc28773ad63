//! [`Client`]: calls, jobs and the cache, over one connection that many calls share.
//!
//! Each call has a topic of its own, the client's id with a number behind it, which travels in the
//! message's `client` field. Subscriptions match by prefix, so the client subscribes to its id once,
//! and answers find their call by the rest of the topic, whatever server sends them.

mod answers;
pub mod blocking;
mod cancel;
mod connect;
mod error;
mod eval;
mod inputs;
mod job;
mod known;
mod pending;
#[cfg(feature = "progress")]
mod progress;
mod routes;
mod way;

/// A task that reads what comes for a client; it ends with the handle.
type Reader = tokio_util::task::AbortOnDropHandle<()>;

pub use connect::{Client, ClientBuilder};
pub use error::{CallError, ConnectError};
pub use eval::Eval;
pub use job::{Job, Progress};
#[cfg(feature = "progress")]
pub use progress::{WithProgress, progress};
