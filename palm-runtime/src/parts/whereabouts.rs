//! Where a connection connects to: an address that was given, or one that is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::cache::service::{self, Verb};
use crate::component::descriptor;
use crate::context::ComponentContext;
use crate::link::{CLIENT, WORKER};
use crate::message::proto::Descriptor;
use crate::metrics::PartCounters;
use crate::part::{OpenError, Setup, Shared};
use crate::socket::{Address, AddressError, Peers, Request, SocketError, SocketOptions};
use crate::wait_cause::{Connecting, WaitCause};

/// What can stand for an address: text, or an [`Address`].
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when the text is no address.
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

/// An address as it was given, its mistake included: that is told when the part is opened.
pub(crate) type Given = Result<Address, AddressError>;

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

    async fn ask_address(&self, key: &str) -> Option<Address> {
        let address: Address = self.ask(key).await?.parse().ok()?;
        Some(address.as_told_by(self.request.address()))
    }

    /// The value of `key`, as soon as it is told. Cancel safe.
    pub(crate) async fn tell(&self, key: &str) -> String {
        self.until_told(key, || self.ask(key)).await
    }

    async fn until_told<T, F: Future<Output = Option<T>>>(
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

/// Where a connection connects to.
#[derive(Debug, Clone)]
pub(crate) enum Whereabouts {
    Given(Given),
    /// A component tells it under a key of its cache.
    Told(Arc<Directory>, &'static str),
}

/// What a part keeps from when it was opened until it runs.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) options: SocketOptions,
    pub(super) context: Arc<ComponentContext>,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<PartCounters>,
}

impl Opened {
    pub(super) fn of(setup: &Setup<'_>) -> Self {
        Self {
            options: setup.options.clone(),
            context: setup.context.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        }
    }
}

impl Whereabouts {
    /// Checks the address, if there is one, and takes what the part needs later on.
    pub(super) fn open(&self, setup: &Setup<'_>) -> Result<Opened, OpenError> {
        if let Self::Given(given) = self {
            given.clone().map_err(SocketError::from)?;
        }
        Ok(Opened::of(setup))
    }

    /// Why the address is not known yet, if that is known.
    pub(super) fn wait_cause(&self) -> Option<Arc<str>> {
        match self {
            Self::Given(_) => None,
            Self::Told(directory, _) => directory.wait_cause(),
        }
    }

    /// The address, as soon as it is known. Cancel safe.
    pub(crate) async fn locate(&self) -> Result<Address, AddressError> {
        match self {
            Self::Given(given) => given.clone(),
            Self::Told(directory, key) => {
                let ask = || directory.ask_address(key);
                Ok(directory.until_told(key, ask).await)
            }
        }
    }

    /// Whether there is such a place at all, as soon as that is known. Cancel safe.
    pub(crate) async fn exists(&self) -> bool {
        match self {
            Self::Given(_) => true,
            Self::Told(directory, key) => directory.has(key).await,
        }
    }

    /// Keeps a socket connected to whoever is at the whereabouts: a component that was restarted may
    /// be at another port, which `moved` is then told. Ends with the handle.
    pub(crate) fn follow(
        &self,
        peers: Peers,
        current: Address,
        moved: impl Fn(&Address) + Send + 'static,
    ) -> Option<AbortOnDropHandle<()>> {
        let Self::Told(directory, key) = self else {
            // The socket itself reconnects to an address that does not change.
            return None;
        };
        let follow = follow(directory.clone(), key, peers, current, moved);
        Some(AbortOnDropHandle::new(tokio::spawn(
            follow.in_current_span(),
        )))
    }
}

async fn follow(
    directory: Arc<Directory>,
    key: &str,
    peers: Peers,
    mut current: Address,
    moved: impl Fn(&Address),
) {
    const INTERVAL: Duration = Duration::from_millis(500);
    loop {
        match tokio::time::timeout(INTERVAL, peers.connected()).await {
            Ok(Ok(())) => {
                if peers.disconnected().await.is_err() {
                    return;
                }
                continue;
            }
            // The socket is closed.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let Some(told) = directory.ask_address(key).await else {
            continue;
        };
        if told != current {
            tracing::info!("{key} has moved from `{current}` to `{told}`");
            if let Err(error) = peers.move_to(&current, &told).await {
                tracing::warn!(%error, "cannot follow");
                return;
            }
            moved(&told);
            current = told;
        }
    }
}
