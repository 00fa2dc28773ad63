//! The parts that speak HTTP.

mod connection;
mod gateway;
mod service;

pub use connection::{HttpConnection, HttpError, Retry};
pub use gateway::{GatewayDealer, GatewayRouter, HttpGateway};
pub use service::{HttpService, MessageService};
