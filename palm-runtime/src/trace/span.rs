//! The spans of calls, and how they begin and end.

use std::fmt::Display;
use std::time::Duration;

use tracing::field::{Empty, display};
use tracing::{Level, Span, debug_span, span_enabled};

use super::continue_trace;
use crate::message::Message;
#[cfg(feature = "http")]
use crate::message::Trace;

/// Returns whether a subscriber may be interested in spans of calls.
#[inline]
pub(crate) fn is_enabled() -> bool {
    span_enabled!(target: "palm::trace", Level::DEBUG)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Begins the span of a client's call of `steps`, as a child of the current span. Disabled if no subscriber listens.
pub(crate) fn call_span(steps: &str) -> Span {
    debug_span!(
        target: "palm::trace",
        "call",
        otel.name = steps,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        function = steps,
        call = Empty,
        working_us = Empty,
        failure = Empty,
    )
}

/// Begins the span of an HTTP request for `steps`, as a child of the span in `trace`, which it replaces.
#[cfg(feature = "http")]
pub(crate) fn request_span(component: &str, steps: &str, trace: &mut Trace) -> Span {
    let span = debug_span!(
        target: "palm::trace",
        parent: None,
        "request",
        otel.name = steps,
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        component,
        function = steps,
        call = Empty,
        working_us = Empty,
        failure = Empty,
    );
    if !span.is_disabled() {
        continue_trace(&span, trace);
    }
    span
}

/// Begins the span of the delivery of `task` to `worker`, as a child of the span in the message, which it replaces.
pub(crate) fn delivery_span(
    component: &str,
    worker: &str,
    task: &mut Message,
    delivery: u32,
    waited: Duration,
) -> Span {
    let function = called(task);
    let span = debug_span!(
        target: "palm::trace",
        parent: None,
        "delivery",
        otel.name = &*function,
        otel.kind = "producer",
        otel.status_code = Empty,
        otel.status_description = Empty,
        component,
        function = &*function,
        call = task.client(),
        id = task.cache(),
        stage = task.stage(),
        delivery,
        worker,
        waiting_us = micros(waited),
        working_us = Empty,
        failure = Empty,
    );
    let mut trace = task.trace().unwrap_or_default();
    if !span.is_disabled() && continue_trace(&span, &mut trace) {
        trace.delivery = delivery;
        task.set_trace(&trace);
    }
    span
}

/// The span of the run of a function.
#[derive(Debug)]
pub(crate) struct StepSpan(Span);

impl StepSpan {
    /// Begins the span of the step that `message` calls, as a child of the span in the message, which it replaces: so
    /// the results that are made of the message are its children. `None` if no subscriber listens.
    pub(crate) fn begin(component: &str, message: &mut Message, waited: Duration) -> Option<Self> {
        if !is_enabled() {
            return None;
        }
        let function = called(message);
        let mut trace = message.trace().unwrap_or_default();
        let span = debug_span!(
            target: "palm::trace",
            parent: None,
            "step",
            otel.name = &*function,
            otel.kind = "server",
            otel.status_code = Empty,
            otel.status_description = Empty,
            component,
            function = &*function,
            call = message.client(),
            id = message.cache(),
            stage = message.stage(),
            delivery = trace.delivery,
            waiting_us = micros(waited),
            working_us = Empty,
            failure = Empty,
        );
        if span.is_disabled() {
            return None;
        }
        if continue_trace(&span, &mut trace) {
            message.set_trace(&trace);
        }
        Some(Self(span))
    }

    pub(crate) fn span(&self) -> &Span {
        &self.0
    }
}

/// Returns the function of the next step, as `server.function`.
pub(crate) fn called(message: &Message) -> String {
    match message.step() {
        Ok(step) => format!("{}.{}", step.server, step.function),
        Err(_) => message.function().to_owned(),
    }
}

/// How the work of a span ended.
#[derive(Debug)]
pub(crate) struct SpanEnd<Failure> {
    pub(crate) worked: Duration,
    pub(crate) failure: Option<Failure>,
}

/// Records how the work of a span ended. The span ends when it is dropped.
pub(crate) fn finish(span: &Span, end: SpanEnd<impl Display>) {
    if span.is_disabled() {
        return;
    }
    span.record("working_us", micros(end.worked));
    if let Some(failure) = end.failure {
        span.record("failure", display(&failure));
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", display(&failure));
    }
}
