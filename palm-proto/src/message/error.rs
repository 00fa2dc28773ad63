//! The extension `error` of a message, instead of a result.

use prost::Message as _;

use super::proto::{Error, Extensions, error::Kind};
use crate::failure::{CallFailure, FailureKind};
use crate::function::step_at;

/// The error of a function, as its caller receives it.
///
/// Part 2 of the wire contract (`proto/README.md`) defines it. A legacy component does not send errors: its failed
/// functions answer the byte `0`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` {} in `{component}`: {message}", kind.describe())]
#[non_exhaustive]
pub struct RemoteError {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The text of the error, with its causes.
    pub message: String,
    /// The name of the component that failed.
    pub component: String,
    /// The function that failed, as `server.function`.
    pub function: String,
    /// The index of the failed step, from 0.
    pub step: i64,
}

impl RemoteError {
    /// Decodes the error among extension fields, if there is one.
    pub(super) fn from_unknown(unknown: &[u8], function: &str) -> Option<Self> {
        if unknown.is_empty() {
            return None;
        }
        let error = Extensions::decode(unknown).ok()?.error?;
        Some(Self::from_extension(error, function))
    }

    /// Converts the extension of a message for `function`.
    #[doc(hidden)]
    pub fn from_extension(error: Error, function: &str) -> Self {
        let function = match step_at(function, error.step) {
            Ok(step) => format!("{}.{}", step.server, step.function),
            Err(_) => function.to_owned(),
        };
        Self {
            kind: kind_from_wire(error.kind()),
            message: error.message,
            component: error.component,
            function,
            step: error.step,
        }
    }
}

/// Converts a kind of failure of the wire.
pub(crate) fn kind_from_wire(kind: Kind) -> FailureKind {
    match kind {
        Kind::Failed => FailureKind::Failed,
        Kind::Panicked => FailureKind::Panicked,
        Kind::UnknownFunction => FailureKind::UnknownFunction,
        Kind::Undecodable => FailureKind::Undecodable,
        Kind::Cancelled => FailureKind::Cancelled,
        Kind::DeadlineExceeded => FailureKind::DeadlineExceeded,
        Kind::Unavailable => FailureKind::Unavailable,
        Kind::PermissionDenied => FailureKind::PermissionDenied,
        Kind::ResourceExhausted => FailureKind::ResourceExhausted,
    }
}

/// Converts a kind of failure for the wire.
pub(crate) fn kind_to_wire(kind: FailureKind) -> Kind {
    match kind {
        FailureKind::Failed => Kind::Failed,
        FailureKind::Panicked => Kind::Panicked,
        FailureKind::UnknownFunction => Kind::UnknownFunction,
        FailureKind::Undecodable => Kind::Undecodable,
        FailureKind::Cancelled => Kind::Cancelled,
        FailureKind::DeadlineExceeded => Kind::DeadlineExceeded,
        FailureKind::Unavailable => Kind::Unavailable,
        FailureKind::PermissionDenied => Kind::PermissionDenied,
        FailureKind::ResourceExhausted => Kind::ResourceExhausted,
    }
}

/// Encodes the extension field of a message whose call failed.
pub(super) fn encode(component: &str, step: i64, failure: &CallFailure) -> Vec<u8> {
    let error = Error {
        kind: kind_to_wire(failure.kind()).into(),
        message: failure.chain(),
        component: component.to_owned(),
        step,
    };
    let extensions = Extensions {
        error: Some(error),
        ..Extensions::default()
    };
    extensions.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn check(unknown: &[u8], expected: Option<FailureKind>) {
        let mut frame = Message::new("a.b c.d", "0").encode().to_vec();
        frame.extend_from_slice(unknown);
        let message = Message::decode(frame.into()).unwrap();
        assert_eq!(message.error().map(|error| error.kind), expected);
        assert_eq!(message.has_error(), expected.is_some());
    }

    #[test]
    fn other_and_malformed_fields_are_not_errors() {
        check(b"", None);
        check(b"\x88\x01\x01", None);
        // Field 16 as a number, with a malformed content, and truncated.
        check(b"\x80\x01\x05", None);
        check(b"\x82\x01\x02\x12\x05", None);
        check(b"\x82\x01\x00", Some(FailureKind::Failed));
        // An unknown kind.
        check(b"\x82\x01\x02\x08\x63", Some(FailureKind::Failed));
        check(b"\x82\x01\x02\x08\x01", Some(FailureKind::Panicked));
        check(b"\x82\x01\x02\x08\x07", Some(FailureKind::PermissionDenied));
        check(
            b"\x82\x01\x02\x08\x08",
            Some(FailureKind::ResourceExhausted),
        );
    }

    #[test]
    fn first_error_of_a_message_is_kept() {
        let mut message = Message::new("a.b c.d", "x");
        message.set_stage(1);
        let failure = CallFailure::failed("first".into());
        let message = message.failed("one", &failure);
        let message = message.failed("two", &CallFailure::stopped());
        let message = Message::decode(message.encode()).unwrap();
        assert_eq!(message.payload(), "0");
        let error = message.error().unwrap();
        assert_eq!(error.to_string(), "`c.d` failed in `one`: first");
        assert_eq!(error.step, 1);
    }
}
