//! [`OlderMaster`]: what a worker does besides its tasks for a master whose links do not register functions or report
//! cancelled calls, or that does not use links.
//!
//! The worker registers its functions by the verb `offer`, and subscribes to the cancellations that the master
//! publishes, over a link of its own or at the PUB socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::WorkerTransport;
use crate::cache::ComponentStore;
use crate::discovery::{ControlVerb, Directory, Endpoint, descriptor};
use crate::failure::BoxError;
use crate::link::client::{LinkArrival, LinkClient, LinkSettings};
use crate::link::{CANCEL_TOPIC, SUBSCRIBER, Subscription};
use crate::message::proto::Descriptor;
use crate::part::BATCH;
use crate::parts::context::PartContext;
use crate::socket::{Publication, RequestError, SocketClosed, Subscribe};

/// The requests and subscriptions of a worker at an older master.
pub(super) struct OlderMaster<'a> {
    pub(super) directory: &'a Arc<Directory>,
    pub(super) opened: &'a PartContext,
    pub(super) store: &'a ComponentStore,
}

impl OlderMaster<'_> {
    /// Registers functions and receives cancellations, unless the worker's link does so. Returns only with an error.
    /// Cancel safe.
    pub(super) async fn serve(&self, transport: &WorkerTransport) -> Result<Infallible, BoxError> {
        let failed = match transport {
            WorkerTransport::Sockets(descriptor) => {
                let descriptor = match descriptor {
                    Some(descriptor) => descriptor,
                    None => &self.directory.descriptor().await,
                };
                tokio::try_join!(
                    self.register_after_each_connection(),
                    self.receive_cancellations(descriptor)
                )
            }
            WorkerTransport::Link(link) => {
                let session = link.older_session(0).await;
                tokio::try_join!(
                    self.register_in_each_session(link, session),
                    self.follow_over_link()
                )
            }
        };
        failed.map(|(never, _)| never)
    }

    async fn register_after_each_connection(&self) -> Result<Infallible, BoxError> {
        let peers = self.directory.request().peers();
        self.opened.state.streams.in_place().await;
        loop {
            peers.connected().await?;
            if self.register().await? {
                peers.disconnected().await?;
            }
        }
    }

    async fn register_in_each_session(
        &self,
        link: &LinkClient,
        mut session: u64,
    ) -> Result<Infallible, BoxError> {
        loop {
            if self.register().await? {
                session = link.older_session(session).await;
            }
        }
    }

    /// Sends the worker's descriptor. Returns whether the master has answered; a legacy master answers as well.
    async fn register(&self) -> Result<bool, BoxError> {
        const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

        let descriptor = self.store.get(descriptor::KEY).await?.unwrap_or_default();
        let body = ControlVerb::Offer.request("_", descriptor);
        let reply = self.directory.request().request(body, REQUEST_TIMEOUT);
        match reply.await {
            Ok(_) => Ok(true),
            Err(RequestError::Timeout { .. }) => Ok(false),
            // The component stops.
            Err(RequestError::Closed(SocketClosed)) => std::future::pending().await,
        }
    }

    async fn receive_cancellations(&self, master: &Descriptor) -> Result<Infallible, BoxError> {
        let is_offered = descriptor::offers_link(master, SUBSCRIBER);
        if is_offered && self.opened.state.links.options().enabled {
            return self.follow_over_link().await;
        }
        let endpoint = Endpoint::Discovered(self.directory.clone(), "pub_address");
        if !endpoint.exists().await {
            // A master that is composed by hand may publish nothing.
            return std::future::pending().await;
        }
        let address = endpoint.locate().await?;
        let mut subscribe = Subscribe::connect(&address, &self.opened.options).await?;
        subscribe.subscribe(CANCEL_TOPIC).await?;
        let _following = endpoint.follow(subscribe.peers(), address, |_| {});
        let mut publications = Vec::new();
        loop {
            subscribe.recv_many(&mut publications, BATCH).await?;
            for Publication { topic, body } in publications.drain(..) {
                if let (CANCEL_TOPIC, Some(list)) = (&*topic, body) {
                    self.opened.state.cancellations.cancel(&list);
                }
            }
        }
    }

    async fn follow_over_link(&self) -> Result<Infallible, BoxError> {
        let following = Subscription {
            topics: vec![String::from_utf8_lossy(CANCEL_TOPIC).into_owned()],
            client: String::new(),
        };
        let name = &self.opened.context.name;
        let introduction = LinkSettings::following(SUBSCRIBER, name, following);
        let address = self.directory.request().address();
        let options = self.opened.state.links.options().clone();
        let (link, mut arrivals) =
            LinkClient::new(address, &self.opened.options, introduction, options);
        let receive = async {
            let mut batch = Vec::new();
            loop {
                arrivals.recv_many(&mut batch, BATCH).await;
                for arrival in batch.drain(..) {
                    if let LinkArrival::Messages(received, list) = arrival {
                        self.opened.state.cancellations.cancel(list.frame());
                        link.consume(std::iter::once(received));
                    }
                }
            }
        };
        let _: Option<Infallible> = link.drive_with(receive).await?;
        // The socket is closed, since the component stops.
        std::future::pending().await
    }
}
