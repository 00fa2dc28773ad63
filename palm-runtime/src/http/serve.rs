//! The HTTP server: the accept loop, and the life of a connection.
//!
//! A connection is a stack: TCP, [`WriteTimeout`], TLS, [`StrictFraming`], hyper, [`HostGuard`], and the service. Each
//! layer protects the following ones from one kind of misbehaving peer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
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
use super::unread_body::UnreadBody;
use super::write_timeout::WriteTimeout;
use super::write_timeout::{StreamExecutor, in_pieces};
use crate::failure::BoxError;
use crate::network::NetworkTrust;
use crate::signals::Signals;

/// Concurrent requests of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1000;
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Interval of the pings on an HTTP/2 connection, and the time to answer one.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A tower service that [`serve`] accepts. Implemented for every suitable service, such as axum's `Router`.
pub trait Serve: Clone + Send + 'static {
    #[doc(hidden)]
    fn respond(
        self,
        request: Request<super::Body>,
    ) -> impl Future<Output = Response<super::Body>> + Send;
}

impl<S, B> Serve for S
where
    S: Service<
            Request<super::Body>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    async fn respond(self, request: Request<super::Body>) -> Response<super::Body> {
        match self.oneshot(request).await {
            Ok(response) => response.map(super::Body::new),
            Err(error) => match error {},
        }
    }
}

/// Serves `service`, such as an axum `Router`, until SIGTERM or Ctrl-C.
///
/// The server then accepts no further requests and finishes the pending ones within 10 s. A second signal stops it
/// immediately.
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
/// Returns an error if the address cannot be bound, or if other hosts can reach it and the network is not trusted (see
/// [`Listener::trust_network`]).
///
/// # Cancel safety
///
/// Dropping the future closes all connections.
pub async fn serve(service: impl Serve, listener: impl Into<Listener>) -> Result<(), BoxError> {
    let network = NetworkTrust::new(false);
    let bound = BoundListener::bind(listener.into(), &network).await?;
    network.warn();
    tracing::info!(url = bound.url(), "serving HTTP");
    bound.serve_until_signal(service).await;
    Ok(())
}

/// A socket that several listeners of this process serve. Each connection is accepted by one of them.
#[cfg(feature = "monitor")]
#[derive(Debug)]
pub(crate) struct SharedSocket {
    socket: std::net::TcpListener,
    listener: Listener,
    address: SocketAddr,
}

#[cfg(feature = "monitor")]
impl SharedSocket {
    /// Returns a further listener, which serves in the current runtime.
    pub(crate) fn listen(&self) -> std::io::Result<BoundListener> {
        Ok(BoundListener {
            socket: TcpListener::from_std(self.socket.try_clone()?)?,
            listener: self.listener.clone(),
            address: self.address,
        })
    }
}

/// A listener whose socket is bound.
#[derive(Debug)]
pub(crate) struct BoundListener {
    socket: TcpListener,
    listener: Listener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds the listener's address if `network` or the listener itself allows it.
    pub(crate) async fn bind(listener: Listener, network: &NetworkTrust) -> Result<Self, BoxError> {
        listener.check(network)?;
        let bound = async {
            let socket = TcpListener::bind(&listener.address).await?;
            let address = socket.local_addr()?;
            Ok::<_, std::io::Error>((socket, address))
        };
        let (socket, address) = bound
            .await
            .map_err(|error| format!("cannot bind `{}` for HTTP: {error}", listener.address))?;
        let bound = Self {
            socket,
            listener,
            address,
        };
        network.note(&address.ip().to_string(), bound.url());
        Ok(bound)
    }

    /// Returns the URL, such as `http://127.0.0.1:8888`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.listener.scheme(), self.address)
    }

    /// Makes the socket one that several listeners can serve.
    #[cfg(feature = "monitor")]
    pub(crate) fn share(self) -> std::io::Result<SharedSocket> {
        Ok(SharedSocket {
            socket: self.socket.into_std()?,
            listener: self.listener,
            address: self.address,
        })
    }

    /// Serves until SIGTERM or Ctrl-C, and then finishes the pending requests within 10 s. A second signal stops it
    /// immediately. Dropping the future closes all connections.
    pub(crate) async fn serve_until_signal(self, service: impl Serve) {
        const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

        let stop = CancellationToken::new();
        let mut signals = Signals::listen();
        let mut serving = pin!(self.serve(service, stop.clone(), DRAIN_TIMEOUT));
        tokio::select! {
            () = &mut serving => return,
            () = signals.next() => stop.cancel(),
        }
        tokio::select! {
            () = serving => {}
            () = signals.next() => {}
        }
    }

    /// Serves until `stop` is cancelled. Then closes the socket, and grants connections at most `linger` to finish
    /// their pending requests.
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
        let free_connections = Arc::new(Semaphore::new(listener.options.max_connections.max(1)));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let permit = free_connections.clone().acquire_owned().await;
                (socket.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Usually the process is out of file descriptors, until a connection is closed.
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(ACCEPT_RETRY_DELAY) => {}
                    }
                    continue;
                }
            };
            let guarded = (guard.clone(), service.clone());
            let connection = connection(stream, listener.clone(), guarded, stop.clone());
            let connection = async move {
                let _permit = permit;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an HTTP connection failed");
                }
            };
            connections.spawn(connection.in_current_span());
        }
        // Resets connections that were not accepted yet, so that their clients need not time out.
        drop(socket);
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(linger, finish).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                ?linger,
                "closing HTTP connections whose requests are not finished"
            );
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
    // hyper writes each response at once, so Nagle's algorithm would only delay it.
    stream.set_nodelay(true)?;
    let stream = WriteTimeout::new(stream, listener.options.write_timeout);
    #[cfg(feature = "tls")]
    if let Some(tls) = &listener.tls {
        let stream = tokio::select! {
            accepted = tls.accept(stream) => accepted?,
            () = tokio::time::sleep(listener.options.header_timeout) => {
                return Err("the client did not complete the TLS handshake in time".into());
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
        write_timeout: listener.options.write_timeout,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listener.options.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    // Whether a request has been received.
    let has_begun = Arc::<AtomicBool>::default();
    let begun = has_begun.clone();
    let unread = UnreadBody::default();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        if !begun.load(Ordering::Relaxed) {
            begun.store(true, Ordering::Relaxed);
        }
        let (version, unread) = (request.version(), unread.clone());
        let mut request = unread.observe(request);
        let checked = guard.check(&mut request);
        let service = service.clone();
        async move {
            let mut response = match checked {
                Ok(()) => {
                    let response = service.respond(request).await;
                    response.map(super::Body::into_inner)
                }
                Err(problem) => {
                    drop(request);
                    problem.into_response()
                }
            };
            unread.announce(version, &mut response);
            Ok::<_, Infallible>(in_pieces(response))
        }
    });
    let stream = TokioIo::new(StrictFraming::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service));
    // hyper's timeouts apply only once it knows the version of HTTP, so a silent client is timed out here.
    let mut first_request_timeout = pin!(tokio::time::sleep(listener.options.header_timeout));
    let mut awaits_first_request = true;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => return ended,
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut first_request_timeout, if awaits_first_request => {
                if !has_begun.load(Ordering::Relaxed) {
                    return Err("the client did not send a request in time".into());
                }
                awaits_first_request = false;
            }
        }
    }
}
