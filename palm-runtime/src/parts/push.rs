//! PUSH parts: send each message to one of the connected peers in turn.

use bytes::Bytes;

use super::context::PartContext;
use crate::discovery::{Endpoint, IntoAddress, ParsedAddress};
use crate::metrics::PartCounters;
use crate::part::{BATCH, Binding, Inlet, OpenError, Outbound, Outlet, Running, Setup};
use crate::socket::{Push, SocketClosed};

/// An outbound part that binds a PUSH socket, and sends each message to one of its peers in turn. Announced as
/// `push_address`.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Push");
/// server.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let server = server.spawn().await?;
/// println!("pull from {}", server.address("push_address").unwrap_or_default());
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PushService {
    address: ParsedAddress,
}

impl PushService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
        }
    }
}

impl Outbound for PushService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::new("push_address", &self.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let address = setup.bind_address("push_address", &self.address)?;
        let (push, bound) = Push::bind(&address, setup.options).await?;
        setup.announce("push_address", &bound);
        let counters = setup.counters();
        Ok(Running::outbound(|mut inlet, _| async move {
            push_all(&mut inlet, &push, &counters).await?;
            push.close(inlet.linger()).await;
            Ok(())
        }))
    }
}

/// An outbound part that sends each message to the peer that it connects to, such as results to a legacy master.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut last = ServerTemplate::new("last");
/// last.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// last.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// let last = last.spawn().await?;
///
/// let pulls = last.address("pull_address").expect("the part announces it");
/// let mut first = ServerTemplate::new("first");
/// first.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Push");
/// first.register_outbound(PushConnection::connect(pulls), "Push");
/// let first = first.spawn().await?;
/// first.shutdown().await?;
/// last.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PushConnection {
    endpoint: Endpoint,
}

impl PushConnection {
    /// Connects to `address`.
    pub fn connect(address: impl IntoAddress) -> Self {
        Self::to(Endpoint::Static(address.into_address()))
    }

    pub(crate) fn to(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Outbound for PushConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        Ok(Running::outbound(|mut inlet, _| async move {
            let stop = inlet.stop.clone();
            let address = tokio::select! {
                // No task is received before the address is known, so no result is lost.
                () = stop.stopped() => return Ok(()),
                address = self.endpoint.locate() => address?,
            };
            let push = Push::connect(&address, &opened.options).await?;
            tracing::info!("pushing to {address}");
            let _following = self.endpoint.follow(push.peers(), address, |_| {});
            push_all(&mut inlet, &push, &opened.counters).await?;
            push.close(inlet.linger()).await;
            Ok(())
        }))
    }
}

/// Pushes messages until the inlet is closed and empty.
async fn push_all(
    inlet: &mut Inlet,
    push: &Push,
    counters: &PartCounters,
) -> Result<(), SocketClosed> {
    let mut batch = Vec::new();
    while inlet.recv_many(&mut batch, BATCH).await > 0 {
        for envelope in batch.drain(..) {
            let frame = envelope.answer(Bytes::new()).into_frame();
            counters.count(1, frame.len());
            push.send(frame).await?;
        }
    }
    Ok(())
}
