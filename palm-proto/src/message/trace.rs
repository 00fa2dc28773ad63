//! [`Trace`]: the trace that a call is part of.

use prost::Message as _;

use super::proto::{self, Extensions};
use super::wire_format::copy_fields_without;

/// The number of the field.
const FIELD: u32 = 18;

/// The position of the flags in a `traceparent` of version 00, and the bit that says that the trace is recorded.
const FLAGS: usize = 53;
const SAMPLED: u8 = 1;

/// The trace and the request that a call is part of.
///
/// The caller sets them: a client from the current span if a bridge is installed (`palm::trace`), and an HTTP gateway
/// from the headers of the request. A component that records its work as a span becomes the parent of what
/// follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// The span of the caller, or of the component that made the message: the header `traceparent` of the W3C trace
    /// context. Empty if there is none.
    pub parent: String,
    /// The header `tracestate`.
    pub state: String,
    /// An id of the request, chosen by the caller.
    pub request_id: String,
    /// How often a master has delivered the task to a worker, this time included. 0: unknown.
    pub delivery: u32,
}

impl Trace {
    /// Returns the trace id, 32 hexadecimal digits, or `None` if [`parent`](Self::parent) is not a `traceparent`.
    pub fn id(&self) -> Option<&str> {
        let id = self.parent.get(3..35)?;
        let is_id = self.flags().is_some() && id.bytes().any(|digit| digit != b'0');
        is_id.then_some(id)
    }

    /// Returns whether the caller records the trace.
    pub fn is_sampled(&self) -> bool {
        self.id().is_some() && self.flags().is_some_and(|flags| flags & SAMPLED != 0)
    }

    /// Returns the flags, if the form of the parent is `version-trace id-span id-flags`.
    fn flags(&self) -> Option<u8> {
        let parent = self.parent.as_bytes();
        let has_form = parent
            .iter()
            .take(FLAGS + 2)
            .enumerate()
            .all(|(at, byte)| match at {
                2 | 35 | 52 => *byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        // A later version may append fields.
        let ends = parent
            .get(FLAGS + 2)
            .is_none_or(|next| *next == b'-' && &parent[..2] != b"00");
        if !has_form || !ends || parent.starts_with(b"ff") {
            return None;
        }
        u8::from_str_radix(self.parent.get(FLAGS..FLAGS + 2)?, 16).ok()
    }

    /// Converts the field of a message at `stage`.
    #[doc(hidden)]
    pub fn from_wire(trace: proto::Trace, stage: i64) -> Self {
        Self {
            parent: trace.parent,
            state: trace.state,
            request_id: trace.request_id,
            // The results of a redelivered task keep the number, which does not apply to the next step.
            delivery: match trace.delivery_stage == stage {
                true => trace.delivery,
                false => 0,
            },
        }
    }

    fn to_wire(&self, stage: i64) -> proto::Trace {
        proto::Trace {
            parent: self.parent.clone(),
            state: self.state.clone(),
            request_id: self.request_id.clone(),
            delivery: self.delivery,
            delivery_stage: match self.delivery {
                0 => 0,
                _ => stage,
            },
        }
    }

    /// Encodes the extension field of a message at `stage`.
    #[doc(hidden)]
    pub fn encode(&self, stage: i64) -> Vec<u8> {
        let extensions = Extensions {
            trace: Some(self.to_wire(stage)),
            ..Extensions::default()
        };
        extensions.encode_to_vec()
    }

    /// Replaces the trace among extension fields of a message at `stage`.
    pub(super) fn replace_in(&self, unknown: &[u8], stage: i64) -> Vec<u8> {
        let trace = self.encode(stage);
        let mut out = Vec::with_capacity(unknown.len() + trace.len());
        copy_fields_without(FIELD, unknown, &mut out);
        out.extend(trace);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Deadline, Message, Share};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn trace_id_is_read_from_a_traceparent_only() {
        let check = |parent: &str, id: Option<&str>, is_sampled: bool| {
            let trace = Trace {
                parent: parent.to_owned(),
                ..Trace::default()
            };
            assert_eq!(
                (trace.id(), trace.is_sampled()),
                (id, is_sampled),
                "{parent}"
            );
        };
        let id = Some("4bf92f3577b34da6a3ce929d0e0e4736");
        check(PARENT, id, true);
        check(&PARENT.replace("-01", "-00"), id, false);
        check(&PARENT.replace("-01", "-03"), id, true);
        check(&PARENT.replacen("00-", "01-", 1), id, true);
        check(
            &format!("{}-more", PARENT.replacen("00-", "01-", 1)),
            id,
            true,
        );
        for malformed in [
            "",
            "00-1-2-01",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replace("4b", "4B"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &"\u{e4}".repeat(40),
        ] {
            check(malformed, None, false);
        }
    }

    #[test]
    fn trace_of_a_message_is_replaced_beside_other_fields() {
        let mut message = Message::new("a.b c.d", "x");
        message.extend(&Extensions {
            deadline: 5,
            trace: Some(proto::Trace {
                parent: "old".to_owned(),
                state: "old".to_owned(),
                ..proto::Trace::default()
            }),
            share: Some(Share::from_input(3)),
            ..Extensions::default()
        });
        let trace = Trace {
            parent: PARENT.to_owned(),
            request_id: "mine".to_owned(),
            delivery: 2,
            ..Trace::default()
        };
        message.set_trace(&trace);
        let mut message = Message::decode(message.encode()).unwrap();
        assert_eq!(message.trace().as_ref(), Some(&trace));
        assert_eq!(message.deadline(), Deadline::from_extension(5));
        assert_eq!(message.share(), Some(Share::from_input(3)));
        // The delivery is that of the first step.
        message.set_stage(1);
        assert_eq!(message.trace().unwrap().delivery, 0);
    }
}
