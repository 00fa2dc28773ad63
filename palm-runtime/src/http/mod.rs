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

mod body_memory;
mod framing;
mod gateway;
mod guard;
mod listener;
mod media_type;
mod message_body;
mod openapi;
mod problem;
mod request;
mod result_stream;
mod serve;
mod service;
#[cfg(feature = "tls")]
mod tls;
mod worker;
mod write_timeout;

pub(crate) use body_memory::BodyMemory;
pub use gateway::Gateway;
pub(crate) use gateway::GatewayComponent;
pub use listener::Listener;
pub(crate) use message_body::{MessageBody, problem_response};
pub(crate) use serve::BoundListener;
pub use serve::{Serve, serve};
pub use service::GatewayService;
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsError};
pub use worker::{HttpWorker, IntoHttpWorker};
