//! Links: delivery with acknowledgement, credit and redelivery between components.
//!
//! Start with [`session`], the protocol between two ends as a state machine without I/O. [`dispatch`] assigns tasks to
//! the least-loaded workers and redelivers those of lost ones, [`subscriptions`] finds the subscribers of a topic and
//! bounds their backlog, and [`framing`] packs messages into frames; they do no I/O either. [`server`] is the accepting
//! side, over a ROUTER, and [`client`] the connecting side, over a DEALER. [`inbound`] delivers what the server side
//! receives to the parts of the component, [`liveness`] shows signs of life for links that cannot be driven, and
//! [`peer_log`] decides what is logged of peers. `proto/README.md` specifies the wire.

pub(crate) mod client;
pub(crate) mod dispatch;
mod framing;
mod header;
pub(crate) mod inbound;
pub(crate) mod liveness;
mod options;
pub(crate) mod peer_log;
pub(crate) mod server;
mod session;
mod subscriptions;

pub(crate) use header::is_header;
pub use options::LinkOptions;
pub(crate) use subscriptions::{CANCEL_TOPIC, LinkPublication, Subscription, SubscriptionEvent};

/// Identifies a session with a peer.
pub(crate) type PeerKey = u64;

/// The longest name that is kept, in bytes. Longer ones are cut.
const MAX_NAME_BYTES: usize = 256;

/// The role of a worker towards its master.
pub(crate) const WORKER: &str = "worker";

/// The role of a peer that makes calls and receives their answers.
pub(crate) const CLIENT: &str = "client";

/// The role of a peer that only receives publications and answers.
pub(crate) const SUBSCRIBER: &str = "subscriber";

/// Cuts a name to [`MAX_NAME_BYTES`].
fn truncate_name(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}
