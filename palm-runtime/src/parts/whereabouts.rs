//! Where a connection connects to: an address that was given, or one that is asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::cache::service::{self, Verb};
use crate::component::descriptor;
use crate::context::ComponentContext;
use crate::message::proto::Descriptor;
use crate::metrics::PartCounters;
use crate::part::{OpenError, Setup, Shared};
use crate::socket::{Address, AddressError, Peers, Request, SocketError, SocketOptions};

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
        }))
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Asks once for `key`; what is told may be empty. `None`: no answer.
    async fn ask_bytes(&self, key: &str) -> Option<Bytes> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let body = service::request("_", &self.client, Verb::Get, key, Bytes::new());
        self.request.request(body, PATIENCE).await.ok()
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
    async fn ask(&self, key: &str) -> Option<String> {
        self.ask_for(key).await.filter(|text| !text.is_empty())
    }

    /// Whether there is such a key, once the component answers at all: it sets all of its keys before
    /// it answers the first. Cancel safe.
    async fn has(&self, key: &str) -> bool {
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
        let mut asked = 0;
        loop {
            if let Some(told) = ask().await {
                return told;
            }
            asked += 1;
            if asked % 5 == 1 {
                let peer = self.request.address();
                tracing::warn!("`{peer}` does not tell its {key}; still asking");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
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
