//! The parts that speak HTTP.

mod client;
mod gateway;
mod service;

pub use client::{HttpConnection, HttpError, Retry};
pub use gateway::{GatewayDealer, GatewayRouter, HttpGateway};
pub use service::{HttpService, MessageService};
