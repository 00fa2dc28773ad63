//! [`CallRequest`]: parses the head of an HTTP request into a call, and creates the call's message.
//!
//! [`CallRequest::read`] and [`CallRequest::check_function`] make every check that needs no body, because a client
//! that waits for `100 Continue` sends its body only if they succeed.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::gateway::Gateway;
use super::guard::single;
use super::media_type::PayloadType;
use super::problem::Problem;
use super::request_record::RequestRecord;
use crate::clock;
use crate::failure::FailureKind;
use crate::function::{Steps, nearest, nearest_first};
use crate::message::proto::{Extensions, Function};
use crate::message::{Deadline, Headers, Message, RemoteError, Trace};

const TIMEOUT: HeaderName = HeaderName::from_static("palm-timeout");
const MESSAGES: HeaderName = HeaderName::from_static("palm-messages");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// How the results of a call are written to the response, by the `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// The first result is the body.
    Single,
    /// One JSON text per line.
    JsonLines,
    /// Server-sent events.
    Events,
}

/// A call that an HTTP request makes.
#[derive(Debug)]
pub(super) struct CallRequest {
    steps: Steps,
    /// The descriptor of the first function, if a worker has registered it.
    pub(super) function: Option<Function>,
    pub(super) format: ResponseFormat,
    pub(super) timeout: Duration,
    /// The number of results to wait for, if the client sets it by the header `palm-messages`.
    messages: Option<u64>,
    headers: Headers,
    trace: Trace,
    record: Option<RequestRecord>,
}

impl CallRequest {
    /// Parses the head of a request. Rejects everything that can be rejected without the body.
    pub(super) fn read(gateway: &Gateway, head: &Parts, request_id: &str) -> Result<Self, Problem> {
        let headers = &head.headers;
        reject_method(head, None)?;
        let name = function_name(gateway, head.uri.path())?;
        let steps = Steps::parse(&name).map_err(|error| {
            let detail = format!("the path does not name a function: {error}");
            with_functions(gateway, Problem::new(StatusCode::NOT_FOUND, detail), &name)
        })?;
        let function = steps.iter().next();
        let function = function.and_then(|step| gateway.0.function(step.function));
        if let Some(function) = &function {
            reject_method(head, Some(function))?;
            reject_media_type(headers, function)?;
        }
        let timeout = numeric_header::<f64>(headers, &TIMEOUT)?;
        let timeout = timeout.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|error| {
            let detail = format!("the header `{TIMEOUT}` is not a number of seconds: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        let longest = gateway.0.options.timeout;
        let header = |name: HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let messages = numeric_header(headers, &MESSAGES)?;
        let mut call_headers = Headers::new();
        // A component does not start with names that are not those of headers.
        for name in gateway.0.call_headers().unwrap_or_default() {
            if let Some(value) = single(headers, name)? {
                call_headers.insert(name.as_str(), value);
            }
        }
        let mut trace = Trace::default();
        (trace.parent, trace.state) = (header(TRACE_PARENT), header(TRACE_STATE));
        request_id.clone_into(&mut trace.request_id);
        Ok(Self {
            record: RequestRecord::begin(gateway, steps.text(), &mut trace),
            steps,
            function,
            format: format(headers),
            timeout: timeout.unwrap_or(longest).min(longest),
            messages,
            headers: call_headers,
            trace,
        })
    }

    /// Creates the message of the call, whose deadline is `left` from now. Each call has a client id of its own, so
    /// that its results can be routed back to its request.
    pub(super) fn message(&mut self, gateway: &Gateway, payload: Bytes, left: Duration) -> Message {
        let mut message = Message::new(self.steps.text().clone(), payload);
        let call = gateway.0.new_call();
        message.set_pipeline(call.clone());
        message.set_cache(call.clone());
        if let Some(record) = &mut self.record {
            record.set_call(call.clone());
        }
        message.set_client(call);
        message.extend(&Extensions {
            deadline: Deadline::after(left, clock::wall()).to_extension(),
            wants_end: true,
            ..self.headers.to_extensions()
        });
        message.set_trace(&self.trace);
        message
    }

    /// Records that the request, or one of its results, is answered by a problem.
    pub(super) fn set_failed(&mut self, problem: &Problem) {
        if let Some(record) = &mut self.record {
            record.set_failed(problem);
        }
    }

    /// Returns the number of results, if it is known before the call.
    pub(super) fn expected_results(&self) -> Option<u64> {
        let has_one = self
            .function
            .as_ref()
            .is_some_and(|function| !function.many);
        self.messages.or(has_one.then_some(1))
    }

    /// Converts an error of a component. The problem of an unknown function lists the known ones.
    pub(super) fn problem(&self, gateway: &Gateway, error: RemoteError) -> Problem {
        let is_unknown = error.kind == FailureKind::UnknownFunction;
        let problem = Problem::from_remote(error);
        if is_unknown {
            with_functions(gateway, problem, self.first_function())
        } else {
            problem
        }
    }

    fn first_function(&self) -> &str {
        self.steps.iter().next().map_or("", |step| step.function)
    }

    /// Rejects a function that no worker has registered. Waits briefly if a worker has just connected. Cancel safe.
    pub(super) async fn check_function(&self, gateway: &Gateway) -> Result<(), Problem> {
        let Some(component) = gateway.0.component().filter(|_| self.function.is_none()) else {
            return Ok(());
        };
        let task = Message::new(self.steps.text().clone(), Bytes::new()).into_frame();
        if component.state.may_run(&task).await {
            return Ok(());
        }
        let name = self.first_function();
        let functions = component.state.functions.functions();
        let names: Vec<_> = functions.keys().map(String::as_str).collect();
        let detail = format!("no worker has `{name}`; {}", nearest(name, &names));
        let problem = Problem::new(StatusCode::NOT_FOUND, detail);
        Err(with_functions(
            gateway,
            problem.with("kind", "UnknownFunction"),
            name,
        ))
    }
}

/// Returns the function that a path names: its first segment. A segment without a dot names a function of any
/// master's workers (`_.segment`).
fn function_name(gateway: &Gateway, path: &str) -> Result<String, Problem> {
    let segments = segments(path).map_err(|wrong| {
        let detail = format!("the path `{path}` {wrong}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let segment = segments.first().map_or("", |segment| segment.trim());
    if segment.is_empty() {
        let detail = "the path does not name a function: expected it as the first segment";
        let problem = Problem::new(StatusCode::NOT_FOUND, detail);
        return Err(with_functions(gateway, problem, ""));
    }
    Ok(if segment.contains('.') {
        segment.to_owned()
    } else {
        format!("_.{segment}")
    })
}

/// Splits a path into decoded segments. Rejects paths that a proxy could normalise to another path.
fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    if path == "/" {
        return Ok(vec!["".into()]);
    }
    let path = path.strip_prefix('/').ok_or("does not begin with `/`")?;
    // One trailing slash is accepted.
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = path.split('/').map(|segment| {
        let decoded = percent_decode_str(segment).decode_utf8();
        let decoded = decoded.map_err(|_| "is not UTF-8 once it is decoded")?;
        if decoded.is_empty() {
            return Err("has an empty segment");
        }
        if decoded == "." || decoded == ".." {
            return Err("has a segment `.` or `..`");
        }
        if decoded.contains(|letter: char| matches!(letter, '/' | '\\') || letter.is_control()) {
            return Err("has a slash, a backslash or a control character in a segment");
        }
        Ok(decoded)
    });
    segments.collect()
}

/// Returns whether the function's name can be a segment of a path.
pub(super) fn has_path(function: &Function) -> bool {
    let name = &*function.name;
    let is_separator = |letter: char| letter.is_whitespace() || matches!(letter, '.' | '/' | '\\');
    !name.is_empty() && !name.contains(|letter| is_separator(letter) || letter.is_control())
}

/// Returns whether the function can be called by GET, which has no payload. Codecs such as JSON cannot decode an empty
/// payload.
pub(super) fn allows_get(function: &Function) -> bool {
    matches!(
        PayloadType::from_input(function),
        PayloadType::Nothing | PayloadType::Text | PayloadType::Bytes
    )
}

/// Rejects methods that `openapi.json` does not list for the function.
fn reject_method(head: &Parts, function: Option<&Function>) -> Result<(), Problem> {
    let without_get = function.filter(|function| !allows_get(function));
    let detail = match (&head.method, without_get) {
        (&Method::POST, _) | (&Method::GET, None) => return Ok(()),
        // A GET with a body.
        (&Method::GET, _) if head.headers.contains_key(header::CONTENT_LENGTH) => {
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

/// Rejects a body whose headers say that it is of another type than the function's argument.
fn reject_media_type(headers: &HeaderMap, function: &Function) -> Result<(), Problem> {
    let input = PayloadType::from_input(function);
    let found = single(headers, &header::CONTENT_TYPE)?;
    let unsupported = |what: &str, found: &str| {
        let detail = format!(
            "`{}` takes `{}`, and {what} `{found}`",
            function.name, function.input
        );
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    };
    if let Some(found) = found.filter(|found| !input.accepts(found)) {
        let media_type = HeaderValue::from_static(input.media_type());
        let problem = unsupported("the body's type is", found);
        return Err(problem.header(header::ACCEPT, media_type));
    }
    let coding = single(headers, &header::CONTENT_ENCODING)?;
    let is_plain = |coding: &&str| coding.eq_ignore_ascii_case("identity");
    if let Some(coding) = coding.filter(|coding| !is_plain(coding) && !input.is_opaque()) {
        let problem = unsupported("the body's encoding is", coding);
        let identity = HeaderValue::from_static("identity");
        return Err(problem.header(header::ACCEPT_ENCODING, identity));
    }
    Ok(())
}

/// Adds the registered functions to a problem, those most similar to `name` first.
fn with_functions(gateway: &Gateway, problem: Problem, name: &str) -> Problem {
    let Some(component) = gateway.0.component() else {
        return problem;
    };
    let name = name.rsplit('.').next().unwrap_or(name);
    let functions = component.state.functions.functions();
    let callable = functions.values().filter(|function| has_path(function));
    let names = nearest_first(name, callable.map(|function| &*function.name));
    problem.with("functions", names)
}

fn format(headers: &HeaderMap) -> ResponseFormat {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    for range in accepted.flat_map(|accepted| accepted.split(',')) {
        match range.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => return ResponseFormat::Events,
            "application/x-ndjson" | "application/jsonl" => return ResponseFormat::JsonLines,
            _ => {}
        }
    }
    ResponseFormat::Single
}

fn numeric_header<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<T>, Problem> {
    let value = single(headers, name)?;
    let number = value.map(|value| {
        value.parse().map_err(|_| {
            let detail = format!("the header `{name}` is not a number");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })
    });
    number.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_a_proxy_could_read_differently_is_rejected() {
        for (path, expected) in [
            ("/", &[""][..]),
            ("/a", &["a"]),
            ("/a/", &["a"]),
            ("/a/b/c", &["a", "b", "c"]),
            ("/a.b%20c.d", &["a.b c.d"]),
            ("/%C3%A4/...", &["\u{e4}", "..."]),
            ("/%252e", &["%2e"]),
        ] {
            assert_eq!(segments(path).unwrap(), expected, "{path}");
        }
        for path in [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//",
            "/a//b",
            "/.",
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e%2E/a",
            "/a/.%2e",
            "/a%2Fb",
            "/a%2f",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/%00",
            "/a%0d%0aX:%20y",
            "/a%7f",
            "/%ff%fe",
            "/a/%ff",
        ] {
            assert!(segments(path).is_err(), "{path}");
        }
    }

    #[test]
    fn accept_header_selects_the_response_format() {
        let check = |accepted: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accepted.parse().expect("a header value"));
            assert_eq!(format(&headers), expected, "{accepted}");
        };
        check("*/*", ResponseFormat::Single);
        check("text/html, text/event-stream;q=0.9", ResponseFormat::Events);
        check("application/x-ndjson", ResponseFormat::JsonLines);
        check("application/jsonl", ResponseFormat::JsonLines);
    }
}
