//! The options that all components share.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use crate::cache::{CacheLimits, ErasedStore, KeyValue, MemoryStore};
use crate::link::LinkOptions;
use crate::queue::QueueLimits;
use crate::socket::SocketOptions;

/// The options that all components share. Builders and templates have them as methods.
#[derive(Clone)]
pub struct Settings {
    pub(crate) messages: Option<u64>,
    pub(crate) own_thread: bool,
    pub(crate) log_level: Option<Level>,
    pub(crate) drain_limit: Duration,
    pub(crate) advertised_host: Option<String>,
    pub(crate) trust_network: bool,
    pub(crate) socket: SocketOptions,
    pub(crate) link: LinkOptions,
    pub(crate) links_only: bool,
    pub(crate) queue: QueueLimits,
    pub(crate) store: Arc<dyn ErasedStore>,
    pub(crate) cache_limits: CacheLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            messages: None,
            own_thread: false,
            log_level: None,
            drain_limit: Duration::from_secs(10),
            advertised_host: None,
            trust_network: false,
            socket: SocketOptions::default(),
            link: LinkOptions::default(),
            links_only: false,
            queue: QueueLimits::default(),
            store: Arc::new(MemoryStore::default()),
            cache_limits: CacheLimits::default(),
        }
    }
}

impl Settings {
    pub(crate) fn set_store(&mut self, store: impl KeyValue) {
        self.store = Arc::new(store);
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("messages", &self.messages)
            .field("own_thread", &self.own_thread)
            .field("log_level", &self.log_level)
            .field("drain_limit", &self.drain_limit)
            .field("advertised_host", &self.advertised_host)
            .field("trust_network", &self.trust_network)
            .field("socket", &self.socket)
            .field("link", &self.link)
            .field("links_only", &self.links_only)
            .field("queue", &self.queue)
            .field("cache_limits", &self.cache_limits)
            .finish_non_exhaustive()
    }
}

/// The methods that set [`Settings`], for a type with a field `settings`.
macro_rules! settings_methods {
    () => {
        /// Sets how many messages the component accepts before it stops by itself. It finishes them first.
        /// Default: no limit.
        pub fn messages(mut self, messages: u64) -> Self {
            self.settings.messages = Some(messages);
            self
        }

        /// Sets whether the component, its methods included, runs on a dedicated thread instead of in the program's
        /// runtime. Default: no.
        ///
        /// A single thread never waits for another one to wake up, so calls have a lower latency and cost. Methods
        /// share the thread with the sockets, so mark methods that compute for long with `blocking`. `benches/README.md`
        /// has measurements.
        pub fn own_thread(mut self, own_thread: bool) -> Self {
            self.settings.own_thread = own_thread;
            self
        }

        /// Sets the level at which [`logging`](crate::logging) logs this component. Default: the level of the program.
        pub fn log_level(mut self, level: ::tracing::Level) -> Self {
            self.settings.log_level = Some(level);
            self
        }

        /// Sets how long the component may take to drain: to finish and deliver accepted messages. Default: 10 s.
        pub fn drain_limit(mut self, limit: ::std::time::Duration) -> Self {
            self.settings.drain_limit = limit;
            self
        }

        /// Sets the host that is announced to peers for addresses that are bound to all interfaces (`tcp://*:…`).
        /// Default: the address of the interface with the default route.
        pub fn advertised_host(mut self, host: impl Into<String>) -> Self {
            self.settings.advertised_host = Some(host.into());
            self
        }

        /// Sets whether the component may bind addresses that other hosts can reach, such as `tcp://*:5559`.
        /// Default: no, unless the environment variable `PALM_TRUST_NETWORK` is `1`.
        ///
        /// Without trust, a component with such an address does not start. Addresses have no access control: a host
        /// that reaches one can call the component, read its messages and stop its peers. Trust only a private network
        /// whose hosts are all trusted. The component logs a warning when it starts.
        pub fn trust_network(mut self, trust: bool) -> Self {
            self.settings.trust_network = trust;
            self
        }

        /// Sets the options of sockets.
        pub fn socket_options(mut self, options: $crate::socket::SocketOptions) -> Self {
            self.settings.socket = options;
            self
        }

        /// Sets the options of links, such as the time until a peer counts as lost and the deliveries of a task.
        pub fn link_options(mut self, options: $crate::LinkOptions) -> Self {
            self.settings.link = options;
            self
        }

        /// Sets whether peers reach the component only over links. Default: no.
        ///
        /// The `db_address` is then its only address and open port. Legacy peers cannot call it, follow it or work for
        /// it.
        pub fn links_only(mut self, links_only: bool) -> Self {
            self.settings.links_only = links_only;
            self
        }

        /// Sets the bound of each queue between two parts. Default: 1000 messages, 64 MiB.
        pub fn queue_limits(mut self, limits: $crate::QueueLimits) -> Self {
            self.settings.queue = limits;
            self
        }

        /// Sets the store of the component's cache. Default: in memory, up to 1 GiB.
        pub fn cache(mut self, store: impl $crate::KeyValue) -> Self {
            self.settings.set_store(store);
            self
        }

        /// Sets the largest size of a key and of a value in the cache. Default: 1 KiB and 128 MiB.
        pub fn cache_limits(mut self, limits: $crate::CacheLimits) -> Self {
            self.settings.cache_limits = limits;
            self
        }
    };
}
pub(super) use settings_methods;
