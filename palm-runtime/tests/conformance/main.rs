//! Verifies the guarantees of `palm_runtime::socket`.
//!
//! [`interop`] connects to libzmq: `-- --ignored interop`, with an interpreter that has pyzmq in `PALM_PYTHON`.
//!
//! Each test passes its body to [`harness::check`]. [`setup`] has helpers of most tests. [`raw`] is a peer that speaks
//! ZMTP without a library, so that it can violate the protocol.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

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
