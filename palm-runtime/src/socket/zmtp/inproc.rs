//! `inproc://` addresses: connections within the process, over memory.
//!
//! They carry the same bytes as others, so they have the same limits.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::LazyLock;

use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};

use super::super::Address;

/// Bytes that a connection holds in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted. Others wait to be made.
const BACKLOG: usize = 1024;

/// The listeners of the process, by name.
static LISTENERS: LazyLock<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>> =
    LazyLock::new(Mutex::default);

/// Notified when a name is bound.
static BOUND: Notify = Notify::const_new();

/// The listener at a name. It is free again once this is dropped.
pub(super) struct InprocListener {
    name: String,
    streams: mpsc::Receiver<DuplexStream>,
}

impl Drop for InprocListener {
    fn drop(&mut self) {
        LISTENERS.lock().remove(&self.name);
    }
}

impl InprocListener {
    /// Binds a name, or an unused one in place of `*`, and returns the address.
    pub(super) fn bind(address: &Address) -> io::Result<(Self, Address)> {
        let address = address.with_unused_name();
        let name = address.inproc_name().ok_or(io::ErrorKind::Unsupported)?;
        let (sender, streams) = mpsc::channel(BACKLOG);
        let mut listeners = LISTENERS.lock();
        if listeners.contains_key(name) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        listeners.insert(name.to_owned(), sender);
        drop(listeners);
        BOUND.notify_waiters();
        let name = name.to_owned();
        Ok((Self { name, streams }, address))
    }

    /// Cancel safe.
    pub(super) async fn accept(&mut self) -> io::Result<DuplexStream> {
        // The sender is in the table.
        self.streams
            .recv()
            .await
            .ok_or(io::ErrorKind::NotConnected.into())
    }
}

fn listener(name: &str) -> Option<mpsc::Sender<DuplexStream>> {
    LISTENERS.lock().get(name).cloned()
}

/// Connects to a name once it is bound. Cancel safe.
pub(super) async fn connect(name: &str) -> io::Result<DuplexStream> {
    loop {
        let mut bound = pin!(BOUND.notified());
        // No notification is missed from here on.
        bound.as_mut().enable();
        let Some(listener) = listener(name) else {
            bound.await;
            continue;
        };
        let (here, there) = tokio::io::duplex(BUFFER_BYTES);
        let sent = listener.send(there).await;
        sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        return Ok(here);
    }
}
