//! [`FaultProxy`]: a TCP proxy that injects faults.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::relay::relay;
use super::state::{FaultProxyStatus, ProxyState, TriggeredFault};
use crate::socket::{Address, AddressError};

/// A TCP proxy on 127.0.0.1 that injects faults between peers and one target address.
///
/// [`Faults::proxy`](super::Faults::proxy) makes it. Dropping it closes its connections.
///
/// | fault | effect on open connections | on new connections | ended by |
/// |---|---|---|---|
/// | [`cut`](Self::cut) | are closed | none | |
/// | [`hold`](Self::hold) | stay open, and no byte passes | wait | [`release`](Self::release) |
/// | [`delay`](Self::delay) | each chunk is delayed by a random time | likewise | [`no_delay`](Self::no_delay) |
/// | [`refuse`](Self::refuse) | are closed | are closed at once | [`accept`](Self::accept) |
///
/// [`heal`](Self::heal) ends all faults.
///
/// A proxy affects only traffic to its target. Peers read a component's other addresses from its cache service,
/// and connect to those directly; a proxy in front of a `db_address` carries links and cache requests.
///
/// The proxy counts ZeroMQ messages of plain ZMTP 3 connections: whole messages, whatever their number of frames,
/// but no commands such as PING. One message of a link can carry many tasks or results, or none if it is an
/// acknowledgement or a heartbeat. Bytes of other protocols pass uncounted.
///
/// Each connection buffers at most 1 MiB per direction and then stops reading, so that senders feel backpressure
/// as on a slow network. A proxy serves 1024 connections at once; further ones wait.
#[derive(Debug)]
pub struct FaultProxy {
    address: String,
    state: Arc<ProxyState>,
    _relay: AbortOnDropHandle<()>,
}

/// The error of [`Faults::proxy`](super::Faults::proxy) and [`FaultProxy::set_target`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultProxyError {
    /// The target is not an address.
    #[error("the target of a fault proxy is not an address")]
    Address(#[from] AddressError),
    /// The target is not a TCP address that can be connected to.
    #[error(
        "the target of a fault proxy is `{target}`, and has to be of the form `tcp://host:port`"
    )]
    #[non_exhaustive]
    Target {
        /// The target, as passed by the caller.
        target: String,
    },
    /// No port of this machine could be bound.
    #[error("cannot bind a port of 127.0.0.1 for a fault proxy in front of `{target}`")]
    #[non_exhaustive]
    Bind {
        /// The target, as passed by the caller.
        target: String,
        /// The cause.
        source: io::Error,
    },
}

/// Returns `host:port` of an address.
fn tcp_target(target: &str) -> Result<Arc<str>, FaultProxyError> {
    let address: Address = target.parse()?;
    let text = address.to_string();
    match text.strip_prefix("tcp://") {
        Some(target) if address.can_be_connected_to() => Ok(target.into()),
        _ => Err(FaultProxyError::Target {
            target: target.to_owned(),
        }),
    }
}

impl FaultProxy {
    pub(in crate::testing) async fn new(target: &str, rng: Rng) -> Result<Self, FaultProxyError> {
        let bind_error = |source| FaultProxyError::Bind {
            target: target.to_owned(),
            source,
        };
        let state = Arc::new(ProxyState::new(tcp_target(target)?));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let relay = tokio::spawn(relay(listener, state.clone(), rng));
        Ok(Self {
            address: format!("tcp://{address}"),
            state,
            _relay: AbortOnDropHandle::new(relay),
        })
    }

    /// Returns the address that peers connect to instead of the target.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connects new connections to `target`, such as a component that was restarted at another port.
    ///
    /// Open connections are not changed.
    ///
    /// # Errors
    ///
    /// [`FaultProxyError::Address`] and [`FaultProxyError::Target`] if `target` is not of the form
    /// `tcp://host:port`.
    pub fn set_target(&self, target: impl AsRef<str>) -> Result<(), FaultProxyError> {
        let target = tcp_target(target.as_ref())?;
        self.state.configure(|settings| settings.target = target);
        Ok(())
    }

    /// Closes all connections, and returns once they are closed.
    ///
    /// Peers may reconnect meanwhile. Bytes in the proxy are lost; bytes that have passed it arrive.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not keep the connections from being closed.
    pub async fn cut(&self) {
        self.cut_now().await;
    }

    /// Closes all connections, even if the returned future is not polled; the future waits for them.
    pub(super) fn cut_now(&self) -> impl Future<Output = ()> + use<> {
        let connections = self.state.cut();
        async move { connections.wait().await }
    }

    /// Closes all connections after the next `messages` messages, counted over both directions of all
    /// connections.
    ///
    /// No byte passes after the last of these messages. Replaces an earlier `cut_after` or `hold_after` that was not
    /// triggered yet. With 0, closes them at once.
    pub fn cut_after(&self, messages: u64) {
        self.state.arm(messages, TriggeredFault::Cut);
    }

    /// Stops all traffic: connections stay open, and no byte passes in either direction, nor does their end.
    ///
    /// Bytes that are being written still pass, at most 16 KiB per direction of a connection.
    pub fn hold(&self) {
        self.state.configure(|settings| settings.is_held = true);
    }

    /// Stops all traffic as [`hold`](Self::hold) does, after the next `messages` messages as counted by
    /// [`cut_after`](Self::cut_after).
    ///
    /// [`held`](Self::held) waits until that has happened.
    pub fn hold_after(&self, messages: u64) {
        self.state.arm(messages, TriggeredFault::Hold);
    }

    /// Waits until traffic is held. Returns at once if it is. Cancel safe.
    pub async fn held(&self) {
        self.until(|status| status.is_held).await;
    }

    /// Resumes traffic. Held bytes pass first and in order.
    pub fn release(&self) {
        self.state.release();
    }

    /// Delays each chunk of at most 16 KiB by a random time within `delay`, at most a day. Default: no delay.
    ///
    /// The order within one direction of a connection is kept; connections overtake each other. Chunks that the
    /// proxy has already read keep their delay.
    pub fn delay(&self, delay: RangeInclusive<Duration>) {
        self.state.configure(|settings| settings.delay = delay);
    }

    /// Ends the [`delay`](Self::delay).
    pub fn no_delay(&self) {
        self.delay(Duration::ZERO..=Duration::ZERO);
    }

    /// Closes all connections, and each new one as soon as it is accepted.
    pub fn refuse(&self) {
        self.state.configure(|settings| settings.is_refused = true);
        self.state.cut();
    }

    /// Serves new connections again. Peers connect at their next attempt.
    pub fn accept(&self) {
        self.state.configure(|settings| settings.is_refused = false);
    }

    /// Ends all faults: releases traffic, removes delays, accepts connections, and cancels `cut_after` and
    /// `hold_after`.
    pub fn heal(&self) {
        self.state.disarm();
        self.no_delay();
        self.accept();
        self.release();
    }

    /// Returns the traffic so far and the faults that are active.
    pub fn status(&self) -> FaultProxyStatus {
        *self.state.status.borrow()
    }

    /// Waits until `is_right` returns true for the proxy's status, and returns that status: until a number of
    /// messages has passed, or of connections was opened, for example. Cancel safe.
    pub async fn until(
        &self,
        mut is_right: impl FnMut(&FaultProxyStatus) -> bool,
    ) -> FaultProxyStatus {
        let mut status = self.state.status.subscribe();
        let status = status.wait_for(|status| is_right(status)).await;
        *status.expect("the state lives as long as the proxy")
    }

    /// Waits until `messages` messages have passed since the proxy was made, in both directions together.
    ///
    /// More may have passed when it returns; [`hold_after`](Self::hold_after) is exact. Cancel safe.
    pub async fn passed(&self, messages: u64) {
        self.until(|status| status.messages() >= messages).await;
    }
}
