//! [`JobSpan`]: the span of a job, if a subscriber listens.

use std::time::Instant;

use tracing::Span;

use crate::clock;
use crate::trace::{self, SpanEnd};

/// The span of a job. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct JobSpan {
    span: Span,
    /// `None` if the span is disabled.
    begun: Option<Instant>,
}

impl JobSpan {
    /// Begins the span of a job as a child of the current span.
    pub(super) fn begin(steps: &str, call: &str) -> Self {
        let span = match trace::is_enabled() {
            true => trace::call_span(steps),
            false => Span::none(),
        };
        span.record("call", call);
        let begun = (!span.is_disabled()).then(clock::now);
        Self { span, begun }
    }

    /// Returns the trace that the messages of the job continue, encoded; empty if there is none.
    pub(super) fn trace(&self) -> Vec<u8> {
        let trace = trace::outgoing(&self.span);
        trace.map_or_else(Vec::new, |trace| trace.encode(0))
    }
}

impl Drop for JobSpan {
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            let (worked, failure) = (clock::since(begun), None::<&str>);
            trace::finish(&self.span, SpanEnd { worked, failure });
        }
    }
}
