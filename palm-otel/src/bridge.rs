//! [`OtelBridge`]: the trace context of messages as the context of OpenTelemetry's spans.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use palm::Trace;
use palm::trace::Bridge;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Connects palm's messages with the spans of the layer of `tracing-opentelemetry`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtelBridge;

/// The headers of the W3C trace context in a message.
struct TraceHeaders<'a>(&'a Trace);

impl Extractor for TraceHeaders<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => Some(&self.0.parent),
            "tracestate" => Some(&self.0.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Bridge for OtelBridge {
    fn inject(&self, span: &Span, trace: &mut Trace) -> bool {
        let context = span.context();
        let span = context.span();
        let context = span.span_context();
        if !context.is_valid() {
            return false;
        }
        trace.parent = format!(
            "00-{:032x}-{:016x}-{:02x}",
            context.trace_id(),
            context.span_id(),
            u8::from(context.is_sampled()),
        );
        trace.state = context.trace_state().header();
        true
    }

    fn extract(&self, span: &Span, trace: &Trace) {
        let headers = TraceHeaders(trace);
        let propagator = TraceContextPropagator::new();
        let context = propagator.extract_with_context(&Context::new(), &headers);
        if context.span().span_context().is_valid() {
            // An error means that the span is not OpenTelemetry's: a filter has disabled it.
            let _ = span.set_parent(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn continued(parent: &str, state: &str) -> Option<Trace> {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let mut trace = Trace::default();
            (trace.parent, trace.state) = (parent.to_owned(), state.to_owned());
            let span = tracing::info_span!("child");
            OtelBridge.extract(&span, &trace);
            OtelBridge.inject(&span, &mut trace).then_some(trace)
        })
    }

    #[test]
    fn span_continues_the_trace_of_a_message() {
        let trace = continued(PARENT, "vendor=1").unwrap();
        assert_eq!(trace.id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_ne!(trace.parent, PARENT);
        assert_eq!((trace.is_sampled(), &*trace.state), (true, "vendor=1"));
        // A caller that does not record the trace is followed in that.
        let unsampled = continued(&PARENT.replace("-01", "-00"), "").unwrap();
        assert_eq!(unsampled.id(), trace.id());
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn malformed_context_begins_a_trace() {
        for malformed in ["", "00-1-2-01", "no traceparent"] {
            let trace = continued(malformed, "").unwrap();
            assert!(trace.id().is_some() && trace.is_sampled(), "{malformed}");
        }
    }

    #[test]
    fn span_without_a_subscriber_has_no_context() {
        let mut trace = Trace::default();
        assert!(!OtelBridge.inject(&Span::none(), &mut trace));
        assert_eq!(trace, Trace::default());
    }
}
