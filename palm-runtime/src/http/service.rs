//! [`GatewayService`]: from a request to a message, and from its results to a response.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::body::{self, Held};
use super::call::{Asked, Shape};
use super::content::Content;
use super::gateway::{Gateway, PendingCall};
use super::problem::Problem;
use super::{openapi, stream};
use crate::error::BoxError;
use crate::message::{Message, RemoteError, new_id};

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
    let id = request_id(&request);
    let is_head = request.method() == Method::HEAD;
    let answered = answer(gateway, request, &id).await;
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
fn request_id(request: &Request<Body>) -> String {
    const LONGEST: usize = 128;
    let given = request.headers().get(REQUEST_ID);
    let given = given.and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=LONGEST).contains(&id.len()));
    given.map_or_else(|| new_id().to_string(), str::to_owned)
}

async fn answer(
    gateway: &Gateway,
    request: Request<Body>,
    id: &str,
) -> Result<Response<Body>, Problem> {
    match request.uri().path() {
        "/healthz" => {
            only(&request, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            return Ok(health(gateway).await);
        }
        "/openapi.json" => {
            only(&request, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            authorize(gateway, &request)?;
            return Ok(document(&openapi::describe(gateway)));
        }
        _ => {}
    }
    authorize(gateway, &request)?;
    let asked = Asked::read(gateway, &request, id)?;
    let until = Instant::now() + asked.timeout;
    let late = || Problem::late(asked.timeout);

    let payload = timeout_at(until, payload(gateway, request)).await;
    let (payload, held) = payload.map_err(|_| Problem::slow_body())??;
    let message = asked.message(gateway, payload);
    until_there_is_a_worker(gateway, until).await?;
    match asked.shape {
        Shape::One => {
            let (mut call, result) = PendingCall::one(gateway, message.client_topic(), held)?;
            timeout_at(until, call.send(message))
                .await
                .map_err(|_| late())??;
            let result = timeout_at(until, result).await.map_err(|_| late())?;
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
        Shape::Lines | Shape::Events => {
            let (call, results) = PendingCall::many(gateway, message.client_topic())?;
            timeout_at(until, call.send(message))
                .await
                .map_err(|_| late())??;
            Ok(stream::respond(asked, call, results, until))
        }
    }
}

/// The one result of a call, as a response.
fn one(
    gateway: &Gateway,
    asked: &Asked,
    result: &Message,
    held: Held,
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
    *response.body_mut() = Body::from(held.within(payload));
    let content = asked.function.as_ref().map(Content::given);
    // pylm's gateway calls every result text, and so are those of its workers.
    let media_type = content.map_or("text/plain", Content::media_type);
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

fn only(request: &Request<Body>, methods: &[Method], allow: &'static str) -> Result<(), Problem> {
    if methods.contains(request.method()) {
        return Ok(());
    }
    let detail = format!("{} is none of {allow}", request.method());
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
    Err(problem.header(header::ALLOW, HeaderValue::from_static(allow)))
}

fn authorize(gateway: &Gateway, request: &Request<Body>) -> Result<(), Problem> {
    let tokens = &gateway.0.options.tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|given| given.to_str().ok());
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
    request: Request<Body>,
) -> Result<(Bytes, Option<Held>), Problem> {
    let headers = request.headers();
    let has_body = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING)
        || !hyper::body::Body::is_end_stream(request.body());
    if !has_body {
        // What pylm's gateway makes of a request without a body.
        return Ok((Bytes::from_static(b"No Payload"), None));
    }
    let limit = gateway.0.options.request_bytes;
    let (payload, held) = body::read(request.into_body(), limit, &gateway.0.memory).await?;
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
    let until = until.min(Instant::now() + gateway.0.options.worker_patience);
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
