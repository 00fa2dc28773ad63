//! Serving HTTP: the loop that accepts connections, and the life of each of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::Listener;
use super::framing::StrictFraming;
use super::guard::HostGuard;
use super::write_timeout::WriteTimeout;
use super::write_timeout::{StreamExecutor, in_pieces};
use crate::failure::BoxError;
use crate::network::NetworkTrust;
use crate::signals::Signals;

/// Requests of one HTTP/2 connection that are handled at once.
const MAX_STREAMS: u32 = 1000;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How often an HTTP/2 connection is asked whether it is still there, and how long it may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A service that can be served.
pub trait Serve:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Serve for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// Serves `service`, an axum `Router` for example, until SIGTERM or Ctrl-C, and then finishes the
/// requests that it has, within 10 s. A second signal ends it at once.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use axum::{Router, routing::get};
///
/// let application = Router::new().route("/", get(|| async { "Hello" }));
/// palm::http::serve(application, "127.0.0.1:8080").await
/// # }
/// ```
///
/// # Errors
///
/// When the address cannot be bound, or other hosts could reach it and nothing says that the network is
/// trusted: see [`Listener::trust_network`].
///
/// # Cancel safety
///
/// Dropping the future ends all connections.
pub async fn serve(service: impl Serve, listener: impl Into<Listener>) -> Result<(), BoxError> {
    const LINGER: Duration = Duration::from_secs(10);

    let network = NetworkTrust::new(false);
    let bound = BoundListener::bind(listener.into(), &network).await?;
    network.warn();
    tracing::info!("serves HTTP at {}", bound.url());
    let stop = CancellationToken::new();
    let mut signals = Signals::listen();
    let mut serving = pin!(bound.serve(service, stop.clone(), LINGER));
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = signals.next() => stop.cancel(),
    }
    tokio::select! {
        () = serving => {}
        () = signals.next() => {}
    }
    Ok(())
}

/// A listener with its socket.
#[derive(Debug)]
pub(crate) struct BoundListener {
    socket: TcpListener,
    listener: Listener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds the listener's address, if `network` or the listener itself allows it.
    pub(crate) async fn bind(listener: Listener, network: &NetworkTrust) -> Result<Self, BoxError> {
        listener.check(network)?;
        let bound = async {
            let socket = TcpListener::bind(&listener.address).await?;
            let address = socket.local_addr()?;
            Ok::<_, std::io::Error>((socket, address))
        };
        let (socket, address) = bound
            .await
            .map_err(|error| format!("cannot serve HTTP at `{}`: {error}", listener.address))?;
        let bound = Self {
            socket,
            listener,
            address,
        };
        network.note(&address.ip().to_string(), bound.url());
        Ok(bound)
    }

    /// Where it is, e.g. `http://127.0.0.1:8888`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.listener.scheme(), self.address)
    }

    /// Serves until `stop`; then accepts nothing more, and lets the connections finish what they have
    /// for at most `linger`.
    pub(crate) async fn serve(
        self,
        service: impl Serve,
        stop: CancellationToken,
        linger: Duration,
    ) {
        let Self {
            socket,
            listener,
            address,
        } = self;
        let guard = Arc::new(listener.guard(address.ip()));
        let places = Arc::new(Semaphore::new(listener.connections));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let place = places.clone().acquire_owned().await;
                (socket.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Usually the process has no file descriptor left; a connection that ends gives one.
                    tracing::warn!(%error, "cannot accept a connection");
                    let pause = Duration::from_millis(100);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    continue;
                }
            };
            let guarded = (guard.clone(), service.clone());
            let connection = connection(stream, listener.clone(), guarded, stop.clone());
            let connection = async move {
                let _place = place;
                if let Err(error) = connection.await {
                    tracing::debug!("a connection ended: {error}");
                }
            };
            connections.spawn(connection.in_current_span());
        }
        // Who has connected and was not accepted yet learns at once that nobody is here any more.
        drop(socket);
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(linger, finish).await.is_err() {
            tracing::warn!("HTTP requests were not done in time");
        }
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    listener: Listener,
    guarded: (Arc<HostGuard>, impl Serve),
    stop: CancellationToken,
) -> Result<(), BoxError> {
    // Answers are written at once; waiting for more of them only delays them.
    stream.set_nodelay(true)?;
    let stream = WriteTimeout::new(stream, listener.write_timeout);
    #[cfg(feature = "tls")]
    if let Some(tls) = &listener.tls {
        let stream = tokio::select! {
            accepted = tls.accept(stream) => accepted?,
            () = tokio::time::sleep(listener.header_timeout) => {
                return Err("it began no TLS session in time".into());
            }
        };
        return speak(stream, &listener, guarded, stop).await;
    }
    speak(stream, &listener, guarded, stop).await
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    listener: &Listener,
    (guard, service): (Arc<HostGuard>, impl Serve),
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut builder = Builder::new(StreamExecutor {
        write_timeout: listener.write_timeout,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listener.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let has_begun = Arc::<AtomicBool>::default();
    let begun = has_begun.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if !begun.load(Ordering::Relaxed) {
            begun.store(true, Ordering::Relaxed);
        }
        let checked = guard.check(&mut request);
        let service = service.clone();
        async move {
            let response = match checked {
                Ok(()) => service.oneshot(request.map(Body::new)).await?,
                Err(problem) => problem.into_response(),
            };
            Ok::<_, Infallible>(in_pieces(response))
        }
    });
    let stream = TokioIo::new(StrictFraming::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service));
    // Until it is known which version of HTTP is spoken, no timeout of either is in force.
    let mut silence = pin!(tokio::time::sleep(listener.header_timeout));
    let mut is_watched = true;
    let mut stops = false;
    loop {
        tokio::select! {
            ended = &mut connection => return ended,
            () = stop.cancelled(), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut silence, if is_watched => {
                if !has_begun.load(Ordering::Relaxed) {
                    return Err("it sent no request in time".into());
                }
                is_watched = false;
            }
        }
    }
}
