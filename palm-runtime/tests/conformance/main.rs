//! Holds the backend of the sockets to what `palm_runtime::socket` promises.
//!
//! One suite tests both backends: `cargo test -p palm-runtime --test conformance` the default one, and
//! `PALM_CONFORMANCE_BACKEND=zeromq`, with `--features zeromq`, the other. [`interop`] connects to libzmq:
//! `-- --ignored interop`, with an interpreter that has pyzmq in `PALM_PYTHON`. [`expected`] lists the tests that a
//! backend fails.
//!
//! A test is a body for [`harness::check`]. [`setup`] has what most of them need, [`raw`] a peer that
//! is written by hand, for what no well-behaved library would do.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

mod expected;
mod harness;
mod raw;
mod setup;

mod addresses;
mod backpressure;
mod cancellation;
mod closing;
mod interop;
mod limits;
mod malformed;
mod publish_subscribe;
mod push_pull;
mod reconnection;
mod request_reply;
mod router_dealer;
