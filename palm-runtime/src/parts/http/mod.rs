//! The parts that speak HTTP: `client` posts tasks to HTTP workers, `gateway` exposes functions over HTTP, `service`
//! receives messages as the bodies of requests, and `worker` serves an HTTP worker.

mod client;
mod gateway;
mod service;
mod worker;

pub use client::{HttpConnection, HttpError, Retry};
pub use gateway::{GatewayDealer, GatewayRouter, HttpGateway};
pub use service::{HttpService, MessageService};
pub(crate) use worker::HttpWorkerService;
