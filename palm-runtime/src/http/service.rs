//! [`GatewayService`]: from a request to a message, and from its results to a response.

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
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::body_memory::{self, MemoryPermit};
use super::gateway::{Gateway, PendingCall};
use super::guard::{ForeignNavigation, single};
use super::media_type::PayloadType;
use super::problem::Problem;
use super::request::{CallRequest, ResponseFormat};
use super::{openapi, result_stream};
use crate::failure::BoxError;
use crate::message::{Message, RemoteError, new_id};

/// How much longer than its deadline a call is waited for, since components know the deadline too.
const LAST_WORD: Duration = Duration::from_millis(250);

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes HTTP requests and answers each with the result of a call: a [tower] service, made by
/// [`Gateway::service`].
///
/// It can be the fallback of an axum `Router`, or be nested in one, and layers go around it as around
/// any service.
///
/// [tower]: https://docs.rs/tower
#[derive(Clone, Debug)]
pub struct GatewayService(Gateway);

impl GatewayService {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self(gateway)
    }
}

impl<B> tower::Service<Request<B>> for GatewayService
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gateway = self.0.clone();
        let request = request.map(Body::new);
        async move { Ok(respond(&gateway, request).await) }.boxed()
    }
}

/// Answers one request, whatever it is.
async fn respond(gateway: &Gateway, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let id = request_id(&head);
    let is_head = head.method == Method::HEAD;
    let mut body = Some(body);
    let answered = answer(gateway, &head, &mut body, &id).await;
    if let Some(body) = body.filter(|_| answered.is_err())
        && head.version < Version::HTTP_2
        && !head.headers.contains_key(header::EXPECT)
    {
        body_memory::discard(body).await;
    }
    let mut response = answered.unwrap_or_else(|problem| {
        tracing::debug!(status = problem.status.as_u16(), request_id = id, "refused");
        problem.with("request_id", id.as_str()).into_response()
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if is_head {
        // Of a body only its length is told, which HTTP/2 does not see to by itself.
        if let Some(len) = hyper::body::Body::size_hint(response.body()).exact() {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, len.into());
        }
        *response.body_mut() = Body::empty();
    }
    response
}

/// The id that the client gave, if it is one; otherwise a new one.
fn request_id(head: &Parts) -> String {
    const LONGEST: usize = 128;
    let given = head.headers.get(REQUEST_ID);
    let given = given.and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=LONGEST).contains(&id.len()));
    given.map_or_else(|| new_id().to_string(), str::to_owned)
}

/// Answers a request. Its body is left where it is until nothing in its head can be refused any more: only a body
/// that is read is invited by `100 Continue`.
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
        let detail = "a link of a web page of another origin must not call a function";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    authorize(gateway, head)?;
    let asked = CallRequest::read(gateway, head, id)?;
    let until = Instant::now() + asked.timeout;
    let late = || Problem::late(asked.timeout);
    if let Some(body) = body {
        body_memory::check_length(body, gateway.0.options.request_bytes, &gateway.0.memory)?;
    }
    until_there_is_a_worker(gateway, until).await?;
    let known = timeout_at(until, asked.check_function(gateway)).await;
    known.map_err(|_| late())??;

    let body = body.take().unwrap_or_default();
    let payload = timeout_at(until, payload(gateway, head, body)).await;
    let (payload, held) = payload.map_err(|_| Problem::slow_body())??;
    let left = until.saturating_duration_since(Instant::now());
    let message = asked.message(gateway, payload, left);
    match asked.shape {
        ResponseFormat::Single => {
            let (mut call, result) = PendingCall::single(gateway, message.client_topic(), held)?;
            timeout_at(until, call.send(message))
                .await
                .map_err(|_| late())??;
            // A component that gives up at the deadline says why.
            let last_word = timeout_at(until + LAST_WORD, result).await;
            let result = last_word.map_err(|_| late())?;
            // The others of many are not asked for.
            call.is_open = asked
                .function
                .as_ref()
                .is_some_and(|function| function.many);
            let result = result.map_err(|_| {
                Problem::unavailable("the component stopped before there was a result")
            })?;
            let (result, held) = result?;
            one(gateway, &asked, &result, held)
        }
        ResponseFormat::JsonLines | ResponseFormat::Events => {
            let (call, results) = PendingCall::stream(gateway, message.client_topic())?;
            timeout_at(until, call.send(message))
                .await
                .map_err(|_| late())??;
            Ok(result_stream::respond(asked, call, results, until))
        }
    }
}

/// The one result of a call, as a response.
fn one(
    gateway: &Gateway,
    asked: &CallRequest,
    result: &Message,
    held: MemoryPermit,
) -> Result<Response<Body>, Problem> {
    let extensions = result.extensions().unwrap_or_default();
    if let Some(error) = extensions.error {
        let error = RemoteError::from_extension(error, result.function());
        return Err(asked.problem(gateway, error));
    }
    let mut response = Response::new(Body::empty());
    if extensions.end.is_some() {
        // It was called and gave nothing.
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    if let Some(unfinished) = Problem::unfinished(result) {
        return Err(unfinished);
    }
    let payload = result.payload().clone();
    check_size(gateway, &payload)?;
    *response.body_mut() = Body::from(held.keep_with(payload));
    let content = asked.function.as_ref().map(PayloadType::of_output);
    // pylm's gateway calls every result text, and so are those of its workers.
    let media_type = content.map_or("text/plain", PayloadType::media_type);
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// Refuses a result that is too large.
pub(super) fn check_size(gateway: &Gateway, result: &Bytes) -> Result<(), Problem> {
    let (len, limit) = (result.len(), gateway.0.options.response_bytes);
    if len <= limit {
        return Ok(());
    }
    let detail = format!("the result has {len} bytes, the limit is {limit}");
    Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
}

fn only(head: &Parts, methods: &[Method], allow: &'static str) -> Result<(), Problem> {
    if methods.contains(&head.method) {
        return Ok(());
    }
    let detail = format!("{} is none of {allow}", head.method);
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
    Err(problem.header(header::ALLOW, HeaderValue::from_static(allow)))
}

fn authorize(gateway: &Gateway, head: &Parts) -> Result<(), Problem> {
    let tokens = &gateway.0.options.tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let given = single(&head.headers, &header::AUTHORIZATION)?;
    let token = given.and_then(|given| given.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if token.is_some_and(|(_, token)| tokens.iter().any(|known| is_same(known, token.trim()))) {
        return Ok(());
    }
    let detail = match given {
        None => "a bearer token is needed",
        Some(_) => "this token is not known",
    };
    let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
    Err(problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Takes the same time wherever they differ, so that no token can be found out letter by letter.
fn is_same(known: &str, given: &str) -> bool {
    let differ = |(a, b): (u8, u8)| a ^ b;
    let difference = known.bytes().zip(given.bytes()).map(differ);
    known.len() == given.len() && difference.fold(0, |all, one| all | one) == 0
}

/// The body, and the place in memory that it takes.
async fn payload(
    gateway: &Gateway,
    head: &Parts,
    body: Body,
) -> Result<(Bytes, Option<MemoryPermit>), Problem> {
    let has_body = head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
        || !hyper::body::Body::is_end_stream(&body);
    if !has_body {
        // What pylm's gateway makes of a request without a body.
        return Ok((Bytes::from_static(b"No Payload"), None));
    }
    let limit = gateway.0.options.request_bytes;
    let (payload, held) = body_memory::read(body, limit, &gateway.0.memory).await?;
    Ok((payload, Some(held)))
}

/// Refuses at once what nobody could answer. A worker that is restarted is waited for.
async fn until_there_is_a_worker(gateway: &Gateway, until: Instant) -> Result<(), Problem> {
    let Some(component) = gateway.0.component() else {
        return Err(Problem::unavailable("the component has not started yet"));
    };
    let shared = &component.shared;
    // To ask for each request would cost more than the request.
    let generation = shared.workers_generation();
    if component.workers_seen.load(Ordering::Relaxed) == generation {
        return Ok(());
    }
    let until = until.min(Instant::now() + gateway.0.options.no_worker_timeout);
    match timeout_at(until, shared.worker_connected()).await {
        Ok(Ok(())) => {
            component.workers_seen.store(generation, Ordering::Relaxed);
            Ok(())
        }
        Ok(Err(_)) => Err(Problem::unavailable("the component stops")),
        Err(_) => Err(Problem::unavailable("no worker is connected")),
    }
}

async fn health(gateway: &Gateway) -> Response<Body> {
    let component = gateway.0.component();
    let is_up = component.is_some() && !gateway.0.closed.is_cancelled();
    let has_workers = match component {
        Some(component) if component.shared.workers.get().is_some() => {
            component.shared.any_worker().await.unwrap_or(false)
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
