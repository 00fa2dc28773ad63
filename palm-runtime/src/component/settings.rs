//! The options that all components share.

use std::fmt;
use std::sync::Arc;

use crate::cache::{ErasedStore, KeyValue, MemoryStore};
#[cfg(feature = "monitor")]
use crate::http::Listener;
use crate::socket::{Kill, ReceiveBudget, SocketOptions};

/// Passes the options that all components share to a rule of [`options!`](crate::options::options), which declares the
/// struct here, and the methods of builders and templates there.
macro_rules! settings {
    ($($rule:tt)*) => { $crate::options::options! { $($rule)* {
        /// Sets how many messages the component accepts before it stops by itself. It finishes them first.
        /// Default: no limit.
        messages: Option<u64> => u64 = None,
        /// Sets whether the component, its methods included, runs on a dedicated thread instead of in the program's
        /// runtime. Default: no.
        ///
        /// A single thread never waits for another one to wake up, so calls have a lower latency and cost. Methods
        /// share the thread with the sockets, so mark methods that compute for long with `blocking`. `benches/README.md`
        /// has measurements.
        own_thread: bool = false,
        /// Sets the level at which [`logging`](crate::logging) logs this component. Default: the level of the program.
        log_level: Option<::tracing::Level> => ::tracing::Level = None,
        /// Sets how long the component may take to drain: to finish and deliver accepted messages. Default: 10 s.
        drain_limit: ::std::time::Duration = ::std::time::Duration::from_secs(10),
        /// Sets the host that is announced to peers for addresses that are bound to all interfaces (`tcp://*:…`).
        /// Default: the address of the interface with the default route.
        advertised_host: Option<String> => impl Into<String> = None,
        /// Sets whether the component may bind addresses that other hosts can reach, such as `tcp://*:5559`.
        /// Default: no, unless the environment variable `PALM_TRUST_NETWORK` is `1`.
        ///
        /// Without trust, a component with such an address does not start. Addresses have no access control: a host
        /// that reaches one can call the component, read its messages and stop its peers. Trust only a private network
        /// whose hosts are all trusted. The component logs a warning when it starts.
        trust_network: bool = false,
        /// Sets whether peers reach the component only over links. Default: no.
        ///
        /// The `db_address` is then its only address and open port. Legacy peers cannot call it, follow it or work for
        /// it.
        links_only: bool = false,
        /// Sets the options of sockets.
        socket_options: $crate::socket::SocketOptions = $crate::socket::SocketOptions::default(),
        /// Sets the options of links, such as the time until a peer counts as lost and the deliveries of a task.
        link_options: $crate::link::LinkOptions = $crate::link::LinkOptions::default(),
        /// Sets the bound of each queue between two parts. Default: 1000 messages, 64 MiB.
        queue_limits: $crate::queue::QueueLimits = $crate::queue::QueueLimits::default(),
        /// Sets the largest size of a key and of a value in the cache. Default: 1 KiB and 128 MiB.
        cache_limits: $crate::cache::CacheLimits = $crate::cache::CacheLimits::default(),
    } } };
}
pub(super) use settings;

settings! {
    @struct [
        /// The options that all components share. Methods of builders and templates set them.
        #[derive(Clone, Debug)]
        pub(super)
    ] Settings [
        store: Store = Store::new(MemoryStore::default()),
        /// Where metrics and health are served, if the program or the environment says so.
        #[cfg_attr(not(feature = "monitor"), allow(dead_code, reason = "there is no monitor"))]
        monitor: MonitorAddress = MonitorAddress::default(),
        /// Whether `socket_options` are those of the component alone.
        has_own_sockets: bool = false,
    ]
}

impl Settings {
    /// Returns the options of the component's sockets, with an order to kill and a budget of its own.
    ///
    /// A user may pass the same options to several components, so the first call replaces what they would share. It is
    /// made when the component is started, or before that by the first connection that it opens.
    pub(super) fn own_sockets(&mut self) -> &mut SocketOptions {
        if !std::mem::replace(&mut self.has_own_sockets, true) {
            self.socket_options.kill = Kill::default();
            self.socket_options.receive_budget = ReceiveBudget::default();
        }
        &mut self.socket_options
    }
}

/// The address of a monitor, as it was configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct MonitorAddress(#[cfg(feature = "monitor")] Option<Listener>);

#[cfg(feature = "monitor")]
impl MonitorAddress {
    /// The environment variable with the address of components that have none.
    const VARIABLE: &str = "PALM_MONITOR";

    pub(super) fn set(&mut self, listener: Listener) {
        self.0 = Some(listener);
    }

    /// Returns the configured listener, or that of the environment.
    pub(super) fn listener(&self) -> Option<Listener> {
        let of_environment = || {
            let address = std::env::var(Self::VARIABLE).ok()?;
            (!address.is_empty()).then(|| Listener::new(address))
        };
        self.0.clone().or_else(of_environment)
    }
}

/// The store of a component's cache.
#[derive(Clone)]
pub(crate) struct Store(pub(crate) Arc<dyn ErasedStore>);

impl Store {
    pub(super) fn new(store: impl KeyValue) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}
