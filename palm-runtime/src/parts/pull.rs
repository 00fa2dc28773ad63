//! PULL parts: receive messages from peers that do not wait for an answer.

use super::context::PartContext;
use super::link_source::{CallSource, LinkPeers, PullAndLinks};
use super::receive_loop::{MessageIds, ReceiveLoop};
use crate::component_state::{FollowedStreams, StreamId};
use crate::discovery::{Endpoint, IntoAddress};
use crate::failure::BoxError;
use crate::part::{
    AnyInboundHooks, Binding, Inbound, LegacyAddress, OpenError, Outlet, Running, Setup,
};
use crate::report::Role;
use crate::socket::{Pull, SocketClosed};

/// An inbound part that binds a PULL socket and receives messages of clients. Announced as `pull_address`.
///
/// In a component with a [`PubService`](crate::parts::PubService) and a
/// [`CacheService`](crate::parts::CacheService), palm clients call over links instead.
///
/// A message with an empty `cache` field is assigned an id.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// let server = server.spawn().await?;
/// println!("push to {}", server.address("pull_address").unwrap_or_default());
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PullService {
    address: LegacyAddress,
}

impl PullService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::at(LegacyAddress::configured(address.into_address()))
    }

    pub(crate) fn at(address: LegacyAddress) -> Self {
        Self { address }
    }
}

impl Inbound for PullService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn runs_hooks(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy("pull_address", &self.address.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let pull = setup
            .legacy_socket("pull_address", &self.address, Pull::idle, Pull::peers)
            .await?;
        if let Some(pull) = &pull {
            // The first of several such parts counts.
            let _ = setup.state.callers.set(pull.peers());
        }
        let linked = setup.state.links.take_calls();
        let state = setup.state.clone();
        let mut calls = CallSource(PullAndLinks::new(pull, linked, LinkPeers::Clients, state));
        let opened = PartContext::new(setup);
        let hooks = setup.take_hooks();
        Ok(Running::inbound(|outlet| async move {
            let receive_loop = ReceiveLoop::new(opened, hooks, MessageIds::Assigned, outlet);
            receive_loop.run(&mut calls).await?;
            calls.0.close().await;
            Ok(())
        }))
    }
}

/// An inbound part that receives messages from the peer that it connects to, such as tasks of a legacy master.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut first = ServerTemplate::new("first");
/// first.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Push");
/// first.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let first = first.spawn().await?;
///
/// // Its messages are shared among all peers that pull.
/// let pushes = first.address("push_address").expect("the part announces it");
/// let mut second = ServerTemplate::new("second");
/// second.register_inbound(PullConnection::connect(pushes), "Pull").route("Pub");
/// second.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// let second = second.spawn().await?;
/// first.shutdown().await?;
/// second.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PullConnection {
    endpoint: Endpoint,
    ids: MessageIds,
    /// The stream of tasks, for a worker, whose upstream component is the master.
    stream: Option<StreamId>,
}

impl PullConnection {
    /// Connects to `address`. A message with an empty `cache` field is assigned an id.
    pub fn connect(address: impl IntoAddress) -> Self {
        Self {
            endpoint: Endpoint::Static(address.into_address()),
            ids: MessageIds::Assigned,
            stream: None,
        }
    }

    pub(crate) fn to_master(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            ids: MessageIds::Unchanged,
            stream: None,
        }
    }

    /// Adds the master to the streams that the component expects. Its tasks may also arrive by other means.
    pub(super) fn expect_tasks(&mut self, streams: &FollowedStreams) -> StreamId {
        let stream = streams.expect(Role::Master, &self.endpoint);
        self.stream = Some(stream);
        stream
    }
}

impl Inbound for PullConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    fn runs_hooks(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let opened = PartContext::connecting(setup, &self.endpoint)?;
        let hooks = setup.take_hooks();
        Ok(Running::inbound(|outlet| {
            self.receive_all(opened, hooks, outlet)
        }))
    }
}

impl PullConnection {
    async fn receive_all(
        self,
        opened: PartContext,
        hooks: AnyInboundHooks,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let address = tokio::select! {
            () = outlet.stopped() => return Ok(()),
            address = self.endpoint.locate() => address?,
        };
        let mut pull = Pull::connect(&address, &opened.options).await?;
        tracing::info!("pulling from {address}");
        let peers = pull.peers();
        let _following = self.endpoint.follow(peers.clone(), address, |_| {});
        let state = opened.state.clone();
        let receive_loop = ReceiveLoop::new(opened, hooks, self.ids, outlet);
        let connected = async {
            if let Some(stream) = self.stream {
                peers.connected().await?;
                state.streams.is_in_place(stream);
            }
            std::future::pending::<Result<(), SocketClosed>>().await
        };
        tokio::select! {
            ended = receive_loop.run(&mut pull) => ended?,
            failed = connected => failed?,
        }
        pull.close().await;
        Ok(())
    }
}
