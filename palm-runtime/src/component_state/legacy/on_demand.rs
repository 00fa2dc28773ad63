//! Sockets for legacy peers that are bound when the first peer requests their address.
//!
//! Peers that speak links need only the `db_address`. A socket whose address is not configured has a port that the
//! system picks, so a legacy peer must request it under its key at the cache service. Until then the port is reserved,
//! and not listened on. A path does not change with a restart, and peers reconnect to it without a request: so sockets
//! with `ipc://` and `inproc://` addresses, like those with a configured address, are bound when the component starts.

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::failure::chain;
use crate::socket::{Peers, ReservedPort, SocketOptions};
use crate::spawn::spawn_on;

/// The sockets of a component that are reserved and not bound yet.
#[derive(Debug, Default)]
pub(crate) struct OnDemand(Mutex<Vec<OnDemandSocket>>);

#[derive(Debug)]
pub(crate) struct OnDemandSocket {
    /// The cache key of the address.
    pub(crate) key: &'static str,
    pub(crate) port: ReservedPort,
    pub(crate) socket: Peers,
    pub(crate) options: SocketOptions,
    /// The component's runtime.
    pub(crate) runtime: Handle,
    pub(crate) span: tracing::Span,
}

impl OnDemandSocket {
    async fn bind(self) {
        let Self {
            key, port, socket, ..
        } = self;
        match socket.bind(port.address(), &self.options).await {
            Ok(bound) => tracing::info!(%bound, "binding {key}: a legacy peer has requested it"),
            Err(error) => {
                let cause = chain(&error);
                tracing::warn!("cannot bind {key}, so legacy peers cannot use it: {cause}");
            }
        }
    }
}

impl OnDemand {
    pub(crate) fn add(&self, socket: OnDemandSocket) {
        self.0.lock().push(socket);
    }

    /// Returns whether the socket with this key is not bound yet.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.lock().iter().any(|socket| socket.key == key)
    }

    fn take(&self, key: &str) -> Option<OnDemandSocket> {
        let mut sockets = self.0.lock();
        let position = sockets.iter().position(|socket| socket.key == key)?;
        Some(sockets.swap_remove(position))
    }

    /// Binds the socket with this key, if it is not bound yet.
    pub(crate) async fn bind(&self, key: &str) {
        if let Some(socket) = self.take(key) {
            socket.bind().await;
        }
    }

    /// Binds the socket with this key in the background.
    pub(crate) fn bind_soon(&self, key: &str) {
        if let Some(socket) = self.take(key) {
            let (runtime, span) = (socket.runtime.clone(), socket.span.clone());
            spawn_on(&runtime, socket.bind().instrument(span));
        }
    }
}
