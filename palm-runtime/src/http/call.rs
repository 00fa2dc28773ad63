//! [`Asked`]: what a request asks for, and the message that it becomes.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::content::Content;
use super::gateway::Gateway;
use super::problem::Problem;
use crate::error::FailureKind;
use crate::function::Steps;
use crate::message::proto::{Extensions, Function, Trace};
use crate::message::{Deadline, Message, RemoteError};

const TIMEOUT: HeaderName = HeaderName::from_static("palm-timeout");
const MESSAGES: HeaderName = HeaderName::from_static("palm-messages");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// How results are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The first one is the body.
    One,
    /// One JSON text a line.
    Lines,
    /// Server-sent events.
    Events,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    steps: Steps,
    /// The first function, where a worker has told of it.
    pub(super) function: Option<Function>,
    pub(super) shape: Shape,
    pub(super) timeout: Duration,
    /// How many results are wanted, where that is said.
    messages: Option<u64>,
    trace: Trace,
}

impl Asked {
    pub(super) fn read(
        gateway: &Gateway,
        request: &Request<Body>,
        request_id: &str,
    ) -> Result<Self, Problem> {
        let headers = request.headers();
        let name = function_name(gateway, request.uri().path())?;
        let steps = Steps::parse(&name).map_err(|error| {
            let detail = format!("the path names no function: {error}");
            list(gateway, Problem::new(StatusCode::NOT_FOUND, detail))
        })?;
        let function = steps.iter().next();
        let function = function.and_then(|step| gateway.0.function(step.function));
        refuse_method(request, function.as_ref())?;
        let timeout = number::<f64>(headers, &TIMEOUT)?;
        let timeout = timeout.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|error| {
            let detail = format!("the header `{TIMEOUT}` is no time: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        let longest = gateway.0.options.timeout;
        let header = |name: HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Ok(Self {
            steps,
            function,
            shape: shape(headers),
            timeout: timeout.unwrap_or(longest).min(longest),
            messages: number(headers, &MESSAGES)?,
            trace: Trace {
                parent: header(TRACE_PARENT),
                state: header(TRACE_STATE),
                request_id: request_id.to_owned(),
            },
        })
    }

    /// The message with `payload`, from a client of its own.
    pub(super) fn message(&self, gateway: &Gateway, payload: Bytes) -> Message {
        let mut message = Message::new(self.steps.text().clone(), payload);
        let call = gateway.0.new_call();
        message.set_pipeline(call.clone());
        message.set_cache(call.clone());
        message.set_client(call);
        message.extend(&Extensions {
            deadline: Deadline::after(self.timeout).to_extension(),
            trace: Some(self.trace.clone()),
            wants_end: true,
            ..Extensions::default()
        });
        message
    }

    /// How many results there will be, as far as that is known before.
    pub(super) fn results(&self) -> Option<u64> {
        let has_one = self
            .function
            .as_ref()
            .is_some_and(|function| !function.many);
        self.messages.or(has_one.then_some(1))
    }

    /// What a component said, with the functions that there are if this one is none.
    pub(super) fn problem(&self, gateway: &Gateway, error: RemoteError) -> Problem {
        let is_unknown = error.kind == FailureKind::UnknownFunction;
        let problem = Problem::of(error);
        if is_unknown {
            list(gateway, problem)
        } else {
            problem
        }
    }
}

/// The first segment of the path; where it has no dot, a worker's function, whoever its master is.
fn function_name(gateway: &Gateway, path: &str) -> Result<String, Problem> {
    let segment = path.trim_start_matches('/').split('/').next();
    let segment = percent_decode_str(segment.unwrap_or_default());
    let segment = segment.decode_utf8().map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the path is no UTF-8 once it is decoded",
        )
    })?;
    if segment.trim().is_empty() {
        let detail = "the path names no function: its first segment is one";
        return Err(list(gateway, Problem::new(StatusCode::NOT_FOUND, detail)));
    }
    Ok(if segment.contains('.') {
        segment.into_owned()
    } else {
        format!("_.{}", segment.trim())
    })
}

/// A GET has no payload, which some codecs cannot read.
pub(super) fn allows_get(function: &Function) -> bool {
    matches!(
        Content::taken(function),
        Content::Nothing | Content::Text | Content::Bytes
    )
}

/// What is allowed is what the description says.
fn refuse_method(request: &Request<Body>, function: Option<&Function>) -> Result<(), Problem> {
    let without_get = function.filter(|function| !allows_get(function));
    let detail = match (request.method(), without_get) {
        (&Method::POST, _) | (&Method::GET, None) => return Ok(()),
        // It has a payload after all.
        (&Method::GET, _) if request.headers().contains_key(header::CONTENT_LENGTH) => {
            return Ok(());
        }
        (&Method::GET, Some(function)) => {
            format!("`{}` takes `{}`: POST it", function.name, function.input)
        }
        (method, _) => format!("a function cannot be called by {method}"),
    };
    let allow = match without_get {
        Some(_) => "POST",
        None => "GET, POST",
    };
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
    Err(problem.header(header::ALLOW, HeaderValue::from_static(allow)))
}

/// Adds the functions that are known.
fn list(gateway: &Gateway, problem: Problem) -> Problem {
    let Some(component) = gateway.0.component() else {
        return problem;
    };
    let functions = component.shared.offers.functions();
    problem.with("functions", functions.keys().cloned().collect::<Vec<_>>())
}

fn shape(headers: &HeaderMap) -> Shape {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    for range in accepted.flat_map(|accepted| accepted.split(',')) {
        match range.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => return Shape::Events,
            "application/x-ndjson" | "application/jsonl" => return Shape::Lines,
            _ => {}
        }
    }
    Shape::One
}

fn number<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let number = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().parse().ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => {
            let detail = format!("the header `{name}` is no number");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_says_how_results_are_written() {
        let check = |accepted: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accepted.parse().expect("it is a header's"));
            assert_eq!(shape(&headers), expected, "{accepted}");
        };
        check("*/*", Shape::One);
        check("text/html, text/event-stream;q=0.9", Shape::Events);
        check("application/x-ndjson", Shape::Lines);
        check("application/jsonl", Shape::Lines);
    }
}
