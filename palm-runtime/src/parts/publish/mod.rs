//! The part that publishes results to clients and to the components that follow.
//!
//! [`PubService`] (`service`) waits in one `select!` for messages, for subscriptions, and for timers, and calls the
//! `publisher` for each. That runs the `hooks` `gather` and `handle_stream`, and finds the topic of each message: the
//! client, or the component's own name if the message has a further step. Publications leave over `links`, by way of a
//! `link_queue`, and at the PUB socket for legacy subscribers (`legacy_subscriptions`, with the buffers of `legacy`).
//! `pending` keeps messages whose topic has no subscriber, and `unsubscribed` decides what becomes of them.

mod hooks;
mod legacy;
mod legacy_subscriptions;
mod link_queue;
mod links;
mod pending;
mod publisher;
mod service;
mod unsubscribed;

pub use pending::PendingLimits;
pub(crate) use service::AnyPubService;
pub use service::PubService;
