//! What exists only for legacy clients, which subscribe at the PUB socket and reconnect for every call.

mod resend_buffer;
mod stale_subscription;

pub(super) use resend_buffer::ResendBuffer;
pub(super) use stale_subscription::{CallerGeneration, STALE_TIMEOUT, StaleSubscriptions};
