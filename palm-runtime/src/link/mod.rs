//! Links: delivery with acknowledgement, credit and redelivery between components.
//!
//! The state machines of links are in [`palm_proto::link`], without I/O: start with [`session`] there. [`server`] is the accepting
//! side, over a ROUTER, and [`client`] the connecting side, over a DEALER. [`inbound`] delivers what the server side
//! receives to the parts of the component, [`liveness`] shows signs of life for links that cannot be driven, and
//! [`peer_log`] decides what is logged of peers. `proto/README.md` specifies the wire.

pub(crate) mod client;
pub(crate) mod inbound;
pub(crate) mod liveness;
mod options;
pub(crate) mod peer_log;
pub(crate) mod server;

pub use options::LinkOptions;
pub(crate) use palm_proto::link::dispatch;
pub(crate) use palm_proto::link::header::is_header;
pub(crate) use palm_proto::link::session::WORKER_CONTROL_VERSION;
pub(crate) use palm_proto::link::subscriptions::client_of;
pub(crate) use palm_proto::link::subscriptions::{
    CANCEL_TOPIC, LinkPublication, Subscription, SubscriptionEvent,
};
pub(crate) use palm_proto::link::{CLIENT, PeerKey, SUBSCRIBER, WORKER};

use bytes::Bytes;
use palm_proto::link::{header, session, subscriptions, truncate_name};

use crate::socket::WriteBy;

/// Limit on the bytes that a sender writes itself. It holds the lock of the link meanwhile.
const MAX_SENDER_BYTES: usize = 16 * 1024;

/// Returns what writes a transmission of a session. An acknowledgement can wait for messages.
fn write_by(session: &session::Session, messages: &[Bytes]) -> WriteBy {
    let bytes = || messages.iter().map(Bytes::len).sum::<usize>();
    match session.is_quiet() && (1..=MAX_SENDER_BYTES).contains(&bytes()) {
        true => WriteBy::Sender,
        false => WriteBy::Task,
    }
}
