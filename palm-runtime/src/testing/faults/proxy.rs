//! [`FaultProxy`]: a TCP proxy that fails when it is told to.

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

/// A TCP proxy on 127.0.0.1 in front of an address, which fails when it is told to. It is made by
/// [`Faults::proxy`](super::Faults::proxy); dropping it ends its connections.
///
/// | order | effect on connections | on new ones | undone by |
/// |---|---|---|---|
/// | [`cut`](Self::cut) | they end | none | |
/// | [`hold`](Self::hold) | they stay, and nothing passes | they wait | [`release`](Self::release) |
/// | [`delay`](Self::delay) | each chunk is late by a random time | likewise | [`no_delay`](Self::no_delay) |
/// | [`refuse`](Self::refuse) | they end | they are closed at once | [`accept`](Self::accept) |
///
/// [`heal`](Self::heal) undoes all of them.
///
/// A line covers what is sent to the address that it stands in front of. Peers learn a component's other
/// addresses from its cache service, and connect to those directly: in front of a `db_address`, a line
/// has what goes over links, and requests of the cache.
///
/// What is counted are ZeroMQ messages of plain ZMTP 3 connections: whole ones, however many frames they
/// have, and no commands such as PING. Over a link one message may bring many tasks or results, or none,
/// as an acknowledgement or heartbeat does. Other bytes pass without being counted.
///
/// Each connection holds up to 1 MiB in each direction, and reads nothing more while that waits, so that
/// senders are held up as by any slow network. A line has 1024 connections at once; further ones wait.
#[derive(Debug)]
pub struct FaultProxy {
    address: String,
    state: Arc<ProxyState>,
    _relay: AbortOnDropHandle<()>,
}

/// Why there is no [`FaultProxy`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultProxyError {
    /// The target is no address.
    #[error("a line has to lead to an address")]
    Address(#[from] AddressError),
    /// The target is nothing that TCP leads to.
    #[error("a line leads to `tcp://host:port`, not to `{target}`")]
    Target {
        /// As it was given.
        target: String,
    },
    /// No port of this machine could be bound.
    #[error("no port of 127.0.0.1 for a line to `{target}`")]
    Bind {
        /// As it was given.
        target: String,
        /// The cause.
        source: io::Error,
    },
}

/// `host:port` of an address.
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

    /// Where peers connect to, in the place of the target.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Leads new connections to `target`, e.g. a component that was restarted at another port. Those
    /// that there are stay.
    ///
    /// # Errors
    ///
    /// [`FaultProxyError::Address`] and [`FaultProxyError::Target`] when `target` is no `tcp://host:port`.
    pub fn set_target(&self, target: impl AsRef<str>) -> Result<(), FaultProxyError> {
        let target = tcp_target(target.as_ref())?;
        self.state.configure(|settings| settings.target = target);
        Ok(())
    }

    /// Ends all connections, and returns when they have ended; peers may connect anew meanwhile. What
    /// waits in the line is lost; what has passed arrives.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: they end all the same.
    pub async fn cut(&self) {
        self.order_cut().await;
    }

    /// [`cut`](Self::cut) at once; the future is for who wants to wait.
    pub(super) fn order_cut(&self) -> impl Future<Output = ()> + use<> {
        let connections = self.state.cut();
        async move { connections.wait().await }
    }

    /// Ends all connections behind the message number `messages` from now on, counted over both
    /// directions of all connections. Nothing passes behind that message. Where a `..._after` waits
    /// already, this takes its place; 0 is now.
    pub fn cut_after(&self, messages: u64) {
        self.state.arm(messages, TriggeredFault::Cut);
    }

    /// Holds everything: connections stay, and nothing passes in either direction, not even their end. What
    /// is just being written, 16 KiB at most for each direction of a connection, still passes.
    pub fn hold(&self) {
        self.state.configure(|settings| settings.is_held = true);
    }

    /// [`hold`](Self::hold) behind the message number `messages` from now on, as
    /// [`cut_after`](Self::cut_after) counts. [`held`](Self::held) tells when.
    pub fn hold_after(&self, messages: u64) {
        self.state.arm(messages, TriggeredFault::Hold);
    }

    /// Waits until the line is held. Returns at once when it is. Cancel safe.
    pub async fn held(&self) {
        self.until(|status| status.is_held).await;
    }

    /// Lets everything pass again, in order, what has waited first.
    pub fn release(&self) {
        self.state.release();
    }

    /// Delays each chunk, 16 KiB at most, by a random time within `delay`, a day at most. Connections
    /// overtake each other; within one and the same direction of a connection the order stays. Default: no
    /// delay. What is on its way already is as late as it was.
    pub fn delay(&self, delay: RangeInclusive<Duration>) {
        self.state.configure(|settings| settings.delay = delay);
    }

    /// Ends the [`delay`](Self::delay).
    pub fn no_delay(&self) {
        self.delay(Duration::ZERO..=Duration::ZERO);
    }

    /// Lets nobody through: ends all connections, and each new one as soon as it is made.
    pub fn refuse(&self) {
        self.state.configure(|settings| settings.is_refused = true);
        self.state.cut();
    }

    /// Lets peers through again; they connect when they try the next time.
    pub fn accept(&self) {
        self.state.configure(|settings| settings.is_refused = false);
    }

    /// Makes the line whole: nothing is held, delayed or refused any more, and no `..._after` waits.
    pub fn heal(&self) {
        self.state.disarm();
        self.no_delay();
        self.accept();
        self.release();
    }

    /// What has passed until now, and how the line is.
    pub fn status(&self) -> FaultProxyStatus {
        *self.state.status.borrow()
    }

    /// Waits until the line's status is as it should be, and returns it: for so many messages that have
    /// passed, connections that were opened, or cuts. Cancel safe.
    pub async fn until(
        &self,
        mut is_right: impl FnMut(&FaultProxyStatus) -> bool,
    ) -> FaultProxyStatus {
        let mut status = self.state.status.subscribe();
        let status = status.wait_for(|status| is_right(status)).await;
        *status.expect("the state lives as long as the line")
    }

    /// Waits until so many messages have passed since the line was made, in both directions together. By
    /// the time it returns there may be more; [`hold_after`](Self::hold_after) is exact. Cancel safe.
    pub async fn passed(&self, messages: u64) {
        self.until(|status| status.messages() >= messages).await;
    }
}
