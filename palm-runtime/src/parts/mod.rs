//! The parts that components are composed of. A service binds its address, a connection connects to one.
//!
//! | part | kind | socket |
//! |---|---|---|
//! | [`PullService`], [`PullConnection`] | inbound | PULL, binds or connects |
//! | [`WorkerPullService`] | inbound | PULL, binds; the results of workers |
//! | [`SubConnection`] | inbound | SUB, connects |
//! | [`TaskConnection`] | inbound | a link; the tasks of a master, see [`MasterConnection`] |
//! | [`RepService`], [`RepConnection`] | inbound | REP, binds or connects |
//! | `HttpService` | inbound | HTTP, messages as bodies |
//! | `GatewayRouter` | inbound | the requests of a `Gateway` |
//! | [`PushService`], [`PushConnection`] | outbound | PUSH, binds or connects |
//! | [`WorkerPushService`] | outbound | PUSH, binds; tasks for workers |
//! | [`PushPullService`] | outbound | PUSH and PULL, binds; tasks for workers and their results |
//! | [`PubService`] | outbound | PUB, binds |
//! | [`ResultConnection`] | outbound | a link; the results for a master, see [`MasterConnection`] |
//! | `HttpConnection` | outbound | HTTP, posts to a worker |
//! | `GatewayDealer` | outbound | the responses of a `Gateway` |
//! | [`Executor`](crate::Executor) | outbound | none: runs methods |
//! | [`Handler`] | outbound | none: runs user code |
//! | [`CacheService`] | bypass | REP, binds |
//! | [`RepBypassService`] | bypass | REP, binds |
//! | [`PullBypassConnection`], [`PushBypassConnection`] | bypass | PULL or PUSH, connects |
//! | `HttpGateway` | bypass | HTTP, serves a `Gateway` |
//!
//! HTTP parts need the feature `http`. Inbound parts with a socket and `HttpService` run hooks of your own
//! ([`InboundHooks`](crate::part::InboundHooks)), with which they are registered. For other parts, implement
//! [`Inbound`](crate::part::Inbound), [`Outbound`](crate::part::Outbound) or [`Bypass`](crate::part::Bypass).

mod bypass;
mod context;
mod control;
mod handler;
#[cfg(feature = "http")]
mod http;
mod link_source;
mod pending_replies;
mod publish;
mod pull;
mod push;
mod push_pull;
mod receive_loop;
mod reply;
mod request_loop;
mod subscribe;
mod worker_side;
mod workers;

pub use crate::discovery::IntoAddress;
pub use crate::part::BypassSender;
pub use bypass::{NoProducer, PullBypassConnection, PushBypassConnection, RepBypassService};
pub use control::CacheService;
pub use handler::Handler;
#[cfg(feature = "http")]
pub(crate) use http::HttpWorkerService;
#[cfg(feature = "http")]
pub use http::{
    GatewayDealer, GatewayRouter, HttpConnection, HttpError, HttpGateway, HttpService,
    MessageService, Retry,
};
pub(crate) use publish::AnyPubService;
pub use publish::{PendingLimits, PubService};
pub use pull::{PullConnection, PullService};
pub use push::{PushConnection, PushService};
pub use push_pull::PushPullService;
pub use reply::{RepConnection, RepService};
pub use subscribe::SubConnection;
pub use worker_side::{MasterConnection, ResultConnection, TaskConnection};
pub use workers::{WorkerPullService, WorkerPushService};
