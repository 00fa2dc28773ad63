//! The directory of a component: its descriptor and addresses, as its cache service reports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::descriptor;
use crate::cache::service::{self, Verb};
use crate::link::{CLIENT, WORKER};
use crate::message::proto::Descriptor;
use crate::socket::{Address, Request, SocketError, SocketOptions};
use crate::wait_cause::{Connecting, WaitCause};

/// The cache service of a component, as the place where its addresses are found.
#[derive(Debug)]
pub(crate) struct Directory {
    request: Request,
    client: String,
    connecting: Connecting,
    /// Why the component that answers is not the right one.
    unfit: WaitCause,
    /// Whether the component has answered the last question.
    has_answered: AtomicBool,
}

impl Directory {
    pub(crate) async fn connect(
        db_address: &Address,
        client: &str,
        options: &SocketOptions,
    ) -> Result<Arc<Self>, SocketError> {
        Ok(Arc::new(Self {
            request: Request::connect(db_address, options).await?,
            client: client.to_owned(),
            connecting: Connecting::new(db_address),
            unfit: WaitCause::default(),
            has_answered: AtomicBool::new(false),
        }))
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Asks once for `key`; what is told may be empty. `None`: no answer.
    async fn ask_bytes(&self, key: &str) -> Option<Bytes> {
        const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
        let body = service::request("_", &self.client, Verb::Get, key, Bytes::new());
        let answer = self.request.request(body, REQUEST_TIMEOUT).await.ok();
        self.has_answered.store(answer.is_some(), Ordering::Relaxed);
        answer
    }

    /// Why a question waits for its answer, if that is known.
    pub(crate) fn wait_cause(&self) -> Option<Arc<str>> {
        self.unfit.get().or_else(|| self.connecting.cause())
    }

    /// Waits until the component serves peers of this role: over links, which is `true`, or over the legacy socket
    /// whose address is under `key`. Reports a component that does not, and asks again, since another one may take
    /// its place. Cancel safe.
    pub(crate) async fn offers(&self, role: &'static str, key: &'static str) -> bool {
        const INTERVAL: Duration = Duration::from_secs(1);
        loop {
            let descriptor = self.descriptor().await;
            let is_linked = descriptor.links.iter().any(|offered| offered == role);
            // A legacy component may not have set all of its keys yet.
            if is_linked || descriptor.version.is_empty() || self.has(key).await {
                self.unfit.clear();
                return is_linked;
            }
            let unfit = unfit(role, &descriptor, self.request.address());
            if self.unfit.set(&unfit) {
                tracing::warn!("waiting: {unfit}");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Asks once for `key`; what is told may be empty. `None`: no answer, or none that is text.
    async fn ask_for(&self, key: &str) -> Option<String> {
        String::from_utf8(self.ask_bytes(key).await?.into()).ok()
    }

    /// What the component tells of itself, once it answers at all; nothing, if it is of old. Cancel safe.
    pub(crate) async fn descriptor(&self) -> Descriptor {
        let key = descriptor::KEY;
        let told = self.until_told(key, || self.ask_bytes(key)).await;
        Descriptor::decode(told).unwrap_or_default()
    }

    /// Asks once for `key`. `None`: no answer, or an empty one, or none that is text.
    pub(crate) async fn ask(&self, key: &str) -> Option<String> {
        self.ask_for(key).await.filter(|text| !text.is_empty())
    }

    /// Whether there is such a key, once the component answers at all: it sets all of its keys before
    /// it answers the first. Cancel safe.
    pub(crate) async fn has(&self, key: &str) -> bool {
        let told = self.until_told(key, || self.ask_for(key)).await;
        !told.is_empty()
    }

    pub(super) async fn ask_address(&self, key: &str) -> Option<Address> {
        let address: Address = self.ask(key).await?.parse().ok()?;
        Some(address.as_published_by(self.request.address()))
    }

    /// The value of `key`, as soon as it is told. Cancel safe.
    pub(crate) async fn tell(&self, key: &str) -> String {
        self.until_told(key, || self.ask(key)).await
    }

    pub(super) async fn until_told<T, F: Future<Output = Option<T>>>(
        &self,
        key: &str,
        ask: impl Fn() -> F,
    ) -> T {
        let told = async {
            loop {
                if let Some(told) = ask().await {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let unanswered = || match self.has_answered.load(Ordering::Relaxed) {
            true => format!("the component there has no `{key}`"),
            false => {
                "it is connected, but does not answer: it is stopped or busy, or no palm component"
                    .to_owned()
            }
        };
        self.connecting.wait_for(told, unanswered).await
    }
}

/// Why a component does not serve a peer of this role.
pub(crate) fn unfit(role: &str, descriptor: &Descriptor, address: &Address) -> String {
    let needed = match role {
        WORKER => "and workers connect to a master or hub: give the `db_address` of one of these",
        CLIENT => "and clients call a server or master: give the `db_address` of one of these",
        _ => "and publishes nothing to follow: give the `db_address` of the component upstream",
    };
    format!("{}, {needed}", named(descriptor, address))
}

/// A component by its name, address and kind.
pub(crate) fn named(descriptor: &Descriptor, address: &Address) -> String {
    let kind = match &*descriptor.kind {
        "" => "component".to_owned(),
        kind => kind.replace('_', " "),
    };
    format!("`{}` at {address} is a {kind}", descriptor.name)
}
