//! [`Trace`]: the trace that a call is part of.

use super::proto;

/// The trace and the request that a call is part of, as its HTTP request has named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// The header `traceparent` of the W3C trace context.
    pub parent: String,
    /// The header `tracestate`.
    pub state: String,
    /// An id of the request, chosen by the caller.
    pub request_id: String,
}

impl Trace {
    pub(super) fn from_wire(trace: proto::Trace) -> Self {
        Self {
            parent: trace.parent,
            state: trace.state,
            request_id: trace.request_id,
        }
    }
}
