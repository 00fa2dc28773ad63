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

use palm_proto::link::{header, session, subscriptions, truncate_name};
