//! [`GatewayService`]: converts an HTTP request into a call, and the call's results into the response.
//!
//! `answer` is the path of a request: authorise it, parse its head ([`CallRequest`]), wait for a worker, read the
//! body, send the message ([`PendingCall`]), and write one result here or several in `result_stream`.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::body_memory::{self, MemoryPermit};
use super::gateway::{Gateway, PendingCall, StreamedResult};
use super::guard::{ForeignNavigation, single};
use super::media_type::PayloadType;
use super::problem::Problem;
use super::request::{CallRequest, ResponseFormat};
use super::{openapi, result_stream};
use crate::failure::BoxError;
use crate::message::{Message, RemoteError, new_id};

/// Time beyond its deadline that a call is still waited for. Components know the deadline as well, and their error
/// says more than a timeout here.
const LATE_ERROR_TIMEOUT: Duration = Duration::from_millis(250);

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers HTTP requests with the results of calls. A [tower] service, created by [`Gateway::service`].
///
/// Mount it as the fallback of an axum `Router`, nest it in one, or wrap it in layers. Requests that a
/// [`Listener`](super::Listener) has accepted are not checked again. Those of another server are checked by
/// [`allowed_hosts`](super::GatewayOptions::allowed_hosts) and
/// [`allowed_origins`](super::GatewayOptions::allowed_origins).
///
/// [tower]: https://docs.rs/tower
#[derive(Clone, Debug)]
pub struct GatewayService(Gateway);

impl Gateway {
    /// Returns the tower service that receives the requests.
    pub fn service(&self) -> GatewayService {
        GatewayService(self.clone())
    }
}

impl<B> tower::Service<Request<B>> for GatewayService
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<super::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gateway = self.0.clone();
        let request = request.map(|body| super::Body::new(body).into_inner());
        async move {
            Ok(respond(&gateway, request)
                .await
                .map(super::Body::from_inner))
        }
        .boxed()
    }
}

/// Responds to a request: with the answer, or with the problem that prevented it.
async fn respond(gateway: &Gateway, mut request: Request<Body>) -> Response<Body> {
    let checked = gateway.0.guard.check_mounted(&mut request);
    let (head, body) = request.into_parts();
    let id = request_id(&head);
    let is_head = head.method == Method::HEAD;
    let mut body = Some(body);
    let answered = match checked {
        Ok(()) => answer(gateway, &head, &mut body, &id).await,
        Err(problem) => Err(problem),
    };
    if let Some(body) = body.filter(|_| answered.is_err())
        && !head.headers.contains_key(header::EXPECT)
    {
        body_memory::discard(body).await;
    }
    let mut response = answered.unwrap_or_else(|problem| {
        tracing::debug!(
            status = problem.status.as_u16(),
            request_id = id,
            "rejecting an HTTP request"
        );
        problem.with("request_id", id.as_str()).into_response()
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if is_head {
        // A response to HEAD has only the length of the body. hyper does not set it for HTTP/2.
        if let Some(len) = hyper::body::Body::size_hint(response.body()).exact() {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, len.into());
        }
        *response.body_mut() = Body::empty();
    }
    response
}

/// Returns the client's request id if it is valid, or a new one.
fn request_id(head: &Parts) -> String {
    const MAX_ID_BYTES: usize = 128;
    let id = head.headers.get(REQUEST_ID);
    let id = id.and_then(|id| id.to_str().ok());
    let id = id.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
    id.map_or_else(|| new_id().to_string(), str::to_owned)
}

/// Answers a request. The body is read only after every check of the head, because the first read makes hyper send
/// `100 Continue`.
async fn answer(
    gateway: &Gateway,
    head: &Parts,
    body: &mut Option<Body>,
    id: &str,
) -> Result<Response<Body>, Problem> {
    match head.uri.path() {
        "/healthz" => {
            only(head, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            return Ok(health(gateway).await);
        }
        "/openapi.json" => {
            only(head, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            authorize(gateway, head)?;
            return Ok(document(&openapi::describe(gateway)));
        }
        _ => {}
    }
    if head.extensions.get::<ForeignNavigation>().is_some() {
        let detail = "a link in a web page of another origin must not call a function";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    authorize(gateway, head)?;
    let mut request = CallRequest::read(gateway, head, id)?;
    let until = Instant::now() + request.timeout;
    let answered = match accept(gateway, head, body, &mut request, until).await {
        Ok((message, permit)) => match request.format {
            ResponseFormat::Single => first_result(gateway, &request, message, permit, until).await,
            ResponseFormat::JsonLines | ResponseFormat::Events => {
                match open_stream(gateway, &request, message, until).await {
                    Ok((call, results)) => {
                        return Ok(result_stream::respond(request, call, results, until));
                    }
                    Err(problem) => Err(problem),
                }
            }
        },
        Err(problem) => Err(problem),
    };
    if let Err(problem) = &answered {
        request.set_failed(problem);
    }
    answered
}

/// Makes every check of a request, and reads its body. Returns the message of the call, and the permit that covers the
/// body.
async fn accept(
    gateway: &Gateway,
    head: &Parts,
    body: &mut Option<Body>,
    request: &mut CallRequest,
    until: Instant,
) -> Result<(Message, Option<MemoryPermit>), Problem> {
    if let Some(body) = body {
        body_memory::check_length(body, gateway.0.options.max_request_bytes, &gateway.0.memory)?;
    }
    wait_for_worker(gateway, until).await?;
    let known = timeout_at(until, request.check_function(gateway)).await;
    known.map_err(|_| Problem::late(request.timeout))??;
    if until <= Instant::now() {
        return Err(Problem::late(request.timeout));
    }

    let body = body.take().unwrap_or_default();
    let payload = timeout_at(until, payload(gateway, head, body)).await;
    let (payload, permit) = payload.map_err(|_| Problem::slow_body())??;
    let left = until.saturating_duration_since(Instant::now());
    Ok((request.message(gateway, payload, left), permit))
}

/// Sends the message of a call, and returns the response with its first result.
async fn first_result(
    gateway: &Gateway,
    request: &CallRequest,
    message: Message,
    permit: Option<MemoryPermit>,
    until: Instant,
) -> Result<Response<Body>, Problem> {
    let late = || Problem::late(request.timeout);
    let (mut call, result) = PendingCall::single(gateway, message.client_topic(), permit)?;
    timeout_at(until, call.send(message))
        .await
        .map_err(|_| late())??;
    // A component that gives up at the deadline reports the cause.
    let result = timeout_at(until + LATE_ERROR_TIMEOUT, result).await;
    let result = result.map_err(|_| late())?;
    // Of several results only the first is used, so the rest of the call is cancelled.
    call.is_open = request
        .function
        .as_ref()
        .is_some_and(|function| function.many);
    let result = result
        .map_err(|_| Problem::unavailable("the component stopped before there was a result"))?;
    let (result, permit) = result?;
    one(gateway, request, &result, permit)
}

/// Sends the message of a call whose results are streamed.
async fn open_stream(
    gateway: &Gateway,
    request: &CallRequest,
    message: Message,
    until: Instant,
) -> Result<(PendingCall, mpsc::UnboundedReceiver<StreamedResult>), Problem> {
    let (call, results) = PendingCall::stream(gateway, message.client_topic())?;
    timeout_at(until, call.send(message))
        .await
        .map_err(|_| Problem::late(request.timeout))??;
    Ok((call, results))
}

/// Converts the only result of a call into the response.
fn one(
    gateway: &Gateway,
    request: &CallRequest,
    result: &Message,
    permit: MemoryPermit,
) -> Result<Response<Body>, Problem> {
    let extensions = result.extensions().unwrap_or_default();
    if let Some(error) = extensions.error {
        let error = RemoteError::from_extension(error, result.function());
        return Err(request.problem(gateway, error));
    }
    let mut response = Response::new(Body::empty());
    if extensions.end.is_some() {
        // The function returned no result.
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    if let Some(unfinished) = Problem::unfinished(result) {
        return Err(unfinished);
    }
    let payload = result.payload().clone();
    gateway.check_size(&payload)?;
    *response.body_mut() = Body::from(permit.keep_with(payload));
    let content = request.function.as_ref().map(PayloadType::from_output);
    // The gateway of pylm declares every result as text, and the results of pylm's workers are text.
    let media_type = content.map_or("text/plain", PayloadType::media_type);
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

fn only(head: &Parts, methods: &[Method], allow: &'static str) -> Result<(), Problem> {
    if methods.contains(&head.method) {
        return Ok(());
    }
    let detail = format!(
        "the method {} is not allowed, expected {allow}",
        head.method
    );
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
    Err(problem.header(header::ALLOW, HeaderValue::from_static(allow)))
}

fn authorize(gateway: &Gateway, head: &Parts) -> Result<(), Problem> {
    let tokens = &gateway.0.options.bearer_tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let credentials = single(&head.headers, &header::AUTHORIZATION)?;
    let token = credentials.and_then(|credentials| credentials.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if token.is_some_and(|(_, token)| tokens.iter().any(|known| is_same(&known.0, token.trim()))) {
        return Ok(());
    }
    let detail = match credentials {
        None => "the request has no bearer token: send `Authorization: Bearer <token>`",
        Some(_) => "the bearer token is unknown",
    };
    let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
    Err(problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Compares in constant time, so that response times do not reveal how much of a guessed token is right.
fn is_same(known: &str, received: &str) -> bool {
    let differ = |(a, b): (u8, u8)| a ^ b;
    let difference = known.bytes().zip(received.bytes()).map(differ);
    known.len() == received.len() && difference.fold(0, |all, one| all | one) == 0
}

/// Reads the body, with the memory permit that covers it.
async fn payload(
    gateway: &Gateway,
    head: &Parts,
    body: Body,
) -> Result<(Bytes, Option<MemoryPermit>), Problem> {
    let has_body = head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
        || !hyper::body::Body::is_end_stream(&body);
    if !has_body {
        // The payload that pylm's gateway sends for a request without a body.
        return Ok((Bytes::from_static(b"No Payload"), None));
    }
    let limit = gateway.0.options.max_request_bytes;
    let (payload, permit) = body_memory::read(body, limit, &gateway.0.memory).await?;
    Ok((payload, Some(permit)))
}

/// Waits until a worker is connected, for at most [`no_worker_timeout`](super::GatewayOptions::no_worker_timeout), so that a restart of the only worker
/// fails no request.
async fn wait_for_worker(gateway: &Gateway, until: Instant) -> Result<(), Problem> {
    let Some(component) = gateway.0.component() else {
        return Err(Problem::unavailable("the component has not started yet"));
    };
    let state = &component.state;
    // The generation changes when a worker disconnects. Comparing it costs less than a query for each request.
    let generation = state.workers_generation();
    if component.workers_seen.load(Ordering::Relaxed) == generation {
        return Ok(());
    }
    let until = until.min(Instant::now() + gateway.0.options.no_worker_timeout);
    match timeout_at(until, state.worker_connected()).await {
        Ok(Ok(())) => {
            component.workers_seen.store(generation, Ordering::Relaxed);
            Ok(())
        }
        Ok(Err(_)) => Err(Problem::unavailable("the component is stopping")),
        Err(_) => Err(Problem::unavailable("no worker is connected")),
    }
}

async fn health(gateway: &Gateway) -> Response<Body> {
    let component = gateway.0.component();
    let is_up = component.is_some() && !gateway.0.closed.is_cancelled();
    let has_workers = match component {
        Some(component) if component.state.has_workers() => {
            component.state.any_worker().unwrap_or(false)
        }
        _ => true,
    };
    let mut response = document(&json!({
        "status": if is_up { "pass" } else { "fail" },
        "component": component.map(|component| component.name.as_str()),
        "workers": has_workers,
    }));
    if !is_up {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn document(document: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
