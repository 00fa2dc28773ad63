//! HTTP on both sides of a cluster.
//!
//! - In front of a component: [`Gateway`] and its parts. A path names a function.
//! - Towards workers that are reached by HTTP: [`HttpConnection`](crate::parts::HttpConnection).
//! - As such a worker: [`HttpWorker`], made by `#[palm::http_worker]`.
//!
//! Each of them is a [tower](https://docs.rs/tower) service where it takes requests, so that it can be
//! mounted in an application and layers go around it; [`serve`] serves any such service at a
//! [`Listener`].
//!
//! Requests and responses are described in `palm::guide::http`.

mod body;
mod call;
mod content;
mod framing;
mod gateway;
mod guard;
mod listener;
mod openapi;
mod patient;
mod posted;
mod problem;
mod serve;
mod service;
mod slow_reader;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod worker;

pub(crate) use body::Memory;
pub(crate) use gateway::Component;
pub use gateway::Gateway;
pub use listener::Listener;
pub(crate) use posted::{PostedMessage, no_answer};
pub(crate) use serve::Bound;
pub use serve::{Serve, serve};
pub use service::GatewayService;
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsError};
pub use worker::{HttpWorker, IntoHttpWorker};
