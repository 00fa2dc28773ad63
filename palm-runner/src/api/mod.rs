//! The interface of the runner: a Unix socket for its user alone, with a request and its answers as lines of JSON.

mod client;
mod protocol;
mod server;

pub use client::{Client, ClientError};
pub use protocol::{Answer, Envelope, Request, VERSION, Wanted};
pub(crate) use server::{Access, Server, Task};
