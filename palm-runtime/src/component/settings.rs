//! The options that every component has.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use crate::cache::{CacheLimits, ErasedStore, KeyValue, MemoryStore};
use crate::link::LinkOptions;
use crate::queue::QueueLimits;
use crate::socket::SocketOptions;

/// The options that every component has. Builders and templates have them as methods.
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
        /// How many messages the component takes before it stops by itself, having finished them.
        /// Default: no limit.
        pub fn messages(mut self, messages: u64) -> Self {
            self.settings.messages = Some(messages);
            self
        }

        /// Whether the component runs on a thread of its own, its methods included, instead of as tasks
        /// of the program's runtime. Default: no.
        ///
        /// One thread wakes no other, so answers come sooner and cost less; but methods share it with
        /// the sockets, so mark with `blocking` what keeps a processor busy. On a machine with two
        /// processors a call took 100 µs instead of 115, and a server did a fifth more per second
        /// (`benches/README.md`).
        pub fn own_thread(mut self, own_thread: bool) -> Self {
            self.settings.own_thread = own_thread;
            self
        }

        /// What [`logging`](crate::logging) prints of this component. Default: what it prints of all.
        pub fn log_level(mut self, level: ::tracing::Level) -> Self {
            self.settings.log_level = Some(level);
            self
        }

        /// How long the component may take to stop: to finish and deliver what it has. Default: 10 s.
        pub fn drain_limit(mut self, limit: ::std::time::Duration) -> Self {
            self.settings.drain_limit = limit;
            self
        }

        /// The host that peers are told where an address is bound to all interfaces (`tcp://*:…`).
        /// Default: the address of the interface with the default route.
        pub fn advertised_host(mut self, host: impl Into<String>) -> Self {
            self.settings.advertised_host = Some(host.into());
            self
        }

        /// Whether the component may bind addresses that other hosts can reach, such as `tcp://*:5559`.
        /// Default: no, so that it does not start with one, unless the environment variable
        /// `PALM_TRUST_NETWORK` is `1`.
        ///
        /// Addresses have no access control: everybody who reaches one can join the component, read its
        /// messages and stop its peers. Say it only on a private network whose hosts are trusted; the
        /// component warns of it when it starts.
        pub fn trust_network(mut self, trust: bool) -> Self {
            self.settings.trust_network = trust;
            self
        }

        /// How sockets behave towards peers.
        pub fn socket_options(mut self, options: $crate::socket::SocketOptions) -> Self {
            self.settings.socket = options;
            self
        }

        /// How links behave: how soon a peer counts as gone, and how often a task is tried.
        pub fn link_options(mut self, options: $crate::LinkOptions) -> Self {
            self.settings.link = options;
            self
        }

        /// Whether peers reach the component over links and nothing else: its `db_address` is the only one
        /// that it has, and the only port ever to be opened. Then peers of pylm, and such as have no links,
        /// cannot call, follow or work for it. Default: no.
        pub fn links_only(mut self, links_only: bool) -> Self {
            self.settings.links_only = links_only;
            self
        }

        /// How much each queue between two parts holds. Default: 1000 messages, 64 MiB.
        pub fn queue_limits(mut self, limits: $crate::QueueLimits) -> Self {
            self.settings.queue = limits;
            self
        }

        /// Where the component keeps the keys of its cache. Default: in memory, up to 1 GiB.
        pub fn cache(mut self, store: impl $crate::KeyValue) -> Self {
            self.settings.set_store(store);
            self
        }

        /// How large a key and a value may be. Default: 1 KiB and 128 MiB.
        pub fn cache_limits(mut self, limits: $crate::CacheLimits) -> Self {
            self.settings.cache_limits = limits;
            self
        }
    };
}
pub(super) use settings_methods;
