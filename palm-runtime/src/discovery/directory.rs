//! The directory of another component: its descriptor and addresses, as its cache service reports them.
//!
//! [`Directory`] is a REQ connection to a `db_address`. Every question is repeated until the component answers, so that
//! components can be started in any order; [`Directory::wait_cause`] says why an answer is still missing.

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

/// A connection to the cache service of a component, where its descriptor and addresses are discovered.
#[derive(Debug)]
pub(crate) struct Directory {
    request: Request,
    client: String,
    connecting: Connecting,
    /// Why the component that answers cannot serve this peer.
    unfit: WaitCause,
    /// Whether the component has answered the last request.
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

    /// Requests the value of `key` once. The value may be empty; `None` without an answer.
    async fn request_bytes(&self, key: &str) -> Option<Bytes> {
        const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
        let body = service::request("_", &self.client, Verb::Get, key, Bytes::new());
        let answer = self.request.request(body, REQUEST_TIMEOUT).await.ok();
        self.has_answered.store(answer.is_some(), Ordering::Relaxed);
        answer
    }

    /// Returns why an answer is missing, if the cause is known.
    pub(crate) fn wait_cause(&self) -> Option<Arc<str>> {
        self.unfit.get().or_else(|| self.connecting.cause())
    }

    /// Waits until the component serves peers of this role.
    ///
    /// Returns its descriptor, which lists the role if it serves such peers over links; otherwise it serves them at the
    /// legacy socket whose address is under `key`. Logs a component that does neither, and repeats the request, since it may be replaced. Cancel safe.
    pub(crate) async fn serves_role(&self, role: &'static str, key: &'static str) -> Descriptor {
        const RETRY_INTERVAL: Duration = Duration::from_secs(1);
        loop {
            let descriptor = self.descriptor().await;
            let is_linked = descriptor::offers_link(&descriptor, role);
            // A legacy component may not have set all of its keys yet.
            if is_linked || descriptor.version.is_empty() || self.has_key(key).await {
                self.unfit.clear();
                return descriptor;
            }
            let unfit = unfit(role, &descriptor, self.request.address());
            if self.unfit.set(&unfit) {
                tracing::warn!("waiting: {unfit}");
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Requests the value of `key` once, as text. It may be empty; `None` without an answer, or if it is not UTF-8.
    async fn request_text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.request_bytes(key).await?.into()).ok()
    }

    /// Waits until the component answers, and returns its descriptor, which is empty for a legacy component. Cancel safe.
    pub(crate) async fn descriptor(&self) -> Descriptor {
        let key = descriptor::KEY;
        let answer = self
            .poll_until_answered(key, || self.request_bytes(key))
            .await;
        Descriptor::decode(answer).unwrap_or_default()
    }

    /// Requests the value of `key` once. `None` without an answer, or if the value is empty or not UTF-8.
    pub(crate) async fn request_value(&self, key: &str) -> Option<String> {
        self.request_text(key).await.filter(|text| !text.is_empty())
    }

    /// Waits until the component answers, and returns whether it has a value for `key`. Cancel safe.
    ///
    /// A palm component sets all of its keys before it answers the first request.
    pub(crate) async fn has_key(&self, key: &str) -> bool {
        let answer = self
            .poll_until_answered(key, || self.request_text(key))
            .await;
        !answer.is_empty()
    }

    pub(super) async fn request_address(&self, key: &str) -> Option<Address> {
        let address: Address = self.request_value(key).await?.parse().ok()?;
        Some(address.as_published_by(self.request.address()))
    }

    /// Waits until the component has a value for `key`, and returns it. Cancel safe.
    pub(crate) async fn value(&self, key: &str) -> String {
        self.poll_until_answered(key, || self.request_value(key))
            .await
    }

    pub(super) async fn poll_until_answered<T, F: Future<Output = Option<T>>>(
        &self,
        key: &str,
        request: impl Fn() -> F,
    ) -> T {
        /// Delay until a request without an answer or value is repeated.
        const RETRY_INTERVAL: Duration = Duration::from_millis(200);
        let answer = async {
            loop {
                if let Some(answer) = request().await {
                    return answer;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        };
        let unanswered = || match self.has_answered.load(Ordering::Relaxed) {
            true => format!("the component there has no `{key}`"),
            false => {
                "it is connected, but does not answer: it is stopped, busy, or not a palm component"
                    .to_owned()
            }
        };
        self.connecting.wait_for(answer, unanswered).await
    }
}

/// Describes why a component does not serve a peer of this role, and what to do.
pub(crate) fn unfit(role: &str, descriptor: &Descriptor, address: &Address) -> String {
    let needed = match role {
        WORKER => "and workers connect to a master or hub: give the `db_address` of one of these",
        CLIENT => "and clients call a server or master: give the `db_address` of one of these",
        _ => "and publishes nothing to follow: give the `db_address` of the component upstream",
    };
    format!("{}, {needed}", named(descriptor, address))
}

/// Describes a component by its name, address and kind.
pub(crate) fn named(descriptor: &Descriptor, address: &Address) -> String {
    let kind = match &*descriptor.kind {
        "" => "component".to_owned(),
        kind => kind.replace('_', " "),
    };
    format!("`{}` at {address} is a {kind}", descriptor.name)
}
