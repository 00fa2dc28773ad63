//! Components, clients and clusters through the public API, over real sockets.
//!
//! [`setup`] has helpers of most tests. [`raw`] is a ZMTP peer without a library, which can violate the protocol.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers are tests too, and a child process prints its addresses"
)]

#[path = "../../palm-runtime/tests/conformance/raw.rs"]
#[allow(dead_code, reason = "the tests of the sockets need more of it")]
mod raw;
mod raw_link;
mod raw_publisher;
mod setup;

mod bad_input;
mod binds;
mod book;
mod cache;
mod client;
mod closures;
mod completion;
mod components;
mod configurations;
mod dispatch;
mod documents;
mod drain;
mod error_chapter;
mod errors;
mod examples;
mod fairness;
mod faults;
mod http_gateway;
mod http_limits;
mod http_results;
mod http_slow_readers;
mod http_strict;
mod http_worker;
mod job;
mod json_logs;
mod layers;
mod lifecycle;
mod limits;
mod link;
mod liveness;
#[cfg(target_os = "linux")]
mod memory;
mod methods;
mod middleware;
mod monitor;
mod nested;
mod network;
mod operator;
mod options;
mod other_languages;
mod parts;
mod process;
mod programs;
mod prometheus;
mod public_api;
mod pylm;
mod rep;
mod report;
mod restarts;
mod routes;
mod soak;
mod stream;
mod testing;
mod tls;
mod traces;
mod typed;
mod waiting;
mod worker_session;
