//! Streams the results of a call as one response: one JSON text per line, or server-sent events.

use axum::body::Body;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use hyper::Response;
use hyper::header::{self, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::body_memory::MemoryPermit;
use super::gateway::{PendingCall, StreamedResult};
use super::media_type::PayloadType;
use super::problem::Problem;
use super::request::{CallRequest, ResponseFormat};
use crate::message::RemoteError;

/// An element of a streamed response.
enum StreamItem {
    Result(Bytes),
    Failed(Problem),
    /// The end of the stream, with the number of results.
    End(u64),
}

/// The results of a call, up to the last one or the deadline. Dropping it earlier cancels the call.
struct ResultItems {
    request: CallRequest,
    call: PendingCall,
    results: mpsc::UnboundedReceiver<StreamedResult>,
    /// Covers the last result, which hyper writes until it polls for the next one.
    in_flight: Option<MemoryPermit>,
    until: Instant,
    /// Number of results that were yielded.
    delivered: u64,
    /// Number of results of the call, once it is known.
    total: Option<u64>,
    /// Whether the last item was yielded.
    is_over: bool,
}

impl ResultItems {
    async fn next(&mut self) -> Option<StreamItem> {
        self.in_flight = None;
        if self.is_over {
            return None;
        }
        loop {
            if self.total.is_some_and(|total| self.delivered >= total) {
                self.call.is_open = false;
                self.is_over = true;
                return Some(StreamItem::End(self.delivered));
            }
            let Ok(result) = timeout_at(self.until, self.results.recv()).await else {
                self.is_over = true;
                return Some(StreamItem::Failed(Problem::late(self.request.timeout)));
            };
            let Some(StreamedResult {
                message: result,
                permit,
                ..
            }) = result
            else {
                self.is_over = true;
                let detail = "results come faster than they are read, or the component stopped";
                return Some(StreamItem::Failed(Problem::unavailable(detail)));
            };
            let extensions = result.extensions().unwrap_or_default();
            if let Some(end) = extensions.end {
                self.total = Some(end.results);
            }
            if let Some(error) = extensions.error {
                self.delivered += 1;
                let error = RemoteError::from_extension(error, result.function());
                return Some(StreamItem::Failed(Problem::from_remote(error)));
            }
            if extensions.end.is_none() {
                self.delivered += 1;
                if let Some(unfinished) = Problem::unfinished(&result) {
                    return Some(StreamItem::Failed(unfinished));
                }
                let payload = result.payload().clone();
                self.in_flight = Some(permit);
                return Some(match self.call.gateway.check_size(&payload) {
                    Ok(()) => StreamItem::Result(payload),
                    Err(problem) => StreamItem::Failed(problem),
                });
            }
        }
    }
}

/// Starts a response that streams the results of `call`.
pub(super) fn respond(
    request: CallRequest,
    call: PendingCall,
    results: mpsc::UnboundedReceiver<StreamedResult>,
    until: Instant,
) -> Response<Body> {
    let (format, content) = (
        request.format,
        request.function.as_ref().map(PayloadType::from_output),
    );
    let results = ResultItems {
        total: request.expected_results(),
        request,
        call,
        results,
        in_flight: None,
        until,
        delivered: 0,
        is_over: false,
    };
    let items = stream::unfold(results, async |mut results| {
        let item = results.next().await?;
        if let StreamItem::Failed(problem) = &item {
            results.request.set_failed(problem);
        }
        Some((item, results))
    });
    match format {
        ResponseFormat::Events => events(items, content),
        ResponseFormat::JsonLines | ResponseFormat::Single => lines(items, content),
    }
}

fn lines(
    items: impl Stream<Item = StreamItem> + Send + 'static,
    content: Option<PayloadType>,
) -> Response<Body> {
    let lines = items.filter_map(move |item| {
        let line = match item {
            StreamItem::Result(payload) => Some(to_json(&payload, content)),
            StreamItem::Failed(problem) => Some(json!({ "problem": problem.to_json() })),
            StreamItem::End(_) => None,
        };
        std::future::ready(line.map(|line| Ok::<_, std::convert::Infallible>(format!("{line}\n"))))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let media_type = HeaderValue::from_static("application/x-ndjson");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

fn events(
    items: impl Stream<Item = StreamItem> + Send + 'static,
    content: Option<PayloadType>,
) -> Response<Body> {
    let events = items.map(move |item| {
        Ok::<_, std::convert::Infallible>(match item {
            StreamItem::Result(payload) => {
                Event::default().data(to_json(&payload, content).to_string())
            }
            StreamItem::Failed(problem) => {
                let problem = problem.to_json().to_string();
                Event::default().event("problem").data(problem)
            }
            // Lets a page close its `EventSource`: a browser reconnects when the response ends.
            StreamItem::End(results) => Event::default().event("end").data(results.to_string()),
        })
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::default());
    sse.into_response()
}

/// Converts a result to JSON: JSON unchanged, text to a string, other bytes to `{"base64": ".."}`.
fn to_json(payload: &Bytes, content: Option<PayloadType>) -> Value {
    if content == Some(PayloadType::Json)
        && let Ok(value) = serde_json::from_slice(payload)
    {
        return value;
    }
    match std::str::from_utf8(payload) {
        Ok(text) if content != Some(PayloadType::MessagePack) => text.into(),
        _ => json!({ "base64": STANDARD.encode(payload) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streamed_result_becomes_one_json_text() {
        let check = |payload: &'static [u8], content, expected| {
            let text = to_json(&Bytes::from_static(payload), content).to_string();
            assert_eq!(text, expected);
        };
        check(
            b"{\"a\": [1,\n 2]}",
            Some(PayloadType::Json),
            r#"{"a":[1,2]}"#,
        );
        check(b"{\"a\"", Some(PayloadType::Json), r#""{\"a\"""#);
        check(b"two\nlines", Some(PayloadType::Text), r#""two\nlines""#);
        check(b"text", None, r#""text""#);
        check(&[0xff], Some(PayloadType::Bytes), r#"{"base64":"/w=="}"#);
        check(b"a", Some(PayloadType::MessagePack), r#"{"base64":"YQ=="}"#);
    }
}
