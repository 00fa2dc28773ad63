//! Listeners at addresses of all transports.

use std::io;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::super::Address;
use super::inproc::InprocListener;
use super::stream::Stream;

/// Connections that the system completes before they are accepted.
const BACKLOG: u32 = 1024;

pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Ipc(
        UnixListener,
        #[expect(dead_code, reason = "it deletes the path when it is dropped")] Option<PathGuard>,
    ),
    Inproc(InprocListener),
}

/// Deletes a path when it is dropped.
#[cfg(unix)]
pub(super) struct PathGuard(std::path::PathBuf);

#[cfg(unix)]
impl Drop for PathGuard {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds an address, and returns it with the port that the system chose, or an unused name.
    pub(super) async fn bind(address: &Address) -> io::Result<(Self, Address)> {
        #[cfg(unix)]
        if let Some(path) = address.ipc_path() {
            return Ok((Self::bind_ipc(path).await?, address.clone()));
        }
        if address.inproc_name().is_some() {
            let (listener, bound) = InprocListener::bind(address)?;
            return Ok((Self::Inproc(listener), bound));
        }
        let (host, port) = address.tcp_parts().ok_or(io::ErrorKind::Unsupported)?;
        let host = match host {
            "*" => "0.0.0.0",
            host => host,
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for to in tokio::net::lookup_host(format!("{host}:{port}")).await? {
            match Self::bind_tcp(to) {
                Ok(listener) => {
                    let bound = address.with_port(listener.local_addr()?.port());
                    return Ok((Self::Tcp(listener), bound));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind_tcp(to: std::net::SocketAddr) -> io::Result<TcpListener> {
        let socket = match to {
            std::net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            std::net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // On Windows, this would allow two listeners at one port.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(to)?;
        socket.listen(BACKLOG)
    }

    /// Binds a path, or with `@` an abstract name. Only a socket without a listener, a remainder of an earlier process,
    /// is replaced.
    #[cfg(unix)]
    async fn bind_ipc(path: &str) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        #[cfg(target_os = "linux")]
        if let Some(name) = path.strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt as _;
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            let listener = std::os::unix::net::UnixListener::bind_addr(&name)?;
            listener.set_nonblocking(true)?;
            return Ok(Self::Ipc(UnixListener::from_std(listener)?, None));
        }
        match std::fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => {
                match UnixStream::connect(path).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path)?;
                    }
                    // Its process has just removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    _ => return Err(io::ErrorKind::AddrInUse.into()),
                }
            }
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        Ok(Self::Ipc(listener, Some(PathGuard(path.into()))))
    }

    /// Cancel safe.
    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Ipc(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Stream::Ipc(stream))
            }
            Self::Inproc(listener) => Ok(Stream::Inproc(listener.accept().await?)),
        }
    }
}
