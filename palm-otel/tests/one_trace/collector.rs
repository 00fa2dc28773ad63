//! A collector: receives what the components export, by OTLP over HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A span that was received.
#[derive(Debug, Clone)]
pub(crate) struct CollectedSpan {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    /// The name of the service, which is the role of its process.
    pub(crate) service: String,
    /// The name of palm's span.
    pub(crate) kind: String,
    pub(crate) lasted: Duration,
    /// The description of an error.
    pub(crate) failure: Option<String>,
    attributes: HashMap<String, String>,
}

impl CollectedSpan {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        let value = self.attributes.get(name);
        value.unwrap_or_else(|| panic!("no `{name}` in {self:#?}"))
    }
}

#[derive(Debug, Default)]
struct Received {
    spans: Mutex<Vec<CollectedSpan>>,
    changed: Notify,
}

/// A collector at an address of its own.
#[derive(Debug)]
pub(crate) struct Collector {
    url: String,
    received: Arc<Received>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::<Received>::default();
        let receiver = received.clone();
        let export = post(async move |body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            receiver.spans.lock().unwrap().extend(spans(request));
            receiver.changed.notify_one();
            ExportTraceServiceResponse::default().encode_to_vec()
        });
        let router = Router::new().route("/v1/traces", export);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, received }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until `count` spans of a trace have arrived, and returns them.
    pub(crate) async fn spans(&self, trace: &str, count: usize) -> Vec<CollectedSpan> {
        loop {
            let spans = self.received.spans.lock().unwrap().clone();
            let spans: Vec<_> = spans.into_iter().filter(|it| it.trace == trace).collect();
            if spans.len() >= count {
                return spans;
            }
            self.received.changed.notified().await;
        }
    }
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let attributes = attributes.into_iter();
    attributes.map(|it| (it.key, text(it.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<CollectedSpan> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let described = resource.resource.unwrap_or_default();
        let service = attributes(described.attributes)["service.name"].clone();
        let scopes = resource.scope_spans.into_iter();
        let collected = scopes.flat_map(|scope| scope.spans);
        spans.extend(collected.map(|span| collected_span(span, &service)));
    }
    spans
}

/// Returns palm's name of a span, by the fields that it has.
fn kind(attributes: &HashMap<String, String>) -> &'static str {
    let has = |name: &str| attributes.contains_key(name);
    match (has("component"), has("worker"), has("stage")) {
        (false, ..) => "call",
        (true, true, _) => "delivery",
        (true, false, true) => "step",
        (true, false, false) => "request",
    }
}

fn collected_span(span: Span, service: &str) -> CollectedSpan {
    let attributes = attributes(span.attributes);
    let lasted = span.end_time_unix_nano - span.start_time_unix_nano;
    let failed = span
        .status
        .filter(|status| status.code() == StatusCode::Error);
    CollectedSpan {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        service: service.to_owned(),
        kind: kind(&attributes).to_owned(),
        lasted: Duration::from_nanos(lasted),
        failure: failed.map(|status| status.message),
        attributes,
    }
}
