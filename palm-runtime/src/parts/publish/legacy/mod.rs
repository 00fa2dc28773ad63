//! What exists only for legacy peers, which subscribe at the PUB socket. Legacy clients reconnect for every call.

mod resend_buffer;
mod stale_subscription;
mod subscribers;

pub(super) use resend_buffer::ResendBuffer;
pub(super) use stale_subscription::{CallerGeneration, STALE_TIMEOUT, StaleSubscriptions};
pub(super) use subscribers::LegacySubscribers;
