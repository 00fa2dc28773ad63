//! Connections at addresses of all transports.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, DuplexStream};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::super::kind::Kind;
use super::super::{Address, tcp};
use super::inproc;

/// Time within which a peer's system has to acknowledge bytes (`TCP_USER_TIMEOUT`, RFC 5482). Afterwards the connection
/// is closed. Links send their messages again on the next one.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

/// Size of the system's buffers of an `ipc://` connection. The default of the system makes large messages slow.
#[cfg(unix)]
const IPC_BUFFER_BYTES: usize = 1024 * 1024;

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Ipc(UnixStream),
    Inproc(DuplexStream),
}

/// Connects to a path, or with `@` to an abstract name.
#[cfg(unix)]
async fn connect_ipc(path: &str) -> io::Result<UnixStream> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        let stream = std::os::unix::net::UnixStream::connect_addr(&name)?;
        stream.set_nonblocking(true)?;
        return UnixStream::from_std(stream);
    }
    UnixStream::connect(path).await
}

/// The direction from the peer.
pub(super) enum ReadHalf {
    Tcp(tokio::net::tcp::OwnedReadHalf),
    #[cfg(unix)]
    Ipc(tokio::net::unix::OwnedReadHalf),
    Inproc(tokio::io::ReadHalf<DuplexStream>),
}

/// The direction to the peer.
pub(super) enum WriteHalf {
    Tcp(tokio::net::tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Ipc(tokio::net::unix::OwnedWriteHalf),
    Inproc(tokio::io::WriteHalf<DuplexStream>),
}

/// Evaluates an expression for the stream, or the half of it, of either transport.
macro_rules! either {
    ($kind:ident, $stream:expr, $inner:ident => $result:expr) => {
        match $stream {
            $kind::Tcp($inner) => $result,
            #[cfg(unix)]
            $kind::Ipc($inner) => $result,
            $kind::Inproc($inner) => $result,
        }
    };
}

impl Stream {
    /// Connects to an address.
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        #[cfg(unix)]
        if let Some(path) = address.ipc_path() {
            return Ok(Self::Ipc(connect_ipc(path).await?));
        }
        if let Some(name) = address.inproc_name() {
            return Ok(Self::Inproc(inproc::connect(name).await?));
        }
        let (host, port) = address.tcp_parts().ok_or(io::ErrorKind::Unsupported)?;
        let stream = tcp::connect(format!("{host}:{port}")).await?;
        Ok(Self::Tcp(stream))
    }

    /// Sets the options of the system. A connection that has just ended does not have any.
    pub(super) fn configure(&self, kind: Kind) {
        let closes_unacknowledged = matches!(kind, Kind::Router | Kind::Dealer);
        match self {
            Self::Tcp(stream) => {
                let _ = stream.set_nodelay(true);
                let socket = SockRef::from(stream);
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(10))
                    .with_interval(Duration::from_secs(5));
                #[cfg(not(windows))]
                let keepalive = keepalive.with_retries(3);
                let _ = socket.set_tcp_keepalive(&keepalive);
                #[cfg(target_os = "linux")]
                if closes_unacknowledged {
                    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
                }
                #[cfg(not(target_os = "linux"))]
                let _ = closes_unacknowledged;
            }
            #[cfg(unix)]
            Self::Ipc(stream) => {
                let socket = SockRef::from(stream);
                let _ = socket.set_send_buffer_size(IPC_BUFFER_BYTES);
                let _ = socket.set_recv_buffer_size(IPC_BUFFER_BYTES);
            }
            Self::Inproc(_) => {}
        }
    }

    pub(super) fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            #[cfg(unix)]
            Self::Ipc(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Ipc(read), WriteHalf::Ipc(write))
            }
            Self::Inproc(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Inproc(read), WriteHalf::Inproc(write))
            }
        }
    }
}

impl ReadHalf {
    /// Returns the address of the peer, for the log.
    pub(super) fn peer(&self) -> String {
        match self {
            Self::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string()),
            #[cfg(unix)]
            Self::Ipc(_) => "local".to_owned(),
            Self::Inproc(_) => "in this process".to_owned(),
        }
    }

    /// Waits until there are bytes, or the end, if the transport can tell before a read.
    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.as_ref().poll_read_ready(context),
            #[cfg(unix)]
            Self::Ipc(stream) => stream.as_ref().poll_read_ready(context),
            Self::Inproc(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads once, at most `limit` bytes.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        input: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut input = input.limit(limit);
        either!(Self, self, stream => pin!(stream.read_buf(&mut input)).poll(context))
    }

    /// Reads once. Cancel safe.
    pub(super) async fn read(&mut self, input: &mut [u8]) -> io::Result<usize> {
        either!(Self, self, stream => stream.read(input).await)
    }
}

impl WriteHalf {
    /// Writes once.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(Self, self, stream => Pin::new(stream).poll_write_vectored(context, chunks))
    }

    /// Closes the direction.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(Self, self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
