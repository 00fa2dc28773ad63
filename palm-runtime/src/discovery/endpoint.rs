//! The address that a connection connects to: static, or discovered at the component upstream.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::Directory;
use crate::socket::{Address, AddressError, Peers};
use crate::spawn::spawn;

/// A value that can be used as an address: text or an [`Address`].
pub trait IntoAddress {
    /// Converts the value into an address.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if the text is not an address.
    fn into_address(self) -> Result<Address, AddressError>;
}

impl IntoAddress for Address {
    fn into_address(self) -> Result<Address, AddressError> {
        Ok(self)
    }
}

impl IntoAddress for &Address {
    fn into_address(self) -> Result<Address, AddressError> {
        Ok(self.clone())
    }
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

/// An address as set by the user. A parse error is reported when the component starts.
pub(crate) type ParsedAddress = Result<Address, AddressError>;

/// The address that a connection connects to.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// An address that the user has set.
    Static(ParsedAddress),
    /// An address that is discovered at the component with this directory, under this key.
    Discovered(Arc<Directory>, &'static str),
}

impl Endpoint {
    /// Checks the address, if it is static.
    pub(crate) fn check(&self) -> Result<(), AddressError> {
        match self {
            Self::Static(address) => address.clone().map(drop),
            Self::Discovered(..) => Ok(()),
        }
    }

    /// Returns the address as the user knows it: that of the component where it is discovered, or a static one.
    pub(crate) fn upstream_address(&self) -> String {
        match self {
            Self::Static(address) => address
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            Self::Discovered(directory, _) => directory.request().address().to_string(),
        }
    }

    /// Returns why the address is not known yet, if the cause is known.
    pub(crate) fn wait_cause(&self) -> Option<Arc<str>> {
        match self {
            Self::Static(_) => None,
            Self::Discovered(directory, _) => directory.wait_cause(),
        }
    }

    /// Waits until the address is known, and returns it. Cancel safe.
    pub(crate) async fn locate(&self) -> Result<Address, AddressError> {
        match self {
            Self::Static(address) => address.clone(),
            Self::Discovered(directory, key) => {
                let request = || directory.request_address(key);
                Ok(directory.poll_until_answered(key, request).await)
            }
        }
    }

    /// Waits until the component answers, and returns whether it has such an address. Cancel safe.
    pub(crate) async fn exists(&self) -> bool {
        match self {
            Self::Static(_) => true,
            Self::Discovered(directory, key) => directory.has_key(key).await,
        }
    }

    /// Keeps a socket connected to a component that may be restarted at another port, until the handle is dropped.
    ///
    /// Calls `moved` with each new address. Returns `None` for a static address.
    pub(crate) fn follow(
        &self,
        peers: Peers,
        current: Address,
        moved: impl Fn(&Address) + Send + 'static,
    ) -> Option<AbortOnDropHandle<()>> {
        let Self::Discovered(directory, key) = self else {
            // The socket reconnects to a static address by itself.
            return None;
        };
        let moved = Box::new(moved);
        let follow = reconnect(directory.clone(), key, peers, current, moved);
        let follow = follow.in_current_span();
        Some(AbortOnDropHandle::new(spawn(follow)))
    }
}

async fn reconnect(
    directory: Arc<Directory>,
    key: &str,
    peers: Peers,
    mut current: Address,
    moved: Box<dyn Fn(&Address) + Send>,
) {
    const POLL_INTERVAL: Duration = Duration::from_millis(500);
    loop {
        match tokio::time::timeout(POLL_INTERVAL, peers.connected()).await {
            Ok(Ok(())) => {
                if peers.disconnected().await.is_err() {
                    return;
                }
                continue;
            }
            // The socket was closed.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let Some(found) = directory.request_address(key).await else {
            continue;
        };
        if found != current {
            tracing::info!(from = %current, to = %found, "reconnecting: {key} has changed");
            if let Err(error) = peers.move_to(&current, &found) {
                tracing::warn!(%error, "cannot connect to the new {key}");
                return;
            }
            moved(&found);
            current = found;
        }
    }
}
