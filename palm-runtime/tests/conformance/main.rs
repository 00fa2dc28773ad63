//! Holds the backend of the sockets to what `palm_runtime::socket` promises.
//!
//! One suite for both backends: `cargo test -p palm-runtime --test conformance` for the default one,
//! with `--features zeromq` for the other. [`interop`] is against libzmq: `-- --ignored interop`, with
//! `PALM_PYTHON`, an interpreter that has pyzmq. What a backend cannot do stands in [`expected`] by
//! name; the suite fails on the day it can.
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
