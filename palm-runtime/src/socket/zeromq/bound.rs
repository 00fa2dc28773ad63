//! A listener that several sockets of the crate share.

use std::io;
#[cfg(unix)]
use std::sync::atomic::{AtomicU64, Ordering};

use zeromq::Listener;

use crate::socket::Address;

/// A listener that native sockets share, one after the other.
pub(super) enum BoundListener {
    Tcp(std::net::TcpListener),
    #[cfg(unix)]
    Ipc(
        std::os::unix::net::UnixListener,
        #[expect(dead_code, reason = "it deletes the path when it is dropped")] PathGuard,
    ),
}

/// Deletes a path when it is dropped.
pub(super) struct PathGuard(std::path::PathBuf);

impl Drop for PathGuard {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundListener {
    pub(super) async fn new(address: &Address) -> io::Result<(Self, Address)> {
        #[cfg(unix)]
        if let Some(path) = address.ipc_path() {
            return Ok((Self::ipc(path).await?, address.clone()));
        }
        let text = address.to_string();
        let (host, port) = text
            .strip_prefix("tcp://")
            .and_then(|text| text.rsplit_once(':'))
            .ok_or(io::ErrorKind::Unsupported)?;
        let interface = if host == "*" { "0.0.0.0" } else { host };
        let listener = tokio::net::TcpListener::bind(format!("{interface}:{port}")).await?;
        let address = format!("tcp://{host}:{}", listener.local_addr()?.port());
        let address = address.parse().map_err(io::Error::other)?;
        Ok((Self::Tcp(listener.into_std()?), address))
    }

    /// Binds a path of the file system.
    ///
    /// A native socket that stops listening deletes the path that its listener was bound to. Therefore the listener is
    /// bound to a temporary path, and its file is renamed.
    #[cfg(unix)]
    async fn ipc(path: &str) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        use std::os::unix::net::UnixListener;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match std::fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(_) => {
                let answer = tokio::net::UnixStream::connect(path).await;
                if !answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
            }
            Err(_) => {}
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{path}.{}.{number}", std::process::id());
        let listener = UnixListener::bind(&temporary)?;
        std::fs::rename(&temporary, path)?;
        Ok(Self::Ipc(listener, PathGuard(path.into())))
    }

    pub(super) fn share(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            #[cfg(unix)]
            Self::Ipc(listener, _) => listener.try_clone().map(Listener::Ipc),
        }
    }
}
