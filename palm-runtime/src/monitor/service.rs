//! The HTTP service of a monitor: `/metrics`, `/livez` and `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};

use super::exposition::{Exposition, Format};
use crate::http::{Body, Serve};

/// What is monitored.
pub(super) trait Source: Send + Sync + 'static {
    /// Returns the reports.
    fn exposition(&self) -> impl Future<Output = Exposition> + Send;

    /// Returns why something is not ready, one line for each; empty if all is ready.
    fn unready_causes(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Returns a service that answers for `source`.
pub(super) fn service(source: Arc<impl Source>) -> impl Serve {
    tower::service_fn(move |request: Request<Body>| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(respond(&*source, request.map(drop)).await) }
    })
}

async fn respond(source: &impl Source, request: Request<()>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get_all(ACCEPT).iter();
            let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
            let format = Format::for_accept(&accept.join(","));
            let metrics = source.exposition().await.encode(format);
            response(StatusCode::OK, format.content_type(), metrics)
        }
        "/livez" => text(StatusCode::OK, "live\n"),
        "/readyz" => match source.unready_causes().await {
            causes if causes.is_empty() => text(StatusCode::OK, "ready\n"),
            causes => text(StatusCode::SERVICE_UNAVAILABLE, causes.join("\n") + "\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /livez and /readyz\n",
        ),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
