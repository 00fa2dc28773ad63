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
    /// A request of an operator.
    Operator(OperatorVerb),
    /// Passes a request of an operator on to a worker. The payload is a `ForwardRequest`; the reply is a `ForwardReply`.
    Forward,
}

/// A verb of operators, which a worker knows as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorVerb {
    /// Drains the component. The payload is empty; the reply is a `DrainReply`.
    Drain,
    /// Changes settings. The payload is a `ConfigureRequest`; the reply is a `ConfigureReply`.
    Configure,
}

impl ControlVerb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Offer => "offer",
            Self::Inspect => "inspect",
            Self::Operator(OperatorVerb::Drain) => "drain",
            Self::Operator(OperatorVerb::Configure) => "configure",
            Self::Forward => "forward",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let verbs = [
            Self::Cancel,
            Self::Offer,
            Self::Inspect,
            Self::Operator(OperatorVerb::Drain),
            Self::Operator(OperatorVerb::Configure),
            Self::Forward,
        ];
        verbs.into_iter().find(|verb| verb.name() == name)
    }

    /// Returns the frame of a request to the component `server`.
    pub(crate) fn request(self, server: &str, payload: Bytes) -> Bytes {
        let mut message = Message::new(format!("{server}.{}", self.name()), payload);
        message.set_pipeline(new_id());
        message.into_frame()
    }
}
