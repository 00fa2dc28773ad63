//! The parts that components are made of: services bind, connections connect.
//!
//! | part | kind | socket |
//! |---|---|---|
//! | [`PullService`], [`PullConnection`] | inbound | PULL, binds or connects |
//! | [`WorkerPullService`] | inbound | PULL, binds; the results of workers |
//! | [`SubConnection`] | inbound | SUB, connects |
//! | [`RepService`] | inbound | REP, binds |
//! | [`PushService`], [`PushConnection`] | outbound | PUSH, binds or connects |
//! | [`WorkerPushService`] | outbound | PUSH, binds; tasks for workers |
//! | [`PubService`] | outbound | PUB, binds |
//! | [`Executor`](crate::Executor) | outbound | none: runs methods |
//! | [`CacheService`] | bypass | REP, binds |

mod answering;
mod cache;
mod cancel;
mod doubt;
mod held;
#[cfg(feature = "http")]
mod http;
mod intake;
mod offer;
mod publish;
mod pull;
mod push;
mod ready;
mod reply;
mod sent;
mod subscribe;
mod whereabouts;
mod workers;

pub use cache::CacheService;
pub(crate) use cancel::CancelConnection;
#[cfg(feature = "http")]
pub use http::{
    GatewayDealer, GatewayRouter, HttpConnection, HttpError, HttpGateway, HttpService,
    MessageService, Retry,
};
pub(crate) use offer::OfferConnection;
pub use publish::{HoldLimits, PubService};
pub use pull::{PullConnection, PullService};
pub use push::{PushConnection, PushService};
pub(crate) use ready::{Ready, ready_topic, until_in_place};
pub use reply::{RepConnection, RepService};
pub use subscribe::SubConnection;
pub(crate) use whereabouts::Given;
pub use whereabouts::IntoAddress;
pub(crate) use whereabouts::{Directory, Whereabouts};
pub(crate) use workers::Outstanding;
pub use workers::{WorkerPullService, WorkerPushService};
