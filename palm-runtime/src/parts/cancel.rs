//! [`CancelConnection`]: receives the cancellations that a worker's master publishes.

use std::sync::Arc;

use super::context::PartContext;
use crate::discovery::{Directory, Endpoint};
use crate::failure::BoxError;
use crate::link::client::{LinkArrival, LinkClient, LinkSettings};
use crate::link::{CANCEL_TOPIC, SUBSCRIBER, Subscription};
use crate::part::{BATCH, Bypass, OpenError, Setup, Stop};
use crate::socket::{Publication, Subscribe};

/// The bypass of a worker that subscribes to the cancellations of its master, over a link or at the PUB socket.
#[derive(Debug)]
pub(crate) struct CancelConnection {
    endpoint: Endpoint,
    opened: Option<PartContext>,
}

impl CancelConnection {
    /// Returns the part; `endpoint` is where the master publishes.
    pub(crate) fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            opened: None,
        }
    }
}

impl CancelConnection {
    /// Waits until the master answers, and returns it if it publishes over links. Cancel safe.
    async fn linked(&self, opened: &PartContext) -> Option<Arc<Directory>> {
        let Endpoint::Discovered(directory, _) = &self.endpoint else {
            return None;
        };
        if !opened.state.links.options().enabled {
            return None;
        }
        let offered = directory.descriptor().await.links;
        let is_offered = offered.iter().any(|role| role == SUBSCRIBER);
        is_offered.then(|| directory.clone())
    }

    /// Receives cancellations over a link. Returns only with an error.
    async fn follow_over_link(
        &self,
        directory: &Directory,
        opened: &PartContext,
    ) -> Result<(), BoxError> {
        let following = Subscription {
            topics: vec![String::from_utf8_lossy(CANCEL_TOPIC).into_owned()],
            client: String::new(),
        };
        let name = &opened.context.name;
        let introduction = LinkSettings::following(SUBSCRIBER, name, following);
        let address = directory.request().address();
        let options = opened.state.links.options().clone();
        let (link, mut arrivals) = LinkClient::new(address, &opened.options, introduction, options);
        let take = async {
            let mut batch = Vec::new();
            while arrivals.recv_many(&mut batch, BATCH).await > 0 {
                for arrival in batch.drain(..) {
                    if let LinkArrival::Messages(received, list) = arrival {
                        opened.state.cancellations.cancel(list.frame());
                        link.consume(std::iter::once(received));
                    }
                }
            }
        };
        tokio::select! {
            ended = link.drive() => ended?,
            () = take => {}
        }
        Ok(())
    }
}

impl Bypass for CancelConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        self.opened = Some(PartContext::connecting(setup, &self.endpoint)?);
        Ok(())
    }

    async fn run(mut self, stop: Stop) -> Result<(), BoxError> {
        let opened = self.opened.take();
        let opened = opened.expect("a part is opened before it runs");
        let locate = async {
            if let Some(directory) = self.linked(&opened).await {
                self.follow_over_link(&directory, &opened).await?;
            }
            if !self.endpoint.exists().await {
                // A master that is composed by hand may publish nothing.
                return std::future::pending().await;
            }
            Ok::<_, BoxError>(self.endpoint.locate().await?)
        };
        let address = tokio::select! {
            () = stop.stopped() => return Ok(()),
            address = locate => address?,
        };
        let mut subscribe = Subscribe::connect(&address, &opened.options).await?;
        subscribe.subscribe(CANCEL_TOPIC).await?;
        let _following = self.endpoint.follow(subscribe.peers(), address, |_| {});
        let take = async {
            let mut publications = Vec::new();
            loop {
                if let Err(closed) = subscribe.recv_many(&mut publications, BATCH).await {
                    return closed;
                }
                for Publication { topic, body } in publications.drain(..) {
                    if let (CANCEL_TOPIC, Some(list)) = (&*topic, body) {
                        opened.state.cancellations.cancel(&list);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            closed = take => return Err(closed.into()),
        }
        subscribe.close().await;
        Ok(())
    }
}
