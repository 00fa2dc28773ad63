//! The state machines of links: acknowledgement, credit and redelivery, without I/O.
//!
//! Start with [`session`], the protocol between two ends as a state machine. [`dispatch`] assigns tasks to the
//! least-loaded workers and redelivers those of lost ones, and [`subscriptions`] finds the subscribers of a topic and
//! bounds their backlog. `framing` packs messages into frames, each preceded by a [`header`]. `proto/README.md`
//! specifies the wire.

pub mod dispatch;
mod framing;
pub mod header;
pub mod session;
pub mod subscriptions;

/// Identifies a session with a peer.
pub type PeerKey = u64;

/// The longest name that is kept, in bytes. Longer ones are cut.
const MAX_NAME_BYTES: usize = 256;

/// The role of a worker towards its master.
pub const WORKER: &str = "worker";

/// The role of a peer that makes calls and receives their answers.
pub const CLIENT: &str = "client";

/// The role of a peer that only receives publications and answers.
pub const SUBSCRIBER: &str = "subscriber";

/// Cuts a name to 256 bytes.
pub fn truncate_name(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}
