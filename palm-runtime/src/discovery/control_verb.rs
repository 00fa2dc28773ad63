//! The verbs at a component's `db_address` that do not belong to its cache.

use bytes::Bytes;

use crate::message::{Message, new_id};

/// A verb of the component itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlVerb {
    /// Cancels calls. The payload has the topic of one call on each line.
    Cancel,
    /// Registers the functions of a worker. The payload is its descriptor.
    Offer,
    /// Reports the state of the component. The payload is an `InspectRequest`; the reply is a `Report`.
    Inspect,
}

impl ControlVerb {
    fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Offer => "offer",
            Self::Inspect => "inspect",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Cancel, Self::Offer, Self::Inspect]
            .into_iter()
            .find(|verb| verb.name() == name)
    }

    /// Returns the frame of a request to the component `server`.
    pub(crate) fn request(self, server: &str, payload: Bytes) -> Bytes {
        let mut message = Message::new(format!("{server}.{}", self.name()), payload);
        message.set_pipeline(new_id());
        message.into_frame()
    }
}
