//! The cache service: a component's keys, for its peers.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::whereabouts::{Given, IntoAddress};
use crate::cache::ComponentStore;
use crate::cache::service::{self, ServiceError};
use crate::callable::catch_panic;
use crate::error::{BoxError, chain};
use crate::metrics::PartCounters;
use crate::part::{Bypass, OpenError, Setup, Shared, Stop};
use crate::socket::{Reply, SocketError};

/// Requests that are carried out at once; further ones wait in the socket.
const CONCURRENCY: usize = 256;

/// Answers requests for the component's keys: its configuration, and whatever was set. Announced as
/// `db_address`.
///
/// ```
/// use palm_runtime::parts::*;
/// use palm_runtime::{Client, ServerTemplate};
///
/// # #[tokio::main]
/// # async fn main() -> palm_runtime::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// server.preset_cache("motto", "nothing is lost");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// let client = Client::connect("server", server.db_address()).await?;
/// assert_eq!(client.get("motto").await?.as_deref(), Some(&b"nothing is lost"[..]));
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CacheService {
    address: Given,
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    reply: Reply,
    store: Arc<ComponentStore>,
    shared: Arc<Shared>,
    counters: Arc<PartCounters>,
}

impl CacheService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
            opened: None,
        }
    }
}

impl Bypass for CacheService {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let address = self.address.clone().map_err(SocketError::from)?;
        let (reply, bound) = Reply::bind(&address, setup.options).await?;
        setup.announce("db_address", &bound);
        self.opened = Some(Opened {
            reply,
            store: setup.store.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        });
        Ok(())
    }

    async fn run(self, stop: Stop) -> Result<(), BoxError> {
        let Opened {
            mut reply,
            store,
            shared,
            counters,
        } = self.opened.expect("a part is opened before it runs");
        let mut running = FuturesUnordered::new();
        loop {
            let (frames, responder) = tokio::select! {
                biased;
                () = stop.stopped() => break,
                Some(()) = running.next() => continue,
                request = reply.recv(), if running.len() < CONCURRENCY => request?,
            };
            let (store, counters) = (&*store, &*counters);
            let shared = &*shared;
            running.push(async move {
                counters.count(1, frames.iter().map(bytes::Bytes::len).sum());
                let handled = service::handle(store, shared, &frames);
                let handled = catch_panic(handled, |panic| Err(ServiceError::Panicked(panic)));
                let answer = handled.await.unwrap_or_else(|error| {
                    counters.count_error();
                    let cause = chain(&error);
                    tracing::warn!("a cache request was not carried out: {cause}");
                    bytes::Bytes::new()
                });
                if responder.reply(answer).is_err() {
                    counters.count_dropped(1);
                    tracing::warn!("a peer reads none of the replies of the cache; one is lost");
                }
            });
        }
        while running.next().await.is_some() {}
        reply.close(stop.linger()).await;
        Ok(())
    }
}
