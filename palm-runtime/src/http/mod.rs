//! HTTP in front of a cluster and between a cluster and its workers.
//!
//! - [`Gateway`] exposes the functions of a component over HTTP. The path of a request names a function.
//! - [`HttpConnection`](crate::parts::HttpConnection) sends tasks to workers that listen for HTTP requests.
//! - [`HttpWorker`] is such a worker, made by `#[palm::http_worker]`.
//!
//! A gateway and an HTTP worker are [tower](https://docs.rs/tower) services: an application can mount them and wrap
//! them in layers. [`serve()`] serves any such service at a [`Listener`].
//!
//! `palm::guide::http` describes requests and responses.

mod body;
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
mod request_record;
mod result_stream;
mod serve;
mod service;
#[cfg(feature = "tls")]
mod tls;
mod unread_body;
mod worker;
mod write_timeout;

pub use body::Body;
pub(crate) use body_memory::BodyMemory;
pub(crate) use gateway::GatewayComponent;
pub use gateway::{Gateway, GatewayOptions};
pub use listener::{Listener, ListenerOptions};
pub(crate) use message_body::{MessageBody, problem_response};
pub(crate) use serve::BoundListener;
#[cfg(feature = "monitor")]
pub(crate) use serve::SharedSocket;
pub use serve::{Serve, serve};
pub use service::GatewayService;
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsError};
pub(crate) use worker::ErasedHttpWorker;
pub use worker::{HttpWorker, IntoHttpWorker};
