//! [`RequestRecord`]: a request that a gateway answers, as a span and as a recent call of its component.

use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;
use hyper::StatusCode;
use tracing::Span;

use super::gateway::Gateway;
use super::problem::Problem;
use crate::clock;
use crate::component_state::ComponentState;
use crate::failure::FailureKind;
use crate::message::Trace;
use crate::report::{RecentCall, Work};
use crate::trace::{self, SpanEnd};

/// A request under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct RequestRecord {
    state: Arc<ComponentState>,
    span: Span,
    steps: ByteString,
    call: ByteString,
    trace: Trace,
    begun: Instant,
    failure: Option<StatusCode>,
}

impl RequestRecord {
    /// Begins the record of a request for `steps`. The trace of its message continues with the span of the request, if
    /// a subscriber listens. `None` until the gateway belongs to a component.
    pub(super) fn begin(gateway: &Gateway, steps: &ByteString, trace: &mut Trace) -> Option<Self> {
        let component = gateway.0.component()?;
        let span = match trace::is_enabled() {
            true => trace::request_span(&component.name, steps, trace),
            false => Span::none(),
        };
        Some(Self {
            state: component.state.clone(),
            span,
            steps: steps.clone(),
            call: ByteString::new(),
            trace: trace.clone(),
            begun: clock::now(),
            failure: None,
        })
    }

    /// Sets the id of the call that the request makes.
    pub(super) fn set_call(&mut self, call: ByteString) {
        self.span.record("call", &*call);
        self.call = call;
    }

    /// Records that the request, or one of its results, is answered by a problem.
    pub(super) fn set_failed(&mut self, problem: &Problem) {
        self.failure = Some(problem.status);
    }
}

/// Returns the kind of failure that a status stands for.
fn kind(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::FORBIDDEN => FailureKind::PermissionDenied,
        StatusCode::NOT_FOUND => FailureKind::UnknownFunction,
        StatusCode::TOO_MANY_REQUESTS => FailureKind::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => FailureKind::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => FailureKind::DeadlineExceeded,
        _ => FailureKind::Failed,
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let worked = clock::since(self.begun);
        let failure = self.failure;
        trace::finish(&self.span, SpanEnd { worked, failure });
        let (recent, is_sampled) = (&self.state.recent, self.trace.is_sampled());
        if failure.is_some() || is_sampled || recent.is_slow(worked) {
            let mut call = RecentCall::new(Work::Request, &self.call, &self.call, &self.steps, 0);
            call.trace = self.trace.id().unwrap_or_default().to_owned();
            call.begun_at = clock::wall().checked_sub(worked).unwrap_or(call.begun_at);
            call.worked = worked;
            call.failure = failure.map(kind);
            recent.record(call, is_sampled);
        }
    }
}
