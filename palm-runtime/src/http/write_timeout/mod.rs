//! The write timeout of [`Listener`](super::Listener): disconnects clients that read too slowly.
//!
//! A client has to receive [`MIN_PROGRESS_BYTES`] within each timeout, or the rest of its response. Two mechanisms
//! enforce that, because HTTP/2 multiplexes:
//!
//! - [`WriteTimeout`] wraps the TCP stream of a connection, beneath TLS, and fails its writes. That is enough for
//!   HTTP/1, where a connection writes one response at a time.
//! - [`StreamExecutor`] and [`in_pieces`] bound each stream of an HTTP/2 connection, since a client can read its
//!   connection and still withhold the flow-control window of a single stream.

mod connection;
mod http2_stream;

pub(super) use connection::WriteTimeout;
pub(super) use http2_stream::{StreamExecutor, in_pieces};

/// Bytes that a client has to receive within its write timeout.
const MIN_PROGRESS_BYTES: usize = 64 * 1024;
