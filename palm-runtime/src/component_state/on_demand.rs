//! Sockets for legacy peers that are bound when one first asks for their address.
//!
//! Peers that speak links need the `db_address` and nothing else. A socket whose address was not given has a port
//! that the system picks, so a legacy peer has to ask for it under its key at the cache service. Until then the port
//! is reserved, and nothing listens there. A path does not change with a restart, and peers come back to it without
//! asking: so sockets with `ipc://` addresses, like those with an address that was given, are bound when the
//! component starts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tracing::Instrument;

use crate::failure::chain;
use crate::socket::{Peers, ReservedPort, SocketOptions};

/// The sockets of a component that are not bound yet.
#[derive(Debug, Default)]
pub(crate) struct OnDemand(Mutex<Vec<OnDemandSocket>>);

#[derive(Debug)]
pub(crate) struct OnDemandSocket {
    /// Under which peers ask for the address.
    pub(crate) key: &'static str,
    pub(crate) port: ReservedPort,
    pub(crate) socket: Peers,
    pub(crate) options: SocketOptions,
    /// The component's.
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
    fn lock(&self) -> MutexGuard<'_, Vec<OnDemandSocket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, socket: OnDemandSocket) {
        self.lock().push(socket);
    }

    /// Whether the socket whose address is under `key` is not bound yet.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.lock().iter().any(|socket| socket.key == key)
    }

    fn take(&self, key: &str) -> Option<OnDemandSocket> {
        let mut sockets = self.lock();
        let position = sockets.iter().position(|socket| socket.key == key)?;
        Some(sockets.swap_remove(position))
    }

    /// Binds the socket whose address is under `key`, if it is not bound yet.
    pub(crate) async fn bind(&self, key: &str) {
        if let Some(socket) = self.take(key) {
            socket.bind().await;
        }
    }

    /// Binds that socket in the background.
    pub(crate) fn bind_soon(&self, key: &str) {
        if let Some(socket) = self.take(key) {
            let (runtime, span) = (socket.runtime.clone(), socket.span.clone());
            runtime.spawn(socket.bind().instrument(span));
        }
    }
}
