//! Traces: a span for each call and each step of it, and the trace context that travels with messages.
//!
//! palm creates the spans below by the crate [`tracing`], with the target [`TARGET`] at the level `DEBUG`, if a
//! subscriber has enabled them. The subscriber of [`logging`](crate::logging) does not; without another one a call costs
//! a comparison for each of them.
//!
//! | span | of | parent |
//! |---|---|---|
//! | `call` | a client's call or job | the current span |
//! | `request` | a request to an HTTP gateway | the header `traceparent` |
//! | `delivery` | the delivery of a task from a master to a worker over a link | the span in the message |
//! | `step` | the run of a function, in servers, workers, pipelines and sinks | the span in the message |
//!
//! | field | of | value |
//! |---|---|---|
//! | `component` | all but `call` | the name of the component |
//! | `function` | all | `server.function`; of `call` and `request` all steps, separated by spaces |
//! | `call` | all | the field `client` of the message, which names the call, or the job |
//! | `id` | `delivery`, `step` | the field `cache` of the message, which names the message |
//! | `stage` | `delivery`, `step` | the index of the step, from 0 on |
//! | `delivery` | `delivery`, `step` | how often a master has delivered the task, this time included; 0: unknown |
//! | `worker` | `delivery` | the name of the worker |
//! | `waiting_us` | `delivery`, `step` | the time from the receipt of the message to the begin of the span, in microseconds |
//! | `working_us` | all | the time of the work, in microseconds |
//! | `failure` | all | why the work failed, as text; missing if it did not |
//!
//! `otel.name`, `otel.kind`, `otel.status_code` and `otel.status_description` are set as `tracing-opentelemetry` reads
//! them.
//!
//! A span has no identity on other hosts by itself. A [`Bridge`] gives it one: it reads the W3C trace context of a span,
//! which palm sends with messages, and makes a context that palm has received the parent of a span. The crate
//! `palm-otel` has a bridge to OpenTelemetry.

mod current_call;
mod recent;
mod span;

pub(crate) use current_call::CurrentCall;
pub(crate) use recent::RecentCalls;
#[cfg(feature = "http")]
pub(crate) use span::request_span;
pub(crate) use span::{SpanEnd, StepSpan, call_span, called, delivery_span, finish, is_enabled};

use std::sync::OnceLock;

use tracing::Span;

use crate::message::Trace;

/// The target of palm's spans of calls.
pub const TARGET: &str = "palm::trace";

static BRIDGE: OnceLock<Box<dyn Bridge>> = OnceLock::new();

/// Connects spans with the trace context of messages. Implemented for a tracing system, and installed by
/// [`set_bridge`].
///
/// Both methods are called within calls, so they should not block.
pub trait Bridge: Send + Sync + 'static {
    /// Sets [`parent`](Trace::parent) and [`state`](Trace::state) of `trace` to the context of `span`. Returns `false`,
    /// and changes nothing, if the span is not part of a trace.
    fn inject(&self, span: &Span, trace: &mut Trace) -> bool;

    /// Makes the context in `trace`, which a peer has sent, the parent of `span`. Does nothing if the context is
    /// malformed. Called before `span` is entered.
    fn extract(&self, span: &Span, trace: &Trace);
}

/// A bridge is installed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bridge is installed already, and a program has only one")]
#[non_exhaustive]
pub struct BridgeInstalledError;

/// Installs the bridge of this program.
///
/// # Errors
///
/// [`BridgeInstalledError`] if there is one.
pub fn set_bridge(bridge: impl Bridge) -> Result<(), BridgeInstalledError> {
    let installed = BRIDGE.set(Box::new(bridge));
    installed.map_err(|_| BridgeInstalledError)
}

/// Makes the context in `trace` the parent of `span`, and then replaces it by that of `span`. Returns whether it was
/// replaced.
fn continue_trace(span: &Span, trace: &mut Trace) -> bool {
    let Some(bridge) = BRIDGE.get() else {
        return false;
    };
    if trace.id().is_some() {
        bridge.extract(span, trace);
    }
    bridge.inject(span, trace)
}

/// Returns the context to send with a call: that of `span`, or if it is disabled, that of the current span.
pub(crate) fn outgoing(span: &Span) -> Option<Trace> {
    let bridge = BRIDGE.get()?;
    let mut trace = Trace::default();
    let is_set = match span.is_disabled() {
        true => bridge.inject(&Span::current(), &mut trace),
        false => bridge.inject(span, &mut trace),
    };
    is_set.then_some(trace)
}
